"""What the peer of an MQTT connection is to the broker: a device, a stranger that wants to become one, or nobody."""

from __future__ import annotations

from typing import Protocol, TypeAlias

from twisted.internet.defer import Deferred

from rpcbroker.core.near_misses import NearMiss

Outcome: TypeAlias = "int | Deferred[int]"
"""The reason code (MQTT 5.0, 3.4.2.1) that a PUBLISH is acknowledged with, now or when what it asks for is done."""


class Refused(Exception):
    """The message cannot be taken. `code` is for the acknowledgement (5.0), `message` says why in plain words.

    `ends`: the connection has to end for it, after the acknowledgement.
    """

    def __init__(self, code: int, message: str, *, ends: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.ends = ends


class Face(Protocol):
    """The topics that are addressed to the server itself: never routed to other clients, nor back to the sender."""

    free: bool
    """Whether topics that are none of this face's may be for other clients."""

    def seen(self) -> None:
        """The peer sent something."""

    def allows(self) -> bool:
        """Count a message of the peer, other than to this face's topics; False if it is one too many."""

    def grants(self, topic_filter: str) -> bool:
        """Whether this is one of the filters that the peer may subscribe to here."""

    def publish(self, topic: str, payload: bytes) -> Outcome | None:
        """Act on a message; None if the topic is none of this face's.

        Raises Refused, BadTopicId, jsontext.BadJSON and Unavailable, and fails with the same.
        """

    def subscribed(self, topic_filters: frozenset[str]) -> None:
        """These were granted just now, and the peer has been told so."""

    def resumed(self) -> None:
        """The peer goes on with a session that was there before."""

    def misheard(self, topic_filter: str) -> None:
        """This one was not granted, or is not what was meant: nothing of the server comes from there."""

    def unheard(self, topic: str) -> None:
        """What was published there is not for the server."""

    def note(self, miss: NearMiss, detail: str) -> None:
        """The peer nearly did something right; `detail` goes on after "it"."""

    def unsubscribed(self, topic_filters: frozenset[str]) -> None: ...

    def gone(self, cause: str) -> None:
        """The connection has ended."""


class Nobody:
    """A client without credentials: nothing is addressed to the server."""

    free = True

    def seen(self) -> None: ...

    def allows(self) -> bool:
        return True

    def grants(self, topic_filter: str) -> bool:
        return False

    def publish(self, topic: str, payload: bytes) -> Outcome | None:
        return None

    def subscribed(self, topic_filters: frozenset[str]) -> None: ...

    def resumed(self) -> None: ...

    def misheard(self, topic_filter: str) -> None: ...

    def unheard(self, topic: str) -> None: ...

    def note(self, miss: NearMiss, detail: str) -> None: ...

    def unsubscribed(self, topic_filters: frozenset[str]) -> None: ...

    def gone(self, cause: str) -> None: ...


NOBODY = Nobody()
