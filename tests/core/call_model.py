"""What test_calls_machine.py holds the broker against: devices that write down what they get, a disk, a dict of calls."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail

from rpcbroker.core.calls import UNACKNOWLEDGED_STATES, Call, CallRequest, CallState, Step, SubmitStrategy
from rpcbroker.core.errors import Unavailable
from rpcbroker.core.model import Device
from rpcbroker.core.ports import CloseReason
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.store import tables as t
from rpcbroker.store.memory import MemoryDatabase, MemoryStore
from rpcbroker.store.sql import SqlStore

LONGEST = 60.0
"""Seconds that a call waits at most without progress."""

picks = st.integers(0, 15)
payloads = st.sampled_from((b"1", b"", b'{"error":"no"}'))
requests = st.builds(
    CallRequest,
    method=st.sampled_from(("a", "b")),
    oneway=st.booleans(),
    persistent=st.booleans(),
    timeout=st.sampled_from((1.0, 10.0, LONGEST)),
    connect_timeout=st.sampled_from((None, None, None, 0.0, 2.0)),
    retries=st.sampled_from((None, 0, 1)),
    strategy=st.sampled_from((None, *SubmitStrategy)),
    once=st.booleans(),
)


class DiskState(Enum):
    WELL = "writes at once"
    SLOW = "writes when it is told to"
    FULL = "refuses to write"


class Disk:
    """In the place of a memory database's `write`: what waits here when the process is killed never happened."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.state = DiskState.WELL
        self._write = partial(MemoryDatabase.write, database)
        self._waiting: deque[tuple[Any, Deferred[Any]]] = deque()
        database.write = self.write  # type: ignore[method-assign]

    def write(self, work: Any) -> Deferred[Any]:
        if self.state is DiskState.FULL:
            return fail(Unavailable("The disk is full"))
        if self.state is DiskState.WELL and not self._waiting:
            done: Deferred[Any] = self._write(work)
            return done
        waiting: Deferred[Any] = Deferred()
        self._waiting.append((work, waiting))
        return waiting

    def commit(self) -> None:
        """Write all that waits, and what comes of it."""
        while self._waiting:
            work, waiting = self._waiting.popleft()
            self._write(work).chainDeferred(waiting)

    def kill(self) -> None:
        self._waiting.clear()
        self.state = DiskState.WELL

    @contextmanager
    def past_the_queue(self) -> Iterator[None]:
        """What is asked inside is answered at once, with what is written by now."""
        state, waiting = self.state, self._waiting
        self.state, self._waiting = DiskState.WELL, deque()
        try:
            yield
        finally:
            self.state, self._waiting = state, waiting

    @property
    def settled(self) -> bool:
        """Nothing is on its way, and what comes is written at once."""
        return self.state is DiskState.WELL and not self._waiting


