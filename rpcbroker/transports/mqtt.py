"""MQTT over Twisted: bytes, deadlines and back-pressure. The protocol itself is `wire.mqtt.connection`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IPushProducer, ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rpcbroker.core.broker import Broker
from rpcbroker.core.deadlines import Clock, Deadline
from rpcbroker.core.errors import BrokerError
from rpcbroker.core.ports import CloseReason
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.core.settings import MqttSettings
from rpcbroker.transports.certificate import peer_certificate
from rpcbroker.transports.mqtt_link import MqttLink
from rpcbroker.wire.errors import WireError
from rpcbroker.wire.mqtt.connection import ConnectionState, ServerConnection, refusal
from rpcbroker.wire.mqtt.packets import (
    ConnAck,
    Connect,
    ConnectReturnCode,
    Disconnect,
    PingReq,
    PingResp,
    PubAck,
    Publish,
    ReasonCode,
    Subscribe,
    Unsubscribe,
)
from rpcbroker.wire.mqtt.properties import Property

CLOSE_TIMEOUT = 1.0
"""Seconds that a closed connection has to take the last bytes; then it is aborted."""

_CLOSE_CODES = {
    CloseReason.TAKEN_OVER: ReasonCode.SESSION_TAKEN_OVER,
    CloseReason.CREDENTIALS_CHANGED: ReasonCode.ADMINISTRATIVE_ACTION,
    CloseReason.DEVICE_DELETED: ReasonCode.ADMINISTRATIVE_ACTION,
    CloseReason.SHUTTING_DOWN: ReasonCode.SERVER_SHUTTING_DOWN,
}

_V3_CODES = {
    ReasonCode.UNSUPPORTED_PROTOCOL_VERSION: ConnectReturnCode.UNACCEPTABLE_PROTOCOL_VERSION,
    ReasonCode.CLIENT_IDENTIFIER_NOT_VALID: ConnectReturnCode.IDENTIFIER_REJECTED,
    ReasonCode.SERVER_UNAVAILABLE: ConnectReturnCode.SERVER_UNAVAILABLE,
    ReasonCode.BAD_USER_NAME_OR_PASSWORD: ConnectReturnCode.NOT_AUTHORIZED,
    ReasonCode.NOT_AUTHORIZED: ConnectReturnCode.NOT_AUTHORIZED,
}
"""What a refusal is called in MQTT 3."""


@implementer(IPushProducer)
class MqttProtocol(Protocol):
    """One TCP connection that speaks MQTT."""

    _log = Logger()

    def __init__(self, factory: MqttFactory) -> None:
        self._factory = factory
        self._max_packet_size = factory.settings.max_packet_size  # promised in CONNACK: a later change is for others
        self._connection = ServerConnection(
            max_packet_size=self._max_packet_size,
            connect_timeout=factory.settings.connect_timeout,
            now=factory.clock.seconds(),
        )
        self._link: MqttLink | None = None
        self._deciding: Deferred[None] | None = None
        self._batch: list[bytes] | None = None
        self._deadline: Deadline | None = None
        self._write_deadline: Deadline | None = None
        self._lost = False

    # -- Twisted's side

    def connectionMade(self) -> None:
        if not self._factory.admit():
            self.transport.abortConnection()
            return
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        self._watch()

    def dataReceived(self, data: bytes) -> None:
        """Act on all packets of one read; what is to be said to them goes out in one write."""
        if self._is_closed():
            return
        self._batch = []
        try:
            for packet in self._connection.receive(data, self._factory.clock.seconds()):
                _ACTIONS[type(packet)](self, packet)
        except WireError as error:
            self._violation(error)
        finally:
            batch, self._batch = self._batch, None
            if batch:
                self.transport.write(b"".join(batch))
        if self._is_closed():
            self._close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = True
        self._factory.released(connected=self._link is not None)
        for deadline in (self._deadline, self._write_deadline):
            if deadline is not None:
                deadline.cancel()
        if self._deciding is not None:
            self._deciding.cancel()
        if self._link is not None:
            self._link.detach(self._cause or "the connection was lost")

    def pauseProducing(self) -> None:
        """The device does not read: give it no more, and take no more from it."""
        if self._link is not None:
            self._link.paused = True
        self.transport.pauseProducing()
        if self._write_deadline is None:
            self._write_deadline = self._after(self._factory.settings.write_timeout, self._abort)

    def resumeProducing(self) -> None:
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None
        if self._connection.state is ConnectionState.CLOSED:
            return
        self.transport.resumeProducing()
        if self._link is not None:
            self._link.paused = False
            self._link.resume()

    def stopProducing(self) -> None:
        """Nothing is produced but answers and calls; they end with the connection."""

    # -- packets

    def _connect(self, packet: Connect) -> None:
        code = refusal(packet)
        if code is not None:
            self._refuse(code)
            return
        self.transport.pauseProducing()
        self._deciding = Deferred.fromCoroutine(self._decide(packet))
        self._deciding.addErrback(self._undecided)

    async def _decide(self, packet: Connect) -> None:
        try:
            certificate = peer_certificate(self.transport)
            session = await self._factory.broker.enter(packet, certificate=certificate)
            if session is None:
                self._factory.note_refusal()
                self._refuse(_why_refused(packet) if certificate is None else ReasonCode.NOT_AUTHORIZED)
            else:
                self._accept(packet, session)
        except BrokerError:
            self._refuse(ReasonCode.SERVER_UNAVAILABLE)
        self._deciding = None
        if self._connection.state is ConnectionState.OPEN:
            self.transport.resumeProducing()
            if self._batch is None:
                self.dataReceived(b"")

    def _undecided(self, failure: Failure) -> None:
        if not self._lost:
            self._log.failure("a CONNECT could not be decided", failure=failure)
            self._refuse(ReasonCode.SERVER_UNAVAILABLE)

    def _accept(self, packet: Connect, session: DeviceSession) -> None:
        if self._lost or self._is_closed():
            return
        self._link = MqttLink(
            session,
            self._connection,
            broker=self._factory.broker,
            max_packet_size=self._max_packet_size,
            ack_timeout=lambda: self._factory.settings.ack_timeout,
            write=self._write,
            disconnect=self._disconnect,
        )
        self._factory.connected()
        self._write(self._connection.send(ConnAck(False, ReasonCode.SUCCESS, self._connack_properties(packet))))
        self._watch()
        session.attach(self._link)
        session.seen(self._link.protocol)

    def _connack_properties(self, packet: Connect) -> dict[Property, Any]:
        if packet.level < 5:
            return {}
        properties: dict[Property, Any] = {
            Property.MAXIMUM_QOS: 1,
            Property.MAXIMUM_PACKET_SIZE: self._max_packet_size,
            Property.SUBSCRIPTION_IDENTIFIER_AVAILABLE: 0,
            Property.SHARED_SUBSCRIPTION_AVAILABLE: 0,
        }
        if packet.properties.get(Property.SESSION_EXPIRY_INTERVAL):
            properties[Property.SESSION_EXPIRY_INTERVAL] = 0  # no session is kept: MQTT-5 3.2.2.3.2
        if not packet.client_id:
            properties[Property.ASSIGNED_CLIENT_IDENTIFIER] = self._factory.new_client_id()
        return properties

    def _publish(self, packet: Publish) -> None:
        cast(MqttLink, self._link).publish(packet)

    def _acknowledge(self, packet: PubAck) -> None:
        cast(MqttLink, self._link).acknowledge(packet)

    def _subscribe(self, packet: Subscribe) -> None:
        cast(MqttLink, self._link).subscribe(packet)

    def _unsubscribe(self, packet: Unsubscribe) -> None:
        cast(MqttLink, self._link).unsubscribe(packet)

    def _ping(self, _: PingReq) -> None:
        cast(MqttLink, self._link).seen()
        self._write(self._connection.send(PingResp()))

    def _leave(self, _: Disconnect) -> None:
        self._cause = "the device disconnected"

    # -- ends

    _cause: str | None = None

    def _refuse(self, code: int) -> None:
        if self._lost or self._connection.state is ConnectionState.CLOSED:
            return
        v3 = self._connection.level < 5
        self._write(self._connection.send(ConnAck(False, _V3_CODES.get(ReasonCode(code), code) if v3 else code)))
        self._close()

    def _violation(self, error: WireError) -> None:
        self._cause = f"protocol violation: {error.message}"
        self._factory.note_violation(self._cause, self.transport.getPeer())
        self._write(self._connection.farewell(error))

    def _disconnect(self, reason: CloseReason) -> None:
        self._cause = reason.value
        if self._connection.state is ConnectionState.OPEN:
            self._write(self._connection.send(Disconnect(_CLOSE_CODES[reason])))
        self._close()

    def _close(self) -> None:
        """Let the last bytes out, for a second at most."""
        if self._lost or self._batch is not None:
            return
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        self._after(CLOSE_TIMEOUT, self._abort)

    def _abort(self, _: None) -> None:
        if not self._lost:
            self._cause = self._cause or "the device does not read what is sent to it"
            self.transport.abortConnection()

    # -- time and bytes

    def _is_closed(self) -> bool:
        return self._connection.state is ConnectionState.CLOSED

    def _after(self, seconds: float, action: Callable[[None], None]) -> Deadline:
        return self._factory.broker.deadlines.after(seconds, action, None)

    def _watch(self) -> None:
        """Look again when the connection's next deadline may have passed."""
        if self._deadline is not None:
            self._deadline.cancel()
        due = self._connection.next_deadline()
        self._deadline = None
        if due is not None:
            self._deadline = self._after(due - self._factory.clock.seconds(), self._check_deadline)

    def _check_deadline(self, _: None) -> None:
        self._deadline = None
        due = self._connection.next_deadline()
        if due is None or self._connection.state is ConnectionState.CLOSED:
            return
        if due > self._factory.clock.seconds():
            self._watch()
            return
        connected = self._connection.state is ConnectionState.OPEN
        self._cause = "keep-alive timed out" if connected else "CONNECT did not come in time"
        if connected:
            self._write(self._connection.send(Disconnect(ReasonCode.KEEP_ALIVE_TIMEOUT)))
            self._close()
        else:
            self.transport.abortConnection()

    def _write(self, data: bytes) -> None:
        if not data:
            return
        if self._batch is not None:
            self._batch.append(data)
        else:
            self.transport.write(data)


