"""What the parts of the feed ask of each other, and of the rest."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from twisted.internet.defer import Deferred

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
        """One message. Raises ValueError if a value in it cannot be said in this encoding."""
        ...

    def joined(self, first: bytes, second: bytes) -> bytes:
        """Two encoded lists, with something in each and a dozen values in all at most, as one."""
        ...

    def encode_members(self, members: dict[str, Any]) -> bytes:
        """A dictionary with string keys, without its beginning: its members as they stand in a longer one."""
        ...

    def event(
        self, subscription: int, publication: int, topic: str | None, *, n: int, members: bytes, count: int
    ) -> bytes:
        """An EVENT without arguments whose keyword arguments are `n` and `members`, which `encode_members` made of
        `count` members. `topic` is told in its details, if there is one."""
        ...


class Carrier(Protocol):
    """What carries encoded messages to one peer, and knows nothing of what they say."""

    peer: str
    """Its address, for people."""
    most: int
    """Bytes of the largest message that it takes."""

    @property
    def waiting(self) -> int:
        """Bytes that it was sent, and has not taken yet; about."""
        ...

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


class Connection(Carrier, Protocol):
    """The peer of one WAMP session."""

    serializer: Serializer


class Rights(Protocol):
    """Who somebody is."""

    def of_ticket(self, ticket: str) -> Principal:
        """Who shows a JSON Web Token, or an API key. Raises NotAuthenticated; TokenExpired."""
        ...

    def count(self, principal: Principal) -> None:
        """One more request. Raises TooManyRequests."""
        ...


class Peer(Protocol):
    """What the router is to a connection."""

    def receive(self, message: list[Any]) -> None:
        """One decoded message. Never raises; nothing once the session has ended."""
        ...

    def violate(self, text: str) -> None:
        """What came is no message: ABORT, and the connection is closed."""
        ...

    def lost(self) -> None:
        """The connection is gone. Harmless when it was told before."""
        ...


class Joined(Protocol):
    """A session that is welcome, for those who serve it."""

    id: int
    principal: Principal
    """Who it is; after a renewal of its ticket another value, which may do the same."""
    connection: Connection
    payloads: bool
    """Whether it said in HELLO that it wants them with all events: authextra `{"payloads": true}`."""

    def send(self, message: list[Any]) -> None:
        """At once. Raises ValueError if it cannot be said in the encoding of the session, or is too long for it."""
        ...

    def send_later(self, message: bytes) -> bool:
        """An encoded message that may be dropped, and then False: it is counted, and a session that takes nothing for
        `feed.slow_timeout` is closed."""
        ...


class Watching(Protocol):
    """Who serves the subscriptions to `rpcbroker.*`. The router has looked at the URI, and at `max_subscriptions`."""

    def subscribe(self, session: Joined, subscription: int, topic: str, match: str, *, payloads: bool) -> None:
        """From now on the session gets EVENTs of this subscription, as far as it may.

        `match` is exact, prefix or wildcard; a pattern may fit other topics than those of the feed, too. `payloads`:
        whether they are wanted. The same again comes here once. Called before SUBSCRIBED is sent: events must wait for
        the next turn, as those by `send_later` do. Raises BrokerError.
        """
        ...

    def unsubscribe(self, session: Joined, subscription: int) -> None:
        """No more of that."""
        ...

    def left(self, session: Joined) -> None:
        """The session is over, with all its subscriptions."""
        ...


@dataclass(frozen=True, slots=True)
class Payload:
    """The arguments of a call, or what it results in."""

    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """A call of a procedure of the broker itself."""

    session: Joined
    procedure: str
    payload: Payload
    progress: Callable[[Payload], None] | None = None
    """Tells of results before the last; None if the caller does not want them."""


Procedure = Callable[[Invocation], Coroutine[Deferred[Any], Any, Payload]]
"""Raises BrokerError. Made a Deferred of, and cancelled if its caller cancels, leaves, or has no more time."""


class Procedures(Protocol):
    """Who serves calls of `rpcbroker.*`."""

    def find(self, uri: str) -> Procedure | None:
        """None if there is no such procedure."""
        ...


class Methods(Protocol):
    """What applications have registered as `rpcbroker.method.<name>`: the router itself."""

    def ask(self, tenant_id: UUID, method: str, payload: Payload) -> Deferred[Payload] | None:
        """Call it with these arguments; None if no application of this tenant registered it.

        Fails with Refused, as the application says it; cancelling it interrupts the application.
        """
        ...

    def methods(self, tenant_id: UUID) -> Iterable[str]:
        """The names of all that are registered."""
        ...
