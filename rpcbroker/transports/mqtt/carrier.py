"""The way out of one open MQTT connection: calls, answers, and messages for its client."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from rpcbroker.core.calls import Call, Step
from rpcbroker.core.deadlines import Deadline, Deadlines
from rpcbroker.core.errors import NoActiveConnection, Reason, Undeliverable
from rpcbroker.core.ports import CloseReason, Link
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.core.settings import MqttSettings
from rpcbroker.transports import dialect
from rpcbroker.transports.mqtt.session import QueueLimits
from rpcbroker.transports.mqtt.streams import Streams
from rpcbroker.wire.mqtt.connection import PacketTooLarge, ServerConnection
from rpcbroker.wire.mqtt.message import Message
from rpcbroker.wire.mqtt.outbox import Delivery, Outbox
from rpcbroker.wire.mqtt.packets import FAILURE, PubAck, PubComp, PubRec, PubRel, ReasonCode

_ACKNOWLEDGED = Step.ACKNOWLEDGED
"""As a global: a member of an enumeration takes as long to be found as a function takes to be called."""


@dataclass(slots=True)
class Drops:
    """Messages that did not go out, by why, of all connections."""

    slow: int = 0
    """QoS 0, for a client that does not read fast enough."""
    offline: int = 0
    """For a session whose client is away and whose queue is full."""
    too_large: int = 0
    """Larger than the client takes: MQTT-3.1.2-25."""


@dataclass(slots=True, kw_only=True)
class Surroundings:
    """What all connections share. `settings` is asked for at each use, for they may change."""

    deadlines: Deadlines
    seconds: Callable[[], float]
    settings: Callable[[], MqttSettings]
    drops: Drops = field(default_factory=Drops)

    def queue_limits(self) -> QueueLimits:
        settings = self.settings()
        return QueueLimits(settings.max_queued_messages, settings.max_queued_size)


class Ticket:
    """Whose call a message in flight is, and when its acknowledgement is overdue."""

    __slots__ = ("deadline", "session", "wire_id")

    def __init__(self, session: DeviceSession, wire_id: int) -> None:
        self.session = session
        self.wire_id = wire_id
        self.deadline: Deadline | None = None

    def settle(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None


class Peer(Protocol):
    """The connection, as what is sent over it sees it."""

    def write(self, data: bytes) -> None: ...

    def end(self, code: int, cause: str) -> None:
        """Close it, with this reason code; it has left its session when this returns."""

    def disconnect(self, reason: CloseReason) -> None:
        """Close it because the broker ends the device's link."""

    def too_large(self, topic: str, size: int) -> None:
        """Hear of a message that was dropped, being larger than the client takes."""


