"""Real processes under fault, round after round: bazel run //tests/chaos:storm -- --rounds 100

Each round a process is killed, frozen, cut off, ... somewhere in an epoch; then the cluster must
come back and the next epoch must reach all. The table at the end says what became of each fault.
Exit status 1 when anything hung, was torn, of a wrong version, left over or blamed wrongly.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import Dict, List, Optional

from tests.chaos.checker import Truth, judge
from tests.chaos.crew import Crew, Layout
from tests.chaos.faults import KINDS, LAYOUTS, Chooser, Fault, parse_points
from tests.chaos.network import Network
from tests.chaos.rounds import Cluster, programs
from tests.chaos.strike import Disk
from tests.chaos.tally import Tally
from tests.integration import weights

# The cluster is made anew after so many rounds, in another layout.
GENERATION = 20


def parse(arguments: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n", maxsplit=1)[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="faults:\n" + "\n".join("  %-10s %s" % kind for kind in KINDS.items()))
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--faults", type=int, help="go on until so many came to pass")
    parser.add_argument("--seed", type=int, help="else one is drawn, and printed")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--model-mib", type=int, default=32, help="size of the checkpoint")
    parser.add_argument("--logs", help="where to keep what failing rounds leave")
    parser.add_argument("--no-network", action="store_true", help="leave the network's faults out")
    parser.add_argument("--layout", choices=[layout.name for layout in LAYOUTS], help="only this")
    parser.add_argument("--points", metavar="REGEX", help="only at failpoints whose names match")
    parser.add_argument("--only", metavar="FAULT",
                        help="the same fault each round, as a failing round names it")
    flags = parser.parse_args(arguments)
    if flags.seed is None:
        flags.seed = random.randrange(1 << 31)
    return flags


def checkpoint(folder: str, mebibytes: int) -> str:
    """Tensors from a few bytes to some MiB, as a small transformer has them."""
    rng = random.Random(1)
    tensors: weights.Tensors = {"scale": ("F32", [], rng.randbytes(4)),
                                "flags": ("U8", [1021], rng.randbytes(1021))}
    for layer in range(mebibytes // 2):
        for name, rows in (("up", 512), ("down", 480), ("norm", 31)):
            tensors["layers.%d.%s" % (layer, name)] = (
                "BF16", [rows, 1024], rng.randbytes(rows * 2048))
    return weights.write(folder, "model.safetensors", weights.safetensors(tensors))


class Storm:
    def __init__(self, flags: argparse.Namespace, folder: str, network: Optional[Network]) -> None:
        self._flags = flags
        self._folder = folder
        self._network = network
        self._tally = Tally()
        self._known: Dict[str, str] = {}  # how each failpoint was reached
        self._reached: set = set()
        listing = subprocess.run([programs("failpoints")], capture_output=True, text=True,
                                 check=True).stdout
        self._points = parse_points(listing)
        chosen = [p for p in self._points if re.search(flags.points or "", p.name)]
        self._chooser = Chooser(chosen, flags.seed, network is not None,
                                network is not None and network.has_netem,
                                1.0 if flags.points else 0.6)
        self._model = checkpoint(folder, flags.model_mib)
        self._disk = self._make_disk()

    def _make_disk(self) -> Optional[Disk]:
        if self._network is None:
            return None  # mounts are as private as the network
        path = os.path.join(self._folder, "disk")
        os.mkdir(path)
        size = "size=%dm" % (Disk.SIZE_MIB + self._flags.model_mib)
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", path], check=True)
        return Disk(path)

    def _layout(self, generation: int) -> Layout:
        choices = [x for x in LAYOUTS if self._flags.layout in (None, x.name)]
        layout = choices[generation % len(choices)]
        return layout._replace(workers=self._flags.workers, model=self._model)

    def _fault(self, number: int, layout: Layout) -> Fault:
        if self._flags.only:
            kind, victim, point, hit, seconds, after = self._flags.only.split(":")
            return Fault(kind, victim, point, int(hit), float(seconds), float(after))
        return self._chooser.choose(number, layout)

    def _more(self) -> bool:
        if self._flags.faults is not None:
            return self._tally.faults < self._flags.faults
        return self._tally.rounds < self._flags.rounds

    def run(self) -> int:
        was_stopped = False
        generation = 0
        try:
            while self._more():
                self._generation(generation)
                generation += 1
        except KeyboardInterrupt:
            was_stopped = True
        rare = {point.name for point in self._points if point.is_rare}
        wanted = {point.name for point in self._points if not point.is_simulated}
        print(self._tally.text(sorted(wanted - self._reached), rare))
        print("seed %d" % self._flags.seed)
        return 1 if self._tally.violations else 130 if was_stopped else 0

    def _generation(self, number: int) -> None:
        """Some rounds with one cluster."""
        layout = self._layout(number)
        logs = os.path.join(self._folder, "%03d-%s" % (number, layout.name.replace(" ", "-")))
        os.mkdir(logs)
        crew = Crew(programs(), logs, self._network)
        before = len(self._tally.violations)
        try:
            cluster = Cluster(crew, layout, self._disk, Truth(), self._known,
                              {point.name for point in self._points})
            for _ in range(GENERATION):
                if self._more() and cluster.is_well:
                    self._round(cluster)
            cluster.end()
        finally:
            crew.end_all()
            self._reached |= crew.reached()
            crew.board.close()
        if len(self._tally.violations) == before:
            shutil.rmtree(logs)

    def _round(self, cluster: Cluster) -> None:
        number = self._tally.rounds
        fault = self._fault(number, cluster.crew.layout)
        began = time.monotonic()
        record = cluster.round(fault)
        verdict = judge(record, cluster.truth)
        self._tally.add(fault, record.state, verdict, record.stalled)
        unreached = self._chooser.unreached
        if verdict.outcome == "not reached":
            unreached[fault.point] = unreached.get(fault.point, 0) + 1
        again = ":".join(str(part) for part in fault)
        line = {"round": number, "layout": record.layout.name, "fault": again,
                "provoked": record.provoked, "outcome": verdict.outcome, "blame": verdict.blame,
                "detected": verdict.detected, "recovered": verdict.recovered,
                "seconds": time.monotonic() - began, "stalled": record.stalled,
                "violations": verdict.violations}
        with open(os.path.join(self._folder, "rounds.jsonl"), "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print("%5d %-12s %-52s %-8s %-9s %.1f s" % (
            number, record.layout.name, again, record.provoked, verdict.outcome, line["seconds"]),
            flush=True)
        if not verdict.violations:
            return
        path = os.path.join(self._folder, "round-%d.json" % number)
        with open(path, "w", encoding="utf-8") as file:
            json.dump(record._asdict(), file, indent=1, default=str)
        for violation in verdict.violations:
            print("      VIOLATION " + violation)
        print("      seed %d; again: --layout %r --only %r; %s and the logs beside it" % (
            self._flags.seed, record.layout.name, again, path), flush=True)


def main() -> int:
    flags = parse()
    network = None
    if not flags.no_network:
        try:
            network = Network()
        except OSError as error:
            print("NO NETWORK FAULTS, NO FULL DISKS: namespaces cannot be made here (%s)" % error)
    if network is not None and not network.has_netem:
        print("NO NETEM: the kernel has none; tbf makes ways slow and lossy instead")
    folder = flags.logs or tempfile.mkdtemp(prefix="packcast-storm-")
    os.makedirs(folder, exist_ok=True)
    print("seed %d, logs in %s" % (flags.seed, folder), flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the table is printed
    return Storm(flags, folder, network).run()


if __name__ == "__main__":
    sys.exit(main())
