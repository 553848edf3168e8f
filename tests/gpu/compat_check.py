#!/usr/bin/env python3
"""packcast and Python stacks broadcast to each other over NCCL on two GPUs; every byte is compared.

  compat_check.py                  two GPUs, torch; under a minute
  compat_check.py --host           neither: tensors are bytes, a socket stands for NCCL

Runs `compat` (tests/gpu/compat_main.cc) and compat_peer.py, which are beside it, both ways: each
sends a number of lists of tensors to the other. One line a case; the last line counts. Both load
one libnccl: by default that of torch's wheel, which torch has in the process anyway.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import queue
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import compat_peer  # noqa: E402

MIB = 1 << 20
ALL = ["bf16", "f32", "f16", "i8", "f8e4m3", "bool", "u8", "i64"]


class Failure(Exception):
    pass


# ---- what is sent --------------------------------------------------------------------------------


class Case:
    def __init__(self, name, shapes, target=MIB, count=2):
        self.name, self.target, self.count = name, target, count
        self.list = [["%s.%d" % (name.replace(" ", "-"), k), dtype, list(shape)]
                     for k, (dtype, shape) in enumerate(shapes)]
        self.rows = [compat_peer.Row(*row) for row in self.list]
        self.bytes = sum(row.bytes for row in self.rows)
        # Buffers without bytes are nothing to NCCL.
        self.steps = sum(any(row.bytes for row in group)
                         for group in compat_peer.groups(self.rows, target))

    def write(self, stem, rng):
        """Makes all tensors' bytes up, those of bools 0 or 1, and files of list and bytes."""
        data = bytearray(rng.randbytes(self.bytes))
        ones = bytes(k & 1 for k in range(256))
        at = 0
        for row in self.rows:
            if row.dtype == "bool":
                data[at:at + row.bytes] = data[at:at + row.bytes].translate(ones)
            at += row.bytes
        self.data = bytes(data)
        self.path, self.data_path = stem + ".json", stem + ".data"
        with open(self.path, "w") as file:
            json.dump(self.list, file)
        with open(self.data_path, "wb") as file:
            file.write(data)


