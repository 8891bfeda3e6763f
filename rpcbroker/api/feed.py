"""The feed over HTTP: server-sent events, and how things are when they begin; the handlers of `/api/feed`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Any
from uuid import UUID

from twisted.internet.defer import CancelledError, Deferred

from rpcbroker.api import checks
from rpcbroker.api.routes import Answer
from rpcbroker.core import access, jsontext
from rpcbroker.core.broker import Broker
from rpcbroker.core.deadlines import Deadline, Deadlines
from rpcbroker.core.errors import BrokerError, Unavailable
from rpcbroker.core.feed import Feed, FeedEvent, Watch
from rpcbroker.core.model import Principal
from rpcbroker.core.snapshot import Snapshot
from rpcbroker.schema.feed import FeedQuery, SnapshotQuery
from rpcbroker.wire.events import EVENT_STREAM, Event, encode, encode_number

LOOK_INTERVAL = 1.0
"""Seconds until it is looked again whether who watches still may."""
GAP = {
    "message": "Events were lost: those behind your Last-Event-ID are not kept any more",
    "hint": "GET /api/feed/snapshot tells how things are now; go on from here.",
}


class FeedStreams:
    """The handlers, and all callers that watch."""

    def __init__(self, *, feed: Feed, broker: Broker, now_ms: Callable[[], int]) -> None:
        self._feed = feed
        self._broker = broker
        self._snapshot = Snapshot(broker, feed, now_ms=now_ms)
        self._watchers: set[_Watcher] = set()

    async def watch(
        self, principal: Principal, *, query: FeedQuery, who: Callable[[], Principal], last_event_id: str
    ) -> Answer:
        """What happens to calls, devices and bulks, as it happens: server-sent events.

        Their names are call, device, bulk and rule. The id of an event is its seq, which increases in the tenant; its
        data is a JSON object that has also `topic`, and `n`, which counts the events of this stream: where it jumps,
        some were dropped because they were not read fast enough. With Last-Event-ID the stream goes on behind that
        event; if not all of what was since is kept, the first event is `gap`. When the login ends, the last one is
        `error`.
        """
        method = checks.plain("method", query.method)
        if query.device_id is not None:
            await self._broker.session_for(principal, query.device_id)
        watcher = _Watcher(
            self._feed,
            self._broker.deadlines,
            Filter(method, query.state),
            principal,
            who=who,
            device_id=query.device_id,
            payloads=query.payloads,
        )
        watcher.begin(last_event_id or query.last_event_id or "")
        self._watchers.add(watcher)
        watcher.left = self._watchers.discard
        return Answer(watcher, content_type=EVENT_STREAM, patience=self._feed.settings.slow_timeout)

    async def snapshot(self, principal: Principal, *, query: SnapshotQuery) -> dict[str, Any]:
        """The present state of devices and calls, for a watcher to begin with.

        Begin to watch first, then ask for this, then leave out what has a seq up to that of the snapshot.
        """
        if query.device_id is None:
            return self._snapshot.of_all(principal)
        return self._snapshot.of_device(principal, await self._broker.session_for(principal, query.device_id))

    def stop(self) -> None:
        """The broker ends, and each stream with it."""
        for watcher in tuple(self._watchers):
            watcher.fail(Unavailable("The broker is stopping", hint="Come back with Last-Event-ID."))


class Filter:
    """Which events a query asks for; None is any."""

    def __init__(self, method: str | None, state: str | None) -> None:
        self._method = method
        self._state = state

    def __call__(self, event: FeedEvent) -> bool:
        if self._state is None and self._method is None:
            return True
        if event.method is None:  # of no call
            return False
        return (self._state is None or event.fields.get("state") == self._state) and (
            self._method is None or access.fits(self._method, event.method)
        )


class _Watcher(AsyncGenerator[bytes, None]):
    """What one caller is told. What happens in `feed.gather` comes in one piece, and no more waits than may.

    Not a generator function: it watches from when it is made, and ends also if it is never begun.
    """

    def __init__(
        self,
        feed: Feed,
        deadlines: Deadlines,
        wants: Filter,
        principal: Principal,
        *,
        who: Callable[[], Principal],
        device_id: UUID | None,
        payloads: bool,
    ) -> None:
        """Raises TooManyRequests."""
        self.left: Callable[[_Watcher], object] = lambda watcher: None
        self._feed = feed
        self._deadlines = deadlines
        self._wants = wants
        self._who = who
        self._payloads = payloads
        self._n = 0
        self._waiting: list[bytes] = []
        self._size = 0
        self._error: BrokerError | None = None
        self._reader: Deferred[None] | None = None
        self._gathering: Deadline | None = None
        self._watch = Watch(principal, self._put, device_id=device_id, wants=wants)
        self._end_watch = feed.watch(self._watch)
        self._looking = deadlines.after(LOOK_INTERVAL, self._look, None)

    def begin(self, last_id: str) -> None:
        """Go on behind the event with this id, or here if there is none; to be called when nothing was told yet."""
        watch, here = self._watch, self._feed.seq(self._watch.principal.tenant_id)
        self._waiting = [encode_number(here)]
        if not last_id:
            return
        known = last_id.isascii() and last_id.isdecimal() and len(last_id) < 20
        missed = self._feed.since(watch.principal, int(last_id)) if known else None
        if missed is None:
            self._waiting = [encode(Event("gap", jsontext.encode({"seq": here} | GAP), here))]
            return
        self._waiting = [encode_number(int(last_id))]
        for event in missed:
            if self._is_of_device(event) and self._wants(event):
                self._add(event)

    def fail(self, error: BrokerError) -> None:
        """Nothing more comes, and this is why."""
        self._end_watch()
        self._looking.cancel()
        self._error = self._error or error
        self._wake(None)

    # -- what happens

    def _is_of_device(self, event: FeedEvent) -> bool:
        wanted = self._watch.device_id
        return wanted is None or event.fields.get("deviceId") == str(wanted)

    def _put(self, event: FeedEvent) -> None:
        self._add(event)
        if self._gathering is None:
            self._gathering = self._deadlines.after(self._feed.settings.gather, self._wake, None)

    def _add(self, event: FeedEvent) -> None:
        self._n += 1
        if self._size > self._feed.settings.max_waiting:
            return
        payloads = self._payloads and event.payloads_may_be_seen(self._watch.principal)
        members = event.encoded("sse", payloads, jsontext.encode)
        family = event.topic.split(".", 2)[1]
        data = b'{"n":%d,"topic":"%b",%b' % (self._n, event.topic.encode(), members[1:])
        text = encode(Event(family, data, event.seq))
        self._waiting.append(text)
        self._size += len(text)

    def _look(self, _: None) -> None:
        """Whoever may watch no more gets nothing more, not even what waits."""
        try:
            self._watch.principal = self._who()
        except BrokerError as error:
            self._waiting = []
            self.fail(error)
        else:
            self._looking = self._deadlines.after(LOOK_INTERVAL, self._look, None)

    # -- who reads

    def _wake(self, _: None) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.callback(None)

    async def asend(self, _: None) -> bytes:
        """What happened since, when it is time."""
        while self._gathering is not None or not self._waiting:
            if self._error is not None and not self._waiting:
                raise self._error
            reader = self._reader = Deferred()
            try:
                await reader
            except CancelledError:
                self._reader = None
                raise
        waiting, self._waiting, self._size = self._waiting, [], 0
        return b"".join(waiting)

    async def athrow(  # type: ignore[override]  # as it is called here
        self, typ: Any, val: BaseException | None = None, tb: TracebackType | None = None
    ) -> bytes:
        """The caller is gone, or the stream at its end."""
        self._end_watch()
        self._looking.cancel()
        if self._gathering is not None:
            self._gathering.cancel()
        self.left(self)
        raise typ if val is None else val
