"""A device's side of HTTP where calls come as server-sent events."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.iweb import IResponse

from rpcbroker.core.deadlines import Clock
from rpcbroker.simulator.carrier import LinkLost, Refused
from rpcbroker.simulator.device import SimulatedDevice
from rpcbroker.simulator.http import ANSWER, DeviceSite, HttpConnection, Received, judge
from rpcbroker.wire.events import EVENT_STREAM, EventReader

SILENCE = 60.0
"""Seconds without an event, or one of the comments by which a stream shows that it is there."""


class Bookmark:
    """Where a device's stream broke off, to be gone on with by the next connection. A crash forgets it."""

    def __init__(self) -> None:
        self.last_id = ""


class Streaming(HttpConnection):
    """Calls by one answer that does not end (WHATWG HTML 9.2)."""

    def __init__(self, site: DeviceSite, device: SimulatedDevice, bookmark: Bookmark, *, clock: Clock) -> None:
        super().__init__(site, device, clock=clock)
        self._bookmark = bookmark
        self._reader = EventReader()
        self._silence: Any = None

    def vanish(self) -> None:
        """Hang up, and forget what came."""
        self._bookmark.last_id = ""
        super().vanish()

    async def listen(self) -> None:
        """Take events until the stream ends."""
        headers = {"Accept": EVENT_STREAM}
        if self._bookmark.last_id:
            headers["Last-Event-ID"] = self._bookmark.last_id
        response: IResponse = await self.wait_for(
            Deferred.fromCoroutine(self._site.open("GET", "/rpc", headers=headers)), ANSWER
        )
        received = Received(self._piece)
        response.deliverBody(received)
        try:
            judge(response.code)
            kind = response.headers.getRawHeaders("content-type", [""])[0]
            if kind.partition(";")[0].strip().lower() != EVENT_STREAM:
                raise Refused("The broker answers polls only: it sends no events.")
        except (Refused, LinkLost):
            received.done.addErrback(lambda _: None)  # what it says, and how it ends, is no matter
            received.done.cancel()
            raise
        self._silence = self._clock.callLater(
            SILENCE, lambda: received.give_up(LinkLost("The broker has fallen silent."))
        )
        self.up()
        try:
            await self.wait_for(received.done)
        finally:
            if self._silence.active():
                self._silence.cancel()

    def _piece(self, piece: bytes) -> None:
        if self._silence is not None and self._silence.active():
            self._silence.reset(SILENCE)
        for event in self._reader.feed(piece):
            if self.live:
                self._bookmark.last_id = self._reader.last_id
                self.told(event.data)
