"""Server-sent events (WHATWG HTML 9.2.6), read as they come in."""

from __future__ import annotations

from typing import NamedTuple


class Event(NamedTuple):
    """A word, and what belongs to it."""

    name: str
    data: bytes


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
