"""One cluster of the storm, and its rounds: fault, outcome, healing, check."""

import os
import time
from typing import Dict, List, Optional, Set, Tuple

from examples.control import ControlError
from tests.chaos.checker import Ended, Event, Record, Truth
from tests.chaos.console import Console, Sync
from tests.chaos.crew import Crew, Layout, role_of
from tests.chaos.faults import KILLING_KINDS, Fault
from tests.chaos.lateness import Lateness
from tests.chaos.provoke import SYNC_SECONDS, Provoker, thaw
from tests.chaos.strike import Disk, Striker
from tests.integration.cluster import wrong_with

START_SECONDS = 30.0
# What takes longer hangs. Above the coordinator's deadlines for who lives and does not answer.
ANSWER_SECONDS = 140.0
HEAL_SECONDS = 60.0
MEMBERS_SECONDS = 1.0  # and asked again
REACH_SECONDS = 4.0  # for a failpoint to be passed
ORPHAN_SECONDS = 15.0
DEATH_SECONDS = 5.0  # from a process's last word to its end


def programs(name: str = "") -> str:
    """The folder of our programs, or one of them."""
    folder = os.environ.get("PACKCAST_CHAOS_BIN") or os.path.dirname(os.path.abspath(__file__))
    return os.path.join(folder, name)


