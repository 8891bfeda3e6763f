"""Latency and drop."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from twisted.internet.task import Clock

from rpcbroker.simulator.device import Seen, SimulatedDevice
from rpcbroker.simulator.gpio import GpioBoard


class Chances(Random):
    """Rolls what it is told."""

    def __init__(self, *rolls: float) -> None:
        super().__init__()
        self._rolls = iter(rolls)

    def random(self) -> float:
        return next(self._rolls)


def device(clock: Clock, rng: Random, seen: list[Seen], **more: Any) -> SimulatedDevice:
    return SimulatedDevice(GpioBoard(), clock=clock, rng=rng, observe=seen.append, **more)


def test_without_latency_it_answers_at_once() -> None:
    replies: list[Any] = []
    clock = Clock()
    device(clock, Random(1), []).receive("echo", 5, replies.append)
    assert replies == [5]
    assert clock.getDelayedCalls() == []


def test_with_latency_it_answers_then_and_not_before() -> None:
    replies: list[Any] = []
    clock = Clock()
    slow = device(clock, Random(1), [], latency=0.2)
    slow.receive("echo", 1, replies.append)
    clock.advance(0.1)
    slow.receive("echo", 2, replies.append)
    clock.advance(0.09)
    assert replies == []
    clock.advance(0.02)
    assert replies == [1]
    clock.advance(0.1)
    assert replies == [1, 2]


def test_a_dropped_call_is_seen_but_neither_done_nor_answered() -> None:
    replies: list[Any] = []
    seen: list[Seen] = []
    flaky = device(Clock(), Chances(0.04, 0.05, 0.9), seen, drop=0.05)
    flaky.receive("setValue", 1, replies.append)
    flaky.receive("getValue", None, replies.append)
    flaky.receive("setValue", 2, replies.append)
    assert replies == [False, 2]
    assert seen == [
        Seen("setValue", 1, None, True),
        Seen("getValue", None, False, False),
        Seen("setValue", 2, 2, False),
    ]


@pytest.mark.parametrize(("drop", "answered"), [(0.0, 100), (1.0, 0)])
def test_the_ends_of_the_scale_are_certain(drop: float, answered: int) -> None:
    replies: list[Any] = []
    flaky = device(Clock(), Random(7), [], drop=drop)
    for _ in range(100):
        flaky.receive("echo", 1, replies.append)
    assert len(replies) == answered
