"""An answer that is made of server-sent events."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.web.server import Request
from zope.interface import implementer

from rpcbroker.core.deadlines import Deadline, Deadlines
from rpcbroker.wire.events import COMMENT, Event, encode

KEEP_ALIVE = 15.0
"""Seconds between comments, which keep proxies from taking a silent connection for a dead one."""
MAX_WAITING = 100
"""Events that wait for a caller who reads slowly."""

Events = AsyncGenerator[Event | bytes, None]
"""Events, or any number of them as they go over the wire."""


class Backlog:
    """Events between who makes them and the one who reads them: when `most` wait, the oldest is lost for a new one."""

    def __init__(self, most: int = MAX_WAITING) -> None:
        self._events: deque[Event] = deque(maxlen=most)
        self._ended = False
        self._reader: Deferred[None] | None = None

    def put(self, event: Event) -> None:
        self._events.append(event)
        self._wake()

    def end(self) -> None:
        """There will be no more."""
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.callback(None)

    def __aiter__(self) -> Backlog:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self._ended:
                raise StopAsyncIteration
            reader = self._reader = Deferred()
            try:
                await reader
            except CancelledError:
                self._reader = None
                raise
        return self._events.popleft()


@implementer(IPushProducer)
class EventStream:
    """The answer to one request, as a stream of events: one is taken when those before it are on their way."""

    def __init__(self, request: Request, deadlines: Deadlines, patience: float | None = None) -> None:
        """`patience`: seconds that the caller may read nothing; then the connection is aborted."""
        self._request = request
        self._deadlines = deadlines
        self._patience = patience
        self._resumed: Deferred[None] | None = None
        """Fires when the caller has read what was written; None if nothing has to be waited for."""
        self._keep_alive: Deadline | None = None
        self._losing_patience: Deadline | None = None

    async def send(self, events: Events) -> None:
        """Write all of `events`. Raises what they raise.

        When the caller leaves, CancelledError is thrown into them wherever they are.
        """
        self._request.registerProducer(self, True)
        self._request.write(b"")  # the head goes out at once
        self._wait()
        try:
            async with aclosing(events):
                async for event in events:
                    self._request.write(event if isinstance(event, bytes) else encode(event))
                    await self._drained(events)
        finally:
            for deadline in (self._keep_alive, self._losing_patience):
                if deadline is not None:
                    deadline.cancel()
            if self._request.channel is not None:  # it is there while the caller is
                self._request.unregisterProducer()

    async def _drained(self, events: Events) -> None:
        if self._resumed is None:
            return
        try:
            await self._resumed
        except CancelledError as left:
            self._resumed = None
            await events.athrow(left)

    def _wait(self) -> None:
        self._keep_alive = self._deadlines.after(KEEP_ALIVE, self._comment, None)

    def _comment(self, _: None) -> None:
        if self._resumed is None:
            self._request.write(COMMENT)
        self._wait()

    # -- what the connection says

    def pauseProducing(self) -> None:
        if self._resumed is None:
            self._resumed = Deferred()
            if self._patience is not None:
                self._losing_patience = self._deadlines.after(self._patience, self._abort, None)

    def resumeProducing(self) -> None:
        if self._losing_patience is not None:
            self._losing_patience.cancel()
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.callback(None)

    def _abort(self, _: None) -> None:
        self._request.channel.transport.abortConnection()

    def stopProducing(self) -> None:
        """The connection is gone, which cancels what sends."""
