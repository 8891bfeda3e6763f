"""What went out over a device's event stream, for a while: so that the next one can go on where it broke."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from rpcbroker.core.calls import Call
from rpcbroker.wire.events import Event, encode, encode_number

MAX_EVENTS = 100
MAX_SIZE = 64 << 10
"""Events, and bytes of them, that are kept of one device."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One event, as it went over the wire; `wire_id` is that of its call, 0 if it is none."""

    number: int
    data: bytes
    wire_id: int = 0
    oneway_until: int = 0
    """Of a one-way call, which has ended since it was sent: until when it is worth something, epoch ms."""
    persistent: bool = False
    """Whether it is a two-way call that is kept in the store, and so comes again by itself."""


class EventLog:
    """The last events of one device. Their numbers grow, also over restarts: they begin at the wall clock."""

    __slots__ = ("_events", "_size", "_start", "last")

    def __init__(self, now: int, after: int = 0) -> None:
        """`now` is epoch ms; numbers are above `after`."""
        self.last = max(now, after + 1)
        """The number that was given last."""
        self._start = self.last
        """The number before the first event that is kept."""
        self._events: deque[Sent] = deque()
        self._size = 0

    def beginning(self) -> bytes:
        """What a new stream begins with: the number to go on after, if it breaks before the first event."""
        return encode_number(self.last)

    def add(self, name: str, data: bytes, call: Call | None = None) -> bytes:
        """A new event, as it goes over the wire."""
        self.last += 1
        wire = encode(Event(name, data, self.last))
        if call is None:
            sent = Sent(self.last, wire)
        else:
            until = call.expiration_time if call.oneway else 0
            sent = Sent(self.last, wire, call.wire_id, until, call.persistent and not call.oneway)
        self._events.append(sent)
        self._size += len(wire)
        while len(self._events) > MAX_EVENTS or self._size > MAX_SIZE:
            oldest = self._events.popleft()
            self._size -= len(oldest.data)
            self._start = oldest.number
        return wire

    def __contains__(self, number: int) -> bool:
        """Whether a device that has heard everything up to this number can be told all that it has missed."""
        return self._start <= number <= self.last

    def __iter__(self) -> Iterator[Sent]:
        """The oldest first."""
        return iter(tuple(self._events))
