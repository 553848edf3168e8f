"""packcast and a rank that knows nothing of it, without GPUs: the real programs over a socket."""

import contextlib
import io
import os
import sys
import tempfile
import time
import unittest

from tests.gpu import compat_check, compat_peer

COMPAT = os.path.join(os.environ["TEST_SRCDIR"], os.environ["TEST_WORKSPACE"], "tests/gpu/compat")


def run(*arguments):
    """(exit status, what was printed) of a check on the host."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = compat_check.main(["--host", "--packcast", COMPAT, "--scale", "0.05", *arguments])
    return status, out.getvalue()


class CompatCheckTest(unittest.TestCase):
    def test_each_understands_the_other(self):
        status, text = run()
        self.assertEqual(status, 0, text)
        self.assertIn("24 passed, 0 failed", text)

    def test_ranks_that_differ_are_a_failure(self):
        # The peer ignores the size that it is told.
        with tempfile.TemporaryDirectory() as folder:
            script = os.path.join(folder, "peer.py")
            with open(script, "w") as file:
                file.write("import sys; sys.path.insert(0, %r); import compat_peer\n"
                           "groups = compat_peer.groups\n"
                           "compat_peer.groups = lambda rows, target: groups(rows, target + 999)\n"
                           "compat_peer.main()\n" % os.path.dirname(compat_peer.__file__))
            status, text = run("--peer", script, "--patience", "5")
        self.assertEqual(status, 1, text)
        self.assertRegex(text, r"FAIL  packcast -> python .* bytes at the root, \d+ here")
        self.assertRegex(text, r"FAIL  python -> packcast .* bytes at the root, \d+ here")

    def test_a_peer_that_says_nothing_is_a_failure(self):
        with tempfile.TemporaryDirectory() as folder:
            script = os.path.join(folder, "peer.py")
            with open(script, "w") as file:
                file.write("import sys\nsys.stdin.read()\n")
            begin = time.monotonic()
            status, text = run("--peer", script, "--seconds", "2")
        self.assertEqual(status, 1, text)
        self.assertIn("no answer from python", text)
        self.assertIn("0 passed, 24 failed", text)
        self.assertLess(time.monotonic() - begin, 30)

    def test_the_tensor_that_differs_is_named(self):
        case = compat_check.Case("two", [("u8", [10]), ("f32", [3])])
        with tempfile.TemporaryDirectory() as folder:
            case.write(os.path.join(folder, "case"), compat_check.random.Random(1))
            self.assertIsNone(compat_check.difference(case, case.data_path))
            with open(case.data_path, "r+b") as file:
                file.seek(12)
                file.write(bytes([case.data[12] ^ 1]))
            self.assertIn("two.1 (f32 [3]): 1 of 12 bytes differ, the first is byte 2",
                          compat_check.difference(case, case.data_path))

    def test_a_buffer_closes_once_it_exceeds_the_target(self):
        def sizes(counts, target):
            rows = [compat_peer.Row("t", "u8", [count]) for count in counts]
            return [sum(row.bytes for row in group) for group in compat_peer.groups(rows, target)]

        self.assertEqual(sizes([10, 1, 5], 10), [11, 5])
        self.assertEqual(sizes([99, 0, 0], 10), [99, 0])
        self.assertEqual(sizes([], 10), [])


if __name__ == "__main__":
    sys.exit(unittest.main())
