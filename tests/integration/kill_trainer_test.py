"""kill -9 of the trainer in mid-transfer: no worker serves half a version; its successor syncs."""

import tempfile
import time
import unittest
from typing import Any, Dict, Tuple

from tests.integration import weights
from tests.integration.cluster import Cluster, version, wrong_with
from tests.integration.processes import kill

MODEL_MIB = 128
SLOW = "--buffer-bytes=65536"


class KillTrainerTest(unittest.TestCase):
    def interrupted(self, install: str) -> Tuple[Cluster, str, Dict[str, Any]]:
        """A cluster whose second epoch lost its trainer, with the first's version."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        cluster = Cluster("--shapes=" + weights.mebibytes(folder.name, MODEL_MIB), SLOW,
                          "--install=" + install)
        self.addCleanup(cluster.end)
        first = cluster.sync()
        self.assertFalse(wrong_with(first, 2))
        self.since = len(cluster.watch.events)
        pid = cluster.pid("trainer-0")
        label = cluster.start_sync()
        cluster.watch.first("progress", self.since)
        killed = time.monotonic()
        kill(pid)
        report = cluster.report(label)
        print("%s: trainer killed, the epoch ended after %.3f s" % (
            install, cluster.watch.first("epoch.end", self.since)["at"] - killed))
        self.assertFalse(report["committed"])
        self.assertEqual(report["culprit"], "trainer-0")
        self.assertIn("trainer-0", report["error"])
        return cluster, first["version"], report

    def workers(self, cluster: Cluster) -> Dict[str, Any]:
        return {name: (member["version"], member["dirty"])
                for name, member in cluster.members().items() if member["role"] == "worker"}

    def check_healed(self, cluster: Cluster, before: str) -> None:
        """The trainer's next life syncs the same workers; versions count on from `before`."""
        cluster.watch.first("member.joined", self.since, member="trainer-0")
        report = cluster.sync()
        self.assertFalse(wrong_with(report, 2))
        self.assertGreater(version(report["version"]), version(before))
        good = (report["version"], False)
        self.assertEqual(self.workers(cluster), {"worker-0": good, "worker-1": good})

    def test_staged_workers_serve_the_last_committed_version(self) -> None:
        cluster, served, _ = self.interrupted("staged")
        kept = (served, False)
        self.assertEqual(self.workers(cluster), {"worker-0": kept, "worker-1": kept})
        self.check_healed(cluster, served)

    def test_workers_written_in_place_are_dirty_until_the_next_good_epoch(self) -> None:
        cluster, served, _ = self.interrupted("in-place")
        dirty = (served, True)
        self.assertEqual(self.workers(cluster), {"worker-0": dirty, "worker-1": dirty})
        self.check_healed(cluster, served)


if __name__ == "__main__":
    unittest.main()
