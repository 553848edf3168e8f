"""The processes of a cluster under fault: each can be told where to fail, killed and replaced."""

import datetime
import json
import os
import re
import signal
import socket
import subprocess
import time
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

from tests.chaos.board import Board, Note
from tests.chaos.network import Network

_LIFELINE = os.pipe()  # ends every process started here when this one goes away
_LOSS = re.compile(r"^([-\d]+ [:.\d]+) W .*the coordinator is (?:gone|not reachable)",
                   re.MULTILINE)


class Layout(NamedTuple):
    """How a cluster is made."""

    name: str = "staged"
    workers: int = 4
    trainers: int = 1
    replica_size: int = 1
    install: str = "staged"
    shm: bool = False
    model: str = ""  # a .safetensors file
    buffer_bytes: int = 256 * 1024

    def members(self) -> List[str]:
        return (["trainer-%d" % k for k in range(self.trainers)]
                + ["worker-%d" % k for k in range(self.workers)])

    def names(self) -> List[str]:
        return ["coordinator"] + self.members()


def role_of(name: str) -> str:
    return name.partition("-")[0]


class Process:
    """One life of a process."""

    def __init__(self, name: str, life: int, popen: subprocess.Popen,  # type: ignore[type-arg]
                 failpoints: socket.socket, log: str) -> None:
        self.name = name
        self.who = "%s#%d" % (name, life)
        self.pid = popen.pid
        self.log = log
        self.popen = popen
        self.failpoints = failpoints
        self.may_end = False  # its end is no surprise

    def signal(self, number: int) -> None:
        if self.popen.poll() is None:
            self.popen.send_signal(number)

    def wait(self, timeout: float) -> Optional[int]:
        """The exit code; None when it runs on."""
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def tail(self, lines: int = 12) -> str:
        try:
            with open(self.log, encoding="utf-8", errors="replace") as file:
                return "".join(file.readlines()[-lines:])
        except OSError as error:
            return str(error)


