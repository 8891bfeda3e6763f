"""What is published for a client that went without saying goodbye (MQTT 3.1.2.5)."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpcbroker.core import jsontext
from rpcbroker.core.broker import Broker
from rpcbroker.core.errors import BrokerError
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.transports import dialect
from rpcbroker.transports.dialect import BadTopicId, Uplink
from rpcbroker.transports.mqtt.face import Refused
from rpcbroker.transports.mqtt.pubsub import PubSub
from rpcbroker.transports.mqtt.rights import rights_of
from rpcbroker.transports.mqtt.session import MqttSession
from rpcbroker.wire.errors import WireError
from rpcbroker.wire.mqtt.message import Message
from rpcbroker.wire.mqtt.packets import Will

_log = Logger()


def publish(session: MqttSession, will: Will, *, broker: Broker, pubsub: PubSub, now: float) -> None:
    """Publish the will of a session as if its client had sent it just now; what may not be published is dropped.

    A device's will to a topic of the server is telemetry or attributes, or nothing.
    """
    owner = None if session.owner is None else broker.known_session(session.owner)
    try:
        if owner is not None and will.topic.startswith(dialect.RESERVED):
            _tell_server(owner, will, broker)
        elif pubsub.allowed:
            rights = pubsub.anonymous_rights() if owner is None else rights_of(owner.device.topic_rights)
            message = Message(
                will.topic, will.payload, will.qos, retain=will.retain, properties=will.properties, now=now
            )
            _, send = pubsub.publish(session.key.tenant_id, rights, message, session)
            send()
    except (Refused, WireError, BadTopicId, jsontext.BadJSON, BrokerError) as error:
        _log.debug("a will was not published: {why}", why=error)


def _tell_server(owner: DeviceSession, will: Will, broker: Broker) -> None:
    meaning = dialect.uplink(will.topic)
    kept: Deferred[None] | None = None
    if meaning is not None and meaning.uplink is Uplink.TELEMETRY:
        kept = broker.keep_telemetry(owner, broker.telemetry.parse(will.payload))
    elif meaning is not None and meaning.uplink is Uplink.ATTRIBUTES:
        kept = broker.keep_attributes(owner, broker.attributes.parse(will.payload))
    if kept is not None:
        kept.addErrback(_not_kept)


def _not_kept(failure: Failure) -> None:
    failure.trap(BrokerError, jsontext.BadJSON)
    _log.debug("a will was not kept: {why}", why=failure.value)
