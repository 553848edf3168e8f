#!/usr/bin/env python3
"""Controls a packcast cluster from a script: needs pyzmq and msgpack, and nothing of packcast.

    control.py --endpoint tcp://127.0.0.1:5555 status

Each answer is one JSON object a line. Exit code: 0, 1 (the error is on stderr), 2 (bad usage) or
130 (Ctrl-C, but for events: 0).
The class Control may be copied or imported; docs/protocol.md describes what it speaks.
"""

import argparse
import collections
import contextlib
import itertools
import json
import os
import random
import signal
import sys
import time
from typing import Any, Callable, Deque, Dict, Iterator, List, Optional, Tuple

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while libraries load: no traceback

import msgpack
import zmq
from zmq.utils.monitor import recv_monitor_message

VERSION = [1, 0]
CODES = ("ok,invalid argument,not found,already exists,failed precondition,resource exhausted,"
         "deadline exceeded,cancelled,aborted,unavailable,peer died,data loss,unimplemented,"
         "permission denied,internal,busy,stale").split(",")
INVALID, NOT_FOUND, DEADLINE, UNAVAILABLE, PEER_DIED = 1, 2, 6, 9, 10
UNIMPLEMENTED, PERMISSION = 12, 13
OUTCOMES = ("unknown", "not executed", "may have been executed", "executed")
MAYBE_EXECUTED = 2
SILENCE_SECONDS = 5.0  # between events, before we ask whether the coordinator still answers
SECONDS_MAX = 30 * 24 * 3600.0  # the longest deadline of a call
UINT_MAX = (1 << 64) - 1
CURVE_KEY_CHARACTERS = 40
INTERRUPTED = 130  # the exit code, as of a shell's commands


class ControlError(Exception):
    """code: docs/protocol.md, "Status codes"; outcome: whether the failed call ran."""

    def __init__(self, code: int, message: Optional[str], outcome: int = 1) -> None:
        super().__init__("%s: %s" % (dict(enumerate(CODES)).get(code, code), message))
        self.code, self.outcome = code, outcome


def read_keys(path: str) -> Tuple[bytes, bytes, bytes]:
    """What Control takes as `curve`, from a file that //tools/keys made. Raises ControlError."""
    keys: Dict[str, bytes] = {}
    try:
        with open(path, encoding="ascii") as file:
            for number, line in enumerate(file, 1):
                if line.strip() and not line.startswith("# "):
                    what, key = line.split()
                    if len(key) != CURVE_KEY_CHARACTERS:
                        raise ValueError
                    keys.setdefault(what, key.encode())
        return keys.get("server", keys["public"]), keys["public"], keys["secret"]
    except OSError as error:
        why = error.strerror
    except KeyError as missing:
        why = "it has no line with the %s key" % missing.args
    except UnicodeDecodeError:
        why = "it is no text"
    except ValueError:
        why = "line %d is no word and a key of %d characters" % (number, CURVE_KEY_CHARACTERS)
    raise ControlError(INVALID, "keys file %s: %s; bazel run //tools/keys -- new FILE makes one"
                       % (path, why))


def check_port(endpoint: str) -> None:
    """ZeroMQ finds the rest; of a port beyond 65535 it would take the lower 16 bits."""
    port = endpoint.rpartition(":")[2]
    if not endpoint.startswith("tcp://") or not (port.isascii() and port.isdigit()):
        return
    if len(port) > 5 or not 0 < int(port) < 1 << 16:
        raise ControlError(INVALID, "endpoint %s: port %s is not in 1 to 65535" % (endpoint, port))


