"""What requests, answers and observations are to those who answer: no message types, no retransmissions, no blocks."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol, TypeAlias

from twisted.internet.defer import Deferred


class Peer(Protocol):
    """The other end: an address that speaks UDP, or one DTLS session."""

    certificate: bytes | None
    """What it has shown over DTLS, in DER."""
    host: Hashable
    """What limits for one address count by: see core.connects.address_of."""

    @property
    def secure(self) -> bool:
        """Whether it speaks over DTLS."""


@dataclass(slots=True, kw_only=True)
class Response:
    """An answer, or a notification. `content_format` None: the payload is empty, or a diagnostic text (5.5.2).

    Nobody changes one that was given: some are given again and again.
    """

    code: int
    payload: bytes = b""
    content_format: int | None = None
    max_age: int | None = None
    etag: bytes | None = None
    """What tells this representation from others (1 to 8 bytes): a request that names it is answered by 2.03 Valid
    alone (RFC 7252 5.10.6)."""
    authenticated: bool = False
    """Whether the request has shown whose it is. Until then its answer is kept below three times its size, for the
    address may be a victim's: a body comes in small blocks, a diagnostic text is cut (RFC 7252 11.3)."""


class Settled(Enum):
    """What became of a notification."""

    ACKNOWLEDGED = auto()
    """The peer has it; a non-confirmable one: it was sent, and nothing will be said of it."""
    UNACKNOWLEDGED = auto()
    """It was sent as often as it may be, and nothing came back (RFC 7252 4.2). The observation has ended."""
    UNFETCHED = auto()
    """Its other blocks were not fetched in time, or had to make room. The observation goes on."""
    REJECTED = auto()
    """The peer answered with a Reset: it does not know the observation, which has ended."""
    DROPPED = auto()
    """The observation was ended from here, the peer is gone, or it was withdrawn before anything was known."""


class Observation(Protocol):
    """One entry in the list of observers (RFC 7641 4.1). It is told nothing while a notification is on its way."""

    accept: int | None
    """The content format that was asked for."""
    gone: Callable[[str], None]
    """Is called once when it ends from the other side, with half a sentence on why: `the device reset it`."""
    ready: Callable[[], None]
    """Is called when a further notification can be sent."""

    @property
    def peer(self) -> Peer:
        """Where it is; see `reach`."""

    @property
    def busy(self) -> bool:
        """Whether the registration is to be answered first, a notification is on its way, or a large one is fetched."""

    def notify(self, response: Response, settled: Callable[[Settled], None]) -> bool:
        """Send it, in as many blocks as it takes; `settled` is called once, perhaps at once. False: not now (busy)."""

    def withdraw(self, became: Settled = Settled.DROPPED) -> None:
        """Stop sending what is on its way: that became of it. The observation goes on."""

    def end(self, response: Response | None = None) -> None:
        """Take it off the list, and send a last answer, which bears no Observe option. `gone` is not called."""

    def reach(self, peer: Peer, *, soon: bool) -> None:
        """The device was heard there last, and may have slept, or moved: what has to be sent again is tried there too.

        `soon`: it does not listen for long, so what is sent next goes there as well. If the peer acknowledges it there,
        the observation has moved.
        """


@dataclass(slots=True, kw_only=True)
class Request:
    """A request, whole: its blocks are put together. `observe` is 0, 1 or None."""

    peer: Peer
    code: int
    path: tuple[str, ...]
    query: tuple[str, ...]
    payload: bytes
    content_format: int | None
    accept: int | None
    observe: int | None
    register: Callable[[], Observation | None]
    """Make the sender an observer, to be called when `observe` is 0 and the answer is a success: one with the same
    peer, token and path is the observation that there was. It is busy until the request is answered, for that comes
    first. None: there are too many, or the sender is gone; then the answer bears no Observe option."""
    deregister: Callable[[], None]
    """End the observation with this request's peer and token, if there is one; its `gone` is called."""


Answer: TypeAlias = "Response | Deferred[Response]"
Handler: TypeAlias = "Callable[[Request], Answer]"
"""Answers a request; a BrokerError or a Refused that it raises, or fails with, is answered by `errors.py`."""


class Refused(Exception):
    """A request that cannot be served: a response code and a diagnostic text (RFC 7252 5.5.2), for devices' makers."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


Admit: TypeAlias = "Callable[[Request], Refused | bool | Deferred[Refused | bool]]"
"""Asked at the first block of a large body, whose `payload` is that block, whether the rest shall come; False: it is a
stranger's, and makes room for those of all others."""
