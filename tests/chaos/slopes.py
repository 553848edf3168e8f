"""Whether a measured series grows: its slope, how sure that is, and a verdict."""

from typing import List, NamedTuple, Sequence

_BATCHES = 20  # neighbours depend on each other, batches of them hardly do
_T = 2.101  # two-sided 95 % of Student's distribution with _BATCHES - 2 degrees of freedom


class Slope(NamedTuple):
    mean: float
    per_epoch: float
    plus_minus: float  # half of the 95 % confidence interval of per_epoch
    span: float  # epochs that were measured

    @property
    def growth(self) -> float:
        """Over all that was measured."""
        return self.per_epoch * self.span

    def grows(self, tolerance: float) -> bool:
        """By more than `tolerance` over the span, for sure."""
        return (self.per_epoch - self.plus_minus) * self.span > tolerance


def slope_of(epochs: Sequence[float], values: Sequence[float]) -> Slope:
    """Least squares through the means of consecutive batches. Needs 2 values a batch."""
    count = len(values)
    if count < 2 * _BATCHES:
        raise ValueError("%d measurements are too few: %d are needed" % (count, 2 * _BATCHES))
    xs: List[float] = []
    ys: List[float] = []
    for k in range(_BATCHES):
        part = slice(k * count // _BATCHES, (k + 1) * count // _BATCHES)
        xs.append(sum(epochs[part]) / len(epochs[part]))
        ys.append(sum(values[part]) / len(values[part]))
    mean_x, mean_y = sum(xs) / _BATCHES, sum(ys) / _BATCHES
    spread = sum((x - mean_x) ** 2 for x in xs)
    per_epoch = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys)) / spread
    rest = sum((y - mean_y - per_epoch * (x - mean_x)) ** 2 for x, y in zip(xs, ys))
    deviation = (rest / (_BATCHES - 2) / spread) ** 0.5
    return Slope(mean_y, per_epoch, _T * deviation, epochs[-1] - epochs[0])
