"""What becomes of calls over MQTT, persistent and lightweight, of devices and of gateways' children."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from fakes import Slow, error_of, result_of
from mqtt_client import Mqtt
from mqtt_peers import RPC_ID, ChildPeer, Given, Peer
from twisted.internet.defer import Deferred, fail

from rpcbroker.core.calls import CallState, SubmitStrategy
from rpcbroker.core.errors import Reason, Unavailable
from rpcbroker.core.near_misses import NearMiss
from rpcbroker.transports import dialect
from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.properties import Property

WAYS: dict[str, tuple[Callable[..., Peer], int | None]] = {
    "a device at QoS 0": (Peer, 0),
    "a device at QoS 1": (Peer, 1),
    "a device that asked for QoS 2": (Peer, 2),
    "a child at QoS 0": (ChildPeer, 0),
    "a child at QoS 1": (ChildPeer, 1),
    "a child whose gateway did not subscribe": (ChildPeer, None),
}
ONE, TWO, THREE = (UUID(int=0xCA11 + number) for number in range(3))
KEPT = {"clean_start": False, "properties": {Property.SESSION_EXPIRY_INTERVAL: 600}}

# What happens, and after each step the state; * is where the device is given the call. ARCHITECTURE.md, "Given again", says where that is.
STATES = {
    ("persistent", "two-way", 1): """
        call SENT*, puback DELIVERED, reply SUCCESSFUL
        call SENT*, reply SUCCESSFUL, puback SUCCESSFUL, reconnect SUCCESSFUL
        call SENT*, puback DELIVERED, reconnect DELIVERED*, puback DELIVERED, reply SUCCESSFUL
        call SENT*, wait TIMEOUT, puback DELIVERED, reply SUCCESSFUL
        call SENT*, wait TIMEOUT, reply SUCCESSFUL
        call SENT*, wait TIMEOUT, reconnect SENT*, puback DELIVERED
        call SENT*, reconnect SENT*, reconnect SENT*, reply SUCCESSFUL
        call SENT*, reconnect SENT*, reply SUCCESSFUL, reply SUCCESSFUL
        lose -, call QUEUED, come SENT*, puback DELIVERED, reply SUCCESSFUL
        lose -, call QUEUED, expire EXPIRED, come EXPIRED
        call SENT*, expire EXPIRED, reply EXPIRED, puback EXPIRED, reconnect EXPIRED
        call SENT*, puback DELIVERED, expire EXPIRED, reply EXPIRED
        call SENT*, lose SENT, expire EXPIRED, come EXPIRED, reply EXPIRED
        call SENT*, restart SENT*, puback DELIVERED, reply SUCCESSFUL
        call SENT*, puback DELIVERED, restart DELIVERED*, reply SUCCESSFUL
        call SENT*, crash SENT*, reply SUCCESSFUL, restart SUCCESSFUL
        call SENT*, puback DELIVERED, crash SENT*, puback DELIVERED
        lose -, call QUEUED, crash SENT*, reply SUCCESSFUL, crash SUCCESSFUL
    """,
    ("persistent", "one-way", 1): """
        call SENT*, puback DELIVERED, reconnect DELIVERED
        call SENT*, reconnect SENT*, puback DELIVERED, reconnect DELIVERED
        call SENT*, wait TIMEOUT, puback DELIVERED, reconnect DELIVERED
        call SENT*, wait TIMEOUT, reconnect SENT*, puback DELIVERED
        lose -, call QUEUED, come SENT*, puback DELIVERED
        call SENT*, expire EXPIRED, puback EXPIRED, reconnect EXPIRED
        call SENT*, restart SENT*, puback DELIVERED, restart DELIVERED
        call SENT*, puback DELIVERED, crash DELIVERED
    """,
    ("persistent", "two-way", 0): """
        call DELIVERED*, reply SUCCESSFUL, reconnect SUCCESSFUL
        call DELIVERED*, wait DELIVERED, reconnect DELIVERED*, reply SUCCESSFUL
        lose -, call QUEUED, come DELIVERED*, expire EXPIRED, reply EXPIRED
        call DELIVERED*, restart DELIVERED*, reply SUCCESSFUL
        call DELIVERED*, crash DELIVERED*, reply SUCCESSFUL
    """,
    ("persistent", "one-way", 0): """
        call DELIVERED*, reconnect DELIVERED, expire DELIVERED
        lose -, call QUEUED, come DELIVERED*, reconnect DELIVERED
        lose -, call QUEUED, expire EXPIRED, come EXPIRED
        call DELIVERED*, crash DELIVERED
    """,
    ("lightweight", "two-way", 1): """
        call SENT*, puback DELIVERED, reply SUCCESSFUL
        call SENT*, reply SUCCESSFUL, puback SUCCESSFUL, reconnect SUCCESSFUL
        call SENT*, puback DELIVERED, reconnect DELIVERED, reply SUCCESSFUL
        call SENT*, wait TIMEOUT, puback DELIVERED, reconnect DELIVERED
        call SENT*, wait TIMEOUT, reconnect SENT*, reply SUCCESSFUL
        call SENT*, reconnect SENT*, puback DELIVERED, reconnect DELIVERED
        lose -, call QUEUED, come SENT*, reply SUCCESSFUL
        call SENT*, expire EXPIRED, puback EXPIRED, reply EXPIRED, reconnect EXPIRED
    """,
    ("lightweight", "one-way", 1): """
        call SENT*, puback SENT, reconnect SENT
        call SENT*, wait SENT, reconnect SENT, expire SENT
        lose -, call QUEUED, come SENT*, reconnect SENT
        lose -, call QUEUED, expire EXPIRED, come EXPIRED
    """,
    ("lightweight", "two-way", 0): """
        call DELIVERED*, reply SUCCESSFUL, reconnect SUCCESSFUL
        call DELIVERED*, wait DELIVERED, reconnect DELIVERED, reply SUCCESSFUL
        call DELIVERED*, expire EXPIRED, reply EXPIRED
        lose -, call QUEUED, come DELIVERED*, reply SUCCESSFUL
    """,
    ("lightweight", "one-way", 0): """
        call DELIVERED*, reconnect DELIVERED
        lose -, call QUEUED, come DELIVERED*, reconnect DELIVERED
    """,
}
STORIES = [
    pytest.param(way, kind, direction, story.strip(), id=f"{kind} {direction} to {way}: {story.strip()}")
    for (kind, direction, acknowledged), stories in STATES.items()
    for way, (_, qos) in WAYS.items()
    if (qos == 0) == (acknowledged == 0)
    for story in stories.strip().splitlines()
]


class Story:
    """One call of one device, step by step."""

    def __init__(self, way: str, kind: str, direction: str) -> None:
        self.way = WAYS[way]
        self.peer = self._peer(Mqtt())
        self.peer.come()
        self.request = {"persistent": kind == "persistent", "oneway": direction == "one-way"}
        self.wire_id = 0
        self.last: Given | None = None
        self.waiting: Deferred[Any] = Deferred()

    def _peer(self, world: Mqtt) -> Peer:
        make, qos = self.way
        return make(world, qos)

    def given(self) -> int:
        """How often the device was given the call by the last step; each time under the same wire id."""
        given = self.peer.given()
        for each in given:
            self.wire_id = self.wire_id or each.wire_id
            assert each.wire_id == self.wire_id
            assert not each.dup
            self.last = each
        return len(given)

    def call(self) -> None:
        self.waiting = self.peer.called(**self.request)
        self.waiting.addErrback(lambda _: None)
        if self.request["persistent"]:
            assert result_of(self.waiting).rpc_id == RPC_ID

    def puback(self) -> None:
        assert self.last is not None
        self.peer.acknowledge(self.last)

    def reply(self) -> None:
        """It is acknowledged whether anybody waits for it or not."""
        assert self.peer.reply(self.wire_id) == [p.PubAck(77)]

    def wait(self) -> None:
        """Longer than for an acknowledgement."""
        self.peer.world.clock.advance(10.1)

    def expire(self) -> None:
        self.peer.world.clock.advance(62)

    def lose(self) -> None:
        self.peer.lose()

    def come(self) -> None:
        self.keep(self.peer.come())

    def keep(self, given: list[Given]) -> None:
        self.peer._given += given

    def reconnect(self) -> None:
        self.lose()
        self.come()

    def restart(self) -> None:
        """The broker ends in good order, and another one goes on."""
        self.peer.world.store.calls.stop()
        self._another()

    def crash(self) -> None:
        """What was not on disk is lost: a store that opens forgets what was gathered."""
        self._another()

    def _another(self) -> None:
        old = self.peer.world
        new = Mqtt(store=old.store)
        new.clock.advance(old.clock.seconds())
        self.peer = self._peer(new)
        self.come()


@pytest.mark.parametrize(("way", "kind", "direction", "story"), STORIES)
def test_states_and_who_is_given_what(way: str, kind: str, direction: str, story: str) -> None:
    told = Story(way, kind, direction)
    for line in story.split(", "):
        step, _, state = line.partition(" ")
        getattr(told, step)()
        assert told.given() == state.count("*"), f"given after {line}"
        if state != "-":
            assert told.peer.record().state == state.rstrip("*"), f"after {line}"
    if kind == "persistent":
        assert told.peer.stored().record.state == told.peer.record().state


def peer_of(way: str, **rpc: Any) -> Peer:
    """Connected, and callable."""
    make, qos = WAYS[way]
    peer = make(Mqtt(rpc=rpc), qos)
    assert peer.come() == []
    return peer


each_way = pytest.mark.parametrize("way", WAYS)
acknowledging = pytest.mark.parametrize("way", [way for way, (_, qos) in WAYS.items() if qos != 0])


@acknowledging
@pytest.mark.parametrize("persistent", [True, False])
class TestWithoutAcknowledgements:
    def test_a_call_whose_retries_are_used_up_fails(self, way: str, persistent: bool) -> None:
        peer = peer_of(way)
        waiting = peer.called(persistent=persistent, retries=0)
        assert len(peer.given()) == 1
        peer.world.clock.advance(10.1)
        assert peer.record().state is CallState.FAILED
        assert peer.record().reason is Reason.NO_ACK
        if not persistent:
            assert error_of(waiting).reason is Reason.NO_ACK

    def test_a_call_with_less_time_left_than_that_expires(self, way: str, persistent: bool) -> None:
        """min(acknowledgement timeout, time left): nobody hears of it twice."""
        peer = peer_of(way)
        peer.called(persistent=persistent, timeout=6, retries=0).addErrback(lambda _: None)
        peer.world.clock.advance(6.1)
        assert peer.record().state is CallState.EXPIRED
        peer.world.clock.advance(10)
        assert peer.record().state is CallState.EXPIRED
        assert peer.record().reason is Reason.NO_ACK

    @pytest.mark.parametrize("strategy", [SubmitStrategy.ON_ACK, SubmitStrategy.ON_RESPONSE])
    def test_in_sequence_it_is_sent_again_as_a_new_packet_with_the_same_wire_id(
        self, way: str, persistent: bool, strategy: SubmitStrategy
    ) -> None:
        peer = peer_of(way)
        for rpc_id in (ONE, TWO):
            peer.called(persistent=persistent, request_id=rpc_id, strategy=strategy, retries=2).addErrback(
                lambda _: None
            )
        (first,) = peer.given()
        sent = [first]
        for _ in range(2):
            peer.world.clock.advance(10.1)
            sent += peer.given()
        assert [each.wire_id for each in sent] == [first.wire_id] * 3
        assert len({each.packet_id for each in sent}) == 3
        assert not any(each.dup for each in sent)
        peer.world.clock.advance(10.1)
        assert peer.record(ONE).state is CallState.FAILED
        (other,) = peer.given()
        assert other.wire_id == first.wire_id + 1
        for late in sent:
            peer.acknowledge(late)
        assert peer.record(ONE).state is CallState.FAILED
        peer.acknowledge(other)
        assert peer.record(TWO).state is CallState.DELIVERED

    def test_the_acknowledgement_of_any_of_its_packets_counts(self, way: str, persistent: bool) -> None:
        peer = peer_of(way)
        peer.called(persistent=persistent, strategy=SubmitStrategy.ON_ACK).addErrback(lambda _: None)
        (first,) = peer.given()
        peer.world.clock.advance(10.1)
        (again,) = peer.given()
        peer.acknowledge(first)
        assert peer.record().state is CallState.DELIVERED
        peer.world.clock.advance(30)
        assert peer.given() == []
        assert peer.record().state is CallState.DELIVERED
        peer.acknowledge(again)
        assert peer.record().state is CallState.DELIVERED

    def test_where_there_is_no_room_for_it_again_the_first_one_is_awaited_anew(
        self, way: str, persistent: bool
    ) -> None:
        make, qos = WAYS[way]
        peer = make(Mqtt(), qos)
        peer.come(properties={Property.RECEIVE_MAXIMUM: 1})
        sequence = {"strategy": SubmitStrategy.ON_ACK, "persistent": persistent, "retries": 1}
        for rpc_id in (ONE, TWO):
            peer.called(request_id=rpc_id, **sequence).addErrback(lambda _: None)
        (first,) = peer.given()
        peer.world.clock.advance(10.1)
        assert peer.given() == [], "MQTT-3.3.4-9"
        assert peer.record(ONE).state is CallState.SENT
        peer.world.clock.advance(10.1)
        assert peer.record(ONE).state is CallState.FAILED
        assert peer.given() == [], "its place is taken until it is acknowledged"
        assert peer.record(TWO).state is CallState.QUEUED
        peer.acknowledge(first)
        (second,) = peer.given()
        assert second.wire_id == first.wire_id + 1
        assert peer.record(TWO).state is CallState.SENT


class TestClosingWhoAcknowledgesNothing:
    @pytest.mark.parametrize("persistent", [True, False])
    @pytest.mark.parametrize("level", [4, 5])
    def test_the_device_is_told_so_and_the_call_begins_anew(self, persistent: bool, level: int) -> None:
        peer = Peer(Mqtt(rpc={"close_session_on_delivery_timeout": True}), level=level)
        peer.come()
        peer.called(persistent=persistent, retries=0).addErrback(lambda _: None)
        (first,) = peer.given()
        peer.world.clock.advance(10.1)
        assert peer.given() == []
        assert peer.client.closed
        assert [a.code for a in peer.answers if isinstance(a, p.Disconnect)] == ([0x98] if level == 5 else [])
        assert peer.record().state is CallState.QUEUED
        peer.lose()
        (again,) = peer.come()
        assert again.wire_id == first.wire_id
        assert peer.record().state is CallState.SENT

    @pytest.mark.parametrize("persistent", [True, False])
    def test_its_mqtt_session_goes_on(self, persistent: bool) -> None:
        peer = Peer(Mqtt(rpc={"close_session_on_delivery_timeout": True}))
        peer.come(**KEPT)
        peer.called(persistent=persistent, retries=0).addErrback(lambda _: None)
        (first,) = peer.given()
        peer.world.clock.advance(10.1)
        peer.lose()
        peer.enter(**KEPT)
        (again,) = peer.given()
        assert again.wire_id == first.wire_id

    @pytest.mark.parametrize("persistent", [True, False])
    def test_a_child_is_still_there_and_is_called_again(self, persistent: bool) -> None:
        peer = ChildPeer(Mqtt(rpc={"close_session_on_delivery_timeout": True}))
        peer.come()
        for rpc_id, retries in ((ONE, 0), (TWO, 5)):
            peer.called(persistent=persistent, request_id=rpc_id, retries=retries).addErrback(lambda _: None)
        first, second = peer.given()
        peer.world.clock.advance(10.1)
        peer.world.clock.advance(0.1)
        assert [each.wire_id for each in peer.given()] == [first.wire_id, second.wire_id]
        assert not peer.client.closed
        assert peer.record(ONE).state is CallState.SENT


class TestBeforeItHasSubscribedAgain:
    """Rule: what a device says of a call counts whenever it says it."""

    @pytest.fixture(params=["the connection is new", "the broker is new"])
    def peer(self, request: pytest.FixtureRequest) -> Peer:
        """A device with a persistent call that it has got before."""
        peer = Peer(Mqtt())
        peer.come()
        peer.called(persistent=True)
        assert len(peer.given()) == 1
        peer.lose()
        if request.param == "the broker is new":
            peer = Peer(Mqtt(store=peer.world.store))
        peer.enter()
        return peer

    @pytest.mark.parametrize("qos", [0, 1, 2])
    def test_a_reply_counts(self, peer: Peer, qos: int) -> None:
        assert peer.reply(1, qos=qos) == [[], [p.PubAck(77)], [p.PubRec(77)]][qos]
        assert peer.record().state is CallState.SUCCESSFUL
        peer.client.subscribe()
        assert peer.given() == []

    def test_a_reply_that_is_not_json_counts(self, peer: Peer) -> None:
        assert peer.reply(1, b"oops") == [p.PubAck(77, 0x99)]
        kept = peer.stored()
        assert (kept.record.state, kept.response) == (CallState.SUCCESSFUL, b'{"error":"oops"}')

    def test_progress_counts(self, peer: Peer) -> None:
        peer.world.clock.advance(55)
        assert peer.report(1) == [p.PubAck(77)]
        assert peer.record().state is CallState.DELIVERED
        assert peer.record().expiration_time == peer.world.now_ms() + 10_000


@pytest.mark.parametrize("persistent", [True, False])
def test_a_resumed_session_is_given_its_call_again_before_it_has_said_anything(persistent: bool) -> None:
    peer = Peer(Mqtt())
    peer.come(**KEPT)
    peer.called(persistent=persistent).addErrback(lambda _: None)
    (first,) = peer.given()
    peer.lose()
    peer.enter(**KEPT)
    (again,) = peer.given()
    assert again.wire_id == first.wire_id
    peer.acknowledge(again)
    assert peer.record().state is CallState.DELIVERED


def test_of_what_was_sent_twice_on_one_connection_the_next_one_gets_one() -> None:
    peer = Peer(Mqtt())
    peer.come(**KEPT)
    peer.called(strategy=SubmitStrategy.ON_ACK).addErrback(lambda _: None)
    (first,) = peer.given()
    peer.world.clock.advance(10.1)
    assert len(peer.given()) == 1
    peer.lose()
    peer.enter(**KEPT)
    assert peer.given() == [first._replace(dup=True)]
    peer.acknowledge(first)
    assert peer.record().state is CallState.DELIVERED


class TestTheAcknowledgementOfAReply:
    @each_way
    @pytest.mark.parametrize("qos", [1, 2])
    @pytest.mark.parametrize("payload", [b'{"a":1}', b"1e999"])
    def test_it_waits_until_the_end_is_on_disk(self, way: str, qos: int, payload: bytes) -> None:
        peer = peer_of(way)
        peer.called(persistent=True)
        (given,) = peer.given()
        with Slow(peer.world.store.calls, "end") as end:
            assert peer.reply(given.wire_id, payload, qos) == []
            assert peer.client.send(p.PingReq()) == [p.PingResp()], "nothing else waits"
            end.arrive()
        code = 0 if payload.startswith(b"{") else 0x99
        assert peer.acknowledgements() == [(p.PubAck if qos == 1 else p.PubRec)(77, code)]
        assert peer.stored().record.state is CallState.SUCCESSFUL
        assert peer.stored().response == (b'{"error":"1e999"}' if code else payload)

    @pytest.mark.parametrize(("qos", "acknowledged"), [(1, p.PubAck), (2, p.PubRec)])
    def test_a_reply_that_comes_twice_meanwhile_is_acknowledged_with_the_first(
        self, qos: int, acknowledged: type[Any]
    ) -> None:
        peer = peer_of("a device at QoS 1")
        peer.called(persistent=True)
        (given,) = peer.given()
        with Slow(peer.world.store.calls, "end") as end:
            topic, payload = f"{dialect.V1.rpc_response}{given.wire_id}", b"1"
            assert peer.client.say(topic, payload, qos, 5) == []
            assert peer.client.say(topic, payload, qos, 6) == []
            end.arrive()
        assert peer.client.received() == [acknowledged(5), acknowledged(6)]
        assert peer.world.session().missed(NearMiss.UNKNOWN_REPLY) == 0

    @each_way
    @pytest.mark.parametrize("level", [4, 5])
    @pytest.mark.parametrize("qos", [0, 1, 2])
    def test_what_cannot_be_kept_is_refused(
        self, way: str, level: int, qos: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make, subscribed = WAYS[way]
        peer = make(Mqtt(), subscribed, level)
        peer.come()
        peer.called(persistent=True)
        (given,) = peer.given()
        with monkeypatch.context() as broken:
            broken.setattr(peer.world.store.calls, "end", lambda _: fail(Unavailable("The disk is full")))
            answers = peer.reply(given.wire_id, qos=qos)
        if level == 5 and qos:
            assert answers == [(p.PubAck if qos == 1 else p.PubRec)(77, 0x97)]
            assert not peer.client.closed
        else:
            assert answers == ([p.Disconnect(0x83)] if level == 5 else [])
            assert peer.client.closed
        assert peer.record().ended_time is None
        peer.world.clock.advance(1.1)
        assert peer.record().state is CallState.SUCCESSFUL, "it is written when it can be"

    def test_the_connection_may_be_gone_by_then(self) -> None:
        peer = peer_of("a device at QoS 1")
        peer.called(persistent=True)
        (given,) = peer.given()
        with Slow(peer.world.store.calls, "end") as end:
            assert peer.reply(given.wire_id) == []
            peer.lose()
            assert peer.come() == [], "it has answered"
            end.arrive()
        assert peer.reply(given.wire_id) == [p.PubAck(77)]
        assert peer.record().state is CallState.SUCCESSFUL


@each_way
def test_a_late_reply_is_acknowledged_and_noted(way: str) -> None:
    peer = peer_of(way)
    peer.called(persistent=True)
    (given,) = peer.given()
    peer.world.clock.advance(61)
    assert peer.reply(given.wire_id) == [p.PubAck(77)]
    session = result_of(Deferred.fromCoroutine(peer.world.broker.session(peer.device_id)))
    assert session.missed(NearMiss.UNKNOWN_REPLY) == 1
