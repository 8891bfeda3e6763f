"""Numbers, and what they count, as people read them."""

from __future__ import annotations


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
