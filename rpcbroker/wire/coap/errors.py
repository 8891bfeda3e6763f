"""What a peer can do wrong in a message that can be read, and so is answered."""

from __future__ import annotations

from rpcbroker.wire.errors import WireError


class RequestError(WireError):
    """A request that is refused: `code` is the response code, `message` the diagnostic text (RFC 7252 5.5.2).

    The text quotes nothing of what the peer sent.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message, code)


class BadOption(RequestError):
    """An option that cannot be obeyed (RFC 7252 5.4)."""


class Incomplete(RequestError):
    """Blocks of the body are missing (RFC 7959 2.9.2)."""


class TooLarge(RequestError):
    """The body is, or would become, larger than `limit` bytes; the answer says so in Size1 (RFC 7959 2.9.3)."""

    def __init__(self, code: int, message: str, limit: int) -> None:
        super().__init__(code, message)
        self.limit = limit
