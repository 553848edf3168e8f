"""Two live processes of one name: the one that was started last counts, the other ends loudly."""

import signal
import unittest

from tests.integration.cluster import wrong_with
from tests.integration.processes import Process
from tests.integration.roles import Roles


class SameNameTest(unittest.TestCase):
    def setUp(self) -> None:
        self.roles = Roles()
        self.addCleanup(self.roles.end)
        self.session = self.roles.session
        self.watch = self.session.watch

    def join(self, *flags: str, name: str) -> Process:
        """Another process of this name, once it has joined."""
        since = len(self.watch.events)
        role = name.split("-")[0]
        process = self.roles.worker(0) if role == "worker" else self.roles.trainer(*flags)
        self.watch.first("member.joined", since, member=name)
        return process

    def check_ended(self, process: Process, name: str) -> None:
        self.assertNotEqual(process.wait(), 0)
        said = "\n".join(process.err)
        self.assertIn("stale", said)
        self.assertIn('"%s"' % name, said)
        self.assertIn("a name of its own", said)

    def check_stays(self, since: int, name: str) -> None:
        """Its twin's end costs the last one nothing."""
        self.assertFalse(wrong_with(self.session.sync(), 1))
        later = self.watch.events[since:]
        self.assertNotIn("member.lost", [e["event"] for e in later if e.get("member") == name])

    def test_a_twin_takes_over(self) -> None:
        self.join(name="trainer-0")
        first = self.join(name="worker-0")
        self.assertFalse(wrong_with(self.session.sync(), 1))
        self.join(name="worker-0")
        since = len(self.watch.events)
        self.check_ended(first, "worker-0")
        self.check_stays(since, "worker-0")

    def test_a_trainers_twin_takes_over(self) -> None:
        first = self.join(name="trainer-0")
        self.join(name="worker-0")
        self.join(name="trainer-0")
        since = len(self.watch.events)
        self.check_ended(first, "trainer-0")
        self.check_stays(since, "trainer-0")

    def test_a_thawed_process_does_not_evict_its_successor(self) -> None:
        self.join(name="trainer-0")
        zombie = self.join(name="worker-0")
        self.assertFalse(wrong_with(self.session.sync(), 1))
        zombie.signal(signal.SIGSTOP)
        self.watch.first("member.lost", member="worker-0")
        self.join(name="worker-0")
        self.assertFalse(wrong_with(self.session.sync(), 1))
        since = len(self.watch.events)
        zombie.signal(signal.SIGCONT)
        self.check_ended(zombie, "worker-0")
        self.check_stays(since, "worker-0")


if __name__ == "__main__":
    unittest.main()
