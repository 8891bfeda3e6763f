"""The limits of the front door: read when they are used, and shared by all connections or by those of an address."""

from __future__ import annotations

import json

import pytest
from door import GET, LATER, Door
from hostile import check_error
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.logger import capturedLogs, formatEvent

from rpcbroker.web.front_door import FULL_BODIES, address_of

POST = b"POST /now HTTP/1.1\r\nHost: x\r\n"
HOME = IPv4Address("TCP", "192.0.2.1", 1)
OTHER = IPv4Address("TCP", "192.0.2.2", 1)
LOCAL = UNIXAddress(None)


def test_new_settings_hold_from_when_they_are_put_there() -> None:
    door = Door(max_body_size=10, request_timeout=30, idle_timeout=75, write_timeout=20)
    old = door.caller()
    old.send(GET)
    door.set(max_body_size=5, request_timeout=3, idle_timeout=7, write_timeout=2)
    for caller in (old, door.caller()):
        assert caller.send(GET) == [200]
        assert caller.send(POST + b"Content-Length: 6\r\n\r\n") == [413]
    silent, slow, deaf = door.caller(), door.caller(), door.caller()
    slow.send(b"GET")
    deaf.send(GET)
    deaf.channel.pauseProducing()
    door.advance(2)
    assert (silent.wire.closed, slow.wire.closed, deaf.wire.aborted) == (False, False, True)
    door.advance(1)
    assert slow.statuses() == [408]
    assert not silent.wire.closed
    door.advance(4)
    assert silent.wire.closed


@pytest.mark.parametrize(
    "body", [b"Content-Length: 6\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\nabc\r\n0\r\n\r\n"]
)
def test_a_body_beyond_the_limit_is_413(body: bytes) -> None:
    door = Door(max_body_size=5)
    caller = door.caller()
    assert caller.send(POST + body) == [413]
    caller.lose()
    assert door.site.arriving == 0
    door.set(max_body_size=6)
    caller = door.caller()
    caller.send(POST + body + b"abcabc")
    door.turn()
    assert door.site.arriving == 0


def test_some_paths_take_larger_bodies_than_the_others() -> None:
    door = Door(max_body_size=5, larger=lambda path: 10 if path == b"/large" else 0)
    for path, size, status in (
        (b"/large?x=1", 10, 200),
        (b"/large", 11, 413),
        (b"/other", 6, 413),
        (b"/other", 5, 200),
    ):
        request = POST.replace(b"/now", path) + b"Content-Length: %d\r\n\r\n" % size + b"x" * size
        assert door.caller().send(request) == [status], path


def test_the_bodies_that_arrive_have_a_limit_together() -> None:
    door = Door(max_body_size=100)
    part = POST + b"Content-Length: 100\r\n\r\n" + b"x" * 99
    callers = [door.caller() for _ in range(FULL_BODIES)]
    for caller in callers:
        assert caller.send(part) == []
    assert door.caller().send(part) == [503]
    assert callers[0].send(b"x") == [200]
    callers[1].lose()
    assert door.site.arriving == 99 * (FULL_BODIES - 2)
    assert door.caller().send(part) == []


def test_connections_beyond_the_limit_are_aborted_at_once() -> None:
    door = Door(max_connections=2)
    first, second, third = door.caller(), door.caller(), door.caller()
    assert (first.wire.aborted, second.wire.aborted, third.wire.aborted) == (False, False, True)
    door.site.close_all()
    for caller in (third, first):
        caller.lose()
    assert not door.caller().wire.aborted
    assert door.caller().wire.aborted
    door.set(max_connections=10)
    assert not door.caller().wire.aborted


def test_connections_of_one_address_are_counted_and_those_of_others_are_not() -> None:
    door = Door()
    first = door.caller(HOME)
    door.caller(HOME)
    door.set(max_connections_per_address=2)
    assert door.caller(HOME).wire.aborted
    assert not door.caller(OTHER).wire.aborted
    assert not any(door.caller(LOCAL).wire.aborted for _ in range(5))
    first.lose()
    assert door.caller(HOME).wire.aborted, "the refused one is still there"
    door.set(max_connections_per_address=0)
    assert not door.caller(HOME).wire.aborted


