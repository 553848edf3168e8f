"""Who may include whom: ARCHITECTURE.md has the picture, tools/tidy/layering.sh asks Bazel."""

import ast
import re
import unittest

from tests.tidy import tree

INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]', re.MULTILINE)
# PUB loses in silence, REQ and PUSH cannot be given up: none is for what matters.
LOSING_SOCKETS = re.compile(r"\b(?:ZMQ_|zmq\.)(?:X?PUB|X?SUB|REQ|PUSH|PULL)\b")
# Code in what came over a wire, and code made of text.
UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve"}
EVALUATORS = {"eval", "exec"}
# Headers of the C++ standard library have no dot; those of C that we use do.
STANDARD = re.compile(r"^[a-z_]+$|^(stdint|stddef|string|math|limits)\.h$")


def includes(path):
    """[(is it ours or a library's, name)] of a file."""
    return [(quote == '"', name) for quote, name in INCLUDE.findall(tree.read(path))]


def reachable(path):
    """A file and all of our headers that it includes, directly or not."""
    seen, todo, known = set(), [path], set(tree.files((".h",)))
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        todo += [name for ours, name in includes(current) if ours and name in known]
    return sorted(seen)


def sources_of(target, build_file):
    """The files that a target of this name lists in a BUILD file."""
    text = tree.read(build_file)
    rule = re.search(r'name = "%s",(.*?)\n\)' % target.lstrip(":"), text, re.DOTALL)
    folder = build_file.rpartition("/")[0]
    return [folder + "/" + name for name in re.findall(r'"(\w+\.(?:h|cc))"', rule.group(1))]


class LayeringTest(unittest.TestCase):
    def setUp(self):
        self.faults = []

    def tearDown(self):
        self.assertEqual(self.faults, [], "\n" + "\n".join(self.faults))

    def check(self, path, allowed_ours, allowed_library, why):
        for ours, name in includes(path):
            allowed = name.startswith(allowed_ours) if ours else allowed_library(name)
            if not allowed:
                self.faults.append("%s includes %s: %s" % (path, name, why))

    def test_our_includes_start_at_the_top(self):
        for path in tree.files(tree.CPP):
            for ours, name in includes(path):
                if ours and "/" not in name:
                    self.faults.append('%s: "%s" is no path from the top' % (path, name))

    def test_protocol_is_pure(self):
        def allowed(name):
            return STANDARD.match(name) or name == "xxhash.h"

        for path in tree.files(tree.CPP, ("protocol/",)):
            if path != "protocol/codec.cc":
                self.check(path, ("protocol/",), allowed, "protocol is pure")

    def test_machines_are_pure(self):
        machines = sources_of(":machines", "actors/BUILD.bazel")
        self.assertIn("actors/coordinator_epoch.cc", machines)
        for path in sorted({r for machine in machines for r in reachable(machine)}):
            if path.startswith("actors/"):
                self.check(path, ("protocol/", "actors/"), STANDARD.match, "machines are pure")

    def test_runtime_knows_no_trainer_and_no_worker(self):
        for path in tree.files(tree.CPP, ("runtime/",)):
            self.check(path, ("protocol/", "runtime/"), lambda _: True, "runtime is below actors")
        for path in tree.files(tree.CPP, ("runtime/base/",)):
            self.check(path, ("protocol/", "runtime/base/"), lambda _: True, "base is lowest")

    def test_the_library_does_not_know_its_users(self):
        for path in tree.files(tree.CPP, ("protocol/", "runtime/", "actors/")):
            for ours, name in includes(path):
                if ours and name.startswith(("tests/", "examples/", "python/")):
                    self.faults.append("%s includes %s" % (path, name))

    def test_msgpack_is_in_the_codec_only(self):
        for path in tree.files(tree.CPP):
            for ours, name in includes(path):
                if not ours and name.startswith("msgpack") and path != "protocol/codec.cc":
                    self.faults.append("%s includes %s" % (path, name))

    def test_zmq_is_in_runtime_net_only(self):
        for path in tree.files(tree.CPP):
            for ours, name in includes(path):
                if name in ("zmq.h", "zmq.hpp") and not path.startswith(("runtime/net/", "tests/")):
                    self.faults.append("%s includes %s" % (path, name))

    def test_no_socket_type_that_loses_or_locks(self):
        for path in tree.files(tree.CPP + (".py",)):
            for name in LOSING_SOCKETS.findall(tree.read(path)):
                self.faults.append("%s uses %s" % (path, name))

    def test_no_script_runs_what_it_reads(self):
        scripts = tree.files((".py",), ("examples/", "python/"))
        self.assertIn("examples/control.py", scripts)
        for path in scripts:
            for node in ast.walk(ast.parse(tree.read(path))):
                names = {name.name for name in getattr(node, "names", []) if hasattr(name, "name")}
                names.add(getattr(node, "module", None) or "")
                found = {name.partition(".")[0] for name in names} & UNPICKLERS
                called = getattr(getattr(node, "func", None), "id", None)
                if found or called in EVALUATORS:
                    self.faults.append("%s uses %s" % (path, found or called))


if __name__ == "__main__":
    unittest.main()
