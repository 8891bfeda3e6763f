"""Ordinary publish and subscribe between the clients of one tenant, where the operator allows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import UUID

from rpcbroker.transports import dialect
from rpcbroker.transports.mqtt.carrier import Surroundings
from rpcbroker.transports.mqtt.face import Refused
from rpcbroker.transports.mqtt.rights import Rights
from rpcbroker.transports.mqtt.session import Held, MqttSession
from rpcbroker.transports.mqtt.space import RetainedLimits, TopicSpace
from rpcbroker.wire.errors import WireError
from rpcbroker.wire.mqtt import topics
from rpcbroker.wire.mqtt.message import Message
from rpcbroker.wire.mqtt.outbox import Delivery
from rpcbroker.wire.mqtt.packets import ReasonCode, Subscription

TENANT = "tenant"

_LOOKING = 10
"""Steps of a search that it takes as long as to see whether a denied filter matches."""


class PubSub:
    """The free topics of all tenants; none sees another's."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._spaces: dict[UUID, TopicSpace] = {}

    @property
    def allowed(self) -> bool:
        return self._around.settings().pubsub == TENANT

    # -- publish

    def publish(
        self, tenant_id: UUID, rights: Rights, message: Message, origin: MqttSession | None
    ) -> tuple[int, Callable[[], None]]:
        """The code of the acknowledgement, and what gives the message to those who listen. Raises Refused."""
        self._check_topic(message.topic, rights)
        space = self._spaces.get(tenant_id)
        if message.retain:
            if space is None:
                space = self._spaces[tenant_id] = TopicSpace()
            settings = self._around.settings()
            if not space.retain(message, RetainedLimits(settings.max_retained, settings.max_retained_size)):
                raise Refused(ReasonCode.QUOTA_EXCEEDED, "too many messages are retained")
        found = space.deliveries(message, origin) if space is not None else ()
        if not found:
            return ReasonCode.NO_MATCHING_SUBSCRIBERS, lambda: None

        def send() -> None:
            for session, delivery in found:
                self._send(session, delivery)

        return ReasonCode.SUCCESS, send

    def _check_topic(self, topic: str, rights: Rights) -> None:
        if topic.count("/") >= self._around.settings().max_topic_levels:
            raise Refused(ReasonCode.TOPIC_NAME_INVALID, "the topic has too many levels")
        if topic.startswith("$"):  # MQTT-4.7.2-1: not for clients to send to each other
            raise Refused(ReasonCode.NOT_AUTHORIZED, "")
        if topic.startswith(dialect.RESERVED):
            raise Refused(ReasonCode.TOPIC_NAME_INVALID, "this topic is the server's")
        if not rights.may_publish(topic):
            raise Refused(ReasonCode.NOT_AUTHORIZED, "the device may not publish to this topic")

    def _send(self, session: MqttSession, delivery: Delivery) -> None:
        if session.owner is None and not self.anonymous_rights().may_receive(delivery.message.topic):
            return
        if not session.deliver(delivery, self._around.queue_limits) and delivery.qos:
            self._around.drops.offline += 1

    def anonymous_rights(self) -> Rights:
        """Those of clients without credentials."""
        return Rights(denied=self._around.settings().anonymous_deny)

    # -- subscribe

    def subscribe(
        self, session: MqttSession, rights: Rights, wanted: Subscription, identifier: int
    ) -> Iterator[Delivery | int] | None:
        """Add a subscription; what comes back are the retained messages that go with it, made as they are taken.

        They are looked for meanwhile: a number counts steps that found none.

        None if the client does not want them now: what it was to be given before is still due (MQTT-3.8.4-3).

        Raises Refused, and WireError for a filter that is malformed.
        """
        topic_filter = wanted.filter
        share = topics.shared(topic_filter)
        if not rights.may_subscribe(topic_filter):
            raise Refused(ReasonCode.NOT_AUTHORIZED, "the client may not subscribe to this filter")
        if topic_filter.count("/") >= self._around.settings().max_topic_levels:
            raise WireError("the filter has too many levels", ReasonCode.TOPIC_FILTER_INVALID)
        space = self._spaces.get(session.key.tenant_id)
        if space is None:
            space = self._spaces[session.key.tenant_id] = TopicSpace()
        new = topic_filter not in session.subscriptions
        held = Held(wanted.qos, wanted.no_local, wanted.retain_as_published, identifier)
        session.subscriptions[topic_filter] = held
        space.subscribe(session, topic_filter, held)
        if share or wanted.retain_handling == 2 or (wanted.retain_handling == 1 and not new):  # MQTT-3.3.1-9 to -11
            return None
        return _given(space.retained(topic_filter, self._around.seconds()), held, rights)

    def unsubscribe(self, session: MqttSession, topic_filter: str) -> bool:
        """False if there was no such subscription."""
        if session.subscriptions.pop(topic_filter, None) is None:
            return False
        space = self._spaces.get(session.key.tenant_id)
        if space is not None:
            space.unsubscribe(session, topic_filter)
        return True

    def keep_allowed(self, session: MqttSession, rights: Rights) -> None:
        """End the subscriptions that are not allowed any more; a session that is gone on with may have such."""
        for topic_filter in tuple(session.subscriptions):
            if not self.allowed or not rights.may_subscribe(topic_filter):
                self.unsubscribe(session, topic_filter)

    def forget(self, session: MqttSession) -> None:
        """The session is over. What it shared with others and has not finished with goes to one of them."""
        for topic_filter in tuple(session.subscriptions):
            self.unsubscribe(session, topic_filter)
        for delivery in session.outbox.clear():
            group = delivery.group
            heir = group.delivery(delivery.message) if group is not None and not delivery.awaits_release else None
            if heir is not None:
                self._send(*heir)
        space = self._spaces.get(session.key.tenant_id)
        if space is not None and not space:
            del self._spaces[session.key.tenant_id]


def _given(found: Iterator[Message | int], held: Held, rights: Rights) -> Iterator[Delivery | int]:
    """What was found, for who has the subscription and these rights."""
    identifiers = (held.identifier,) if held.identifier else ()
    looking = _LOOKING * len(rights.denied)
    for message in found:
        if isinstance(message, int):
            yield message
            continue
        if looking:
            yield looking
        if rights.may_receive(message.topic):
            yield Delivery(message, min(message.qos, held.qos), retain=True, identifiers=identifiers)
        else:
            yield 1
