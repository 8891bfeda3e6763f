"""One MQTT session: what is kept of a client while its connection is away (MQTT 5.0, 4.1)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple, Protocol
from uuid import UUID

from rpcbroker.core.deadlines import Deadline
from rpcbroker.wire.mqtt.outbox import Delivery, Outbox
from rpcbroker.wire.mqtt.packets import Will

FOREVER = 0xFFFFFFFF  # 3.1.2.11.2


class Key(NamedTuple):
    """Whose session it is: a client identifier means something within a tenant only, or within one device."""

    tenant_id: UUID
    device_id: UUID | None
    client_id: str


class Held(NamedTuple):
    """A free subscription as a session has it (MQTT 5.0, 3.8.3.1); `identifier` 0 is none."""

    qos: int
    no_local: bool = False
    retain_as_published: bool = False
    identifier: int = 0


class QueueLimits(NamedTuple):
    """How much may wait for one client."""

    messages: int
    size: int

    def has_room(self, outbox: Outbox, delivery: Delivery) -> bool:
        """One message may wait however large it is: it came in one packet."""
        fits = not outbox.queued or outbox.queued_bytes + delivery.message.size <= self.size
        return outbox.queued < self.messages and fits


class Way(Protocol):
    """The way to a client that is connected."""

    @property
    def paused(self) -> bool: ...

    def deliver(self, delivery: Delivery) -> bool: ...

    def end(self, code: int, cause: str) -> None:
        """Close the connection; it has left its session when this returns."""


@lru_cache(maxsize=256)
def _shared(granted: tuple[tuple[str, int], ...]) -> MappingProxyType[str, int]:
    """One for all sessions that were granted the same, as nearly all are."""
    return MappingProxyType(dict(granted))


class MqttSession:
    """The state of one client. `owner` is the id of its device, None for a client without credentials."""

    __slots__ = (
        "_subscriptions",
        "_taken",
        "expiry",
        "expiry_deadline",
        "granted",
        "key",
        "outbox",
        "owner",
        "way",
        "will",
        "will_deadline",
    )

    def __init__(self, key: Key, owner: UUID | None) -> None:
        self.key = key
        self.owner = owner
        self.expiry = 0
        """Seconds that it is kept without a connection."""
        self.granted: MappingProxyType[str, int] = _shared(())
        """Filters of the device API -> QoS, in the order in which they were last asked for."""
        self._subscriptions: dict[str, Held] | None = None
        self.outbox = Outbox()
        self._taken: set[int] | None = None
        """Packet identifiers of QoS 2 messages whose PUBREL is awaited; None for most, who never send any."""
        self.way: Way | None = None
        """None while the client is not connected."""
        self.will: Will | None = None
        self.will_deadline: Deadline | None = None
        self.expiry_deadline: Deadline | None = None

    # -- subscriptions

    @property
    def subscriptions(self) -> dict[str, Held]:
        """Free filters; most clients have none."""
        if self._subscriptions is None:
            self._subscriptions = {}
        return self._subscriptions

    @property
    def filters(self) -> int:
        """How many filters it is subscribed to."""
        return len(self.granted) + len(self._subscriptions or ())

    def grant(self, topic_filter: str, qos: int) -> None:
        """A filter of the device API; from now on it is the one that was asked for last."""
        self.granted = _shared((*self._granted_but(topic_filter), (topic_filter, qos)))

    def granted_qos(self, topic_filter: str) -> int | None:
        """The QoS of exactly this filter of the device API, if it was granted."""
        return self.granted.get(topic_filter)

    def revoke(self, topic_filter: str) -> bool:
        """False if it was not granted."""
        there = topic_filter in self.granted
        if there:
            self.granted = _shared(self._granted_but(topic_filter))
        return there

    def _granted_but(self, topic_filter: str) -> tuple[tuple[str, int], ...]:
        return tuple(item for item in self.granted.items() if item[0] != topic_filter)

    # -- QoS 2 messages from the client

    def take(self, packet_id: int) -> None:
        """This message was acted on: if it comes again it is only answered again (MQTT-4.3.3-10)."""
        if self._taken is None:
            self._taken = set()
        self._taken.add(packet_id)

    def has_taken(self, packet_id: int) -> bool:
        return self._taken is not None and packet_id in self._taken

    def release(self, packet_id: int) -> bool:
        """The client sends it no more; its identifier may be used again. False if it was not taken."""
        if self._taken is None or packet_id not in self._taken:
            return False
        self._taken.remove(packet_id)
        return True

    # -- messages for the client

    @property
    def readiness(self) -> int:
        """How soon it can take a message: 2 at once, 1 it is connected, 0 it may come again."""
        if self.way is None:
            return 0
        return 1 if self.way.paused or not self.outbox.has_room else 2

    def deliver(self, delivery: Delivery, limits: Callable[[], QueueLimits]) -> bool:
        """Send it now, or keep it. False: it was dropped, for nobody is there and there is no room for more."""
        if self.way is not None:
            self.way.deliver(delivery)
            return True
        if not delivery.qos or not limits().has_room(self.outbox, delivery):
            return False
        self.outbox.put(delivery)
        return True
