"""Server-sent events as they go over the wire, and those that wait."""

from __future__ import annotations

import pytest
from fakes import error_of, result_of
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

from rpcbroker.api.event_stream import Backlog
from rpcbroker.wire.events import Event, encode


def decoded(text: str) -> list[tuple[str, str]]:
    """As WHATWG HTML 9.2.6 reads a stream: lines, fields, and an event at each empty line."""
    found, name, data = [], "", ""
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")[:-1]:
        if not line:
            if data:
                found.append((name, data[:-1]))
            name = data = ""
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data += value + "\n"
    return found


@pytest.mark.parametrize(
    ("data", "wire"),
    [
        (b"{}", b"event: x\ndata: {}\n\n"),
        (b"", b"event: x\ndata: \n\n"),
        (b"a\nb\r\nc\rd", b"event: x\ndata: a\ndata: b\ndata: c\ndata: d\n\n"),
        (b"\n", b"event: x\ndata: \ndata: \n\n"),
        (b" :a", b"event: x\ndata:  :a\n\n"),
    ],
)
def test_how_an_event_looks(data: bytes, wire: bytes) -> None:
    assert encode(Event("x", data)) == wire


@given(st.lists(st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]))))
def test_a_reader_gets_what_was_written(texts: list[str]) -> None:
    wire = b":\n\n".join(encode(Event("word", text.encode())) for text in texts).decode()
    assert decoded(wire) == [("word", text) for text in texts]


class TestBacklog:
    def next(self, backlog: Backlog) -> Deferred[Event]:
        return Deferred.fromCoroutine(backlog.__anext__())

    def test_what_was_put_is_read_in_order_also_after_the_end(self) -> None:
        backlog = Backlog()
        events = [Event("n", b"%d" % number) for number in range(3)]
        for event in events:
            backlog.put(event)
        backlog.end()
        assert [result_of(self.next(backlog)) for _ in events] == events
        assert isinstance(error_of(self.next(backlog)), StopAsyncIteration)

    def test_who_waits_is_woken(self) -> None:
        backlog = Backlog()
        waiting = self.next(backlog)
        assert not waiting.called
        backlog.put(Event("n", b"1"))
        assert result_of(waiting) == Event("n", b"1")
        last = self.next(backlog)
        backlog.end()
        assert isinstance(error_of(last), StopAsyncIteration)

    def test_of_too_many_the_oldest_are_lost(self) -> None:
        backlog = Backlog(most=2)
        for number in range(5):
            backlog.put(Event("n", b"%d" % number))
        assert [result_of(self.next(backlog)).data for _ in range(2)] == [b"3", b"4"]

    def test_who_ceased_to_wait_loses_nothing(self) -> None:
        backlog = Backlog()
        waiting = self.next(backlog)
        waiting.cancel()
        assert isinstance(error_of(waiting), CancelledError)
        backlog.put(Event("n", b"1"))
        assert result_of(self.next(backlog)).data == b"1"
