"""control.py against a coordinator that goes away at the worst moment."""

import threading
import unittest
from typing import Any

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


if __name__ == "__main__":
    unittest.main()
