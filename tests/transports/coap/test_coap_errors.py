"""Every error of the broker has a response code, and an answer that people can read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rpcbroker.core import errors as e
from rpcbroker.transports.coap.errors import TABLE, UNAVAILABLE_FOR, refusal
from rpcbroker.transports.coap.exchange import Refused
from rpcbroker.wire.coap.numbers import Code


def tree(root: type[e.BrokerError] = e.BrokerError) -> Iterator[type[e.BrokerError]]:
    yield root
    for each in root.__subclasses__():
        yield from tree(each)


@pytest.mark.parametrize("error", sorted(set(tree()), key=lambda each: each.__name__))
def test_every_error_has_a_row(error: type[e.BrokerError]) -> None:
    assert TABLE[error] >> 5 in (4, 5)


def test_the_text_says_what_went_wrong_and_what_to_do_about_it() -> None:
    response = refusal(e.InvalidRequest("The key 'a' is too long", hint="Make it shorter."))
    assert (response.code, response.payload) == (Code.BAD_REQUEST, b"The key 'a' is too long. Make it shorter.")
    assert response.content_format is None
    assert not response.authenticated


def test_the_text_fits_in_one_datagram_and_stands_on_one_line() -> None:
    response = refusal(e.InvalidRequest("\N{SNOWMAN}\n" * 1000 + "\ud800"))
    assert len(response.payload) < 1024
    assert b"\n" not in response.payload
    assert response.payload.decode()


@pytest.mark.parametrize(("seconds", "max_age"), [(0.01, 1), (1.5, 2), (60, 60)])
def test_who_sends_too_much_is_told_when_to_go_on(seconds: float, max_age: int) -> None:
    response = refusal(e.TooManyRequests("too much", retry_after=seconds))
    assert (response.code, response.max_age) == (Code.TOO_MANY_REQUESTS, max_age)


def test_so_is_who_asks_for_what_cannot_be_done_now() -> None:
    assert refusal(e.Unavailable("no")).max_age == UNAVAILABLE_FOR
    assert refusal(e.NotFound("no")).max_age is None


def test_a_refusal_is_answered_as_it_says() -> None:
    response = refusal(Refused(Code.NOT_ACCEPTABLE, "why"), authenticated=True)
    assert (response.code, response.payload, response.authenticated) == (Code.NOT_ACCEPTABLE, b"why", True)
