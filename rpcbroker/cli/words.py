"""Numbers, and what they count, as people read them."""

from __future__ import annotations

from rpcbroker.store.backup import Contents


def size(count: int) -> str:
    """`17 B`, `4.0 KiB`, `1.2 GiB`."""
    if count < 1 << 10:
        return f"{count} B"
    unit, shift = next((unit, shift) for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)) if count >= 1 << shift)
    return f"{count / (1 << shift):.1f} {unit}"


def counted(count: int, noun: str) -> str:
    """`1 device`, `2,000 devices`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def described(contents: Contents) -> str:
    """`1.2 MiB, 3 devices, 1 user, schema version 0001`."""
    devices, users = counted(contents.devices, "device"), counted(contents.users, "user")
    return f"{size(contents.size)}, {devices}, {users}, schema version {contents.schema_version}"
