"""Which fault befalls whom, where and for how long: chosen by a seed."""

import random
import re
from typing import Dict, List, NamedTuple, Optional

from tests.chaos.crew import Layout, role_of

KINDS = {
    # At a failpoint or at a random moment.
    "kill": "SIGKILL",
    "exit": "_exit without a word",
    "freeze": "SIGSTOP, and SIGCONT later",
    "zombie": "SIGSTOP, a successor of the same name, SIGCONT",
    "term": "SIGTERM",
    "twin": "another process of the same name",
    "delay": "takes a while, at a failpoint",
    "error": "local work fails, at a failpoint",
    "disk": "its log (and checkpoint) on a full disk, from its start",
    "truncated": "starts from a checkpoint that did not fit onto the disk",
    # With namespaces.
    "cut": "nothing reaches it or comes from it",
    "inbound": "nothing reaches it",
    "outbound": "nothing comes from it",
    "flap": "cut for a moment that nobody should mind",
    "split": "cut from the trainer alone",
    "half-open": "killed while cut, so that its peers' connections stay; then a successor",
    "reset": "its connections end while it is cut: its peers do not hear of it",
    "narrow": "a slow way with a long queue",
    "lossy": "a slow way with a short queue: packets are lost",
    "netem": "delay and loss",
}
NETWORK_KINDS = ("cut", "inbound", "outbound", "flap", "split", "half-open", "reset", "narrow",
                 "lossy", "netem")
# They end the process, and a successor is started afterwards.
DEADLY_KINDS = ("kill", "exit", "term", "half-open")
KILLING_KINDS = ("kill", "exit")  # while the network is well: each peer's kernel tells
SILENT_KINDS = ("freeze", "zombie", "cut", "inbound", "outbound", "half-open", "reset")
SLOW_KINDS = ("narrow", "lossy", "netem")  # take what they take
# They must not cost an attempt.
HARMLESS_KINDS = ("delay", "disk", "flap")

_FREEZE_SECONDS = (0.2, 1.2, 2.5)
_CUT_SECONDS = (1.2, 1.2, 3.0)


class Fault(NamedTuple):
    kind: str
    victim: str
    point: str = ""  # a failpoint; "" for a random moment
    hit: int = 1
    seconds: float = 0.0  # how long it lasts
    after: float = 0.0  # at a random moment: when, as a part of an epoch's usual time

    def settings(self) -> str:
        """What the victim is told beforehand."""
        action = {"kill": "kill", "exit": "exit", "freeze": "stop", "zombie": "stop",
                  "error": "error", "delay": "delay:300"}.get(self.kind, "delay:250")
        return "%s=%s@%d" % (self.point, action, self.hit)


class Point(NamedTuple):
    name: str
    can_fail: bool
    is_rare: bool
    is_simulated: bool  # never passed by a process

    def role(self) -> str:
        role = role_of(self.name.replace(".", "-", 1))
        return {"root": "trainer", "member": "worker"}.get(role, role)


def parse_points(listing: str) -> List[Point]:
    """What //tests/chaos:failpoints prints."""
    points = []
    for line in listing.splitlines():
        name, *words = line.split()
        points.append(Point(name, "error" in words, "rare" in words,
                            "simulated" in words))
    return points


class Chooser:
    """Deals all cells (failpoint, fault) once, in an order by the seed, mixed with faults at random
    moments; then anew."""

    def __init__(self, points: List[Point], seed: int, has_network: bool, has_netem: bool,
                 at_points: float = 0.6) -> None:
        """has_network: namespaces can be made, and with them small disks. at_points: which part of
        the faults is at a failpoint."""
        self._at_points = at_points
        self._points = points
        self._seed = seed
        self._has_disk = has_network
        self._network = [kind for kind in NETWORK_KINDS
                         if has_network and (kind != "netem" or has_netem)]
        self._cells: List[tuple] = []
        self._deals = 0
        self.unreached: Dict[str, int] = {}

    def _deal(self) -> None:
        self._deals += 1
        cells = []
        for point in self._points:
            if point.is_simulated:
                continue
            kinds = ["kill", "freeze", "delay"] + (["error"] if point.can_fail else [])
            if point.role() != "coordinator":
                kinds.append("zombie")
            cells += [(point, kind) for kind in kinds]
        random.Random("%d deal %d" % (self._seed, self._deals)).shuffle(cells)
        self._cells = cells

    def _at_point(self, rng: random.Random, layout: Layout) -> Optional[Fault]:
        for _ in range(len(self._points) * 5):
            if not self._cells:
                self._deal()
            point, kind = self._cells.pop()
            if self.unreached.get(point.name, 0) >= (1 if point.is_rare else 2):
                continue
            if "quiesc" in point.name and layout.install != "in-place":
                self._cells.insert(0, (point, kind))  # of another layout
                continue
            if kind == "kill" and rng.random() < 0.2:
                kind = "exit"
            if kind == "delay" and self._network and rng.random() < 0.5:
                kind = rng.choice([k for k in self._network if k not in ("split", "netem")])
            victim = self._victim(rng, layout, point.role())
            if re.match(r"worker\.(streaming\.streamed|streamed\.|send\.man|aborting\.proposed)",
                        point.name):
                victim = "worker-0"  # the first that is asked to bring others up to date
            hit = 1
            if re.match(r"coordinator\.send\.(propose|prepare|start|quiesce|commit|abort)",
                        point.name):
                hit = rng.randint(1, 5)
            elif re.match(r"(root|member)\.", point.name):
                hit = rng.randint(1, 20)
            elif point.name.startswith("coordinator") and len(set(point.name.split(".")[1:])) == 1:
                hit = rng.randint(1, 4)
            return Fault(kind, victim, point.name, hit, self._seconds(rng, kind))
        return None

    @staticmethod
    def _victim(rng: random.Random, layout: Layout, role: str) -> str:
        return rng.choice([name for name in layout.names() if role_of(name) == role])

    @staticmethod
    def _seconds(rng: random.Random, kind: str) -> float:
        if kind in ("freeze", "narrow", "lossy", "netem"):
            return rng.choice(_FREEZE_SECONDS)
        if kind == "flap":
            return 0.15
        if kind == "split":
            return 60.0  # until the epoch has ended
        return rng.choice(_CUT_SECONDS)

    def choose(self, number: int, layout: Layout) -> Fault:
        """The fault of that round."""
        rng = random.Random("%d round %d" % (self._seed, number))
        if rng.random() < self._at_points:
            fault = self._at_point(rng, layout)
            if fault is not None:
                return fault
        role = rng.choice(("coordinator", "trainer", "worker", "worker"))
        victim = self._victim(rng, layout, role)
        kinds = ["kill"] * 3 + ["freeze"] * 2 + ["term"] + self._network
        if self._has_disk:
            kinds += ["disk"] + ["truncated"] * (role == "trainer")
        if role != "coordinator":
            kinds += ["zombie", "twin"]
        kind = rng.choice(kinds)
        if kind == "split" and (role != "worker" or rng.random() < 0.5):
            kind = "cut"  # the transfer's deadline ends it: half a minute
        return Fault(kind, victim, "", 1, self._seconds(rng, kind),
                     round(rng.uniform(0.0, 1.3), 3))


LAYOUTS = [
    Layout("staged"),
    Layout("in-place", install="in-place"),
    Layout("shm", shm=True),
    Layout("pairs", replica_size=2),
    Layout("two trainers", trainers=2),
    Layout("shm in-place", shm=True, install="in-place"),
]
