"""How well a simulated device answers: after how long, and whether at all. Any protocol may carry it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from rpcbroker.core.deadlines import Clock


class Board(Protocol):
    """What a device does."""

    def answer(self, method: str, params: Any) -> Any:
        """The reply to a call, any JSON value."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One call as the device saw it. `dropped`: it will never be answered."""

    method: str
    params: Any
    reply: Any
    dropped: bool


class SimulatedDevice:
    """A board behind `latency` seconds, that leaves one call in 1/`drop` unanswered."""

    def __init__(
        self,
        board: Board,
        *,
        clock: Clock,
        rng: Random,
        latency: float = 0.0,
        drop: float = 0.0,
        observe: Callable[[Seen], None] = lambda _seen: None,
    ) -> None:
        """`drop` is a chance from 0 to 1; `observe` is told of each call at the moment it is decided."""
        self._board = board
        self._clock = clock
        self._rng = rng
        self._latency = latency
        self._drop = drop
        self._observe = observe

    def receive(self, method: str, params: Any, respond: Callable[[Any], None]) -> None:
        """Take a call; `respond` is called with the reply when it is time, or never."""
        if self._latency:
            self._clock.callLater(self._latency, lambda: self._decide(method, params, respond))
        else:
            self._decide(method, params, respond)

    def _decide(self, method: str, params: Any, respond: Callable[[Any], None]) -> None:
        if self._rng.random() < self._drop:
            self._observe(Seen(method, params, None, True))
            return
        reply = self._board.answer(method, params)
        self._observe(Seen(method, params, reply, False))
        respond(reply)
