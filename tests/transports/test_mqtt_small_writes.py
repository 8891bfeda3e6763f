"""When TCP acknowledges at once what was read: where a reply may wait for that, and only there."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import device
from mqtt_client import CALL, FreeTopics, Mqtt

from rpcbroker.core import direct
from rpcbroker.wire.mqtt import packets as p


@pytest.fixture
def acknowledged(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The transports, in order."""
    found: list[Any] = []
    monkeypatch.setattr(direct, "acknowledge", found.append)
    return found


def test_when_a_call_has_arrived(acknowledged: list[Any]) -> None:
    world = Mqtt()
    client = world.client().connect().subscribe()
    world.call(CALL)
    (given,) = client.received()
    assert acknowledged == []
    client.send(p.PubAck(given.packet_id))
    assert acknowledged == [client.wire]


def test_not_when_the_reply_has_come_with_it(acknowledged: list[Any]) -> None:
    world = Mqtt()
    client = world.client().connect().subscribe()
    calling = world.call(CALL)
    (given,) = client.received()
    reply = p.Publish(given.topic.replace("request", "response"), b"1")
    client.send(p.PubAck(given.packet_id), reply)
    assert calling.called
    assert acknowledged == []


def test_not_when_a_message_of_a_free_topic_has_arrived(acknowledged: list[Any]) -> None:
    world = FreeTopics()
    listener = world.client(5).connect().listen("t", qos=1)
    world.owned(device(101), "speaker").say("t", b"x", 1)
    (message,) = listener.received()
    listener.send(p.PubAck(message.packet_id))
    assert acknowledged == []
