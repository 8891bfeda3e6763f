"""Answers to devices: each is encoded and written once, and tells its length, for many devices cannot read chunks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Protocol

from twisted.web.http import datetimeToString
from twisted.web.http_headers import Headers

from rpcbroker.core import direct
from rpcbroker.core.errors import BrokerError


class Rendered(Protocol):
    """An error as REST has it."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> dict[str, str]: ...

    @property
    def body(self) -> bytes: ...


Render = Callable[[BrokerError], Rendered]

JSON = b"application/json"
TEXT = b"text/plain; charset=utf-8"

_NO_HEADERS = Headers()
_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}


def answer(
    request: Any, status: int, body: bytes = b"", *, content_type: bytes = JSON, more: Mapping[str, str] | None = None
) -> None:
    """Answer a request and be done with it. Harmless when the device has left.

    `more` are further header fields, whose values the broker has made: none may have a line's end.
    """
    channel = request.channel
    if channel is None:
        return
    request.waiter = None
    kind = b"Content-Type: %b\r\n" % content_type if body else b""
    further = b"".join(b"%b: %b\r\n" % (name.encode(), value.encode()) for name, value in (more or {}).items())
    if not channel.persistent:
        further += b"Connection: close\r\n"
    head = b"%b %d %b\r\nDate: %b\r\n%bContent-Length: %d\r\nCache-Control: no-store\r\n%b\r\n" % (
        request.clientproto,
        status,
        _PHRASES[status],
        datetimeToString(),
        kind,
        len(body),
        further,
    )
    begin(request, head if request.method == b"HEAD" else head + body)
    request.finish()


def lighten(request: Any) -> None:
    """Let go of what has been read of a request that is going to wait: that is a third of what it takes."""
    request.requestHeaders = _NO_HEADERS
    request.content.close()
    request.content = None


def begin(request: Any, data: bytes) -> None:
    """Write the answer's head, and what there is of its body."""
    request.startedWriting = 1  # so that Twisted makes no head of its own
    direct.send(request.channel.transport, data)


def refuse(request: Any, rendered: Rendered) -> None:
    """Answer with an error."""
    headers = dict(rendered.headers)
    content_type = headers.pop("Content-Type").encode()
    answer(request, rendered.status, rendered.body, content_type=content_type, more=headers)
