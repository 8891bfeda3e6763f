"""The device API of a broker, as far as a test says, in memory."""

from __future__ import annotations

from typing import Any

from treq.testing import RequestTraversalAgent
from twisted.internet import error
from twisted.internet.defer import Deferred, fail, succeed
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request


class FakeSite(Resource):
    """Answers GET when the test says so, and POST at once. `hung_up` are the requests whose devices left."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Request] = []
        self.posted: list[tuple[str, bytes]] = []
        self.hung_up: list[Request] = []
        self.status = 200
        """What a POST is answered with; 0: nothing, for ever."""

    def render_GET(self, request: Request) -> int:
        self.asked.append(request)
        request.notifyFinish().addErrback(lambda _: self.hung_up.append(request))
        return NOT_DONE_YET

    def render_POST(self, request: Request) -> Any:
        self.posted.append((request.uri.decode(), request.content.read()))
        if not self.status:
            request.notifyFinish().addErrback(lambda _: self.hung_up.append(request))
            return NOT_DONE_YET
        request.setResponseCode(self.status)
        return b""


class FakeAgent:
    """Reaches a FakeSite, or nobody."""

    def __init__(self) -> None:
        self.site = FakeSite()
        self.refusing = False
        self._agent = RequestTraversalAgent(self.site)
        self.closed = 0

    def request(self, *arguments: Any) -> Deferred[Any]:
        if self.refusing:
            return fail(error.ConnectionRefusedError())
        asked: Deferred[Any] = self._agent.request(*arguments)
        return asked

    def flush(self) -> None:
        for _ in range(3):  # an answer may lead to a further request
            self._agent.flush()

    def close(self) -> Deferred[None]:
        self.closed += 1
        return succeed(None)

    @property
    def polls(self) -> list[str]:
        """The URIs that were asked for."""
        return [request.uri.decode() for request in self.site.asked]

    def answer(self, status: int, body: bytes = b"") -> None:
        """End the newest GET."""
        request = self.site.asked[-1]
        request.setResponseCode(status)
        request.write(body)
        request.finish()
        self.flush()

    def stream(self, piece: bytes, content_type: str = "text/event-stream") -> None:
        """Go on with the newest GET."""
        request = self.site.asked[-1]
        if not request.startedWriting:
            request.setHeader("content-type", content_type)
        request.write(piece)
        self.flush()
