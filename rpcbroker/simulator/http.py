"""A device's side of HTTP: what all its requests have in common, and calls by long polls."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectError, ConnectionLost, DNSLookupError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import RequestNotSent, ResponseDone, ResponseFailed, ResponseNeverReceived
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse

from rpcbroker import __version__
from rpcbroker.core.deadlines import Clock
from rpcbroker.outside.http_body import BodyThere
from rpcbroker.simulator.carrier import GOODBYE, Connection, LinkLost, Refused
from rpcbroker.simulator.device import SimulatedDevice
from rpcbroker.simulator.messages import Told, read, text
from rpcbroker.simulator.trust import tls_failed

POLL = 30.0
"""Seconds that a poll waits: less than the minute after which proxies give up."""
FIRST_POLL = 0.001
"""Seconds of the first one, which only finds out whether the broker knows the device."""
ANSWER = 10.0
"""Seconds that the broker may be late with an answer."""
MAX_BODY = 1 << 20
"""Bytes of an answer: more than any broker's default."""
BROKEN = (ConnectError, ConnectionLost, DNSLookupError, RequestNotSent, ResponseFailed, ResponseNeverReceived)


class Received(Protocol):
    """Gives `take` what comes of a body; `done` fires at its end, or fails with LinkLost. Cancelled it hangs up."""

    transport: Any

    def __init__(self, take: Callable[[bytes], object]) -> None:
        self.done: Deferred[None] = Deferred(lambda _done: self.transport.loseConnection())
        self._take = take

    def give_up(self, error: LinkLost) -> None:
        """Hang up, for this reason."""
        if not self.done.called:
            self.done.errback(error)
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        """A piece."""
        self._take(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """No further piece."""
        if self.done.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(None)
        else:
            self.done.errback(LinkLost("The broker closed the connection."))


class DeviceSite:
    """The device API of a broker, as one device. Its errors never bear the token, which is in each path."""

    def __init__(self, agent: IAgent, url: str, token: str) -> None:
        """`url` is the broker's: `http://host:port`."""
        self._agent: Any = agent
        self._base = f"{url.rstrip('/')}/api/v1/{quote(token, safe='')}"

    async def open(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> IResponse:
        """The head of an answer. Raises Refused, LinkLost."""
        given = {name: [value] for name, value in (headers or {}).items()}
        given["User-Agent"] = [f"rpcbroker-simulator/{__version__}"]
        if body is not None:
            given["Content-Type"] = ["application/json"]
        sent = None if body is None else BodyThere(body)
        try:
            return await self._agent.request(method.encode(), f"{self._base}{path}".encode(), Headers(given), sent)
        except BROKEN as error:
            reasons = getattr(error, "reasons", ())
            if reasons and reasons[0].check(CancelledError):
                raise CancelledError from None  # it was we who gave up
            raise _trouble(reasons[0].value if reasons else error) from None

    async def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and body of an answer. Raises Refused, LinkLost."""
        response = await self.open(method, path, body)
        content = bytearray()

        def take(piece: bytes) -> None:
            content.extend(piece)
            if len(content) > MAX_BODY:
                received.give_up(LinkLost("The broker sent more than a device can take."))

        received = Received(take)
        response.deliverBody(received)
        await received.done
        return response.code, bytes(content)


def _trouble(error: Exception) -> Refused | LinkLost:
    """Twisted's errors, without their numbers."""
    if isinstance(error, SSL.Error):
        return tls_failed(error)
    if isinstance(error, (ConnectError, DNSLookupError)):
        return LinkLost(f"The broker cannot be reached: {str(error).partition(':')[0].rstrip('.')}.")
    return LinkLost("The broker closed the connection without an answer.")


def judge(status: int) -> None:
    """Raises Refused or LinkLost for what is no success."""
    if status in (401, 403, 404):
        raise Refused(f"The broker refused the device: status {status}. Its access token is not known there.")
    if status >= 400:
        raise LinkLost(f"The broker is not available now: status {status}.")
    if status >= 300:
        raise LinkLost(f"There is no broker at this URL, only one that is elsewhere: status {status}.")


class HttpConnection:
    """What a device does over HTTP from its first request to its last. How calls come is up to `listen`."""

    _log = Logger()

    def __init__(self, site: DeviceSite, device: SimulatedDevice, *, clock: Clock) -> None:
        self.ready: Deferred[None] = Deferred()
        self.gone: Deferred[None] = Deferred()
        self._site = site
        self._device = device
        self._clock = clock
        self.live = True
        self._posts: set[Deferred[None]] = set()
        self._awaited: Deferred[Any] | None = None
        self._ended = False
        self._trouble: Exception = LinkLost("The broker closed the connection.")
        self._leaving: Any = None

    @abstractmethod
    async def listen(self) -> None:
        """Call `up`, then `told` with what comes, while `live`. Raises Refused, LinkLost."""

    def begin(self) -> None:
        """Do the first request."""
        Deferred.fromCoroutine(self._listen())

    # -- as each connection

    def report(self, values: dict[str, Any]) -> None:
        """Post telemetry."""
        self._post("/telemetry", values)

    def goodbye(self) -> None:
        """Ask for nothing more, and end when the last replies are there."""
        self.live = False
        if self._posts and self._leaving is None:
            self._leaving = self._clock.callLater(GOODBYE, self.vanish)
        if self._awaited is not None:
            self._awaited.cancel()

    sleep = goodbye

    def vanish(self) -> None:
        """Hang up in the middle of everything."""
        self.live = False
        for each in (*self._posts, self._awaited):
            if each is not None:
                each.cancel()

    # -- for `listen`

    async def wait_for(self, what: Deferred[Any], seconds: float | None = None) -> Any:
        """Its result; hanging up cancels it. Raises LinkLost after `seconds`."""
        self._awaited = what
        if seconds is not None:
            what.addTimeout(seconds, self._clock)
        try:
            return await what
        except DeferredTimeout:
            raise LinkLost("The broker has fallen silent.") from None
        finally:
            self._awaited = None

    def up(self) -> None:
        """The broker has accepted the device."""
        if not self.ready.called:
            self.ready.callback(None)

    def told(self, payload: bytes) -> None:
        """Take a call, or do what else this says."""
        told = read(payload)
        if told is None or told.call_id is None:
            self._log.warn("a message of {size} bytes that is no call", size=len(payload))
        elif told.method is None:
            self._device.cancel(str(told.call_id))
        else:
            self._receive(told.call_id, told)

    def _receive(self, call_id: int, told: Told) -> None:
        self._device.receive(
            str(call_id),
            told.method or "",
            told.params,
            lambda reply: self._post(f"/rpc/{call_id}", reply),
            lambda report: self._post(f"/rpc/{call_id}/progress", report),
        )

    # -- what it says

    def _post(self, path: str, value: Any) -> None:
        if not self.live:
            return
        post = Deferred.fromCoroutine(self._posted(path, text(value)))
        self._posts.add(post)
        post.addTimeout(GOODBYE + ANSWER, self._clock)
        post.addErrback(self._not_posted)
        post.addBoth(lambda _: self._posts.discard(post))
        post.addBoth(lambda _: self._end_if_done())

    async def _posted(self, path: str, body: bytes) -> None:
        status, _ = await self._site.ask("POST", path, body)
        if status >= 400:
            self._log.warn("the broker does not take what the device says: status {status}", status=status)

    def _not_posted(self, failure: Failure) -> None:
        failure.trap(Refused, LinkLost, CancelledError, DeferredTimeout)
        if self.live:
            self._log.warn("what the device said did not arrive: {error}", error=failure.getErrorMessage())

    # -- the end

    async def _listen(self) -> None:
        try:
            await self.listen()
        except (Refused, LinkLost) as error:
            self._trouble = error
        except CancelledError:
            if self.live:
                raise
        self.live = False
        self._ended = True
        if not self.ready.called:
            self.ready.errback(self._trouble)
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._ended and not self._posts and not self.gone.called:
            if self._leaving is not None and self._leaving.active():
                self._leaving.cancel()
            self.gone.errback(LinkLost(str(self._trouble)))


class Polling(HttpConnection):
    """Calls by long polls, one at a time."""

    async def listen(self) -> None:
        """Poll, for ever."""
        wait = FIRST_POLL
        while self.live:
            poll = Deferred.fromCoroutine(self._site.ask("GET", f"/rpc?timeout={round(wait * 1000)}"))
            status, body = await self.wait_for(poll, wait + ANSWER)
            if status != 408:  # nothing came in this time
                judge(status)
            self.up()
            wait = POLL
            if status == 200:
                self.told(body)


class HttpCarrier:
    """HTTP for one device: `begin` makes a connection."""

    def __init__(self, begin: Callable[[], HttpConnection], close: Callable[[], Deferred[None]]) -> None:
        """`close` gives back what the agent keeps."""
        self._begin = begin
        self._close = close

    def connect(self) -> Deferred[Connection]:
        """One that has begun."""
        connection = self._begin()
        connection.begin()
        return succeed(connection)

    def close(self) -> Deferred[None]:
        """Close what is kept open for further requests."""
        return self._close()
