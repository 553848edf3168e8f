"""The soak's verdict: tells a leak from noise."""

import random
import unittest
from typing import Callable, List

from tests.chaos.slopes import Slope, slope_of

EPOCHS = list(range(0, 10000, 20))


class SlopesTest(unittest.TestCase):
    def slope(self, value: Callable[[int, random.Random], float]) -> Slope:
        rng = random.Random(7)
        return slope_of(EPOCHS, [value(epoch, rng) for epoch in EPOCHS])

    def test_a_line_is_found_exactly(self) -> None:
        slope = self.slope(lambda epoch, rng: 5.0 + 0.25 * epoch)
        self.assertAlmostEqual(slope.per_epoch, 0.25)
        self.assertAlmostEqual(slope.plus_minus, 0.0)
        self.assertAlmostEqual(slope.growth, 0.25 * 9980)
        self.assertTrue(slope.grows(0.24 * 9980))
        self.assertFalse(slope.grows(0.26 * 9980))

    def test_noise_is_flat(self) -> None:
        for amplitude in (1, 1000, 1000000):
            slope = self.slope(lambda epoch, rng, a=amplitude: 1e7 + a * rng.random())
            self.assertFalse(slope.grows(0.05 * amplitude), slope)

    def test_a_leak_in_noise_is_found(self) -> None:
        slope = self.slope(lambda epoch, rng: 1e7 + 100 * epoch + 1e5 * rng.random())
        self.assertTrue(slope.grows(128 * 1024), slope)
        self.assertLess(slope.plus_minus, 10)

    def test_a_descriptor_lost_now_and_then_is_found(self) -> None:
        self.assertTrue(self.slope(lambda epoch, rng: 20 + epoch // 3000).grows(0.5))
        self.assertFalse(self.slope(lambda epoch, rng: 20 + rng.randrange(2)).grows(0.5))

    def test_what_falls_does_not_grow(self) -> None:
        self.assertFalse(self.slope(lambda epoch, rng: 1e7 - 10 * epoch).grows(0))

    def test_the_confidence_is_about_right(self) -> None:
        """Of a hundred flat series some 5 look as if they had a slope, half of them upwards."""
        series: List[Slope] = []
        for seed in range(100):
            rng = random.Random(seed)
            series.append(slope_of(EPOCHS, [rng.gauss(0, 1) for _ in EPOCHS]))
        self.assertLessEqual(sum(slope.grows(0) for slope in series), 8)
        self.assertLessEqual(sum(abs(s.per_epoch) > s.plus_minus for s in series), 12)
        self.assertGreaterEqual(sum(abs(s.per_epoch) > s.plus_minus for s in series), 1)

    def test_too_few_are_refused(self) -> None:
        with self.assertRaises(ValueError):
            slope_of(EPOCHS[:39], [0.0] * 39)


if __name__ == "__main__":
    unittest.main()
