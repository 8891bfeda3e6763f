"""What CoAP counts for /metrics: plain numbers, added to where it happens."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class CoapCounters:
    """Messages since the start, over UDP and DTLS alike."""

    limited: int = 0
    """Dropped unread, for too many came from there."""
    malformed: int = 0
    repeated: int = 0
    """Requests that had come before."""
    sent_again: int = 0
    given_up: int = 0
    """Confirmable messages that were sent as often as they may be, and never acknowledged."""


@dataclass(slots=True)
class DtlsCounters:
    """What became of datagrams and handshakes, on all ports together."""

    handshakes: int = 0
    failed_handshakes: int = 0
    """Given up, refused by either side, or pushed out; those that never showed a cookie are not counted."""
    dropped: int = 0
    """Datagrams that belong to no session, and none that was begun in good order."""
