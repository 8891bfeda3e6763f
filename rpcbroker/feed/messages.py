"""What the router sends, as lists for a serializer. https://wamp-proto.org/spec.html, "Messages"."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from rpcbroker.feed.errors import Told
from rpcbroker.feed.ports import Payload


class Type(IntEnum):
    """The first element of a message."""

    HELLO = 1
    WELCOME = 2
    ABORT = 3
    CHALLENGE = 4
    AUTHENTICATE = 5
    GOODBYE = 6
    ERROR = 8
    PUBLISH = 16
    PUBLISHED = 17
    SUBSCRIBE = 32
    SUBSCRIBED = 33
    UNSUBSCRIBE = 34
    UNSUBSCRIBED = 35
    EVENT = 36
    CALL = 48
    CANCEL = 49
    RESULT = 50
    REGISTER = 64
    REGISTERED = 65
    UNREGISTER = 66
    UNREGISTERED = 67
    INVOCATION = 68
    INTERRUPT = 69
    YIELD = 70


class Received:
    """What a client sent: autobahn's message, its options as they came, and its URI, which may still be a bad one."""

    __slots__ = ("message", "options", "type", "uri")

    def __init__(self, message: Any, options: dict[str, Any], uri: str) -> None:
        self.message = message
        self.type = Type(message.MESSAGE_TYPE)
        self.options = options
        self.uri = uri


def abort(uri: str, text: str) -> list[Any]:
    return [Type.ABORT, {"message": text}, uri]


def goodbye(uri: str, text: str = "") -> list[Any]:
    return [Type.GOODBYE, {"message": text} if text else {}, uri]


def error(request_type: int, request: int, told: Told) -> list[Any]:
    return _with([Type.ERROR, request_type, request, {}, told.uri], told.args, told.kwargs)


def event(subscription: int, publication: int, details: dict[str, Any]) -> list[Any]:
    """Without its arguments, which are the same for all who get it."""
    return [Type.EVENT, subscription, publication, details]


def arguments(payload: Payload) -> list[Any]:
    """The end of a message that has any."""
    return _with([], payload.args, payload.kwargs)


def result(request: int, payload: Payload, *, progress: bool = False) -> list[Any]:
    return _with([Type.RESULT, request, {"progress": True} if progress else {}], payload.args, payload.kwargs)


def invocation(request: int, registration: int, details: dict[str, Any], payload: Payload) -> list[Any]:
    return _with([Type.INVOCATION, request, registration, details], payload.args, payload.kwargs)


def interrupt(request: int, mode: str, reason: str) -> list[Any]:
    return [Type.INTERRUPT, request, {"mode": mode, "reason": reason}]


def _with(message: list[Any], args: list[Any], kwargs: dict[str, Any]) -> list[Any]:
    """Arguments are left out where there are none."""
    if kwargs:
        return [*message, args, kwargs]
    return [*message, args] if args else message
