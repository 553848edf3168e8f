"""However the launcher ends, no process that it started is left."""

import os
import signal
import tempfile
import time
import unittest
from typing import List, Optional

from tests.integration import weights
from tests.integration.cluster import Session
from tests.integration.processes import Process, children, wait_gone

BOUND_SECONDS = 60.0
SLOW = "--buffer-bytes=65536"


def processes_with(text: str) -> List[int]:
    """Processes whose command line holds `text`."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % entry, encoding="utf-8") as file:
                if text in file.read():
                    found.append(int(entry))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


class NoOrphansTest(unittest.TestCase):
    def launcher(self, *flags: str) -> Process:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        shapes = weights.mebibytes(folder.name, 128)
        process = Process("cluster", "--shapes=" + shapes, SLOW, *flags)
        self.addCleanup(process.end)
        self.endpoint = process.wait_line(r"^coordinator at (tcp://\S+)$").group(1)
        return process

    def check_gone(self, launcher: Process, pids: List[int], how: str) -> Optional[int]:
        began = time.monotonic()
        code = launcher.wait()
        # Members carry the endpoint: those that were about to start are found too.
        left = wait_gone(pids + processes_with("=" + self.endpoint), BOUND_SECONDS)
        print("%s: all gone after %.2f s" % (how, time.monotonic() - began))
        self.assertEqual(left, [], how)
        return code

    def in_mid_epoch(self, number: signal.Signals) -> int:
        launcher = self.launcher("--epochs=1000")
        session = Session(self.endpoint)
        session.watch.first("progress")
        pids = list(children(launcher.pid))
        self.assertEqual(len(pids), 4)
        launcher.signal(number)
        code = self.check_gone(launcher, pids, number.name)
        session.close()
        return code

    def test_normal_end(self) -> None:
        launcher = self.launcher("--epochs=1")
        launcher.wait_line("^trainer-0 is up")
        pids = list(children(launcher.pid))
        self.assertEqual(self.check_gone(launcher, pids, "normal end"), 0, launcher.text())

    def test_ctrl_c(self) -> None:
        self.assertGreater(self.in_mid_epoch(signal.SIGINT), 0)

    def test_terminated(self) -> None:
        self.assertGreater(self.in_mid_epoch(signal.SIGTERM), 0)

    def test_killed(self) -> None:
        self.assertEqual(self.in_mid_epoch(signal.SIGKILL), -signal.SIGKILL)

    def test_ctrl_c_while_starting(self) -> None:
        launcher = self.launcher()
        pids = list(children(launcher.pid))
        launcher.signal(signal.SIGINT)
        self.assertGreater(self.check_gone(launcher, pids, "Ctrl-C while starting"), 0)

    def test_killed_while_starting(self) -> None:
        launcher = self.launcher()
        pids = list(children(launcher.pid))
        launcher.signal(signal.SIGKILL)
        self.check_gone(launcher, pids, "kill -9 while starting")


if __name__ == "__main__":
    unittest.main()
