"""How often something was how large: counts between bounds, cheap enough for the path of a call."""

from __future__ import annotations

from bisect import bisect_left


class Histogram:
    """`counts[i]` observations were at most `bounds[i]` and above the bound before; the last were above all."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """`bounds` ascend."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        """The sum of all that was observed."""

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
