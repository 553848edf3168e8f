"""What to do with a cluster so that one of its members passes a failpoint."""

import re
import signal
import time
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
# The victim itself fails in its work, or takes long for it, so that what happens meanwhile finds it
# in that state.
_OWN = {"own prepare": "%s.prepare=error@1", "own join": "%s.join=error@1",
        "own quiesce": "%s.quiesce=error@1",
        "own stream": "root.launch=error@3;member.unpack=error@3",
        "slow prepared": "%s.prepare=delay:400@1", "slow quiesced": "%s.quiesce=delay:400@1",
        "slow install": "%s.install=delay:600@1", "slow abort": "%s.abort=delay:300@1",
        "second prepare": "%s.prepare=delay:400@1", "second join": "%s.join=delay:400@1",
        "second stream": "root.launch=delay:400@3"}
# A second sync is asked for in the first: what makes another worker slow, and so many seconds after
# which event it is. Nobody tells when the victim waits for those that are slow.
_SECOND = {"second offer": ("worker.send.offer=delay:400@1", "epoch.begin", 0.15),
           "second prepare": ("", "epoch.begin", 0.0),
           "second prepared": ("worker.prepare=delay:400@1", "epoch.begin", 0.15),
           "second join": ("", "epoch.begin", 0.15),
           "second stream": ("", "epoch.transfer", 0.0),
           "second staged": ("worker.send.staged=delay:1500@1", "epoch.transfer", 0.7)}
# Where a worker that is behind is slow, so that its catch-up is there when it has to give way.
_SLOW_BEHIND = [(r"prepare\.", "worker.prepare=delay:600@1"),
                (r"rendezvous\.", "worker.join=delay:600@1"),
                (r"quiesce\.", "worker.quiesce=delay:600@1"),
                (r"transfer\.", "member.unpack=delay:600@3"),
                (r"streamed\.", "worker.send.staged=delay:600@1"),
                (r"aborting\.proposed", "member.unpack=delay:600@3")]

