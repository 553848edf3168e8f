"""Bad files and flags: an exit code that is not 0, an error that names the thing, no hang."""

import os
import socket
import tempfile
import time
import unittest
from typing import Any, Dict, List

from tests.integration import weights
from tests.integration.processes import Process, run
from tests.integration.roles import Roles

DATA = b"0123456789abcdef"


def header(**tensors: Any) -> Dict[str, Any]:
    """A safetensors header of (dtype, shape, begin, end) rows."""
    return {name: {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
            for name, (dtype, shape, begin, end) in tensors.items()}


GOOD = header(first=("U8", [8], 0, 8), second=("U8", [8], 8, 16))


class BadInputTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def check(self, flags: List[str], *named: str) -> None:
        """The cluster refuses `flags` and names all of `named`."""
        began = time.monotonic()
        process = run("cluster", "--epochs=1", *flags)
        said = "\n".join(process.err)
        print("%6.2f s, exit code %d: %s" % (time.monotonic() - began, process.code, said))
        self.assertIn(process.code, (1, 2), process.text())
        for name in named:
            self.assertIn(name, said)

    def test_safetensors(self) -> None:
        good = weights.safetensors_bytes(GOOD, DATA)
        first = ("U8", [8], 0, 8)
        cases = {
            "no_header": (good[:5], "no_header"),
            "cut_header": (good[:40], "cut_header"),
            "cut_data": (good[:-1], "cut_data"),
            "long_header": (weights.safetensors_bytes(GOOD, DATA, 1 << 60), "long_header"),
            "short_header": (weights.safetensors_bytes(GOOD, DATA, 10), "short_header"),
            "no_json": (weights.safetensors_bytes(b"{" * 64, DATA), "no_json"),
            "overlap": (weights.safetensors_bytes(
                header(first=first, second=("U8", [12], 4, 16)), DATA), "second"),
            "out_of_range": (weights.safetensors_bytes(
                header(first=first, second=("U8", [8], 8, 16), third=("U8", [8], 16, 24)), DATA),
                "third"),
            "lying_shape": (weights.safetensors_bytes(
                header(first=first, second=("U8", [9], 8, 16)), DATA), "second"),
            "unknown_dtype": (weights.safetensors_bytes(
                header(first=first, second=("Q7", [8], 8, 16)), DATA), "Q7"),
            "twice": (weights.safetensors_bytes(
                b'{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},'
                b'"a":{"dtype":"U8","shape":[8],"data_offsets":[8,16]}}', DATA), '"a"'),
        }
        for name, (content, named) in cases.items():
            with self.subTest(name):
                path = weights.write(self.folder, name + ".safetensors", content)
                self.check(["--model=" + path], name, named)

    def test_a_tensor_in_two_files(self) -> None:
        content = weights.safetensors_bytes(GOOD, DATA)
        paths = [weights.write(self.folder, name, content) for name in ("x.st", "y.st")]
        self.check(["--model=" + path for path in paths], "first", "x.st", "y.st")

    def test_files(self) -> None:
        self.check(["--model=" + self.folder + "/missing.safetensors"], "missing.safetensors")
        self.check(["--model=" + self.folder], self.folder)
        self.check(["--shapes=" + weights.write(self.folder, "bad.json", b"[[1")], "bad.json")
        self.check(["--shapes=" + weights.write_shapes(self.folder, [["w", "F17", [2]]])], "F17")
        self.check(["--shapes=" + weights.write_shapes(self.folder, [["w", "F32", [-2]]])], "w")
        self.check(["--report=" + self.folder + "/no/such/report"], "no/such/report")
        self.check(["--report=/dev/full"], "/dev/full")

    def test_flags(self) -> None:
        self.check(["--workers=0"], "--workers")
        self.check(["--workers=3", "--replica-size=2"], "3", "--replica-size 2")
        self.check(["--no-such-flag"], "--no-such-flag")
        self.check(["--install=upside-down"], "--install")
        self.check(["--worker-limits=1,2,3"], "--worker-limits")
        self.check(["--worker-limits=many"], "many")
        self.check(["--devices=0,1"], "--devices", "2 GPUs", "2 workers")
        self.check(["--devices=0,none,1"], "--devices", "none")
        self.check(["--epochs=-1"], "--epochs")
        self.check(["--buffers=0"], "buffer")
        self.check(["--buffers=65"], "65")
        self.check(["--buffer-bytes=0"], "buffer")
        self.check(["--buffer-bytes=255"], "255")
        self.check(["--worker-limits=100,100"], "--worker-limits", "100", "256")
        self.check(["--endpoint=nonsense"], "nonsense")
        self.check(["--endpoint=tcp://127.0.0.1:99999"], "99999")
        self.check(["--endpoint=tcp://127.0.0.1:http"], "http")

    def test_port_in_use(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            endpoint = "tcp://127.0.0.1:%d" % taken.getsockname()[1]
            self.check(["--endpoint=" + endpoint], endpoint, "in use")

    def test_trainer_and_worker_disagree(self) -> None:
        rows = [["same", "F32", [4]], ["weight", "F32", [2, 3]]]
        cases = {
            "name": ([rows[0], ["bias", "F32", [2, 3]]], ["weight"]),
            "dtype": ([rows[0], ["weight", "BF16", [2, 3]]], ["weight", "F32", "BF16"]),
            "shape": ([rows[0], ["weight", "F32", [3, 2]]], ["weight", "[2, 3]", "[3, 2]"]),
            "more": (rows + [["extra", "U8", [1]]], ["extra"]),
        }
        trained = weights.write_shapes(self.folder, rows, "trained.json")
        for name, (expected, named) in cases.items():
            with self.subTest(name):
                self.refused(trained, weights.write_shapes(self.folder, expected), named)
        self.assertTrue(os.path.exists(trained))

    def ends_refused(self, process: Process, *named: str) -> None:
        """A member whose own refusal ends it."""
        code = process.wait()
        said = "\n".join(process.err)
        print("exit code %d: %s" % (code, said))
        self.assertEqual(code, 1, process.text())
        for name in named:
            self.assertIn(name, said)

    def test_members_that_the_coordinator_refuses(self) -> None:
        roles = Roles()
        self.addCleanup(roles.end)
        roles.trainer()
        roles.worker(0)
        roles.session.wait_members(2)
        self.ends_refused(roles.worker(1, "--model-name=other"), '"other"', '"default"')
        self.ends_refused(roles.trainer("--name=intruder"), "rank 0", "trainer-0")
        self.ends_refused(roles.worker(0, "--name=intruder"), "rank 0", "worker-0")
        self.assertEqual(len(roles.session.members()), 2)
        roles.end()

    def test_addresses_that_members_cannot_use(self) -> None:
        for program in ("worker", "trainer"):
            process = run(program, "--coordinator=tcp://127.0.0.1:99999")
            self.assertEqual(process.code, 2, process.text())
            self.assertIn("99999", process.text())

    def refused(self, trained: str, expected: str, named: List[str]) -> None:
        roles = Roles()
        self.addCleanup(roles.end)
        roles.trainer("--shapes=" + trained)
        roles.worker(0, "--expect-shapes=" + expected)
        roles.session.wait_members(2)
        report = roles.session.sync()
        print("refused after %.3f s: %s" % (report["seconds"], report["error"]))
        self.assertFalse(report["committed"])
        self.assertEqual(report["culprit"], "worker-0")
        for name in named:
            self.assertIn(name, report["error"])
        self.assertLess(report["seconds"], 10, "the bar is 1 s on an idle machine")
        roles.end()


if __name__ == "__main__":
    unittest.main()
