"""A device's side of MQTT 3.1.1: connects, subscribes to calls, answers, keeps the connection alive."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

from twisted.application.internet import ClientService, backoffPolicy
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpcbroker.simulator.device import SimulatedDevice
from rpcbroker.wire.errors import WireError
from rpcbroker.wire.mqtt.codec import FrameReader, decode, encode
from rpcbroker.wire.mqtt.packets import (
    ConnAck,
    Connect,
    ConnectReturnCode,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    PubAck,
    Publish,
    SubAck,
    Subscribe,
    Subscription,
)

REQUESTS = "v1/devices/me/rpc/request/"
RESPONSES = "v1/devices/me/rpc/response/"
KEEP_ALIVE = 30
"""Seconds: short enough for the usual NAT."""
MAX_PACKET_SIZE = 1 << 20
"""More than any broker's default, so that the broker's limit is the one that is met."""
_LEVEL = 4
_SUBSCRIBE_ID = 1
_FINAL = frozenset(ConnectReturnCode) - {ConnectReturnCode.ACCEPTED, ConnectReturnCode.SERVER_UNAVAILABLE}


class Refused(Exception):
    """The broker does not want this device; trying again will not help."""


class LinkLost(Exception):
    """The connection ended, or was of no use; the next one may be better."""


class DeviceProtocol(Protocol):
    """One connection of one device. `ready` fires when it can be called, or with Refused or LinkLost."""

    _log = Logger()

    def __init__(self, device: SimulatedDevice, token: str, *, client_id: str, clock: IReactorTime) -> None:
        self.ready: Deferred[DeviceProtocol] = Deferred(lambda _: self._abort())
        self._device = device
        self._token = token
        self._client_id = client_id
        self._clock = clock
        self._frames = FrameReader(MAX_PACKET_SIZE)
        self._timer: IDelayedCall | None = None
        self._heard = True
        self._live = False

    # -- Twisted

    def connectionMade(self) -> None:
        """Introduce ourselves."""
        self._live = True
        self._send(Connect(_LEVEL, self._client_id, keep_alive=KEEP_ALIVE, username=self._token))
        self._timer = self._clock.callLater(KEEP_ALIVE / 2, self._keep_alive)

    def dataReceived(self, data: bytes) -> None:
        """Take packets; a broker that breaks the protocol loses us."""
        self._heard = True
        self._frames.feed(data)
        try:
            for first_byte, body in self._frames:
                self._receive(decode(first_byte, body, _LEVEL))
        except WireError as error:
            self._log.warn("the broker broke the protocol: {error}", error=error)
            self._give_up(LinkLost(f"The broker sent what is not MQTT 3.1.1: {error.message}."))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nothing can be sent any more."""
        self._live = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._fail(LinkLost("The broker closed the connection before the device could be called."))

    # -- what the device does

    def goodbye(self) -> None:
        """Leave in good order."""
        if self._live:
            self._send(Disconnect())
            self.transport.loseConnection()

    def _send(self, packet: Packet) -> None:
        self.transport.write(encode(packet, _LEVEL))

    def _receive(self, packet: Packet) -> None:
        if isinstance(packet, Publish):
            self._published(packet)
        elif isinstance(packet, ConnAck):
            self._introduced(packet.code)
        elif isinstance(packet, SubAck):
            self._subscribed(packet)
        elif not isinstance(packet, (PingResp, PubAck)):
            raise WireError(f"a {type(packet).__name__} for a device")

    def _introduced(self, code: int) -> None:
        if code == ConnectReturnCode.ACCEPTED:
            self._send(Subscribe(_SUBSCRIBE_ID, (Subscription(REQUESTS + "+", 1),)))
        elif code in _FINAL:
            why = ConnectReturnCode(code).name.lower().replace("_", " ")
            self._give_up(Refused(f"The broker refused the device: {why}. Its access token is not known there."))
        else:
            self._give_up(LinkLost("The broker is not available now."))

    def _subscribed(self, packet: SubAck) -> None:
        if packet.codes[0] >= 0x80:
            self._give_up(Refused(f"The broker refused the subscription to {REQUESTS}+."))
        elif not self.ready.called:
            self.ready.callback(self)

    def _published(self, packet: Publish) -> None:
        if packet.packet_id is not None:
            self._send(PubAck(packet.packet_id))
        call = _call(packet.payload) if packet.topic.startswith(REQUESTS) else None
        if call is None:
            self._log.warn("a message that is no call, on {topic}", topic=packet.topic)
            return
        topic = RESPONSES + packet.topic.removeprefix(REQUESTS)
        self._device.receive(*call, lambda reply: self._respond(topic, reply))

    def _respond(self, topic: str, reply: Any) -> None:
        if self._live:
            self._send(Publish(topic, json.dumps(reply, separators=(",", ":")).encode()))

    # -- time, and the end

    def _keep_alive(self) -> None:
        """Twice in each keep-alive time: ask for a sign of life, and leave when the last one did not come."""
        if not self._heard:
            self._timer = None
            self._give_up(LinkLost("The broker has fallen silent."))
            return
        self._heard = False
        if not self._awaits_broker:
            self._send(PingReq())
        self._timer = self._clock.callLater(KEEP_ALIVE / 2, self._keep_alive)

    @property
    def _awaits_broker(self) -> bool:
        """Before CONNACK nothing may be asked."""
        return not self.ready.called

    def _give_up(self, error: Exception) -> None:
        self._fail(error)
        self._abort()

    def _fail(self, error: Exception) -> None:
        if not self.ready.called:
            self.ready.errback(error)

    def _abort(self) -> None:
        if self._live:
            self.transport.abortConnection()


