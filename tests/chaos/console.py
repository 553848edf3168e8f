"""A coordinator's events and answers, over its deaths."""

import threading
import time
from typing import Any, Callable, Dict, List, Optional

from examples.control import Control, ControlError

Event = Dict[str, Any]
_CONNECT_SECONDS = 10.0  # longer than any coordinator is frozen


class Sync:
    """One sync that a script asked for."""

    def __init__(self, label: int) -> None:
        self.label = label
        self.asked_at = time.monotonic()
        self.report: Optional[Event] = None  # of a committed epoch
        self.error: Optional[ControlError] = None
        self.done_at = 0.0
        self.done = threading.Event()

    def said(self) -> str:
        return "committed" if self.report else str(self.error) if self.error else "no answer"


class Console:
    """Follows the coordinator at an address, whichever life it is in. Thread-safe."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.events: List[Event] = []
        self._changed = threading.Condition()
        self._following = 0  # subscriptions that were made
        self._closing = False
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        while not self._closing:
            try:
                with Control(self.endpoint, 5.0) as control:
                    control.call("subscribe", timeout=5.0)
                    with self._changed:
                        self._following += 1
                        self._changed.notify_all()
                    for event in control.events():
                        self._add(event)
                        if self._closing:
                            return
            except ControlError:
                time.sleep(0.02)  # nobody is there: a try takes its time as well

    def _add(self, event: Event) -> None:
        with self._changed:
            self.events.append(dict(event, at=time.monotonic()))
            self._changed.notify_all()

    def mark(self) -> int:
        with self._changed:
            return len(self.events)

    def since(self, mark: int) -> List[Event]:
        with self._changed:
            return self.events[mark:]

    def following(self) -> int:
        with self._changed:
            return self._following

    def wait_following(self, after: int, timeout: float) -> bool:
        """Until another subscription is made than the first `after`."""
        return bool(self._wait(lambda: self._following > after, timeout))

    def wait(self, wanted: Callable[[Event], bool], since: int, timeout: float) -> Optional[Event]:
        """The first event from `since` on that is wanted."""
        return self._wait(lambda: next(filter(wanted, self.events[since:]), None), timeout)

    def _wait(self, predicate: Callable[[], Any], timeout: float) -> Any:
        until = time.monotonic() + timeout
        with self._changed:
            while True:
                value = predicate()
                left = until - time.monotonic()
                if value or left <= 0:
                    return value
                self._changed.wait(left)

    def call(self, method: str, timeout: float = 5.0, **body: Any) -> Any:
        """Raises ControlError."""
        with Control(self.endpoint, timeout) as control:
            return control.call(method, body, timeout)

    def state(self) -> str:
        """What the coordinator does now; "?" when it does not say."""
        try:
            return str(self.call("status", timeout=0.5)["state"])
        except ControlError:
            return "?"

    def members(self, timeout: float = 5.0) -> Dict[str, Event]:
        return {member["name"]: member for member in self.call("members", timeout)}

    def sync(self, label: int, timeout: float) -> Sync:
        """Asks for a sync and does not wait for its end."""
        sync = Sync(label)

        def ask() -> None:
            try:
                with Control(self.endpoint, _CONNECT_SECONDS) as control:
                    sync.report = control.call("sync", {"label": label}, timeout)
            except ControlError as error:
                sync.error = error
            finally:  # another error is a bug there, and printed; it must not look like a hang
                sync.done_at = time.monotonic()
                sync.done.set()
                with self._changed:
                    self._changed.notify_all()
        threading.Thread(target=ask, daemon=True).start()
        return sync

    def report(self, label: int, since: int) -> Optional[Event]:
        """How the epoch of that label ended, if its coordinator told."""
        for event in self.since(since):
            if event["event"] == "epoch.end" and event["report"]["label"] == label:
                return dict(event["report"], at=event["at"])
        return None

    def close(self) -> None:
        self._closing = True
