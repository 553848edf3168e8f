"""control.py and actors.py used wrongly: one line that names the thing, and no traceback."""

import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
from typing import List, Optional, Tuple

from examples import actors, control
from tests.integration.processes import PATIENCE_SECONDS
from tests.integration.roles import Roles

SCRIPTS = (("control.py", ["status"]), ("actors.py", ["list"]))
KEY = "a" * 40
ENDPOINT = "tcp://127.0.0.1:1"  # for what is found out before


class ScriptsTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def said(self, code: int, script: str, *arguments: str, endpoint: str = ENDPOINT) -> str:
        """What a script says on stderr and ends with `code`; in this process, which is quicker."""
        main = control.main if script == "control.py" else actors.main
        with contextlib.redirect_stderr(io.StringIO()) as stderr:
            try:
                got = main(["--endpoint", endpoint, *arguments])
            except SystemExit as bad_usage:
                got = bad_usage.code
        self.assertEqual(got, code, stderr.getvalue())
        return stderr.getvalue()

    def both(self, code: int, *flags: str, endpoint: str = ENDPOINT) -> List[str]:
        return [self.said(code, script, *flags, *command, endpoint=endpoint)
                for script, command in SCRIPTS]

    def start(self, script: str, *arguments: str, endpoint: str = ENDPOINT,
              path: str = "") -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "examples/" + script, "--endpoint", endpoint, *arguments],
            env=dict(os.environ, PYTHONPATH=path), text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def ends(self, process: "subprocess.Popen[str]", code: int) -> str:
        """What it says on stderr, which is no traceback."""
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
        self.assertNotIn("Traceback", said)
        self.assertEqual(process.returncode, code, said)
        return said

    def write(self, content: bytes) -> str:
        path = os.path.join(self.folder, "keys")
        with open(path, "wb") as file:
            file.write(content)
        return path


class MisuseTest(ScriptsTest):
    def test_keys_files_that_are_none(self) -> None:
        cases: Tuple[Tuple[bytes, str], ...] = (
            (b"", "no line with the public key"),
            (b"public " + KEY.encode(), "no line with the secret key"),
            (b"# a note\nwords of three\n", "line 2"),
            (b"public short\n", "line 1"),
            (b"\xff\xfe", "no text"),
            (b"public %s\nsecret ~%s\n" % (KEY.encode(), KEY[1:].encode()), "Z85"))
        for content, named in cases:
            for said in self.both(1, "--keys", self.write(content)):
                self.assertIn(named, said)
                self.assertNotIn(KEY[1:], said)

    def test_keys_files_that_cannot_be_read(self) -> None:
        for path, why in (("missing.keys", "No such file"), (self.folder, "Is a directory")):
            for said in self.both(1, "--keys", path):
                self.assertIn(path, said)
                self.assertIn(why, said)

    def test_endpoints_that_are_none(self) -> None:
        for endpoint in ("nonsense", "tcp://127.0.0.1", "tcp://127.0.0.1:65536",
                         "tcp://127.0.0.1:0", "tcp://127.0.0.1:http", "udp://127.0.0.1:5",
                         os.fsdecode(b"tcp://\xff:5")):
            for said in self.both(1, endpoint=endpoint):
                self.assertIn("endpoint tcp" if "tcp" in endpoint else endpoint, said)

    def test_times_that_are_none(self) -> None:
        for value in ("0", "-1", "nan", "inf", "1e300", "soon"):
            for said in self.both(2, "--timeout=" + value):
                self.assertIn("--timeout", said)
        self.assertIn("--wait", self.said(2, "control.py", "sync", "--wait=nan"))

    def test_numbers_that_are_none(self) -> None:
        for command, flag in (("reports", "--count"), ("events", "--count"), ("sync", "--label"),
                              ("cancel", "--label"), ("limits", "--buffer-bytes"),
                              ("limits", "--buffer-count"), ("limits", "--min-replicas")):
            for value in ("-1", "x", "", "18446744073709551616", "9" * 5000, "\u00b2"):
                said = self.said(2, "control.py", command, "%s=%s" % (flag, value))
                self.assertIn(flag, said)

    def test_what_msgpack_cannot_carry(self) -> None:
        roles = Roles()
        self.addCleanup(roles.end)
        endpoint = roles.endpoint
        for value in (str(1 << 64), '"\\ud800"', "[" * 700 + "]" * 700):
            said = self.said(1, "actors.py", "call", "coordinator", "status", value,
                             endpoint=endpoint)
            self.assertIn("cannot be sent", said)
        said = self.said(1, "control.py", "drain", os.fsdecode(b"\xff"), endpoint=endpoint)
        self.assertIn("cannot be sent", said)
        self.assertIn("JSON", self.said(2, "actors.py", "call", "a", "b", "[" * 50_000))

    def test_an_answer_that_nobody_takes(self) -> None:
        roles = Roles()
        self.addCleanup(roles.end)
        for script, command in SCRIPTS:
            for path, code in (("/dev/full", 1), (None, 0)):
                said = self.with_stdout(path, script, command, roles.endpoint, code)
                self.assertEqual("cannot write" in said, path is not None)

    def with_stdout(self, path: Optional[str], script: str, command: List[str], endpoint: str,
                    code: int) -> str:
        """Runs it with this stdout, or with a pipe whose reader has gone."""
        reader, writer = os.pipe()
        os.close(reader)
        if path is not None:
            os.close(writer)
            writer = os.open(path, os.O_WRONLY)
        done = subprocess.run(
            [sys.executable, "examples/" + script, "--endpoint", endpoint, *command],
            stdout=writer, stderr=subprocess.PIPE, text=True, timeout=PATIENCE_SECONDS,
            check=False)
        os.close(writer)
        self.assertNotIn("Traceback", done.stderr)
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stderr


class InterruptTest(ScriptsTest):
    def test_while_it_waits_for_an_answer(self) -> None:
        for script, command, code in (("control.py", ["status"], 130),
                                      ("control.py", ["events"], 0), ("actors.py", ["list"], 130)):
            with socket.socket() as server:
                server.bind(("127.0.0.1", 0))
                server.listen()
                server.settimeout(PATIENCE_SECONDS)
                process = self.start(script, *command,
                                     endpoint="tcp://127.0.0.1:%d" % server.getsockname()[1])
                connection, _ = server.accept()  # nobody says hello to it
                process.send_signal(signal.SIGINT)
                self.assertEqual(self.ends(process, code), "")
                connection.close()

    def test_while_libraries_load(self) -> None:
        """In place of pyzmq comes a module that says that it loads, and goes on loading."""
        with open(os.path.join(self.folder, "zmq.py"), "w", encoding="ascii") as module:
            module.write("print('loading', flush=True)\nimport time\ntime.sleep(3600)\n")
        for script, command in SCRIPTS:
            process = self.start(script, *command, path=self.folder)
            assert process.stdout
            self.assertEqual(process.stdout.readline(), "loading\n")
            process.send_signal(signal.SIGINT)
            self.assertEqual(self.ends(process, -signal.SIGINT), "")


if __name__ == "__main__":
    unittest.main()
