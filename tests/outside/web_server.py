"""A server on loopback that says what a test wants, byte by byte, and HttpCalls to it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.rules_settings import RulesSettings
from rpcbroker.outside.web_calls import HttpCalls
from rpcbroker.rules.ports import WebRequest, WebResponse

TENANT, OTHER_TENANT = UUID(int=1), UUID(int=2)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Peer(Protocol):
    """One connection: `answer` is called with each request, head and body; what it returns is sent."""

    factory: Server
    transport: ITCPTransport

    def connectionMade(self) -> None:
        self._data = b""
        self.factory.peers.append(self)

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            length = re.search(rb"content-length: (\d+)", self._data[:end].lower())
            end += 4 + (int(length[1]) if length else 0)
            if len(self._data) < end:
                return
            request, self._data = self._data[:end], self._data[end:]
            self.factory.requests.append(request)
            said = self.factory.answer(self)
            if said is not None:
                self.transport.write(said)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.lost += 1
        told, self.factory.when_lost = self.factory.when_lost, None
        if told is not None:
            told.callback(None)


class Server(Factory):
    protocol = Peer
    noisy = False

    def __init__(self, answer: Callable[[Peer], bytes | None] | bytes = OK) -> None:
        self.answer: Callable[[Peer], bytes | None] = answer if callable(answer) else lambda _: answer
        self.requests: list[bytes] = []
        self.peers: list[Peer] = []
        self.lost = 0
        self.when_lost: Deferred[None] | None = None

    @property
    def connected(self) -> int:
        return len(self.peers) - self.lost

    async def all_lost(self) -> None:
        """Once each connection is."""
        while self.connected:
            self.when_lost = Deferred()
            await self.when_lost


class Web:
    """HttpCalls that may go to loopback, and the servers that are there."""

    def __init__(self, *, names: dict[str, list[str]] | None = None, trust_root: Any = None, **rules: Any) -> None:
        """`names` are all that there are: host -> addresses."""
        self.rules = RulesSettings(**{"web_hosts": ("127.0.0.1",)} | rules)
        self.names = names
        self.looked_up: list[str] = []
        self.deadlines = Deadlines(reactor)
        self.calls = HttpCalls(
            reactor=reactor,
            deadlines=self.deadlines,
            settings=lambda: self.rules,
            trust_root=trust_root,
            look_up=None if names is None else self._look_up,
        )
        self.ports: list[Any] = []

    def _look_up(self, host: str) -> Deferred[list[str]]:
        assert self.names is not None
        self.looked_up.append(host.lower())
        return succeed(self.names.get(host.lower(), []))

    def listen(self, factory: Any) -> str:
        """Where it listens, as `127.0.0.1:port`."""
        self.ports.append(reactor.listenTCP(0, factory, interface="127.0.0.1"))
        return f"127.0.0.1:{self.ports[-1].getHost().port}"

    def call(self, url: str, *, method: str = "GET", tenant: UUID = TENANT, **more: Any) -> Deferred[WebResponse]:
        given: dict[str, Any] = {"headers": {}, "body": None, "timeout": 5.0, "max_size": 1000}
        return self.calls.call(tenant, WebRequest(method=method, url=url, **given | more))

    async def stop(self) -> None:
        await self.calls.stop()
        for port in self.ports:
            await port.stopListening()
            for peer in getattr(port.factory, "peers", ()):
                peer.transport.abortConnection()
            if isinstance(port.factory, Server):
                await port.factory.all_lost()
        self.deadlines.stop()