class DiskStore(MemoryStore):
    """What a process makes of a disk; the next process makes another."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database
        SqlStore.__init__(self, database, cache_size=0)

    def rows(self) -> dict[UUID, Row]:
        """The persistent calls that are written, by their rpc ids."""
        columns = t.rpc.c
        query = sa.select(columns.id, columns.status, columns.ended_time, columns.wire_id, columns.expiration_time)
        with self.database._engine.connect() as connection:
            return {row[0]: Row(CallState(row[1]), *row[2:]) for row in connection.execute(query)}


def emptied(database: MemoryDatabase) -> MemoryDatabase:
    """As new: to make a new one, for each of many examples, takes longer than all else."""
    t.metadata.create_all(database._engine)
    with database._engine.begin() as connection:
        for table in reversed(t.metadata.sorted_tables):
            connection.execute(table.delete())
    return database


class Row(NamedTuple):
    """What the disk says of a persistent call."""

    state: CallState
    ended_time: int | None
    wire_id: int
    expiration_time: int

    @property
    def unacknowledged(self) -> bool:
        return self.state in UNACKNOWLEDGED_STATES


class Acks(Enum):
    """When a device acknowledges a call."""

    AT_ONCE = "at once"
    LATER = "when it is told to, or never"


@dataclass(eq=False)
class Told:
    """A call, as the model has it. `callers` are the outcomes of all that asked for it under one id."""

    request: CallRequest
    place: Place
    life: int
    since: float
    callers: list[list[Any]] = field(default_factory=list)
    waiting: list[Deferred[Any]] = field(default_factory=list)
    wire_id: int | None = None
    opened: int | None = None
    """Its place in the order in which calls began to wait."""
    accepted: bool = False
    """A caller was told that it is kept."""
    given: list[Way] = field(default_factory=list)
    again: set[Way] = field(default_factory=set)
    """Ways on which the device did not acknowledge it since it was given it last."""
    has: Way | None = None
    """The way that it went out on last, as long as it may still be heard of from there."""
    overdue: bool = False
    """The device did not acknowledge it in time there: another way may be given it."""
    acknowledged: float | None = None
    answered: bool = False
    """The device replied to it while it waited."""
    prolonged: float = 0.0
    """Until when it may go on, for the device reported progress."""
    settled: CallState | None = None
    lost: bool = False
    """The process that it lived in was killed, or its device deleted."""
    final: tuple[Any, ...] | None = None

    @property
    def open(self) -> bool:
        return self.opened is not None and self.settled is None and not self.lost

    @property
    def summary(self) -> str:
        """For who reads of what is wrong with it."""
        kind = "persistent" if self.request.persistent else "lightweight"
        return f"{self.wire_id} of life {self.life}, {kind}, {self.strategy}, {self.request}"

    @property
    def strategy(self) -> SubmitStrategy:
        said = self.request.strategy or self.place.device.submit_strategy
        return SubmitStrategy(said) if said else SubmitStrategy.BURST


@dataclass(eq=False)
class Place:
    """A device: its record, the ways to it, and the wire ids that it ever saw."""

    device: Device
    way: Way | None = None
    polls: Any = None
    """Its link of polls, see call_polls."""
    seen: dict[int, Told] = field(default_factory=dict)


@dataclass(eq=False)
class Way:
    """A Link that asks the model about each call that it is given."""

    session: DeviceSession
    acks: Acks
    replies: bool
    given_to: Callable[[Way, Call], Told]
    full: bool = False
    breaks: bool = False
    """The connection is lost by the first call that is written to it."""
    subscribed: bool = False
    cancelled: list[int] = field(default_factory=list)
    closed: CloseReason | None = None
    protocol: str = "MODEL"
    transient: bool = False

    def deliver(self, call: Call) -> bool | None:
        if self.full:
            return False
        told = self.given_to(self, call)
        if self.breaks:
            self.subscribed = False
            self.closed = CloseReason.SHUTTING_DOWN
            told.has = None
            self.session.detach(self, "lost by a write")
            return True
        if self.acks is Acks.AT_ONCE:
            self.acknowledge(told)
        else:
            self.session.report(call.wire_id, Step.WRITTEN)
        if self.replies and not call.oneway:
            self.reply(told, b"1")
        return True

    def acknowledge(self, told: Told) -> None:
        assert told.wire_id is not None
        if told.open and told.acknowledged is None:
            told.acknowledged = self.session._around.seconds()
        self.session.report(told.wire_id, Step.ACKNOWLEDGED)

    def reply(self, told: Told, payload: bytes) -> list[Any]:
        """What the session says of it: nothing yet, or whether anybody waited for it, or why it cannot be kept."""
        assert told.wire_id is not None
        told.answered = told.answered or told.open
        return self.said(self.session.receive(told.wire_id, payload))

    def reply_badly(self, told: Told) -> list[Any]:
        """The same, with what is not JSON; a persistent call keeps even that as its response."""
        assert told.wire_id is not None
        told.answered = told.answered or (told.open and told.request.persistent)
        return self.said(self.session.receive_bad(told.wire_id, "it ends early", b"{"))

    @staticmethod
    def said(answer: bool | Deferred[bool]) -> list[Any]:
        said: list[Any] = []
        if isinstance(answer, Deferred):
            answer.addBoth(said.append)
        else:
            said.append(answer)
        return said

    def cancel(self, call: Call) -> bool:
        if self.subscribed:
            self.cancelled.append(call.wire_id)
        return self.subscribed

    def close(self, reason: CloseReason) -> None:
        self.closed = reason
        self.subscribed = False

    def attributes_changed(self, update: bytes) -> None:
        raise AssertionError("nobody changes attributes here")

    def why_not_callable(self) -> str:
        return "has not subscribed"


def id_of(number: int) -> UUID:
    """The rpc id of the call of this number."""
    return UUID(int=0xCA11_0000_0000 + number)