def test_an_address_of_which_all_have_left_is_forgotten() -> None:
    door = Door()
    for number in range(3):
        caller = door.caller(IPv4Address("TCP", f"192.0.2.{number}", 1))
        caller.lose()
    assert not door.site._connections


def test_requests_of_one_address_beyond_its_rate_are_429_until_some_time_has_passed() -> None:
    door = Door(address_rate=((2, 10.0),))
    callers = [door.caller(HOME), door.caller(HOME), door.caller(HOME)]
    assert [caller.send(GET) for caller in callers] == [[200], [200], [429]]
    assert door.caller(OTHER).send(GET) == [200]
    assert [door.caller(LOCAL).send(GET) for _ in range(3)] == [[200]] * 3
    callers[0].channel.dataReceived(GET)
    assert callers[0].wire.value().startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    (answer,) = callers[0].answers()
    check_error(answer)
    assert answer.headers["retry-after"] == ["5"]
    assert json.loads(answer.body)["errorCode"] == 33
    assert not callers[0].wire.closed
    door.clock.advance(5)
    assert callers[0].send(GET) == [200]
    door.set(address_rate=())
    assert callers[0].send(GET) == [200]
    door.set(address_rate=((1, 10.0), (1, 100.0)))
    assert [callers[0].send(GET), callers[0].send(GET)] == [[200], [429]]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (HOME, IPv4Address("TCP", "192.0.2.1", 2), True),
        (HOME, OTHER, False),
        (IPv6Address("TCP", "2001:db8:0:1::1", 1), IPv6Address("TCP", "2001:db8:0:1:ffff::2", 1), True),
        (IPv6Address("TCP", "2001:db8:0:1::1", 1), IPv6Address("TCP", "2001:db8:0:2::1", 1), False),
        (IPv6Address("TCP", "::ffff:192.0.2.1", 1), HOME, True),
        (IPv6Address("TCP", "::ffff:192.0.2.1", 1), IPv6Address("TCP", "::ffff:192.0.2.2", 1), False),
        (IPv6Address("TCP", "fe80::1%eth0", 1), IPv6Address("TCP", "fe80::2", 1), True),
    ],
)
def test_what_counts_as_one_address(one: IAddress, other: IAddress, same: bool) -> None:
    assert (address_of(one) == address_of(other)) is same


def test_while_it_stops_every_answer_is_the_last_one_and_says_so() -> None:
    door = Door()
    caller = door.caller()
    assert caller.send(GET) == [200]
    assert not caller.wire.closed
    door.site.stopping = True
    caller.channel.dataReceived(GET + GET)
    (last,) = caller.answers()
    assert (last.status, last.headers["connection"]) == (200, ["close"])
    assert caller.wire.closed


def test_a_unix_socket_has_no_address() -> None:
    assert address_of(LOCAL) is None
    assert address_of(UNIXAddress(b"/run/x")) is None


def test_a_bug_below_is_a_json_error_and_goes_to_the_log(no_dropped_failures: list[str]) -> None:
    door = Door()
    caller = door.caller()
    with capturedLogs() as events:
        caller.channel.dataReceived(b"GET /bug?accessToken=SECRET HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
        door.turn()
    (said,) = (formatEvent(event) for event in events if "method" in event)
    assert "/bug" in said
    assert "SECRET" not in said
    bug, good = caller.answers()
    check_error(bug)
    assert (bug.status, good.status) == (500, 200)
    assert b"a bug" not in bug.body
    (logged,) = no_dropped_failures
    assert "a bug" in logged
    no_dropped_failures.clear()


def test_bodies_stay_in_memory_whatever_their_size() -> None:
    door = Door()
    caller = door.caller()
    body = b'"' + b"x" * 200_000 + b'"'
    caller.channel.dataReceived(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    (answer,) = caller.answers()
    assert answer.body == body
    caller.channel.dataReceived(LATER)
    assert not hasattr(door.root.waiting[0].content, "name")


def test_tls_is_offered_what_the_channel_speaks() -> None:
    assert Door().site.acceptableProtocols() == [b"http/1.1"]
