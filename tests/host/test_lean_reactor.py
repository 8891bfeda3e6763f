"""A reactor that was made lean does what Twisted's does: on real reactors and sockets, beside each other."""

from __future__ import annotations

import inspect
import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet import error
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.selectreactor import SelectReactor
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.python.failure import Failure

from rpcbroker.core.direct import Outgoing
from rpcbroker.host import lean_reactor


class Selectable:
    """One end of a connection, as the reactor sees it. What happened is in `seen`."""

    def __init__(self, reactor: Any, seen: list[str], name: str) -> None:
        self.name = name
        self.socket, self.peer = socket.socketpair()
        self.socket.setblocking(False)
        self.on_read: Callable[[], object] = lambda: self.socket.recv(100) and None
        self.on_write: Callable[[], object] = lambda: reactor.removeWriter(self)
        self.lost: list[Failure] = []
        self._reactor = reactor
        self._seen = seen
        reactor.addReader(self)

    def fileno(self) -> int:
        return self.socket.fileno()

    def logPrefix(self) -> str:
        return self.name

    def doRead(self) -> object:
        self._seen.append(f"{self.name} read")
        return self.on_read()

    def doWrite(self) -> object:
        self._seen.append(f"{self.name} written")
        return self.on_write()

    def connectionLost(self, reason: Failure) -> None:
        self.lost.append(reason)
        self._seen.append(f"{self.name} lost")
        self.close()

    def close(self) -> None:
        self._reactor.removeReader(self)
        self._reactor.removeWriter(self)
        self.socket.close()


class World:
    """A reactor, and selectables whose peers say things."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.seen: list[str] = []
        self.selectables: list[Selectable] = []

    def selectable(self, name: str) -> Selectable:
        made = Selectable(self.reactor, self.seen, name)
        self.selectables.append(made)
        return made

    def turn(self) -> list[str]:
        """What one turn of the reactor did."""
        self.seen.clear()
        self.reactor.doIteration(0)
        return self.seen.copy()

    def close(self) -> None:
        for selectable in self.selectables:
            selectable.close()
            selectable.peer.close()
        close(self.reactor)


def close(reactor: Any) -> None:
    """One that never ran."""
    for reader in reactor._internalReaders:
        reactor.removeReader(reader)
        reader.connectionLost(Failure(error.ConnectionDone()))
    if isinstance(reactor, EPollReactor):
        reactor._poller.close()


@pytest.fixture(params=["as Twisted has it", "lean"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Each test runs with Twisted's own reactor too: what it demands is what Twisted does."""
    reactor: Any = EPollReactor()
    if request.param == "lean":
        assert lean_reactor.lighten(reactor, Outgoing(lambda: 0.0))
        assert reactor.doIteration is reactor.doPoll is not EPollReactor.doPoll
    made = World(reactor)
    yield made
    made.close()


def test_twisted_has_all_that_is_relied_on() -> None:
    reactor: Any = EPollReactor()
    assert isinstance(reactor._poller, select.epoll)
    assert isinstance(reactor._selectables, dict)
    assert list(inspect.signature(reactor._doReadOrWrite).parameters) == ["selectable", "fd", "event"]
    assert list(inspect.signature(reactor._disconnectSelectable).parameters)[:3] == ["selectable", "why", "isRead"]
    assert "self.doIteration(" in inspect.getsource(EPollReactor.mainLoop), "it is looked up in every turn"
    close(reactor)


def test_the_selectables_stay_the_same_dictionary_when_all_are_removed(world: World) -> None:
    before: Any = world.reactor._selectables
    one = world.selectable("one")
    assert world.reactor.removeAll() == [one]
    assert world.reactor._selectables is before


def test_another_reactor_stays_as_it_is() -> None:
    class Mine(EPollReactor):
        pass

    for reactor in (Mine(), SelectReactor()):
        with capturedLogs() as events:
            assert not lean_reactor.lighten(reactor, Outgoing(lambda: 0.0))
        assert "doIteration" not in vars(reactor)
        assert [event["log_level"] for event in events] == [LogLevel.debug]
        close(reactor)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("_poller", None), ("_selectables", []), ("_doReadOrWrite", None), ("_disconnectSelectable", 1)],
)
def test_a_reactor_that_is_not_as_expected_stays_as_it_is(attribute: str, value: object) -> None:
    reactor: Any = EPollReactor()
    usual = getattr(reactor, attribute)
    setattr(reactor, attribute, value)
    assert not lean_reactor.lighten(reactor, Outgoing(lambda: 0.0))
    assert "doIteration" not in vars(reactor)
    setattr(reactor, attribute, usual)
    close(reactor)


def test_what_came_is_read_and_what_has_room_is_written(world: World) -> None:
    one = world.selectable("one")
    assert world.turn() == []
    one.peer.send(b"x")
    assert world.turn() == ["one read"]
    assert world.turn() == []
    world.reactor.addWriter(one)
    assert world.turn() == ["one written"]
    assert world.turn() == []


def test_what_can_be_read_and_written_is_read_first(world: World) -> None:
    one = world.selectable("one")
    world.reactor.addWriter(one)
    one.peer.send(b"x")
    assert world.turn() == ["one read", "one written"]


def test_who_is_lost_by_reading_is_not_written_to(world: World) -> None:
    one = world.selectable("one")
    world.reactor.addWriter(one)
    one.on_read = error.ConnectionLost
    one.peer.send(b"x")
    assert world.turn() == ["one read", "one lost"]


