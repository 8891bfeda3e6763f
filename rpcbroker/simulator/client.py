"""A device's side of MQTT 3.1.1: connects, subscribes to calls, reports and answers, keeps the connection alive."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IAddress, ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpcbroker.core.deadlines import Clock
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
PROGRESS = "v1/devices/me/rpc/progress/"
CANCELS = "v1/devices/me/rpc/cancel/"
KEEP_ALIVE = 30
"""Seconds: short enough for the usual NAT."""
MAX_PACKET_SIZE = 1 << 20
"""More than any broker's default, so that the broker's limit is the one that is met."""
GOODBYE = 2.0
"""Seconds that the broker has to take our last words."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds between two attempts to connect: the first pause, doubled each time up to the longest."""
_LEVEL = 4
_SUBSCRIBE_ID = 1
_FINAL = frozenset(ConnectReturnCode) - {ConnectReturnCode.ACCEPTED, ConnectReturnCode.SERVER_UNAVAILABLE}


class Refused(Exception):
    """The broker does not want this device; trying again will not help."""


class LinkLost(Exception):
    """The connection ended, or was of no use; the next one may be better."""


class DeviceProtocol(Protocol):
    """One connection of one device.

    `ready` fires when it can be called, or fails with Refused or LinkLost; `gone` when it has ended.
    """

    _log = Logger()
    transport: Any

    def __init__(self, device: SimulatedDevice, token: str, *, client_id: str, clock: Clock) -> None:
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
        self._fail(LinkLost("The broker closed the connection before the device could be called."))
        self.gone.callback(None)

    # -- what the device does

    def goodbye(self) -> None:
        """Leave in good order."""
        if self._live:
            self._leaving = True
            self._send(Disconnect())
            self.transport.loseConnection()
            if self._timer is not None:
                self._timer.reset(GOODBYE)

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
        call = _call(packet.payload) if packet.topic.startswith(REQUESTS) else None
        if call is None:
            self._log.warn("a message that is no call, on {topic}", topic=packet.topic)
            return
        call_id = packet.topic.removeprefix(REQUESTS)
        self._device.receive(
            call_id,
            *call,
            lambda reply: self._publish(RESPONSES + call_id, reply),
            lambda report: self._publish(PROGRESS + call_id, report),
        )

    def _publish(self, topic: str, value: Any) -> None:
        if self._live:
            self._send(Publish(topic, json.dumps(value, separators=(",", ":")).encode()))

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


class ConnectedDevice:
    """A device that stays connected: it tries again, ever more slowly, until it is stopped or refused.

    Twisted's ClientService counts a connection as good before the broker has accepted the device,
    and loses its way when that connection is closed meanwhile; hence a loop of our own.
    """

    def __init__(
        self,
        endpoint: Any,
        device: SimulatedDevice,
        token: str,
        *,
        client_id: str,
        clock: Clock,
        rng: Random,
        on_link: Callable[[str | None], None] = lambda _trouble: None,
    ) -> None:
        """`endpoint` is an IStreamClientEndpoint.

        `on_link(None)`: it can be called now. `on_link(sentence)`: not now, and why; it tries again.
        """
        self._endpoint = endpoint
        self._factory = _DeviceFactory(lambda: DeviceProtocol(device, token, client_id=client_id, clock=clock))
        self._clock: Any = clock
        self._rng = rng
        self._on_link = on_link
        self._protocol: DeviceProtocol | None = None
        self._running: Deferred[None] | None = None
        self._stopping = False

    def run(self) -> Deferred[None]:
        """Connect, and stay connected. Fires when stopped; fails with Refused."""
        self._running = Deferred.fromCoroutine(self._run())
        return self._running

    def stop(self) -> None:
        """Disconnect in good order; what `run` returned fires when the connection is gone."""
        self._stopping = True
        if self._protocol is not None:
            self._protocol.goodbye()
        elif self._running is not None:
            self._running.cancel()

    async def _run(self) -> None:
        failures = 0
        try:
            while not self._stopping:
                try:
                    await self._one_connection()
                    failures = 0
                    trouble = "The broker closed the connection."
                except LinkLost as error:
                    trouble = str(error)
                except (ConnectError, DNSLookupError) as error:
                    trouble = f"The broker cannot be reached: {str(error).partition(':')[0].rstrip('.')}."
                if not self._stopping:
                    self._on_link(trouble)
                    pause = min(FIRST_PAUSE * 2**failures, LONGEST_PAUSE) * self._rng.uniform(0.8, 1.2)
                    failures = min(failures + 1, 10)
                    await deferLater(self._clock, pause)
        except CancelledError:
            if not self._stopping:
                raise

    async def _one_connection(self) -> None:
        """From connecting until the connection is gone. Raises Refused, LinkLost, ConnectError."""
        protocol: DeviceProtocol = await self._endpoint.connect(self._factory)
        self._protocol = protocol
        failure: Exception | None = None
        try:
            await protocol.ready
        except (Refused, LinkLost) as error:
            failure = error
        else:
            self._on_link(None)
        await protocol.gone
        self._protocol = None
        if failure is not None:
            raise failure
