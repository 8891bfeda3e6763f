"""Server-sent events as they go over the wire (WHATWG HTML 9.2), both ways."""

from __future__ import annotations

import re
from dataclasses import dataclass

EVENT_STREAM = "text/event-stream"
COMMENT = b":\n\n"
"""Means nothing, and keeps proxies from taking a silent connection for a dead one."""

_LINE_END = re.compile(rb"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Event:
    """One event: a word, UTF-8 text of any number of lines, and perhaps a number by which a reader can go on."""

    name: str
    data: bytes
    number: int | None = None


def encode(event: Event) -> bytes:
    """As it goes over the wire."""
    lines = b"".join(b"data: %b\n" % line for line in _LINE_END.split(event.data))
    number = b"" if event.number is None else b"id: %d\n" % event.number
    return b"%bevent: %b\n%b\n" % (number, event.name.encode(), lines)


def encode_number(number: int) -> bytes:
    """A number without an event: where a stream begins."""
    return b"id: %d\n\n" % number


class EventReader:
    """Takes a stream in pieces. Comments and what is not known are skipped; lines end as our broker ends them.

    `last_id` is what the last event was named that had a name, to go on behind it: Last-Event-ID.
    """

    def __init__(self) -> None:
        self.last_id = ""
        self._rest = b""
        self._name = ""
        self._id = ""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> list[Event]:
        """The events that this piece ends."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        return [event for line in lines if (event := self._line(line.removesuffix(b"\r"))) is not None]

    def _line(self, line: bytes) -> Event | None:
        if line:
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"event":
                self._name = value.decode(errors="replace")
            elif field == b"data":
                self._data.append(value)
            elif field == b"id" and b"\0" not in value:
                self._id = value.decode(errors="replace")
            return None
        self.last_id = self._id  # an event that was not ended does not count
        name, data, self._name, self._data = self._name or "message", self._data, "", []
        return Event(name, b"\n".join(data)) if data else None
