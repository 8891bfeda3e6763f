"""Server-sent events as a caller reads them, and a stream that says nothing any more."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import error_of
from hypothesis import given
from hypothesis import strategies as st
from treq.testing import StubTreq
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from rpcbroker.cli.http import SILENCE, collected
from rpcbroker.wire.events import Event, EventReader, encode, encode_number


@given(
    st.lists(st.tuples(st.sampled_from(["progress", "result"]), st.binary().filter(lambda it: b"\r" not in it))),
    st.data(),
)
def test_what_the_broker_writes_is_read_however_it_is_split(events: list[tuple[str, bytes]], data: Any) -> None:
    wire = b":\n\n".join(encode(Event(name, text)) for name, text in events)
    reader, found = EventReader(), []
    while wire:
        size = data.draw(st.integers(1, len(wire)))
        found += reader.feed(wire[:size])
        wire = wire[size:]
    assert found == [Event(name, text) for name, text in events]


@pytest.mark.parametrize(
    ("wire", "found"),
    [
        (b"data: x\n\n", [Event("message", b"x")]),
        (b"data:x\r\n\r\n", [Event("message", b"x")]),
        (b"data:  x\n\n", [Event("message", b" x")]),
        (b"event: a\n\ndata: x\n\n", [Event("message", b"x")]),
        (b": comment\nid: 1\nretry: 5\nnonsense\n\n", []),
        (b"event: a\ndata: not ended\n", []),
    ],
)
def test_how_streams_are_read(wire: bytes, found: list[Event]) -> None:
    assert EventReader().feed(wire) == found


def test_a_reader_knows_the_name_of_the_last_event_that_was_ended() -> None:
    reader = EventReader()
    reader.feed(encode_number(40))
    assert reader.last_id == "40"
    wire = encode(Event("rpc", b"x", 41))
    reader.feed(wire[:-1])
    assert reader.last_id == "40"
    reader.feed(wire[-1:] + encode(Event("rpc", b"y")))
    assert reader.last_id == "41"
    reader.feed(b"id: 4\x002\n\n")
    assert reader.last_id == "41"


class Streaming(Resource):
    """Begins an answer and does not end it."""

    isLeaf = True
    request: Request

    def render_GET(self, request: Request) -> int:
        self.request = request
        request.write(b"one")
        return NOT_DONE_YET


def test_a_stream_that_falls_silent_is_given_up() -> None:
    site, clock, pieces = Streaming(), Clock(), list[bytes]()
    treq = StubTreq(site)
    responses: list[Any] = []
    treq.get("http://broker.test/").addCallback(responses.append)
    treq.flush()
    waiting: Deferred[None] = Deferred.fromCoroutine(collected(clock, responses[0], pieces.append))
    treq.flush()
    clock.advance(SILENCE - 1)
    site.request.write(b"two")
    treq.flush()
    clock.advance(SILENCE - 1)
    assert pieces == [b"one", b"two"]
    assert not waiting.called
    clock.advance(1)
    assert isinstance(error_of(waiting), CancelledError)
    assert not clock.getDelayedCalls()
