"""A client of a front door that has upgraded to WebSocket."""

from __future__ import annotations

from door import Caller, House
from frames import Frame, frames
from hostile import Answer, answers
from twisted.internet.address import IPv4Address


class Upgraded(Caller):
    """It speaks frames. `upgrade` is what its handshake was answered with."""

    def __init__(self, door: House, handshake: bytes) -> None:
        super().__init__(door, IPv4Address("TCP", "192.0.2.1", 50_000))
        self.say(handshake)
        self.upgrade: Answer
        (self.upgrade,) = answers(self.wire.value())
        self.wire.clear()
        assert self.upgrade.status == 101, self.upgrade

    def say(self, data: bytes) -> None:
        self.wire.protocol.dataReceived(data)

    def hear(self) -> list[Frame]:
        said = frames(self.wire.value())
        self.wire.clear()
        return said

    def told(self, data: bytes) -> list[Frame]:
        """What is answered to this."""
        self.say(data)
        return self.hear()
