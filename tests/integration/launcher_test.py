"""What the launcher makes of its children: wrong bytes, errors of their own, slow starts."""

import os
import re
import shutil
import signal
import tempfile
import time
import unittest
from unittest import mock

from tests.integration.processes import Process, program, run

PROGRAMS = ("cluster", "coordinator", "trainer", "worker")


class LauncherTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.real = {name: os.path.realpath(program(name)) for name in PROGRAMS}
        for name, path in self.real.items():
            os.symlink(path, os.path.join(self.folder, name))
        # The launcher looks for its children beside its own file.
        os.unlink(os.path.join(self.folder, "cluster"))
        shutil.copy(self.real["cluster"], self.folder)
        patch = mock.patch.dict(os.environ, PACKCAST_BIN=self.folder)
        patch.start()
        self.addCleanup(patch.stop)

    def replace(self, name: str, script: str) -> None:
        """A child that is not what the launcher takes it for."""
        path = os.path.join(self.folder, name)
        os.unlink(path)
        with open(path, "w", encoding="utf-8") as file:
            file.write("#!/bin/bash\n%s\n" % script)
        os.chmod(path, 0o755)

    def test_the_launcher_itself_is_content_with_real_children(self) -> None:
        process = run("cluster", "--epochs=1")
        self.assertEqual(process.code, 0, process.text())

    def test_children_do_what_the_launchers_flags_say_whatever_is_exported(self) -> None:
        variables = {name for child in PROGRAMS[1:]
                     for name in re.findall(r"Env:(PACKCAST_\w+)", run(child, "--help").text())}
        self.assertLessEqual({"PACKCAST_KEYS", "PACKCAST_RANK", "PACKCAST_ENDPOINT"}, variables)
        with mock.patch.dict(os.environ, dict.fromkeys(variables, "nonsense")):
            process = run("cluster", "--epochs=1")
        self.assertEqual(process.code, 0, process.text())

    def test_a_trainer_that_sends_something_else(self) -> None:
        self.replace("trainer", 'exec %s "${@/--seed=1/--seed=2}"' % self.real["trainer"])
        process = run("cluster", "--epochs=2")
        self.assertEqual(process.code, 1, process.text())
        self.assertIn("the source holds", process.text())
        self.assertNotIn("equals the source's", process.text())

    def test_a_child_that_ends_with_an_error(self) -> None:
        # The first life of worker-0 fails, as if of what it found; the second one is well.
        mark = os.path.join(self.folder, "mark")
        self.replace("worker", """
if [[ "$*" == *--rank=0* && ! -e {mark} ]]; then
  touch {mark}
  ready="${{@: -1}}"
  echo worker-0 >&"${{ready#--ready-fd=}}"
  exit 7
fi
exec {real} "$@" """.format(mark=mark, real=self.real["worker"]))
        process = run("cluster", "--epochs=1")
        process.wait_line("worker-0 ended with exit code 7; starting it again")
        self.assertEqual(process.code, 1, process.text())
        self.assertIn("worker-0 ended with exit code 7", "\n".join(process.err))

    def test_an_interrupt_while_members_start(self) -> None:
        self.replace("worker", "exec sleep 600")
        process = Process("cluster")
        self.addCleanup(process.end)
        process.wait_line("trainer-0 is up")
        began = time.monotonic()
        process.signal(signal.SIGINT)
        process.wait()
        seconds = time.monotonic() - began
        print("ended %.2f s after Ctrl-C" % seconds)
        self.assertLess(seconds, 4)


if __name__ == "__main__":
    unittest.main()
