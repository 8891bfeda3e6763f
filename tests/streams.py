"""Somebody who asks the REST API in memory for events, and reads them as they come."""

from __future__ import annotations

import json
from typing import Any

from rest import BASE, Rest
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from rpcbroker.wire.events import Event, EventReader


class Stream(Protocol):
    """The answer to one request."""

    transport: Any

    def __init__(
        self, rest: Rest, method: str, path: str, body: Any = None, *, token: str | None = "", headers: Any = None
    ) -> None:
        """`token` and `body` are as in Rest.ask."""
        self.rest = rest
        self.read = b""
        self.over = False
        self.response: Any = None
        self.reader = EventReader()
        sent = dict(headers or {})
        if token is not None:
            token = token or rest.token
            sent["X-Authorization"] = token if token.startswith("ApiKey ") else f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        rest.treq.request(method, BASE + path, data=data, headers=sent).addCallback(self._begin)
        rest.treq.flush()

    def _begin(self, response: Any) -> None:
        self.response = response
        response.deliverBody(self)

    def dataReceived(self, data: bytes) -> None:
        self.read += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.over = True

    def leave(self) -> None:
        self.transport.loseConnection()
        self.rest.treq.flush()

    def numbered(self) -> list[Event]:
        """Events that came since the last time."""
        self.rest.treq.flush()
        read, self.read = self.read, b""
        return self.reader.feed(read)

    def events(self) -> list[tuple[str, Any]]:
        """Their names and their data."""
        return [(event.name, json.loads(event.data)) for event in self.numbered()]

    def header(self, name: str) -> Any:
        return self.response.headers.getRawHeaders(name)
