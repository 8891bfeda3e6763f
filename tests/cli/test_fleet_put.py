"""How a fleet is sent: several at a time, in order, patiently."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from fake_broker import ME, URL, error, json_answer
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock

from rpcbroker.cli.answers import Answer
from rpcbroker.cli.at_once import AT_ONCE, in_order
from rpcbroker.cli.fleet.entries import Entry, Line
from rpcbroker.cli.fleet.put import Outcome, Put
from rpcbroker.cli.login_file import Login
from rpcbroker.cli.patience import PATIENCE, patient
from rpcbroker.cli.rest import Rest
from rpcbroker.cli.stop import ExitCode, Stop

LINE = Line(number=2, entry=Entry(name="lamp"))
BUSY = error(429, 33, "Too many requests")


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


class Works:
    """Work that ends when it is told to."""

    def __init__(self) -> None:
        self.begun: list[Deferred[str]] = []
        self.cancelled: list[int] = []

    async def __call__(self, number: int) -> str:
        self.begun.append(Deferred())
        try:
            return await self.begun[-1]
        except CancelledError:
            self.cancelled.append(number)
            raise


async def collect(items: AsyncIterator[Any], into: list[Any]) -> None:
    async for each in items:
        into.append(each)


def test_so_many_are_in_work_and_results_come_in_order() -> None:
    works, seen = Works(), []
    done = Deferred.fromCoroutine(collect(in_order(numbers(AT_ONCE + 2), works), seen))
    assert len(works.begun) == AT_ONCE
    works.begun[1].callback("1")
    assert (seen, len(works.begun)) == ([], AT_ONCE)
    works.begun[0].callback("0")
    assert (seen, len(works.begun)) == (["0", "1"], AT_ONCE + 2)
    for number in range(2, AT_ONCE + 2):
        works.begun[number].callback(str(number))
    assert seen == [str(number) for number in range(AT_ONCE + 2)]
    assert done.called


def test_when_one_raises_the_rest_is_cancelled() -> None:
    works, outcome = Works(), []
    Deferred.fromCoroutine(collect(in_order(numbers(5), works), [])).addErrback(outcome.append)
    works.begun[0].errback(Stop("the end"))
    assert outcome[0].value.message == "the end"
    assert works.cancelled == [1, 2, 3, 4]


# -- one line


def bring(answers: list[Answer], clock: Clock) -> list[Any]:
    """What comes of LINE, in a list, once it comes."""

    def send(_method: str, _url: str, *, headers: Mapping[str, str], body: bytes | None) -> Deferred[Answer]:
        return succeed(answers.pop(0))

    rest = Rest(patient(send, clock), Login(url=URL, username="me", token="t", refresh_token="r"))
    outcome: list[Any] = []
    Deferred.fromCoroutine(Put(rest).bring(LINE)).addBoth(outcome.append)
    return outcome


def made(status: int, result: str) -> Answer:
    return json_answer(status, ME, **{"x-result": result})


def test_a_busy_broker_is_asked_again_after_as_long_as_it_wants() -> None:
    clock = Clock()
    later = BUSY._replace(headers={"retry-after": "7"})
    outcome = bring([later, error(503, 2, "Busy"), made(201, "created")], clock)
    clock.advance(6.9)
    assert outcome == []
    clock.advance(0.1)
    clock.advance(1)
    assert outcome == [Outcome(LINE, "created")]


def test_a_broker_that_stays_busy_is_given_up_for_this_line() -> None:
    clock = Clock()
    outcome = bring([BUSY] * (round(PATIENCE) + 1), clock)
    clock.pump([1.0] * (round(PATIENCE) - 1))
    assert outcome == []
    clock.advance(1)
    assert outcome == [Outcome(LINE, "failed", "Too many requests.")]


def test_patience_has_an_end_whatever_the_broker_asks_for() -> None:
    clock = Clock()
    later = BUSY._replace(headers={"retry-after": "86400"})
    outcome = bring([later, later], clock)
    clock.advance(PATIENCE)
    assert outcome == [Outcome(LINE, "failed", "Too many requests.")]


@pytest.mark.parametrize("status", [400, 404, 409, 413, 500])
def test_what_is_wrong_with_a_line_is_its_failure(status: int) -> None:
    outcome = bring([error(status, 31, "Wrong", hint="Do this.")], Clock())
    assert outcome == [Outcome(LINE, "failed", "Wrong. Do this.")]


def test_what_is_wrong_with_every_line_ends_it_all() -> None:
    (failure,) = bring([error(403, 20, "Not for you")], Clock())
    assert (failure.value.message, failure.value.exit_code) == ("Not for you.", ExitCode.NOT_LOGGED_IN)


@pytest.mark.parametrize("result", ["", "whatever"])
def test_an_answer_that_does_not_say_what_was_done_ends_it_all(result: str) -> None:
    (failure,) = bring([made(200, result)], Clock())
    assert failure.value.message == "The server's answer does not say what it did."
