"""kill -9 of a worker in mid-transfer: the others commit, it comes back with the next epoch."""

import tempfile
import time
import unittest
from typing import Any, Dict

from tests.integration import weights
from tests.integration.cluster import Cluster, wrong_with
from tests.integration.processes import kill

# Many small steps: a transfer that takes long enough to be interrupted, in little memory.
MODEL_MIB = 128
SLOW = "--buffer-bytes=65536"


class KillWorkerTest(unittest.TestCase):
    def start(self, *flags: str, workers: int) -> Cluster:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        shapes = weights.mebibytes(folder.name, MODEL_MIB)
        cluster = Cluster("--shapes=" + shapes, SLOW, *flags, workers=workers)
        self.addCleanup(cluster.end)
        self.assertFalse(wrong_with(cluster.sync(), workers))
        return cluster

    def kill_in_transfer(self, cluster: Cluster, victim: str) -> Dict[str, Any]:
        """The report of the epoch in which `victim` was killed."""
        since = len(cluster.watch.events)
        pid = cluster.pid(victim)
        label = cluster.start_sync()
        cluster.watch.first("progress", since)
        killed = time.monotonic()
        kill(pid)
        report = cluster.report(label)
        lost = cluster.watch.first("member.lost", since, member=victim)
        again = cluster.watch.first("epoch.transfer", since, attempt=2)
        end = cluster.watch.first("epoch.end", since)
        print("%s killed: noticed after %.3f s, transfer starts again after %.3f s, committed "
              "after %.3f s" % (victim, lost["at"] - killed, again["at"] - killed,
                                end["at"] - killed))
        self.assertLess(again["at"] - killed, 30, "recovery hangs")
        self.assertEqual((report["attempt"], report["culprit"]), (2, victim))
        self.assertIn(victim, report["error"])
        return report

    def check_healed(self, cluster: Cluster, victim: str, workers: int) -> None:
        """The launcher starts the victim again; the next epoch reaches all."""
        since = next(k for k, event in enumerate(cluster.watch.events)
                     if event["event"] == "member.lost")
        cluster.watch.first("member.joined", since, member=victim)
        report = cluster.sync()
        self.assertFalse(wrong_with(report, workers))
        for name, member in cluster.members().items():
            if member["role"] == "worker":
                self.assertEqual((name, member["version"], member["dirty"]),
                                 (name, report["version"], False))

    def check(self, *flags: str) -> None:
        cluster = self.start(*flags, workers=3)
        report = self.kill_in_transfer(cluster, "worker-1")
        self.assertFalse(wrong_with(report, 2))
        self.assertEqual([w["name"] for w in report["workers"]], ["worker-0", "worker-2"])
        self.assertEqual([(x["replica"], x["culprit"]) for x in report["expelled"]],
                         [("replica-1", "worker-1")])
        self.check_healed(cluster, "worker-1", 3)

    def test_staged(self) -> None:
        self.check("--install=staged")

    def test_in_place(self) -> None:
        self.check("--install=in-place")

    def test_replicas_that_commit_alone(self) -> None:
        cluster = self.start(workers=3)
        self.assertEqual(cluster.call("limits", commit="each")["commit"], "each")
        report = self.kill_in_transfer(cluster, "worker-1")
        self.assertFalse(wrong_with(report, 2))
        self.assertEqual([x["replica"] for x in report["expelled"]], ["replica-1"])
        alone = [event["replica"] for event in cluster.watch.events
                 if event["event"] == "replica.committed"]
        self.assertEqual(sorted(alone), ["replica-0", "replica-2"])
        self.check_healed(cluster, "worker-1", 3)

    def test_the_sibling_goes_with_it(self) -> None:
        cluster = self.start("--replica-size=2", workers=4)
        report = self.kill_in_transfer(cluster, "worker-1")
        self.assertFalse(wrong_with(report, 2))
        self.assertEqual([w["name"] for w in report["workers"]], ["worker-2", "worker-3"])
        self.assertEqual([(x["replica"], x["culprit"]) for x in report["expelled"]],
                         [("replica-0", "worker-1")])
        self.check_healed(cluster, "worker-1", 4)


if __name__ == "__main__":
    unittest.main()
