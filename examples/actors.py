#!/usr/bin/env python3
"""Talks to the actors of a packcast process from a script: needs pyzmq and msgpack only.

    actors.py --endpoint tcp://127.0.0.1:5555 list
    actors.py --endpoint tcp://127.0.0.1:5555 describe scores
    actors.py --endpoint tcp://127.0.0.1:5555 call scores add '"ada"' 3
    actors.py --endpoint tcp://127.0.0.1:5555 tell scores add '"ada"' 3
    actors.py --endpoint tcp://127.0.0.1:5555 watch scores

Arguments are JSON. Each answer is one line of JSON. Exit code: 0, 1 (the error is on stderr), 2
(bad usage) or 130 (Ctrl-C). The class Actors may be imported; docs/protocol.md describes what it
speaks.
"""

import argparse
import json
import signal
import sys
import time
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while libraries load: no traceback

try:
    from control import Control, ControlError, read_keys, seconds, show  # beside this script
except ModuleNotFoundError as error:
    if error.name != "control":
        raise
    from examples.control import Control, ControlError, read_keys, seconds, show

LOOK_SECONDS = 0.1  # between looks at what a watch has brought
SILENCE_SECONDS = 5.0  # between questions whether the process still answers
NOT_FOUND, DIED = 2, 10  # docs/protocol.md, "Status codes"


class Actors(Control):
    """A connection to one process. One thread at a time; every wait but watch is bounded."""

    def __init__(self, endpoint: str, timeout: float = 10.0, cluster: str = "packcast",
                 curve: Optional[Tuple[bytes, bytes, bytes]] = None) -> None:
        self._ends: List[Dict[str, Any]] = []
        super().__init__(endpoint, timeout, cluster, actor="", curve=curve)

    def list(self) -> List[Dict[str, Any]]:
        """Name, incarnation and state of each actor."""
        return self.call("$list", to="")  # type: ignore[no-any-return]

    def describe(self, actor: str) -> Dict[str, Any]:
        """Its state, queues, labels, and methods with the types of their arguments."""
        return self.call("$describe", to=actor)  # type: ignore[no-any-return]

    def invoke(self, actor: str, method: str, *arguments: Any, timeout: float = 10.0) -> Any:
        """Calls a method of a class's actor and returns its result."""
        return self.call(method, list_of(arguments), timeout, to=actor)

    def tell(self, actor: str, method: str, *arguments: Any, timeout: float = 10.0) -> None:
        """Sends one way: no answer, no error from there."""
        self._send({"k": "tell", "from": self._me, "to": [actor, 0], "m": method},
                   list_of(arguments), time.monotonic() + timeout)

    def watch(self, actor: str) -> Iterator[Dict[str, Any]]:
        """The ends of its lives from now on, until the last one. Raises when the process ends."""
        lives = {entry["incarnation"] for entry in self.list() if entry["name"] == actor}
        if not lives:
            raise ControlError(NOT_FOUND, "no actor %s" % actor)
        return self._follow(actor, lives)

    def _follow(self, actor: str, lives: Set[int]) -> Iterator[Dict[str, Any]]:
        asked = time.monotonic()
        while True:
            for end in self._take_ends():
                if end["actor"] != actor or end.pop("life") not in lives:
                    continue
                if end["event"] == "restarted":
                    lives = {end["incarnation"]}
                yield end
                if end["event"] != "restarted":
                    return
            self._receive(time.monotonic() + LOOK_SECONDS)
            if time.monotonic() - asked >= SILENCE_SECONDS:
                self.list()  # nothing happens, or nobody is there: raises then
                asked = time.monotonic()

    def _take_ends(self) -> List[Dict[str, Any]]:
        ends, self._ends = self._ends, []
        return ends

    def _on_bye(self, envelope: Dict[str, Any]) -> None:
        actor, life = envelope.get("from", ["", 0])
        if not actor:
            super()._on_bye(envelope)
        following = envelope.get("to", ["", 0])[1]
        end = {"actor": actor, "life": life, "cause": envelope.get("msg", ""), "event": "left"}
        if following:
            end.update(event="restarted", incarnation=following)
        elif envelope.get("code") == DIED:
            end.update(event="died")
        self._ends.append(end)


def list_of(arguments: Any) -> List[Any]:
    """A method's body: the array of its arguments."""
    return [*arguments]


def json_value(text: str) -> Any:
    """An argument of a method."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError("%.100r is no JSON: %s" % (text, error)) from None


def parse(arguments: Optional[List[str]]) -> argparse.Namespace:
    """The flags, or exit 2."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--endpoint", required=True, help="tcp://host:port of the process")
    parser.add_argument("--cluster", default="packcast")
    parser.add_argument("--timeout", type=seconds, default=10.0, help="seconds for each answer")
    parser.add_argument("--keys", help="file with our CURVE keys (bazel run //tools/keys)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the actors of the process")
    for name, about in (("describe", "methods, state and queues of an actor"),
                        ("watch", "what becomes of an actor, until it is gone")):
        commands.add_parser(name, help=about).add_argument("actor")
    for name, about in (("call", "call a method"), ("tell", "send a message one way")):
        command = commands.add_parser(name, help=about)
        command.add_argument("actor")
        command.add_argument("method")
        command.add_argument("arguments", nargs="*", type=json_value, metavar="JSON")
    return parser.parse_args(arguments)


def answers(actors: Actors, flags: argparse.Namespace) -> Iterator[Any]:
    """What to print."""
    if flags.command == "list":
        yield from actors.list()
    elif flags.command == "describe":
        yield actors.describe(flags.actor)
    elif flags.command == "watch":
        yield from actors.watch(flags.actor)
    elif flags.command == "call":
        yield actors.invoke(flags.actor, flags.method, *flags.arguments, timeout=flags.timeout)
    else:
        actors.tell(flags.actor, flags.method, *flags.arguments, timeout=flags.timeout)


def main(arguments: Optional[List[str]] = None) -> int:
    """Runs one command."""
    flags = parse(arguments)

    def produce() -> Iterator[Any]:
        curve = read_keys(flags.keys) if flags.keys else None
        with Actors(flags.endpoint, flags.timeout, flags.cluster, curve) as actors:
            yield from answers(actors, flags)
    return show(produce)


if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
