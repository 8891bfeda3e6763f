"""A device's side of MQTT 3.1.1: connects, subscribes to calls, reports and answers, keeps the connection alive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpcbroker.core.deadlines import Clock
from rpcbroker.simulator.carrier import GOODBYE, Connection, LinkLost, Refused
from rpcbroker.simulator.device import SimulatedDevice
from rpcbroker.simulator.messages import read, text
from rpcbroker.simulator.trust import tls_failed
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
PROGRESS = "v1/devices/me/rpc/progress/"
CANCELS = "v1/devices/me/rpc/cancel/"
TELEMETRY = "v1/devices/me/telemetry"
KEEP_ALIVE = 30
"""Seconds: short enough for the usual NAT."""
MAX_PACKET_SIZE = 1 << 20
"""More than any broker's default, so that the broker's limit is the one that is met."""
_LEVEL = 4
_SUBSCRIBE_ID = 1
_FINAL = frozenset(ConnectReturnCode) - {ConnectReturnCode.ACCEPTED, ConnectReturnCode.SERVER_UNAVAILABLE}


class DeviceProtocol(Protocol):
    """One connection of one device.

    `ready` fires when it can be called, or fails with Refused or LinkLost; `gone` when it has ended.
    """

    _log = Logger()
    transport: Any

    def __init__(self, device: SimulatedDevice, token: str | None, *, client_id: str, clock: Clock) -> None:
        self.ready: Deferred[None] = Deferred()
        self.gone: Deferred[None] = Deferred()
        self._device = device
        self._token = token
        self._client_id = client_id
        self._clock = clock
        self._frames = FrameReader(MAX_PACKET_SIZE)
        self._timer: Any = None
        self._heard = True
        self._live = False
        self._leaving = False

    # -- Twisted

    def connectionMade(self) -> None:
        """Introduce ourselves."""
        self._live = True
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)  # else an acknowledgement and a reply wait 40 ms for one another
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
        if isinstance(reason.value, SSL.Error):
            self._fail(tls_failed(reason.value))
        self._fail(LinkLost("The broker closed the connection before the device could be called."))
        self.gone.callback(None)

    # -- what the device does

    def report(self, values: dict[str, Any]) -> None:
        """Publish telemetry."""
        self._publish(TELEMETRY, values)

    def goodbye(self) -> None:
        """Leave in good order."""
        if self._live:
            self._leaving = True
            self._send(Disconnect())
            self.transport.loseConnection()
            if self._timer is not None:
                self._timer.reset(GOODBYE)

    sleep = goodbye

    def vanish(self) -> None:
        """Leave without a word, which is a reset of the connection."""
        self._abort()

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
            # A broker that cancels no calls refuses the second one, and that is no matter.
            self._send(Subscribe(_SUBSCRIBE_ID, (Subscription(REQUESTS + "+", 1), Subscription(CANCELS + "+", 1))))
        elif code in _FINAL:
            why = ConnectReturnCode(code).name.lower().replace("_", " ")
            self._give_up(Refused(f"The broker refused the device: {why}. Its access token is not known there."))
        else:
            self._give_up(LinkLost("The broker is not available now."))

    def _subscribed(self, packet: SubAck) -> None:
        if packet.codes[0] >= 0x80:
            self._give_up(Refused(f"The broker refused the subscription to {REQUESTS}+."))
        elif not self.ready.called:
            self.ready.callback(None)

    def _published(self, packet: Publish) -> None:
        if packet.packet_id is not None:
            self._send(PubAck(packet.packet_id))
        if packet.topic.startswith(CANCELS):
            self._device.cancel(packet.topic.removeprefix(CANCELS))
            return
        call = read(packet.payload) if packet.topic.startswith(REQUESTS) else None
        if call is None or call.method is None:
            self._log.warn("a message that is no call, on {topic}", topic=packet.topic)
            return
        call_id = packet.topic.removeprefix(REQUESTS)
        self._device.receive(
            call_id,
            call.method,
            call.params,
            lambda reply: self._publish(RESPONSES + call_id, reply),
            lambda report: self._publish(PROGRESS + call_id, report),
        )

    def _publish(self, topic: str, value: Any) -> None:
        if self._live:
            self._send(Publish(topic, text(value)))

    # -- time, and the end

    def _keep_alive(self) -> None:
        """Twice in each keep-alive time: ask for a sign of life, and leave when the last one did not come."""
        self._timer = None
        if not self._heard or self._leaving:
            self._give_up(LinkLost("The broker has fallen silent."))
            return
        self._heard = False
        if self.ready.called:  # before CONNACK nothing may be asked
            self._send(PingReq())
        self._timer = self._clock.callLater(KEEP_ALIVE / 2, self._keep_alive)

    def _give_up(self, error: Exception) -> None:
        self._fail(error)
        self._abort()

    def _fail(self, error: Exception) -> None:
        if not self.ready.called:
            self.ready.errback(error)

    def _abort(self) -> None:
        if self._live:
            self.transport.abortConnection()


class _DeviceFactory(Factory):
    noisy = False

    def __init__(self, build: Callable[[], DeviceProtocol]) -> None:
        self._build = build

    def buildProtocol(self, addr: IAddress | None) -> DeviceProtocol:
        return self._build()


class MqttCarrier:
    """MQTT for one device, of the name `client_id`, over an IStreamClientEndpoint.

    Without a token the broker knows it by its certificate.
    """

    def __init__(
        self, endpoint: Any, device: SimulatedDevice, token: str | None, *, client_id: str, clock: Clock
    ) -> None:
        self._endpoint = endpoint
        self._factory = _DeviceFactory(lambda: DeviceProtocol(device, token, client_id=client_id, clock=clock))

    def connect(self) -> Deferred[Connection]:
        """A TCP connection, on which the device has introduced itself."""
        connected: Deferred[Connection] = self._endpoint.connect(self._factory)
        return connected

    def close(self) -> Deferred[None]:
        """There is nothing to give back."""
        return succeed(None)
