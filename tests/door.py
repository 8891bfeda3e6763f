"""A front door on a clock, with resources that answer at once, later, or at length, and callers on string transports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from typing import Protocol as Protocol_

from hostile import Answer, answers
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IAddress, IHalfCloseableDescriptor
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from rpcbroker.api.errors import render
from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.direct import Outgoing
from rpcbroker.core.settings import HttpSettings
from rpcbroker.web.channel import Channel
from rpcbroker.web.front_door import FrontDoor
from rpcbroker.web.websocket import Socket

GET = b"GET /now HTTP/1.1\r\nHost: x\r\n\r\n"
LATER = b"POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


class Root(Resource):
    """`/now` is answered with its body, `/bug` raises, `/later` waits for `answer_all`."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Request] = []

    def render(self, request: Request) -> Any:
        if request.path == b"/bug":
            raise RuntimeError("a bug")
        if request.path == b"/later":
            self.waiting.append(request)
            return NOT_DONE_YET
        request.setHeader("Content-Type", "application/json")
        return request.content.read() or b"{}"

    def answer_all(self) -> None:
        waiting, self.waiting = self.waiting, []
        for request in waiting:
            request.setHeader("Content-Length", "2")
            request.write(b"{}")
            request.finish()


@implementer(IHalfCloseableDescriptor)
class Wire(StringTransport):
    """A transport that remembers how it was closed."""

    aborted = False
    half_closed = False
    protocol: Protocol
    """Who is told what comes in."""

    def __init__(self, peer: IAddress) -> None:
        super().__init__(IPv4Address("TCP", "127.0.0.1", 8080), peer, lenient=True)

    def abortConnection(self) -> None:
        self.aborted = True
        self.loseConnection()

    def connectionLost(self, reason: Failure) -> None:
        self.disconnecting = True
        self.protocol.connectionLost(reason)

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def unregisterProducer(self) -> None:
        self.producer = None

    @property
    def closed(self) -> bool:
        return self.disconnecting or self.half_closed


class Door:
    """The front door."""

    def __init__(
        self,
        *,
        sockets: Callable[[Door], Mapping[str, Socket]] | None = None,
        larger: Callable[[bytes], int] = lambda path: 0,
        **settings: Any,
    ) -> None:
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock)
        self.root = Root()
        self.site = FrontDoor(
            self.root,
            settings=HttpSettings(**settings),
            deadlines=self.deadlines,
            render=lambda error: render(error, now_ms=0),
            reactor=self.clock,
            outgoing=Outgoing(self.clock.seconds),
            sockets=sockets(self) if sockets else None,
            larger=larger,
        )

    def nothing_is_left(self) -> bool:
        """No body is counted, no deadline runs, and nothing else is to be done later."""
        calls = [call for call in self.clock.getDelayedCalls() if call.func != self.deadlines._sweep]
        return not (self.site.arriving or calls or any(self.deadlines._slots.values()))

    def set(self, **settings: Any) -> None:
        self.site.settings = replace(self.site.settings, **settings)

    def advance(self, seconds: float) -> None:
        """A little more than that: deadlines come up to 1/64 s late."""
        self.clock.advance(seconds + 0.02)

    def turn(self, times: int = 1) -> None:
        """As a reactor does it, and the clock does not: what is put off meanwhile is for the next turn."""
        for _ in range(times):
            for call in self.clock.getDelayedCalls():
                if call.getTime() <= self.clock.seconds():
                    action, arguments = call.func, call.args
                    call.cancel()
                    action(*arguments)

    def caller(self, peer: IAddress | None = None) -> Caller:
        return Caller(self, peer or IPv4Address("TCP", "192.0.2.1", 50_000))


class House(Protocol_):
    """Whatever has a front door."""

    site: FrontDoor


class Caller:
    """One connection."""

    def __init__(self, door: House, peer: IAddress) -> None:
        self.wire = Wire(peer)
        self.channel: Channel = door.site.buildProtocol(peer)
        self.wire.protocol = self.channel
        self.channel.makeConnection(self.wire)

    def send(self, data: bytes) -> list[int]:
        """The statuses of what is answered at once."""
        self.channel.dataReceived(data)
        return self.statuses()

    def answers(self) -> list[Answer]:
        found = answers(self.wire.value())
        self.wire.clear()
        return found

    def statuses(self) -> list[int]:
        return [answer.status for answer in self.answers()]

    def half_close(self) -> None:
        """It sends no more."""
        self.channel.readConnectionLost()

    def lose(self) -> None:
        self.wire.protocol.connectionLost(Failure(ConnectionLost()))
