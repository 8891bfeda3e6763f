"""Devices that are called over MQTT, on a connection of their own or as a gateway's child, seen alike."""

from __future__ import annotations

import json
from typing import Any, NamedTuple
from uuid import UUID

from fakes import TENANT, device, result_of
from mqtt_client import Client, Mqtt

from rpcbroker.core.calls import CallRequest
from rpcbroker.core.records import CallRecord, KeptCall
from rpcbroker.transports import dialect
from rpcbroker.transports.dialect import V1
from rpcbroker.wire.mqtt import packets as p

RPC_ID = UUID(int=0xCA11)
GATEWAY = device(101, additional_info={"gateway": True})


class Given(NamedTuple):
    """A call that came to the device."""

    wire_id: int
    packet_id: int | None
    dup: bool


class Peer:
    """A device that subscribes to calls at `qos`; `level` is that of its MQTT."""

    username = "TOKEN100"
    calls: str | None = dialect.RPC_REQUEST_FILTER

    def __init__(self, world: Mqtt, qos: int | None = 1, level: int = 5) -> None:
        self.world = world
        self.qos = qos
        self.level = level
        self.answers: list[Any] = []
        """What came beside calls."""
        self.client: Client

    # -- the device's side

    def come(self, **connect: Any) -> list[Given]:
        """Connect and subscribe; the calls that come."""
        self.enter(**connect)
        if self.qos is not None and self.calls is not None:
            self._take(self.client.send(p.Subscribe(1, (p.Subscription(self.calls, self.qos),))))
        return self.given()

    def enter(self, **connect: Any) -> None:
        """Connect, no more."""
        self.client = self.world.client(self.level)
        self.answers, self._given = [], []
        self._take(self.client.enter(**{"username": self.username, "client_id": "peer"} | connect)[1:])

    def given(self) -> list[Given]:
        """The calls that came since."""
        self._take(self.client.received())
        given, self._given = self._given, []
        return given

    def acknowledge(self, given: Given, code: int = 0) -> None:
        if given.packet_id is not None:
            self._take(self.client.send(p.PubAck(given.packet_id, code)))

    def reply(self, wire_id: int, payload: bytes = b'{"a":1}', qos: int = 1) -> list[Any]:
        """Answer; what that is acknowledged with by now."""
        return self.publish(*self._reply(wire_id, payload), qos)

    def report(self, wire_id: int, payload: bytes = b"50", qos: int = 1) -> list[Any]:
        """Tell of progress."""
        return self.publish(*self.report_of(wire_id, payload), qos)

    def publish(self, topic: str, payload: bytes, qos: int) -> list[Any]:
        self.answers = []
        self._take(self.client.say(topic, payload, qos, 77))
        return self.acknowledgements()

    def acknowledgements(self) -> list[Any]:
        """What of the last publication is known by now."""
        self._take(self.client.received())
        return self.answers

    def lose(self) -> None:
        self.client.lose()

    # -- the caller's side

    @property
    def device_id(self) -> UUID:
        return self.world.device.id

    def called(self, **request: Any) -> Any:
        """The Deferred of a call under RPC_ID, unless another id is given."""
        return self.world.call(
            CallRequest(**{"method": "m", "timeout": 60, "request_id": RPC_ID} | request), device_id=self.device_id
        )

    def record(self, rpc_id: UUID = RPC_ID) -> CallRecord:
        """What memory knows of the call, or else the store."""
        found = self.world.broker.recorder.find(TENANT, rpc_id)
        return found or self.stored(rpc_id).record

    def stored(self, rpc_id: UUID = RPC_ID) -> KeptCall:
        """What the store knows of it, with all that was on its way there."""
        kept = result_of(self.world.store.calls.call(TENANT, rpc_id))
        assert kept is not None, f"there is no call {rpc_id}"
        return kept

    # -- what differs

    def _call_in(self, packet: p.Publish) -> Given | None:
        if not packet.topic.startswith(V1.rpc_request):
            return None
        assert packet.qos == min(self.qos or 0, 1)
        return Given(int(packet.topic.removeprefix(V1.rpc_request)), packet.packet_id, packet.dup)

    def _reply(self, wire_id: int, payload: bytes) -> tuple[str, bytes]:
        return f"{V1.rpc_response}{wire_id}", payload

    def report_of(self, wire_id: int, payload: bytes) -> tuple[str, bytes]:
        return f"{V1.rpc_progress}{wire_id}", payload

    def _take(self, packets: list[Any]) -> None:
        for packet in packets:
            call = self._call_in(packet) if isinstance(packet, p.Publish) else None
            if call is None:
                self.answers.append(packet)
            else:
                self._given.append(call)


class ChildPeer(Peer):
    """The child A of a gateway; without `qos` its gateway subscribes to nothing."""

    username = "TOKEN101"
    calls = dialect.GATEWAY_RPC

    def __init__(self, world: Mqtt, qos: int | None = 1, level: int = 5) -> None:
        super().__init__(world, qos, level)
        if result_of(world.store.device(GATEWAY.id)) is None:
            world.add(GATEWAY)

    def come(self, **connect: Any) -> list[Given]:
        super().come(**connect)
        self.mention()
        return self.given()

    def mention(self) -> None:
        """Its gateway connects it."""
        self._take(self.client.say(dialect.GATEWAY_CONNECT, b'{"device":"A"}'))

    @property
    def device_id(self) -> UUID:
        found: UUID = result_of(self.world.store.device_by_name(TENANT, "A")).id
        return found

    def _call_in(self, packet: p.Publish) -> Given | None:
        message = json.loads(packet.payload) if packet.topic == dialect.GATEWAY_RPC else {}
        if "method" not in message.get("data", {}):
            return None
        assert message["device"] == "A"
        assert packet.qos == (1 if self.qos is None else self.qos)
        return Given(message["data"]["id"], packet.packet_id, packet.dup)

    def _reply(self, wire_id: int, payload: bytes) -> tuple[str, bytes]:
        return dialect.GATEWAY_RPC, b'{"device":"A","id":%d,"data":%b}' % (wire_id, payload)

    def report_of(self, wire_id: int, payload: bytes) -> tuple[str, bytes]:
        return dialect.GATEWAY_RPC, b'{"device":"A","id":%d,"progress":%b}' % (wire_id, payload)
