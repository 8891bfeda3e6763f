"""Answers that are whole: each is made and written once, and tells its length, for many devices cannot read chunks."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
_STATUS = {status: b"%d %b" % (status, text) for status, text in _PHRASES.items()}


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
    more = "".join([f"{name}: {value}\r\n" for name, value in fields.items()])
    end = "\r\n" if channel.persistent else "Connection: close\r\n\r\n"
    length = len(body)
    lines = f"Date: {channel.site.date}\r\n{type_}Content-Length: {length}\r\nCache-Control: no-store\r\n{more}{end}"
    head = b"%b %b\r\n%b" % (request.clientproto, _STATUS[status], lines.encode())
    request.startedWriting = 1  # so that Twisted makes no head of its own
    channel.site.outgoing.send(channel.transport, head if request.method == b"HEAD" else head + body)
    request.finish()
