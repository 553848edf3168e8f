"""What to do with a cluster so that one of its members passes a failpoint."""

import re
import signal
from typing import Callable, Dict, List, Optional, Tuple

from examples.control import ControlError
from tests.chaos.console import Console, Sync
from tests.chaos.crew import Crew, role_of

SYNC_SECONDS = 150.0  # of a script's call: beyond all deadlines of an epoch
_PROGRESS_SECONDS = 2.0
_LOST_SECONDS = 3.0

# Another worker is killed there, so that the attempt ends while the victim waits for it.
_OTHER = {"other offer": "worker.send.offer", "other prepared": "worker.send.prepared",
          "other joined": "worker.send.generation.joined", "other quiesced": "worker.send.quiesced",
          "other staged": "worker.send.staged"}
# The coordinator is killed there.
_LOST = {"lost offers": "coordinator.offers.offers", "lost prepare": "coordinator.prepare.prepare",
         "lost joined": "coordinator.rendezvous.rendezvous",
         "lost transfer": "coordinator.transfer.transfer",
         "lost install": "coordinator.install.install", "lost abort": "coordinator.abort.abort"}
# The victim itself fails in its work.
_OWN = {"own prepare": "%s.prepare=error@1", "own join": "%s.join=error@1",
        "own stream": "root.launch=error@3;member.unpack=error@3"}

# Ways for the first pattern that fits; then "sync", "join" and "abort".
_HINTS: List[Tuple[str, List[str]]] = [
    (r"refused|preparing\.broken|\.prepare$", ["own prepare"]),
    (r"joining\.broken", ["own join"]),
    (r"broken\.|send\.failed|streaming\.broken", ["own stream", "own prepare"]),
    (r"send\.shutdown", ["shutdown"]),
    (r"wait_replicas", ["short"]),
    (r"coordinator\.(abort\.(offers|idle)|offers\.abort)", ["other offer", "cancel"]),
    (r"expelled", ["thaw"]),
    (r"\.proposed\.idle", ["other offer"]),
    (r"\.proposed\.out|\.proposed\.proposed", ["lost offers", "other offer"]),
    (r"\.preparing\.aborting|coordinator\.prepare\.abort", ["other prepared", "lost prepare"]),
    (r"\.prepared\.aborting|coordinator\.rendezvous\.abort", ["other joined", "other prepared"]),
    (r"\.joining\.aborting", ["other joined", "lost joined"]),
    (r"quiesc.*abort", ["other quiesced"]),
    (r"(staged|streamed)\.(aborting|halting)", ["other staged", "lost transfer"]),
    (r"trainer\.(streaming|halt\w+|broken)\.aborting", ["lost midway", "lost abort"]),
    (r"aborting\.out", ["lost abort", "lost transfer"]),
    (r"installing\.", ["lost install"]),
    (r"\.out\.|idle\.out|send\.join$|welcome", ["rejoin"]),
    (r"abort|halt|drain", ["abort", "cancel"]),
    (r"rendezvous|joining|generation|\.join$", ["join"]),
    (r"manifest|prepare|offer|proposed", ["join", "fresh"]),
    (r"", ["sync"]),
]


