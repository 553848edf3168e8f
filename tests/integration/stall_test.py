"""Workers that freeze, and syncs that are cancelled, in mid-transfer."""

import os
import signal
import tempfile
import time
import unittest

from tests.integration import weights
from tests.integration.cluster import Cluster, wrong_with

SLOW = "--buffer-bytes=65536"


class StallTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.cluster = Cluster("--shapes=" + weights.mebibytes(folder.name, 128), SLOW)
        self.addCleanup(self.cluster.end)
        self.watch = self.cluster.watch

    def test_a_frozen_worker_is_expelled_and_comes_back_when_it_thaws(self) -> None:
        pid = self.cluster.pid("worker-1")
        label = self.cluster.start_sync()
        self.watch.first("progress")
        os.kill(pid, signal.SIGSTOP)
        self.addCleanup(os.kill, pid, signal.SIGCONT)
        frozen = time.monotonic()
        report = self.cluster.report(label)
        lost = self.watch.first("member.lost", member="worker-1")
        again = self.watch.first("epoch.transfer", attempt=2)
        print("frozen: noticed after %.3f s, transfer starts again after %.3f s"
              % (lost["at"] - frozen, again["at"] - frozen))
        self.assertFalse(wrong_with(report, 1))
        self.assertEqual(report["culprit"], "worker-1")
        since = len(self.watch.events)
        os.kill(pid, signal.SIGCONT)
        self.watch.first("member.joined", since, member="worker-1")
        self.assertFalse(wrong_with(self.cluster.sync(), 2))
        self.assertEqual(self.cluster.pid("worker-1"), pid, "the same process")

    def test_a_cancelled_sync_leaves_the_old_version(self) -> None:
        first = self.cluster.sync()
        self.assertFalse(wrong_with(first, 2))
        since = len(self.watch.events)
        label = self.cluster.start_sync()
        self.watch.first("progress", since)
        self.assertEqual(self.cluster.call("cancel")["label"], label)
        report = self.cluster.report(label)
        self.assertFalse(report["committed"])
        self.assertIn("cancelled", report["error"])
        for member in self.cluster.members().values():
            if member["role"] == "worker":
                self.assertEqual(member["version"], first["version"])
        self.assertFalse(wrong_with(self.cluster.sync(), 2))


if __name__ == "__main__":
    unittest.main()
