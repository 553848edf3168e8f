"""Programs of //examples as child processes of a test, with a bound on every wait."""

import os
import re
import select
import signal
import subprocess
import threading
import time
from typing import Dict, List, Match, Optional, Sequence

# Bounds hangs; far above what anything takes on a loaded machine or under a sanitizer.
PATIENCE_SECONDS = 90.0

# Ends every process started here when this one goes away, however it does.
_LIFELINE = os.pipe()


def program(name: str) -> str:
    """The path of a program of //examples: beside the test, or in $PACKCAST_BIN."""
    folder = os.environ.get("PACKCAST_BIN") or os.path.join(
        os.environ["TEST_SRCDIR"], os.environ["TEST_WORKSPACE"], "examples")
    return os.path.join(folder, name)


class Process:
    """A running program; its lines are kept as they come."""

    def __init__(self, name: str, *arguments: str,
                 environment: Optional[Dict[str, str]] = None) -> None:
        variables = dict(os.environ, PACKCAST_LIFELINE_FD=str(_LIFELINE[0]), **environment or {})
        self.name = name
        self._popen = subprocess.Popen(
            [program(name), *arguments], env=variables, pass_fds=(_LIFELINE[0],), text=True,
            errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.pid = self._popen.pid
        self._changed = threading.Condition()
        self.out: List[str] = []
        self.err: List[str] = []
        self._readers = [threading.Thread(target=self._read, args=pair, daemon=True)
                         for pair in ((self._popen.stdout, self.out),
                                      (self._popen.stderr, self.err))]
        for reader in self._readers:
            reader.start()

    def _read(self, stream, lines: List[str]) -> None:
        for line in stream:
            with self._changed:
                lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def text(self) -> str:
        return "\n".join(self.out + self.err)

    def wait_line(self, pattern: str, timeout: float = PATIENCE_SECONDS) -> Match[str]:
        """The first line that matches; AssertionError when the process ends without."""
        def found() -> Optional[Match[str]]:
            return next(filter(None, (re.search(pattern, x) for x in self.out + self.err)), None)

        def over() -> bool:
            return not any(reader.is_alive() for reader in self._readers)
        until = time.monotonic() + timeout
        with self._changed:
            while not found() and not over() and time.monotonic() < until:
                self._changed.wait(1.0)
            match = found()
        if match is None:
            raise AssertionError("%s said no %r, but:\n%s" % (self.name, pattern, self.text()))
        return match

    def wait(self, timeout: float = PATIENCE_SECONDS) -> int:
        """The exit code; AssertionError when it does not end."""
        try:
            code = self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError("%s hangs after:\n%s" % (self.name, self.text())) from None
        for reader in self._readers:
            reader.join(timeout)
        return code

    def signal(self, number: int) -> None:
        self._popen.send_signal(number)

    def end(self) -> None:
        """Kills it if it runs."""
        if self._popen.poll() is None:
            self._popen.kill()
        self._popen.wait(PATIENCE_SECONDS)
        for reader in self._readers:
            reader.join(5.0)
        for stream in (self._popen.stdout, self._popen.stderr):
            stream.close()


def run(name: str, *arguments: str, timeout: float = PATIENCE_SECONDS) -> Process:
    """A program from start to end."""
    process = Process(name, *arguments)
    try:
        process.code = process.wait(timeout)
    finally:
        process.end()
    return process


def children(pid: int) -> Dict[int, List[str]]:
    """The command lines of a process's children, by process id."""
    found = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % entry, encoding="utf-8") as file:
                parent = int(file.read().rsplit(")", 1)[1].split()[1])
            with open("/proc/%s/cmdline" % entry, encoding="utf-8") as file:
                if parent == pid:
                    found[int(entry)] = file.read().split("\0")[:-1]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def wait_gone(pids: Sequence[int], timeout: float) -> List[int]:
    """Those of `pids` that are alive after `timeout` seconds at most; zombies are not."""
    until = time.monotonic() + timeout
    alive = []
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            left = max(0.0, until - time.monotonic())
            if not select.select([handle], [], [], left)[0]:
                alive.append(pid)
        finally:
            os.close(handle)
    return alive


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
