"""The sender's half of QoS 1 and 2 for one client, without I/O: what is in flight, and what waits for its turn.

It belongs to a session, so it outlives connections (MQTT 4.1, 4.4). What is sent when is the caller's business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import Enum, auto
from typing import Any

from rpcbroker.wire.errors import WireError
from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.message import Message
from rpcbroker.wire.mqtt.packets import FAILURE, ReasonCode


class Stage(Enum):
    """Where the handshake of a message in flight stands."""

    AWAITING_PUBACK = auto()
    AWAITING_PUBREC = auto()
    AWAITING_PUBCOMP = auto()


_S = Stage
_AWAITING_PUBACK, _AWAITING_PUBREC, _AWAITING_PUBCOMP = _S
TRANSITIONS: dict[tuple[Stage, type[Any]], Stage | None] = {
    (_S.AWAITING_PUBACK, p.PubAck): None,
    (_S.AWAITING_PUBREC, p.PubRec): _S.AWAITING_PUBCOMP,
    (_S.AWAITING_PUBCOMP, p.PubRec): _S.AWAITING_PUBCOMP,  # sent again: the PUBREL was lost
    (_S.AWAITING_PUBCOMP, p.PubComp): None,
}
"""(stage, packet) -> stage; None is the end. A pair that is not here is a protocol error. 4.3.2, 4.3.3"""


class Delivery:
    """One message for one client.

    `ticket` is the sender's, who wants to know when it has arrived; `group` whoever may give it to another
    client if this one is gone for good.
    """

    __slots__ = ("group", "identifiers", "message", "qos", "retain", "stage", "ticket")

    def __init__(
        self, message: Message, qos: int, *, retain: bool = False, identifiers: Sequence[int] = (), ticket: Any = None
    ) -> None:
        self.message = message
        self.qos = qos
        self.retain = retain
        self.identifiers = identifiers
        self.ticket = ticket
        self.group: Any = None
        self.stage = _AWAITING_PUBACK if qos == 1 else _AWAITING_PUBREC

    @property
    def awaits_release(self) -> bool:
        """Whether the client has the message, and only its PUBCOMP is missing."""
        return self.stage is _AWAITING_PUBCOMP


_NOTHING: dict[int, Delivery] = {}
"""What is in flight to the many clients that were never sent anything; nothing is put in here."""


class Outbox:
    """All messages of QoS 1 and 2 that one client has not finished with, oldest first."""

    __slots__ = ("_in_flight", "_last_packet_id", "_queue", "queued_bytes", "window")

    def __init__(self) -> None:
        self.window = 0xFFFF
        """How many may be in flight; the client's Receive Maximum, or less."""
        self.queued_bytes = 0
        self._in_flight: dict[int, Delivery] = _NOTHING
        self._queue: deque[Delivery] | None = None  # a thousand idle clients need none
        self._last_packet_id = 0

    @property
    def queued(self) -> int:
        """Messages that wait for their turn."""
        return len(self._queue) if self._queue else 0

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    @property
    def has_room(self) -> bool:
        """Whether a message may be sent now, before none that waits (MQTT-3.3.4-9, 4.6)."""
        return not self._queue and len(self._in_flight) < self.window

    def put(self, delivery: Delivery) -> None:
        """Let it wait for its turn."""
        if self._queue is None:
            self._queue = deque()
        self._queue.append(delivery)
        self.queued_bytes += delivery.message.size

    def next(self, now: float) -> Delivery | None:
        """The next one whose turn it is, taken out of the queue; what has expired is passed over."""
        while self._queue and len(self._in_flight) < self.window:
            delivery = self._queue.popleft()
            self.queued_bytes -= delivery.message.size
            if not delivery.message.expired(now):  # MQTT-3.3.2-5
                return delivery
        return None

    def sent(self, delivery: Delivery) -> int:
        """It is in flight from now on, under the packet identifier that comes back (MQTT-2.2.1-4)."""
        if self._in_flight is _NOTHING:
            self._in_flight = {}
        packet_id = self._last_packet_id
        while True:
            packet_id = packet_id % 0xFFFF + 1
            if packet_id not in self._in_flight:
                break
        self._last_packet_id = packet_id
        self._in_flight[packet_id] = delivery
        return packet_id

    def get(self, packet_id: int) -> Delivery | None:
        """What is in flight under this packet identifier."""
        return self._in_flight.get(packet_id)

    def acknowledge(self, packet: p.PubAck | p.PubRec | p.PubComp) -> tuple[Delivery | None, p.PubRel | None]:
        """What the client has finished with by this packet, and what it has to be answered.

        What is not in flight is none of its business any more: a PUBREC of such is answered, so that it ends.
        Raises WireError for a packet that does not belong to the handshake.
        """
        delivery = self._in_flight.get(packet.packet_id)
        if delivery is None:
            unknown = isinstance(packet, p.PubRec) and packet.code < FAILURE
            return None, p.PubRel(packet.packet_id) if unknown else None
        if (delivery.stage, type(packet)) not in TRANSITIONS:
            raise WireError(f"{type(packet).__name__} while {delivery.stage.name}", ReasonCode.PROTOCOL_ERROR)
        following = TRANSITIONS[delivery.stage, type(packet)]
        if following is None or packet.code >= FAILURE:  # MQTT-4.3.3-4: no PUBREL after a refusal
            del self._in_flight[packet.packet_id]
            return delivery, None
        delivery.stage = following
        return None, p.PubRel(packet.packet_id)

    def withdraw(self, packet_id: int) -> None:
        """It is not in flight any more: it could not be sent, or there is no use in it now."""
        self._in_flight.pop(packet_id, None)

    def unfinished(self) -> tuple[tuple[int, Delivery], ...]:
        """What is in flight, in the order in which it was sent first: a new connection sends it again (4.4)."""
        return tuple(self._in_flight.items())

    def clear(self) -> list[Delivery]:
        """Forget everything; what it was comes back."""
        left = [*self._in_flight.values(), *(self._queue or ())]
        self._in_flight.clear()
        self._queue = None
        self.queued_bytes = 0
        return left
