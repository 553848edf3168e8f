"""Members and coordinators that come and go between and during epochs."""

import tempfile
import unittest

from tests.integration import weights
from tests.integration.cluster import version, wrong_with
from tests.integration.roles import Roles

SLOW = "--buffer-bytes=65536"


class LifecycleTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.large = "--shapes=" + weights.mebibytes(folder.name, 128)
        self.roles = Roles(SLOW)
        self.addCleanup(self.roles.end)

    def names(self, report) -> list:
        return [worker["name"] for worker in report["workers"]]

    def test_a_late_joiner_comes_in_at_the_next_epoch(self) -> None:
        session = self.roles.session
        self.roles.trainer(self.large)
        self.roles.worker(0)
        session.wait_members(2)
        label = session.start_sync()
        session.watch.first("progress")
        self.roles.worker(1)
        first = session.report(label)
        self.assertEqual((wrong_with(first, 1), first["attempt"]), ("", 1))
        session.wait_members(3)
        second = session.sync()
        self.assertFalse(wrong_with(second, 2))
        self.assertEqual(self.names(second), ["worker-0", "worker-1"])

    def test_a_drained_replica_stays_out_until_it_is_readmitted(self) -> None:
        session = self.roles.session
        self.roles.trainer()
        for rank in range(2):
            self.roles.worker(rank)
        session.wait_members(3)
        first = session.sync()
        self.assertFalse(wrong_with(first, 2))
        session.call("drain", replica="replica-0")
        second = session.sync()
        self.assertEqual((wrong_with(second, 1), self.names(second)), ("", ["worker-1"]))
        drained = session.members()["worker-0"]
        self.assertEqual((drained["drained"], drained["version"]), (True, first["version"]))
        session.call("readmit", replica="replica-0")
        self.assertFalse(wrong_with(session.sync(), 2))

    def test_two_trainer_ranks(self) -> None:
        session = self.roles.session
        for rank in range(2):
            self.roles.trainer("--rank=%d" % rank, "--ranks=2")
        self.roles.worker(0)
        session.wait_members(3)
        for _ in range(3):
            self.assertFalse(wrong_with(session.sync(), 1))

    def restart_coordinator(self, interrupt: bool) -> None:
        self.roles.trainer(self.large)
        for rank in range(2):
            self.roles.worker(rank)
        session = self.roles.session
        session.wait_members(3)
        first = session.sync()
        self.assertFalse(wrong_with(first, 2))
        term = session.call("status")["term"]
        if interrupt:
            since = len(session.watch.events)
            session.start_sync()
            session.watch.first("progress", since)
        self.roles.kill_coordinator()
        self.roles.start_coordinator(self.roles.endpoint)
        session = self.roles.session
        members = session.wait_members(3)
        self.assertEqual({m["version"] for m in members.values() if m["role"] == "worker"},
                         {first["version"]})
        session.watch.until(lambda: session.call("status")["term"] > term, "higher term")
        session.label = 100
        second = session.sync()
        self.assertFalse(wrong_with(second, 2))
        self.assertGreater(version(second["version"]), version(first["version"]))

    def test_the_coordinator_is_killed_at_rest(self) -> None:
        self.restart_coordinator(interrupt=False)

    def test_the_coordinator_is_killed_in_mid_transfer(self) -> None:
        self.restart_coordinator(interrupt=True)


if __name__ == "__main__":
    unittest.main()
