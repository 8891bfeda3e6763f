"""Answers to devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

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

    @property
    def content_type(self) -> str: ...


Render = Callable[[BrokerError], Rendered]

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"

_NO_HEADERS = Headers()


def answer(
    request: Any, status: int, body: bytes = b"", *, content_type: str = JSON, more: Mapping[str, str] | None = None
) -> None:
    """Answer a request and be done with it. Harmless when the device has left.

    `more` are further header fields, whose values the broker has made: none may have a line's end.
    """
    request.waiter = None
    request.respond(status, body, content_type, more or {})


def lighten(request: Any) -> None:
    """Let go of what has been read of a request that is going to wait: that is a third of what it takes."""
    request.requestHeaders = _NO_HEADERS
    request.content.close()
    request.content = None


def begin(request: Any, data: bytes) -> None:
    """Write the answer's head, and what there is of its body."""
    request.startedWriting = 1  # so that Twisted makes no head of its own
    request.channel.site.outgoing.flush()
    direct.send(request.channel.transport, data)


def refuse(request: Any, rendered: Rendered) -> None:
    """Answer with an error."""
    answer(request, rendered.status, rendered.body, content_type=rendered.content_type, more=rendered.headers)