class Cluster:
    """Is ready when made. Raises AssertionError when it does not come up."""

    def __init__(self, crew: Crew, layout: Layout, disk: Optional[Disk], truth: Truth,
                 known: Dict[str, str], listed: Set[str]) -> None:
        self.crew = crew
        self.truth = truth
        self.is_well = True
        self._disk = disk
        crew.disk = disk.folder if disk else None
        self._known = known
        self._listed = listed
        self._label = 0
        self._told = 0  # notes of the board that were judged
        self._usual = 0.1  # seconds that an epoch takes
        self._is_short = False  # the coordinator waits for all replicas
        self._ended: List[Ended] = []
        self._helped_at = 0.0  # when somebody was started again for whom a sync waits
        self._lateness = Lateness()
        self.console = Console(crew.place(layout))
        crew.start_all()
        if not self.console.wait_following(0, START_SECONDS):
            raise AssertionError("no coordinator:\n" + crew.live["coordinator"].tail())
        missing, check, _, said = self._heal(START_SECONDS)
        if missing or check is None:
            ends = "".join("%s:\n%s" % (end.who, end.tail) for end in self._ended[-2:])
            raise AssertionError("the cluster does not come up: %s %s\n%s" % (missing, said, ends))

    def end(self) -> None:
        self.console.close()
        self._lateness.close()

    def _next_label(self) -> int:
        self._label += 1
        return self._label

    # ---- a round ----------------------------------------------------------------------------

    def round(self, fault: Fault) -> Record:
        self._ended = []
        self._helped_at = 0.0
        marks = self.console.mark(), self.crew.board.mark()
        striker = Striker(self.crew, self.console, fault, self._disk,
                          self._restart_ended)
        record = Record(fault, self.crew.layout, state=fault.point.partition(".")[2])
        if fault.kind in ("disk", "truncated"):
            sync, record = self._from_start(striker, record)
        elif fault.point:
            sync, record = self._at_point(striker, record)
        else:
            sync, record = self._at_random(striker, record)
        striker.hold(sync)
        striker.end()
        if striker.refusal:
            self._ended.append(Ended(fault.victim, -1, striker.refusal, False))
        record = record._replace(gone_at=time.monotonic(), usual=self._usual)
        answered = sync is None or self._await_answer(sync)
        if self._disk is not None:
            self._disk.free()
        return self._finish(record, sync, answered, marks)

    def _await_answer(self, sync: Sync) -> bool:
        """Who ended is started again if that takes long: a unit wants all of its ranks."""
        until = time.monotonic() + ANSWER_SECONDS
        while not sync.done.wait(2.0) and time.monotonic() < until:
            if self._restart_ended():
                self._helped_at = time.monotonic()
        return sync.done.is_set()

    def _finish(self, record: Record, sync: Optional[Sync], answered: bool,
                marks: Tuple[int, int]) -> Record:
        said = sync.said() if sync is not None else "nothing was asked"
        label = sync.label if sync is not None else 0
        self._undo(record.provoked, record.fault.victim)
        lingering = self.crew.lingering(ORPHAN_SECONDS, self._restart_ended)
        healed_at = time.monotonic()
        missing, check, check_at, check_said = self._heal(HEAL_SECONDS)
        report = self.console.report(label, marks[0]) or (sync.report if sync else None)
        if report is not None and "at" not in report:
            report = dict(report, at=sync.done_at if sync else 0.0)
        members: Tuple[Event, ...] = ()
        try:
            members = tuple(self.console.members().values())
        except ControlError:
            pass  # told as missing
        if record.provoked == "shutdown":  # versions begin anew
            self.truth = Truth()
            self._told = self.crew.board.mark()
            report = None
        told, self._told = self._told, self.crew.board.mark()
        self.is_well = not missing and check is not None
        return record._replace(
            label=label, said=said if answered else "", report=report,
            asked_at=sync.asked_at if sync is not None else 0.0,
            answered_at=sync.done_at if sync is not None else 0.0,
            helped_at=self._helped_at, late=self._lateness.since(record.acted_at or 0.0),
            stalled=self._lateness.stalled(record.acted_at or healed_at),
            events=self._events(marks[0]),
            healed_at=healed_at, missing=tuple(missing), check=check, check_at=check_at,
            check_said=check_said, members=members, serving=tuple(self.crew.serving(told)),
            ended=tuple(self._ended), lingering=tuple(p.who for p in lingering),
            unlisted=tuple(sorted(self.crew.reached() - self._listed)))

    def _events(self, since: int) -> Tuple[Event, ...]:
        """Of the coordinator, and what others said about it."""
        return tuple(e for e in self.console.since(since) if e["event"] != "progress") + tuple(
            {"event": "coordinator.lost", "by": who, "at": at}
            for who, at in self.crew.coordinator_losses())

    def _bystander(self, victim: str) -> str:
        """A worker of another replica than the victim's."""
        workers = [name for name in self.crew.layout.names() if role_of(name) == "worker"]
        size = self.crew.layout.replica_size
        mine = int(victim.split("-")[1]) // size if role_of(victim) == "worker" else -1
        return next(name for name in reversed(workers) if int(name.split("-")[1]) // size != mine)

    def _at_random(self, striker: Striker, record: Record) -> Tuple[Sync, Record]:
        fault = record.fault
        sync = self.console.sync(self._next_label(), SYNC_SECONDS)
        time.sleep(fault.after * self._usual)  # a random moment is what is wanted
        state = self.console.state()
        acted_at = time.monotonic()
        striker.begin()
        return sync, record._replace(acted_at=acted_at, state="coordinator in " + state)

    def _at_point(self, striker: Striker, record: Record) -> Tuple[Optional[Sync], Record]:
        """Tries one way after the other to bring the victim to the failpoint."""
        fault = record.fault
        provoker = Provoker(self.crew, self.console, fault.victim, fault.settings(),
                            self._next_label, self._bystander(fault.victim))
        sync: Optional[Sync] = None
        how = ""
        for how in Provoker.order(fault.point, self._known.get(fault.point))[:3]:
            since = self.crew.board.mark()
            process = self.crew.live[fault.victim]
            if not self.crew.arm(fault.victim, fault.settings() + provoker.settings(how)):
                break  # it has ended
            sync = provoker.start(how)
            self._is_short = self._is_short or "short" in how or how == "own deadline"
            acted = self._await_point(fault, since, sync, quiet=1.0 if "slow" in how else 0.15)
            if acted is None and self.crew.arm(fault.victim, ""):
                acted = self._await_point(fault, since, sync, patience=0.0)
            if acted is not None:
                self._known[fault.point] = how
                if fault.kind in KILLING_KINDS:
                    # Who looks for the dead before they are waits for an answer from them.
                    process.wait(DEATH_SECONDS)
                striker.has_new_coordinator = provoker.bystander == "coordinator"
                striker.begin()
                return sync, record._replace(acted_at=acted, provoked=how,
                                             bystander=provoker.bystander)
            self._undo(how, fault.victim)
            if process is not self.crew.live[fault.victim] or not self._settle(sync):
                break
        return sync, record._replace(provoked=how, bystander=provoker.bystander)

    def _undo(self, how: str, victim: str) -> None:
        if how == "own deadline":
            self.crew.kill(victim)  # and is started again as it was

    def _await_point(self, fault: Fault, since: int, sync: Optional[Sync],
                     patience: float = REACH_SECONDS, quiet: float = 0.15) -> Optional[float]:
        """When the victim passed it. quiet: how long after a sync's end something may come."""
        who, wanted = self.crew.live[fault.victim].who, "acts " + fault.point
        until = time.monotonic() + patience
        while True:
            note = self.crew.board.wait(lambda n: n.who == who and n.what == wanted, since,
                                        min(0.05, patience))
            if note is not None:
                return note.at
            over = sync is not None and sync.done.is_set()
            last = max(self.crew.board.last_at(since), sync.done_at if sync is not None else 0.0)
            if time.monotonic() > until or (over and time.monotonic() > last + quiet):
                return None

    def _settle(self, sync: Optional[Sync]) -> bool:
        """Ready for another try."""
        if sync is not None and not sync.done.wait(ANSWER_SECONDS):
            return False
        missing, check, _, _ = self._heal(HEAL_SECONDS)
        return not missing and check is not None

    def _from_start(self, striker: Striker, record: Record) -> Tuple[Sync, Record]:
        if self._disk is None:
            return self._at_random(striker, record)
        if record.fault.kind == "disk":
            striker.start_on_full_disk()
        else:
            striker.start_truncated()
        sync = self.console.sync(self._next_label(), SYNC_SECONDS)
        return sync, record._replace(acted_at=time.monotonic(), state="start")

    # ---- healing ----------------------------------------------------------------------------

    def _restart_ended(self) -> int:
        """How many."""
        ended = self.crew.ended()
        for process in ended:
            self._ended.append(Ended(process.who, process.popen.returncode, process.tail(),
                                     process.may_end))
            self.crew.start(process.name)
        return len(ended)

    def _absent(self) -> List[str]:
        try:
            here = self.console.members(MEMBERS_SECONDS)
        except ControlError:
            return ["coordinator"]
        return sorted(set(self.crew.layout.members()) - set(here))

    def _ask_for_any(self) -> bool:
        try:
            self.console.call("limits", min_replicas=1, below_min="fail")
            return True
        except ControlError:
            return False

    def _heal(self, limit: float) -> Tuple[List[str], Optional[Event], float, str]:
        """Starts again who is gone, until all are in and an epoch reached all: who is not in, that
        epoch's report and when it was there, or what was said instead."""
        until = time.monotonic() + limit
        said = "no epoch was tried"
        missing = ["everybody"]
        while time.monotonic() < until:
            thaw(self.crew)
            self._restart_ended()
            missing = self._absent()
            if self._is_short and not missing:
                self._is_short = not self._ask_for_any()
            if missing or self._is_short:
                time.sleep(0.02)  # nothing tells when a coordinator listens again
                continue
            sync = self.console.sync(self._next_label(), SYNC_SECONDS)
            sync.done.wait(max(0.0, until - time.monotonic()))
            said = sync.said()
            if sync.report and not wrong_with(sync.report, self.crew.layout.workers):
                self._usual = sync.report["seconds"]
                return [], sync.report, sync.done_at, ""
            if sync.report:
                said = wrong_with(sync.report, self.crew.layout.workers)
            time.sleep(0.02)
        return missing, None, 0.0, said
