"""//tools/keys, as it is called."""

import os
import subprocess
import tempfile
import unittest

# Keys that look like options.
DASHED = ("-a" + "0" * 38, "--a" + "0" * 37)


class KeysToolTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = os.path.join(folder.name, "a.keys")
        self.assertEqual(self.keys("new", self.file).returncode, 0)

    @staticmethod
    def keys(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(["tools/keys/keys", *arguments], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=60, check=False)

    def lines(self) -> "list[str]":
        with open(self.file, encoding="ascii") as file:
            return file.read().splitlines()

    def test_a_key_may_begin_with_a_dash(self) -> None:
        for key in DASHED:
            for command in (["allow", self.file, key], ["allow", "--", self.file, key],
                            ["server", self.file, key]):
                done = self.keys(*command)
                self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(self.lines().count("allow " + key), 1, "once is enough")
            self.assertIn("server " + key, self.lines())

    def test_what_is_no_key_is_refused_and_the_file_stays(self) -> None:
        before = self.lines()
        for command in ("allow", "server"):
            done = self.keys(command, self.file, "no key")
            self.assertEqual(done.returncode, 1)
            self.assertIn("40 characters", done.stderr)
            self.assertGreater(self.keys(command, self.file, "--help me").returncode, 100)
        self.assertEqual(self.lines(), before)


if __name__ == "__main__":
    unittest.main()
