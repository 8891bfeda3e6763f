"""The numbers by which an observer tells newer notifications from older ones (RFC 7641 3.4, 4.4)."""

from __future__ import annotations

_MASK = 0xFFFFFF


def following(number: int) -> int:
    """The number of the next notification: 24 bits, which wrap."""
    return number + 1 & _MASK


def is_fresher(number: int, seconds: float, newest: int, newest_seconds: float) -> bool:
    """Whether a notification that came at `seconds` is newer than the newest so far (RFC 7641 3.4)."""
    return 0 < (number - newest & _MASK) < 1 << 23 or seconds > newest_seconds + 128
