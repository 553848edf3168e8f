"""What strangers might send to a packcast port."""

import os
import random
import struct
from typing import Any, Iterator, List, Set, Tuple

import msgpack
import zmq

# ZMTP 3.0: signature, version, mechanism, as-server, filler.
GREETING = b"\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL" + bytes(48)
_COMMAND = b"\5READY\x0bSocket-Type\0\0\0\6DEALER"
READY = b"\4" + bytes([len(_COMMAND)]) + _COMMAND
OVERSIZED = 20 << 20  # above the limit of a frame on any lane


def ports(pids: List[int]) -> Set[int]:
    """The TCP ports that these processes listen on."""
    inodes = set()
    for pid in pids:
        for descriptor in os.listdir("/proc/%d/fd" % pid):
            try:
                target = os.readlink("/proc/%d/fd/%s" % (pid, descriptor))
            except FileNotFoundError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if not os.path.exists(table):
            continue
        with open(table, encoding="utf-8") as file:
            for fields in (line.split() for line in file.readlines()[1:]):
                if fields[3] == "0A" and fields[9] in inodes:
                    found.add(int(fields[1].rsplit(":", 1)[1], 16))
    return found


def streams(generator: random.Random) -> Iterator[bytes]:
    """For a TCP connection."""
    yield b""
    yield b"GET / HTTP/1.1\r\nHost: packcast\r\n\r\n"
    yield b"\xff" * 64
    yield GREETING[:30]
    yield GREETING + b"\4\xff" + bytes(64)  # a command that is none
    yield GREETING + READY + b"\2" + struct.pack(">Q", 1 << 62)  # a frame of 4 EiB
    yield GREETING + READY + b"\0\x05hello" * 100
    for size in (1, 100, 5000):
        yield generator.randbytes(size)
        yield GREETING + READY + generator.randbytes(size)


def envelope(kind: Any, **fields: Any) -> bytes:
    return msgpack.packb({"v": [1, 0], "k": kind, **fields})


def introduction(version: Tuple[int, int] = (1, 0), cluster: str = "packcast") -> List[bytes]:
    body = {"cluster": cluster, "node": "stranger", "incarnation": 7, "beats": False,
            "actor": "coordinator"}
    return [msgpack.packb({"v": list(version), "k": "hello", "from": ["stranger", 7]}),
            msgpack.packb(body)]


def messages(generator: random.Random) -> Iterator[List[bytes]]:
    """For a ZeroMQ connection."""
    yield [b""]
    yield [b"", b""]
    yield [b"x"] * 100
    yield [b"\xdd\xff\xff\xff\xf0"]  # an array of 4 billion, in 5 bytes
    yield [b"\x91" * 100_000]
    yield [b"\xc6\x7f\xff\xff\xff"]
    yield [envelope("tell", m="x"), b"\x91" * 100_000]
    yield [msgpack.packb(None)]
    yield [msgpack.packb({"v": "one", "k": "hello"})]
    yield [msgpack.packb({"v": [1, 0]})]
    yield [bytes(OVERSIZED)]
    yield [envelope("hello"), msgpack.packb({"cluster": 1, "node": [], "incarnation": "x"})]
    yield introduction()
    me = {"from": ["stranger", 7], "to": ["coordinator", 0]}
    for number, method in enumerate(("join", "offer", "staged", "installed", "status", "sync",
                                     "limits", "no.such", "manifest.part", "subscribe")):
        for body in (None, 1, "text", [1, 2], {"model": 3, "key": [1]}, {"buffer_bytes": -1},
                     {"label": "one"}):
            # A sync must not start: its label is wrong or it has none that a member asked for.
            if method == "sync" and body != {"label": "one"}:
                continue
            if method == "subscribe" or (method == "limits" and body is None):
                continue
            yield [envelope("tell", m=method, **me), msgpack.packb(body)]
            yield [envelope("call", m=method, id=number + 1, ttl=1000, **me), msgpack.packb(body)]
    yield [envelope("call", m="status", id=0, **me)]
    yield [envelope("reply", id=1, **me)]
    yield [envelope("beat", **me), msgpack.packb({"coordinator": 1 << 63})]
    yield [envelope("bye", **{"from": ["coordinator", 1]})]
    yield [envelope("tell", m="x" * 100_000, **me)]
    yield [envelope("tell", m="x", must=["surprise"], surprise=1, **me)]
    for _ in range(200):
        yield [generator.randbytes(generator.randrange(40))
               for _ in range(generator.randrange(1, 4))]


def dealer(context: zmq.Context, port: int) -> zmq.Socket:
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 1000)
    socket.setsockopt(zmq.SNDTIMEO, 10_000)
    socket.setsockopt(zmq.RCVTIMEO, 60_000)
    socket.connect("tcp://127.0.0.1:%d" % port)
    return socket