class Carrier:
    """What is sent over one connection, and what is not now because the client takes no more."""

    __slots__ = (
        "_again",
        "_around",
        "_connection",
        "_outbox",
        "_overdue",
        "_paused",
        "_peer",
        "_starved",
        "_streams",
        "_unread",
    )

    def __init__(
        self,
        connection: ServerConnection,
        outbox: Outbox,
        around: Surroundings,
        peer: Peer,
    ) -> None:
        self._connection = connection
        self._outbox = outbox
        self._around = around
        self._peer = peer
        self._paused = False
        self._unread = 0
        """Bytes of QoS 0 that it was given since it does not read."""
        self._starved: dict[Link, DeviceSession] | None = None
        self._overdue: dict[tuple[DeviceSession, int], Ticket] | None = None
        """Calls in flight whose acknowledgement did not come in time, by session and wire id; None for most."""
        self._streams: Streams | None = None
        self._again: deque[tuple[int, Link | None]] | None = None
        outbox.window = min(connection.client_receive_maximum, around.settings().max_inflight)

    @property
    def level(self) -> int:
        """The protocol level: 3, 4 or 5."""
        return self._connection.level

    @property
    def paused(self) -> bool:
        """Whether the client does not read what was sent to it."""
        return self._paused

    def end(self, code: int, cause: str) -> None:
        """See Peer."""
        self._peer.end(code, cause)

    def disconnect(self, reason: CloseReason) -> None:
        """See Peer."""
        self._peer.disconnect(reason)

    # -- calls

    def carry(self, session: DeviceSession, link: Link, call: Call, topic: str, payload: bytes, qos: int) -> bool:
        """Write a call and report to `session` what becomes of it.

        False: not now; `session.resume(link)` is called when there is room. A call that was not acknowledged in time
        goes out once more, under a new packet identifier; what is in flight keeps its place until it is acknowledged,
        or the connection ends (MQTT-3.3.4-9, 4.4). Where there is no place for a second one, that one is awaited anew.
        """
        if self._paused or (qos and not self._outbox.has_room):
            overdue = self._overdue.get((session, call.wire_id)) if self._overdue else None
            if overdue is not None:
                self._await(overdue)
                return True
            if self._starved is None:
                self._starved = {}
            self._starved[link] = session
            return False
        wire_id = call.wire_id
        packet_id = None
        if qos:
            ticket = Ticket(session, wire_id)
            packet_id = self._outbox.sent(Delivery(Message(topic, payload, 1), 1, ticket=ticket))
        try:
            data = self._connection.publish(topic, payload, packet_id=packet_id)
        except PacketTooLarge:
            if packet_id is not None:
                self._outbox.withdraw(packet_id)
            self._drop_too_large(topic, len(payload))
            session.report(wire_id, Step.FAILED, _call_too_large(len(payload)))
            return True
        self._peer.write(data)
        if packet_id is None:
            session.report(wire_id, _ACKNOWLEDGED)
        else:
            self._await(ticket)
        return True

    def _await(self, ticket: Ticket) -> None:
        # A call with less time left than this ends by itself before.
        seconds = self._around.settings().ack_timeout
        ticket.deadline = self._around.deadlines.after(seconds, self._unacknowledged, ticket)
        ticket.session.report(ticket.wire_id, Step.WRITTEN)

    def _unacknowledged(self, ticket: Ticket) -> None:
        if self._overdue is None:
            self._overdue = {}
        self._overdue[ticket.session, ticket.wire_id] = ticket
        ticket.session.report(ticket.wire_id, Step.UNACKNOWLEDGED)

    # -- everything else

    def publish(self, topic: str, payload: bytes, qos: int) -> bool:
        """Something that nobody waits for: an answer, an update. False: it is dropped."""
        return self.deliver(Delivery(Message(topic, payload, qos), qos))

    def deliver(self, delivery: Delivery) -> bool:
        """Send it now or, of QoS 1 and 2, when there is room; the client that leaves too much waiting is closed.

        False: it is dropped.
        """
        outbox = self._outbox
        if not delivery.qos:
            return self._deliver_at_most_once(delivery)
        if outbox.has_room and not self._paused:
            return self._transmit(delivery, outbox.sent(delivery))
        if self._around.queue_limits().has_room(outbox, delivery):
            outbox.put(delivery)
            return True
        self.end(ReasonCode.QUOTA_EXCEEDED, "too many messages wait for this client")
        return False

    def _deliver_at_most_once(self, delivery: Delivery) -> bool:
        """A client that does not read is given a little more, for a burst may look like that; then it is dropped."""
        if self._paused:
            self._unread += delivery.message.size
            if self._unread > self._around.settings().max_queued_size:
                self._around.drops.slow += 1
                return False
        return self._transmit(delivery, None)

    def stream(self, topic_filter: str, deliveries: Iterator[Delivery | int]) -> None:
        """Send these as fast as the client takes them, each made when it is its turn; see Streams."""
        if self._streams is None:
            self._streams = Streams()
        self._streams.add(topic_filter, deliveries)
        self._pump()

    def end_streams(self, topic_filters: Iterable[str]) -> None:
        """Send no more of these."""
        if self._streams is not None:
            self._streams.discard(topic_filters)

    def _transmit(self, delivery: Delivery, packet_id: int | None, *, dup: bool = False) -> bool:
        """False: it is more than the client takes, and dropped (MQTT-3.1.2-25)."""
        connection, message = self._connection, delivery.message
        alias, named = 0, True
        if connection.takes_aliases and not message.topic.startswith(dialect.RESERVED):
            alias, named = connection.alias(message.topic)
        data = message.frame(
            level=connection.level,
            qos=delivery.qos,
            packet_id=packet_id,
            now=self._around.seconds(),
            dup=dup,
            retain=delivery.retain,
            identifiers=delivery.identifiers,
            alias=alias,
            name_topic=named,
        )
        if connection.takes(data):
            self._peer.write(data)
            return True
        if packet_id is not None:
            self._outbox.withdraw(packet_id)
        if alias and named:
            connection.unalias(message.topic)
        self._drop_too_large(message.topic, len(data))
        return False

    def _drop_too_large(self, topic: str, size: int) -> None:
        self._around.drops.too_large += 1
        self._peer.too_large(topic, size)

    # -- what the client has

    def acknowledge(self, packet: PubAck | PubRec | PubComp) -> bool:
        """The client tells how far it is with a message; whether that was a call, which it has now."""
        delivery, answer = self._outbox.acknowledge(packet)
        if answer is not None:
            self._peer.write(self._connection.send(answer))
        if delivery is None:
            return False
        ticket = delivery.ticket
        if is_call := isinstance(ticket, Ticket):
            ticket.settle()
            if self._overdue:
                self._overdue.pop((ticket.session, ticket.wire_id), None)
            if packet.code < FAILURE:
                ticket.session.report(ticket.wire_id, Step.ACKNOWLEDGED)
            else:
                ticket.session.report(ticket.wire_id, Step.FAILED, _refused(packet.code))
        self.resume()
        return is_call

    # -- pauses and ends

    def pause(self) -> None:
        """The client does not read what was sent to it. Twisted says so again at each write meanwhile."""
        if not self._paused:
            self._paused = True
            self._unread = 0

    def unpause(self) -> None:
        self._paused = False
        self.resume()

    def resume(self) -> None:
        """There may be room again: for what waits here first, then for calls."""
        if self._paused:
            return
        outbox = self._outbox
        if self._again:
            self._repeat()
        if outbox.queued:
            now = self._around.seconds()
            while (delivery := outbox.next(now)) is not None:
                self._transmit(delivery, outbox.sent(delivery))
        self._pump()
        if self._starved and outbox.has_room and not self._paused:
            starved, self._starved = self._starved, None
            for link, session in starved.items():
                session.resume(link)

    def _pump(self) -> None:
        """Send of the streams what may go out in this turn; the next one goes on with the rest."""
        streams = self._streams
        if streams is None:
            return
        while not self._paused and self._outbox.has_room and not streams.finished:
            if streams.turn is None:
                streams.turn = self._around.deadlines.after(0, self._pump_on, streams)
            delivery = streams.take()
            if delivery is None:
                break
            self.deliver(delivery)
        if streams.finished and streams.turn is None:
            self._streams = None

    def _pump_on(self, streams: Streams) -> None:
        streams.renew()
        self._pump()

    def send_again(self, session: DeviceSession | None, link: Link | None) -> None:
        """What an earlier connection left in flight goes out once more, in order (MQTT-4.4.0-1).

        A call goes out only if `session` still waits for its acknowledgement; then `link` has it. It goes out once,
        however often it went out before.
        """
        again = self._again = deque()
        calls = set[int]()
        for packet_id, delivery in self._outbox.unfinished():
            ticket = delivery.ticket
            if delivery.awaits_release:
                self._peer.write(self._connection.send(PubRel(packet_id)))
            elif not isinstance(ticket, Ticket):
                again.append((packet_id, None))
            elif (
                ticket.session is session
                and link is not None
                and ticket.wire_id not in calls
                and session.hand_to(ticket.wire_id, link)
            ):
                calls.add(ticket.wire_id)
                again.append((packet_id, link))
            else:
                self._outbox.withdraw(packet_id)
        self.resume()

    def _repeat(self) -> None:
        """Go on with what is sent again, for this client may take less at once than it did (MQTT-3.3.4-9)."""
        again, outbox = self._again, self._outbox
        while again and not self._paused and outbox.in_flight - len(again) < outbox.window:
            packet_id, link = again.popleft()
            delivery = outbox.get(packet_id)
            if delivery is None or delivery.awaits_release:
                continue
            ticket = delivery.ticket
            if link is None:
                self._transmit(delivery, packet_id, dup=True)
            elif not ticket.session.hand_to(ticket.wire_id, link):
                outbox.withdraw(packet_id)
            elif self._transmit(delivery, packet_id, dup=True):
                self._await(ticket)
            else:
                size = len(delivery.message.payload)
                ticket.session.report(ticket.wire_id, Step.FAILED, _call_too_large(size))

    def stop(self) -> None:
        """The connection has ended: no acknowledgement comes any more."""
        self._paused = True
        self._starved = None
        self._overdue = None
        if self._streams is not None:
            self._streams.stop()
            self._streams = None
        self._again = None
        for _, delivery in self._outbox.unfinished():
            if isinstance(delivery.ticket, Ticket):
                delivery.ticket.settle()


def _call_too_large(size: int) -> Undeliverable:
    return Undeliverable(
        "The call is larger than the device takes",
        reason=Reason.TOO_LARGE,
        hint=f"The message has {size} bytes; the device announced a smaller Maximum Packet Size.",
    )


def _refused(code: int) -> NoActiveConnection:
    return NoActiveConnection(
        "The device refused the call",
        reason=Reason.REFUSED,
        hint=f"Its acknowledgement carries the reason code 0x{code:02X}.",
    )
