"""Epochs of a small cluster with keys, quiet and while strangers do their worst.

Prints a table: the median time of an epoch, alone; beside each attack on a port of a process that
has nothing to do with it ("elsewhere"); and beside the same attack on the cluster's own ports
("here"). An attacker takes processor time, and so does whoever is attacked: only the difference
between the last two is packcast's. All three take turns, in an order that changes each round.
"""

import argparse
import os
import random
import signal
import statistics
import subprocess
import tempfile
import time
from typing import Dict, List, Sequence, Tuple

from examples import control
from tests.integration import hostile, weights
from tests.integration.processes import PATIENCE_SECONDS, Process, children

os.environ.setdefault("PACKCAST_BIN", os.path.abspath("examples"))
ATTACKER = os.path.abspath("tests/bench/hostile_attacker")
KEYS = os.path.abspath("tools/keys/keys")


class Program:
    """An attacker, or one that is attacked."""

    def __init__(self, *arguments: str, lines: int = 1) -> None:
        self._popen = subprocess.Popen([ATTACKER, *arguments], stdout=subprocess.PIPE, text=True)
        self.lines = [self._popen.stdout.readline().strip() for _ in range(lines)]

    def end(self) -> int:
        """How often it did what it does."""
        self._popen.send_signal(signal.SIGTERM)
        out, _ = self._popen.communicate(timeout=PATIENCE_SECONDS)
        assert "LET IN" not in out, "a key that is not on the list"
        return int(out.split()[-1])


class Cluster:
    """A launcher with keys: a coordinator, a trainer and two workers."""

    def __init__(self, folder: str, mebibytes: int) -> None:
        self.keys = os.path.join(folder, "keys")
        subprocess.run([KEYS, "new", self.keys], check=True, stdout=subprocess.DEVNULL)
        self.server_key = control.read_keys(self.keys)[0].decode()
        self.launcher = Process("cluster", "--hold", "--epochs=1", "--devices=none", "--workers=2",
                                "--keys=" + self.keys,
                                "--shapes=" + weights.mebibytes(folder, mebibytes))
        endpoint = self.launcher.wait_line("^coordinator at (.*)$").group(1)
        self.launcher.wait_line("^worker-1 is up")
        self.control = control.Control(endpoint, PATIENCE_SECONDS,
                                       curve=control.read_keys(self.keys))
        self.port = int(endpoint.rsplit(":", 1)[1])
        self._label = 1000

    def epoch(self) -> float:
        """Its seconds; ControlError when it failed."""
        self._label += 1
        began = time.monotonic()
        self.control.call("sync", {"label": self._label}, PATIENCE_SECONDS)
        return time.monotonic() - began

    def ports(self) -> List[str]:
        found = hostile.ports([self.launcher.pid, *children(self.launcher.pid)])
        return [str(port) for port in sorted(found)]

    def end(self) -> None:
        self.control.close()
        self.launcher.signal(signal.SIGTERM)
        self.launcher.wait()
        self.launcher.end()


class Bench:
    """Both sides of each attack, measured in turns."""

    def __init__(self, cluster: Cluster, flags: argparse.Namespace) -> None:
        self.cluster = cluster
        self.flags = flags
        self.seconds: Dict[Tuple[str, str], List[float]] = {}
        self.failures: Dict[Tuple[str, str], int] = {}
        self.rates: Dict[Tuple[str, str], List[float]] = {}

    def arguments(self, attack: str, elsewhere: bool) -> Tuple[Sequence[str], List[Program]]:
        """Of the attacker, and who is attacked in the cluster's stead."""
        mode, _, where = attack.partition(" ")
        share = str(self.flags.share)
        if mode == "key":
            if not elsewhere:
                return (mode, share, str(self.cluster.port), self.cluster.server_key), []
            other = Program("doorkeeper", lines=2)
            return (mode, share, *other.lines), [other]
        own = self.cluster.ports()
        control_port = str(self.cluster.port)
        if where == "control":
            own = [control_port]
        elif where == "bulk":
            own = [port for port in own if port != control_port]
        if not elsewhere:
            return (mode, share, *own), []
        other = Program("listen", str(len(own)), lines=len(own))
        # Nobody answers there.
        return ("bytes" if mode == "garbage" else mode, share, *other.lines), [other]

    def measure(self, attack: str, side: str) -> None:
        running: List[Program] = []
        began = time.monotonic()
        attacker = None
        if attack != "quiet":
            arguments, running = self.arguments(attack, side == "elsewhere")
            attacker = Program(*arguments)
            began = time.monotonic()
            time.sleep(self.flags.before)
        for _ in range(self.flags.epochs):
            try:
                self.seconds.setdefault((attack, side), []).append(self.cluster.epoch())
            except control.ControlError as error:
                # A machine that is short of processors makes members silent, attacked or not.
                print(attack, side, "failed:", error, flush=True)
                self.failures[(attack, side)] = self.failures.get((attack, side), 0) + 1
                time.sleep(1.0)  # who was silent joins again
        if attacker is not None:
            lasted = time.monotonic() - began
            self.rates.setdefault((attack, side), []).append(attacker.end() / lasted)
        for other in running:
            other.end()

    def run(self) -> None:
        turns = [("quiet", "")] + [(attack, side) for attack in self.flags.attacks
                                   for side in ("elsewhere", "here")]
        until = time.monotonic() + 60 * self.flags.minutes
        for number in range(self.flags.rounds):
            if number > 0 and time.monotonic() > until:
                break
            random.Random(number).shuffle(turns)
            for attack, side in turns:
                self.measure(attack, side)

    def table(self) -> None:
        quiet = statistics.median(self.seconds[("quiet", "")])
        print("epoch, quiet: median %.3f s of %d, quartiles %.3f to %.3f s" % (
            quiet, len(self.seconds[("quiet", "")]),
            *statistics.quantiles(self.seconds[("quiet", "")])[::2]))
        print("%-16s %10s %10s %8s %14s %14s %s" % (
            "attack", "elsewhere", "here", "ratio", "rate elsewhere", "rate here", "failed"))
        for attack in self.flags.attacks:
            there, here = (statistics.median(self.seconds[(attack, side)])
                           for side in ("elsewhere", "here"))
            print("%-16s %8.3f s %8.3f s %8.3f %12.0f/s %12.0f/s %d and %d" % (
                attack, there, here, here / there,
                *(statistics.median(self.rates[(attack, side)])
                  for side in ("elsewhere", "here")),
                *(self.failures.get((attack, side), 0) for side in ("elsewhere", "here"))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=30, help="no round begins later")
    parser.add_argument("--epochs", type=int, default=2, help="of each turn")
    parser.add_argument("--mebibytes", type=int, default=256)
    parser.add_argument("--share", type=float, default=0.25,
                        help="of one processor, for the attacker")
    parser.add_argument("--before", type=float, default=0.3,
                        help="seconds from the attack's begin to the first epoch")
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", default=[
        "scan control", "visit control", "loris control", "garbage control", "garbage bulk", "key"])
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(folder, flags.mebibytes)
        try:
            bench = Bench(cluster, flags)
            cluster.epoch()
            bench.run()
            bench.table()
            print("still there:", cluster.ports())
        finally:
            cluster.end()


if __name__ == "__main__":
    main()
