"""What the processes of a cluster say and when: lines of their descriptors, and their ends."""

import os
import selectors
import threading
import time
from typing import Callable, List, NamedTuple, Optional


class Note(NamedTuple):
    at: float  # time.monotonic()
    who: str  # one life of a process: "worker-1#3"
    what: str  # a line, or "ended"


class Board:
    """Collects notes on a thread of its own. Thread-safe."""

    def __init__(self) -> None:
        self.notes: List[Note] = []
        self._changed = threading.Condition()
        self._selector = selectors.DefaultSelector()
        wake_end, self._wake = os.pipe()
        self._selector.register(wake_end, selectors.EVENT_READ, None)
        self._new: List[tuple] = []
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def follow(self, who: str, fd: int) -> None:
        """Takes `fd` over: each line is a note, until its end."""
        self._add((fd, [who, b""]))

    def follow_end(self, who: str, pid: int) -> None:
        self._add((os.pidfd_open(pid), [who, None]))

    def mark(self) -> int:
        """Where the notes are that come from now on."""
        with self._changed:
            return len(self.notes)

    def last_at(self, since: int) -> float:
        """When the last note came, if it is not older than `since`."""
        with self._changed:
            return self.notes[-1].at if len(self.notes) > since else 0.0

    def wait(self, wanted: Callable[[Note], bool], since: int,
             timeout: float) -> Optional[Note]:
        """The first note from `since` on that is wanted; None after `timeout` seconds."""
        until = time.monotonic() + timeout
        at = since
        with self._changed:
            while True:
                for at in range(at, len(self.notes)):
                    if wanted(self.notes[at]):
                        return self.notes[at]
                at = len(self.notes)
                left = until - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(left)

    def close(self) -> None:
        self._closing = True
        os.write(self._wake, b"x")
        self._thread.join(10.0)

    def _add(self, entry: tuple) -> None:
        with self._changed:
            self._new.append(entry)
        os.write(self._wake, b"x")

    def _run(self) -> None:
        while not self._closing:
            for key, _ in self._selector.select():
                if key.data is None:
                    os.read(key.fd, 4096)
                    with self._changed:
                        new, self._new = self._new, []
                    for fd, data in new:
                        self._selector.register(fd, selectors.EVENT_READ, data)
                else:
                    self._take(key.fd, key.data)

    def _take(self, fd: int, data: list) -> None:
        """data: whose it is, and the part of a line that has come; None: it is of a process."""
        now = time.monotonic()
        lines, over = ["ended"], True
        if data[1] is not None:
            try:
                part = os.read(fd, 65536)
            except OSError:  # reset: the other end is gone with unread bytes
                part = b""
            *whole, data[1] = (data[1] + part).split(b"\n")
            lines, over = [line.decode(errors="replace") for line in whole], not part
        with self._changed:
            self.notes += [Note(now, data[0], line) for line in lines]
            self._changed.notify_all()
        if over:
            self._selector.unregister(fd)
            os.close(fd)
