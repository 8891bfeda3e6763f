"""WAMP over real sockets: who breaks the rules, leaves, or does not read is let go, and others do not notice."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
from daemon import Daemon, wait_for
from wamp_client import HELLO, WampClient

from rpcbroker.feed.messages import Type

T = Type

PIECE = "x" * 200_000


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(
        tmp_path_factory.mktemp("wamp"),
        RPCBROKER_WAMP_RAWSOCKET_LISTEN="tcp:0:interface=127.0.0.1",
        RPCBROKER_WAMP_HELLO_TIMEOUT="1s",
        RPCBROKER_WAMP_MAX_CALLS="10000",
        RPCBROKER_FEED_GATHER="10ms",
        RPCBROKER_FEED_SLOW_TIMEOUT="1s",
        RPCBROKER_HTTP_METRICS="open",
    )
    yield daemon.login()
    daemon.stop()


def connect(broker: Daemon) -> WampClient:
    return WampClient(broker.endpoints["wamp"])


def join(broker: Daemon) -> WampClient:
    assert broker.token is not None
    return connect(broker).join(broker.token)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"{}",
        b"[",
        b"[" * 100_000,
        b"[48, 1, {}, " + b"1" * 5000 + b"]",
        b'[48, NaN, {}, "a.b"]',
        b"[48]",
        b"[2, 1, {}]",
        b'[1, "rpcbroker", {}]',
        b'[48, 0, {}, "a.b"]',
        b'[48, 9007199254740993, {}, "a.b"]',
        b'[16, 1, {}, "a.b", {}]',
        b"[70, 1, {}, 7]",
        b"\xff\xfe",
    ],
    ids=lambda message: repr(message[:30]),
)
def test_who_breaks_the_rules_is_told_and_let_go(broker: Daemon, message: bytes) -> None:
    with join(broker) as other, join(broker) as peer:
        began = time.monotonic()
        answer = peer.say_bytes(message).hear()
        assert [answer[0], answer[2]] == [T.ABORT, "wamp.error.protocol_violation"]
        assert peer.hear() == []
        assert time.monotonic() - began < 1
        assert other.call(1, "wamp.session.count")[0] == T.RESULT


@pytest.mark.parametrize("said", [[], [(T.HELLO, "rpcbroker", HELLO)]])
def test_who_does_not_say_who_it_is_is_let_go(broker: Daemon, said: list[tuple[Any, ...]]) -> None:
    with connect(broker) as peer:
        for message in said:
            assert peer.say(*message).hear()[0] == T.CHALLENGE
        assert peer.hear()[::2] == [T.ABORT, "wamp.error.timeout"]
        assert peer.hear() == []


def test_a_callee_that_is_gone_leaves_each_caller_one_error(broker: Daemon) -> None:
    calls = 5_000
    with join(broker) as caller, join(broker) as other:
        callee = join(broker)
        assert callee.say(T.REGISTER, 1, {}, "com.example.slow").hear()[0] == T.REGISTERED
        for request in range(1, calls + 1):
            caller.say(T.CALL, request, {}, "com.example.slow")
        for _ in range(calls):
            assert callee.hear()[0] == T.INVOCATION
        callee.close()
        answers = [caller.hear() for _ in range(calls)]
        assert [answer[2] for answer in answers] == list(range(1, calls + 1))
        assert {(answer[0], answer[4]) for answer in answers} == {(T.ERROR, "wamp.error.canceled")}
        assert caller.call(calls + 1, "com.example.slow")[4] == "wamp.error.no_such_procedure"
        assert other.call(1, "wamp.session.count")[0] == T.RESULT


def test_a_caller_that_is_gone_gets_nothing_and_its_callee_goes_on(broker: Daemon) -> None:
    with join(broker) as callee, join(broker) as other:
        callee.say(T.REGISTER, 1, {}, "com.example.echo").hear()
        caller = join(broker)
        caller.say(T.CALL, 1, {}, "com.example.echo")
        late = callee.hear()[1]
        caller.close()
        wait_for(lambda: other.call(2, "wamp.session.count")[3] == [2], "the end of the caller")
        callee.say(T.YIELD, late, {}, ["late"])
        other.say(T.CALL, 3, {}, "com.example.echo")
        callee.say(T.YIELD, callee.hear()[1], {}, ["in time"])
        assert other.hear() == [T.RESULT, 3, {}, ["in time"]]


def test_who_does_not_read_is_let_go_and_the_publisher_waits_for_nobody(broker: Daemon) -> None:
    with join(broker) as publisher, join(broker) as reader, join(broker) as stalled:
        for subscriber in (reader, stalled):
            subscriber.say(T.SUBSCRIBE, 1, {}, "com.example.much").hear()
        worst, count, began = 0.0, 0, time.monotonic()
        while time.monotonic() - began < 4:
            asked = time.monotonic()
            count += 1
            publisher.say(T.PUBLISH, count, {"acknowledge": True}, "com.example.much", [count, PIECE])
            assert publisher.hear()[0] == T.PUBLISHED
            worst = max(worst, time.monotonic() - asked)
            assert reader.hear()[4] == [count, PIECE]
        assert count > 20
        assert worst < 1
        assert publisher.call(1, "wamp.session.count")[3] == [2]
        heard = 0
        with contextlib.suppress(ConnectionResetError):
            while (message := stalled.hear()) and message[0] == T.EVENT:
                heard += 1
            assert message == [] or message[2] == "rpcbroker.close.slow"
        assert heard < count


def test_a_session_ends_with_its_login(broker: Daemon) -> None:
    mine = broker.token
    broker.login()
    with join(broker) as peer:
        assert broker.ask("POST", "/api/auth/logout")[0] == 200
        broker.token = mine
        assert peer.hear()[::2] == [T.GOODBYE, "rpcbroker.close.ticket_revoked"]
        assert peer.hear() == []
