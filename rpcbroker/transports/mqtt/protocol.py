"""One MQTT connection over Twisted: bytes, deadlines, back-pressure, and the order of answers.

The protocol itself is `wire.mqtt.connection`; what the peer may say is its `Face`. Over 400 lines, for all of
it turns on the same few attributes: what is said, what waits, and whether the connection has ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.interfaces import IHalfCloseableDescriptor, IPushProducer, ISSLTransport, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rpcbroker.core import direct, jsontext
from rpcbroker.core.deadlines import Deadline
from rpcbroker.core.errors import BrokerError
from rpcbroker.core.model import NULL_UUID
from rpcbroker.core.near_misses import NearMiss
from rpcbroker.core.ports import CloseReason
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.core.tasks import Task
from rpcbroker.transports import dialect
from rpcbroker.transports.dialect import BadTopicId
from rpcbroker.transports.mqtt.admission import Admission, Admitted
from rpcbroker.transports.mqtt.carrier import Carrier
from rpcbroker.transports.mqtt.face import NOBODY, Face, Outcome, Refused
from rpcbroker.transports.mqtt.session import Key, MqttSession
from rpcbroker.transports.mqtt.subscribing import subscribe, unsubscribe
from rpcbroker.wire.errors import WireError
from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.connection import ConnectionState, PacketTooLarge, ServerConnection, refusal
from rpcbroker.wire.mqtt.message import Message
from rpcbroker.wire.mqtt.packets import FAILURE, NO_PROPERTIES, ConnectReturnCode, Properties, ReasonCode
from rpcbroker.wire.mqtt.properties import Property

CLOSE_TIMEOUT = 1.0
"""Seconds that a closed connection has to take the last bytes; then it is aborted."""

MAX_UNANSWERED = 64
"""Messages whose acknowledgement waits for the store; the client is read on when some are done."""

_REFUSALS = (Refused, BadTopicId, jsontext.BadJSON, BrokerError)

_KNOWN = (int, Refused)
"""Outcomes that are known: asked so, for to ask whether something is a Deferred takes four times as long."""

_NO_SESSION = MqttSession(Key(NULL_UUID, None, ""), None)

_CLOSE_CODES = {
    CloseReason.TAKEN_OVER: ReasonCode.SESSION_TAKEN_OVER,
    CloseReason.CREDENTIALS_CHANGED: ReasonCode.ADMINISTRATIVE_ACTION,
    CloseReason.RIGHTS_CHANGED: ReasonCode.ADMINISTRATIVE_ACTION,
    CloseReason.DEVICE_DELETED: ReasonCode.ADMINISTRATIVE_ACTION,
    CloseReason.DELIVERY_TIMEOUT: ReasonCode.ADMINISTRATIVE_ACTION,
    CloseReason.SHUTTING_DOWN: ReasonCode.SERVER_SHUTTING_DOWN,
}
_ENDS_THE_SESSION = frozenset({CloseReason.CREDENTIALS_CHANGED, CloseReason.DEVICE_DELETED})

_V3_CODES = {
    ReasonCode.UNSUPPORTED_PROTOCOL_VERSION: ConnectReturnCode.UNACCEPTABLE_PROTOCOL_VERSION,
    ReasonCode.CLIENT_IDENTIFIER_NOT_VALID: ConnectReturnCode.IDENTIFIER_REJECTED,
    ReasonCode.SERVER_UNAVAILABLE: ConnectReturnCode.SERVER_UNAVAILABLE,
    ReasonCode.CONNECTION_RATE_EXCEEDED: ConnectReturnCode.SERVER_UNAVAILABLE,
    ReasonCode.BAD_USER_NAME_OR_PASSWORD: ConnectReturnCode.NOT_AUTHORIZED,
    ReasonCode.NOT_AUTHORIZED: ConnectReturnCode.NOT_AUTHORIZED,
}
"""What a refusal is called in MQTT 3."""


_CLOSED, _AWAITING_DECISION = ConnectionState.CLOSED, ConnectionState.AWAITING_DECISION
_SUCCESS = int(ReasonCode.SUCCESS)
"""As globals: a member of an enumeration takes as long to be found as a function takes to be called."""

_DECIDING, _SLOW, _UNANSWERED = 1, 2, 4
"""Why a client is not read now: it went on before its CONNECT was decided on, it does not read itself, too much of its
waits; a sum. Few do the first, and to stop reading and begin again are two system calls."""


class _Answer:
    """The acknowledgement of one message, in the order in which the messages came (MQTT-4.6.0-2)."""

    __slots__ = ("outcome", "packet")

    def __init__(self, packet: p.Publish, outcome: int | Refused | None) -> None:
        self.packet = packet
        self.outcome = outcome
        """None: not known yet."""


def _closes_by_halves(transport: Any) -> bool:
    """TLS does not, and need not: it waits for the peer's farewell by itself."""
    return IHalfCloseableDescriptor.providedBy(transport) and not ISSLTransport.providedBy(transport)


