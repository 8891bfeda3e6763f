"""What a device says and hears over MQTT, once it is connected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from twisted.internet.defer import Deferred

from rpcbroker.core import jsontext
from rpcbroker.core.broker import Broker
from rpcbroker.core.calls import Call, Step
from rpcbroker.core.errors import NoActiveConnection, Reason
from rpcbroker.core.model import Device
from rpcbroker.core.near_misses import NearMiss
from rpcbroker.core.ports import CloseReason
from rpcbroker.core.questions import Question, QuestionText
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.core.settings import MqttSettings
from rpcbroker.core.values import points_in
from rpcbroker.transports import dialect
from rpcbroker.transports.dialect import Family, Meaning, Uplink
from rpcbroker.transports.mqtt.carrier import Carrier
from rpcbroker.transports.mqtt.face import Outcome, Refused
from rpcbroker.transports.mqtt.gateway import GatewayFace
from rpcbroker.transports.mqtt.questions import ask
from rpcbroker.transports.mqtt.replies import progress, reply
from rpcbroker.transports.mqtt.session import MqttSession
from rpcbroker.transports.near import nearest
from rpcbroker.transports.uplinks import AttributesQuestion
from rpcbroker.wire.mqtt.connection import Limits
from rpcbroker.wire.mqtt.message import Message
from rpcbroker.wire.mqtt.outbox import Delivery
from rpcbroker.wire.mqtt.packets import ReasonCode


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSurroundings:
    """What the links of all devices share; `claim` keeps a device's offer to be claimed, given as JSON text."""

    broker: Broker
    claim: Callable[[Device, bytes], Deferred[None]]
    settings: Callable[[], MqttSettings]