def cases(rng, scale):
    """About 180 MB with scale 1; the larger sizes shrink with it."""
    def some(count, largest):
        return [(rng.choice(ALL), [1 + rng.randrange(largest)]) for _ in range(count)]

    big = int(1_500_000 * scale) | 1
    tiny = [(rng.choice(ALL), rng.choice([[], [], [0], [3, 0, 5], [1], [1, 1], [2, 3]]))
            for _ in range(300)]
    square = int(1000 * scale ** 0.5) | 1
    side = 8 * int(64 * scale ** 0.5 + 1)
    return [
        # What no stack stumbles over: every tensor is aligned in its buffer, none is a scalar.
        Case("aligned", [(dtype, [3 * side, side]) for dtype in ALL * 2]),
        Case("odd sizes", some(100, int(60_000 * scale) + 1)),
        Case("scalars and empty", tiny, target=300),
        Case("only empty", [("bf16", [0]), ("f32", [4, 0])]),
        Case("nothing", []),
        Case("one above the buffer", [("bool", [77]), ("f32", [2 * big]), ("i8", []), ("bf16", [3]),
                                      ("u8", [MIB + 1]), ("f16", [5, 7])]),
        Case("exactly full", [("u8", [MIB]), ("u8", [1]), ("i8", [MIB - 1]), ("bool", []),
                              ("f32", [MIB // 4]), ("bf16", [1])]),
        Case("3,000 small", some(3000, 100), count=3),
        Case("many small buffers", some(300, 100), target=256, count=1),
        Case("1 GiB buffers", [(ALL[k % len(ALL)], [big, 1]) for k in range(32)], target=1 << 30),
        Case("1 MiB buffers", [(ALL[k % len(ALL)], [2, big // 4, 1]) for k in range(24)], count=4),
        Case("strided", [("bf16", [square, square]), ("f32", [3, square, 2]), ("i8", [square]),
                         ("f16", [square, 7]), ("bool", [9, 9])]),
    ]


def difference(case, path):
    """The first tensor that did not arrive as it was sent; None if all did."""
    wanted = case.data
    with open(path, "rb") as file:
        got = file.read()
    if len(got) != len(wanted):
        return "%d bytes arrived of %d" % (len(got), len(wanted))
    if got == wanted:
        return None
    at = 0
    for row in case.rows:
        here, there = wanted[at:at + row.bytes], got[at:at + row.bytes]
        if here != there:
            wrong = [k for k in range(row.bytes) if here[k] != there[k]]
            return "tensor %s (%s %s): %d of %d bytes differ, the first is byte %d" % (
                row.name, row.dtype, row.shape, len(wrong), row.bytes, wrong[0])
        at += row.bytes
    return "bytes beyond the tensors"


# ---- the two programs ----------------------------------------------------------------------------


class Program:
    """One rank as a process; its lines come into `lines` as (program, line)."""

    def __init__(self, name, command, environment, descriptor, lines):
        self.name, self.lines = name, lines
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            env=environment, pass_fds=() if descriptor is None else (descriptor,))
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put((self, line.strip()))
        self.lines.put((self, None))

    def say(self, line):
        with contextlib.suppress(OSError):  # what it said last tells more
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()

    def end(self, patience):
        if patience > 0:
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                print("     %s does not end and is killed" % self.name, flush=True)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.reader.join()
        self.process.stdout.close()
        with contextlib.suppress(OSError):
            self.process.stdin.close()


class Pair:
    """A root and a member that are to understand each other."""

    def __init__(self, root, member, vllm, flags, end):
        self.name = "%s -> %s" % (root, member)
        self.lines, self.deadline, self.patience = queue.Queue(), end, flags.patience
        self.programs = []
        ends = socket.socketpair() if flags.host else ()
        for rank, kind in enumerate((root, member)):
            descriptor = ends[rank].fileno() if ends else None
            self.programs.append(Program(
                kind, command(kind, rank, vllm, descriptor, flags), environment(kind), descriptor,
                self.lines))
        for half in ends:
            half.close()
        self.root, self.member = self.programs

    def ask(self, *requests):
        """Sends each (program, line), and waits for what each answers, in words."""
        for program, line in requests:
            program.say(line)
        return self.answers([program for program, _ in requests], self.patience)

    def answers(self, programs, patience):
        answers = {}
        end = min(self.deadline, time.monotonic() + patience)
        while len(answers) < len(programs):
            try:
                program, line = self.lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                silent = [p.name for p in programs if p not in answers]
                raise Failure("no answer from " + " and ".join(silent)) from None
            if line is None:
                raise Failure("%s has ended" % program.name)
            if line.startswith("error"):
                raise Failure("%s: %s" % (program.name, line))
            if program not in programs or program in answers:
                raise Failure("%s says, unasked: %s" % (program.name, line))
            answers[program] = line
        return [answers[program].split() for program in programs]

    def connect(self):
        self.answers(self.programs, float("inf"))  # "ready"
        # Who makes the ID does not matter; this way each of the two does once.
        (_, unique_id), = self.ask((self.root, "id"))
        self.ask(*((program, "join " + unique_id) for program in self.programs))

    def run(self, case, folder):
        """Sends a case. Returns its seconds, and what is wrong with it or None."""
        taken = os.path.join(folder, "taken")
        if os.path.exists(taken):
            os.remove(taken)
        words = "%s %%s %d %d" % (case.path, case.target, case.count)
        answers = self.ask((self.root, "send " + words % case.data_path),
                           (self.member, "take " + words % taken))
        wrong = difference(case, taken)
        for program, (_, steps, seconds) in zip(self.programs, answers):
            if program.name == "packcast" and int(steps) != case.steps:
                wrong = wrong or "packcast counts %s broadcasts" % steps
        return float(seconds), wrong

    def close(self, failed):
        if not failed:
            for program in self.programs:
                program.say("end")
        for program in self.programs:
            program.end(0 if failed else min(self.patience, 10))


def command(kind, rank, vllm, descriptor, flags):
    words = [flags.packcast] if kind == "packcast" else [sys.executable, flags.peer]
    words += ["--rank", str(rank), "--life", str(int(flags.seconds) + 5)]
    if kind == "packcast":  # it says what it waits for before we give up
        words += ["--seconds", str(max(1, int(flags.patience) - 2))]
    if descriptor is not None:
        words += ["--socket", str(descriptor)]
        return words + (flags.host_peer.split() if kind == "python" else [])
    words += ["--device", str(flags.devices[rank]), "--library", flags.library]
    return words + (["--vllm"] if vllm else [])


def environment(kind):
    """Without NVLink multicast, on this host only; our libraries are for our own program."""
    result = dict(os.environ, NCCL_NVLS_ENABLE="0")
    result.setdefault("NCCL_SOCKET_IFNAME", "lo")
    ours = os.path.join(os.path.dirname(HERE), "lib")
    paths = [path for path in result.get("LD_LIBRARY_PATH", "").split(":")
             if path and os.path.realpath(path) != os.path.realpath(ours)]
    if kind == "packcast":
        paths.insert(0, ours)
    result["LD_LIBRARY_PATH"] = ":".join(paths)
    return result


def torchs_library():
    """The libnccl.so.2 of torch's wheels; torch need not be imported to find it."""
    try:
        found = importlib.util.find_spec("nvidia.nccl")
    except ModuleNotFoundError:
        found = None
    for folder in (found.submodule_search_locations or []) if found else []:
        path = os.path.join(folder, "lib", "libnccl.so.2")
        if os.path.exists(path):
            return path
    return "libnccl.so.2"


# ---- the check -----------------------------------------------------------------------------------


def check(pair, every, folder):
    """Runs all cases; the number that failed. After an error the pair is of no use any more."""
    failed, broken = 0, False
    try:
        pair.connect()
        print("%s: connected" % pair.name, flush=True)
    except Failure as failure:
        broken = True
        print("%s: %s" % (pair.name, failure), flush=True)
    for case in every:
        what = "%s  %-20s %5d tensors %6.1f MB %4d broadcasts" % (
            pair.name, case.name, len(case.rows), case.bytes / 1e6, case.steps)
        wrong = "not run" if broken else None
        if not broken:
            try:
                seconds, wrong = pair.run(case, folder)
            except Failure as failure:
                wrong, broken = str(failure), True
        if wrong is None:
            print("ok    %s  %8.2f ms" % (what, 1e3 * seconds), flush=True)
        else:
            print("FAIL  %s  %s" % (what, wrong), flush=True)
            failed += 1
    pair.close(broken)
    return failed


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packcast", default=os.path.join(HERE, "compat"), help="the program")
    parser.add_argument("--peer", default=os.path.join(HERE, "compat_peer.py"))
    parser.add_argument("--devices", type=int, nargs=2, default=[0, 1])
    parser.add_argument("--library", default="", help="libnccl.so.2; by default torch's")
    parser.add_argument("--seconds", type=float, default=60, help="for all of it")
    parser.add_argument("--patience", type=float, default=20, help="seconds, with one answer")
    parser.add_argument("--scale", type=float, default=1.0, help="of the larger tensors")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="cases with this in their names")
    parser.add_argument("--host", action="store_true", help="without GPUs")
    parser.add_argument("--host-peer", default="--plain", help="options of the peer there")
    flags = parser.parse_args(arguments)
    flags.library = flags.library or torchs_library()
    return flags


def main(arguments):
    flags = parse(arguments)
    end = time.monotonic() + flags.seconds
    rng = random.Random(flags.seed)
    every = [case for case in cases(rng, flags.scale) if flags.only in case.name]
    total = sum(case.bytes for case in every)
    print("%d cases, %.0f MB each way; %s" % (
        len(every), total / 1e6, "on the host" if flags.host else flags.library), flush=True)
    failed, pairs = 0, []
    with tempfile.TemporaryDirectory() as folder:
        try:
            # Both at once: importing torch is what takes longest. The members of one pair begin
            # with an all-reduce as vLLM does, those of the other with nothing.
            pairs.append(Pair("packcast", "python", False, flags, end))
            pairs.append(Pair("python", "packcast", True, flags, end))
            for number, case in enumerate(every):
                case.write(os.path.join(folder, str(number)), rng)
            for pair in pairs:
                failed += check(pair, every, folder)
        finally:
            for pair in pairs:
                pair.close(failed=True)
    print("%d passed, %d failed" % (2 * len(every) - failed, failed), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
