"""Judges a round of the storm: what became of the fault, and what must never happen."""

import math
import re
from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

from tests.chaos.crew import Layout, role_of
from tests.chaos.faults import (DEADLY_KINDS, HARMLESS_KINDS, KILLING_KINDS, NETWORK_KINDS,
                                SILENT_KINDS, SLOW_KINDS, Fault)
from tests.chaos.lateness import Late, allowance
from tests.integration.cluster import wrong_with

Event = Dict[str, Any]

_GONE = r"closed by the peer's host|connection .*closed|connection lost|peer died|killed|no beat"
_SILENT = _GONE + r"|not reachable|deadline exceeded|silence|did not connect|took longer"
_REPLACED = _GONE + r"|joined again|superseded|new incarnation|connected anew"
# What the defaults promise: no beat for 0.9 s. Who hears nothing is heard until its kernel waits
# for acknowledgements (0.2 s, longer on a way that was slow), or until it gives us up itself.
KILLED_SECONDS = 0.05
SILENT_SECONDS = 1.3
DEAF_SECONDS = 1.9
# Both ends of a link that is cut live, and tell the coordinator so: the transfer's deadline finds
# out (docs/operations.md, "Timeouts and bounds"). A receiver may take long, so no sooner. Who is
# named once is tried once more, which another deadline ends.
SPLIT_SECONDS = 32.0
RECOVERED_SECONDS = 2.0  # and the transfer
# The victim's word and those about it come on different ways, each read by a thread of ours.
_READ_SECONDS = 0.1
CAUSES = {
    "kill": _GONE, "exit": _GONE, "term": r"left|cancelled|stopped|shut down|" + _GONE,
    "freeze": _SILENT + "|" + _REPLACED, "zombie": _SILENT + "|" + _REPLACED, "twin": _REPLACED,
    "error": r"failpoint|abort did not finish",
}


class Ended(NamedTuple):
    who: str
    code: int
    tail: str
    expected: bool


class Record(NamedTuple):
    """All that was seen of a round."""

    fault: Fault
    layout: Layout
    state: str = ""  # where the victim was, as far as it is known
    provoked: str = "sync"
    bystander: str = ""  # who was made to fail as well, so that the victim gets there
    acted_at: Optional[float] = None  # None: the failpoint was not reached
    gone_at: float = 0.0  # when the cause was taken away
    asked_at: float = 0.0
    answered_at: float = 0.0
    helped_at: float = 0.0  # when somebody was started for whom the sync waits
    usual: float = 0.1  # seconds that an epoch takes
    late: Tuple[Late, ...] = ()  # what this machine let a thread wait for
    stalled: float = 0.0  # the part of the time in which any thread waited for a processor
    label: int = 0
    said: str = ""  # to whoever asked for the sync; "" for no answer
    report: Optional[Event] = None  # of the epoch in which the fault came
    events: Tuple[Event, ...] = ()
    healed_at: float = 0.0
    missing: Tuple[str, ...] = ()  # who has not come back, in time
    check: Optional[Event] = None  # of the epoch afterwards
    check_at: float = 0.0
    check_said: str = ""
    members: Tuple[Event, ...] = ()  # after that
    serving: Tuple[Tuple[str, Event], ...] = ()
    ended: Tuple[Ended, ...] = ()
    lingering: Tuple[str, ...] = ()
    unlisted: Tuple[str, ...] = ()


class Verdict(NamedTuple):
    outcome: str
    blame: str
    violations: List[str]
    detected: Optional[float]  # seconds after the fault
    recovered: Optional[float]


class Truth:
    """What each version holds, by the first who told."""

    def __init__(self) -> None:
        self._digests: Dict[str, str] = {}
        self._labels: Dict[int, str] = {}
        self._served: Dict[str, Tuple[int, ...]] = {}

    @staticmethod
    def _order(version: str) -> Tuple[int, ...]:
        return tuple(int(part) for part in version.split("."))

    def note_report(self, report: Event) -> List[str]:
        """What is wrong with a report."""
        wrong = []
        digest = report.get("digest")
        if digest and report["committed"]:
            wrong += self._same(report["version"], digest, "sent")
            if self._labels.setdefault(report["label"], digest) != digest:
                wrong.append("torn: label %d was sent as %s and as %s" % (
                    report["label"], self._labels[report["label"]], digest))
        for worker in report["workers"]:
            if not report["committed"] or worker["version"] != report["version"]:
                continue
            wrong += self._same(report["version"], worker["digest"], worker["name"])
            if worker.get("verified") is False:
                wrong.append("torn: %s did not verify" % worker["name"])
        return wrong

    def note_serving(self, who: str, told: Event) -> List[str]:
        """What is wrong with what a worker serves."""
        if not told["in_service"]:
            return []
        wrong = []
        version = self._order(told["version"])
        if version < self._served.get(who, ()):
            wrong.append("wrong version: %s serves %s after %s" % (
                who, told["version"], ".".join(map(str, self._served[who]))))
        self._served[who] = version
        if "digest" in told:
            wrong += self._same(told["version"], told["digest"], who)
        return wrong

    def _same(self, version: str, digest: str, who: str) -> List[str]:
        first = self._digests.setdefault(version, digest)
        if first == digest:
            return []
        return ["torn: %s holds %s as version %s, which is %s" % (who, digest, version, first)]


