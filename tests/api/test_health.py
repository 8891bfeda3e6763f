"""Ready, or not ready and what is not."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import error_of, result_of
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from rpcbroker.api.health import Check, Health, listening
from rpcbroker.core.errors import Reason, Unavailable
from rpcbroker.schema.health import HealthJSON
from rpcbroker.store.database import ThreadedDatabase
from rpcbroker.store.sql import SqlStore


def ready(health: Health) -> Deferred[Any]:
    return Deferred.fromCoroutine(health.ready())


def health_of(checks: Mapping[str, Check] | None = None, clock: Clock | None = None) -> Health:
    return Health(checks or {}, clock or Clock())


def test_all_parts_are_named_when_they_are_ready() -> None:
    clock = Clock()
    health = health_of({"store": lambda: succeed(None), "http": lambda: None}, clock)
    assert result_of(ready(health)) == HealthJSON("ready", {"store": "ready", "http": "ready"})
    assert clock.getDelayedCalls() == []


def test_those_that_are_not_ready_are_named_with_the_cause() -> None:
    checks: dict[str, Check] = {
        "store": lambda: fail(Unavailable("The store is not open")),
        "http": lambda: None,
        "mqtt": lambda: "not listening",
    }
    error = error_of(ready(health_of(checks)))
    assert isinstance(error, Unavailable)
    assert error.message == "Not ready: store (The store is not open), mqtt (not listening)"
    assert error.reason is None


def test_a_part_that_does_not_answer_costs_two_seconds_and_no_more() -> None:
    clock = Clock()
    silent: Deferred[None] = Deferred()
    answer = ready(health_of({"store": lambda: silent, "http": lambda: None}, clock))
    clock.advance(1.9)
    assert not answer.called
    clock.advance(0.1)
    assert error_of(answer).message == "Not ready: store (no answer within 2 s)"
    silent.callback(None)


def test_all_parts_are_asked_at_once() -> None:
    clock = Clock()
    silent: Check = Deferred
    answer = ready(health_of({"store": silent, "store writer": silent}, clock))
    clock.advance(2)
    expected = "Not ready: store (no answer within 2 s), store writer (no answer within 2 s)"
    assert error_of(answer).message == expected


def test_a_part_is_not_asked_again_before_it_has_answered() -> None:
    clock = Clock()
    asked: list[Deferred[None]] = []

    def check() -> Deferred[None]:
        asked.append(Deferred())
        return asked[-1]

    health = health_of({"store": check}, clock)
    first = ready(health)
    clock.advance(1.5)
    second = ready(health)
    clock.advance(0.5)
    assert error_of(first).message == "Not ready: store (no answer within 2 s)"
    assert not second.called
    asked[0].callback(None)
    assert result_of(second).status == "ready"
    assert len(asked) == 1
    third = ready(health)
    assert len(asked) == 2
    asked[1].errback(Unavailable("No"))
    assert error_of(third).message == "Not ready: store (No)"
    assert clock.getDelayedCalls() == []


def test_a_probe_that_leaves_takes_its_timer_along() -> None:
    clock = Clock()
    slow: Deferred[None] = Deferred()
    health = health_of({"store": lambda: slow}, clock)
    left, stays = ready(health), ready(health)
    left.cancel()
    error_of(left)
    assert len(clock.getDelayedCalls()) == 1
    slow.callback(None)
    assert result_of(stays).status == "ready"


def test_a_check_that_is_broken_is_not_ready_and_is_logged(no_dropped_failures: list[str]) -> None:
    health = health_of({"store": lambda: 1 / 0})  # type: ignore[dict-item, return-value]
    message = error_of(ready(health)).message
    assert message == "Not ready: store (it could not be asked: the server's log says more)"
    assert len(no_dropped_failures) == 1
    assert "ZeroDivisionError" in no_dropped_failures[0]
    no_dropped_failures.clear()


def test_it_is_not_ready_while_it_stops_and_asks_nobody() -> None:
    health = health_of({"store": lambda: 1 / 0})  # type: ignore[dict-item, return-value]
    health.stopping = True
    error = error_of(ready(health))
    assert (error.message, error.reason) == ("Not ready: server (shutting down)", Reason.SHUTTING_DOWN)


def test_it_is_alive_whatever_is_not_ready() -> None:
    health = health_of({"store": lambda: "gone"})
    health.stopping = True
    assert result_of(Deferred.fromCoroutine(health.healthy())) == HealthJSON("ok")


def test_a_store_that_is_not_open_yet_is_named() -> None:
    store = SqlStore(ThreadedDatabase("sqlite:///nowhere", call_from_thread=lambda *_: None, max_queue=1), cache_size=1)
    health = health_of({"store": store.ping, "store writer": store.ping_writer})
    expected = "Not ready: store (The store is not open), store writer (The store is not open)"
    assert error_of(ready(health)).message == expected


@pytest.mark.parametrize(
    ("states", "said"), [([], "not listening"), ([True, False], "not listening"), ([True, 1], None)]
)
def test_listeners_are_ready_when_all_are_open(states: list[Any], said: str | None) -> None:
    ports: list[Any] = []
    check = listening(ports)
    assert check() == "not listening"
    ports += [SimpleNamespace(connected=state) for state in states]
    assert check() == said
