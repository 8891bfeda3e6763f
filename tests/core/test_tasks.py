"""Coroutines that run by themselves, beside Twisted's own way: what a Deferred that is awaited does is Twisted's."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from rpcbroker.core.tasks import Task

Begin = Callable[[Coroutine[Any, Any, object], Callable[[Failure], object]], Any]


def of_twisted(coroutine: Coroutine[Any, Any, object], failed: Callable[[Failure], object]) -> Deferred[Any]:
    return Deferred.fromCoroutine(coroutine).addErrback(failed)


@pytest.fixture(params=[Task, of_twisted], ids=["task", "twisted"])
def begin(request: pytest.FixtureRequest) -> Begin:
    way: Begin = request.param
    return way


class Seen:
    """A coroutine that waits for two Deferreds, and what happened to it."""

    def __init__(self, *awaited: Deferred[Any]) -> None:
        self.awaited = awaited
        self.results: list[Any] = []
        self.failures: list[type[BaseException] | None] = []

    async def run(self) -> None:
        for each in self.awaited:
            self.results.append(await self.nested(each))

    async def nested(self, awaited: Deferred[Any]) -> Any:
        try:
            return await awaited
        except ValueError as error:
            return f"caught {error}"

    def failed(self, failure: Failure) -> None:
        self.failures.append(failure.type)


def test_it_goes_on_with_each_result(begin: Begin) -> None:
    first, second = Deferred[int](), Deferred[int]()
    seen = Seen(succeed(0), first, second, succeed(3))
    begin(seen.run(), seen.failed)
    assert seen.results == [0]
    first.callback(1)
    assert seen.results == [0, 1]
    second.callback(2)
    assert seen.results == [0, 1, 2, 3]
    assert not seen.failures


def test_a_failure_is_raised_where_it_waits_and_is_not_logged_as_unhandled(begin: Begin) -> None:
    late = Deferred[int]()
    seen = Seen(late, fail(ValueError("two")))
    begin(seen.run(), seen.failed)
    late.errback(ValueError("one"))
    assert seen.results == ["caught one", "caught two"]
    with capturedLogs() as events:
        del late, seen
        gc.collect()  # Twisted logs failures that nobody has seen when they are collected
    assert not events


def test_what_it_raises_is_told(begin: Begin) -> None:
    late = Deferred[int]()
    seen = Seen(late)
    begin(seen.run(), seen.failed)
    late.errback(KeyError("x"))
    assert seen.failures == [KeyError]
    at_once = Seen(fail(KeyError("y")))
    begin(at_once.run(), at_once.failed)
    assert at_once.failures == [KeyError]


def test_cancelled_it_ends_where_it_waits(begin: Begin) -> None:
    cancelled: list[Deferred[int]] = []
    late = Deferred[int](cancelled.append)
    seen = Seen(late)
    running = begin(seen.run(), seen.failed)
    running.cancel()
    assert cancelled == [late]
    assert seen.failures == [CancelledError]
    running.cancel()
    assert seen.failures == [CancelledError]


def test_who_answers_a_cancellation_with_a_result_goes_on(begin: Begin) -> None:
    late, next_one = Deferred[int](lambda each: each.callback(7)), Deferred[int]()
    seen = Seen(late, next_one)
    running = begin(seen.run(), seen.failed)
    running.cancel()
    assert seen.results == [7]
    next_one.callback(8)
    assert seen.results == [7, 8]
    assert not seen.failures


def test_a_deferred_that_is_paused_is_waited_for(begin: Begin) -> None:
    inner = Deferred[int]()
    outer: Deferred[Any] = succeed(None).addCallback(lambda _: inner)  # called, and paused until the other has fired
    seen = Seen(outer)
    begin(seen.run(), seen.failed)
    assert seen.results == []
    inner.callback(5)
    assert seen.results == [5]


def test_one_that_ended_may_be_cancelled(begin: Begin) -> None:
    seen = Seen(succeed(1))
    running = begin(seen.run(), seen.failed)
    running.cancel()
    assert seen.results == [1]
    assert not seen.failures


class Owner:
    """Who has begun a coroutine, and remembers it."""

    def __init__(self, awaited: Deferred[Any]) -> None:
        self.task = Task(self.run(awaited), self.failed)

    async def run(self, awaited: Deferred[Any]) -> None:
        await awaited

    def failed(self, failure: Failure) -> None:
        """Heard, and not kept."""


@pytest.mark.parametrize("end", ["at once", "later"])
def test_one_that_has_ended_keeps_nobody(end: str) -> None:
    awaited: Deferred[Any] = succeed(1) if end == "at once" else Deferred()
    owner = Owner(awaited)
    assert owner.task.waits == (end != "at once")
    if end == "later":
        awaited.callback(1)
    assert not owner.task.waits
    there = weakref.ref(owner)
    gc.disable()
    try:
        del owner
        assert there() is None
    finally:
        gc.enable()
