"""Rules on the text of files: sizes, line lengths, white space, words."""

import re
import unittest

from tests.tidy import cpp_functions, tree

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
COLUMNS_MAX = 100

CODE = tree.CPP + (".py", ".sh", ".bzl", "BUILD.bazel", "WORKSPACE")
PROSE = (".md",)

# Unfinished work belongs in an issue; folders of one machine belong nowhere. Spelt so that this
# file passes its own test.
BANNED = [
    (re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b"), "unfinished work"),
    (re.compile(r"(?<![\w.\-/])/(ho" r"me|wo" r"rk)/"), "a folder of one machine"),
]
LICENSE = "LICENSE"


class TextTest(unittest.TestCase):
    def setUp(self):
        self.faults = []

    def tearDown(self):
        self.assertEqual(self.faults, [], "\n" + "\n".join(self.faults))

    def fault(self, path, line, what):
        self.faults.append("%s:%d: %s" % (path, line, what))

    def lines(self, suffixes):
        for path in tree.files(suffixes):
            for number, line in enumerate((tree.read(path) or "").split("\n"), 1):
                yield path, number, line

    def test_the_tree_was_found(self):
        self.assertIn("tests/tidy/text_test.py", tree.files((".py",)))

    def test_files_are_short(self):
        for path in tree.files(CODE):
            count = tree.read(path).count("\n")
            if count > FILE_LINES_MAX:
                self.fault(path, count, "a file has at most %d lines" % FILE_LINES_MAX)

    def test_functions_fit_on_a_screen(self):
        for path in tree.files(tree.CPP):
            try:
                functions = cpp_functions.functions(tree.read(path))
            except ValueError as error:
                self.fault(path, 1, str(error))
                continue
            for first, last in functions:
                if last - first + 1 > FUNCTION_LINES_MAX:
                    what = "this function has %d lines, at most %d are allowed"
                    self.fault(path, first, what % (last - first + 1, FUNCTION_LINES_MAX))

    def test_lines_are_short(self):
        for path, number, line in self.lines(CODE + PROSE):
            is_table_or_link = path.endswith(PROSE) and (line.startswith("|") or "](" in line)
            if len(line) > COLUMNS_MAX and not is_table_or_link:
                self.fault(path, number, "%d columns, at most %d" % (len(line), COLUMNS_MAX))

    def test_white_space(self):
        for path, number, line in self.lines(("",)):
            if line != line.rstrip():
                self.fault(path, number, "white space at the end")
            if "\t" in line and path.endswith(CODE):
                self.fault(path, number, "a tab")

    def test_files_end_with_one_newline(self):
        for path in tree.files(CODE + PROSE):
            text = tree.read(path)
            if text and (not text.endswith("\n") or text.endswith("\n\n")):
                self.fault(path, text.count("\n"), "must end with one newline")

    def test_headers_have_pragma_once(self):
        for path in tree.files((".h", ".cuh")):
            if "#pragma once" not in tree.read(path).split("\n"):
                self.fault(path, 1, "no #pragma once")

    def test_no_banned_words(self):
        for path, number, line in self.lines(("",)):
            for pattern, why in BANNED:
                if path != LICENSE and pattern.search(line):
                    self.fault(path, number, why + ": " + line.strip())


if __name__ == "__main__":
    unittest.main()
