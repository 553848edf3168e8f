"""A live packcast cluster for a test: the launcher, its control calls and events."""

import json
import os
import signal
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

from examples.control import Control, ControlError
from tests.integration.processes import PATIENCE_SECONDS, Process, children

Event = Dict[str, Any]


class Watch:
    """A coordinator's events as they come, with the times when they came."""

    def __init__(self, endpoint: str) -> None:
        self.events: List[Event] = []
        self._changed = threading.Condition()
        self._subscribed = threading.Event()
        self._thread = threading.Thread(target=self._follow, args=(endpoint,), daemon=True)
        self._thread.start()
        assert self._subscribed.wait(PATIENCE_SECONDS), "no subscription at " + endpoint

    def _follow(self, endpoint: str) -> None:
        try:
            with Control(endpoint, PATIENCE_SECONDS) as control:
                control.call("subscribe", timeout=PATIENCE_SECONDS)
                self._subscribed.set()
                for event in control.events():
                    with self._changed:
                        self.events.append(dict(event, at=time.monotonic()))
                        self._changed.notify_all()
        except ControlError:
            pass  # the coordinator is gone

    def first(self, name: str, since: int = 0, timeout: float = PATIENCE_SECONDS,
              **fields: Any) -> Event:
        """The first event after the first `since` with this name and these fields."""
        def fits(event: Event) -> bool:
            return event["event"] == name and all(event.get(k) == v for k, v in fields.items())
        return self.until(lambda: next(filter(fits, self.events[since:]), None),
                          "event %s %s" % (name, fields), timeout)

    def until(self, predicate: Callable[[], Any], what: str,
              timeout: float = PATIENCE_SECONDS) -> Any:
        """What `predicate` says once that is true; asked again after each event."""
        until = time.monotonic() + timeout
        while True:
            seen = len(self.events)
            value = predicate()
            if value:
                return value
            with self._changed:
                while len(self.events) == seen and time.monotonic() < until:
                    if not self._changed.wait(min(1.0, max(0.01, until - time.monotonic()))):
                        break  # not all that can be asked for has an event
            if time.monotonic() >= until:
                tail = "\n".join(str(event) for event in self.events[-20:])
                raise AssertionError("no %s; the last events:\n%s" % (what, tail))

    def join(self) -> None:
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive(), "the end of the coordinator was not noticed"


class Session:
    """Control calls and events of a coordinator, wherever it came from."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.control = Control(endpoint, PATIENCE_SECONDS)
        self.watch = Watch(endpoint)
        self.label = 0
        self._syncs: List[threading.Thread] = []

    def call(self, method: str, **body: Any) -> Any:
        return self.control.call(method, body, PATIENCE_SECONDS)

    def members(self) -> Dict[str, Event]:
        return {member["name"]: member for member in self.call("members")}

    def wait_members(self, count: int) -> Dict[str, Event]:
        def all_in() -> Optional[Dict[str, Event]]:
            members = self.members()
            return members if len(members) >= count else None
        return self.watch.until(all_in, "%d members" % count)

    def start_sync(self) -> int:
        """Asks for a sync and does not wait for it. Its label."""
        self.label += 1

        def ask(label: int) -> None:
            try:
                with Control(self.endpoint, PATIENCE_SECONDS) as control:
                    control.call("sync", {"label": label}, PATIENCE_SECONDS)
            except ControlError:
                pass  # the report says the same
        thread = threading.Thread(target=ask, args=(self.label,), daemon=True)
        self._syncs.append(thread)
        thread.start()
        return self.label

    def report(self, label: int) -> Event:
        """How the sync ended, committed or not."""
        def ended() -> Optional[Event]:
            return next((event["report"] for event in self.watch.events
                         if event["event"] == "epoch.end" and event["report"]["label"] == label),
                        None)
        return self.watch.until(ended, "end of sync %d" % label)

    def sync(self) -> Event:
        return self.report(self.start_sync())

    def close(self) -> None:
        """After the coordinator's end."""
        self.control.close()
        self.watch.join()
        for thread in self._syncs:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive(), "a sync call was never answered"


class Cluster(Session):
    """The launcher, held for control, with all members in."""

    def __init__(self, *flags: str, workers: int = 2) -> None:
        self.launcher = Process("cluster", "--epochs=0", "--hold", "--workers=%d" % workers,
                                "--devices=none", *flags)
        try:
            endpoint = self.launcher.wait_line(r"^coordinator at (tcp://\S+)$").group(1)
            super().__init__(endpoint)
            self.wait_members(workers + 1)
        except BaseException:
            self.launcher.end()
            raise

    def pid(self, member: str) -> int:
        """Of "worker-1", "trainer-0" or "coordinator"."""
        role, _, rank = member.partition("-")
        for pid, command in children(self.launcher.pid).items():
            if os.path.basename(command[0]) != role:
                continue
            if role != "worker" or "--rank=" + rank in command:
                return pid
        raise AssertionError("no process of " + member)

    def end(self) -> None:
        self.launcher.signal(signal.SIGTERM)
        try:
            self.launcher.wait()
        finally:
            self.launcher.end()
            self.close()


def version(text: str) -> Tuple[int, ...]:
    """In their order: "3.17" comes after "3.4"."""
    return tuple(int(part) for part in text.split("."))


def wrong_with(report: Event, workers: int) -> str:
    """Empty when the epoch is committed and `workers` workers hold the source's bytes."""
    if not report["committed"]:
        return "not committed: " + json.dumps(report)
    held = [(w["digest"], w["verified"], w["version"]) for w in report["workers"]]
    good = (report.get("digest"), True, report["version"])
    if held != [good] * workers or not report.get("digest"):
        return "not verified: " + json.dumps(report)
    return ""
