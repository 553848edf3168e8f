"""All C++ is formatted as .clang-format says: tools/format.sh does it."""

import shutil
import subprocess
import unittest

from tests.tidy import tree


class FormatTest(unittest.TestCase):
    def test_clang_format_changes_nothing(self):
        program = shutil.which("clang-format-14")
        self.assertIsNotNone(program, "clang-format-14 is missing: run ./setup.sh")
        result = subprocess.run(
            [program, "--dry-run", "-Werror", "--style=file"] + tree.files(tree.CPP),
            cwd=tree.root(),
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(result.returncode, 0, "run tools/format.sh\n" + result.stderr[-4000:])


if __name__ == "__main__":
    unittest.main()
