"""The REST client of the commands, request by request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fake_broker import URL, json_answer
from twisted.internet.defer import Deferred

from rpcbroker.cli.answers import Answer
from rpcbroker.cli.login_file import KeyLogin, Login
from rpcbroker.cli.rest import Rest
from rpcbroker.cli.stop import ExitCode
from rpcbroker.schema.people import TokenPair

OLD = Login(url=URL, username="me", token="old", refresh_token="refresh")


class Wire:
    """What was sent, each to be answered by hand."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, Deferred[Answer]]] = []

    def __call__(self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None) -> Deferred[Answer]:
        answer: Deferred[Answer] = Deferred()
        self.sent.append((url.removeprefix(URL), headers.get("X-Authorization", ""), answer))
        return answer

    def answer(self, number: int, answer: Answer) -> None:
        self.sent[number][2].callback(answer)

    @property
    def seen(self) -> list[tuple[str, str]]:
        return [(path, who) for path, who, _ in self.sent]


def ask(rest: Rest, path: str) -> list[Any]:
    outcome: list[Any] = []
    Deferred.fromCoroutine(rest.request("GET", path)).addBoth(outcome.append)
    return outcome


def test_many_requests_with_an_old_token_renew_it_once() -> None:
    wire, kept = Wire(), []
    rest = Rest(wire, OLD, keep=kept.append)
    outcomes = [ask(rest, "/1"), ask(rest, "/2")]
    wire.answer(0, Answer(401, {}, b""))
    wire.answer(1, Answer(401, {}, b""))
    assert wire.seen == [("/1", "Bearer old"), ("/2", "Bearer old"), ("/api/auth/token", "")]
    wire.answer(2, json_answer(200, TokenPair("new", "next")))
    assert sorted(wire.seen[3:]) == [("/1", "Bearer new"), ("/2", "Bearer new")]
    for number in (3, 4):
        wire.answer(number, Answer(200, {}, b""))
    assert [outcome[0].status for outcome in outcomes] == [200, 200]
    assert [(login.token, login.refresh_token) for login in kept] == [("new", "next")]


def test_a_token_that_is_refused_when_it_is_new_is_not_renewed_again() -> None:
    wire = Wire()
    outcome = ask(Rest(wire, OLD), "/1")
    wire.answer(0, Answer(401, {}, b""))
    wire.answer(1, json_answer(200, TokenPair("new", "next")))
    wire.answer(2, Answer(401, {}, b""))
    assert outcome[0].value.exit_code == ExitCode.NOT_LOGGED_IN
    assert len(wire.sent) == 3


def test_a_key_is_never_renewed() -> None:
    wire = Wire()
    outcome = ask(Rest(wire, KeyLogin(url=URL, key="rpcb_x")), "/1")
    wire.answer(0, Answer(401, {}, b""))
    assert outcome[0].value.exit_code == ExitCode.NOT_LOGGED_IN
    assert wire.seen == [("/1", "ApiKey rpcb_x")]
