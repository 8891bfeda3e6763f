"""How late the loop is."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from rpcbroker.core.lag import LoopLag


def test_it_looks_every_second_until_it_is_stopped() -> None:
    clock = Clock()
    lag = LoopLag(clock, clock.seconds)
    lag.start()
    clock.pump([0.5] * 20)
    assert sum(lag.late.counts) == 10
    assert lag.late.total == 0
    lag.stop()
    lag.stop()
    assert clock.getDelayedCalls() == []


def test_a_block_of_three_seconds_is_two_seconds_late() -> None:
    clock = Clock()
    lag = LoopLag(clock, clock.seconds)
    lag.start()
    clock.advance(3)
    assert lag.late.total == pytest.approx(2)


def test_a_wall_clock_that_is_put_forward_is_no_lag() -> None:
    wall, monotonic = Clock(), Clock()
    lag = LoopLag(wall, monotonic.seconds)
    lag.start()
    wall.advance(3600)
    assert (sum(lag.late.counts), lag.late.total) == (1, 0)
