"""How late the reactor is: what everything in this process waits for, beside its own work."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.base import DelayedCall

from rpcbroker.core.deadlines import Clock
from rpcbroker.core.histogram import Histogram

TURN = 0.01
"""Seconds that one connection may hold the loop; what else came on it is read when others had their turn."""
INTERVAL = 1.0
"""Seconds between two looks: often enough to meet a stall, seldom enough to cost nothing."""
BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class LoopLag:
    """Sets a timer again and again, and writes down how late it came."""

    def __init__(self, clock: Clock, seconds: Callable[[], float]) -> None:
        """`seconds` should be monotonic: when the wall clock is set, the loop was not late."""
        self._clock = clock
        self._seconds = seconds
        self._timer: DelayedCall | None = None
        self._due = 0.0
        self.late = Histogram(BOUNDS)

    def start(self) -> None:
        self._due = self._seconds() + INTERVAL
        self._timer = self._clock.callLater(INTERVAL, self._came)

    def stop(self) -> None:
        """Harmless when it was not started."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _came(self) -> None:
        self.late.observe(max(0.0, self._seconds() - self._due))
        self.start()