def _call(payload: bytes) -> tuple[str, Any] | None:
    """Method and params, or None when the payload is no call."""
    try:
        call = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if not isinstance(call, dict) or not isinstance(call.get("method"), str):
        return None
    return call["method"], call.get("params")


class _DeviceFactory(Factory):
    noisy = False

    def __init__(self, build: Callable[[], DeviceProtocol]) -> None:
        self._build = build

    def buildProtocol(self, addr: IAddress | None) -> DeviceProtocol:
        return self._build()


class DeviceService:
    """A device that stays connected: tries again, ever more slowly, until it is stopped or refused.

    `refused` fires with the Refused that ended it.
    """

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        device: SimulatedDevice,
        token: str,
        *,
        client_id: str,
        clock: IReactorTime,
        rng: Random,
        on_link: Callable[[bool], None] = lambda _up: None,
    ) -> None:
        """`on_link(True)`: it can be called; `on_link(False)`: not any more."""
        self.refused: Deferred[None] = Deferred()
        self._on_link = on_link
        self._protocol: DeviceProtocol | None = None
        self._service = ClientService(
            endpoint,
            _DeviceFactory(lambda: DeviceProtocol(device, token, client_id=client_id, clock=clock)),
            retryPolicy=backoffPolicy(0.5, 30.0, jitter=rng.random),
            clock=clock,
            prepareConnection=self._prepare,
        )

    def start(self) -> Deferred[None]:
        """Connect. Fires when the device can be called for the first time; fails with Refused."""
        self._service.startService()
        connected: Deferred[Any] = self._service.whenConnected()
        first: Deferred[None] = Deferred(lambda _: connected.cancel())
        self.refused.addErrback(lambda failure: (_settle(first, failure), failure)[1])
        connected.addCallbacks(lambda _: _settle(first, None), lambda failure: _settle(first, failure))
        return first

    def stop(self) -> Deferred[None]:
        """Disconnect in good order; fires when the connection is gone."""
        if self._protocol is not None:
            self._protocol.goodbye()
        stopped: Deferred[None] = self._service.stopService()
        return stopped
