"""What goes out: in order, gathered, and no more of it in memory than may be."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.outlet import FACTOR, Outlet

MOST, ROOM = 1_000, 300


class Wire:
    """A transport as Twisted's: it takes all, and says when it has too much and when it has nothing."""

    def __init__(self) -> None:
        self.producer: Any = None
        self.buffer = b""
        self.out = b""
        self.paused = False
        self.aborted = False

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def write(self, data: bytes) -> None:
        self.buffer += data
        if len(self.buffer) > ROOM:
            self.paused = True
            self.producer.pauseProducing()

    def abortConnection(self) -> None:
        self.aborted = True

    def send(self, size: int) -> None:
        """The peer reads so much."""
        self.out, self.buffer = self.out + self.buffer[:size], self.buffer[size:]
        if self.paused and not self.buffer:
            self.paused = False
            self.producer.resumeProducing()


class House:
    def __init__(self, gather: float = 0.1) -> None:
        self.clock = Clock()
        self.wire = Wire()
        self.changes: list[bool] = []
        self.outlet = Outlet(
            self.wire,
            Deadlines(self.clock),
            gather=lambda: gather,
            max_waiting=lambda: MOST,
            changed=self.changes.append,
        )


steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 400)),
        st.tuples(st.just("later"), st.integers(0, 400)),
        st.tuples(st.just("send"), st.integers(0, 2_000)),
        st.tuples(st.just("wait"), st.integers(0, 1)),
    ),
    max_size=60,
)


@given(steps=steps, gather=st.sampled_from([0.0, 0.1]))
def test_all_that_was_taken_goes_out_once_and_in_order_and_no_more_waits_than_may(
    steps: list[tuple[str, int]], gather: float
) -> None:
    house = House(gather)
    outlet, wire, taken = house.outlet, house.wire, b""
    for number, (step, size) in enumerate(steps):
        data = bytes([number % 256]) * size
        if step == "write":
            outlet.write(data[:1], data[1:])
            taken += data
        elif step == "later":
            before = outlet.waiting
            if outlet.later(data):
                taken += data
                assert before + size <= MOST
            else:
                assert before + size > MOST
        elif step == "send":
            wire.send(size)
        else:
            house.clock.advance(size)
        waits = len(taken) - len(wire.out) - len(wire.buffer)
        assert waits <= outlet.waiting
        assert (house.changes or [False])[-1] is wire.paused
        assert waits + len(wire.buffer) <= FACTOR * MOST + 400 + ROOM
        if wire.aborted:
            return
    while len(wire.out) < len(taken):
        house.clock.advance(1)
        wire.send(10_000)
    house.clock.advance(1)
    assert wire.out == taken
    assert not house.changes or not house.changes[-1]
    assert not house.clock.getDelayedCalls()


def test_it_is_told_when_the_peer_reads_again() -> None:
    house = House()
    house.outlet.write(b"x" * (ROOM + 1))
    assert house.changes == [True]
    assert house.outlet.later(b"waits")
    house.clock.advance(10)
    assert len(house.wire.buffer) == ROOM + 1
    house.wire.send(ROOM)
    assert house.changes == [True]
    house.wire.send(1)
    assert house.changes == [True, False]
    assert house.wire.buffer == b"waits"


def test_what_waits_is_forgotten_when_it_is_closed() -> None:
    house = House()
    house.outlet.later(b"waits")
    house.outlet.close()
    house.clock.advance(1)
    assert (house.wire.buffer, house.outlet.waiting) == (b"", 0)
    assert not house.clock.getDelayedCalls()
