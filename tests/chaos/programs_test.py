"""Failpoints act in the programs of tests/chaos, and in no other."""

import os
import unittest

ROLES = ("coordinator", "trainer", "worker")


def reads_failpoints(folder: str, role: str) -> bool:
    path = os.path.join(os.environ["TEST_SRCDIR"], os.environ["TEST_WORKSPACE"], folder, role)
    with open(path, "rb") as file:
        return b"PACKCAST_FAILPOINTS" in file.read()


class ProgramsTest(unittest.TestCase):
    def test_only_ours_read_the_variable(self) -> None:
        for role in ROLES:
            with self.subTest(role=role):
                self.assertTrue(reads_failpoints("tests/chaos", role))
                self.assertFalse(reads_failpoints("examples", role))


if __name__ == "__main__":
    unittest.main()
