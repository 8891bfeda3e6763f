"""The topics of one tenant that are free: what its clients publish for each other, and nobody else sees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rpcbroker.transports.mqtt.session import Held, MqttSession
from rpcbroker.wire.mqtt import topics
from rpcbroker.wire.mqtt.message import Message
from rpcbroker.wire.mqtt.outbox import Delivery
from rpcbroker.wire.mqtt.subscription_tree import SubscriptionTree
from rpcbroker.wire.mqtt.topic_tree import TopicTree


class ShareGroup:
    """The sessions that share one filter under one name: each message is for one of them (4.8.2)."""

    __slots__ = ("_turn", "members")

    def __init__(self) -> None:
        self.members: dict[MqttSession, Held] = {}
        self._turn = 0

    def delivery(self, message: Message) -> tuple[MqttSession, Delivery] | None:
        """Whose turn it is, and what it is given; None if nobody is left."""
        if not self.members:
            return None
        chosen = self._choose()
        delivery = _delivery(message, self.members[chosen])
        delivery.group = self
        return chosen, delivery

    def _choose(self) -> MqttSession:
        """First those who can take it at once, then those who are connected, then any."""
        members = list(self.members)
        turn = self._turn % len(members)
        self._turn += 1
        in_turn = members[turn:] + members[:turn]
        return max(in_turn, key=lambda member: member.readiness)  # the first of the readiest


Subscriber = MqttSession | ShareGroup


_FORGETTING = 10
"""Steps of a search that it takes as long as, beside one for each level."""


class RetainedLimits(NamedTuple):
    """Of one tenant; `size` is in bytes of topics, payloads and properties."""

    messages: int
    size: int


class TopicSpace:
    """Who listens to which filter, and which messages are retained. All in memory: a restart empties it."""

    def __init__(self) -> None:
        self._subscriptions: SubscriptionTree[Subscriber, Held] = SubscriptionTree()
        self._groups: dict[tuple[str, str], ShareGroup] = {}
        self._retained: TopicTree[Message] = TopicTree()
        self._retained_bytes = 0

    # -- subscriptions

    def subscribe(self, session: MqttSession, topic_filter: str, held: Held) -> None:
        """Add the subscription, or put it in the place of an older one to the same filter (MQTT-3.8.4-3)."""
        share = topics.shared(topic_filter)
        if share is None:
            self._subscriptions.add(topic_filter, session, held)
            return
        group = self._groups.get(share)
        if group is None:
            group = self._groups[share] = ShareGroup()
            self._subscriptions.add(share[1], group, held)
        group.members[session] = held

    def unsubscribe(self, session: MqttSession, topic_filter: str) -> None:
        share = topics.shared(topic_filter)
        if share is None:
            self._subscriptions.discard(topic_filter, session)
            return
        group = self._groups.get(share)
        if group is not None:
            group.members.pop(session, None)
            if not group.members:
                del self._groups[share]
                self._subscriptions.discard(share[1], group)

    # -- messages

    def deliveries(self, message: Message, origin: MqttSession | None) -> list[tuple[MqttSession, Delivery]]:
        """Who is to be given the message, and how: each session once, with the highest QoS that it asked for (3.3.4).

        A session that shares a subscription gets what falls to it beside its own.
        """
        found: dict[MqttSession, Delivery] = {}
        shared: list[tuple[MqttSession, Delivery]] = []
        for subscriber, held in self._subscriptions.match(message.topic):
            if isinstance(subscriber, ShareGroup):
                turn = subscriber.delivery(message)
                if turn is not None:
                    shared.append(turn)
                continue
            if held.no_local and subscriber is origin:  # MQTT-3.8.3-3
                continue
            before = found.get(subscriber)
            found[subscriber] = _delivery(message, held) if before is None else _merged(before, message, held)
        return [*found.items(), *shared] if shared else list(found.items())

    def retain(self, message: Message, limits: RetainedLimits) -> bool:
        """Keep it in place of the topic's older one; an empty one only ends that. False: there are too many."""
        topic = message.topic
        if not message.payload:
            self._forget(topic)  # MQTT-3.3.1-6, -7
            return True
        older = self._retained.get(topic)
        count = len(self._retained) + (older is None)
        size = self._retained_bytes + message.size - (older.size if older else 0)
        if count > limits.messages or size > limits.size:
            return False
        self._retained.put(topic, message)
        self._retained_bytes = size
        return True

    def retained(self, topic_filter: str, now: float) -> Iterator[Message | int]:
        """The messages that a new subscriber is given, found step by step; a number counts steps that found none."""
        for found in self._retained.search(topic_filter):
            if found is None:
                yield 1
                continue
            topic, message = found
            if message.expired(now):
                self._forget(topic)
                yield _FORGETTING + topic.count("/")
            else:
                yield message

    def _forget(self, topic: str) -> None:
        older = self._retained.pop(topic)
        if older is not None:
            self._retained_bytes -= older.size

    def __bool__(self) -> bool:
        """Whether there is anything in it."""
        return bool(len(self._subscriptions) or len(self._retained))


def _delivery(message: Message, held: Held) -> Delivery:
    return Delivery(
        message,
        min(message.qos, held.qos) if message.qos else 0,  # MQTT-3.8.4-8
        retain=message.retain and held.retain_as_published,  # MQTT-3.3.1-12, -13
        identifiers=(held.identifier,) if held.identifier else (),
    )


def _merged(before: Delivery, message: Message, held: Held) -> Delivery:
    other = _delivery(message, held)
    return Delivery(
        message,
        max(before.qos, other.qos),
        retain=before.retain or other.retain,
        identifiers=(*before.identifiers, *other.identifiers),
    )