_ACTIONS: dict[type[Any], Callable[[MqttProtocol, Any], None]] = {
    Publish: MqttProtocol._publish,
    PubAck: MqttProtocol._acknowledge,
    PingReq: MqttProtocol._ping,
    Subscribe: MqttProtocol._subscribe,
    Unsubscribe: MqttProtocol._unsubscribe,
    Connect: MqttProtocol._connect,
    Disconnect: MqttProtocol._leave,
}


def _why_refused(packet: Connect) -> int:
    if packet.username is not None or packet.password is not None:
        return ReasonCode.BAD_USER_NAME_OR_PASSWORD
    return ReasonCode.CLIENT_IDENTIFIER_NOT_VALID if packet.client_id.strip() else ReasonCode.NOT_AUTHORIZED


class MqttFactory(Factory):
    """All MQTT connections of one process."""

    _log = Logger()
    noisy = False

    def __init__(
        self,
        *,
        broker: Broker,
        settings: MqttSettings,
        clock: Clock,
        new_client_id: Callable[[], str],
    ) -> None:
        self.broker = broker
        self.settings = settings
        """May be replaced at any time."""
        self.clock = clock
        self.new_client_id = new_client_id
        self.handshakes = 0
        self.connections = 0
        self.refusals = 0
        self.violations = 0

    def buildProtocol(self, addr: IAddress | None) -> MqttProtocol:
        return MqttProtocol(self)

    def admit(self) -> bool:
        """Count a new connection; False if too many have not finished CONNECT."""
        self.handshakes += 1
        return self.handshakes <= self.settings.max_handshakes

    def connected(self) -> None:
        """A connection finished CONNECT."""
        self.handshakes -= 1
        self.connections += 1

    def released(self, *, connected: bool) -> None:
        """A connection is gone."""
        if connected:
            self.connections -= 1
        else:
            self.handshakes -= 1

    def note_refusal(self) -> None:
        """Wrong credentials: a device may try for ever, the log must not fill."""
        self.refusals += 1
        if _is_round(self.refusals):
            self._log.warn("{count} MQTT connections refused so far: wrong credentials", count=self.refusals)

    def note_violation(self, why: str, peer: object) -> None:
        self.violations += 1
        if _is_round(self.violations):
            self._log.warn(
                "MQTT connection of {peer} closed: {why} ({count} so far)",
                peer=peer,
                why=why,
                count=self.violations,
            )


def _is_round(count: int) -> bool:
    """1, 2, ... 9, 10, 20, ... 100, 200, ...: a log that stays short."""
    return count % 10 ** (len(str(count)) - 1) == 0