class Provoker:
    """Brings the victim of a round to where it is to fail. `bystander`: who had to fail, too."""

    def __init__(self, crew: Crew, console: Console, victim: str, next_label: Callable[[], int],
                 bystander: str) -> None:
        self._crew = crew
        self._console = console
        self._victim = victim
        self._next_label = next_label
        self._chosen = bystander
        self.bystander = ""

    @staticmethod
    def order(point: str, known: Optional[str]) -> List[str]:
        ways = next(ways for pattern, ways in _HINTS if re.search(pattern, point))
        ways = ([known] if known else []) + ways + ["sync", "join", "abort"]
        if point.startswith("coordinator"):
            ways = [way for way in ways if not way.startswith(("lost", "own"))]
        return list(dict.fromkeys(ways))

    def settings(self, way: str) -> str:
        """What the victim must be told beside the failpoint itself."""
        if way not in _OWN:
            return ""
        setting = _OWN[way]
        return ";" + (setting % role_of(self._victim) if "%s" in setting else setting)

    def start(self, way: str) -> Optional[Sync]:
        """Does it, and says which sync is under way. Does not wait for its end."""
        if way in _OTHER:
            return self._kill_other_at(_OTHER[way])
        if way in _LOST:
            return self._kill_coordinator_at(_LOST[way])
        steps: Dict[str, Callable[[], Optional[Sync]]] = {
            "sync": self._sync, "fresh": self._fresh, "join": self._join, "abort": self._abort,
            "cancel": self._cancel, "short": self._short, "rejoin": self._rejoin,
            "thaw": self._thaw, "lost midway": self._lost_midway, "shutdown": self._shutdown,
            "own prepare": self._sync, "own join": self._join, "own stream": self._sync}
        return steps[way]()

    def _sync(self) -> Sync:
        return self._console.sync(self._next_label(), SYNC_SECONDS)

    def _call(self, method: str, **body: object) -> None:
        try:
            self._console.call(method, 1.0, **body)
        except ControlError:
            pass  # the coordinator is the victim, and fails just now

    def _fresh(self) -> Sync:
        self._call("limits")
        return self._sync()

    def _await_event(self, since: int, event: str, member: str) -> None:
        self._console.wait(lambda e: e["event"] == event and e.get("member") == member, since,
                           _LOST_SECONDS)

    def _restart(self, name: str, failpoints: str = "") -> None:
        since = self._console.mark()
        self._crew.kill(name)
        self._await_event(since, "member.lost", name)
        process = self._crew.start(name, failpoints)
        process.may_end = bool(failpoints)
        self._await_event(since, "member.joined", name)

    def _join(self) -> Sync:
        self._restart(self._chosen)
        return self._sync()

    def _kill_other_at(self, point: str) -> Sync:
        self.bystander = self._chosen
        self._restart(self._chosen, point + "=kill@1")
        return self._sync()

    def _kill_coordinator_at(self, point: str) -> Sync:
        self._crew.live["coordinator"].may_end = True
        self._crew.arm("coordinator", point + "=kill@1")
        self.bystander = "coordinator"
        return self._abort() if "abort" in point else self._join()

    def _in_transfer(self) -> Sync:
        since = self._console.mark()
        sync = self._sync()
        self._console.wait(lambda e: e["event"] == "progress" or sync.done.is_set(), since,
                           _PROGRESS_SECONDS)
        return sync

    def _abort(self) -> Sync:
        sync = self._in_transfer()
        self.bystander = self.bystander or self._chosen
        self._crew.kill(self._chosen)
        return sync

    def _lost_midway(self) -> Sync:
        sync = self._in_transfer()
        self.bystander = "coordinator"
        self._crew.kill("coordinator")
        return sync

    def _cancel(self) -> Sync:
        sync = self._in_transfer()
        self._call("cancel")
        return sync

    def _short(self) -> Sync:
        """A sync that waits for a replica."""
        layout = self._crew.layout
        self._call("limits", min_replicas=layout.workers // layout.replica_size)
        self.bystander = self._chosen
        since = self._console.mark()
        self._crew.kill(self._chosen)
        self._await_event(since, "member.lost", self._chosen)
        sync = self._sync()
        self._console.wait(lambda e: e["event"] == "epoch.begin" or sync.done.is_set(), since,
                           _LOST_SECONDS)
        self._crew.start(self._chosen)
        return sync

    def _thaw(self) -> Sync:
        """A worker that is given up, and comes back."""
        since = self._console.mark()
        self.bystander = self._chosen
        self._crew.live[self._chosen].signal(signal.SIGSTOP)
        self._await_event(since, "member.lost", self._chosen)
        self._crew.live[self._chosen].signal(signal.SIGCONT)
        self._await_event(since, "member.joined", self._chosen)
        return self._sync()

    def _rejoin(self) -> Sync:
        if role_of(self._victim) == "coordinator":
            return self._join()
        following = self._console.following()
        self.bystander = "coordinator"
        self._crew.kill("coordinator")
        self._crew.start("coordinator")
        self._console.wait_following(following, _PROGRESS_SECONDS)
        return self._sync()

    def _shutdown(self) -> None:
        for process in self._crew.live.values():
            process.may_end = True
        self._call("shutdown")


def thaw(crew: Crew) -> None:
    for process in list(crew.live.values()) + crew.former:
        process.signal(signal.SIGCONT)
