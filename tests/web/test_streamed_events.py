"""A stream of events on its way through one HTTP connection, on a clock."""

from __future__ import annotations

from typing import Any

import pytest
from door import GET, Door
from twisted.internet.defer import CancelledError

from rpcbroker.api.event_stream import KEEP_ALIVE, MAX_WAITING, Backlog, Events
from rpcbroker.api.routes import Answer, Route
from rpcbroker.api.site import Api
from rpcbroker.core.errors import CallTimeout, Reason
from rpcbroker.wire.events import Event

OPEN = b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n"
OLD = b"GET /events HTTP/1.0\r\n\r\n"


class Source:
    """One stream, at `/events`; what comes at its end is `error`, if there is one."""

    def __init__(self) -> None:
        self.backlog = Backlog()
        self.error: Exception | None = None
        self.left: list[str] = []

    async def answer(self) -> Answer:
        """Events."""
        return Answer(self.events(), {"X-More": "yes"})

    async def events(self) -> Events:
        try:
            async for event in self.backlog:
                yield event
        except CancelledError:
            self.left.append("left")
            raise
        finally:
            self.left.append("ended")
        if self.error is not None:
            raise self.error

    def put(self, *numbers: int, size: int = 1) -> None:
        for number in numbers:
            self.backlog.put(Event("n", b"%d" % number * size))


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def door(source: Source) -> Door:
    door = Door(request_timeout=30, idle_timeout=75, write_timeout=20)
    route = Route(operation="events", method="GET", path="/events", handler=source.answer, roles=None, tag="Test")
    nobody: Any = None
    api = Api(
        [route],
        who=nobody,
        auditor=nobody,
        settings=door.site.settings,
        deadlines=door.deadlines,
        now_ms=lambda: 5,
        seconds=door.clock.seconds,
    )
    door.site.resource = api.resource()
    return door


def test_the_head_goes_out_at_once_and_each_event_when_it_comes(door: Door, source: Source) -> None:
    caller = door.caller()
    caller.channel.dataReceived(OPEN)
    head = caller.wire.value().decode()
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    for line in (
        "Content-Type: text/event-stream",
        "Cache-Control: no-store",
        "X-Accel-Buffering: no",
        "X-More: yes",
        "Transfer-Encoding: chunked",
    ):
        assert f"\r\n{line}\r\n" in head
    caller.wire.clear()
    source.put(7)
    assert caller.wire.value() == b"12\r\nevent: n\ndata: 7\n\n\r\n"
    caller.wire.clear()
    source.backlog.end()
    assert caller.wire.value() == b"0\r\n\r\n"
    assert source.left == ["ended"]
    caller.wire.clear()
    assert caller.send(GET) == [404], "the connection goes on"
    assert not caller.wire.closed


def test_an_old_caller_gets_the_events_until_the_connection_closes(door: Door, source: Source) -> None:
    caller = door.caller()
    caller.channel.dataReceived(OLD)
    source.put(1)
    assert caller.wire.value().endswith(b"\r\n\r\nevent: n\ndata: 1\n\n")
    assert b"chunked" not in caller.wire.value()
    assert not caller.wire.closed
    source.backlog.end()
    assert caller.wire.closed


def test_a_failure_on_the_way_is_the_last_event(door: Door, source: Source) -> None:
    caller = door.caller()
    caller.channel.dataReceived(OLD)
    source.error = CallTimeout("Too late", reason=Reason.NO_REPLY)
    source.backlog.end()
    assert caller.wire.value().endswith(
        b"\r\n\r\nevent: error\n"
        b'data: {"status":408,"message":"Too late","errorCode":2,"timestamp":5,"reason":"NO_REPLY"}\n\n'
    )


def test_while_nothing_happens_there_are_comments(door: Door, source: Source) -> None:
    caller = door.caller()
    caller.channel.dataReceived(OLD)
    caller.wire.clear()
    door.advance(KEEP_ALIVE - 1)
    assert caller.wire.value() == b""
    for _ in range(10):
        door.advance(1)
        assert caller.wire.value() == b":\n\n"
        caller.wire.clear()
        door.advance(KEEP_ALIVE - 1)
    source.backlog.end()
    caller.lose()
    assert door.nothing_is_left()


def test_the_events_end_when_the_caller_leaves(door: Door, source: Source) -> None:
    caller = door.caller()
    caller.channel.dataReceived(OPEN)
    caller.lose()
    assert source.left == ["left", "ended"]
    source.put(1)
    source.backlog.end()
    assert door.nothing_is_left()


def test_a_caller_that_reads_slowly_gets_the_newest_events(door: Door, source: Source) -> None:
    caller = door.caller()
    caller.channel.dataReceived(OLD)
    caller.channel.pauseProducing()
    caller.channel.pauseProducing()  # a transport says it at each write
    caller.wire.clear()
    source.put(*range(1000))
    assert caller.wire.value() == b"event: n\ndata: 0\n\n", "it was on its way already"
    door.advance(KEEP_ALIVE)
    caller.channel.resumeProducing()
    told = caller.wire.value().split(b"\n\n")
    assert [int(each.rpartition(b" ")[2]) for each in told if each] == [0, *range(1000 - MAX_WAITING, 1000)]


def test_a_caller_that_does_not_read_is_cut_off(door: Door, source: Source) -> None:
    caller = door.caller()
    caller.channel.dataReceived(OPEN)
    caller.channel.pauseProducing()
    source.put(1, 2)
    door.advance(20)
    assert caller.wire.aborted
    caller.lose()
    assert source.left == ["left", "ended"]
    assert door.nothing_is_left()


def test_head_is_answered_with_the_head_alone(door: Door, source: Source) -> None:
    caller = door.caller()
    caller.channel.dataReceived(OPEN.replace(b"GET", b"HEAD"))
    assert b"text/event-stream" in caller.wire.value()
    caller.wire.clear()
    assert caller.send(GET) == [404], "it has ended"
