"""Wakes one loop: when something happens, or after a while."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from rpcbroker.core.deadlines import Deadline, Deadlines


class Bell:
    """What rings while nobody sleeps is heard by the next who wants to. One sleeper at a time."""

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._sleeper: Deferred[None] | None = None
        self._rung = False
        self._alarm: Deadline | None = None

    async def sleep(self) -> None:
        """Until it rings."""
        if not self._rung:
            self._sleeper = Deferred()
            await self._sleeper
        self._rung = False

    def ring(self, _: object = None) -> None:
        sleeper, self._sleeper = self._sleeper, None
        if sleeper is None:
            self._rung = True
        else:
            sleeper.callback(None)

    def ring_after(self, seconds: float) -> None:
        """In the place of what was set before."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._deadlines.after(seconds, self.ring, None)