def outcome_of(record: Record) -> str:
    """A word for what became of the epoch."""
    report = record.report
    if record.acted_at is None and record.fault.point:
        return "not reached"
    if record.provoked in ("behind", "forgotten"):
        return "catch-up"
    if report is None:
        return "unknown" if record.said else "no answer"
    if not report["committed"]:
        return "failed"
    if report.get("expelled", []):
        return "without"
    return "retried" if report["attempt"] > 1 else "unharmed"


def judge(record: Record, truth: Truth, judges_times: bool = True) -> Verdict:
    """judges_times: whether to be slow is a violation. Not for tests, which run on any machine."""
    wrong = _hangs(record)
    for report in (record.report, record.check):
        wrong += truth.note_report(report) if report else []
    for who, told in record.serving:
        wrong += truth.note_serving(who, told)
    wrong += _after(record)
    blame, blamed_wrongly = _blame(record)
    wrong += blamed_wrongly
    outcome = outcome_of(record)
    wrong += _survival(record, outcome)
    wrong += _slow(record) if judges_times else []
    return Verdict(outcome, blame, wrong, _detected(record), _recovered(record))


def _hangs(record: Record) -> List[str]:
    wrong = []
    if not record.said:
        wrong.append("hang: sync(%d) was never answered" % record.label)
    if record.missing:
        wrong.append("hang: not back: " + ", ".join(record.missing))
    elif record.check is None:
        wrong.append("hang: no good epoch afterwards: " + record.check_said)
    for who in record.lingering:
        wrong.append("orphan: %s goes on although it was replaced" % who)
    for end in record.ended:
        if not end.expected:
            wrong.append("ended: %s by itself with %d:\n%s" % (end.who, end.code, end.tail))
    for name in record.unlisted:
        wrong.append("the failpoint %s is not in the list" % name)
    return wrong


def _after(record: Record) -> List[str]:
    """Everybody must hold the version of the epoch afterwards."""
    if record.check is None:
        return []
    wrong = []
    if wrong_with(record.check, record.layout.workers):
        wrong.append("wrong version: " + wrong_with(record.check, record.layout.workers))
    for member in record.members:
        good = member["version"] == record.check["version"] and not member["dirty"]
        if member["role"] == "worker" and not good:
            wrong.append("wrong version: %s serves %s%s after %s" % (
                member["name"], member["version"], ", dirty" * member["dirty"],
                record.check["version"]))
    return wrong


def _suspects(record: Record) -> Set[str]:
    """Who may be named."""
    suspects = {record.fault.victim, record.bystander}
    if record.fault.kind == "split":
        suspects.add("trainer-0")
    return suspects


def _blame(record: Record) -> Tuple[str, List[str]]:
    """Whom the report names, and what is wrong with that."""
    report = record.report
    if report is None or not (report.get("error") or report.get("expelled", [])):
        return "", []
    victim = record.fault.victim
    named = report.get("culprit") or "nobody"
    error = report.get("error") or ""
    wrong = []
    for one in [named] + [expelled["culprit"] for expelled in report.get("expelled", [])]:
        # To a coordinator that is cut off or was frozen all others look ill.
        if one not in _suspects(record) | {"nobody", ""} and role_of(victim) != "coordinator":
            wrong.append("blame: %s is named, %s had the fault: %s" % (one, victim, error))
    cause = CAUSES.get(record.fault.kind)
    if cause and record.provoked.startswith("own"):
        cause += "|failpoint"  # it failed by an error first
    if named == victim and cause and not re.search(cause, error):
        wrong.append("cause: a %s of %s is told as: %s" % (record.fault.kind, victim, error))
    how = {victim: "victim", record.bystander: "bystander", "nobody": "nobody"}
    return how.get(named, named), wrong


