"""Syncs leave no buffers behind. vLLM kept 2 GiB of them for each."""

import os
import tempfile
import unittest
from typing import Dict
from unittest import mock

from tests.integration import weights
from tests.integration.cluster import Cluster, wrong_with

MODEL_MIB = 32
SYNCS = 6
# What a sync takes besides the weights: two buffers of an eighth of the model at most.
BUFFERS_MIB = MODEL_MIB // 4


class MemoryTest(unittest.TestCase):
    def start(self, *flags: str) -> Cluster:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        # The C library gives back what is freed, so that what grows is held by packcast.
        patch = mock.patch.dict(os.environ, MALLOC_MMAP_THRESHOLD_="65536", MALLOC_ARENA_MAX="1")
        patch.start()
        self.addCleanup(patch.stop)
        cluster = Cluster("--shapes=" + weights.mebibytes(folder.name, MODEL_MIB), *flags)
        self.addCleanup(cluster.end)
        return cluster

    def mebibytes(self, cluster: Cluster) -> Dict[str, int]:
        """What each member has in memory of its own, or shares."""
        found = {}
        for member in ("trainer-0", "worker-0", "worker-1"):
            with open("/proc/%d/status" % cluster.pid(member), encoding="utf-8") as file:
                sizes = [int(line.split()[1]) for line in file
                         if line.startswith(("RssAnon:", "RssShmem:"))]
            found[member] = sum(sizes) // 1024
        return found

    def check_flat(self, cluster: Cluster, change: bool) -> None:
        """Each member's memory grows by less than one sync's buffers in many."""
        before: Dict[str, int] = {}
        for k in range(4 + SYNCS):
            if change:  # other buffers each time
                cluster.call("limits", buffer_bytes=(2 << 20) << k % 2)
            self.assertFalse(wrong_with(cluster.sync(), 2))
            if k == 3:
                before = self.mebibytes(cluster)
        after = self.mebibytes(cluster)
        print(before, after)
        for member, size in after.items():
            self.assertLess(size, before[member] + BUFFERS_MIB, member)

    def test_the_same_buffers_over_and_over(self) -> None:
        self.check_flat(self.start(), change=False)

    def test_other_buffers_each_time(self) -> None:
        self.check_flat(self.start(), change=True)

    def test_other_buffers_in_shared_memory(self) -> None:
        self.check_flat(self.start("--shm"), change=True)


if __name__ == "__main__":
    unittest.main()
