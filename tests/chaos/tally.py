"""The table at the storm's end: role, state, fault; how often, and what became of it."""

import collections
from typing import AbstractSet, Dict, List, Sequence, Tuple

from tests.chaos.checker import Verdict
from tests.chaos.crew import role_of
from tests.chaos.faults import Fault

Cell = Tuple[str, str, str]  # role, state, fault
OUTCOMES = ("unharmed", "retried", "without", "failed", "unknown", "no answer",
            "catch-up", "not reached")

LEGEND = """unharmed: committed in the first attempt, by all. retried: by all, in a later attempt.
without: committed by the others, a replica was left out. failed: not committed, and everybody was
told. unknown: the coordinator went, so nobody could tell. catch-up: no sync ran, but that. Seconds:
median / largest, from the fault to the first word about it; and from there to the commit of that
epoch, or else to its end and from all being started again to the commit of the next one."""


def seconds(values: List[float]) -> str:
    if not values:
        return "-"
    ordered = sorted(values)
    return "%.2f / %.2f" % (ordered[len(ordered) // 2], ordered[-1])


class Tally:
    def __init__(self) -> None:
        self.rounds = 0
        self.faults = 0  # that came to pass
        self.violations: List[str] = []
        self._stalled: List[float] = []
        self._points: Dict[str, bool] = {}  # failpoints: was it reached?
        self._outcomes: Dict[Cell, collections.Counter] = {}
        self._blames: Dict[Tuple[str, str], collections.Counter] = {}
        self._detected: Dict[Tuple[str, str], List[float]] = {}
        self._recovered: Dict[Tuple[str, str], List[float]] = {}
        self._faults: Dict[Tuple[str, str], collections.Counter] = {}

    def add(self, fault: Fault, state: str, verdict: Verdict, stalled: float = 0.0) -> None:
        """stalled: the part of the round in which processors were wanting."""
        role = role_of(fault.victim)
        self.rounds += 1
        cell = (role, state, fault.kind)
        self._outcomes.setdefault(cell, collections.Counter())[verdict.outcome] += 1
        self.violations += verdict.violations
        was_reached = verdict.outcome != "not reached"
        if fault.point:
            self._points[fault.point] = self._points.get(fault.point, False) or was_reached
        if not was_reached:
            return
        self.faults += 1
        self._stalled.append(stalled)
        row = (role, fault.kind)
        self._faults.setdefault(row, collections.Counter())[verdict.outcome] += 1
        if verdict.blame:
            self._blames.setdefault(row, collections.Counter())[verdict.blame] += 1
        for value, column in ((verdict.detected, self._detected),
                              (verdict.recovered, self._recovered)):
            if value is not None:
                column.setdefault(row, []).append(value)

    def cells(self) -> List[str]:
        """A line for each role, state and fault that came to pass."""
        lines = ["%-12s %-26s %-10s %5s  %s" % ("role", "state or place", "fault", "times",
                                                "what became of it")]
        for (role, state, kind), outcomes in sorted(self._outcomes.items()):
            count = sum(n for what, n in outcomes.items() if what != "not reached")
            if count:
                told = ", ".join("%s %d" % (what, outcomes[what]) for what in OUTCOMES
                                 if outcomes[what] and what != "not reached")
                lines.append("%-12s %-26s %-10s %5d  %s" % (role, state, kind, count, told))
        return lines

    def summary(self) -> List[str]:
        """A line for each role and fault."""
        shown = [what for what in OUTCOMES if what != "not reached"]
        lines = ["%-12s %-10s %5s %s  %-15s %-15s %s" % (
            "role", "fault", "times", " ".join("%9s" % what for what in shown), "noticed, s",
            "recovered, s", "named as culprit")]
        for row in sorted(self._faults):
            outcomes = self._faults[row]
            blames = self._blames.get(row, collections.Counter())
            lines.append("%-12s %-10s %5d %s  %-15s %-15s %s" % (
                row[0], row[1], sum(outcomes.values()),
                " ".join("%9d" % outcomes[what] for what in shown),
                seconds(self._detected.get(row, [])), seconds(self._recovered.get(row, [])),
                ", ".join("%s %d" % pair for pair in blames.most_common())))
        return lines

    def never_reached(self) -> List[str]:
        """Failpoints that were tried and not once reached."""
        return sorted(name for name, was_reached in self._points.items() if not was_reached)

    def text(self, unpassed: Sequence[str] = (), rare: AbstractSet[str] = frozenset()) -> str:
        lines = self.cells() + [""] + self.summary() + ["", LEGEND, ""]
        tried = self.never_reached()
        for what, names in (("failpoints that no process passed", unpassed),
                            ("tried, but not reached", [x for x in tried if x in unpassed]),
                            ("passed, but not when it was tried",
                             [x for x in tried if x not in unpassed])):
            for kind, chosen in (("", [name for name in names if name not in rare]),
                                 (" (rare)", [name for name in names if name in rare])):
                if chosen:
                    lines += ["%s%s: %s" % (what, kind, ", ".join(chosen)), ""]
        lines.append("processors were wanting in %s of the time (median / largest of a round): "
                     "times were judged for the rest\n" % seconds(self._stalled))
        lines.append("%d rounds, %d faults, %d violations" % (
            self.rounds, self.faults, len(self.violations)))
        return "\n".join(lines)
