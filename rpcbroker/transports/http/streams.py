"""Event streams: a device that keeps a connection open is given each call as a server-sent event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.web.http import datetimeToString
from zope.interface import implementer

from rpcbroker.core import direct, jsontext
from rpcbroker.core.calls import Call, Step
from rpcbroker.core.deadlines import Deadline
from rpcbroker.core.ports import CloseReason
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.transports.http.answers import begin, lighten
from rpcbroker.transports.http.event_log import EventLog
from rpcbroker.transports.http.polls import PollSurroundings
from rpcbroker.wire.events import COMMENT

KEEP_ALIVE = 15.0
"""Seconds between comments, by which a proxy, and this end, sees that the connection lives."""
UNREAD = 64 << 10
"""Bytes of updates for a device that does not read; beyond it they are dropped."""
SHUT_OUT = frozenset({CloseReason.DEVICE_DELETED, CloseReason.CREDENTIALS_CHANGED})
"""After these there is nothing to go on with."""

_HEAD = (
    b"%b 200 OK\r\n"
    b"Date: %b\r\n"
    b"Content-Type: text/event-stream\r\n"
    b"Cache-Control: no-store\r\n"
    b"X-Accel-Buffering: no\r\n"  # nginx would keep events back until it has enough of them
    b"Connection: close\r\n"  # which ends it, without chunks: RFC 9112 6.3
    b"\r\n"
)


class Streams:
    """The event streams of all devices, and what they have sent lately."""

    def __init__(
        self, around: PollSurroundings, *, now_ms: Callable[[], int], write_timeout: Callable[[], float]
    ) -> None:
        """`write_timeout`: seconds that a device may leave bytes unacknowledged."""
        self.around = around
        self.now_ms = now_ms
        self.write_timeout = write_timeout
        self._logs: dict[DeviceSession, EventLog] = {}
        self._forgetting: dict[DeviceSession, Deadline] = {}
        """Logs of streams that broke, until they are forgotten."""

    def open(self, session: DeviceSession, request: Any, after: int | None) -> None:
        """Answer a request with events; `after` is the number of the last one that the device has heard.

        Raises Unavailable.
        """
        self.around.count()
        EventsLink(session, request, self).start(after)

    def log(self, session: DeviceSession, after: int | None) -> tuple[EventLog, bool]:
        """The log of a new stream, and whether it goes on after that number."""
        log = self._logs.get(session)
        forgetting = self._forgetting.pop(session, None)
        if forgetting is not None:
            forgetting.cancel()
        if log is not None and after is not None and after in log:
            return log, True
        log = self._logs[session] = EventLog(self.now_ms(), log.last if log else 0)
        return log, False

    def broke(self, session: DeviceSession, log: EventLog, reason: CloseReason | None) -> None:
        """A stream has ended. Its log is kept for a while, unless none may come that goes on with it."""
        if self._logs.get(session) is not log:
            return
        if reason in SHUT_OUT:
            del self._logs[session]
            return
        window = self.around.settings().resume_window
        self._forgetting[session] = self.around.deadlines.after(window, self._forget, session)

    def _forget(self, session: DeviceSession) -> None:
        del self._forgetting[session]
        del self._logs[session]


@implementer(IPushProducer)
class EventsLink:
    """One event stream: the Link that calls go over, and the `waiter` and producer of its request."""

    __slots__ = (
        "_around",
        "_keep_alive",
        "_log",
        "_paused",
        "_request",
        "_seen",
        "_session",
        "_starved",
        "_streams",
        "_unread",
    )

    protocol = "HTTP events"
    transient = False

    def __init__(self, session: DeviceSession, request: Any, streams: Streams) -> None:
        self._session = session
        self._request = request
        self._streams = streams
        self._around = streams.around
        self._paused = self._starved = False
        self._unread = 0
        """Bytes of updates since the device does not read."""
        self._seen: frozenset[int] = frozenset()
        """Persistent calls that the device has from the stream before this one."""
        self._keep_alive: Deadline | None = None
        self._log: EventLog

    def start(self, after: int | None) -> None:
        """Send the head, then what the device has missed, then what waits for it."""
        request, session = self._request, self._session
        request.channel.persistent = False
        request.waiter = self
        session.attach(self)  # which ends the stream before this one
        self._log, goes_on = self._streams.log(session, after)
        head = _HEAD % (request.clientproto, datetimeToString())
        begin(request, head if goes_on else head + self._log.beginning())
        request.registerProducer(self, True)
        lighten(request)
        direct.abort_unread(request.channel.transport, self._streams.write_timeout())
        self._wait()
        if goes_on and after is not None:
            self._go_on(after)
        if self._request is not None:
            session.subscribe(self)

    def _go_on(self, after: int) -> None:
        """Two-way persistent calls that it has missed come by themselves, as all that it has not answered do."""
        session, now = self._session, self._streams.now_ms()
        self._seen = frozenset(sent.wire_id for sent in self._log if sent.persistent and sent.number <= after)
        for sent in self._log:
            if sent.number > after and not sent.persistent:
                if sent.wire_id and sent.oneway_until <= now and not session.give_again(sent.wire_id, self):
                    continue
                self._write(sent.data)

    # -- the Link that the session knows

    def deliver(self, call: Call) -> bool | None:
        """Send the call as an event."""
        if call.persistent and call.wire_id in self._seen:
            return None
        if self._paused:
            self._starved = True
            return False
        data = b'{"id":%d,"method":%b,"params":%b}' % (call.wire_id, jsontext.encode(call.method), call.params)
        self._write(self._log.add("rpc", data, call))
        self._session.report(call.wire_id, Step.ACKNOWLEDGED)
        return True

    def cancel(self, call: Call) -> bool:
        return self._inform("cancel", b'{"id":%d,"cancel":true}' % call.wire_id)

    def attributes_changed(self, update: bytes) -> None:
        self._inform("attributes", update)

    def close(self, reason: CloseReason) -> None:
        self._end(reason)

    def why_not_callable(self) -> str:
        return "does not read its events"

    def _inform(self, name: str, data: bytes) -> bool:
        """Something that nobody waits for. False: it is dropped."""
        if self._paused:
            self._unread += len(data)
            if self._unread > UNREAD:
                return False
        self._write(self._log.add(name, data))
        return True

    # -- the connection

    def _write(self, data: bytes) -> None:
        if self._request is not None:
            direct.send(self._request.channel.transport, data)

    def _wait(self) -> None:
        self._keep_alive = self._around.deadlines.after(KEEP_ALIVE, self._comment, None)

    def _comment(self, _: None) -> None:
        if not self._paused:
            self._write(COMMENT)
        self._wait()

    def pauseProducing(self) -> None:
        """The device does not read; the channel ends that after a while."""
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused, self._unread = False, 0
        if self._starved:
            self._starved = False
            self._session.resume(self)

    def stopProducing(self) -> None:
        """The connection is gone; `lost` comes too."""

    def lost(self) -> None:
        """The connection is gone."""
        if self._leave(None):
            self._session.detach(self, "its event stream broke")

    def half_closed(self) -> bool:
        """There is nothing more to ask for on this connection: who closes it has left."""
        return False

    def _end(self, reason: CloseReason) -> None:
        request = self._request
        if self._leave(reason) and request.channel is not None:
            request.waiter = None
            request.unregisterProducer()
            request.finish()

    def _leave(self, reason: CloseReason | None) -> bool:
        if self._request is None:
            return False
        self._request = None
        self._around.open -= 1
        if self._keep_alive is not None:
            self._keep_alive.cancel()
        self._streams.broke(self._session, self._log, reason)
        return True
