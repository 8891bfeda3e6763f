"""A device's side of CoAP: observes its calls, registers again when nothing was heard for a while, posts replies."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpcbroker.core.deadlines import Clock
from rpcbroker.simulator.carrier import GOODBYE, Connection, LinkLost, Refused
from rpcbroker.simulator.coap_client import CoapClient, Options, option
from rpcbroker.simulator.device import SimulatedDevice
from rpcbroker.simulator.messages import read, text
from rpcbroker.wire.coap.message import Message
from rpcbroker.wire.coap.numbers import Code, ContentFormat, OptionNumber, dotted, uint

REFRESH = 30.0
"""Seconds of silence after which the device registers again: short enough for the usual NAT, and it shows whether the
broker is there (RFC 7641 3.3.1)."""

_REGISTER, _DEREGISTER = 0, 1
_REFUSALS = frozenset({Code.UNAUTHORIZED, Code.FORBIDDEN, Code.NOT_FOUND})


class Channel(Protocol):
    """What carries datagrams to the broker and back."""

    received: Callable[[bytes], None]
    lost: Callable[[str], None]
    deaf: bool

    def send(self, datagram: bytes) -> None: ...

    def close(self) -> Deferred[None]: ...


class Station:
    """What of a device outlives its sleep: its socket, its message ids, and the token of its observation."""

    def __init__(self, channel: Channel, *, clock: Clock, rng: Random) -> None:
        self.channel = channel
        self.client = CoapClient(channel.send, clock=clock, rng=rng)
        self.token = rng.randbytes(4)
        channel.received = self.client.received


class CoapConnection:
    """From a registration until the observation is no more."""

    _log = Logger()

    def __init__(
        self, station: Station, device: SimulatedDevice, token: str | None, *, clock: Clock, keep: Callable[[], None]
    ) -> None:
        """`token` is the device's; without one the broker knows it by its certificate. `keep` is called if the
        station is to be used again."""
        self.ready: Deferred[None] = Deferred()
        self.gone: Deferred[None] = Deferred()
        self._station = station
        self._client = station.client
        self._device = device
        self._path = ("api", "v1", *(() if token is None else (token,)))
        self._clock: Any = clock
        self._keep = keep
        self._live = True
        self._timer: Any = None
        self._leaving: Any = None

    def begin(self) -> None:
        """Register."""
        self._client.begin(self._station.token)
        self._client.notified = self._notified
        self._client.heard = self._heard
        self._station.channel.lost = self._lost
        self._do(self._register())

    # -- as each connection

    def report(self, values: dict[str, Any]) -> None:
        """Post telemetry."""
        self._say(("telemetry",), values)

    def goodbye(self) -> None:
        """Post what is to be posted, and cancel the observation (RFC 7641 3.6)."""
        if self._live and self._leaving is None:
            self._leaving = self._clock.callLater(GOODBYE, self._end, "The device left.")
            self._do(self._deregister())

    def vanish(self) -> None:
        """Say nothing more; the socket stays open, or the system would say that nobody is there."""
        self._station.channel.deaf = True
        self._end("The device vanished.", keep=True)

    def sleep(self) -> None:
        """Switch the radio off: the broker is not told. Awake again it registers with the same token."""
        self._station.channel.deaf = True
        self._keep()
        self._end("The device fell asleep.", keep=True)

    # -- what it says

    def _do(self, work: Any) -> None:
        """Run a coroutine beside others."""
        Deferred.fromCoroutine(work).addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        failure.trap(LinkLost, Refused, CancelledError)
        if not failure.check(CancelledError):
            self._fail(failure.value)

    async def _register(self) -> None:
        answer = await self._client.request(
            Code.GET, self._options("rpc", observe=_REGISTER), token=self._station.token
        )
        if answer.code in _REFUSALS:
            raise Refused(f"The broker refused the device: {_said(answer)}. Its access token is not known there.")
        if answer.code >= Code.BAD_REQUEST:
            raise LinkLost(f"The broker is not available now: {_said(answer)}.")
        if option(answer, OptionNumber.OBSERVE) is None:
            raise LinkLost("The broker takes no further observation.")
        if self._live and self._leaving is None and not self.ready.called:
            self.ready.callback(None)
        self._heard()
        if answer.payload:
            self._take(answer.payload)

    async def _deregister(self) -> None:
        await self._client.request(Code.GET, self._options("rpc", observe=_DEREGISTER), token=self._station.token)
        self._end("The device left.")

    async def _post(self, path: tuple[str, ...], value: Any) -> None:
        answer = await self._client.request(Code.POST, self._options(*path, json=True), text(value))
        if answer.code >= Code.BAD_REQUEST:
            self._log.warn("the broker does not take what the device says: {said}", said=_said(answer))

    def _say(self, path: tuple[str, ...], value: Any) -> None:
        if self._live:
            self._do(self._post(path, value))

    def _options(self, *more: str, observe: int | None = None, json: bool = False) -> Options:
        options = [] if observe is None else [(int(OptionNumber.OBSERVE), uint(observe))]
        options += [(int(OptionNumber.URI_PATH), segment.encode()) for segment in (*self._path, *more)]
        if json:
            options.append((int(OptionNumber.CONTENT_FORMAT), uint(ContentFormat.JSON)))
        return tuple(options)

    # -- what it is told

    def _notified(self, message: Message) -> None:
        if message.code >= Code.BAD_REQUEST or option(message, OptionNumber.OBSERVE) is None:
            self._fail(LinkLost(f"The broker ended the observation: {_said(message)}."))  # RFC 7641 3.2
        else:
            self._do(self._fetch(message))

    async def _fetch(self, message: Message) -> None:
        whole = await self._client.whole(message, Code.GET, self._options("rpc"))
        self._take(whole.payload)

    def _take(self, payload: bytes) -> None:
        told = read(payload)
        if not self._live:
            return
        if told is None or told.call_id is None:
            self._log.warn("a notification of {size} bytes that is no call", size=len(payload))
        elif told.method is None:
            self._device.cancel(str(told.call_id))
        else:
            call_id = str(told.call_id)
            self._device.receive(
                call_id,
                told.method,
                told.params,
                lambda reply: self._say(("rpc", call_id), reply),
                lambda report: self._say(("rpc", call_id, "progress"), report),
            )

    # -- time, and the end

    def _heard(self) -> None:
        """The broker is there."""
        if not self._live or not self.ready.called or self._leaving is not None:
            return
        if self._timer is not None and self._timer.active():
            self._timer.reset(REFRESH)
        else:
            self._timer = self._clock.callLater(REFRESH, self._refresh)

    def _refresh(self) -> None:
        self._do(self._register())

    def _lost(self, why: str) -> None:
        self._fail(LinkLost(f"The broker cannot be reached: {why}."))

    def _fail(self, error: Exception) -> None:
        if not self.ready.called and self._live:
            self.ready.errback(error)
        self._end(str(error))

    def _end(self, why: str, *, keep: bool = False) -> None:
        """Whoever waits for a response waits no more; a socket that is not kept is closed."""
        if not self._live:
            return
        self._live = False
        for timer in (self._timer, self._leaving):
            if timer is not None and timer.active():
                timer.cancel()
        if not self.ready.called:
            self.ready.errback(LinkLost(why))
        self._client.give_up()
        closing = succeed(None) if keep else self._station.channel.close()
        closing.addBoth(lambda _: self.gone.errback(LinkLost(why)))


class CoapCarrier:
    """CoAP for one device, over channels that `open_channel` makes."""

    def __init__(
        self,
        open_channel: Callable[[], Deferred[Any]],
        device: SimulatedDevice,
        token: str | None,
        *,
        clock: Clock,
        rng: Random,
    ) -> None:
        """See CoapConnection."""
        self._open_channel = open_channel
        self._device = device
        self._token = token
        self._clock = clock
        self._rng = rng
        self._station: Station | None = None
        self._asleep = False

    def connect(self) -> Deferred[Connection]:
        """One that registers: over the socket that there was, if the device only slept."""
        return Deferred.fromCoroutine(self._connect())

    def close(self) -> Deferred[None]:
        """Close a socket that was kept."""
        station, self._station = self._station, None
        return succeed(None) if station is None else station.channel.close()

    async def _connect(self) -> Connection:
        if self._asleep and self._station is not None:
            self._station.channel.deaf = False
        else:
            await self.close()
            channel = await self._open_channel()
            self._station = Station(channel, clock=self._clock, rng=self._rng)
        self._asleep = False
        connection = CoapConnection(self._station, self._device, self._token, clock=self._clock, keep=self._keep)
        connection.begin()
        return connection

    def _keep(self) -> None:
        self._asleep = True


def _said(message: Message) -> str:
    """Code, and diagnostic text if there is one (RFC 7252 5.5.2)."""
    said = message.payload[:200].decode(errors="replace")
    return f"{dotted(message.code)} {said}".strip()
