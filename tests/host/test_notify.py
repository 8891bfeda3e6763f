"""What systemd hears."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from fake_systemd import Notifications
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs

from rpcbroker.host.notify import STATUS_INTERVAL, Notify

PID = 4711


@pytest.fixture
def notifications(tmp_path: Path) -> Iterator[Notifications]:
    opened = Notifications(tmp_path / "notify")
    yield opened
    opened.close()


def notify(clock: Clock, **environ: str) -> Notify:
    return Notify(environ, pid=PID, clock=clock)


def test_ready_and_the_status_in_one_message_then_only_what_changes(notifications: Notifications) -> None:
    clock, devices = Clock(), [1]
    sender = notify(clock, NOTIFY_SOCKET=notifications.address)
    sender.ready(lambda: f"{devices[0]} devices")
    assert notifications.new() == ["READY=1", "STATUS=1 devices"]
    clock.advance(STATUS_INTERVAL)
    assert notifications.new() == []
    devices[0] = 2
    clock.advance(STATUS_INTERVAL)
    assert notifications.new() == ["STATUS=2 devices"]
    sender.stop()
    assert not clock.getDelayedCalls()


def test_who_is_stopped_before_it_was_ready_is_not_ready_any_more(notifications: Notifications) -> None:
    clock = Clock()
    sender = notify(clock, NOTIFY_SOCKET=notifications.address, WATCHDOG_USEC="6000000")
    sender.stopping(lambda: "draining 1 call")
    sender.ready(lambda: "draining 1 call")
    assert notifications.new() == ["STOPPING=1", "STATUS=draining 1 call"]
    assert not clock.getDelayedCalls()


def test_an_abstract_socket_is_found_too() -> None:
    notifications = Notifications(f"@rpcbroker-{uuid4()}")
    sender = notify(Clock(), NOTIFY_SOCKET=notifications.address)
    sender.ready(lambda: "here")
    assert notifications.new() == ["READY=1", "STATUS=here"]
    sender.stop()
    notifications.close()


def test_the_watchdog_is_fed_twice_in_the_time_that_it_allows_until_the_very_end(notifications: Notifications) -> None:
    clock = Clock()
    sender = notify(clock, NOTIFY_SOCKET=notifications.address, WATCHDOG_USEC="6000000", WATCHDOG_PID=str(PID))
    sender.ready(lambda: "")
    notifications.new()
    clock.pump([1.0] * 6)
    assert notifications.new() == ["WATCHDOG=1"] * 2
    sender.stopping(lambda: "draining")
    assert notifications.new() == ["STOPPING=1", "STATUS=draining"]
    clock.pump([1.0] * 6)
    assert notifications.new() == ["WATCHDOG=1"] * 2
    sender.stop()
    clock.pump([1.0] * 6)
    assert notifications.new() == []


@pytest.mark.parametrize(
    "watchdog",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "6000000", "WATCHDOG_PID": "1"}],
)
def test_there_is_no_watchdog_or_it_is_for_another_process(
    notifications: Notifications, watchdog: dict[str, str]
) -> None:
    clock = Clock()
    sender = notify(clock, NOTIFY_SOCKET=notifications.address, **watchdog)
    sender.ready(lambda: "")
    clock.pump([1.0] * 20)
    assert "WATCHDOG=1" not in notifications.new()
    sender.stop()


def test_a_reload_is_framed_and_dated(notifications: Notifications) -> None:
    sender = notify(Clock(), NOTIFY_SOCKET=notifications.address)
    sender.reloading(123456789)
    assert notifications.new() == ["RELOADING=1", "MONOTONIC_USEC=123456789"]
    sender.reloaded()
    assert notifications.new() == ["READY=1"]


def test_without_the_variable_nothing_happens() -> None:
    clock = Clock()
    sender = notify(clock, WATCHDOG_USEC="1000")
    with capturedLogs() as events:
        sender.ready(lambda: "")
        sender.reloading(1)
        sender.reloaded()
        sender.stopping(lambda: "")
        sender.stop()
    assert not clock.getDelayedCalls()
    assert not events


def test_a_socket_that_is_not_there_is_one_warning(tmp_path: Path) -> None:
    clock = Clock()
    sender = notify(clock, NOTIFY_SOCKET=str(tmp_path / "none"), WATCHDOG_USEC="2000000")
    with capturedLogs() as events:
        sender.ready(lambda: "")
        clock.pump([1.0] * 30)
        sender.stopping(lambda: "")
        sender.stop()
    assert [event["log_level"] for event in events] == [LogLevel.warn]
    assert str(tmp_path / "none") in events[0]["address"]


def test_signs_of_life_do_not_wait_for_a_systemd_that_does_not_read(notifications: Notifications) -> None:
    clock = Clock()
    sender = notify(clock, NOTIFY_SOCKET=notifications.address, WATCHDOG_USEC="2000000")
    sender.ready(lambda: "")
    before = os.times().elapsed
    with capturedLogs() as events:
        for _ in range(5_000):
            clock.advance(1.0)
    assert os.times().elapsed - before < 5
    assert len(events) == 1, "the queue is full"
    sender.stop()