@pytest.mark.parametrize("why", [error.ConnectionDone, error.ConnectionLost, error.ConnectionAborted])
def test_what_reading_returns_is_the_reason_of_the_end(world: World, why: type[Exception]) -> None:
    one = world.selectable("one")
    one.on_read = why
    one.peer.send(b"x")
    assert world.turn() == ["one read", "one lost"]
    assert [reason.type for reason in one.lost] == [why]
    assert world.turn() == []


def test_a_peer_that_is_gone_is_noticed(world: World) -> None:
    one = world.selectable("one")
    one.on_read = lambda: None if one.socket.recv(100) else error.ConnectionDone()
    one.peer.send(b"last words")
    one.peer.close()
    assert world.turn() == ["one read"]
    assert world.turn() == ["one read", "one lost"]


@pytest.mark.parametrize("failure", [RuntimeError, SystemExit, GeneratorExit])
def test_a_failure_is_logged_with_its_traceback_and_ends_only_who_failed(
    world: World, failure: type[BaseException], no_dropped_failures: list[str]
) -> None:
    def broken() -> None:
        raise failure("broken here")

    one, two = world.selectable("one"), world.selectable("two")
    one.on_read = broken
    for each in (one, two):
        each.peer.send(b"x")
    with capturedLogs() as events:
        assert world.turn() == ["one read", "one lost", "two read"]
    assert [reason.type for reason in one.lost] == [failure]
    (event,) = events
    assert "in broken" in formatEvent(event)
    assert event["log_system"] == "one"
    no_dropped_failures.clear()


def test_a_failure_when_the_end_is_told_is_logged_and_touches_nobody_else(
    world: World, no_dropped_failures: list[str]
) -> None:
    def lost(_: Failure) -> None:
        one.close()
        raise RuntimeError("broken here")

    one, two = world.selectable("one"), world.selectable("two")
    one.on_read = error.ConnectionDone
    one.connectionLost = lost  # type: ignore[method-assign]
    for each in (one, two):
        each.peer.send(b"x")
    with capturedLogs() as events:
        assert world.turn() == ["one read", "two read"]
    assert [event["log_system"] for event in events] == ["one"]
    no_dropped_failures.clear()


def test_who_was_closed_by_the_one_before_it_is_not_read_any_more(world: World) -> None:
    one, two = world.selectable("one"), world.selectable("two")
    one.on_read = two.close
    for each in (one, two):
        each.peer.send(b"x")
    assert world.turn() == ["one read"]
    assert world.turn() == ["one read"]


def test_who_has_no_descriptor_any_more_is_disconnected_unread(world: World) -> None:
    one = world.selectable("one")
    number = one.socket.fileno()
    one.peer.send(b"x")
    one.fileno = lambda: -1  # type: ignore[method-assign]
    one.close = lambda: None  # type: ignore[method-assign]
    assert world.turn() == ["one lost"]
    assert [reason.type for reason in one.lost] == [error.ConnectionFdescWentAway]
    assert number not in world.reactor._selectables
    del one.fileno, one.close  # type: ignore[method-assign]


def test_a_signal_does_not_end_the_turn_of_others(world: World) -> None:
    one = world.selectable("one")
    came: list[int] = []
    usual = signal.signal(signal.SIGUSR2, lambda number, _: came.append(number))

    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGUSR2)
        one.peer.send(b"x")

    timer = threading.Timer(0.05, interrupt)
    timer.start()
    try:
        world.reactor.doIteration(30)
    finally:
        timer.join()
        signal.signal(signal.SIGUSR2, usual)
    assert came == [signal.SIGUSR2]
    assert world.seen == ["one read"]


def test_what_a_thread_asks_for_wakes_the_reactor(world: World) -> None:
    called: list[int] = []
    timer = threading.Timer(0.05, lambda: world.reactor.callFromThread(called.append, 1))
    timer.start()
    world.reactor.doIteration(None)
    timer.join()
    world.reactor.runUntilCurrent()
    assert called == [1]


def test_timers_have_their_turn_between_many_events_and_nobody_starves() -> None:
    reactor: Any = EPollReactor()
    assert lean_reactor.lighten(reactor, Outgoing(lambda: 0.0))
    world = World(reactor)
    names = [str(number) for number in range(2 * lean_reactor.MOST_EVENTS + 10)]
    for name in names:
        selectable = world.selectable(name)
        selectable.on_read = lambda: None  # there is always more
        selectable.peer.send(b"x")
    turns = [world.turn() for _ in range(3)]
    assert [len(turn) for turn in turns] == [lean_reactor.MOST_EVENTS] * 3
    assert {seen for turn in turns for seen in turn} == {f"{name} read" for name in names}
    world.close()


def test_what_reads_lead_to_goes_out_when_all_was_read() -> None:
    reactor: Any = EPollReactor()
    outgoing = Outgoing(lambda: 0.0)
    assert lean_reactor.lighten(reactor, outgoing)
    world = World(reactor)

    class Transport:
        def write(self, data: bytes) -> None:
            world.seen.append("sent")

    def read() -> None:
        outgoing.send(Transport(), b"x")

    for name in ("one", "other"):
        selectable = world.selectable(name)
        selectable.on_read = read
        selectable.peer.send(b"x")
    assert sorted(world.turn()[:2]) == ["one read", "other read"]
    assert world.seen[2:] == ["sent", "sent"]
    world.close()
