"""A cluster with CURVE keys: who has them is in, and nobody else."""

import os
import subprocess
import sys
import tempfile
import unittest

from examples.control import Control, ControlError, read_keys
from tests.integration.processes import PATIENCE_SECONDS, Process, run

TRY_SECONDS = 1.0  # how long those try that are not let in


def keys(*arguments: str) -> str:
    """//tools/keys, which must succeed: what it prints."""
    done = subprocess.run(["tools/keys/keys", *arguments], check=True, stdout=subprocess.PIPE,
                          text=True, timeout=PATIENCE_SECONDS)
    return done.stdout.strip()


class KeysTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def hold(self, file: str) -> str:
        """A cluster that stays: its endpoint."""
        cluster = Process("cluster", "--hold", "--epochs=1", "--devices=none", "--keys=" + file)
        self.addCleanup(cluster.end)
        endpoint = cluster.wait_line("^coordinator at (.*)$").group(1)
        cluster.wait_line("^worker-1 is up")
        return endpoint

    def test_one_pair_for_all(self) -> None:
        keys("new", self.path("all"))
        endpoint = self.hold(self.path("all"))
        with Control(endpoint, curve=read_keys(self.path("all"))) as control:
            self.assertEqual(len(control.call("members")), 3)
        script = [sys.executable, "examples/control.py", "--endpoint", endpoint, "--timeout", "5"]
        subprocess.run(script + ["--keys", self.path("all"), "status"], check=True,
                       timeout=PATIENCE_SECONDS)
        # Without keys, with others, and who takes it for another server.
        keys("new", self.path("other"))
        mine, other = read_keys(self.path("all")), read_keys(self.path("other"))
        for curve in (None, (mine[0],) + other[1:], other):
            with self.assertRaises(ControlError):
                with Control(endpoint, timeout=TRY_SECONDS, curve=curve) as control:
                    control.call("status", timeout=TRY_SECONDS)
        with Control(endpoint, curve=mine) as control:
            control.call("sync", {"label": 7}, timeout=PATIENCE_SECONDS)

    def test_a_pair_for_each(self) -> None:
        server = keys("new", self.path("server"))
        client = keys("new", self.path("client"))
        keys("server", self.path("client"), server)
        endpoint = ""
        for is_allowed in (False, True):
            if is_allowed:
                keys("allow", self.path("server"), client)
            coordinator = Process("coordinator", "--keys=" + self.path("server"))
            self.addCleanup(coordinator.end)
            endpoint = coordinator.wait_line("^coordinator at (.*)$").group(1)
            curve = read_keys(self.path("client"))
            if is_allowed:
                with Control(endpoint, curve=curve) as control:
                    self.assertEqual(control.call("members"), [])
            else:
                with self.assertRaises(ControlError):
                    with Control(endpoint, timeout=TRY_SECONDS, curve=curve) as control:
                        control.call("status", timeout=TRY_SECONDS)

    def test_a_file_that_others_can_read_is_refused(self) -> None:
        keys("new", self.path("open"))
        os.chmod(self.path("open"), 0o644)
        process = run("coordinator", "--keys=" + self.path("open"))
        self.assertEqual(process.code, 1)
        self.assertIn("chmod 600", process.text())


if __name__ == "__main__":
    unittest.main()