@implementer(IPushProducer)
class MqttProtocol(Protocol):
    """One connection that speaks MQTT."""

    _log = Logger()
    _face: Face
    _session: MqttSession

    def __init__(self, admission: Admission) -> None:
        # All that there will ever be is set here: Python keeps the attributes of such objects in half the memory.
        self._admission = admission
        self._connection = ServerConnection(admission.limits, admission.clock.seconds())
        self._answers: deque[_Answer] | None = None
        self._carrier: Carrier | None = None
        """None until CONNECT was accepted; session and face are there from then on, too."""
        self._device: DeviceSession | None = None
        self._deciding: Task | None = None
        self._batch: list[bytes] | None = None
        self._deadline: Deadline | None = None
        self._write_deadline: Deadline | None = None
        self._pauses = 0
        self._cause: str | None = None
        self._ended_by_server = True
        self._parted = False
        self._lost = False
        self._face = NOBODY
        self._session = _NO_SESSION

    # -- Twisted's side

    def connectionMade(self) -> None:
        if not self._admission.admit(self.transport):
            self.transport.abortConnection()
            return
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        self._watch()

    def dataReceived(self, data: bytes) -> None:
        """Act on all packets of one read; what is to be said to them goes out in one write."""
        state = self._connection.state
        if state is _CLOSED:
            return
        if state is _AWAITING_DECISION:
            self._pause(_DECIDING)
        self._batch = []
        unseen, reply_follows = True, None
        try:
            for packet in self._connection.receive(data, self._admission.clock.seconds()):
                kind = type(packet)
                if unseen and kind is not p.Disconnect:
                    unseen = False
                    self._face.seen()
                reply_follows = _ACTIONS[kind](self, packet)
                if self._answers and len(self._answers) >= MAX_UNANSWERED:
                    self._pause(_UNANSWERED)
                    break
        except WireError as error:
            self._violation(error)
        finally:
            batch, self._batch = self._batch, None
            if batch:
                self._admission.outgoing.send(self.transport, b"".join(batch) if len(batch) > 1 else batch[0])
        if self._connection.state is _CLOSED:
            self._close()
        elif reply_follows:
            direct.acknowledge(self.transport)  # for which a reply in small writes would wait

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = True
        self._admission.released(self.transport, connected=self._carrier is not None)
        for deadline in (self._deadline, self._write_deadline):
            if deadline is not None:
                deadline.cancel()
        if self._deciding is not None:
            self._deciding.cancel()
        self._part(self._cause or "the connection was lost")

    def pauseProducing(self) -> None:
        """The device does not read: give it no more, and take no more from it."""
        if self._carrier is not None:
            self._carrier.pause()
        self._pause(_SLOW)
        if self._write_deadline is None:
            self._write_deadline = self._after(self._admission.settings.write_timeout, MqttProtocol._abort)

    def resumeProducing(self) -> None:
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None
        if self._is_closed():
            return
        if self._carrier is not None:
            self._carrier.unpause()
        self._read_on(_SLOW)

    def stopProducing(self) -> None:
        """Nothing is produced but answers and calls; they end with the connection."""

    def _pause(self, why: int) -> None:
        if not self._pauses:
            self.transport.pauseProducing()
        self._pauses |= why

    def _read_on(self, why: int) -> None:
        if not self._pauses & why:
            return
        self._pauses &= ~why
        if self._pauses or self._lost or self._is_closed():
            return
        self.transport.resumeProducing()
        if self._batch is None:
            self.dataReceived(b"")  # what had come already

    # -- the beginning

    def _connect(self, packet: p.Connect) -> None:
        code = refusal(packet)
        if code is not None:
            self._refuse(code)
            return
        if self._connection.unread:
            self._pause(_DECIDING)
        deciding = Task(self._decide(packet), self._undecided)
        self._deciding = deciding if deciding.waits else None

    async def _decide(self, packet: p.Connect) -> None:
        try:
            admitted = await self._admission.enter(packet, self.transport)
            if isinstance(admitted, Admitted):
                self._accept(packet, admitted)
            else:
                self._refuse(admitted)
        except BrokerError:
            self._refuse(ReasonCode.SERVER_UNAVAILABLE)
        self._deciding = None
        if self._pauses & _DECIDING:
            self._read_on(_DECIDING)
        else:
            self._connection.waited(self._admission.clock.seconds())

    def _undecided(self, failure: Failure) -> None:
        if not self._lost:
            self._log.failure("a CONNECT could not be decided", failure=failure)
            self._refuse(ReasonCode.SERVER_UNAVAILABLE)

    def _accept(self, packet: p.Connect, admitted: Admitted) -> None:
        if self._lost or self._is_closed():
            return
        connection, admission = self._connection, self._admission
        session, present = admission.session(packet, admitted)
        self._session = session
        self._device = admitted.device
        connack = admission.connack(packet, admitted, session, present=present)
        connection.keep_alive = connack.properties.get(Property.SERVER_KEEP_ALIVE, packet.keep_alive)
        self._carrier = carrier = Carrier(connection, session.outbox, admission.around, self)
        session.way = carrier
        session.will = None if admitted.stranger else packet.will
        self._face, link = admission.face(admitted, session, carrier)
        admission.connected()
        try:
            self.write(connection.send(connack))
        except PacketTooLarge as error:  # MQTT-3.1.2-24
            self._cause = f"not even CONNACK can be sent: {error.message}"
            self.write(connection.farewell(error))
            self._part(self._cause, with_will=False)
            self._close()
            return
        self._watch()
        if link is not None and admitted.device is not None:
            admitted.device.attach(link)
        self._face.seen()
        if present:
            carrier.send_again(admitted.device, link)
            self._face.resumed()

    # -- messages

    def _publish(self, packet: p.Publish) -> None:
        if packet.qos == 2 and self._came_before(packet):
            return
        then: Callable[[], None] | None = None
        try:
            outcome: Outcome | Refused | None = self._face.publish(packet.topic, packet.payload)
            if outcome is None:
                outcome, then = self._publish_free(packet)
        except _REFUSALS as error:
            outcome = self._refusal(packet, error)
        if type(outcome) is int and not self._answers:  # the hot path: known, and no earlier one waits
            if packet.qos == 1:
                packet_id: Any = packet.packet_id
                self.write(self._connection.acknowledge(packet_id, outcome))
            elif packet.qos:
                self._acknowledge(packet, outcome)
        elif packet.qos:
            self._answer(packet, outcome)
        elif not isinstance(outcome, _KNOWN):
            outcome.addErrback(self._failed_later, packet)
        if then is not None:
            then()

    def _came_before(self, packet: p.Publish) -> bool:
        """A QoS 2 message that was taken, and is sent again, is only answered again (MQTT-4.3.3-10)."""
        packet_id = cast(int, packet.packet_id)
        if self._session.has_taken(packet_id):
            self._say(p.PubRec(packet_id))
            return True
        return any(waits.packet.packet_id == packet_id for waits in self._answers or ())

    def _publish_free(self, packet: p.Publish) -> tuple[int, Callable[[], None] | None]:
        admission = self._admission
        possible = self._face.free and admission.pubsub.allowed
        if not possible or dialect.resembles(packet.topic):
            self._face.unheard(packet.topic)
        if not possible:
            raise Refused(ReasonCode.TOPIC_NAME_INVALID, "there is no such topic")
        if not self._face.allows():
            raise Refused(ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR, "more messages than may be sent", ends=True)
        message = Message(
            packet.topic,
            packet.payload,
            packet.qos,
            retain=packet.retain,
            properties=packet.properties,
            now=admission.clock.seconds(),
        )
        rights = admission.rights(self._device)
        code, send = admission.pubsub.publish(self._session.key.tenant_id, rights, message, self._session)
        return code if self._connection.level >= 5 else _SUCCESS, send

    def _refusal(self, packet: p.Publish, error: Exception) -> Refused:
        """What is answered to a message that was not taken. Raises WireError if the connection ends instead."""
        v3 = self._connection.level < 5
        if isinstance(error, (BadTopicId, jsontext.BadJSON)):
            self._face.note(NearMiss.BAD_PAYLOAD, f"has published what cannot be read: {error}")
        if isinstance(error, Refused):
            if error.ends and (v3 or not packet.qos):
                raise WireError(error.message, error.code)
            return error
        broker_error = isinstance(error, BrokerError)
        code = ReasonCode.QUOTA_EXCEEDED if broker_error else ReasonCode.PAYLOAD_FORMAT_INVALID
        if v3 or not packet.qos:
            raise WireError(str(error), ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR if broker_error else code)
        return Refused(code, str(error))

    def _failed_later(self, failure: Failure, packet: p.Publish) -> Refused | None:
        """The refusal of a message that was being worked on, or None if the connection has ended for it."""
        if failure.check(*_REFUSALS) is None:
            self._log.failure("a message could not be worked on", failure=failure)
            failure = Failure(Refused(ReasonCode.UNSPECIFIED_ERROR, "the server failed", ends=True))
        try:
            return self._refusal(packet, failure.value)
        except WireError as error:
            self.end(error.code, error.message)
            return None

    # -- acknowledgements

    def _answer(self, packet: p.Publish, outcome: Outcome | Refused) -> None:
        if not isinstance(outcome, _KNOWN):
            waits = _Answer(packet, None)
            if self._answers is None:
                self._answers = deque()
            self._answers.append(waits)
            outcome.addErrback(self._failed_later, packet)
            outcome.addCallback(self._known, waits)
        elif self._answers:
            self._answers.append(_Answer(packet, outcome))
        else:
            self._acknowledge(packet, outcome)

    def _known(self, outcome: int | Refused | None, waits: _Answer) -> None:
        waits.outcome = outcome
        answers = self._answers
        while answers and answers[0].outcome is not None and not self._is_closed():
            first = answers.popleft()
            self._acknowledge(first.packet, first.outcome)
        if answers is not None and len(answers) < MAX_UNANSWERED // 2:
            self._read_on(_UNANSWERED)

    def _acknowledge(self, packet: p.Publish, outcome: int | Refused | None) -> None:
        if self._connection.state is _CLOSED:
            return
        packet_id: Any = packet.packet_id
        refused = outcome if isinstance(outcome, Refused) else None
        code = refused.code if refused else cast(int, outcome)
        properties: Properties = NO_PROPERTIES
        if refused and refused.message and self._connection.tells_problems:
            properties = {Property.REASON_STRING: refused.message}
        if packet.qos == 1:
            self.write(self._connection.acknowledge(packet_id, code, properties))
        else:
            if code < FAILURE or self._connection.level < 5:
                self._session.take(packet_id)
                code = code if self._connection.level >= 5 else ReasonCode.SUCCESS
            self._say(p.PubRec(packet_id, code, properties))
        if refused and refused.ends:
            self.end(refused.code, refused.message)

    def _release(self, packet: p.PubRel) -> None:
        known = self._session.release(packet.packet_id)
        code = ReasonCode.SUCCESS if known else ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
        self._say(p.PubComp(packet.packet_id, code))

    def _acknowledged(self, packet: p.PubAck | p.PubRec | p.PubComp) -> bool:
        return cast(Carrier, self._carrier).acknowledge(packet)

    # -- subscriptions

    def _subscribe(self, packet: p.Subscribe) -> None:
        face, connection = self._face, self._connection
        done = subscribe(packet, self._session, face, self._admission, self._device, modern=connection.level >= 5)
        said: Properties = NO_PROPERTIES
        if done.problem and connection.tells_problems:
            said = {Property.REASON_STRING: done.problem}
        self._say(p.SubAck(packet.packet_id, done.codes, said))
        if done.granted:
            face.subscribed(done.granted)
        for topic_filter, stream in done.streams:
            cast(Carrier, self._carrier).stream(topic_filter, stream)

    def _unsubscribe(self, packet: p.Unsubscribe) -> None:
        codes, ended = unsubscribe(packet, self._session, self._admission.pubsub)
        cast(Carrier, self._carrier).end_streams(packet.filters)
        self._say(p.UnsubAck(packet.packet_id, codes))
        if ended:
            self._face.unsubscribed(ended)

    def _ping(self, _: p.PingReq) -> None:
        self._say(p.PingResp())

    # -- ends

    def _leave(self, packet: p.Disconnect) -> None:
        self._ended_by_server = False
        expiry = packet.properties.get(Property.SESSION_EXPIRY_INTERVAL)
        if expiry is not None:
            self._session.expiry = min(expiry, int(self._admission.settings.max_session_expiry))
        with_will = packet.code != ReasonCode.SUCCESS  # MQTT-3.14.4-3
        self._part("the device disconnected", with_will=with_will)

    def end(self, code: int, cause: str) -> None:
        """Close the connection, telling a 5.0 client why; it has left its session when this returns."""
        self._cause = self._cause or cause
        if code == ReasonCode.QUOTA_EXCEEDED and self._carrier is not None:
            self._face.note(NearMiss.QUEUE_OVERFLOW, "was disconnected: " + cause)
        if self._connection.state is ConnectionState.OPEN:
            said: Properties = {Property.REASON_STRING: cause}
            self.write(self._connection.send(p.Disconnect(code, said)))
        self._part(cause)
        self._close()

    def disconnect(self, reason: CloseReason) -> None:
        """The broker ends the device's link."""
        if reason in _ENDS_THE_SESSION and self._carrier is not None:
            self._session.expiry = 0
        self.end(_CLOSE_CODES[reason], reason.value)

    def _refuse(self, code: int) -> None:
        if self._lost or self._connection.state is ConnectionState.CLOSED:
            return
        v3 = self._connection.level < 5
        try:
            self.write(self._connection.send(p.ConnAck(False, _V3_CODES.get(ReasonCode(code), code) if v3 else code)))
        except WireError:
            self._cause = "not even a CONNACK is small enough for the client"
        self._close()

    def _violation(self, error: WireError) -> None:
        self._cause = f"protocol violation: {error.message}"
        self._admission.note_violation(self._cause, self.transport.getPeer())
        if self._carrier is not None and error.code == ReasonCode.PACKET_TOO_LARGE:
            self._face.note(NearMiss.OVERSIZED_PACKET, f"has sent {error.message}")
        self.write(self._connection.farewell(error))
        self._part(self._cause)

    def _part(self, cause: str, *, with_will: bool = True) -> None:
        """Leave the session, once."""
        if self._carrier is None or self._parted:
            return
        self._parted = True
        waiting, self._answers = self._answers or (), None
        # A message of QoS 2 that is being worked on is not to be acted on again (MQTT-4.3.3-10).
        taken = (one.packet for one in waiting if not isinstance(one.outcome, Refused))
        for packet in taken:
            if packet.qos == 2:
                self._session.take(cast(int, packet.packet_id))
        self._carrier.stop()
        self._face.gone(cause)
        self._admission.sessions.left(self._session, with_will=with_will)

    def _close(self) -> None:
        """Let the last bytes out, for a second at most."""
        if self._lost or self._batch is not None:
            return
        self._admission.outgoing.flush()
        transport = self.transport
        transport.unregisterProducer()
        if self._ended_by_server and _closes_by_halves(transport):
            # Closing both halves while the client still sends would have its own network drop our reason unread.
            transport.loseWriteConnection()
            transport.resumeProducing()
        else:
            transport.loseConnection()
        self._after(CLOSE_TIMEOUT, MqttProtocol._abort)

    def _abort(self) -> None:
        if not self._lost:
            self._cause = self._cause or "the device does not read what is sent to it"
            self.transport.abortConnection()

    def too_large(self, topic: str, size: int) -> None:
        """A message was larger than the client takes."""
        detail = f"was to be sent {size} bytes on {topic[:80]}, which is more than its Maximum Packet Size"
        self._face.note(NearMiss.OVERSIZED_DOWNLINK, detail)

    # -- time and bytes

    def _is_closed(self) -> bool:
        return self._connection.state is _CLOSED

    def _after(self, seconds: float, action: Callable[[MqttProtocol], None]) -> Deadline:
        return self._admission.around.deadlines.after(seconds, action, self)

    def _watch(self) -> None:
        """Look again when the connection's next deadline may have passed."""
        if self._deadline is not None:
            self._deadline.cancel()
        due = self._connection.next_deadline()
        self._deadline = None
        if due is not None:
            self._deadline = self._after(due - self._admission.clock.seconds(), MqttProtocol._check_deadline)

    def _check_deadline(self) -> None:
        self._deadline = None
        due = self._connection.next_deadline()
        if due is None or self._is_closed():
            return
        if due > self._admission.clock.seconds():
            self._watch()
        elif self._connection.state is ConnectionState.OPEN:
            self.end(ReasonCode.KEEP_ALIVE_TIMEOUT, "keep-alive timed out")
        else:
            self._cause = "CONNECT did not come in time"
            self.transport.abortConnection()

    def _say(self, packet: p.Packet) -> None:
        """Send it, unless what the client asked for has ended the connection."""
        if not self._is_closed():
            self.write(self._connection.send(packet))

    def write(self, data: bytes) -> None:
        """Send bytes: now, or with what else one read leads to."""
        if not data:
            return
        if self._batch is not None:
            self._batch.append(data)
        else:
            self._admission.outgoing.send(self.transport, data)


_ACTIONS: dict[type[Any], Callable[[MqttProtocol, Any], bool | None]] = {
    p.Publish: MqttProtocol._publish,
    p.PubAck: MqttProtocol._acknowledged,
    p.PubRec: MqttProtocol._acknowledged,
    p.PubRel: MqttProtocol._release,
    p.PubComp: MqttProtocol._acknowledged,
    p.PingReq: MqttProtocol._ping,
    p.Subscribe: MqttProtocol._subscribe,
    p.Unsubscribe: MqttProtocol._unsubscribe,
    p.Connect: MqttProtocol._connect,
    p.Disconnect: MqttProtocol._leave,
}
"""True: it was the acknowledgement of a call, whose reply may come next."""