def _survival(record: Record, outcome: str) -> List[str]:
    """Faults that an epoch must survive."""
    fault = record.fault
    error = (record.report or {}).get("error") or record.said
    if record.provoked not in ("sync", "fresh", "join"):
        return []
    if fault.kind in HARMLESS_KINDS and outcome not in ("unharmed", "not reached"):
        return ["harm: a %s of %s should cost nothing: %s, %s" % (
            fault.kind, fault.victim, outcome, error)]
    survives = fault.kind in DEADLY_KINDS + NETWORK_KINDS + ("freeze", "zombie", "twin")
    if role_of(fault.victim) == "worker" and survives and outcome in ("failed", "unknown"):
        return ["harm: the loss of %s ended the epoch: %s" % (fault.victim, error)]
    return []


def _detected(record: Record) -> Optional[float]:
    """Until the first word about the victim, or about the attempt."""
    if record.acted_at is None:
        return None
    is_coordinator = role_of(record.fault.victim) == "coordinator"
    times = []
    for event in record.events:
        about = event.get("member") == record.fault.victim and event["event"] == "member.lost"
        given_up = event["event"] == "epoch.abort" and not is_coordinator
        lost = event["event"] == "coordinator.lost" and is_coordinator
        since = record.acted_at - (0.0 if given_up else _READ_SECONDS)
        if event["at"] >= since and (about or given_up or lost):
            times.append(max(0.0, event["at"] - record.acted_at))
    return min(times, default=None)


def _mended(record: Record) -> float:
    """From when on the epoch can recover: the fault is known, or over; and all who must be there
    are there."""
    detected = _detected(record)
    since = record.gone_at
    if detected is not None and role_of(record.fault.victim) != "coordinator":
        since = (record.acted_at or 0.0) + detected
    return max(since, record.helped_at, record.asked_at)


def _recovered(record: Record) -> Optional[float]:
    """From detection until an epoch is committed: this one; or until this one has failed, and then,
    when all that ended have been started again, until the next one is."""
    if record.acted_at is None:
        return None
    report = record.report
    if report and report["committed"]:
        return max(0.0, report["at"] - _mended(record))
    if record.check is None:
        return None
    return max(0.0, record.answered_at - _mended(record)) + record.check_at - max(
        record.healed_at, record.gone_at)


def _was_in(record: Record) -> bool:
    """Whether the victim was a member when the fault came: all are, when a round begins."""
    is_in = True
    for event in record.events:
        if event["at"] >= (record.acted_at or 0.0) - _READ_SECONDS:
            break
        if event.get("member") == record.fault.victim:
            is_in = event["event"] != "member.lost"
    return is_in and record.bystander != "coordinator"


def _slow(record: Record) -> List[str]:
    """What took longer than it may: for `late` and `stalled` this machine is to blame."""
    if record.acted_at is None or record.provoked == "shutdown":
        return []
    wrong = _noticed_late(record, record.acted_at)
    recovered = _recovered(record)
    if recovered is not None and record.fault.kind not in SLOW_KINDS:
        late = allowance(record.late, record.acted_at, max(record.check_at, record.answered_at))
        limit = RECOVERED_SECONDS + (SPLIT_SECONDS if record.fault.kind == "split" else 0.0)
        if recovered * (1 - record.stalled) - late > limit + 2 * record.usual:
            wrong.append("slow: %.3f s from detection to recovery" % recovered)
    return wrong


def _noticed_late(record: Record, began: float) -> List[str]:
    fault, noticed = record.fault, _detected(record)
    if fault.kind in KILLING_KINDS:
        limit, lasted = KILLED_SECONDS, math.inf
    elif fault.kind in SILENT_KINDS:
        limit = DEAF_SECONDS if fault.kind == "inbound" else SILENT_SECONDS
        lasted = record.gone_at - began
    elif fault.kind == "split":
        limit, lasted = SPLIT_SECONDS, record.gone_at - began
    else:
        return []
    if not _was_in(record):
        return []  # then its return is what is told
    wait = lasted if noticed is None else noticed
    late = allowance(record.late, began, began + wait)
    if wait < math.inf and wait * (1 - record.stalled) - late <= limit:
        return []
    if noticed is None:
        return ["slow: a %s of %s was not noticed" % (fault.kind, fault.victim)]
    return ["slow: a %s of %s was noticed after %.3f s" % (fault.kind, fault.victim, noticed)]
