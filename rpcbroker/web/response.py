"""Answers that are whole: each is made and written once, and tells its length, for many devices cannot read chunks."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
_FIRST_LINES = {
    (version.encode(), status.value): f"{version} {status.value} {status.phrase}\r\n"
    for version in ("HTTP/1.0", "HTTP/1.1")
    for status in HTTPStatus
}


def phrase(status: int) -> bytes:
    """What HTTP calls a status; Twisted does not know the younger ones."""
    return _PHRASES[status]


def respond(request: Any, status: int, body: bytes, content_type: str, fields: Mapping[str, str]) -> None:
    """Answer a request and be done with it. Harmless when the caller has left.

    Without a body there is no type. `fields` are further header fields, whose values the broker has made: none may
    have a line's end.
    """
    channel = request.channel
    if channel is None:
        return
    type_ = f"Content-Type: {content_type}\r\n" if body else ""
    more = "" if channel.persistent else "Connection: close\r\n"
    for name, value in fields.items():
        more += f"{name}: {value}\r\n"
    first, site = _FIRST_LINES[request.clientproto, status], channel.site
    head = (
        f"{first}Date: {site.date}\r\n{type_}Content-Length: {len(body)}\r\nCache-Control: no-store\r\n{more}\r\n"
    ).encode()
    request.startedWriting = 1  # so that Twisted makes no head of its own
    site.outgoing.send(channel.transport, head if request.method == b"HEAD" else head + body)
    request.finish()
