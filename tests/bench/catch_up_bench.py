"""How soon a replica that is behind is current, and what that costs the others' epochs.

Two clusters take turns, alike but that the workers of one keep a copy that others may catch up from
("can serve"), those of the other do not. In each round, in both: some steady epochs; a worker that
was drained for one epoch and comes back (one version behind); one that was killed and comes back
(fresh), and an epoch that begins once it has joined, with the cluster that can serve in the middle
of the catch-up. That epoch ends the catch-up and takes the worker in: its time beside the other
cluster's, where there is nothing to end, is what the catch-up cost.
"""

import argparse
import os
import statistics
import tempfile
import time
from typing import Any, Dict, List

from tests.integration import weights
from tests.integration.cluster import wrong_with
from tests.integration.processes import Process, kill
from tests.integration.roles import Roles

os.environ.setdefault("PACKCAST_BIN", os.path.abspath("examples"))


class Side:
    """One of the two clusters, and what was measured there."""

    def __init__(self, folder: str, flags: argparse.Namespace, serves: bool) -> None:
        self.serves = serves
        self.worker_flags = () if serves else ("--no-can-serve",)
        self.count = flags.workers
        self.roles = Roles()
        self.roles.trainer("--shapes=" + weights.mebibytes(folder, flags.mebibytes))
        self.workers: List[Process] = [self.start(rank) for rank in range(self.count)]
        self.session = self.roles.session
        self.session.wait_members(self.count + 1)
        self.seconds: Dict[str, List[float]] = {}
        self.epoch()

    def start(self, rank: int) -> Process:
        return self.roles.worker(rank, *self.worker_flags)

    def note(self, what: str, seconds: float) -> None:
        self.seconds.setdefault(what, []).append(seconds)

    def epoch(self, workers: int = 0) -> Dict[str, Any]:
        """Its report; as long as it took is in "wall"."""
        began = time.monotonic()
        report = self.session.sync()
        report["wall"] = time.monotonic() - began
        wrong = wrong_with(report, workers or self.count)
        assert not wrong, wrong
        return report

    def steady(self, epochs: int) -> None:
        for _ in range(epochs):
            report = self.epoch()
            self.note("steady", report["wall"])
            self.note("transfer", report["phases"]["transfer"])

    def wait_current(self, since: int) -> float:
        """When the last worker was."""
        name = "worker-%d" % (self.count - 1)

        def caught_up() -> Any:
            return next((event for event in self.session.watch.events[since:]
                         if event["event"] == "catch_up.end" and event["report"]["committed"]
                         and name in [w["name"] for w in event["report"]["workers"]]), None)
        return self.session.watch.until(caught_up, "catch-up of " + name)["at"]

    def one_behind(self) -> None:
        replica = "replica-%d" % (self.count - 1)
        self.session.call("drain", replica=replica)
        self.epoch(self.count - 1)
        since = len(self.session.watch.events)
        began = time.monotonic()
        self.session.call("readmit", replica=replica)
        self.note("one behind", self.wait_current(since) - began)

    def lose(self) -> int:
        """The last worker, which comes back; how many events there were before."""
        name = "worker-%d" % (self.count - 1)
        since = len(self.session.watch.events)
        kill(self.workers[-1].pid)
        self.session.watch.first("member.lost", since, member=name)
        since = len(self.session.watch.events)
        self.workers[-1] = self.start(self.count - 1)
        self.joined = self.session.watch.first("member.joined", since, member=name)["at"]
        return since

    def fresh(self) -> None:
        since = self.lose()
        self.note("fresh", self.wait_current(since) - self.joined)

    def epoch_with_newcomer(self, wait: float) -> None:
        since = self.lose()
        if self.serves:
            self.session.watch.first("catch_up.begin", since)
        # As long after the join on both sides.
        time.sleep(max(0.0, self.joined + wait - time.monotonic()))
        ended = [event for event in self.session.watch.events[since:]
                 if event["event"] == "catch_up.end"]
        assert not ended, "the catch-up was over before the epoch began: choose --wait shorter"
        self.note("with a newcomer", self.epoch()["wall"])

    def median(self, what: str) -> float:
        return statistics.median(self.seconds[what])

    def worst(self, what: str) -> float:
        return max(self.seconds[what])


def print_table(flags: argparse.Namespace, serves: Side, without: Side) -> None:
    print("%d MiB, %d workers; median (and worst) of %d rounds, seconds" % (
        flags.mebibytes, flags.workers, flags.rounds))
    print("%-44s %8.3f (%.3f), transfer %.3f" % (
        "steady epoch", serves.median("steady"), serves.worst("steady"),
        serves.median("transfer")))
    for what, name in (("one behind", "one version behind: from readmit to current"),
                       ("fresh", "fresh: from its join to current")):
        # Two seconds, and the bytes at half the rate of an epoch's.
        print("%-44s %8.3f (%.3f), bar 2 + %.3f" % (
            name, serves.median(what), serves.worst(what), 2 * serves.median("transfer")))
    with_copy, alone = serves.median("with a newcomer"), without.median("with a newcomer")
    print("%-44s %8.3f (%.3f)" % ("epoch that takes a newcomer in, no catch-up", alone,
                                  without.worst("with a newcomer")))
    print("%-44s %8.3f (%.3f), %.3f of it" % (
        "the same that ends a catch-up", with_copy, serves.worst("with a newcomer"),
        with_copy / alone))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--mebibytes", type=int, default=512)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2, help="steady ones, of each round")
    parser.add_argument("--wait", type=float, default=0.2,
                        help="seconds from the newcomer's join to the epoch")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sides = []
        try:
            for serves in (True, False):
                sides.append(Side(folder, flags, serves))
            for number in range(flags.rounds):
                for side in sides if number % 2 else reversed(sides):
                    side.steady(flags.epochs)
                    if side.serves:
                        side.one_behind()
                        side.fresh()
                    side.epoch_with_newcomer(flags.wait)
            print_table(flags, *sides)
        finally:
            for side in sides:
                side.roles.end()


if __name__ == "__main__":
    main()
