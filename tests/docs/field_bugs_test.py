"""Each test that tests/docs/field_bugs.md names is in the target that it names."""

import os
import re
import unittest

from tests.docs.listed_tests import cells, tables, tests_of_file
from tests.tidy import tree

PAGE = "tests/docs/field_bugs.md"
HEAD = ["| entry | how it would show here | test |", "|---|---|---|"]
# What stands for a test where an entry cannot occur, and how its reason begins.
NONE = "none"
CANNOT = "It cannot: "
# A target and one of its tests.
TEST = re.compile(r"`//([\w/]+):(\w+) (\w+\.\w+)`")


def sources_of(target, build):
    """The files that a target of this BUILD file is made of; nothing when there is no such one.

    Of a rule for a list of names, each name stands for name.cc and name.py.
    """
    rule = re.search(r'name = "%s",(.*?)\n\)' % target, build, re.DOTALL)
    if rule:
        body = rule.group(1)
        for shared in re.findall(r"srcs = (\w+)", body):
            body += "".join(re.findall(r"(?sm)^%s = \[(.*?)\]" % shared, build))
        return re.findall(r'"(\w+\.(?:cc|py))"', body)
    if re.search(r'^ +"%s",$' % target, build, re.MULTILINE):
        return [target + ".cc", target + ".py"]
    return []


def wrong_with(folder, target, test):
    """Empty when the target has a file with the test."""
    build = folder + "/BUILD.bazel"
    sources = sources_of(target, tree.read(build)) if os.path.isfile(tree.full(build)) else []
    paths = [path for path in ("%s/%s" % (folder, source) for source in sources)
             if os.path.isfile(tree.full(path))]
    if not paths:
        return "no target //%s:%s" % (folder, target)
    if any(test in tests_of_file(path) for path in paths):
        return ""
    return "no test %s in %s" % (test, ", ".join(paths))


class FieldBugsTest(unittest.TestCase):

    def rows(self):
        for heading, lines in tables(tree.read(PAGE)).items():
            self.assertEqual(lines[:len(HEAD)], HEAD, heading)
            self.assertGreater(len(lines), len(HEAD), heading)
            for line in lines[len(HEAD):]:
                row = cells(line, 3)
                self.assertTrue(row, "%s: no row of three columns: %s" % (heading, line))
                yield row

    def test_each_entry_has_a_test_or_a_reason(self):
        entries = [entry for entry, _, _ in self.rows()]
        self.assertGreater(len(entries), 20)
        self.assertEqual(len(entries), len(set(entries)), "an entry comes twice")
        for entry, how, tests in self.rows():
            with self.subTest(entry=entry):
                self.assertEqual(tests == NONE, how.startswith(CANNOT))
                if tests != NONE:
                    self.assertEqual(tests, ", ".join(m.group(0) for m in TEST.finditer(tests)))

    def test_each_test_is_there(self):
        for entry, _, tests in self.rows():
            for match in TEST.finditer(tests):
                with self.subTest(entry=entry, test=match.group(0)):
                    self.assertEqual(wrong_with(*match.groups()), "")

    def test_it_knows_what_is_not_there(self):
        target = ("tests/docs", "field_bugs_test")
        self.assertEqual(wrong_with(*target, "FieldBugsTest.test_it_knows_what_is_not_there"), "")
        self.assertIn("no test", wrong_with(*target, "FieldBugsTest.test_nothing"))
        self.assertIn("no target", wrong_with("tests/docs", "no_such_test", "A.b"))
        self.assertIn("no target", wrong_with("tests/no/such", "field_bugs_test", "A.b"))

    def test_it_reads_build_files(self):
        build = """
_SHARED = [
    "x.cc",
]
r(
    name = "a",
    srcs = ["b.cc", "c.h"],
)
r(
    name = "e",
    srcs = _SHARED,
)
[r(name = name) for name in [
    "d",
]]
"""
        self.assertEqual(sources_of("a", build), ["b.cc"])
        self.assertEqual(sources_of("d", build), ["d.cc", "d.py"])
        self.assertEqual(sources_of("e", build), ["x.cc"])
        self.assertEqual(sources_of("b", build), [])


if __name__ == "__main__":
    unittest.main()