class Crew:
    """All processes of a cluster, by name. One thread."""

    def __init__(self, programs: str, logs: str, network: Optional[Network]) -> None:
        self.board = Board()
        self.network = network
        self.live: Dict[str, Process] = {}
        self.former: List[Process] = []  # replaced, and not known to have ended
        self._programs = programs
        self._logs = logs
        self._lives: Dict[str, int] = {}
        self.layout = Layout()
        self.disk: Optional[str] = None  # a folder for the logs and checkpoints of some

    # ---- starting ---------------------------------------------------------------------------

    def _free_port(self) -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    def place(self, layout: Layout) -> str:
        """Makes room for a cluster, and says where its coordinator answers scripts."""
        self.layout = layout
        self._port = self._free_port()
        if self.network is None:
            self._address = "tcp://127.0.0.1:%d" % self._port
            return self._address
        for name in layout.names():
            self.network.add(name)
        door = self.network.add_side_door("coordinator")
        self._address = "tcp://%s:%d" % (self.network.address("coordinator"), self._port)
        return "tcp://%s:%d" % (door, self._port)

    def start_all(self) -> None:
        for name in self.layout.names():
            self.start(name)

    def start(self, name: str, failpoints: str = "", on_disk: bool = False,
              model: Optional[str] = None, sync_seconds: int = 120) -> Process:
        """Starts the next life of that name; the last one, if it runs, stays as it is.

        failpoints: set from its beginning. on_disk: its log is in the folder `disk`. sync_seconds:
        how long a trainer waits for a sync of its own.
        """
        life = self._lives[name] = self._lives.get(name, 0) + 1
        log = os.path.join(self.disk if on_disk and self.disk else self._logs,
                           "%s.%d.log" % (name, life))
        self._replace(name)
        ours, theirs = socket.socketpair()
        fds = [_LIFELINE[0], theirs.fileno()]
        command = self._command(name, model or self.layout.model, sync_seconds)
        if role_of(name) == "worker":
            reading, writing = os.pipe()
            fds.append(writing)
            command.append("--serving-fd=%d" % writing)
        environment = {"PACKCAST_LIFELINE_FD": str(_LIFELINE[0]), "PACKCAST_FAILPOINTS": failpoints,
                       "PACKCAST_FAILPOINTS_FD": str(theirs.fileno())}
        with open(log, "ab") as file:
            popen = subprocess.Popen(
                command, env=dict(os.environ, **environment), pass_fds=fds,
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
        process = self.live[name] = Process(name, life, popen, ours, log)
        theirs.close()
        # A copy: the board closes its own when the process ends.
        self.board.follow(process.who, os.dup(ours.fileno()))
        if role_of(name) == "worker":
            os.close(writing)
            self.board.follow(process.who, reading)
        self.board.follow_end(process.who, process.pid)
        return process

    def _replace(self, name: str) -> None:
        old = self.live.pop(name, None)
        if old is None:
            return
        if old.popen.poll() is None:
            self.former.append(old)
        else:
            old.failpoints.close()

    def _command(self, name: str, model: str, sync_seconds: int) -> List[str]:
        role, _, rank = name.partition("-")
        command = self.network.prefix(name) if self.network else []
        command.append(os.path.join(self._programs, role))
        if role == "coordinator":
            where = "tcp://*:%d" % self._port if self.network else self._address
            command += ["--endpoint=" + where, "--install=" + self.layout.install, "--log-events",
                        "--buffer-bytes=%d" % self.layout.buffer_bytes]
            return command + (["--insecure"] if self.network else [])
        command += ["--coordinator=" + self._address, "--rank=" + rank]
        command += ["--shm"] if self.layout.shm else []
        if self.network:  # workers feed those that are behind
            command += ["--bulk-host=" + self.network.address(name), "--insecure"]
        if role == "worker":
            return command + ["--replica-size=%d" % self.layout.replica_size]
        command += ["--ranks=%d" % self.layout.trainers, "--sync-seconds=%d" % sync_seconds]
        return command + (["--model=" + model] if model else [])

    # ---- failing ----------------------------------------------------------------------------

    def arm(self, name: str, settings: str) -> bool:
        """Whether that process fails as `settings` say from now on."""
        process = self.live[name]
        since = self.board.mark()
        try:
            process.failpoints.sendall(settings.encode() + b"\n")
        except OSError:
            return False  # it has just ended
        said = self.board.wait(
            lambda note: note.who == process.who and note.what.startswith(("set", "bad", "ended")),
            since, 5.0)
        if said is not None and said.what.startswith("bad"):
            raise ValueError(said.what)
        return said is not None and said.what == "set"

    def acted(self, name: str, since: int, timeout: float) -> Optional[Note]:
        who = self.live[name].who
        return self.board.wait(lambda n: n.who == who and n.what.startswith("acts "), since,
                               timeout)

    def kill(self, name: str) -> None:
        process = self.live[name]
        process.may_end = True
        process.signal(signal.SIGKILL)
        process.wait(10.0)

    def ended(self) -> List[Process]:
        return [p for p in self.live.values() if p.popen.poll() is not None]

    def lingering(self, timeout: float, restart_ended: Callable[[], int]) -> List[Process]:
        """Of the lives that were replaced those that do not end; they are killed. Whoever has put
        its successor out, as it may, ends when that one is started again."""
        until = time.monotonic() + timeout
        left = self.former
        while left and time.monotonic() < until:
            restart_ended()
            left = [process for process in left if process.wait(0.05) is None]
        for process in left:
            process.signal(signal.SIGKILL)
        for process in self.former:
            process.failpoints.close()
        self.former = []
        return left

    # ---- what they tell ---------------------------------------------------------------------

    def serving(self, since: int) -> List[tuple]:
        """(who, what its memory holds) of all that workers told."""
        return [(note.who, json.loads(note.what)) for note in self.board.notes[since:]
                if note.what.startswith("{")]

    def coordinator_losses(self) -> List[Tuple[str, float]]:
        """(who, time.monotonic()) of all that noticed that the coordinator is lost: only their logs
        tell."""
        losses = []
        offset = time.time() - time.monotonic()
        for process in list(self.live.values()) + self.former:
            with open(process.log, encoding="utf-8", errors="replace") as file:
                for when in _LOSS.findall(file.read()):
                    at = datetime.datetime.fromisoformat(when).timestamp() - offset
                    losses.append((process.who, at))
        return losses

    def reached(self) -> set:
        return {note.what.split()[1] for note in self.board.notes
                if note.what.startswith("reached ")}

    # ---- the end ----------------------------------------------------------------------------

    def end_all(self) -> None:
        for process in list(self.live.values()) + self.former:
            process.may_end = True
            process.signal(signal.SIGKILL)
            process.wait(10.0)
            process.failpoints.close()
        self.live.clear()
        self.former.clear()
