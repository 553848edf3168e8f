"""Each code block of docs/actors.md is the code of its name in tests/docs."""

import re
import textwrap
import unittest

from tests.tidy import tree

DOCUMENT = "docs/actors.md"
CODE = ("tests/docs/actors_snippets.h", "tests/docs/actors_snippets_test.cc")


def document_blocks(text):
    """{name: code} of the blocks; a block without a name is {"": code}."""
    pattern = re.compile(r"(?:<!-- snippet: (\S+) -->\n)?```cpp\n(.*?)```\n", re.DOTALL)
    return {match.group(1) or "": match.group(2) for match in pattern.finditer(text)}


def code_blocks(text):
    """{name: code} of what stands between // [name] and // [/name]."""
    pattern = re.compile(r"^ *// \[([a-z-]+)\]\n(.*?)^ *// \[/\1\]\n", re.DOTALL | re.MULTILINE)
    return {m.group(1): textwrap.dedent(m.group(2)) for m in pattern.finditer(text)}


class SnippetsTest(unittest.TestCase):

    def test_the_document_shows_what_is_compiled(self):
        shown = document_blocks(tree.read(DOCUMENT))
        compiled = code_blocks("".join(tree.read(path) for path in CODE))
        self.assertNotIn("", shown, "a block without a name is not compiled")
        self.assertGreater(len(compiled), 5)
        self.assertEqual(sorted(shown), sorted(compiled))
        for name, code in compiled.items():
            with self.subTest(snippet=name):
                self.assertEqual(shown[name], code)


if __name__ == "__main__":
    unittest.main()
