"""What devices, and gateways for theirs, ask the server over MQTT, where a rule chain answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes import device
from mqtt_client import Client, Mqtt
from question_chain import Asker, Questions

from rpcbroker.wire.mqtt import packets as p


class OverMqtt(Asker):
    """`level` is that of its MQTT; `asked` and `answered` are the topics, less the number."""

    def __init__(self, level: int, asked: str, answered: str, **settings: Any) -> None:
        world = Mqtt()
        super().__init__(world, **settings)
        self._topics = asked, answered
        self.client: Client = world.client(level).connect()
        self._came: list[Any] = []

    def send(self, method: str) -> None:
        body = json.dumps({"method": method, "params": [1]}).encode()
        self._came += self.client.send(p.Publish(self._topics[0] + "42", body, 1, 7))

    def said(self) -> list[Any]:
        came, self._came = [*self._came, *self.client.received()], []
        packets = [packet for packet in came if packet != p.PubAck(7)]
        assert {packet.topic for packet in packets} <= {self._topics[1] + "42"}
        return [(None, json.loads(packet.payload)) for packet in packets]

    def leave(self) -> None:
        self.client.lose()


FAMILIES = [
    ("v1/devices/me/rpc/request/", "v1/devices/me/rpc/response/"),
    ("v2/r/req/", "v2/r/res/"),
    ("v2/r/req/j/", "v2/r/res/j/"),
]


class TestDevices(Questions):
    more_than_one = True

    @pytest.fixture(autouse=True, params=[(level, *family) for level in (4, 5) for family in FAMILIES])
    def variant(self, request: Any) -> None:
        self._variant = request.param

    def asker(self, **settings: Any) -> Asker:
        return OverMqtt(*self._variant, **settings)


class ByGateway(OverMqtt):
    """A gateway asks for its child A."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(4, "v1/gateway/rpc", "v1/gateway/rpc", **settings)
        self.world.add(device(200, additional_info={"gateway": True}))
        self.client = self.world.client(4).connect(username="TOKEN200", client_id="g")  # type: ignore[attr-defined]

    def send(self, method: str) -> None:
        body = json.dumps({"device": "A", "id": 42, "method": method, "params": [1]}).encode()
        self._came += self.client.send(p.Publish("v1/gateway/rpc", body, 1, 7))

    def said(self) -> list[Any]:
        came, self._came = [*self._came, *self.client.received()], []
        packets = [packet for packet in came if packet != p.PubAck(7)]
        bodies = [json.loads(packet.payload) for packet in packets]
        assert all(
            (packet.topic, body["id"]) == ("v1/gateway/rpc", 42) for packet, body in zip(packets, bodies, strict=True)
        )
        return [(None, body["data"]) for body in bodies]


class TestChildren(Questions):
    more_than_one = True

    def asker(self, **settings: Any) -> Asker:
        return ByGateway(**settings)

    def test_the_message_is_about_the_child(self) -> None:
        asker = ByGateway()
        seen: list[Any] = []
        begin = asker.rules.engine.begin

        def noted(tenant_id: Any, message: Any, **named: Any) -> Any:
            seen.append(message)
            return begin(tenant_id, message, **named)

        asker.rules.engine.begin = noted  # type: ignore[method-assign]
        asker.ask("echo")
        assert [(each.type, each.metadata["deviceName"]) for each in seen][-1] == ("TO_SERVER_RPC_REQUEST", "A")

    def test_a_child_that_has_left_is_not_answered(self) -> None:
        asker = ByGateway()
        asker.send("soon")
        asker.client.send(p.Publish("v1/gateway/disconnect", b'{"device":"A"}', 1, 7))
        assert asker.later(3) == []


def test_what_waits_when_a_device_comes_back_goes_to_its_session_only_if_that_was_kept() -> None:
    asker = OverMqtt(5, *FAMILIES[0])
    asker.send("soon")
    asker.said()
    asker.leave()
    again = asker.world.client(5).connect(client_id="another")  # type: ignore[attr-defined]
    asker.world.clock.advance(3.1)
    assert again.received() == []


@pytest.mark.parametrize("granted", [0, 1])
@pytest.mark.parametrize("back", [False, True])
def test_an_answer_finds_the_session_on_its_new_connection(granted: int, back: bool) -> None:
    """Of QoS 1 also one that comes while the device is away."""
    asker = OverMqtt(4, *FAMILIES[0])
    kept = {"client_id": "kept", "clean_start": False}
    asker.client = asker.world.client(4).connect(**kept)  # type: ignore[attr-defined]
    asker.client.listen("v1/devices/me/rpc/response/+", qos=granted)
    asker.send("soon")
    asker.said()
    asker.leave()
    if not back:
        asker.world.clock.advance(3.1)
    again = asker.world.client(4)  # type: ignore[attr-defined]
    _, *heard = again.enter(**kept)
    if back:
        assert heard == []
        asker.world.clock.advance(3.1)
        heard = again.received()
    assert [packet.topic for packet in heard] == [FAMILIES[0][1] + "42"] * int(back or granted == 1)
