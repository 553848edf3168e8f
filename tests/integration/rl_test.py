"""bazel run //examples/rl: engines that poll and that are called back, staged and in place."""

import re
import unittest

from tests.integration.processes import children, run

ROW = re.compile(r"^ *(\d+)  1\.(\d+) +(\d+) +(\d+) +(\d+)   (.*)$")


class RlTest(unittest.TestCase):
    def loop(self, *flags: str, steps: int = 8) -> None:
        process = run("rl/rl", "--steps=%d" % steps, "--batch=16", *flags)
        self.assertEqual(process.code, 0, process.text())
        rows = [match.groups() for match in map(ROW.match, process.out) if match]
        self.assertEqual([row[0] for row in rows], [str(k + 1) for k in range(steps)])
        self.assertEqual([row[1] for row in rows], [row[0] for row in rows], "step and epoch")
        # The program has compared each token with its version's weights, or else failed.
        self.assertEqual(process.out[-1], "all %d tokens were made by the version that they name"
                         % (steps * 16 * 64))
        self.assertFalse(children(process.pid))

    def test_staged(self) -> None:
        self.loop("--poll-engines=2", "--callback-engines=2")

    def test_in_place(self) -> None:
        self.loop("--poll-engines=2", "--callback-engines=2", "--in-place")

    def test_either_kind_alone(self) -> None:
        self.loop("--callback-engines=0", steps=3)
        self.loop("--poll-engines=0", steps=3)

    def test_without_engines_it_says_what_to_do(self) -> None:
        process = run("rl/rl", "--poll-engines=0", "--callback-engines=0")
        self.assertEqual(process.code, 1)
        self.assertIn("--poll-engines=1", process.text())


if __name__ == "__main__":
    unittest.main()
