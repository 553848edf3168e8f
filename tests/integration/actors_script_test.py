"""examples/actors.py against a program with actors of its own."""

import ast
import json
import subprocess
import sys
import unittest
from typing import Any, List

from examples.actors import Actors
from tests.integration.processes import PATIENCE_SECONDS


class ActorsScriptTest(unittest.TestCase):
    def setUp(self) -> None:
        self.program = subprocess.Popen(["examples/scores"], stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.end)
        assert self.program.stdout
        self.endpoint = self.program.stdout.readline().split()[-1]

    def end(self) -> None:
        self.program.terminate()
        self.program.wait(PATIENCE_SECONDS)
        assert self.program.stdout
        self.program.stdout.close()

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "examples/actors.py", "--endpoint", self.endpoint, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def error(self, *arguments: str) -> str:
        return self.run_script(*arguments, code=1)

    def run_script(self, *arguments: str, code: int = 0) -> str:
        script = self.start(*arguments)
        out, err = script.communicate(timeout=PATIENCE_SECONDS)
        self.assertEqual(script.returncode, code, err)
        return err if code else out

    def answer(self, *arguments: str) -> Any:
        return json.loads(self.run_script(*arguments))

    def test_list_and_describe(self) -> None:
        self.assertEqual(self.answer("list")["name"], "scores")
        told = self.answer("describe", "scores")
        self.assertEqual(told["state"], "running")
        add = told["methods"][0]
        self.assertEqual((add["name"], add["arguments"], add["result"]),
                         ("add", ["string", "integer"], "integer"))
        self.assertEqual(told["methods"][2]["result"], "map of integer")

    def test_call_and_tell(self) -> None:
        self.assertEqual(self.answer("call", "scores", "add", '"ada"', "3"), 3)
        self.assertEqual(self.run_script("tell", "scores", "add", '"ada"', "4"), "")
        self.assertEqual(self.answer("call", "scores", "get", '"ada"'), 7)
        self.assertEqual(self.answer("call", "scores", "all"), {"ada": 7})

    def test_errors_name_the_thing(self) -> None:
        self.assertIn("eve has not played", self.error("call", "scores", "get", '"eve"'))
        self.assertIn("there are: scores", self.error("call", "score", "all"))
        self.assertIn("add, get, all, crash", self.error("call", "scores", "sub"))
        self.assertIn("argument 1", self.error("call", "scores", "add", '"ada"', '"x"'))
        self.assertIn("JSON", self.run_script("call", "scores", "get", "ada", code=2))

    def test_watch_follows_the_lives(self) -> None:
        with Actors(self.endpoint, PATIENCE_SECONDS) as actors:
            watched = actors.watch("scores")
            for life in range(2):
                actors.invoke("scores", "crash")
                self.assertEqual(actors.invoke("scores", "all"), {})
                event = next(watched)
                self.assertEqual((event["event"], event["cause"]), ("restarted", "told to crash"))
                self.assertEqual(actors.describe("scores")["life"], life + 2)
            actors.call("$kill", {"restart": False}, to="scores")
            ends: List[Any] = list(watched)
            self.assertEqual([end["event"] for end in ends], ["died"])


class ImportsTest(unittest.TestCase):
    def test_scripts_need_pyzmq_and_msgpack_alone(self) -> None:
        own = {"zmq", "msgpack", "control", "examples"}
        for script in ("examples/actors.py", "examples/control.py"):
            with open(script, encoding="utf-8") as file:
                tree = ast.parse(file.read())
            for node in ast.walk(tree):
                names = ([name.name for name in node.names] if isinstance(node, ast.Import) else
                         [node.module or ""] if isinstance(node, ast.ImportFrom) else [])
                for name in names:
                    root = name.split(".", maxsplit=1)[0]
                    self.assertTrue(root in own or root in sys.stdlib_module_names, name)


if __name__ == "__main__":
    unittest.main()
