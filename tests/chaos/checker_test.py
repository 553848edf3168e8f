"""The judge of the storm: finds what must not happen, and nothing else."""

import unittest
from typing import Any, Dict, List

from tests.chaos.checker import Ended, Record, Truth, Verdict, judge
from tests.chaos.crew import Layout
from tests.chaos.faults import Fault
from tests.chaos.lateness import Late, allowance

GONE = "peer died: %s: connection closed by the peer's host without a goodbye"


def worker(rank: int, version: str, digest: str) -> Dict[str, Any]:
    return {"name": "worker-%d" % rank, "version": version, "digest": digest, "verified": True}


def report(version: str, digest: str = "d", workers: int = 2, **more: Any) -> Dict[str, Any]:
    made = {"version": version, "label": int(version.split(".")[1]), "committed": True,
            "attempt": 1, "digest": digest, "at": 10.5,
            "workers": [worker(rank, version, digest) for rank in range(workers)]}
    return dict(made, **more)


def member(rank: int, version: str, dirty: bool = False) -> Dict[str, Any]:
    return {"name": "worker-%d" % rank, "role": "worker", "version": version, "dirty": dirty}


def served(version: str, digest: str) -> Dict[str, Any]:
    return {"version": version, "in_service": True, "dirty": False, "digest": digest}


# worker-1 was killed, the epoch went on without it, and the next one reached both.
CLEAN = Record(
    Fault("kill", "worker-1", "worker.staged.installing"), Layout(workers=2), acted_at=10.0,
    label=1, said="committed",
    report=report("1.1", workers=1, error=GONE % "worker-1", culprit="worker-1",
                  expelled=[{"replica": "replica-1", "culprit": "worker-1"}]),
    events=({"event": "epoch.begin", "at": 9.9},
            {"event": "member.lost", "member": "worker-1", "at": 10.03125}),
    gone_at=10.0, answered_at=10.5, healed_at=11.5,
    check=report("1.2", "e"), check_at=12.0, members=(member(0, "1.2"), member(1, "1.2")),
    serving=(("worker-0#1", served("1.1", "d")), ("worker-0#1", served("1.2", "e"))),
    ended=(Ended("worker-1#1", -9, "", True),))


