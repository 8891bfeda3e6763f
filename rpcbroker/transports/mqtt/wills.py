"""What is published for a client that went without saying goodbye (MQTT 3.1.2.5)."""

from __future__ import annotations

from twisted.logger import Logger

from rpcbroker.core.broker import Broker
from rpcbroker.transports.mqtt.face import Refused
from rpcbroker.transports.mqtt.pubsub import PubSub
from rpcbroker.transports.mqtt.rights import rights_of
from rpcbroker.transports.mqtt.session import MqttSession
from rpcbroker.wire.mqtt.message import Message
from rpcbroker.wire.mqtt.packets import Will

_log = Logger()


def publish(session: MqttSession, will: Will, *, broker: Broker, pubsub: PubSub, now: float) -> None:
    """Publish the will of a session as if its client had sent it just now; what may not be published is dropped."""
    message = Message(will.topic, will.payload, will.qos, retain=will.retain, properties=will.properties, now=now)
    try:
        if not pubsub.allowed:
            raise Refused(0, "there are no free topics")
        if session.owner is None:
            rights = pubsub.anonymous_rights()
        else:
            rights = rights_of(broker.additional_info_of(session.owner))
        _, send = pubsub.publish(session.key.tenant_id, rights, message, session)
    except Refused as error:
        _log.debug("a will was not published: {why}", why=error.message)
    else:
        send()