class MqttLink:
    """One connection of one device: the Link that its calls go over, and its face to the device topics."""

    __slots__ = ("_around", "_calls", "_carrier", "_gateway", "_limits", "_mqtt", "_session")

    protocol = "MQTT"
    transient = False

    def __init__(
        self,
        session: DeviceSession,
        mqtt: MqttSession,
        carrier: Carrier,
        around: DeviceSurroundings,
        limits: Limits,
    ) -> None:
        """`limits` is what the device was promised."""
        self._session = session
        self._mqtt = mqtt
        self._carrier = carrier
        self._around = around
        self._limits = limits
        self._gateway = (
            GatewayFace(
                session,
                around.broker,
                carrier,
                mqtt.granted_qos,
                settings=around.settings,
                claim=around.claim,
            )
            if session.device.is_gateway
            else None
        )
        """What it says for others, if it is a gateway."""
        self._calls: tuple[Family, int] | None = None
        """Where calls go, and at which QoS: as the device asked last."""

    # -- the Link that the session knows

    def deliver(self, call: Call) -> bool:
        """Publish the call on the request topic, with the QoS that was granted."""
        if self._calls is None:
            return False
        family, qos = self._calls
        if not family.json:
            self._session.report(call.wire_id, Step.FAILED, _protobuf(family))
            return True
        payload = b'{"method":%b,"params":%b}' % (jsontext.encode(call.method), call.params)
        return self._carrier.carry(self._session, self, call, f"{family.rpc_request}{call.wire_id}", payload, qos)

    def cancel(self, call: Call) -> bool:
        """Publish it on the cancel topic that the device subscribed to, else on that of the family of its calls."""
        granted = self._mqtt.granted
        calls_in = () if self._calls is None else (self._calls[0],)
        for family in (*calls_in, *dialect.FAMILIES):
            if family.json:
                topic = f"{family.rpc_cancel}{call.wire_id}"
                qos = granted.get(topic, granted.get(family.rpc_cancel + "+"))
                if qos is not None:
                    return self._carrier.publish(topic, _cancelled(call), qos)
        if self._calls is None or not self._calls[0].json:
            return False
        family, qos = self._calls
        return self._carrier.publish(f"{family.rpc_cancel}{call.wire_id}", _cancelled(call), qos)

    def attributes_changed(self, update: bytes) -> None:
        """Tell the device, on the topic that it asked for last, if it did."""
        for topic in reversed(self._mqtt.granted):
            family = dialect.ATTRIBUTE_FILTERS.get(topic)
            if family is not None:
                if family.json:
                    self._carrier.publish(topic, update, self._mqtt.granted[topic])
                return

    def close(self, reason: CloseReason) -> None:
        self._carrier.disconnect(reason)

    def why_not_callable(self) -> str:
        return f"has not subscribed to {dialect.RPC_REQUEST_FILTER}"

    # -- the Face that the connection knows

    free = True

    def grants(self, topic_filter: str) -> bool:
        return dialect.is_granted(topic_filter)

    def misheard(self, topic_filter: str) -> None:
        self._session.note(*nearest(topic_filter, subscribing=True))

    def unheard(self, topic: str) -> None:
        self._session.note(*nearest(topic, subscribing=False))

    def note(self, miss: NearMiss, detail: str) -> None:
        self._session.note(miss, detail)

    def subscribed(self, topic_filters: frozenset[str]) -> None:
        if not topic_filters.isdisjoint(dialect.RPC_FILTERS):
            self._take_calls()

    def resumed(self) -> None:
        """The session was there before: it may be subscribed already."""
        self._take_calls()

    def unsubscribed(self, topic_filters: frozenset[str]) -> None:
        if not topic_filters.isdisjoint(dialect.RPC_FILTERS):  # any of them ends it
            self._calls = None
            self._session.unsubscribe(self, "unsubscribed")

    def gone(self, cause: str) -> None:
        if self._gateway is not None:
            self._gateway.gone(cause)
        self._session.detach(self, cause)

    def _take_calls(self) -> None:
        for topic_filter in reversed(self._mqtt.granted):
            family = dialect.RPC_FILTERS.get(topic_filter)
            if family is not None:
                self._calls = _one(family, self._mqtt.granted[topic_filter])
                self._session.subscribe(self)
                return

    # -- what the device sends

    def allows(self, points: int = 0) -> bool:
        """See Face."""
        quotas = self._around.broker.quotas
        if not quotas.any or quotas.charge(self._session.device, points=points):
            return True
        self._session.note(NearMiss.RATE_LIMITED, "sends more than it may ([limits])")
        return False

    def seen(self) -> None:
        """The device sent a sign of life."""
        self._session.seen(self.protocol)

    def publish(self, topic: str, payload: bytes) -> Outcome | None:
        """See Face."""
        if topic in _TELEMETRY:  # the hot path
            return self._telemetry(payload)
        meaning = dialect.uplink(topic)
        if meaning is None:
            return None
        if not meaning.family.json:
            raise jsontext.BadJSON("Protobuf is not spoken here; the topics without /p take JSON")
        if meaning.uplink is _REPLY:  # asked first, and as globals: a member of an enumeration is long to be found
            return reply(self._session, meaning.number, payload)
        if meaning.uplink is _GATEWAY:
            return self._for_others(topic, payload)
        return _ACTIONS[meaning.uplink](self, meaning, payload)

    def _progress(self, meaning: Meaning, payload: bytes) -> Outcome:
        self._charge()  # a call has one reply, but any number of these
        return progress(self._session, meaning.number, payload)

    def _ask(self, meaning: Meaning, payload: bytes) -> Outcome:
        asked = jsontext.decode_as(QuestionText, payload)
        if asked.method != "getSessionLimits":  # a client that may not ask for its limits cannot keep to them
            self._charge()
        answered = partial(self._answer, meaning.family.rpc_response, meaning.number)
        question = Question(
            method=asked.method,
            params=bytes(asked.params),
            transport=self.protocol,
            number=meaning.number,
            own={"getSessionLimits": self._session_limits},
            late=answered,
        )
        ask(self._around.broker, self._session, question, answered)
        return ReasonCode.SUCCESS

    def _answer(self, prefix: str, number: int, payload: bytes) -> None:
        """Publish an answer, whether it was subscribed to or not; at QoS 1 if it was not."""
        topic, granted = f"{prefix}{number}", self._mqtt.granted
        qos = granted.get(topic, granted.get(prefix + "+", 1))
        way = self._mqtt.way or self._carrier  # the device may have come back to its session meanwhile
        way.deliver(Delivery(Message(topic, payload, qos), qos))

    def _session_limits(self) -> bytes:
        return jsontext.encode(
            {
                "maxPayloadSize": self._limits.max_packet_size,
                "maxInflightMessages": self._limits.receive_maximum,
            }
            | self._around.broker.quotas.limits_of(self._session.device)
        )

    def _telemetry(self, payload: bytes) -> Outcome:
        broker = self._around.broker
        posted = broker.telemetry.parse(payload)
        if broker.quotas.any:  # asked here, for counting the points is not for nothing
            self._charge(points_in(posted))
        kept = broker.keep_telemetry(self._session, posted)
        return _SUCCESS if kept is None else kept.addCallback(_success)

    def _attributes(self, _: Meaning, payload: bytes) -> Outcome:
        attributes = self._around.broker.attributes
        values = attributes.parse(payload)
        self._charge(len(values))
        return self._around.broker.keep_attributes(self._session, values).addCallback(_success)

    def _attributes_request(self, meaning: Meaning, payload: bytes) -> Outcome:
        self._charge()
        question = jsontext.decode_as(AttributesQuestion, payload)
        asked = Deferred.fromCoroutine(
            self._around.broker.attributes.of_device(self._session.device.id, *question.keys)
        )

        def answer(halves: tuple[dict[str, Any], dict[str, Any]]) -> int:
            told = {name: half for name, half in zip(("client", "shared"), halves, strict=True) if half}
            self._answer(meaning.family.attributes_response, meaning.number, jsontext.encode(told))
            return ReasonCode.SUCCESS

        return asked.addCallback(answer)

    def _charge(self, points: int = 0) -> None:
        """Count a message with so many values. Raises Refused if it is one too many."""
        if not self.allows(points):
            raise Refused(
                ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR, "more messages than this device may send", ends=True
            )

    def _claim(self, _: Meaning, payload: bytes) -> Outcome:
        self._charge()
        return self._around.claim(self._session.device, payload).addCallback(lambda _: ReasonCode.SUCCESS)

    def _firmware(self, meaning: Meaning, payload: bytes) -> Outcome:
        """Chunks are not served; the device hears it on the topic where it listens for errors."""
        topic = dialect.FIRMWARE_ERROR if meaning.uplink is Uplink.FIRMWARE else dialect.SOFTWARE_ERROR
        self._carrier.publish(topic, b"Firmware and software updates are not served here", 1)
        return ReasonCode.SUCCESS

    def _for_others(self, topic: str, payload: bytes) -> Outcome:
        if self._gateway is not None:
            return self._gateway.publish(topic, payload)
        self._session.note(NearMiss.UNKNOWN_TOPIC, "has published to a topic of gateways, and is none")
        raise Refused(ReasonCode.NOT_AUTHORIZED, "the device is no gateway: additionalInfo.gateway is not true")


