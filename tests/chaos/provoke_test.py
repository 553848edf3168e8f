"""Each failpoint has ways to it that exist."""

import re
import subprocess
import unittest
from typing import Any

from tests.chaos import provoke
from tests.chaos.faults import parse_points
from tests.chaos.lateness import Late, allowance
from tests.chaos.provoke import Provoker
from tests.chaos.rounds import programs


def provoker(victim: str) -> Provoker:
    nobody: Any = None
    return Provoker(nobody, nobody, victim, "worker.idle.idle=kill@1", lambda: 1, "worker-3")


class ProvokeTest(unittest.TestCase):
    def setUp(self) -> None:
        listing = subprocess.run([programs("failpoints")], capture_output=True, text=True,
                                 check=True).stdout
        self.points = parse_points(listing)
        self.assertGreater(len(self.points), 100)

    def test_each_way_to_a_failpoint_can_be_gone(self) -> None:
        there = {*provoker("worker-0").steps(), *provoke._OTHER, *provoke._LOST, *provoke._SECOND}
        gone = set()
        for point in self.points:
            ways = Provoker.order(point.name, None)
            self.assertLessEqual(set(ways), there, point.name)
            gone |= set(ways[:3])  # the storm tries no more
        self.assertEqual(there - gone, set(), "ways that lead nowhere")

    def test_no_way_replaces_the_fault_by_another(self) -> None:
        """The last setting of a failpoint counts."""
        for point in self.points:
            for way in Provoker.order(point.name, None):
                told = provoker(point.role() + "-0").settings(way)
                self.assertNotIn(point.name + "=", told, way)

    def test_what_the_victim_is_told_are_settings(self) -> None:
        for way in provoke._OWN:
            for setting in provoker("worker-0").settings(way).strip(";").split(";"):
                self.assertRegex(setting, r"^(worker|root|member)\.\w+=(error|delay:\d+)@\d$")
                name = setting.partition("=")[0]
                self.assertTrue(any(point.name == name and point.can_fail
                                    for point in self.points), setting)

    def test_a_coordinator_does_not_kill_itself_on_the_way(self) -> None:
        for point in self.points:
            if point.role() == "coordinator":
                for way in Provoker.order(point.name, None):
                    self.assertIsNone(re.match("lost|own|slow|second", way), point.name)

    def test_a_late_thread_counts_for_each_hop(self) -> None:
        late = (Late(10.5, 0.25), Late(11.0, 0.125))
        self.assertEqual(allowance(late, 0.0, 20.0), 4 * 0.375)
        self.assertEqual(allowance(late, 10.375, 10.9375), 4 * (0.125 + 0.0625))
        self.assertEqual(allowance(late, 11.0, 20.0), 0.0)


if __name__ == "__main__":
    unittest.main()
