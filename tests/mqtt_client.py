"""MQTT clients over string transports, and the broker that they talk to, on a Clock."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fakes import TENANT, World
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from rpcbroker.core.calls import CallRequest
from rpcbroker.core.direct import Outgoing
from rpcbroker.core.model import Device
from rpcbroker.core.settings import MqttSettings
from rpcbroker.store.memory import MemoryStore
from rpcbroker.transports.dialect import RPC_REQUEST_FILTER
from rpcbroker.transports.mqtt.admission import Admission
from rpcbroker.transports.mqtt.factory import MqttFactory
from rpcbroker.transports.mqtt.protocol import MqttProtocol
from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.codec import FrameReader, decode, encode
from rpcbroker.wire.mqtt.properties import Property

TOKEN = "TOKEN100"
CALL = CallRequest(method="get", params=b'{"pin":7}', timeout=60)


class Wire(StringTransport):
    """A transport that remembers how it was closed and how often it was written to."""

    aborted = False

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    def write(self, data: bytes) -> None:
        self.writes += 1
        super().write(data)

    def abortConnection(self) -> None:
        self.aborted = True
        self.loseConnection()


class Client:
    """The device's end."""

    def __init__(self, factory: MqttFactory, level: int = 4) -> None:
        self.level = level
        self.wire = Wire()
        self.protocol: MqttProtocol = factory.buildProtocol(None)
        self.protocol.makeConnection(self.wire)
        self._frames = FrameReader(1 << 20)
        self.reasons: list[str] = []
        self.connack: Any = None

    def send(self, *packets: p.Packet) -> list[Any]:
        self.protocol.dataReceived(b"".join(encode(packet, self.level) for packet in packets))
        return self.received()

    def received(self) -> list[Any]:
        self._frames.feed(self.wire.value())
        self.wire.clear()
        return [self._without_reason(decode(first, body, self.level)) for first, body in self._frames]

    def _without_reason(self, packet: Any) -> p.Packet:
        """What the server gives as reasons is kept apart, for it is for people."""
        properties = dict(getattr(packet, "properties", {}))
        reason = properties.pop(Property.REASON_STRING, None)
        if reason is None:
            return packet
        self.reasons.append(reason)
        return replace(packet, properties=properties)

    def connect(self, **more: Any) -> Client:
        """Connect, and let nothing but the CONNACK come."""
        self.connack, *others = self.enter(**more)
        assert self.connack.code == 0
        assert others == []
        return self

    def enter(self, **more: Any) -> list[Any]:
        """What CONNECT is answered with."""
        return self.send(p.Connect(self.level, **{"client_id": "c", "username": TOKEN} | more))

    def listen(self, *filters: str, qos: int = 2, **options: Any) -> Client:
        """Subscribe to free topics, and let nothing else come."""
        wanted = tuple(p.Subscription(text, qos, **options) for text in filters)
        assert self.send(p.Subscribe(9, wanted)) == [p.SubAck(9, (qos,) * len(filters))]
        return self

    def say(self, topic: str, payload: bytes = b"x", qos: int = 0, packet_id: int | None = None, **more: Any) -> Any:
        """Publish; what comes back."""
        return self.send(p.Publish(topic, payload, qos, (packet_id or 1) if qos else None, **more))

    def heard(self) -> list[tuple[str, bytes, int]]:
        """Topic, payload and QoS of each message that came, and nothing else may have come."""
        return [(packet.topic, packet.payload, packet.qos) for packet in self.received()]

    def subscribe(self, qos: int = 1) -> Client:
        answer = self.send(p.Subscribe(1, (p.Subscription(RPC_REQUEST_FILTER, qos),)))[0]
        assert answer == p.SubAck(1, (qos,))
        return self

    def lose(self) -> None:
        """The connection is cut."""
        self.protocol.connectionLost(Failure(ConnectionDone()))

    def leave(self, code: int = 0, **properties: int) -> None:
        """DISCONNECT, and the end of the connection that follows it."""
        assert self.send(p.Disconnect(code, {Property[name]: value for name, value in properties.items()})) == []
        assert self.closed
        self.lose()

    @property
    def closed(self) -> bool:
        return self.wire.disconnecting or self.wire.aborted


class Enrolment:
    """Every offer to be claimed is taken."""

    def provision(self, request: bytes) -> Deferred[bytes]:
        raise AssertionError("no stranger comes here")

    def claim(self, a_device: Device, offer: bytes) -> Deferred[None]:
        return succeed(None)


class Mqtt(World):
    """A broker with one device, whose token is TOKEN, and its MQTT listener."""

    def __init__(self, *, store: MemoryStore | None = None, rpc: dict[str, Any] | None = None, **settings: Any) -> None:
        """`store` as World has it, `rpc` and `settings` are those of the sections `[rpc]` and `[mqtt]`."""
        super().__init__(store=store, **rpc or {})
        self.admission = Admission(
            outgoing=Outgoing(self.clock.seconds),
            broker=self.broker,
            settings=MqttSettings(**settings),
            clock=self.clock,
            new_client_id=lambda: "assigned",
            default_tenant=lambda: TENANT,
            enrolment=Enrolment,  # type: ignore[arg-type, return-value]
        )
        self.factory = MqttFactory(self.admission)

    def client(self, level: int = 4) -> Client:
        return Client(self.factory, level)


class FreeTopics(Mqtt):
    """The same where clients may publish to each other, with and without credentials."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"pubsub": "tenant", "allow_anonymous": True} | settings)
        self._known = {self.device.id}

    def two(self) -> tuple[Client, Client]:
        """Clients without credentials."""
        return self.anonymous("one"), self.anonymous("two")

    def anonymous(self, client_id: str, level: int = 5, **more: Any) -> Client:
        """A client without credentials that is connected."""
        return self.client(level).connect(client_id=client_id, username=None, **more)

    def owned(self, a_device: Device, client_id: str = "", level: int = 5, **more: Any) -> Client:
        """A client of this device that is connected; the device is added if need be."""
        if a_device.id not in self._known:
            self._known.add(a_device.id)
            self.add(a_device)
        name = client_id or f"of-{a_device.id.int}"
        return self.client(level).connect(client_id=name, username=f"TOKEN{a_device.id.int}", **more)
