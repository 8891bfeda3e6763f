"""What a device says of a call before it answers, and what it hears when nobody waits for that any more."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fakes import ADMIN, device, error_of, result_of
from mqtt_client import TOKEN, Client, Mqtt
from mqtt_peers import RPC_ID, ChildPeer, Peer
from twisted.internet.defer import Deferred

from rpcbroker.core.calls import CallRequest, CallState, Cancellation
from rpcbroker.core.errors import Reason
from rpcbroker.core.near_misses import NearMiss
from rpcbroker.core.ports import CloseReason
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.core.setting import Rate
from rpcbroker.core.settings import LimitsSettings
from rpcbroker.transports import dialect
from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.properties import Property

CANCELS = "v1/devices/me/rpc/cancel/+"
kinds = pytest.mark.parametrize("make", [Peer, ChildPeer])
EITHER = pytest.mark.parametrize("persistent", [True, False])


class Listening:
    """A lightweight call whose caller listens to progress."""

    def __init__(self, make: Callable[..., Peer], **peer: Any) -> None:
        self.heard: list[bytes] = []
        self.peer = make(Mqtt(), **peer)
        self.peer.come()
        request = CallRequest(method="m", timeout=20, request_id=RPC_ID)
        calling = self.peer.world.broker.call(ADMIN, self.peer.device_id, request, self.heard.append)
        self.waiting: Deferred[Any] = Deferred.fromCoroutine(calling)
        (self.given,) = self.peer.given()


def session_of(peer: Peer) -> DeviceSession:
    session: DeviceSession = result_of(Deferred.fromCoroutine(peer.world.broker.session(peer.device_id)))
    return session


class TestProgress:
    @kinds
    @pytest.mark.parametrize("level", [3, 4, 5])
    @pytest.mark.parametrize("qos", [0, 1, 2])
    def test_the_caller_sees_it_before_the_reply(self, make: Callable[..., Peer], level: int, qos: int) -> None:
        call = Listening(make, level=level)
        expected = [[], [p.PubAck(77)], [p.PubRec(77)]][qos]
        for payload in (b'{"percent": 50}', b"null"):
            assert call.peer.report(1, payload, qos) == expected
            call.peer.client.send(p.PubRel(77))
        assert call.heard == [b'{"percent": 50}', b"null"]
        call.peer.reply(1, b"true")
        assert result_of(call.waiting).payload == b"true"

    @pytest.mark.parametrize("family", ["v2/r/prog/", "v2/r/prog/j/"])
    def test_the_short_topics_say_the_same(self, family: str) -> None:
        call = Listening(Peer)
        assert call.peer.publish(f"{family}1", b"50", 1) == [p.PubAck(77)]
        assert call.heard == [b"50"]

    @kinds
    def test_it_says_that_the_device_has_the_call_and_gives_it_more_time(self, make: Callable[..., Peer]) -> None:
        call = Listening(make)
        call.peer.world.clock.advance(9)
        for _ in range(3):
            call.peer.report(1)
            assert call.peer.record().state is CallState.DELIVERED
            call.peer.world.clock.advance(9)
        call.peer.world.clock.advance(2)
        assert error_of(call.waiting).reason is Reason.NO_REPLY

    @kinds
    @pytest.mark.parametrize("level", [4, 5])
    @pytest.mark.parametrize("qos", [0, 1])
    def test_what_is_not_json_is_noted_and_changes_nothing(
        self, make: Callable[..., Peer], level: int, qos: int
    ) -> None:
        call = Listening(make, level=level)
        assert call.peer.report(1, b"1e999", qos) == ([p.PubAck(77, 0x99 if level == 5 else 0)] if qos else [])
        assert not call.peer.client.closed
        assert session_of(call.peer).missed(NearMiss.BAD_PAYLOAD) == 1
        assert call.heard == []
        assert call.peer.record().state is CallState.SENT

    def test_nor_does_nothing_at_all(self) -> None:
        call = Listening(Peer)
        assert call.peer.report(1, b"") == [p.PubAck(77, 0x99)]
        assert call.heard == []

    @pytest.mark.parametrize("topic", ["v1/devices/me/rpc/progress/x", "v2/r/prog/99999999999", "v2/r/prog/p/1"])
    def test_topics_that_mean_nothing(self, topic: str) -> None:
        call = Listening(Peer)
        assert call.peer.publish(topic, b"1", 1) == [p.PubAck(77, 0x99)]
        assert call.heard == []

    @kinds
    def test_of_a_call_that_has_ended_it_is_noted(self, make: Callable[..., Peer]) -> None:
        call = Listening(make)
        call.peer.reply(1)
        assert call.peer.report(1) == [p.PubAck(77)]
        assert call.heard == []
        assert session_of(call.peer).missed(NearMiss.UNKNOWN_REPLY) == 1

    def test_of_another_device_s_call_it_is_noted(self) -> None:
        call = Listening(Peer)
        call.peer.world.add(device(102))
        other = call.peer.world.client(5).connect(client_id="o", username="TOKEN102")
        assert other.say(*call.peer.report_of(1, b"50"), 1) == [p.PubAck(1)]
        assert call.heard == []

    @kinds
    def test_it_counts_as_a_message(self, make: Callable[..., Peer]) -> None:
        call = Listening(make)
        call.peer.world.broker.quotas.reconfigure(LimitsSettings(tenant_messages=Rate(((1, 60.0),))))
        assert call.peer.report(1) == [p.PubAck(77)]
        assert any(isinstance(answer, p.PubAck) and answer.code >= 0x80 for answer in call.peer.report(1))
        assert call.heard == [b"50"]

    def test_a_gateway_s_message_with_data_is_the_reply(self) -> None:
        call = Listening(ChildPeer)
        call.peer.publish(dialect.GATEWAY_RPC, b'{"device":"A","id":1,"progress":50,"data":true}', 1)
        assert call.heard == []
        assert result_of(call.waiting).payload == b"true"


class Cancelling:
    """A device that wants to hear what is cancelled."""

    def __init__(self, *subscriptions: tuple[str, int], level: int = 5, hears: bool = True, **settings: Any) -> None:
        self.world = Mqtt(**settings)
        self.world.add(device(102, additional_info={"rpcCancel": hears}))
        self.subscriptions = tuple(p.Subscription(*each) for each in subscriptions)
        self.client: Client
        self.level = level

    def come(self, **connect: Any) -> list[Any]:
        self.client = self.world.client(self.level).connect(username="TOKEN102", **connect)
        return self.client.send(p.Subscribe(1, self.subscriptions))[1:]

    def call(self, *, persistent: bool = False) -> list[Any]:
        request = CallRequest(method="m", timeout=60, request_id=RPC_ID, persistent=persistent)
        self.waiting = self.world.call(request, device_id=device(102).id)
        self.waiting.addErrback(lambda _: None)
        return self.client.received()

    def cancel(self) -> Cancellation:
        session = self.world.session(device(102))
        record = self.world.broker.recorder.find(session.device.tenant_id, RPC_ID)
        assert record is not None
        done: Cancellation = result_of(session.cancel(record, "by a test"))
        return done


V1, V2, V2_JSON = dialect.RPC_REQUEST_FILTER, "v2/r/req/+", "v2/r/req/j/+"


class TestCancel:
    @EITHER
    @pytest.mark.parametrize(
        ("subscriptions", "topic", "qos"),
        [
            ([(V1, 1)], "v1/devices/me/rpc/cancel/1", 1),
            ([(V1, 0)], "v1/devices/me/rpc/cancel/1", 0),
            ([(V1, 1), (CANCELS, 0)], "v1/devices/me/rpc/cancel/1", 0),
            ([(CANCELS, 1), (V1, 0)], "v1/devices/me/rpc/cancel/1", 1),
            ([(V1, 0), ("v1/devices/me/rpc/cancel/1", 1)], "v1/devices/me/rpc/cancel/1", 1),
            ([(V1, 1), ("v1/devices/me/rpc/cancel/2", 0)], "v1/devices/me/rpc/cancel/1", 1),
            ([(V2, 1)], "v2/r/cancel/1", 1),
            ([(V2_JSON, 1)], "v2/r/cancel/j/1", 1),
            ([(V2_JSON, 1), ("v2/r/cancel/j/1", 0)], "v2/r/cancel/j/1", 0),
            ([(V1, 1), ("v2/r/cancel/+", 0)], "v2/r/cancel/1", 0),
            ([(V2, 0), (CANCELS, 0), ("v2/r/cancel/+", 1)], "v2/r/cancel/1", 1),
            ([(V1, 1), ("v2/r/cancel/p/+", 0)], "v1/devices/me/rpc/cancel/1", 1),
        ],
    )
    def test_the_device_is_told_where_it_listens(
        self, persistent: bool, subscriptions: list[tuple[str, int]], topic: str, qos: int
    ) -> None:
        cancelling = Cancelling(*subscriptions)
        cancelling.come()
        assert len(cancelling.call(persistent=persistent)) == 1
        assert cancelling.cancel() == Cancellation(RPC_ID, True, True, True)
        assert cancelling.client.heard() == [(topic, b'{"id":1,"cancel":true}', qos)]

    @EITHER
    def test_who_did_not_ask_for_it_is_not_told(self, persistent: bool) -> None:
        cancelling = Cancelling((V1, 1), (CANCELS, 1), hears=False)
        cancelling.come()
        cancelling.call(persistent=persistent)
        assert cancelling.cancel() == Cancellation(RPC_ID, True, True, False)
        assert cancelling.client.heard() == []

    @EITHER
    def test_a_device_that_is_away_is_not_told(self, persistent: bool) -> None:
        cancelling = Cancelling((V1, 1), (CANCELS, 1))
        cancelling.come()
        cancelling.call(persistent=persistent)
        cancelling.client.lose()
        assert cancelling.cancel() == Cancellation(RPC_ID, True, True, False)
        assert cancelling.come() == []

    @EITHER
    def test_a_call_that_it_never_got_it_never_gets(self, persistent: bool) -> None:
        cancelling = Cancelling((V1, 1), (CANCELS, 1))
        cancelling.come()
        cancelling.client.lose()
        cancelling.call(persistent=persistent)
        assert cancelling.cancel() == Cancellation(RPC_ID, True, False, False)
        assert cancelling.come() == []

    def test_who_asks_for_protobuf_is_not_told(self) -> None:
        cancelling = Cancelling((V1, 1))
        cancelling.come()
        cancelling.call()
        cancelling.client.send(p.Subscribe(2, (p.Subscription("v2/r/req/p/+", 1),)))
        assert not cancelling.cancel().device_told

    def test_where_the_device_takes_no_more_now_it_is_told_later_and_what_it_has_keeps_its_place(self) -> None:
        cancelling = Cancelling((V1, 1))
        cancelling.come(properties={Property.RECEIVE_MAXIMUM: 1})
        (request,) = cancelling.call()
        assert cancelling.cancel().device_told
        assert cancelling.client.heard() == []
        (told,) = cancelling.client.send(p.PubAck(request.packet_id))
        assert told.topic == "v1/devices/me/rpc/cancel/1"

    def test_one_that_does_not_read_is_not_told_at_qos_0(self) -> None:
        cancelling = Cancelling((V1, 0), max_queued_size=10)
        cancelling.come()
        cancelling.call()
        cancelling.client.protocol.pauseProducing()
        assert not cancelling.cancel().device_told
        assert cancelling.client.heard() == []

    def test_one_that_takes_no_more_at_all_is_disconnected(self) -> None:
        cancelling = Cancelling((V1, 1), max_queued_messages=0)
        cancelling.come(properties={Property.RECEIVE_MAXIMUM: 1})
        cancelling.call()
        assert not cancelling.cancel().device_told
        assert cancelling.client.received() == [p.Disconnect(0x97)]

    @pytest.mark.parametrize("clean", [True, False])
    def test_what_was_cancelled_is_not_sent_again(self, clean: bool) -> None:
        cancelling = Cancelling((V1, 1))
        kept = {"clean_start": clean, "properties": {Property.SESSION_EXPIRY_INTERVAL: 600}}
        cancelling.come(**kept)
        cancelling.call()
        cancelling.client.lose()
        cancelling.cancel()
        assert cancelling.come(**kept) == []

    @EITHER
    @pytest.mark.parametrize(("subscribed", "qos"), [(0, 0), (1, 1), (None, 1)])
    def test_a_child_is_told_through_its_gateway(self, persistent: bool, subscribed: int | None, qos: int) -> None:
        world = Mqtt()
        world.add(replace(device(103, additional_info={"rpcCancel": True}), name="A"))
        peer = ChildPeer(world, subscribed)
        peer.come()
        peer.called(persistent=persistent).addErrback(lambda _: None)
        peer.given()
        done = result_of(session_of(peer).cancel(peer.record(), "by a test"))
        assert done == Cancellation(RPC_ID, True, True, True)
        ((topic, payload, told_at),) = peer.client.heard()
        assert (topic, told_at) == ("v1/gateway/rpc", qos)
        assert json.loads(payload) == {"device": "A", "data": {"id": 1, "cancel": True}}

    def test_filters_of_its_topics_are_granted(self) -> None:
        filters = [CANCELS, "v1/devices/me/rpc/cancel/7", "v2/r/cancel/+", "v2/r/cancel/7", "v2/r/cancel/j/+"]
        filters += ["v2/r/cancel/j/7", "v2/r/cancel/p/+", "v2/r/cancel/p/7", "v1/devices/me/rpc/cancel/#"]
        client = Mqtt().client(5).connect(username=TOKEN)
        (answer,) = client.send(p.Subscribe(9, tuple(p.Subscription(text, 1) for text in filters)))
        assert answer == p.SubAck(9, (1,) * 7 + (0x8F,) * 2)

    def test_nobody_but_the_server_publishes_there(self) -> None:
        client = Mqtt().client(5).connect()
        assert client.say("v1/devices/me/rpc/cancel/7", b"{}", 1) == [p.PubAck(1, 0x90)]


def test_the_connection_of_a_device_that_is_closed_hears_nothing_more() -> None:
    cancelling = Cancelling((V1, 1))
    cancelling.come()
    cancelling.call()
    cancelling.world.session(device(102)).close(CloseReason.DELIVERY_TIMEOUT)
    assert cancelling.client.received() == [p.Disconnect(0x98)]
    assert not cancelling.cancel().device_told
    assert cancelling.client.received() == []
