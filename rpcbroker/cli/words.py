"""Numbers, and what they count, as people read them."""

from __future__ import annotations

_UNITS = (("d", "h", 86_400), ("h", "min", 3_600), ("min", "s", 60))
"""Two units that are told together, and the seconds of the larger one."""
_PARTS = {"h": 24, "min": 60, "s": 60}
"""How many of them make the next larger one."""


def size(count: int) -> str:
    """`17 B`, `4.0 KiB`, `1.2 GiB`."""
    if count < 1 << 10:
        return f"{count} B"
    unit, shift = next((unit, shift) for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)) if count >= 1 << shift)
    return f"{count / (1 << shift):.1f} {unit}"


def counted(count: int, noun: str) -> str:
    """`1 device`, `2,000 devices`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def sentence(text: str) -> str:
    """With a full stop, unless there is an end already."""
    return text if text.endswith((".", "!", "?")) else f"{text}."


def lasting(milliseconds: int) -> str:
    """`less than 1 ms`, `31 ms`, `4.25 s`, `2 min 3 s`, `3 h 4 min`, `2 d 3 h`."""
    if milliseconds < 1:
        return "less than 1 ms"
    if milliseconds < 1_000:
        return f"{milliseconds} ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.2f}".rstrip("0").rstrip(".") + " s"
    seconds = milliseconds // 1000
    large, small, length = next(unit for unit in _UNITS if seconds >= unit[2])
    count, rest = divmod(seconds, length)
    more = rest * _PARTS[small] // length
    return f"{count} {large} {more} {small}" if more else f"{count} {large}"