class CheckerTest(unittest.TestCase):
    def judge(self, **changes: Any) -> Verdict:
        return judge(CLEAN._replace(**changes), Truth())

    def check_wrong(self, what: str, **changes: Any) -> None:
        violations: List[str] = self.judge(**changes).violations
        self.assertTrue(any(violation.startswith(what) for violation in violations),
                        "no %r in %s" % (what, violations))

    def test_a_clean_round(self) -> None:
        verdict = self.judge()
        self.assertEqual(verdict, Verdict("without", "victim", [], 0.03125, 0.46875))

    def test_hangs(self) -> None:
        self.check_wrong("hang", said="")
        self.check_wrong("hang", missing=("worker-1",))
        self.check_wrong("hang", check=None, check_said="busy")

    def test_orphans_and_deaths(self) -> None:
        self.check_wrong("orphan", lingering=("worker-1#1",))
        self.check_wrong("ended", ended=(Ended("trainer-0#1", -6, "Assertion failed", False),))

    def test_torn_memory(self) -> None:
        self.check_wrong("torn", serving=(("worker-0#1", served("1.2", "x")),))
        bad = report("1.2", "e")
        bad["workers"][1]["digest"] = "x"
        self.check_wrong("torn", check=bad)
        bad = report("1.2", "e")
        bad["workers"][1]["verified"] = False
        self.check_wrong("torn", check=bad)

    def test_one_version_is_the_same_in_all_rounds(self) -> None:
        truth = Truth()
        self.assertEqual(judge(CLEAN, truth).violations, [])
        later = CLEAN._replace(report=None, serving=(("worker-1#1", served("1.2", "x")),))
        self.assertNotEqual(judge(later, truth).violations, [])

    def test_memory_out_of_service_may_hold_anything(self) -> None:
        told = dict(served("1.1", "x"), in_service=False, dirty=True)
        self.assertEqual(self.judge(serving=(("worker-0#1", told),)).violations, [])

    def test_wrong_versions(self) -> None:
        self.check_wrong("wrong version", members=(member(0, "1.2"), member(1, "1.1")))
        self.check_wrong("wrong version", members=(member(0, "1.2"), member(1, "1.2", True)))
        self.check_wrong("wrong version", serving=(("worker-0#1", served("1.2", "e")),
                                                   ("worker-0#1", served("1.1", "d"))))
        self.check_wrong("wrong version", check=report("1.2", "e", workers=1))

    def test_blame(self) -> None:
        wrong = dict(CLEAN.report or {}, culprit="worker-0")
        self.check_wrong("blame", report=wrong)
        self.assertEqual(self.judge(report=wrong, bystander="worker-0").violations, [])
        self.check_wrong("cause", report=dict(CLEAN.report or {}, error="internal: worker-1: ?"))

    def test_a_coordinator_that_was_ill_may_blame_anyone(self) -> None:
        fault = Fault("freeze", "coordinator", "coordinator.send.commit")
        self.assertEqual(self.judge(fault=fault).violations, [])

    def test_harm(self) -> None:
        self.check_wrong("harm", fault=Fault("delay", "worker-1", "worker.staged.installing"))
        failed = report("1.1", workers=0, committed=False, error=GONE % "worker-1",
                        culprit="worker-1")
        self.check_wrong("harm", report=failed)
        self.assertEqual(self.judge(report=failed, provoked="cancel").violations, [])
        trainer = failed["error"].replace("worker-1", "trainer-0")
        self.assertEqual(self.judge(
            fault=Fault("kill", "trainer-0", "root.seal"),
            events=self.lost_at(10.03, member="trainer-0"),
            report=dict(failed, error=trainer, culprit="trainer-0")).violations, [])

    def test_a_failpoint_that_was_not_reached(self) -> None:
        verdict = self.judge(acted_at=None, report=report("1.1"), events=(), ended=())
        self.assertEqual((verdict.outcome, verdict.violations), ("not reached", []))

    def lost_at(self, at: float, **lost: Any) -> Any:
        return ({"event": "epoch.begin", "at": 9.7},
                dict({"event": "member.lost", "member": "worker-1", "at": at}, **lost))

    def test_what_is_noticed_late(self) -> None:
        self.check_wrong("slow: a kill of worker-1 was noticed", events=self.lost_at(10.06))
        self.check_wrong("slow: a kill of worker-1 was not noticed", events=())
        # Another loss of its was earlier: it was not in, and nobody could miss it.
        self.assertEqual(self.judge(events=self.lost_at(9.8)).violations, [])
        freeze = Fault("freeze", "worker-1", "worker.staged.installing", seconds=2.5)
        report_late = dict(CLEAN.report or {}, at=12.3)
        self.assertEqual(self.judge(fault=freeze, gone_at=12.5, events=self.lost_at(11.2),
                                    report=report_late).violations, [])
        self.check_wrong("slow: a freeze", fault=freeze, gone_at=12.5, events=self.lost_at(11.4))
        self.check_wrong("slow: a freeze", fault=freeze, gone_at=12.5, events=())
        self.assertEqual(self.judge(fault=freeze, gone_at=11.2, events=()).violations, [])
        deaf = Fault("inbound", "worker-1", "worker.staged.installing", seconds=3.0)
        self.assertEqual(self.judge(fault=deaf, gone_at=13.0, events=self.lost_at(11.8),
                                    report=report_late).violations, [])
        self.check_wrong("slow: a inbound", fault=deaf, gone_at=13.0, events=self.lost_at(12.0))

    def test_the_loss_of_a_coordinator_is_for_the_others_to_tell(self) -> None:
        fault = Fault("kill", "coordinator", "coordinator.transfer.install")
        lost = {"event": "coordinator.lost", "by": "worker-0#1", "at": 10.03125}
        verdict = self.judge(fault=fault, report=None, said="peer died: ", events=(lost,))
        self.assertEqual((verdict.detected, verdict.violations), (0.03125, []))
        self.check_wrong("slow", fault=fault, report=None, events=(dict(lost, at=10.2),))
        self.check_wrong("slow", fault=fault, report=None, events=())

    def test_what_recovers_late(self) -> None:
        late = dict(CLEAN.report or {}, at=12.3)
        self.check_wrong("slow: 2.269 s from detection", report=late)
        self.assertEqual(self.judge(report=dict(late, at=12.2)).violations, [])
        self.check_wrong("slow: 2.750 s", report=None, said="cancelled", check_at=13.78125)
        self.check_wrong("slow: 2.750 s", report=None, said="cancelled", answered_at=12.28125)
        self.assertEqual(self.judge(report=late, asked_at=11.0).violations, [])
        # Who was started again when the answer took long comes first.
        self.assertEqual(self.judge(report=None, said="cancelled", provoked="cancel",
                                    answered_at=12.28125, helped_at=12.0).violations, [])

    def test_what_the_machine_is_late_is_not_held_against_anybody(self) -> None:
        late = (Late(10.02, 0.125), Late(10.06, 0.03125))
        self.assertAlmostEqual(allowance(late, 10.0, 10.045), 4 * (0.02 + 0.01625))
        self.assertEqual(self.judge(events=self.lost_at(10.25), late=late).violations, [])
        self.check_wrong("slow", events=self.lost_at(10.27), late=late)

    def test_what_happens_while_others_have_the_processors(self) -> None:
        self.assertEqual(self.judge(events=self.lost_at(10.09), stalled=0.5).violations, [])
        self.check_wrong("slow", events=self.lost_at(10.11), stalled=0.5)
        self.check_wrong("slow", events=(), stalled=1.0)

    def test_unlisted_failpoints(self) -> None:
        self.check_wrong("the failpoint", unlisted=("worker.idle.staged",))


if __name__ == "__main__":
    unittest.main()
