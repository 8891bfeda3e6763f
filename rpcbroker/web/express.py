"""The express lane: the requests that are asked most often, read without twisted.web's parser.

It takes a request only if that is whole in one read and leaves no doubt: one of two methods, a path and a query of
plain characters, HTTP/1.1, header fields of printable ASCII none of which is there twice, a body whose length is said
once, in digits. Of anything else it takes no byte: that goes to Twisted's parser, which refuses what is wrong. So there
is nothing that the two could read differently, and nothing that is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from io import BytesIO
from typing import Any, NamedTuple

import msgspec
from twisted.python.failure import Failure
from twisted.web.http import parse_qs

from rpcbroker.core.tasks import Task
from rpcbroker.web.request import Waiter
from rpcbroker.web.response import respond

MAX_HEAD = 4096
"""Bytes of the first line and the fields, and their ends, of a request that is taken."""
MAX_FIELDS = 32
REMEMBERED = 512
"""Blocks of header fields whose meaning is remembered: of one caller's requests they are mostly the same."""

_FIRST_LINE = re.compile(rb"(GET|POST) (/(?!/)[A-Za-z0-9._~/-]*)(?:\?([A-Za-z0-9._~/=&,-]*))? HTTP/1\.1\r\n")
_BLOCK = re.compile(rb"(?:[A-Za-z][A-Za-z0-9_-]*:[ -~]*\r\n)+")
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,8}")
_EVENTS = b"text/event-stream"
_DOUBTFUL = frozenset({b"content-encoding", b"expect", b"transfer-encoding", b"upgrade"})
"""Fields that change how a request is read or answered."""


class Fields(NamedTuple):
    """The header fields of a request; their names are in small letters."""

    values: Mapping[bytes, bytes]
    length: int
    """Bytes of the body."""

    def getRawHeaders(self, name: bytes, default: Sequence[bytes] | None = None) -> Sequence[bytes] | None:
        """As Twisted's Headers."""
        value = self.values.get(name.lower())
        return default if value is None else (value,)


@lru_cache(REMEMBERED)
def read_fields(block: bytes) -> Fields | None:
    """The fields in lines that each end with CR LF; None if they leave anything in doubt."""
    if not _BLOCK.fullmatch(block):
        return None
    values: dict[bytes, bytes] = {}
    lines = block.split(b"\r\n")[:-1]
    for line in lines:
        name, _, value = line.partition(b":")
        values[name.lower()] = value.strip(b" ")
    length = values.get(b"content-length", b"0")
    doubtful = (
        len(lines) > MAX_FIELDS
        or len(values) < len(lines)  # one is there twice
        or b"host" not in values
        or not _LENGTH.fullmatch(length)
        or not _DOUBTFUL.isdisjoint(values)
        or values.get(b"connection", b"keep-alive").lower() != b"keep-alive"
        or _EVENTS in values.get(b"accept", b"").lower()
    )
    return None if doubtful else Fields(values, int(length))


class PlainRequest(msgspec.Struct, eq=False):
    """A request in the express lane, to be answered once by `respond`.

    It has of Twisted's Request what those who answer need, under the same names.
    """

    channel: Any
    """None once it is answered, or its connection is gone."""
    method: bytes
    path: bytes
    query: bytes
    requestHeaders: Fields
    content: BytesIO
    waiter: Waiter | None = None
    """As LimitedRequest's."""
    serving: Task | None = None
    """What is cancelled when the caller leaves."""
    startedWriting: int = 0

    clientproto = b"HTTP/1.1"

    @property
    def args(self) -> dict[bytes, list[bytes]]:
        """The query's parameters."""
        return parse_qs(self.query, 1) if self.query else {}

    def __repr__(self) -> str:
        """Without what is secret in it."""
        return f"<PlainRequest {self.method.decode()} {self.path.decode()}>"

    def getHeader(self, name: bytes) -> bytes | None:
        """A field's value; `name` is in small letters."""
        return self.requestHeaders.values.get(name)

    respond = respond

    def finish(self) -> None:
        """It is answered."""
        channel, self.channel, self.serving = self.channel, None, None
        channel.requestDone(self)

    def connectionLost(self, _: Failure) -> None:
        """Nobody waits for the answer any more."""
        self.channel = None
        waiter, self.waiter = self.waiter, None
        if waiter is not None:
            waiter.lost()
        if self.serving is not None:
            self.serving.cancel()


Serve = Callable[[Any], object]
"""Answers a request, at once or later, and never raises."""


def read_request(data: bytes, channel: Any) -> tuple[PlainRequest, int] | None:
    """The request that these bytes begin with, and how many of them it has; None if it is none for this lane."""
    first = _FIRST_LINE.match(data, 0, MAX_HEAD)
    if first is None:
        return None
    end = data.find(b"\r\n\r\n", first.end() - 2, MAX_HEAD)
    if end < 0:
        return None
    fields = read_fields(data[first.end() : end + 2])
    if fields is None:
        return None
    body, size = end + 4, end + 4 + fields.length
    if len(data) < size:
        return None
    method, path, query = first.groups(b"")
    return PlainRequest(channel, method, path, query, fields, BytesIO(data[body:size])), size
