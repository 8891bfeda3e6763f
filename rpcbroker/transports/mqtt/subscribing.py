"""What a client may subscribe to: filters of the server's topics, and free ones (MQTT 3.8, 3.10)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rpcbroker.core.near_misses import NearMiss
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.transports import dialect
from rpcbroker.transports.mqtt.admission import Admission
from rpcbroker.transports.mqtt.face import Face, Refused
from rpcbroker.transports.mqtt.pubsub import PubSub
from rpcbroker.transports.mqtt.session import MqttSession
from rpcbroker.wire.errors import WireError
from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.outbox import Delivery
from rpcbroker.wire.mqtt.packets import FAILURE, ReasonCode
from rpcbroker.wire.mqtt.properties import Property


class Subscribed(NamedTuple):
    """What became of a SUBSCRIBE: a code for each filter in order, and why the first refused one was."""

    codes: tuple[int, ...]
    problem: str | None
    granted: frozenset[str]
    """Filters of the server's topics."""
    streams: tuple[tuple[str, Iterator[Delivery | int]], ...]
    """The free ones that retained messages go with, and these."""


def subscribe(
    packet: p.Subscribe,
    session: MqttSession,
    face: Face,
    admission: Admission,
    device: DeviceSession | None,
    *,
    modern: bool,
) -> Subscribed:
    """Grant what may be granted; `modern` clients (5.0) are told why the rest may not."""
    identifier = packet.properties.get(Property.SUBSCRIPTION_IDENTIFIER, 0)
    codes, granted, streams, problem = [], set(), [], None
    allowed = face.allows()
    for wanted in packet.subscriptions:
        try:
            if not allowed:
                raise Refused(ReasonCode.QUOTA_EXCEEDED, "more messages than may be sent")
            if face.grants(wanted.filter):
                codes.append(_grant(wanted, session, face, admission))
                granted.add(wanted.filter)
            else:
                stream = _subscribe_free(wanted, identifier, session, face, admission, device)
                if stream is not None:
                    streams.append((wanted.filter, stream))
                codes.append(wanted.qos)
        except (Refused, WireError) as error:
            problem = problem or error.message
            codes.append(error.code if modern else FAILURE)
    return Subscribed(tuple(codes), problem, frozenset(granted), tuple(streams))


def unsubscribe(packet: p.Unsubscribe, session: MqttSession, pubsub: PubSub) -> tuple[tuple[int, ...], frozenset[str]]:
    """A code for each filter in order, and those that were of the server's topics."""
    ended = frozenset(each for each in packet.filters if each in session.granted)
    codes = tuple(
        ReasonCode.SUCCESS
        if session.revoke(each) or pubsub.unsubscribe(session, each)
        else ReasonCode.NO_SUBSCRIPTION_EXISTED
        for each in packet.filters
    )
    return codes, ended


def _grant(wanted: p.Subscription, session: MqttSession, face: Face, admission: Admission) -> int:
    qos = min(wanted.qos, 1)
    if wanted.qos == 2:
        face.note(NearMiss.QOS_2_SUBSCRIPTION, f"has asked for {wanted.filter} at QoS 2, and was granted 1")
    if wanted.filter not in session.granted:
        _check_room(session, admission)
    session.grant(wanted.filter, qos)
    return qos


def _subscribe_free(
    wanted: p.Subscription,
    identifier: int,
    session: MqttSession,
    face: Face,
    admission: Admission,
    device: DeviceSession | None,
) -> Iterator[Delivery | int] | None:
    possible = face.free and admission.pubsub.allowed
    if not possible or dialect.resembles(wanted.filter):
        face.misheard(wanted.filter)
    if not possible:
        raise Refused(ReasonCode.TOPIC_FILTER_INVALID, "there is no such topic filter")
    if wanted.filter not in session.subscriptions:
        _check_room(session, admission)
    return admission.pubsub.subscribe(session, admission.rights(device), wanted, identifier)


def _check_room(session: MqttSession, admission: Admission) -> None:
    if session.filters >= admission.settings.max_subscriptions:
        raise Refused(ReasonCode.QUOTA_EXCEEDED, "too many topic filters")
