"""Carries faults out, beside those that a process does to itself at a failpoint."""

import os
import shutil
import signal
import time
from typing import Callable, Optional

from tests.chaos.console import Console, Sync
from tests.chaos.crew import Crew, Process, role_of
from tests.chaos.faults import Fault

_JOIN_SECONDS = 5.0
_END_SECONDS = 20.0  # with a sync that runs


class Disk:
    """A small file system that can be filled."""

    SIZE_MIB = 64

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._filler = os.path.join(folder, "filler")

    def fill(self) -> None:
        try:
            with open(self._filler, "wb", buffering=0) as file:
                while file.write(b"x" * 65536):
                    pass
        except OSError:
            pass  # full

    def free(self) -> None:
        if os.path.exists(self._filler):
            os.remove(self._filler)

    def truncated_copy(self, model: str) -> str:
        """Of a checkpoint that was written while the disk filled up."""
        path = os.path.join(self.folder, "truncated.safetensors")
        with open(model, "rb") as file, open(path, "wb") as copy:
            shutil.copyfileobj(file, copy)
            copy.truncate(os.path.getsize(model) // 2)
        return path


class Striker:
    """One fault, from its begin to its end."""

    def __init__(self, crew: Crew, console: Console, fault: Fault, disk: Optional[Disk],
                 restart_ended: Callable[[], int]) -> None:
        self._crew = crew
        self._restart_ended = restart_ended
        self._console = console
        self._fault = fault
        self._disk = disk
        self._process = crew.live[fault.victim]  # until it is known which life it befalls
        self._began = self._until = 0.0
        self.has_new_coordinator = False  # since the victim was frozen
        self.refusal = ""  # what a process said that had to end by itself

    def begin(self) -> None:
        """What a failpoint has begun already (kill, exit, freeze) is not done again."""
        kind, at_point = self._fault.kind, bool(self._fault.point)
        self._process = self._crew.live[self._fault.victim]
        self._began = time.monotonic()
        self._until = self._began + self._fault.seconds
        network, victim = self._crew.network, self._fault.victim
        if kind in ("kill", "exit", "term"):
            self._process.may_end = True
            if not at_point:
                self._process.signal(signal.SIGTERM if kind == "term" else signal.SIGKILL)
        elif kind in ("freeze", "zombie"):
            if not at_point:
                self._process.signal(signal.SIGSTOP)
        elif kind == "twin":
            self._replace(may_end=True)
        elif kind == "error":
            # A member whose abort fails must end.
            self._process.may_end = self._fault.point.endswith(".abort")
        elif network is not None:
            if kind in ("cut", "flap", "half-open", "reset"):
                network.cut(victim)
            elif kind in ("inbound", "outbound"):
                network.cut(victim, inbound=kind == "inbound", outbound=kind == "outbound")
            elif kind == "split":
                network.cut_between(victim, "trainer-0")
            elif kind == "narrow":
                network.narrow(victim, 200, 4_000_000)
            elif kind == "lossy":
                network.narrow(victim, 200, 66_000)
            elif kind == "netem":
                network.netem(victim, "delay", "30ms", "10ms", "loss", "3%")
            if kind == "half-open":
                self._crew.kill(victim)
            elif kind == "reset":
                network.close_connections(victim)

    def _replace(self, may_end: bool) -> None:
        since = self._console.mark()
        self._process.may_end = may_end
        self._crew.start(self._fault.victim)
        self._console.wait(lambda e: e["event"] == "member.joined"
                           and e["member"] == self._fault.victim, since, _JOIN_SECONDS)

    def hold(self, sync: Optional[Sync]) -> None:
        """Until its time is over, or the sync that it disturbs."""
        left = max(0.0, self._until - time.monotonic())
        if sync is None or sync.done_at and sync.done_at < self._began:
            if self._fault.kind not in ("kill", "exit", "term", "twin", "error", "delay", "split"):
                time.sleep(left)
        else:
            sync.done.wait(left)

    def end(self) -> None:
        """Takes the cause away."""
        kind = self._fault.kind
        if kind == "zombie":
            following = self._console.following()
            if self._restart_ended():  # a coordinator above all, which lets the successor in
                self._console.wait_following(following, _JOIN_SECONDS)
            # Its successor must not be put out by it: but for a coordinator that has not known both
            # the last one is who says hello last, so that is the one that was frozen.
            self._replace(may_end=True)
            self._crew.live[self._fault.victim].may_end = self.has_new_coordinator
        if kind in ("freeze", "zombie"):
            self._process.signal(signal.SIGCONT)
        if kind == "term" and self._process.wait(_END_SECONDS) is None:
            self.refusal = "does not end on SIGTERM: " + self._process.tail()
        if self._crew.network is not None:
            self._crew.network.heal(self._fault.victim)

    # ---- faults from a process's start ------------------------------------------------------

    def start_on_full_disk(self) -> None:
        """The victim anew, with its log where there is no room, and the checkpoint too."""
        assert self._disk is not None
        model = None
        if role_of(self._fault.victim) == "trainer":
            model = shutil.copy(self._crew.layout.model, self._disk.folder)
        self._disk.fill()
        self._restart(on_disk=True, model=model)

    def start_truncated(self) -> None:
        """A trainer that must refuse its checkpoint, and then one that has a good one."""
        assert self._disk is not None
        model = self._disk.truncated_copy(self._crew.layout.model)
        self._crew.kill(self._fault.victim)
        process = self._crew.start(self._fault.victim, model=model)
        process.may_end = True
        code = process.wait(30.0)
        self.refusal = process.tail()
        if code != 1 or os.path.basename(model) not in self.refusal:
            self.refusal = "ended with %s: %s" % (code, self.refusal)
        else:
            self.refusal = ""
        self._restart(on_disk=False, model=None)

    def _restart(self, on_disk: bool, model: Optional[str]) -> Process:
        victim = self._fault.victim
        since, following = self._console.mark(), self._console.following()
        self._crew.kill(victim)
        process = self._crew.start(victim, on_disk=on_disk, model=model)
        waited_for = [victim]
        if role_of(victim) == "coordinator":
            self._console.wait_following(following, _JOIN_SECONDS)
            waited_for = sorted(set(self._crew.layout.members()) - set(self._console.members()))
        for name in waited_for:
            self._console.wait(lambda e, who=name: e["event"] == "member.joined"
                               and e["member"] == who, since, _JOIN_SECONDS)
        return process
