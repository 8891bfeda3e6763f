"""Three facts about a device that must not be taken for one another.

Connected: it has a connection. Callable: something can take a call now. Seen: it sent something.
Each has its time (epoch ms) and its cause.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from rpcbroker.core.model import LastPresence

PRESENCE_KEYS = frozenset({"active", "lastActivityTime", "lastConnectTime", "lastDisconnectTime"})
"""Attributes of the server's scope that nobody can write: the broker knows them itself."""


MOST_CHANGES = 200
"""How many changes of one device's presence are kept; the oldest go first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceChange:
    """How it was from `time` (epoch ms) on, and why."""

    device_id: UUID
    time: int
    connected: bool
    callable: bool
    cause: str | None


@dataclass(frozen=True, slots=True)
class Fact:
    """Whether something holds, since when, and why. Time and cause are None if it never changed."""

    value: bool
    time: int | None = None
    cause: str | None = None


class Presence:
    """What is known of one device's presence."""

    __slots__ = ("callable", "connected", "connected_cause", "connected_time", "seen_cause", "seen_time")

    def __init__(self, last: LastPresence | None) -> None:
        """`last` is what the store kept; whatever was connected then is not connected now."""
        self.callable = Fact(False)
        self.connected = Fact(False)
        self.connected_time: int | None = None
        self.connected_cause: str | None = None
        self.seen_time: int | None = None
        """When the device sent something, and over what: set by whoever hears it, with each message."""
        self.seen_cause: str | None = None
        if last is not None:
            self.connected_time, self.connected_cause = last.connected_time, last.connected_cause
            self.seen_time, self.seen_cause = last.seen_time, last.seen_cause
            if last.connected_time is not None:
                down = last.disconnected_time, last.disconnected_cause
                if down[0] is None or down[0] < last.connected_time:
                    down = last.seen_time or last.connected_time, "the server restarted"
                self.connected = Fact(False, *down)

    @property
    def ever_connected(self) -> bool:
        return self.connected_time is not None

    def connect(self, now: int, cause: str) -> None:
        """A connection was made."""
        self.connected_time, self.connected_cause = now, cause
        self.connected = Fact(True, now, cause)

    def stay_connected(self, cause: str) -> None:
        """A connection is gone, and this is why the device is connected all the same."""
        self.connected_cause, self.connected = cause, replace(self.connected, cause=cause)

    def disconnect(self, now: int, cause: str) -> None:
        """The last connection is gone."""
        self.connected = Fact(False, now, cause)

    def become_callable(self, now: int, cause: str) -> None:
        self.callable = Fact(True, now, cause)

    def stay_callable(self, cause: str) -> None:
        """As `stay_connected`."""
        self.callable = replace(self.callable, cause=cause)

    def cease_callable(self, now: int, cause: str) -> None:
        self.callable = Fact(False, now, cause)

    def attributes(self) -> dict[str, tuple[int, bool | int]]:
        """What is known, as attributes: one of PRESENCE_KEYS -> when that changed, and the value."""
        connected = self.connected
        known: dict[str, tuple[int | None, Any]] = {
            "active": (connected.time or 0, connected.value),
            "lastActivityTime": (self.seen_time, self.seen_time),
            "lastConnectTime": (self.connected_time, self.connected_time),
            "lastDisconnectTime": (None, None) if connected.value else (connected.time, connected.time),
        }
        return {key: (time, value) for key, (time, value) in known.items() if time is not None}

    def record(self, device_id: UUID) -> LastPresence:
        """What the store should keep."""
        down = None if self.connected.value else self.connected
        return LastPresence(
            device_id=device_id,
            connected_time=self.connected_time,
            connected_cause=self.connected_cause,
            disconnected_time=down.time if down else None,
            disconnected_cause=down.cause if down else None,
            seen_time=self.seen_time,
            seen_cause=self.seen_cause,
        )
