"""A broker with one gateway whose connection is a fake."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from fakes import TENANT, World, device, error_of, result_of
from twisted.internet.defer import Deferred, succeed

from rpcbroker.core.calls import Call, CallRequest, Step
from rpcbroker.core.events import NearlyMissed
from rpcbroker.core.model import Device, Scope
from rpcbroker.core.near_misses import NearMiss
from rpcbroker.core.ports import Link
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.core.settings import MqttSettings
from rpcbroker.transports import dialect
from rpcbroker.transports.mqtt.gateway import GatewayFace

CALL = CallRequest(method="get", params=b'{"pin":7}', timeout=60)


@dataclass
class FakeCarrier:
    """A connection that writes down what it was given; calls are written, and acknowledged by `acknowledge`."""

    level: int = 5
    room: bool = True
    published: list[tuple[str, Any, int]] = field(default_factory=list)
    carried: list[tuple[DeviceSession, Link, Call]] = field(default_factory=list)
    texts: list[tuple[str, bytes, int]] = field(default_factory=list)
    starved: list[tuple[DeviceSession, Link]] = field(default_factory=list)

    def carry(self, session: DeviceSession, link: Link, call: Call, topic: str, payload: bytes, qos: int) -> bool:
        if not self.room:
            self.starved.append((session, link))
            return False
        self.carried.append((session, link, call))
        self.texts.append((topic, payload, qos))
        session.report(call.wire_id, Step.WRITTEN if qos else Step.ACKNOWLEDGED)
        return True

    def publish(self, topic: str, payload: bytes, qos: int) -> bool:
        self.published.append((topic, json.loads(payload), qos))
        return True

    def acknowledge(self, number: int = -1) -> None:
        session, _, call = self.carried[number]
        session.report(call.wire_id, Step.ACKNOWLEDGED)

    def make_room(self) -> None:
        self.room = True
        starved, self.starved = self.starved, []
        for session, link in starved:
            session.resume(link)

    def calls(self) -> list[Any]:
        return [json.loads(text) for _, text, _ in self.texts]


class Plant(World):
    """The World's device is a gateway; others can be added with `gateway`."""

    def __init__(self, *, level: int = 5, **mqtt: Any) -> None:
        super().__init__()
        self.mqtt = MqttSettings(**mqtt)
        self.granted: dict[str, int] = {}
        self.near_misses: list[NearMiss] = []
        self.broker.events.listen(NearlyMissed, lambda event: self.near_misses.append(event.miss))
        self.claims: list[tuple[str, Any]] = []
        self.claimed: Deferred[None] = succeed(None)
        self.carrier = FakeCarrier(level)
        self.face = self.gateway(self.device, self.carrier)

    def gateway(self, of: Device, carrier: FakeCarrier) -> GatewayFace:
        def claim(child: Device, payload: bytes) -> Deferred[None]:
            self.claims.append((child.name, json.loads(payload)))
            return self.claimed

        return GatewayFace(
            self.session(of), self.broker, carrier, self.granted.get, settings=lambda: self.mqtt, claim=claim
        )

    def another(self) -> tuple[GatewayFace, FakeCarrier]:
        other, carrier = device(200), FakeCarrier()
        self.add(other)
        return self.gateway(other, carrier), carrier

    def outcome(self, topic: str, message: Any, face: GatewayFace | None = None) -> Any:
        """What `publish` returns; `message` is JSON text, or a value that is made into it."""
        payload = message if isinstance(message, bytes) else json.dumps(message).encode()
        return (face or self.face).publish(dialect.GATEWAY + topic, payload)

    def say(self, topic: str, message: Any, face: GatewayFace | None = None) -> int:
        """The reason code that it is acknowledged with, which must be known by now."""
        outcome = self.outcome(topic, message, face)
        return result_of(outcome) if isinstance(outcome, Deferred) else outcome

    def refusal(self, topic: str, message: Any, face: GatewayFace | None = None) -> Any:
        """The error that it is refused with, at once or by now."""
        try:
            outcome = self.outcome(topic, message, face)
        except Exception as error:
            return error
        assert isinstance(outcome, Deferred), f"it was taken with {outcome}"
        return error_of(outcome)

    def named(self, name: str) -> Device | None:
        return result_of(self.store.device_by_name(TENANT, name))

    def child(self, name: str) -> DeviceSession:
        found = self.named(name)
        assert found is not None, f"there is no {name}"
        return self.session(found)

    def call_child(self, name: str, request: CallRequest = CALL) -> Deferred[Any]:
        return self.call(request, device_id=self.child(name).device.id)

    def latest(self, name: str, *keys: str) -> dict[str, tuple[int, Any]]:
        """The child's last points: key -> time and value."""
        latest = self.broker.telemetry.latest(self.child(name).device.id, keys)
        points = result_of(Deferred.fromCoroutine(latest))
        return {key: (point.ts, json.loads(bytes(point.value))) for key, point in points.items()}

    def attributes(self, name: str, scope: Scope = Scope.CLIENT) -> dict[str, Any]:
        found = result_of(self.broker.attributes.read(self.child(name).device.id, (scope,)))
        return {each.key: json.loads(bytes(each.value)) for each in found}

    def share(self, name: str, **values: Any) -> None:
        """Set shared attributes, as a caller does."""
        result_of(self.broker.attributes.save(self.child(name).device.id, Scope.SHARED, values))

    def told(self, topic: str = dialect.GATEWAY_DISCONNECT) -> list[Any]:
        """What the gateway was published on this topic."""
        return [message for where, message, _ in self.carrier.published if where == topic]
