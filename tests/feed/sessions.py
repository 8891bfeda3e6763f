"""Sessions without a router and without a wire: what they are sent is decoded and kept, as much as they take."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fakes import ADMIN

from rpcbroker.core.model import Principal
from rpcbroker.feed.codec import JSON
from rpcbroker.feed.ports import Serializer


@dataclass(eq=False)
class FakeConnection:
    """Takes `room` more messages that may wait; None is any number."""

    serializer: Serializer = JSON
    peer: str = "127.0.0.1"
    room: int | None = None
    most: int = 1 << 24
    waiting: int = 0
    sent: list[Any] = field(default_factory=list)

    def send(self, message: bytes) -> None:
        self.sent.append(self.serializer.decode(message))

    def send_later(self, message: bytes) -> bool:
        if self.room is not None:
            if not self.room:
                return False
            self.room -= 1
        self.send(message)
        return True

    def close(self, code: int, reason: str) -> None:
        raise AssertionError("nobody closes it")


@dataclass(eq=False)
class FakeSession:
    """As feed.ports.Joined."""

    principal: Principal = ADMIN
    payloads: bool = False
    id: int = 1
    connection: FakeConnection = field(default_factory=FakeConnection)
    dropped: int = 0

    def send(self, message: list[Any]) -> None:
        self.connection.send(self.connection.serializer.encode(message))

    def send_later(self, message: bytes) -> bool:
        taken = self.connection.send_later(message)
        self.dropped += not taken
        return taken

    def events(self, subscription: int = 1) -> list[dict[str, Any]]:
        """The keyword arguments of the EVENTs of one subscription."""
        return [message[5] for message in self.connection.sent if message[:2] == [36, subscription]]

    def topics(self, subscription: int = 1) -> list[str]:
        """What the details of these say."""
        return [message[3]["topic"] for message in self.connection.sent if message[:2] == [36, subscription]]