_ACTIONS: dict[Uplink, Callable[[MqttLink, Meaning, bytes], Outcome]] = {
    Uplink.PROGRESS: MqttLink._progress,
    Uplink.ASK: MqttLink._ask,
    Uplink.ATTRIBUTES: MqttLink._attributes,
    Uplink.ATTRIBUTES_REQUEST: MqttLink._attributes_request,
    Uplink.CLAIM: MqttLink._claim,
    Uplink.FIRMWARE: MqttLink._firmware,
    Uplink.SOFTWARE: MqttLink._firmware,
}


_TELEMETRY = frozenset(family.telemetry for family in dialect.FAMILIES if family.json)
_SUCCESS = int(ReasonCode.SUCCESS)
_REPLY, _GATEWAY = Uplink.REPLY, Uplink.GATEWAY


@cache
def _one(family: Family, qos: int) -> tuple[Family, int]:
    """The same for all devices that asked for the same."""
    return family, qos


def _success(_: None) -> int:
    return ReasonCode.SUCCESS


def _cancelled(call: Call) -> bytes:
    return b'{"id":%d,"cancel":true}' % call.wire_id


def _protobuf(family: Family) -> NoActiveConnection:
    return NoActiveConnection(
        "The device takes calls in Protobuf only",
        reason=Reason.NO_SUBSCRIPTION,
        hint=f"It subscribed to {family.rpc_request}+; JSON goes to {dialect.RPC_REQUEST_FILTER}.",
    )