# Ways for the first pattern that fits; then "sync", "join" and "abort".
_HINTS: List[Tuple[str, List[str]]] = [
    (r"trainer\.proposed\.proposed", ["second offer"]),
    (r"trainer\.preparing\.preparing", ["second prepare"]),
    (r"trainer\.prepared\.prepared", ["second prepared"]),
    (r"trainer\.joining\.joining", ["second join"]),
    (r"trainer\.streaming\.streaming", ["second stream"]),
    (r"trainer\.streamed\.streamed", ["second staged"]),
    (r"worker\.(streaming|streamed)\.(streamed|idle)", ["behind"]),
    (r"worker\.streamed\.aborting", ["behind sync"]),
    (r"worker\.aborting\.proposed", ["slow abort"]),
    (r"coordinator\.(prepare|rendezvous|quiesce|transfer)\.offers", ["behind sync"]),
    (r"manifest\.wanted|worker\.send\.manifest", ["forgotten"]),
    (r"prepare\.(transfer|quiesce)|preparing\.streaming", ["fresh"]),
    (r"worker\.(proposed\.proposed|prepared\.prepared|out\.out)", ["new"]),
    (r"worker\.installing\.(installing|out)", ["slow install"]),
    (r"wait_replicas\.wait_replicas", ["shorter"]),
    (r"wait_replicas\.idle", ["short cancel"]),
    (r"abort\.wait_replicas", ["short abort"]),
    (r"send\.sync\.cancel", ["own deadline"]),
    (r"trainer\.send\.manifest", ["rejoin", "new"]),
    (r"refused|preparing\.broken", ["own prepare"]),
    (r"joining\.broken", ["own join"]),
    (r"quiescing\.broken", ["own quiesce"]),
    (r"broken\.|send\.failed|streaming\.broken", ["own stream", "own prepare"]),
    (r"send\.shutdown", ["shutdown"]),
    (r"wait_replicas", ["short"]),
    (r"coordinator\.(abort\.(offers|idle)|offers\.abort)", ["other offer", "cancel"]),
    (r"expelled", ["thaw"]),
    (r"\.proposed\.idle", ["other offer"]),
    (r"\.proposed\.out|\.proposed\.proposed", ["lost offers", "other offer"]),
    (r"\.preparing\.aborting", ["slow prepared", "other prepared", "lost prepare"]),
    (r"coordinator\.prepare\.abort", ["other prepared", "lost prepare"]),
    (r"\.prepared\.aborting|coordinator\.rendezvous\.abort", ["other joined", "other prepared"]),
    (r"\.joining\.aborting", ["other joined", "lost joined"]),
    (r"quiesc.*abort", ["slow quiesced", "other quiesced"]),
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

    def __init__(self, crew: Crew, console: Console, victim: str, failpoint: str,
                 next_label: Callable[[], int], bystander: str) -> None:
        self._crew = crew
        self._failpoint = failpoint
        self._console = console
        self._victim = victim
        self._next_label = next_label
        self._chosen = bystander
        self.bystander = ""

    @staticmethod
    def order(point: str, known: Optional[str]) -> List[str]:
        """Ways to that failpoint; the one that led there before is the first."""
        ways = next(ways for pattern, ways in _HINTS if re.search(pattern, point))
        ways = ([known] if known else []) + ways + ["sync", "join", "abort"]
        if point.startswith("coordinator"):
            ways = [way for way in ways if not way.startswith(("lost", "own", "slow", "second"))]
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
        if way in _SECOND:
            return self._second(way)
        return self.steps()[way]()

    def steps(self) -> Dict[str, Callable[[], Optional[Sync]]]:
        """The ways that are no kill at a failpoint and no second sync."""
        return {
            "sync": self._sync, "fresh": self._fresh, "join": self._join, "abort": self._abort,
            "cancel": self._cancel, "short": self._short, "rejoin": self._rejoin,
            "thaw": self._thaw, "lost midway": self._lost_midway, "shutdown": self._shutdown,
            "own prepare": self._sync, "own join": self._join, "own stream": self._sync,
            "own quiesce": self._sync,
            "own deadline": self._own_deadline, "new": self._new,
            "slow prepared": lambda: self._kill_other_at(_OTHER["other prepared"]),
            "slow quiesced": lambda: self._kill_other_at(_OTHER["other quiesced"]),
            "slow install": lambda: self._kill_coordinator_at(_LOST["lost install"]),
            "behind": self._behind, "behind sync": self._behind_sync,
            "slow abort": self._behind_sync, "forgotten": self._forgotten,
            "shorter": self._shorter, "short cancel": self._short_cancel,
            "short abort": self._short_abort}

    def _sync(self) -> Sync:
        return self._console.sync(self._next_label(), SYNC_SECONDS)

    def _call(self, method: str, **body: object) -> None:
        try:
            self._console.call(method, 1.0, **body)
        except ControlError:
            pass  # the coordinator is the victim, and fails just now

    def _fresh(self) -> Sync:
        """With another contract for the same ranks."""
        self._call("limits", buffer_count=2 + self._next_label() % 2)
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

    def _ask_for_all(self, *killed: str) -> Sync:
        """A sync that waits for the replicas of those that are killed before."""
        layout = self._crew.layout
        self._call("limits", min_replicas=layout.workers // layout.replica_size, below_min="wait")
        self.bystander = self._chosen
        since = self._console.mark()
        for name in killed:
            self._crew.kill(name)
            self._await_event(since, "member.lost", name)
        sync = self._sync()
        self._await_sync_event(since, sync, "epoch.begin")
        return sync

    def _await_sync_event(self, since: int, sync: Sync, event: str) -> None:
        self._console.wait(lambda e: e["event"] == event or sync.done.is_set(), since,
                           _LOST_SECONDS)

    def _shorter(self) -> Sync:
        """Two replicas come one after the other."""
        sync = self._ask_for_all(self._chosen, "worker-0")
        since = self._console.mark()
        self._crew.start("worker-0")
        self._await_event(since, "member.joined", "worker-0")
        self._crew.start(self._chosen)
        return sync

    def _short_cancel(self) -> Sync:
        sync = self._ask_for_all(self._chosen)
        self._call("cancel")
        return sync

    def _short_abort(self) -> Sync:
        """An attempt that is given up, and then too few are left."""
        sync = self._ask_for_all()
        self._crew.kill(self._chosen)
        return sync

    def _second(self, way: str) -> Sync:
        """Another sync is asked for while one runs: all ranks of the trainer are told at once."""
        settings, event, seconds = _SECOND[way]
        since = self._console.mark()
        if settings:
            self._restart(self._chosen, settings)
        else:
            self._restart(self._chosen)
        sync = self._sync()
        self._await_sync_event(since, sync, event)
        time.sleep(seconds)
        self._console.sync(self._next_label(), SYNC_SECONDS)
        return sync

    def _new(self) -> Sync:
        """The victim has the failpoint from its start on."""
        self._restart(self._victim, self._failpoint)
        return self._sync()

    def _own_deadline(self) -> Sync:
        """The trainer waits for a replica, and no longer than it wants to."""
        since = self._console.mark()
        self._crew.kill(self._victim)
        self._await_event(since, "member.lost", self._victim)
        self._crew.start(self._victim, self._failpoint, sync_seconds=1).may_end = True
        self._await_event(since, "member.joined", self._victim)
        return self._ask_for_all(self._chosen)

    def _behind(self) -> None:
        """A worker that has just been started is brought up to date; until the victim is it that
        sends, as others have their turn when one fails."""
        slow = "".join(setting for pattern, setting in _SLOW_BEHIND
                       if re.search(pattern, self._failpoint))
        for _ in range(self._crew.layout.workers):
            since = self._console.mark()
            self._restart(self._chosen, slow)
            begun = self._console.wait(lambda e: e["event"] == "catch_up.begin", since,
                                       _PROGRESS_SECONDS)
            if begun is None:
                return
            if role_of(self._victim) == "coordinator" or begun["provider"] == self._victim:
                self._await_state()
                return
            self._console.wait(lambda e: e["event"] == "catch_up.end", since, _LOST_SECONDS)

    def _await_state(self) -> None:
        """Where a catch-up is to be interrupted."""
        found = re.match(r"coordinator\.(\w+)\.", self._failpoint)
        wanted = found.group(1) if found else "transfer"
        until = time.monotonic() + _PROGRESS_SECONDS
        while self._console.state() != wanted and time.monotonic() < until:
            time.sleep(0.01)  # nobody tells of a catch-up's states
        if "streamed.aborting" in self._failpoint:
            time.sleep(0.4)  # nor when all is sent

    def _forgotten(self) -> None:
        """A catch-up of which the coordinator does not know the rows."""
        self.bystander = "coordinator"
        self._crew.kill("coordinator")
        self._crew.kill(self._chosen)
        following = self._console.following()
        self._crew.start("coordinator", self._failpoint
                         if self._victim == "coordinator" else "").may_end = True
        self._console.wait_following(following, _PROGRESS_SECONDS)
        since = self._console.mark()
        self._crew.start(self._chosen)
        self._await_event(since, "member.joined", self._chosen)

    def _behind_sync(self) -> Sync:
        """A catch-up that gives way to a sync."""
        self._behind()
        return self._sync()

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
