"""The numbers of notifications, by which an observer tells newer ones from older ones (RFC 7641 4.4)."""

from __future__ import annotations

from rpcbroker.wire.coap.numbers import uint

PER_SECOND = 1 << 14
"""Numbers go at least as fast as the clock, for observers compare them over a restart of the server too. In 256 s that
is 2**22: half of what they may go."""

_MASK = 0xFFFFFF


def following(number: int, seconds: float) -> int:
    """The number of the next notification, at that time of the wall clock: it grows without an end."""
    return max(number + 1, int(seconds * PER_SECOND))


def value_of(number: int) -> bytes:
    """The value of an Observe option: numbers have 24 bits there, and wrap."""
    return uint(number & _MASK)
