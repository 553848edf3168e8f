"""A worker that was killed, and a fresh one, serve what the others serve without a sync."""

import tempfile
import time
import unittest

from tests.integration import weights
from tests.integration.cluster import wrong_with
from tests.integration.processes import kill
from tests.integration.roles import Roles

MODEL_MIB = 64
WORKERS = 4


class CatchUpTest(unittest.TestCase):
    def start(self, *coordinator_flags: str, worker_flags=()) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.roles = Roles(*coordinator_flags)
        self.addCleanup(self.roles.end)
        self.worker_flags = worker_flags
        self.roles.trainer("--shapes=" + weights.mebibytes(folder.name, MODEL_MIB))
        self.workers = [self.roles.worker(rank, *worker_flags) for rank in range(WORKERS)]
        self.session = self.roles.session
        self.session.wait_members(WORKERS + 1)
        self.first = self.session.sync()
        self.assertFalse(wrong_with(self.first, WORKERS))

    def wait_current(self, name: str, since: int, version: str) -> None:
        """By the catch-up that its report tells of."""
        watch = self.session.watch
        began = time.monotonic()

        def caught_up():
            return next((event["report"] for event in watch.events[since:]
                         if event["event"] == "catch_up.end" and event["report"]["committed"]
                         and name in [w["name"] for w in event["report"]["workers"]]), None)
        report = watch.until(caught_up, "catch-up of " + name)
        print("%s current after %.3f s, of which its catch-up took %.3f s"
              % (name, time.monotonic() - began, report["seconds"]))
        self.assertEqual(report["version"], version)
        for worker in report["workers"]:
            self.assertEqual((worker["digest"], worker["verified"]), (self.first["digest"], True))
        member = self.session.members()[name]
        self.assertEqual((member["version"], member["standing"], member["dirty"]),
                         (version, "current", False))

    def others(self, name: str):
        return {other: (member["installs"], member["version"])
                for other, member in self.session.members().items()
                if member["role"] == "worker" and other != name}

    def check(self, *coordinator_flags: str) -> None:
        self.start(*coordinator_flags)
        version = self.first["version"]
        before = self.others("worker-1")
        since = len(self.session.watch.events)
        kill(self.workers[1].pid)
        self.session.watch.first("member.lost", since, member="worker-1")
        self.roles.worker(1)
        self.wait_current("worker-1", since, version)
        self.assertEqual(self.others("worker-1"), before, "nobody else takes part")
        since = len(self.session.watch.events)
        self.roles.worker(WORKERS)
        self.wait_current("worker-%d" % WORKERS, since, version)
        events = [event["event"] for event in self.session.watch.events]
        self.assertEqual(events.count("epoch.begin"), 1)
        second = self.session.sync()
        self.assertEqual((wrong_with(second, WORKERS + 1), second["attempt"]), ("", 1))

    def test_staged(self) -> None:
        self.check("--install=staged")

    def test_in_place(self) -> None:
        self.check("--install=in-place")

    def test_a_coordinator_that_starts_again_asks_for_the_rows(self) -> None:
        self.start()
        self.roles.kill_coordinator()
        self.roles.start_coordinator(self.roles.endpoint)
        self.session = self.roles.session
        self.session.wait_members(WORKERS + 1)
        since = len(self.session.watch.events)
        self.roles.worker(WORKERS)
        self.wait_current("worker-%d" % WORKERS, since, self.first["version"])

    def test_without_a_copy_it_waits_for_the_next_epoch(self) -> None:
        self.start(worker_flags=("--no-can-serve",))
        self.roles.worker(WORKERS)
        told = self.session.watch.first("replica.behind")
        self.assertEqual((told["served"], told["newest"]), (False, self.first["version"]))
        name = "worker-%d" % WORKERS
        self.assertEqual(self.session.members()[name]["standing"], "behind")
        self.assertEqual(self.session.call("status")["behind"], ["replica-%d" % WORKERS])
        self.assertFalse(wrong_with(self.session.sync(), WORKERS + 1))


if __name__ == "__main__":
    unittest.main()
