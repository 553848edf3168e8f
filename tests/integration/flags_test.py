"""Numbers and addresses that flags do not take: exit code 2 or 1, and the flag is named."""

import os
import re
import unittest
from typing import Dict, List
from unittest import mock

from tests.integration.processes import Process, run

# Each program, and what it wants besides the flag that is tried.
PROGRAMS: Dict[str, List[str]] = {
    "cluster": [],
    "coordinator": [],
    "rl/rl": [],
    "trainer": ["--coordinator=tcp://127.0.0.1:1"],
    "worker": ["--coordinator=tcp://127.0.0.1:1"],
}
# Of no flag: below all ranges, no number, octal, hexadecimal, and more than fits anywhere.
NEVER = ("-2", "nan", "", "1x", "010", "0x10", "99999999999999999999")
SECONDS_NEVER = ("-2", "nan", "", "1x", "inf", "1e300", "2592001")
# Those that mean something at 0; at all others it is refused.
ZERO = {"--device", "--epochs", "--rank", "--seed", "--limit", "--worker-limits", "--max-restarts",
        "--wait-replicas-seconds", "--steps", "--poll-engines", "--callback-engines"}
HANG_SECONDS = 30.0


class FlagsTest(unittest.TestCase):
    def refused(self, program: str, flag: str, value: str) -> None:
        process = run(program, *PROGRAMS[program], "%s=%s" % (flag, value), timeout=HANG_SECONDS)
        with self.subTest(program=program, flag=flag, value=value):
            self.assertEqual(process.code, 2, process.text())
            self.assertIn(flag, process.text())
            self.assertLess(len(process.err[0]), 200, "for people to read")

    def test_numbers_out_of_range(self) -> None:
        for program in PROGRAMS:
            told = run(program, "--help").text()
            flags = re.findall(r"^  (--[\w-]+) (UINT|INT|FLOAT)", told, re.MULTILINE)
            self.assertGreater(len(flags), 1, program)
            for flag, kind in flags:
                for value in SECONDS_NEVER if kind == "FLOAT" else NEVER:
                    self.refused(program, flag, value)
                if flag not in ZERO:
                    self.refused(program, flag, "0")

    def test_numbers_that_are_too_small_or_too_large_for_what_they_mean(self) -> None:
        for program, flag, value in (
                ("coordinator", "--buffer-bytes", "255"),
                ("coordinator", "--buffer-bytes", "68719476737"),
                ("coordinator", "--buffers", "65"),
                ("coordinator", "--min-replicas", "8193"),
                ("coordinator", "--peer-timeout-ms", "101"),
                ("worker", "--rank", "8192"),
                ("worker", "--limit", "255"),
                ("worker", "--replica-size", "8193"),
                ("trainer", "--ranks", "8193"),
                ("cluster", "--worker-limits", "256,255"),
                ("cluster", "--workers", "1025")):
            self.refused(program, flag, value)

    def test_the_environment_is_read_as_flags_are(self) -> None:
        with mock.patch.dict(os.environ, PACKCAST_REPLICA_SIZE="0"):
            process = run("worker", "--coordinator=tcp://127.0.0.1:1", timeout=HANG_SECONDS)
        self.assertEqual(process.code, 2, process.text())
        self.assertIn("--replica-size", process.text())

    def test_a_rank_beyond_its_unit(self) -> None:
        process = run("trainer", "--coordinator=tcp://127.0.0.1:1", "--rank=2", "--ranks=2",
                      timeout=HANG_SECONDS)
        self.assertEqual(process.code, 1, process.text())
        self.assertIn("--rank 2 is not below --ranks 2", process.text())

    def test_a_port_that_is_none(self) -> None:
        process = run("scores", "--bind=tcp://127.0.0.1:99999", timeout=HANG_SECONDS)
        self.assertNotEqual(process.code, 0)
        self.assertIn("99999", process.text())


class BulkHostTest(unittest.TestCase):
    """Beyond loopback by the rule of the control lane: keys, or --insecure."""

    def trainer(self, *flags: str) -> Process:
        return run("trainer", "--coordinator=nonsense", *flags, timeout=HANG_SECONDS)

    def test_beyond_loopback_it_wants_keys_or_a_word(self) -> None:
        for host in ("10.0.0.1", "eth0", "[::]"):
            process = self.trainer("--bulk-host=" + host)
            self.assertEqual(process.code, 1, process.text())
            for part in ("--bulk-host " + host, "--keys", "--insecure", "127.0.0.1"):
                self.assertIn(part, process.text())

    def test_with_either_it_goes_on_and_finds_the_next_thing_that_is_wrong(self) -> None:
        for flags in (["--bulk-host=10.0.0.1", "--insecure"], ["--bulk-host=127.0.0.2"],
                      ["--bulk-host=lo"], ["--bulk-host=10.0.0.1", "--keys=missing.keys"]):
            process = self.trainer(*flags)
            self.assertEqual(process.code, 1, process.text())
            self.assertRegex(process.text(), "nonsense|missing.keys")
            self.assertNotIn("--bulk-host", process.text())

    def test_what_nobody_can_connect_to_is_no_host(self) -> None:
        for host in ("*", "0.0.0.0"):
            process = self.trainer("--bulk-host=" + host, "--insecure")
            self.assertEqual(process.code, 1, process.text())
            self.assertIn("--bulk-host " + host, process.text())


if __name__ == "__main__":
    unittest.main()
