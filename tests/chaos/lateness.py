"""How late this machine lets a thread run that wants to: what times are to be judged against."""

import re
import threading
import time
from typing import List, NamedTuple, Optional, Tuple

_STEP_SECONDS = 0.01
_PRESSURE = "/proc/pressure/cpu"
_PRESSURE_SECONDS = 2.0  # how often the kernel adds up


class Late(NamedTuple):
    at: float  # time.monotonic() when the thread ran at last
    seconds: float  # after it should have


def _stalled_seconds() -> Optional[float]:
    """Since the machine's start: while any thread waited for a processor. None: it does not say."""
    try:
        with open(_PRESSURE, encoding="ascii") as file:
            found = re.match(r"some .*total=(\d+)", file.readline())
        return int(found.group(1)) / 1e6 if found else None
    except OSError:
        return None


class Lateness:
    """Watches on a thread of its own, which sleeps and asks when it was woken. Thread-safe."""

    NOISE_SECONDS = 0.002  # what a machine with nothing to do is late

    def __init__(self) -> None:
        self._seen: List[Late] = []
        self._pressure: List[Tuple[float, float]] = []  # (time.monotonic(), _stalled_seconds())
        self._lock = threading.Lock()
        self._closing = False
        threading.Thread(target=self._watch, daemon=True).start()

    def close(self) -> None:
        self._closing = True

    def _watch(self) -> None:
        while not self._closing:
            due = time.monotonic() + _STEP_SECONDS
            time.sleep(_STEP_SECONDS)
            late = Late(time.monotonic(), time.monotonic() - due)
            self._look(late.at)
            if late.seconds > self.NOISE_SECONDS:
                with self._lock:
                    self._seen.append(late)

    def _look(self, now: float) -> None:
        with self._lock:
            if self._pressure and now < self._pressure[-1][0] + _PRESSURE_SECONDS / 4:
                return
            stalled = _stalled_seconds()
            if stalled is not None:
                self._pressure = self._pressure[-1000:] + [(now, stalled)]

    def stalled(self, begin: float) -> float:
        """Which part of the time since then some thread here waited for a processor: 0 to 1. One
        that has just slept is let run at once, as ours, while one that works waits for all others:
        the kernel knows."""
        with self._lock:
            past = [sample for sample in self._pressure if sample[0] < begin - _PRESSURE_SECONDS]
            if not past or self._pressure[-1][0] <= past[-1][0]:
                return 0.0
            (first, stalled), (last, stalled_at_last) = past[-1], self._pressure[-1]
            return min(1.0, (stalled_at_last - stalled) / (last - first))

    def since(self, begin: float) -> Tuple[Late, ...]:
        """Forgets what is older."""
        with self._lock:
            self._seen = [late for late in self._seen if late.at >= begin]
            return tuple(self._seen)


# A word from a process that ends goes through its own last steps, ZeroMQ's thread, the reactor and
# an actor's turn, and each waits for a processor as our one thread did.
_HOPS = 4


def allowance(seen: Tuple[Late, ...], begin: float, end: float) -> float:
    """What this machine is to blame for of what took from `begin` to `end`."""
    return _HOPS * sum(max(0.0, min(late.at, end) - max(late.at - late.seconds, begin))
                       for late in seen)
