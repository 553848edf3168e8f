"""A small part of the storm: every role is killed and frozen, in the middle of an epoch."""

import os
import shutil
import subprocess
import tempfile
import unittest
from typing import Tuple

from tests.chaos.checker import Truth, judge
from tests.chaos.crew import Crew, Layout
from tests.chaos.faults import Fault, parse_points
from tests.chaos.rounds import Cluster, programs
from tests.chaos.storm import checkpoint

# The fault, and what may become of its epoch.
ROUNDS: Tuple[Tuple[Fault, Tuple[str, ...]], ...] = (
    (Fault("kill", "worker-1", "worker.staged.installing"), ("without",)),
    (Fault("freeze", "worker-2", "member.unpack", hit=3, seconds=30.0), ("without",)),
    (Fault("kill", "trainer-0", "root.seal", hit=3), ("failed",)),
    (Fault("freeze", "trainer-0", "root.launch", hit=3, seconds=30.0), ("failed",)),
    (Fault("kill", "coordinator", "coordinator.transfer.install"), ("unknown",)),
    # Some workers have their commit when it freezes; when it thaws all have given it up.
    (Fault("freeze", "coordinator", "coordinator.send.commit", hit=2, seconds=1.3),
     ("without", "failed", "retried", "unharmed")),
)


class StormTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        listing = subprocess.run([programs("failpoints")], capture_output=True, text=True,
                                 check=True).stdout
        self.points = {point.name for point in parse_points(listing)}
        mebibytes = 16 // int(os.environ.get("PACKCAST_MODEL_SHRINK", "1"))
        crew = Crew(programs(), folder, None)
        self.addCleanup(crew.end_all)
        self.cluster = Cluster(crew, Layout(workers=3, model=checkpoint(folder, mebibytes)), None,
                               Truth(), {}, self.points)
        self.addCleanup(self.cluster.end)

    def test_every_role_is_killed_and_frozen(self) -> None:
        for fault, outcomes in ROUNDS:
            with self.subTest(fault=fault):
                record = self.cluster.round(fault)
                verdict = judge(record, self.cluster.truth, judges_times=False)
                print("%s of %s at %s: %s, noticed after %s s" % (
                    fault.kind, fault.victim, fault.point, verdict.outcome, verdict.detected))
                self.assertEqual(verdict.violations, [])
                self.assertIn(verdict.outcome, outcomes, record)
        self.assertGreater(len(self.cluster.crew.reached()), len(self.points) // 3)

    def test_the_last_word_of_a_member_that_must_end_is_heard_before_its_end(self) -> None:
        """While the coordinator is busy with others the word and the end of a worker arrive."""
        crew, console = self.cluster.crew, self.cluster.console
        crew.arm("worker-0", "worker.abort=error;worker.send.aborted=delay:100")
        crew.arm("coordinator", "coordinator.abort.abort=delay:400")
        crew.live["worker-0"].may_end = True
        since = console.mark()
        sync = console.sync(1000, 60.0)
        self.assertIsNotNone(console.wait(lambda e: e["event"] == "progress", since, 60.0))
        crew.kill("worker-1")
        self.assertTrue(sync.done.wait(60.0))
        expelled = {out["culprit"]: out["reason"] for out in (sync.report or {})["expelled"]}
        self.assertIn("its abort did not finish", expelled["worker-0"])
        self.assertIn("closed by the peer's host", expelled["worker-1"])


if __name__ == "__main__":
    unittest.main()
