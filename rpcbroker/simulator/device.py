"""How well a simulated device answers: after how long, and whether at all. Any protocol may carry it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from rpcbroker.core.deadlines import Clock


@dataclass(frozen=True, slots=True)
class Lengthy:
    """What takes a while: `pause` seconds before each report of progress, and before the reply."""

    pause: float
    reports: tuple[Any, ...]
    reply: Any


class Board(Protocol):
    """What a device does."""

    def answer(self, method: str, params: Any) -> Any:
        """The reply to a call, any JSON value; or Lengthy."""

    def values(self) -> dict[str, Any]:
        """What it reports as telemetry when it connects, and of that again what a call has changed."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One call as the device saw it. `dropped`, `cancelled` or `crashed`: it will never be answered."""

    method: str
    params: Any
    reply: Any
    dropped: bool = False
    cancelled: bool = False
    crashed: bool = False
    duplicated: bool = False
    """Whether its reply was sent twice."""


Say = Callable[[Any], None]
"""Sends a JSON value to whoever called."""


class _Running:
    """A call that the device has not done with."""

    __slots__ = ("call_id", "method", "params", "report", "respond", "timer")

    def __init__(self, call_id: str, method: str, params: Any, respond: Say, report: Say) -> None:
        self.call_id = call_id
        self.method = method
        self.params = params
        self.respond = respond
        self.report = report
        self.timer: Any = None


class SimulatedDevice:
    """A board behind `latency` seconds, that leaves one call in 1/`drop` unanswered, and breaks down now and then."""

    def __init__(
        self,
        board: Board,
        *,
        clock: Clock,
        rng: Random,
        latency: float = 0.0,
        drop: float = 0.0,
        duplicate: float = 0.0,
        crash_after: int = 0,
        observe: Callable[[Seen], None] = lambda _seen: None,
    ) -> None:
        """`drop` and `duplicate` are chances from 0 to 1: not to answer, and to send the reply twice.

        With `crash_after` each call of that number crashes the device: all that it works on is lost, and `on_crash`
        is called. `observe` is told of each call at the moment it is decided.
        """
        self.on_crash: Callable[[], None] = lambda: None
        self.on_values: Callable[[dict[str, Any]], None] = lambda _values: None
        """Told what is to be reported now."""
        self._board = board
        self._clock = clock
        self._rng = rng
        self._latency = latency
        self._drop = drop
        self._duplicate = duplicate
        self._crash_after = crash_after
        self._until_crash = crash_after
        self._observe = observe
        self._running: dict[str, _Running] = {}
        self._reported: dict[str, Any] = {}

    def connected(self) -> None:
        """It can be heard from now on: report all that there is to report."""
        self._reported = {}
        self._report()

    def receive(self, call_id: str, method: str, params: Any, respond: Say, report: Say) -> None:
        """Take a call; `respond` is called with the reply when it is time, or never, and `report` before with progress.

        A call that is still worked on when it comes once more is not begun anew: its answers go the newer way.
        """
        running = self._running.get(call_id)
        if running is not None:
            running.respond, running.report = respond, report
            return
        running = self._running[call_id] = _Running(call_id, method, params, respond, report)
        if self._crash_after:
            self._until_crash -= 1
            if not self._until_crash:
                self._crash()
                return
        if self._latency:
            running.timer = self._clock.callLater(self._latency, lambda: self._decide(running))
        else:
            self._decide(running)

    def cancel(self, call_id: str) -> None:
        """Nobody waits for this call any more: if it is still worked on, that ends."""
        running = self._running.pop(call_id, None)
        if running is not None:
            running.timer.cancel()
            self._observe(Seen(running.method, running.params, None, cancelled=True))

    def _decide(self, running: _Running) -> None:
        if self._rng.random() < self._drop:
            del self._running[running.call_id]
            self._observe(Seen(running.method, running.params, None, dropped=True))
            return
        answer = self._board.answer(running.method, running.params)
        if isinstance(answer, Lengthy):
            self._wait(running, answer, iter(answer.reports))
        else:
            self._end(running, answer)

    def _wait(self, running: _Running, work: Lengthy, reports: Iterator[Any]) -> None:
        running.timer = self._clock.callLater(work.pause, lambda: self._go_on(running, work, reports))

    def _go_on(self, running: _Running, work: Lengthy, reports: Iterator[Any]) -> None:
        for report in reports:
            self._wait(running, work, reports)
            running.report(report)
            return
        self._end(running, work.reply)

    def _end(self, running: _Running, reply: Any) -> None:
        del self._running[running.call_id]
        twice = bool(self._duplicate) and self._rng.random() < self._duplicate
        self._observe(Seen(running.method, running.params, reply, duplicated=twice))
        running.respond(reply)
        if twice:
            running.respond(reply)
        self._report()

    def _report(self) -> None:
        values = self._board.values()
        news = {
            key: value for key, value in values.items() if key not in self._reported or self._reported[key] != value
        }
        self._reported = values
        if news:
            self.on_values(news)

    def _crash(self) -> None:
        self._until_crash = self._crash_after
        running, self._running = self._running, {}
        for each in running.values():
            if each.timer is not None:
                each.timer.cancel()
            self._observe(Seen(each.method, each.params, None, crashed=True))
        self.on_crash()
