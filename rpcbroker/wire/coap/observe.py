"""The numbers of notifications, by which an observer tells newer ones from older ones (RFC 7641 4.4)."""

from __future__ import annotations

_MASK = 0xFFFFFF


def following(number: int) -> int:
    """The number of the next notification: 24 bits, which wrap."""
    return number + 1 & _MASK
