"""Reads the golden vectors with Python's msgpack and redoes, from docs/protocol.md alone, what
needs no XXH3: sizes, plan layouts and content digests."""

import json
import os
import struct
import unittest
from typing import Any, Dict, List, Tuple

import msgpack

FOLDER = os.path.dirname(os.path.abspath(__file__))
U64 = (1 << 64) - 1
ALIGN = 256
TAPER = 64 << 20
# Bits of an element by dtype code.
DTYPE_BITS = [8, 8, 8, 16, 16, 16, 16, 32, 32, 32, 64, 64, 64, 8, 8, 8, 4, 6, 6, 64]
ALIGNED, COMPAT = 0, 1


def load(name: str) -> Any:
    with open(os.path.join(FOLDER, name), encoding="utf-8") as file:
        return json.load(file)


def from_json(value: Any) -> Any:
    """What {"$bytes": hex} and {"$range": index} stand for, at any depth."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if isinstance(value, dict):
        if list(value) == ["$bytes"]:
            return bytes.fromhex(value["$bytes"])
        if list(value) == ["$range"]:
            return msgpack.ExtType(1, bytes([value["$range"]]))
        return {key: from_json(item) for key, item in value.items()}
    return value


def exact(value: Any) -> Any:
    """`value` with its types, since 1 == 1.0 == True in Python."""
    if isinstance(value, list):
        return [exact(item) for item in value]
    if isinstance(value, dict):
        return [(key, exact(item)) for key, item in value.items()]
    return (type(value).__name__, value)


def row_bytes(row: List[Any]) -> int:
    """Bytes of a manifest row [name, dtype, shape, encoding, group, auxiliary]."""
    elements = 1
    for extent in row[2]:
        elements *= extent
    bits = elements * DTYPE_BITS[row[1]]
    assert bits % 8 == 0
    return bits // 8


def mix(x: int) -> int:
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9 & U64
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb & U64
    return x ^ (x >> 31)


def content_digest(parts: List[Tuple[int, int, bytes]]) -> str:
    """docs/protocol.md, "content_digest"."""
    a = b = 0
    step_a, step_b = 0x9e3779b97f4a7c15, 0xbb67ae8584caa73b
    for row, offset, data in parts:
        data += bytes(-len(data) % 8)
        for k, (word,) in enumerate(struct.iter_unpack("<Q", data), offset // 8):
            key_a = mix((row + step_a) & U64) + k * step_a & U64
            key_b = mix((~row + step_b) & U64) + k * step_b & U64
            x, y = word ^ key_a, word + key_b & U64
            a = a + (x & 0xffffffff) * (x >> 32) + word & U64
            b = b + (y & 0xffffffff) * (y >> 32) & U64
    return "%016x%016x" % (a, b)


class Layout:
    """docs/protocol.md, "The plan"."""

    def __init__(self, options: Dict[str, Any]) -> None:
        self.options = options
        self.regions: List[List[int]] = []
        self.steps: List[List[Any]] = []
        self.open: Dict[bool, List[List[int]]] = {False: [], True: []}  # by "direct"
        self.fill = {False: 0, True: 0}
        self.closed = {False: 0, True: 0}  # bytes in closed steps
        self.limit = {False: 0, True: 0}  # of the open step

    def begin(self, direct: bool) -> None:
        """What the open step of a kind may have, when its first region comes."""
        most = self.options["direct_bytes_per_step" if direct else "buffer_bytes"]
        total = self.options["direct_bytes_total" if direct else "packed_bytes_total"]
        if total > 0:
            third = max(total - self.closed[direct], 0) // 3
            most = min(most, max(third + -third % ALIGN, TAPER))
            if not direct:
                most = min(most, max(TAPER, self.closed[False]))
        self.limit[direct] = most

    def close(self, direct: bool) -> None:
        first = len(self.regions)
        self.regions += self.open[direct]
        self.steps.append([direct, first, len(self.regions), self.fill[direct]])
        self.closed[direct] += self.fill[direct] + -self.fill[direct] % ALIGN
        self.open[direct], self.fill[direct] = [], 0

    def close_full(self) -> None:
        size, fill = self.options["buffer_bytes"], self.fill[False]
        compat = self.options["layout"] == COMPAT
        full = fill + -fill % ALIGN >= self.limit[False]
        if self.open[False] and (fill > size if compat else full):
            self.close(False)
        if self.open[True] and (len(self.open[True]) >= self.options["direct_regions_per_step"]
                                or self.fill[True] >= self.limit[True]):
            self.close(True)

    def carries(self, row: int) -> bool:
        rows = self.options["carried"]
        return not rows or any(begin <= row < end for begin, end in rows)

    def add(self, row: int, size: int) -> None:
        if not self.carries(row):
            return
        direct = (row in self.options["direct_rows"] and self.options["layout"] == ALIGNED
                  and 0 < self.options["direct_bytes_min"] <= size)
        done = 0
        while done < size:
            self.close_full()
            if not self.open[direct]:
                self.begin(direct)
            rest, fill = size - done, self.fill[direct]
            if direct:
                start, part = 0, min(rest, self.limit[True] - fill)
                if part < rest:
                    part -= part % ALIGN
                if part == 0:
                    self.close(True)
                    continue
                self.fill[True] += part
            elif self.options["layout"] == COMPAT:
                start, part = fill, rest
                self.fill[False] = start + part
            else:
                start = fill + -fill % ALIGN
                part = min(rest, self.limit[False] - start)
                self.fill[False] = start + part
            self.open[direct].append([row, done, part, start])
            done += part
        self.close_full()

    def finish(self) -> None:
        for direct in (True, False):
            if self.open[direct]:
                self.close(direct)


class GoldenTest(unittest.TestCase):
    def test_messages_decode_to_their_json(self) -> None:
        for vector in load("messages.json"):
            with self.subTest(vector["kind"] + " " + vector["name"]):
                value = msgpack.unpackb(bytes.fromhex(vector["hex"]))
                self.assertEqual(exact(value), exact(from_json(vector["json"])))

    def test_python_makes_the_same_bytes(self) -> None:
        for vector in load("messages.json"):
            with self.subTest(vector["kind"] + " " + vector["name"]):
                packed = msgpack.packb(from_json(vector["json"]))
                self.assertEqual(packed.hex(), vector["hex"])

    def test_every_kind_is_there(self) -> None:
        names = {(v["kind"], v["name"]) for v in load("messages.json")}
        self.assertEqual(len(names), len(load("messages.json")))
        count = {kind: sum(k == kind for k, _ in names) for kind, _ in names}
        self.assertEqual(
            count, {"envelope": 10, "body": 5, "apart": 1, "member": 16, "coordinator": 16})

    def test_plans(self) -> None:
        for vector in load("plans.json"):
            with self.subTest(vector["name"]):
                sizes = [row_bytes(row) for row in vector["rows"]]
                self.assertEqual(sizes, vector["row_bytes"])
                layout = Layout(vector)
                for row, size in enumerate(sizes):
                    layout.add(row, size)
                layout.finish()
                self.assertEqual(layout.regions, vector["regions"])
                self.assertEqual(layout.steps, vector["steps"])
                self.assertEqual(sum(r[2] for r in layout.regions),
                                 sum(n for row, n in enumerate(sizes) if layout.carries(row)))

    def test_equal_manifests_have_equal_digests(self) -> None:
        seen: Dict[str, str] = {}
        for vector in load("plans.json"):
            rows = msgpack.packb(vector["rows"]).hex()
            self.assertEqual(seen.setdefault(rows, vector["manifest_digest"]),
                             vector["manifest_digest"])
        self.assertEqual(len(set(seen.values())), len(seen))

    def test_content_digests(self) -> None:
        for vector in load("digests.json")["content"]:
            with self.subTest(vector["name"]):
                parts = [(row, at, bytes.fromhex(data)) for row, at, data in vector["parts"]]
                self.assertEqual(content_digest(parts), vector["digest"])


if __name__ == "__main__":
    unittest.main()
