"""Each test that tests/docs/promises.md names is there, and no promise is without one."""

import os
import re
import unittest

from tests.docs.listed_tests import cells, cpp_tests, python_tests, tables, tests_of_the_tree
from tests.tidy import tree

DOCUMENT = "docs/actors.md"
PROMISES = "tests/docs/promises.md"

MISSING = "MISSING"
# What the first two lines of a table are.
HEAD = ["| promise | test |", "|---|---|"]


def headings(text, level):
    """Those of a level, in order; code blocks have none."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"^#{%d} (.+)$" % level, prose, re.MULTILINE)


class PromisesTest(unittest.TestCase):

    def setUp(self):
        self.tables = tables(tree.read(PROMISES))

    def rows(self):
        """(promise, tests) of each row, as they are written."""
        for heading, lines in self.tables.items():
            for line in lines[len(HEAD):]:
                row = cells(line, 2)
                self.assertTrue(row, "%s: no row of two columns: %s" % (heading, line))
                yield row

    def test_each_section_has_a_table(self):
        text = tree.read(DOCUMENT)
        sections = headings(text, 1) + headings(text, 2)
        self.assertGreater(len(sections), 5)
        self.assertEqual(headings(tree.read(PROMISES), 2), sections)
        for section in sections:
            with self.subTest(section=section):
                self.assertEqual(self.tables[section][:len(HEAD)], HEAD)
                self.assertGreater(len(self.tables[section]), len(HEAD), "no promise")

    def test_each_promise_has_a_test(self):
        for promise, tests in self.rows():
            with self.subTest(promise=promise):
                self.assertNotEqual(tests, MISSING)

    def test_each_test_is_there(self):
        there = tests_of_the_tree()
        self.assertIn("PromisesTest.test_each_test_is_there", there)
        for promise, tests in self.rows():
            if tests == MISSING:
                continue  # the test above says so
            with self.subTest(promise=promise):
                self.assertRegex(tests, r"^`[^`]+`(, `[^`]+`)*$")
                for name in re.findall(r"`([^`]+)`", tests):
                    is_there = os.path.isfile(tree.full(name)) if "/" in name else name in there
                    self.assertTrue(is_there, "no test " + name)

    def test_it_knows_tests_when_it_sees_them(self):
        self.assertEqual(cpp_tests("TEST(A, B) {\nTEST_F(C,\n       D) {\nTEST_P(\n    E, F) {\n"
                                   "// TEST(Not, This)\nTEST(A, DISABLED_Off) {\n"),
                         {"A.B", "C.D", "E.F", "A.DISABLED_Off"})
        self.assertEqual(python_tests("class A(B):\n  def test_c(self): pass\n  def d(self): pass\n"
                                      "def test_e(): pass\n"), {"A.test_c"})


if __name__ == "__main__":
    unittest.main()
