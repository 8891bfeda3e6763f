"""What the parts of the feed ask of each other, and of the rest."""

from __future__ import annotations

from typing import Any, Protocol

from rpcbroker.core.jsontext import MAX_DEPTH
from rpcbroker.core.model import Principal


class Serializer(Protocol):
    """One of WAMP's encodings. https://wamp-proto.org/spec.html, "Serializations"."""

    name: str
    """json, msgpack or cbor."""
    binary: bool
    """Whether it makes binary messages, not text."""

    def decode(self, data: bytes, max_depth: int = MAX_DEPTH) -> list[Any]:
        """One message, as a list. Raises Malformed, before anything large or deep is made of it."""
        ...

    def encode(self, message: list[Any]) -> bytes:
        """One message."""
        ...

    def encode_members(self, members: dict[str, Any]) -> bytes:
        """A dictionary with string keys, without its beginning: its members as they stand in a longer one."""
        ...

    def event(self, subscription: int, publication: int, n: int, members: bytes, count: int) -> bytes:
        """An EVENT without arguments whose keyword arguments are `n` and `members`, which `encode_members` made of
        `count` members."""
        ...


class Connection(Protocol):
    """The peer of one WAMP session, whatever carries it."""

    serializer: Serializer
    peer: str
    """Its address, for people."""

    def send(self, message: bytes) -> None:
        """One encoded message, at once. Nothing once it is closed."""
        ...

    def send_later(self, message: bytes) -> bool:
        """The same, together with others, within `feed.gather`; what is sent at once stays behind it.

        False if more waits for the peer than may: it is not sent.
        """
        ...

    def close(self, code: int, reason: str) -> None:
        """When all that was sent is out. `code` is that of a WebSocket's close frame."""
        ...


class Rights(Protocol):
    """Who somebody is."""

    def principal(self, ticket: str) -> Principal:
        """Who shows a JSON Web Token, or an API key. Raises NotAuthenticated; TokenExpired."""
        ...

    def count(self, principal: Principal) -> None:
        """One more request. Raises TooManyRequests."""
        ...
