"""bazel run //examples:cluster, as its users run it: ends well, tells and verifies everything."""

import json
import os
import tempfile
import unittest
from typing import Any, Dict, List

from tests.integration import weights
from tests.integration.cluster import wrong_with
from tests.integration.processes import Process, run

REPORT_FIELDS = {"epoch", "version", "label", "committed", "attempt", "contract", "bytes",
                 "seconds", "phases", "workers"}
CONTRACT_FIELDS = {"buffer_bytes", "buffer_count", "transport", "install"}
WORKER_FIELDS = {"name", "version", "digest"}


class ClusterTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def cluster(self, *flags: str, workers: int = 2, epochs: int = 3) -> List[Dict[str, Any]]:
        """The reports of a run that must end well."""
        path = os.path.join(self.folder, "report.jsonl")
        if not any(flag.startswith(("--shapes", "--model")) for flag in flags):
            flags += ("--shapes=" + weights.mebibytes(self.folder, 16),)
        self.process = run("cluster", "--workers=%d" % workers, "--epochs=%d" % epochs,
                           "--report=" + path, "--devices=none", *flags)
        self.assertEqual(self.process.code, 0, self.process.text())
        with open(path, encoding="utf-8") as file:
            reports = [json.loads(line) for line in file]
        self.assertEqual([r["label"] for r in reports], list(range(1, epochs + 1)))
        for report in reports:
            self.assertFalse(wrong_with(report, workers))
        return reports

    def test_defaults(self) -> None:
        process = run("cluster")
        self.assertEqual(process.code, 0, process.text())
        table = [line.split() for line in process.out if " committed " in line and "MiB" in line]
        self.assertEqual([row[0] for row in table if row[0].isdigit()], ["1", "2", "3"])
        titles = process.wait_line("^epoch +version .*$").group()
        for word in ("contract", "bytes", "seconds by phase", "pause", "GB/s", "slowest"):
            self.assertIn(word, titles)
        # Which memory, before anything starts; which transport, once the members have agreed.
        self.assertRegex(process.out[0], "weights (in host memory|stay on the devices)")
        process.wait_line("^transport: (zmq|nccl) .*$")
        process.wait_line("^every tensor of 2 workers equals the source's in 3 epochs$")
        self.assertEqual(process.err, [], "noise on the terminal")

    def test_reports_have_all_fields_and_weights_change(self) -> None:
        reports = self.cluster()
        for report in reports:
            self.assertLessEqual(REPORT_FIELDS, report.keys())
            self.assertLessEqual(CONTRACT_FIELDS, report["contract"].keys())
            for worker in report["workers"]:
                self.assertLessEqual(WORKER_FIELDS, worker.keys())
            self.assertEqual(report["contract"]["transport"], "zmq")
            self.assertEqual(report["contract"]["install"], "staged")
            self.assertGreater(report["seconds"], 0)
            self.assertGreater(report["phases"]["transfer"], 0)
        self.assertEqual(self.process.out[0], "--devices none: weights in host memory")
        told = [line for line in self.process.out if line.startswith("transport: ")]
        self.assertEqual(told, ["transport: zmq over TCP (host memory; --shm shares memory)"])
        self.assertEqual([r["version"] for r in reports], ["1.1", "1.2", "1.3"])
        self.assertEqual(len({r["digest"] for r in reports}), 3)

    def test_replicas_of_two(self) -> None:
        for report in self.cluster("--replica-size=2", workers=4, epochs=2):
            self.assertEqual([(w["name"], w["replica"]) for w in report["workers"]],
                             [("worker-%d" % k, "replica-%d" % (k // 2)) for k in range(4)])

    def test_the_smallest_limit_becomes_the_contract(self) -> None:
        reports = self.cluster("--worker-limits=8388608,1000001,4194304", workers=3, epochs=2)
        for report in reports:
            self.assertEqual(report["contract"]["buffer_bytes"], 1000001 // 256 * 256)

    def test_over_shared_memory(self) -> None:
        for install in ("staged", "in-place"):
            with self.subTest(install):
                reports = self.cluster("--shm", "--install=" + install, workers=3, epochs=3)
                for report in reports:
                    self.assertTrue(report["contract"]["transport"].startswith("shm@"), report)

    def test_in_place(self) -> None:
        reports = self.cluster("--install=in-place", "--worker-limits=1048576,2097152", epochs=2)
        for report in reports:
            self.assertEqual(report["contract"]["install"], "in-place")
            for worker in report["workers"]:
                self.assertGreater(worker["pause_seconds"], 0)

    def test_sharded_checkpoint(self) -> None:
        one = weights.safetensors({"a": ("F32", [2, 3], bytes(range(24))),
                                   "empty": ("I8", [0], b"")})
        two = weights.safetensors({"b": ("BF16", [5], b"0123456789"), "scalar": ("U8", [], b"x")})
        reports = self.cluster("--model=" + weights.write(self.folder, "1.safetensors", one),
                               "--model=" + weights.write(self.folder, "2.safetensors", two))
        self.assertEqual([(r["bytes"], r["tensors"]) for r in reports], [(35, 4)] * 3)

    def test_shapes(self) -> None:
        path = weights.write_shapes(self.folder, [
            ["big", "F16", [1024, 1025]], ["scalar", "F64", []], ["none", "BOOL", [3, 0, 7]],
            ["odd", "U8", [12345]], ["fp8", "F8_E4M3", [7, 11]]])
        reports = self.cluster("--shapes=" + path, "--buffer-bytes=65536", "--buffers=3")
        self.assertEqual({(r["bytes"], r["tensors"]) for r in reports},
                         {(1024 * 1025 * 2 + 8 + 12345 + 77, 5)})
        self.assertEqual({r["contract"]["buffer_count"] for r in reports}, {3})

    def test_numbers_of_buffers(self) -> None:
        for count in (1, 64):
            reports = self.cluster("--buffers=%d" % count, "--worker-limits=1048577", epochs=1)
            self.assertEqual(reports[0]["contract"]["buffer_count"], count)

    def test_models_that_hold_next_to_nothing(self) -> None:
        for rows in ([["scalar", "F32", []]], [["none", "F32", [0]]]):
            with self.subTest(rows=rows):
                self.cluster("--shapes=" + weights.write_shapes(self.folder, rows), epochs=2)

    def test_twenty_thousand_tensors(self) -> None:
        rows = [["t.%d" % k, "U8", [k % 7]] for k in range(20000)]
        self.cluster("--shapes=" + weights.write_shapes(self.folder, rows), epochs=2)

    def test_two_clusters_at_once(self) -> None:
        both = [Process("cluster", "--epochs=2") for _ in range(2)]
        for process in both:
            self.addCleanup(process.end)
        self.assertEqual([p.wait() for p in both], [0, 0], both[0].text() + both[1].text())


if __name__ == "__main__":
    unittest.main()
