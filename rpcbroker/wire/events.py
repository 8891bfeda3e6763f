"""Server-sent events as they go over the wire (WHATWG HTML 9.2)."""

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
