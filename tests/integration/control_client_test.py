"""control.py against a coordinator that goes away at the worst moment."""

import os
import pickle
import tempfile
import threading
import unittest
from typing import Any, List

import msgpack
import zmq

from examples.control import Control, ControlError
from tests.integration.processes import PATIENCE_SECONDS


class StaleSocket:
    """A socket that was writable when it was asked, and is not any more when it is used."""

    def __init__(self, socket: zmq.Socket) -> None:
        self._socket = socket

    def poll(self, timeout: int, flags: int = zmq.POLLIN) -> int:
        return flags if flags == zmq.POLLOUT else self._socket.poll(timeout, flags)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)


class ControlClientTest(unittest.TestCase):
    def setUp(self) -> None:
        """A connected client whose server has gone since."""
        context = zmq.Context()
        server = context.socket(zmq.ROUTER)
        port = server.bind_to_random_port("tcp://127.0.0.1")

        def welcome() -> None:
            peer, envelope, body = server.recv_multipart()
            hello = msgpack.unpackb(body)
            answer = dict(hello, node="fake", incarnation=7, actor_incarnation=7)
            version = msgpack.unpackb(envelope)["v"]
            server.send_multipart([peer, msgpack.packb({"v": version, "k": "welcome"}),
                                   msgpack.packb(answer)])
        thread = threading.Thread(target=welcome)
        thread.start()
        self.control = Control("tcp://127.0.0.1:%d" % port, PATIENCE_SECONDS)
        thread.join()
        server.close(linger=0)
        context.term()
        socket = self.control._socket
        while socket.poll(0, zmq.POLLOUT):
            self.control._monitor.poll(100)
        self.control._socket = StaleSocket(socket)

    def bounded(self, work: Any) -> None:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(PATIENCE_SECONDS)
        self.assertFalse(thread.is_alive(), "it hangs")

    def test_close_does_not_wait_for_a_connection_that_has_ended(self) -> None:
        self.bounded(self.control.close)

    def test_a_call_fails_when_the_connection_ends_before_it_is_sent(self) -> None:
        def call() -> None:
            with self.assertRaises(ControlError):
                self.control.call("status", timeout=2)
            self.control.close()
        self.bounded(call)

    def test_nothing_dangerous_is_left_to_zeromqs_defaults(self) -> None:
        socket = self.control._socket
        self.assertEqual(socket.getsockopt(zmq.IMMEDIATE), 1, "else it queues for the next server")
        self.assertIn(socket.getsockopt(zmq.LINGER), range(1001), "else its end hangs")
        self.assertIn(socket.getsockopt(zmq.MAXMSGSIZE), range(64, 1 << 25), "else unlimited")
        self.assertGreater(socket.getsockopt(zmq.HEARTBEAT_IVL), 0, "else frozen hosts hang it")
        self.assertEqual(socket.getsockopt(zmq.SNDTIMEO), 0)
        self.control.close()


class Trap:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self._path,)


class PickleTest(unittest.TestCase):
    """What a server sends is data. vLLM, SGLang and others ran it."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.trap = os.path.join(folder.name, "trapped")

    def serve(self, answers: List[List[bytes]]) -> str:
        """A server whose answer to every message are all of these, until the test has ended."""
        context = zmq.Context()
        server = context.socket(zmq.ROUTER)
        port = server.bind_to_random_port("tcp://127.0.0.1")
        over = threading.Event()

        def answer() -> None:
            while not over.is_set():
                if server.poll(50):
                    peer = server.recv_multipart()[0]
                    for frames in answers:
                        server.send_multipart([peer, *frames])
            server.close(0)
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        for undo in (context.term, thread.join, over.set):  # the last one first
            self.addCleanup(undo)
        return "tcp://127.0.0.1:%d" % port

    def test_a_pickle_that_a_server_sends_is_not_loaded(self) -> None:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            bait = pickle.dumps(Trap(self.trap), protocol)
            welcome = msgpack.packb({"v": [1, 0], "k": "welcome"})
            reply = msgpack.packb({"v": [1, 0], "k": "reply", "id": 1})
            ours = msgpack.packb({"incarnation": 7, "actor_incarnation": 7})
            endpoint = self.serve([[bait], [bait, bait], [welcome, bait], [welcome, ours],
                                   [reply, bait], [reply, msgpack.packb(bait)]])
            with Control(endpoint, PATIENCE_SECONDS) as control:
                answer = control.call("status", timeout=PATIENCE_SECONDS)
            self.assertIn(answer, (bait, None, b""), "bytes, or nothing that msgpack can read")
            self.assertFalse(os.path.exists(self.trap))
        pickle.loads(bait)
        self.assertTrue(os.path.exists(self.trap), "a good trap")


if __name__ == "__main__":
    unittest.main()
