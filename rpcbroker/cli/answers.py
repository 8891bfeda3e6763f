"""What a server answers: values of the schema, or a Stop that says what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

from rpcbroker import __version__
from rpcbroker.cli.stop import ExitCode, Stop
from rpcbroker.cli.words import sentence
from rpcbroker.core import jsontext

OFFLINE = frozenset({"NO_SUBSCRIPTION", "NEVER_CONNECTED", "DISCONNECTED"})
"""Reasons that say: nothing could take the call."""

T = TypeVar("T")


class Answer(NamedTuple):
    """What came back; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body's value, None for an empty one. Raises Stop."""
        return self.read_as(Any) if self.body else None

    def read_as(self, type_: type[T]) -> T:
        """The body as a type of the schema. Raises Stop for a body that does not fit it."""
        try:
            value: T = jsontext.decode_as(type_, self.body)
        except jsontext.BadJSON as error:
            raise strange(f"The server's answer cannot be understood: {error}") from None
        return value

    def text(self) -> str:
        """A body that is text. Raises Stop."""
        try:
            return self.body.decode()
        except UnicodeDecodeError:
            raise strange("The server's answer is no text") from None


class _Error(msgspec.Struct, rename="camel"):
    """The schema's ErrorJSON, read leniently: proxies and other servers answer errors too."""

    message: Any = None
    error_code: Any = None
    reason: Any = None
    hint: Any = None


def strange(message: str) -> Stop:
    """A Stop for what no broker of this version says."""
    return Stop(
        f"{message}.",
        hint=f"Is this the URL of a broker? Its version should be {__version__}; GET /version tells.",
    )


def failure(answer: Answer) -> Stop:
    """The Stop for an answer that is no success: message, reason and hint as the broker gives them."""
    try:
        error: _Error = jsontext.decode_as(_Error, answer.body)
    except jsontext.BadJSON:
        error = _Error()
    message = str(error.message or f"The server answered with status {answer.status}")
    return Stop(
        sentence(message),
        _exit_code(answer.status, error.reason, error.error_code),
        reason=str(error.reason) if error.reason else None,
        hint=str(error.hint) if error.hint else None,
    )


def _exit_code(status: int, reason: Any, error_code: Any) -> ExitCode:
    if status in (401, 403):
        return ExitCode.NOT_LOGGED_IN
    if status == 404 and error_code == 32:
        return ExitCode.NOT_FOUND
    if status in (408, 409, 504):
        if reason in OFFLINE or (status == 409 and reason is None and error_code is None):
            return ExitCode.DEVICE_OFFLINE
        return ExitCode.ERROR if status == 409 else ExitCode.NO_REPLY
    return ExitCode.ERROR