class Control(contextlib.AbstractContextManager):  # type: ignore[type-arg]
    """A connection to one life of a coordinator. One thread at a time; every wait is bounded.

    curve: (server's public key, own public key, own secret key) as Z85, where CURVE is used.
    """

    def __init__(self, endpoint: str, timeout: float = 10.0, cluster: str = "packcast",
                 actor: str = "coordinator",
                 curve: Optional[Tuple[bytes, bytes, bytes]] = None) -> None:
        check_port(endpoint)
        self._endpoint = endpoint
        self._me = ["control", random.getrandbits(63) | 1]
        self._peer: List[Any] = [actor, 0]
        self._events: Deque[Dict[str, Any]] = collections.deque()
        self._last_id = 0
        self._socket: Any = None
        self._context = zmq.Context()
        try:
            self._connect(endpoint, curve)
            self._hello(cluster, time.monotonic() + timeout)
        except (zmq.ZMQError, UnicodeEncodeError) as error:
            raise ControlError(INVALID, "endpoint %s: %s; tcp://HOST:PORT is one"
                               % (endpoint, error)) from None
        finally:
            if not self._peer[1]:
                self.close()

    def _connect(self, endpoint: str, curve: Optional[Tuple[bytes, bytes, bytes]]) -> None:
        self._socket = self._context.socket(zmq.DEALER)
        for option, value in (
                (zmq.LINGER, 100),  # the default hangs at the end when nobody listens
                (zmq.IMMEDIATE, 1),  # never queue for the coordinator's successor
                (zmq.SNDTIMEO, 0),  # the connection may end between poll and send
                (zmq.HEARTBEAT_IVL, 1000), (zmq.HEARTBEAT_TIMEOUT, 4000),  # finds frozen machines
                (zmq.MAXMSGSIZE, 16 << 20), (zmq.RECONNECT_IVL, 100)):
            self._socket.setsockopt(option, value)
        if curve:
            try:
                (self._socket.curve_serverkey, self._socket.curve_publickey,
                 self._socket.curve_secretkey) = curve
            except zmq.ZMQError:
                raise ControlError(INVALID, "our CURVE keys are not Z85") from None
        self._monitor = self._socket.get_monitor_socket(
            zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_AUTH
            | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
        self._socket.connect(endpoint)

    def call(self, method: str, body: Any = None, timeout: float = 10.0,
             to: Optional[str] = None) -> Any:
        """The reply's body. Raises ControlError, at the latest after `timeout` seconds.

        to: another actor of the same node; "" is the node itself.
        """
        deadline = time.monotonic() + timeout
        self._last_id += 1
        call_id = self._last_id
        self._send({"k": "call", "from": self._me, "to": self._peer if to is None else [to, 0],
                    "id": call_id, "m": method, "ttl": max(1, int(timeout * 1000))},
                   {} if body is None else body, deadline)
        while True:
            message = self._receive(deadline)
            if message is None:
                raise ControlError(DEADLINE, "no answer within %g s" % timeout, MAYBE_EXECUTED)
            envelope, answer = message
            if envelope.get("id") != call_id:
                continue  # the late answer to a call that was given up
            if envelope.get("code"):
                raise ControlError(envelope["code"], envelope.get("msg"), envelope.get("out", 0))
            return answer

    def events(self) -> Iterator[Dict[str, Any]]:
        """What happens from now on, for ever. Raises when the coordinator goes away."""
        self.call("subscribe")
        while True:
            while self._events:
                yield self._events.popleft()
            if self._receive(time.monotonic() + SILENCE_SECONDS) is None:
                self.call("status")  # nothing happens, or nobody is there: raises then

    def close(self) -> None:
        if self._socket is None:
            self._context.destroy()
        elif not self._socket.closed:
            try:
                self._socket.send(msgpack.packb({"v": VERSION, "k": "bye"}))
            except zmq.Again:
                pass  # not connected: nobody to say goodbye to
            self._socket.disable_monitor()
            self._context.destroy()

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _hello(self, cluster: str, deadline: float) -> None:
        hello = {"cluster": cluster, "node": "control-%d" % os.getpid(),
                 "incarnation": self._me[1], "beats": False, "actor": self._peer[0]}
        why = ControlError(DEADLINE, "no welcome came: it is no packcast node, or it is stuck")
        while time.monotonic() < deadline:
            self._send({"k": "hello"}, hello, deadline)
            envelope, body = self._receive(min(deadline, time.monotonic() + 1.0)) or ({}, None)
            if envelope.get("k") == "welcome" and isinstance(body, dict):
                self._peer[1] = body.get("actor_incarnation", 0) or body.get("incarnation", 0)
                return
            if envelope.get("k") == "refused":
                why = ControlError(envelope.get("code", 14), envelope.get("msg"))
                if why.code != NOT_FOUND:  # else the actor may be about to start
                    raise why
                time.sleep(0.1)
        raise why

    def _send(self, envelope: Dict[str, Any], body: Any, deadline: float) -> None:
        try:
            frames = [msgpack.packb(dict(envelope, v=VERSION)), msgpack.packb(body)]
        except (OverflowError, TypeError, ValueError) as error:  # of one thing in it
            raise ControlError(INVALID, "this cannot be sent: %s" % error) from None
        while True:
            if self._socket.poll(50, zmq.POLLOUT):
                try:
                    self._socket.send_multipart(frames)
                    return
                except zmq.Again:
                    pass
            self._check_connection()
            if time.monotonic() >= deadline:
                raise ControlError(UNAVAILABLE, "nothing answers at %s" % self._endpoint)

    def _receive(self, deadline: float) -> Optional[Tuple[Dict[str, Any], Any]]:
        """The next message but beats; an event is also put aside. None: the time is up."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._monitor, zmq.POLLIN)
        while True:
            left = deadline - time.monotonic()
            ready = dict(poller.poll(int(left * 1000) + 1)) if left > 0 else {}
            if not ready:
                return None
            if self._socket not in ready:  # what came before a connection's end is read first
                self._check_connection()
                continue
            envelope, body = self._decode(self._socket.recv_multipart())
            if envelope.get("k") == "tell" and envelope.get("m") == "event":
                self._events.append(body)
            if envelope.get("k") == "bye":
                self._on_bye(envelope)
            if envelope.get("k") in ("welcome", "refused", "reply", "unsupported", "tell"):
                return envelope, body

    def _on_bye(self, envelope: Dict[str, Any]) -> None:
        """The end of the node, or of a life of an actor there."""
        actor = envelope.get("from", ["", 0])[0]
        if actor in ("", self._peer[0]):
            raise ControlError(PEER_DIED, "%s said goodbye" % (actor or "the node"),
                               MAYBE_EXECUTED)

    @staticmethod
    def _decode(frames: List[bytes]) -> Tuple[Dict[str, Any], Any]:
        try:
            envelope = msgpack.unpackb(frames[0])
            body = msgpack.unpackb(frames[1]) if len(frames) > 1 and frames[1] else None
            major = envelope["v"][0]
        except (ValueError, TypeError, KeyError, IndexError, msgpack.UnpackException):
            return {}, None  # ignored: the deadline will tell
        if major != VERSION[0] and envelope.get("k") != "refused":
            raise ControlError(UNIMPLEMENTED, "the other side speaks version %s" % envelope["v"])
        return envelope, body

    def _check_connection(self) -> None:
        while self._monitor.poll(0):
            if recv_monitor_message(self._monitor)["event"] != zmq.EVENT_DISCONNECTED:
                raise ControlError(PERMISSION, "handshake failed: other CURVE keys?")
            if self._peer[1]:
                raise ControlError(PEER_DIED, "the connection was closed", MAYBE_EXECUTED)


def natural(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and int(text) <= UINT_MAX):
        raise argparse.ArgumentTypeError("%r is not a whole number from 0 to 2^64 - 1" % text)
    return int(text)


def seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not 0 < number <= SECONDS_MAX:  # not-a-number neither
        raise argparse.ArgumentTypeError(
            "%r is not a number of seconds above 0 and up to %d, which are 30 days"
            % (text, SECONDS_MAX))
    return number


def parse(arguments: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--endpoint", required=True, help="of the coordinator: tcp://host:port")
    parser.add_argument("--cluster", default="packcast", help="the cluster's name")
    parser.add_argument("--timeout", type=seconds, default=10.0, help="seconds for each answer")
    parser.add_argument("--keys", help="file with our CURVE keys (bazel run //tools/keys)")
    commands = parser.add_subparsers(dest="command", required=True)
    add = {name: commands.add_parser(name, help=text).add_argument for name, text in (
        ("status", "what the coordinator does now"),
        ("members", "one line for each rank"),
        ("contract", "of the present epoch, or of the last one"),
        ("reports", "of the last epochs, oldest first"),
        ("sync", "ask the trainer for a sync, and wait for its end"),
        ("cancel", "a sync that runs or is queued"),
        ("limits", "show the policy, changed where options say so"),
        ("drain", "leave a replica out of epochs"),
        ("readmit", "take a drained replica back"),
        ("events", "follow what happens, until Ctrl-C"),
        ("shutdown", "end the whole cluster"))}
    add["reports"]("--count", type=natural, default=10)
    add["sync"]("--label", type=natural, help="the caller's step number; else the next one")
    add["sync"]("--wait", type=seconds, default=3600.0, help="seconds until we give up")
    add["cancel"]("--label", type=natural, help="which; else the one that runs")
    for name in ("--buffer-bytes", "--buffer-count", "--min-replicas"):
        add["limits"](name, type=natural)
    add["limits"]("--install", choices=("staged", "in-place"))
    add["limits"]("--below-min", choices=("fail", "wait"))
    add["limits"]("--commit", choices=("all", "each"))
    for name in ("drain", "readmit"):
        add[name]("replica")
    add["events"]("--count", type=natural, help="stop after so many")
    return parser.parse_args(arguments)


def arguments_of(flags: argparse.Namespace) -> Dict[str, Any]:
    """The body of a call."""
    names = ("label", "count", "buffer_bytes", "buffer_count", "install", "min_replicas",
             "below_min", "commit", "replica")
    return {n: getattr(flags, n) for n in names if getattr(flags, n, None) is not None}


def answers(control: Control, flags: argparse.Namespace) -> Iterator[Any]:
    if flags.command == "events":
        count = None if flags.count is None else min(flags.count, sys.maxsize)
        yield from itertools.islice(control.events(), count)
        return
    answer = control.call(flags.command, arguments_of(flags), getattr(flags, "wait", flags.timeout))
    yield from answer if isinstance(answer, list) else [answer]


def show(produce: Callable[[], Iterator[Any]], interrupted: int = INTERRUPTED) -> int:
    """Prints what `produce` yields, a line of JSON each, or the error. The exit code."""
    try:
        for answer in produce():
            print(json.dumps(answer, default=lambda data: data.hex()), flush=True)
    except ControlError as error:
        print("%s (%s)" % (error, OUTCOMES[error.outcome % 4]), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return interrupted
    except OSError as error:  # of stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # else whoever reads it has enough
            print("cannot write the answer: %s" % error.strerror, file=sys.stderr)
            return 1
    return 0


def main(arguments: Optional[List[str]] = None) -> int:
    flags = parse(arguments)

    def produce() -> Iterator[Any]:
        curve = read_keys(flags.keys) if flags.keys else None
        with Control(flags.endpoint, flags.timeout, flags.cluster, curve=curve) as control:
            yield from answers(control, flags)
    return show(produce, 0 if flags.command == "events" else INTERRUPTED)


if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
