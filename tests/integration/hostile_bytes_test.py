"""Strangers at the ports of a live cluster, which goes on working."""

import random
import socket
import tempfile
import unittest
from typing import List

import msgpack
import zmq

from tests.integration import hostile, weights
from tests.integration.cluster import Cluster, wrong_with
from tests.integration.processes import children


class HostileBytesTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.cluster = Cluster("--shapes=" + weights.mebibytes(folder.name, 16))
        self.addCleanup(self.cluster.end)
        self.assertFalse(wrong_with(self.cluster.sync(), 2))
        self.pids = [self.cluster.launcher.pid, *children(self.cluster.launcher.pid)]
        control = int(self.cluster.endpoint.rsplit(":", 1)[1])
        self.ports = {control}
        self.bulk_ports = hostile.ports(self.pids) - self.ports
        self.assertTrue(self.bulk_ports, "the trainer's bulk lane listens too")
        self.context = zmq.Context()
        self.addCleanup(self.context.destroy, 0)

    def check_works(self) -> None:
        for _ in range(2):
            report = self.cluster.sync()
            self.assertEqual((wrong_with(report, 2), report["attempt"]), ("", 1))
        self.assertEqual(self.pids[1:], list(children(self.cluster.launcher.pid)),
                         self.cluster.launcher.text())

    def test_bytes(self) -> None:
        opened: List[socket.socket] = []
        for port in self.ports:
            for number, stream in enumerate(hostile.streams(random.Random(port))):
                connection = socket.create_connection(("127.0.0.1", port), 10.0)
                self.addCleanup(connection.close)
                opened.append(connection)
                try:
                    connection.sendall(stream)
                except ConnectionError:
                    pass  # refused before the end, as it should be
                if number % 2:
                    connection.close()
        self.check_works()

    def test_bulk_lane_lets_nobody_in(self) -> None:
        # Its workers have joined. On this host a connection is made at once, or not at all.
        for port in self.bulk_ports:
            with self.assertRaises(TimeoutError):
                socket.create_connection(("127.0.0.1", port), 0.3)
        self.check_works()

    def test_messages(self) -> None:
        for port in self.ports:
            for together in (True, False):
                stranger = hostile.dealer(self.context, port)
                for message in hostile.messages(random.Random(port)):
                    if not together:
                        stranger.close()
                        stranger = hostile.dealer(self.context, port)
                    stranger.send_multipart(message)
                stranger.close()
        self.check_works()

    def refusal(self, hello: List[bytes]) -> dict:
        stranger = hostile.dealer(self.context, int(self.cluster.endpoint.rsplit(":", 1)[1]))
        stranger.send_multipart(hello)
        answer = msgpack.unpackb(stranger.recv_multipart()[0])
        stranger.close()
        self.assertEqual(answer["k"], "refused")
        return answer

    def test_hellos_that_are_refused(self) -> None:
        self.assertIn("version", self.refusal(hostile.introduction(version=(2, 0)))["msg"])
        self.assertIn("other", self.refusal(hostile.introduction(cluster="other"))["msg"])
        self.check_works()


if __name__ == "__main__":
    unittest.main()
