"""Latency and drop."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from twisted.internet.task import Clock

from rpcbroker.simulator.device import Seen, SimulatedDevice
from rpcbroker.simulator.gpio import GpioBoard
from rpcbroker.simulator.widgets import WidgetBoard


class Chances(Random):
    """Rolls what it is told."""

    def __init__(self, *rolls: float) -> None:
        super().__init__()
        self._rolls = iter(rolls)

    def random(self) -> float:
        return next(self._rolls)


def device(clock: Clock, rng: Random, seen: list[Seen], **more: Any) -> SimulatedDevice:
    return SimulatedDevice(GpioBoard(), clock=clock, rng=rng, observe=seen.append, **more)


def silent(_report: Any) -> None:
    raise AssertionError("there was nothing to report")


def test_without_latency_it_answers_at_once() -> None:
    replies: list[Any] = []
    clock = Clock()
    device(clock, Random(1), []).receive("1", "echo", 5, replies.append, silent)
    assert replies == [5]
    assert clock.getDelayedCalls() == []


def test_with_latency_it_answers_then_and_not_before() -> None:
    replies: list[Any] = []
    clock = Clock()
    slow = device(clock, Random(1), [], latency=0.2)
    slow.receive("2", "echo", 1, replies.append, silent)
    clock.advance(0.1)
    slow.receive("3", "echo", 2, replies.append, silent)
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
    flaky.receive("4", "setValue", 1, replies.append, silent)
    flaky.receive("5", "getValue", None, replies.append, silent)
    flaky.receive("6", "setValue", 2, replies.append, silent)
    assert replies == [False, 2]
    assert seen == [
        Seen("setValue", 1, None, dropped=True),
        Seen("getValue", None, False),
        Seen("setValue", 2, 2),
    ]


@pytest.mark.parametrize(("drop", "answered"), [(0.0, 100), (1.0, 0)])
def test_the_ends_of_the_scale_are_certain(drop: float, answered: int) -> None:
    replies: list[Any] = []
    flaky = device(Clock(), Random(7), [], drop=drop)
    for number in range(100):
        flaky.receive(str(number), "echo", 1, replies.append, silent)
    assert len(replies) == answered


class Counting:
    """A device that counts down from 3, with the latency given."""

    def __init__(self, latency: float = 0.0) -> None:
        self.clock = Clock()
        self.seen: list[Seen] = []
        self.said: list[Any] = []
        self.device = device(self.clock, Random(1), self.seen, latency=latency)
        self.call("7", self.said)

    def call(self, call_id: str, said: list[Any]) -> None:
        def respond(reply: Any) -> None:
            said.append(("reply", reply))

        self.device.receive(call_id, "countDown", {"seconds": 3}, respond, said.append)


def test_what_takes_long_is_reported_before_it_is_answered() -> None:
    counting = Counting()
    assert counting.said == []
    counting.clock.pump([1.0] * 2)
    assert counting.said == [{"left": 2}, {"left": 1}]
    assert counting.seen == []
    counting.clock.advance(1.0)
    assert counting.said == [{"left": 2}, {"left": 1}, ("reply", {"left": 0})]
    assert counting.seen == [Seen("countDown", {"seconds": 3}, {"left": 0})]
    assert counting.clock.getDelayedCalls() == []


@pytest.mark.parametrize("latency", [0.0, 5.0])
def test_a_cancelled_call_is_neither_reported_nor_answered_any_more(latency: float) -> None:
    counting = Counting(latency)
    counting.clock.advance(1.0)
    before = list(counting.said)
    counting.device.cancel("8")
    counting.device.cancel("7")
    counting.device.cancel("7")
    counting.clock.advance(10.0)
    assert counting.said == before == ([] if latency else [{"left": 2}])
    assert counting.seen == [Seen("countDown", {"seconds": 3}, None, cancelled=True)]


def test_a_call_that_comes_once_more_is_not_begun_anew() -> None:
    counting = Counting()
    counting.clock.advance(1.0)
    newer: list[Any] = []
    counting.call("7", newer)
    counting.clock.pump([1.0] * 5)
    assert counting.said == [{"left": 2}]
    assert newer == [{"left": 1}, ("reply", {"left": 0})]
    assert len(counting.seen) == 1


def test_a_reply_is_sent_twice_with_the_chance_that_is_given() -> None:
    replies: list[Any] = []
    seen: list[Seen] = []
    stammering = device(Clock(), Chances(0.9, 0.29, 0.9, 0.3), seen, duplicate=0.3)
    stammering.receive("1", "echo", 1, replies.append, silent)
    stammering.receive("2", "echo", 2, replies.append, silent)
    assert replies == [1, 1, 2]
    assert [each.duplicated for each in seen] == [True, False]


def test_each_nth_call_crashes_it_and_takes_all_that_was_worked_on_along() -> None:
    replies: list[Any] = []
    seen: list[Seen] = []
    crashes: list[int] = []
    clock = Clock()
    fragile = device(clock, Random(1), seen, latency=1.0, crash_after=3)
    fragile.on_crash = lambda: crashes.append(len(seen))
    for number in range(1, 6):
        fragile.receive(str(number), "echo", number, replies.append, silent)
    assert crashes == [3]
    assert seen == [Seen("echo", number, None, crashed=True) for number in (1, 2, 3)]
    clock.advance(1.0)
    assert replies == [4, 5]
    fragile.receive("6", "echo", 6, replies.append, silent)
    assert crashes == [3, 6]
    assert clock.getDelayedCalls() == []


class Reporting:
    """A device with pins 7 and 11, and what it was told to report."""

    def __init__(self) -> None:
        clock = Clock()
        self.reports: list[Any] = []
        self.device = SimulatedDevice(WidgetBoard((7, 11), seconds=clock.seconds), clock=clock, rng=Random(1))
        self.device.on_values = self.reports.append

    def call(self, method: str, params: Any) -> None:
        self.device.receive("1", method, params, lambda reply: self.reports.append(("reply", reply)), silent)


def test_it_reports_everything_when_it_connects_and_then_what_a_call_has_changed_after_its_reply() -> None:
    reporting = Reporting()
    reporting.device.connected()
    reporting.call("getValue", None)
    reporting.call("setValue", 5)
    reporting.call("setValue", 5)
    everything = {"value": 0, "state": 0, "7": False, "11": False}
    assert reporting.reports == [everything, ("reply", 0), ("reply", 5), {"value": 5}, ("reply", 5)]
    reporting.device.connected()
    assert reporting.reports[-1] == everything | {"value": 5}
