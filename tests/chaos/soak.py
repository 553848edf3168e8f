"""Many epochs of one cluster: what grows, and who is given up: bazel run //tests/chaos:soak

Prints memory, descriptors, threads and epoch time of each process with their slopes over the second
half of the run, as allocators settle slowly, and every false alarm. Exit status 1 when something
grows, an epoch failed or anybody was given up. A mere suspicion is counted and no alarm: it gives
nothing up, and where the processors are oversubscribed half a second without a beat is true.
"""

import argparse
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from typing import Dict, List, Optional

from examples.control import Control, ControlError
from tests.chaos.slopes import Slope, slope_of
from tests.integration import weights

_LIFELINE = os.pipe()  # ends every process started here when this one goes away
_ALARMS = ("epoch.abort", "member.lost", "replica.expelled", "member.refused")
_ALARM_LINES = re.compile(r"not reachable|is gone|failpoint")
_SUSPICION = re.compile(r"is suspect")
_SAMPLES = 1000  # at most so many are kept
# What may be gained in the second half: of descriptors and threads none, else a part of the mean.
_COUNT_TOLERANCE = 0.5
_TOLERANCES = {"memory, KiB": 0.015, "epoch, ms": 0.1}


def parse(arguments: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--epochs", type=int, default=10000, help="that are measured")
    parser.add_argument("--warm-up", type=int, default=5000,
                        help="epochs before those: the coordinator keeps 1,000 reports")
    parser.add_argument("--seconds", type=float, default=3600.0, help="end after so long")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--tensors", type=int, default=64, help="of 4 KiB each")
    parser.add_argument("--install", choices=("staged", "in-place"), default="staged")
    parser.add_argument("--shm", action="store_true")
    parser.add_argument("--oversubscribe", type=float, default=0.0, metavar="N",
                        help="busy processes for each processor; epoch time is not judged then")
    return parser.parse_args(arguments)


def program(name: str) -> str:
    folder = os.environ.get("PACKCAST_BIN") or os.path.join(
        os.path.dirname(os.path.abspath(__file__)), "..", "..", "examples")
    return os.path.join(folder, name)


class Sample:
    """What /proc says of a process."""

    PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024

    def __init__(self, pid: int) -> None:
        with open("/proc/%d/statm" % pid, encoding="ascii") as file:
            memory = int(file.read().split()[1]) * self.PAGE_KIB
        self.values = {"memory, KiB": memory,
                       "descriptors": len(os.listdir("/proc/%d/fd" % pid)),
                       "threads": len(os.listdir("/proc/%d/task" % pid))}


class Follower:
    """Counts what a coordinator tells, on a thread of its own."""

    def __init__(self, endpoint: str) -> None:
        self.alarms: List[str] = []
        self.epochs = 0
        self.numbers: List[float] = []  # of the epochs in `times`
        self.times: List[float] = []
        self.ended = False
        self._is_measuring = False
        self._thread = threading.Thread(target=self._follow, args=(endpoint,), daemon=True)
        self._thread.start()

    def measure(self) -> None:
        self._is_measuring = True

    def _follow(self, endpoint: str) -> None:
        try:
            with Control(endpoint, 30.0) as control:
                for event in control.events():
                    self._take(event)
        except ControlError as error:
            if not self.ended:
                self.alarms.append("the coordinator: %s" % error)
                self.ended = True

    def _take(self, event: Dict[str, object]) -> None:
        if event["event"] in _ALARMS:
            self.alarms.append(str(event))
        if event["event"] != "epoch.end":
            return
        report: Dict = event["report"]  # type: ignore[assignment,type-arg]
        self.epochs += 1
        if not report["committed"] or report["attempt"] > 1 or report.get("expelled"):
            self.alarms.append(str(report))
        if self._is_measuring:
            self.numbers.append(float(self.epochs))
            self.times.append(report["seconds"] * 1000)


class Driver:
    """Asks for one sync after the other, on a thread of its own, whatever becomes of them."""

    def __init__(self, endpoint: str, members: int) -> None:
        self.errors: List[str] = []
        self._members = members
        self._closing = False
        self._thread = threading.Thread(target=self._drive, args=(endpoint,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing = True

    def _drive(self, endpoint: str) -> None:
        label = 0
        while not self._closing:
            try:
                with Control(endpoint, 30.0) as control:
                    while len(control.call("members", timeout=30.0)) < self._members:
                        time.sleep(0.05)
                    while not self._closing:
                        label += 1
                        control.call("sync", {"label": label}, 120.0)
            except ControlError as error:
                if not self._closing:
                    self.errors.append("sync(%d): %s" % (label, error))
                    time.sleep(0.1)


class Soak:
    def __init__(self, flags: argparse.Namespace, folder: str) -> None:
        self._flags = flags
        self._folder = folder
        self._processes: Dict[str, subprocess.Popen] = {}  # type: ignore[type-arg]
        self._busy: List[subprocess.Popen] = []  # type: ignore[type-arg]
        self._epochs: List[float] = []
        self._series: Dict[str, Dict[str, List[float]]] = {}

    def _start(self, name: str, *arguments: str) -> None:
        role = name.partition("-")[0]
        with open(os.path.join(self._folder, name + ".log"), "ab") as log:
            self._processes[name] = subprocess.Popen(
                [program(role), *arguments], pass_fds=(_LIFELINE[0],), stdin=subprocess.DEVNULL,
                env=dict(os.environ, PACKCAST_LIFELINE_FD=str(_LIFELINE[0])),
                stdout=log, stderr=subprocess.STDOUT)

    def _start_all(self) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            endpoint = "tcp://127.0.0.1:%d" % probe.getsockname()[1]
        rows = [["layer.%d" % k, "U8", [4096]] for k in range(self._flags.tensors)]
        shapes = weights.write_shapes(self._folder, rows)
        self._start("coordinator", "--endpoint=" + endpoint, "--install=" + self._flags.install,
                    "--min-replicas=%d" % self._flags.workers)
        shm = ["--shm"] if self._flags.shm else []
        for rank in range(self._flags.workers):
            self._start("worker-%d" % rank, "--coordinator=" + endpoint, "--rank=%d" % rank, *shm)
        self._start("trainer-0", "--coordinator=" + endpoint, "--shapes=" + shapes, *shm)
        return endpoint

    def _start_busy(self) -> None:
        for _ in range(int(self._flags.oversubscribe * (os.cpu_count() or 1))):
            self._busy.append(subprocess.Popen(
                ["sh", "-c", "while :; do :; done"], stdin=subprocess.DEVNULL))

    def run(self) -> int:
        try:
            endpoint = self._start_all()
            follower = Follower(endpoint)
            driver = Driver(endpoint, self._flags.workers + 1)
            self._start_busy()
            self._measure(follower)
            follower.ended = True
            driver.close()
            alarms = follower.alarms + self._lines(_ALARM_LINES) + driver.errors
        finally:
            for process in list(self._processes.values()) + self._busy:
                process.kill()
                process.wait()
        return self._report(follower, alarms)

    def _measure(self, follower: Follower) -> None:
        """Until all epochs are through, or the time is up, or something ended."""
        until = time.monotonic() + self._flags.seconds
        last = self._flags.warm_up + self._flags.epochs
        gap = max(1, self._flags.epochs // _SAMPLES)
        due = self._flags.warm_up
        told = time.monotonic()
        while follower.epochs < last and time.monotonic() < until and not follower.ended:
            time.sleep(0.01)  # the epochs go on by themselves; this is how often we look
            self._find_ended(follower)
            if time.monotonic() > told + 10:
                told = time.monotonic()
                print("%d epochs, %d alarms" % (follower.epochs, len(follower.alarms)), flush=True)
            if follower.epochs < due:
                continue
            follower.measure()
            due = follower.epochs + gap
            self._sample(follower)

    def _find_ended(self, follower: Follower) -> None:
        for name, process in self._processes.items():
            if process.poll() is not None:
                follower.alarms.append("%s ended with %d" % (name, process.returncode))
                follower.ended = True

    def _sample(self, follower: Follower) -> None:
        if follower.ended:
            return
        self._epochs.append(follower.epochs)
        for name, process in self._processes.items():
            for what, value in Sample(process.pid).values.items():
                self._series.setdefault(name, {}).setdefault(what, []).append(value)

    def _lines(self, pattern: "re.Pattern[str]") -> List[str]:
        """Of the logs: nobody was frozen, so nobody should have been silent."""
        lines = []
        for name in self._processes:
            with open(os.path.join(self._folder, name + ".log"), encoding="utf-8",
                      errors="replace") as file:
                lines += ["%s: %s" % (name, line.strip()) for line in file if pattern.search(line)]
        return lines

    def _report(self, follower: Follower, alarms: List[str]) -> int:
        print("%-12s %-12s %12s %26s %14s  %s" % (
            "process", "what", "mean", "in 1,000 epochs, 95 %", "over the half", "verdict"))
        growing = 0
        rows = [(name, what, self._epochs, values)
                for name, series in sorted(self._series.items())
                for what, values in series.items()]
        rows.append(("cluster", "epoch, ms", follower.numbers, follower.times))
        for name, what, epochs, values in rows:
            half = len(values) // 2
            try:
                slope = slope_of(epochs[half:], values[half:])
            except ValueError as error:
                print("%s, %s: %s" % (name, what, error))
                growing += 1
                continue
            part = _TOLERANCES.get(what)
            tolerance = _COUNT_TOLERANCE if part is None else part * slope.mean
            judged = what != "epoch, ms" or not self._flags.oversubscribe
            grows = judged and slope.grows(tolerance)
            growing += grows
            print(self._line(name, what, slope, "GROWS" if grows else "flat" if judged else "-"))
        for alarm in alarms[:50]:
            print("FALSE ALARM " + alarm)
        print("%d epochs measured after %d, %d false alarms, %d suspicions, %d series that grow" % (
            len(follower.times), self._flags.warm_up, len(alarms), len(self._lines(_SUSPICION)),
            growing))
        return 1 if growing or alarms else 0

    @staticmethod
    def _line(name: str, what: str, slope: Slope, verdict: str) -> str:
        return "%-12s %-12s %12.2f %12.4f +- %10.4f %14.3f  %s" % (
            name, what, slope.mean, slope.per_epoch * 1000, slope.plus_minus * 1000, slope.growth,
            verdict)


def main() -> int:
    flags = parse()
    with tempfile.TemporaryDirectory(prefix="packcast-soak-") as folder:
        return Soak(flags, folder).run()


if __name__ == "__main__":
    sys.exit(main())
