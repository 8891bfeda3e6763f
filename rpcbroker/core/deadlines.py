"""Many deadlines on one timer.

A `callLater` and a `cancel` for each call would cost more than the rest of the call, so deadlines
are kept in slots of 1/64 s with one timer for the earliest slot. A deadline fires never early and
at most one slot late; those of one slot fire in the order in which they were added. Adding and cancelling are O(1),
and a cancelled deadline is forgotten at once.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
from twisted.internet.base import DelayedCall
from twisted.logger import Logger

SLOTS_PER_SECOND = 64


class Clock(Protocol):
    """The part of `IReactorTime` that is used; `task.Clock` has it, and so has every reactor."""

    def seconds(self) -> float: ...

    def callLater(self, delay: float, action: Callable[..., Any], /) -> DelayedCall: ...


class Deadline(msgspec.Struct, eq=False):
    """One thing to do at a time, unless it is cancelled first."""

    _slot: dict[Deadline, None]
    _action: Any
    _argument: Any

    def cancel(self) -> None:
        """Forget it; harmless when it has fired or was cancelled."""
        self._slot.pop(self, None)
        self._action = self._argument = None  # mostly the owner: a cycle would keep it until garbage is collected

    def _fire(self) -> None:
        action, argument = self._action, self._argument
        self.cancel()
        action(argument)


class Deadlines:
    """All deadlines of one reactor."""

    _log = Logger()

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._slots: dict[int, dict[Deadline, None]] = {}
        self._order: list[int] = []
        self._timer: DelayedCall | None = None
        self._timer_slot = 0

    @property
    def waiting(self) -> int:
        """How many there are; costs a step for each slot."""
        return sum(map(len, self._slots.values()))

    def after(self, seconds: float, action: Callable[[Any], object], argument: Any) -> Deadline:
        """Call `action(argument)` once, `seconds` from now (at once in the next turn if not positive)."""
        number = math.ceil((self._clock.seconds() + max(0.0, seconds)) * SLOTS_PER_SECOND)
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = {}
            heapq.heappush(self._order, number)
            if self._timer is None or number < self._timer_slot:
                self._schedule(number)
        deadline = Deadline(slot, action, argument)
        slot[deadline] = None
        return deadline

    def stop(self) -> None:
        """Forget all deadlines."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._slots.clear()
        self._order.clear()

    def _schedule(self, number: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_slot = number
        delay = max(0.0, number / SLOTS_PER_SECOND - self._clock.seconds())
        self._timer = self._clock.callLater(delay, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now = math.floor(self._clock.seconds() * SLOTS_PER_SECOND)
        while self._order and self._order[0] <= now:
            slot = self._slots.pop(heapq.heappop(self._order))
            for deadline in tuple(slot):
                if deadline not in slot:  # one before it has cancelled it
                    continue
                try:
                    deadline._fire()
                except Exception:
                    self._log.failure("a deadline's action failed")
        if self._order:
            self._schedule(self._order[0])
