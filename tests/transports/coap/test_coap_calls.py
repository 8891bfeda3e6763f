"""Calls to devices that speak CoAP, message by message, from the broker to the wire and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from coap_air import Air, Remote, option
from coap_world import RPC_ID, TOKEN, Coap
from fakes import error_of, result_of
from msgspec import structs

from rpcbroker.core import jsontext
from rpcbroker.core.calls import CallRequest, CallState
from rpcbroker.core.errors import Reason
from rpcbroker.core.model import Scope
from rpcbroker.core.settings import CoapSettings
from rpcbroker.transports.coap.server import CoapServer
from rpcbroker.wire.coap.blockwise import Block
from rpcbroker.wire.coap.message import Message
from rpcbroker.wire.coap.numbers import Code, OptionNumber, Type

CALL = CallRequest(method="m", params=b'{"pin":7}', timeout=300, request_id=RPC_ID)
GIVEN = b'{"id":1,"method":"m","params":{"pin":7}}'
RPC = f"/api/v1/{TOKEN}/rpc"
ATTRIBUTES = f"/api/v1/{TOKEN}/attributes"
TELEMETRY = f"/api/v1/{TOKEN}/telemetry"
both = pytest.mark.parametrize("kind", [Type.CON, Type.NON], ids=["con", "non"])


class RealAir(Air):
    """The air between devices and the real broker."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.coap = Coap(**settings)
        self.world = self.coap.world
        self.clock = self.world.clock
        self.server = CoapServer(
            self.coap.site.handle,
            self.coap.site.admit,
            settings=CoapSettings(**settings),
            deadlines=self.world.broker.deadlines,
            rng=Random(0),
            seconds=self.clock.seconds,
            secret=b"secret",
        )

    def state(self) -> CallState:
        record = self.world.broker.recorder.find(self.world.device.tenant_id, RPC_ID)
        assert record is not None
        return record.state


@pytest.fixture
def air() -> Iterator[RealAir]:
    air = RealAir()
    yield air
    result_of(air.world.broker.drain(0))


def observe(device: Remote, path: str = RPC, kind: int = Type.CON, token: bytes = b"o") -> Message:
    """The answer to a registration."""
    answer = device.ask(path=path, observe=0, kind=kind, token=token)[0]
    assert answer.code >> 5 == 2
    assert option(answer, OptionNumber.OBSERVE) is not None
    return answer


@both
def test_a_two_way_call(air: RealAir, kind: int) -> None:
    device = air.device()
    answer = observe(device, kind=kind)
    assert (answer.code, answer.payload) == (Code.VALID, b"")
    waiting = air.world.call(CALL)
    (notification,) = device.heard()
    assert (notification.type, notification.code, notification.payload) == (kind, Code.CONTENT, GIVEN)
    assert notification.token == b"o"
    assert option(notification, OptionNumber.CONTENT_FORMAT) == b"\x32"
    assert air.state() is (CallState.SENT if kind == Type.CON else CallState.DELIVERED)
    if kind == Type.CON:
        device.acknowledge(notification)
        assert air.state() is CallState.DELIVERED
    (reply,) = device.ask(Code.POST, f"{RPC}/1", b"true")
    assert (reply.type, reply.code) == (Type.ACK, Code.CREATED)
    assert result_of(waiting).payload == b"true"


@both
def test_what_waited_comes_after_the_answer_to_the_registration_and_is_newer(air: RealAir, kind: int) -> None:
    waiting = air.world.call(CALL)
    answer, notification = air.device().ask(path=RPC, observe=0, kind=kind)
    assert (answer.code, notification.payload) == (Code.VALID, GIVEN)
    older, newer = (option(each, OptionNumber.OBSERVE) for each in (answer, notification))
    assert int.from_bytes(older or b"", "big") < int.from_bytes(newer or b"", "big")
    waiting.cancel()
    error_of(waiting)


def test_silence_is_a_disconnect_by_no_ack(air: RealAir) -> None:
    device = air.device()
    observe(device)
    waiting = air.world.call(structs.replace(CALL, retries=0))
    air.advance(100)
    assert len(device.heard()) == 5
    assert error_of(waiting).reason is Reason.NO_ACK
    assert "NO_ACK" in air.coap.session.presence.connected.cause


@both
def test_a_reset_ends_it(air: RealAir, kind: int) -> None:
    device = air.device()
    observe(device, kind=kind)
    waiting = air.world.call(CALL)
    device.reset(device.heard()[0])
    assert not air.coap.session.connected
    assert air.state() is (CallState.QUEUED if kind == Type.CON else CallState.DELIVERED)
    waiting.cancel()
    error_of(waiting)


def test_observe_1_ends_it(air: RealAir) -> None:
    device = air.device()
    observe(device)
    (answer,) = device.ask(path=RPC, observe=1, token=b"o")
    assert (answer.code, option(answer, OptionNumber.OBSERVE)) == (Code.DELETED, None)
    assert not air.coap.session.connected


def test_one_from_elsewhere_replaces_it_and_the_older_is_told(air: RealAir) -> None:
    older, newer = air.device(1), air.device(2)
    observe(older)
    observe(newer)
    (last,) = older.heard()
    assert (last.code, last.token, last.payload, option(last, OptionNumber.OBSERVE)) == (Code.DELETED, b"o", b"", None)
    waiting = air.world.call(structs.replace(CALL, oneway=True))
    assert [each.payload for each in newer.heard()] == [GIVEN]
    result_of(waiting)


def test_a_device_that_moved_gets_its_call_where_it_is(air: RealAir) -> None:
    before, after = air.device(1), air.device(2)
    observe(before)
    waiting = air.world.call(CALL)
    air.advance(10)
    first, *_ = before.heard()
    answers = after.ask(Code.POST, TELEMETRY, b'{"t":1}')
    (notification,) = [each for each in answers if each.payload == GIVEN]
    after.acknowledge(notification)
    assert air.state() is CallState.DELIVERED
    assert first.token == notification.token
    after.ask(Code.POST, f"{RPC}/1", b"1")
    result_of(waiting)
    result_of(air.world.call(structs.replace(CALL, request_id=None, oneway=True)))
    assert [each.type for each in after.heard()] == [Type.CON]


def test_shared_attributes_are_told_when_the_device_can_hear_it(air: RealAir) -> None:
    device, broker = air.device(), air.world.broker
    answer = observe(device, ATTRIBUTES)
    assert answer.payload == b"{}"
    for number in range(2):
        values = broker.attributes.parse(jsontext.encode({"a": number}))
        result_of(broker.attributes.save(air.world.device.id, Scope.SHARED, values))
    (first,) = device.heard()
    assert first.payload == b'{"a":0}'
    (second,) = device.acknowledge(first)
    assert second.payload == b'{"a":1}'


def test_a_device_that_sleeps_gets_its_call_with_its_next_message(air: RealAir) -> None:
    air.world.broker.device_changed(replace(air.coap.session.device, additional_info={"psm": True}))
    device = air.device()
    observe(device)
    air.advance(11)
    waiting = air.world.call(CALL)
    assert device.heard() == []
    messages = device.ask(Code.POST, TELEMETRY, b'{"t":1}')
    assert {(each.type, each.code) for each in messages} == {(Type.ACK, Code.CREATED), (Type.CON, Code.CONTENT)}
    device.ask(Code.POST, f"{RPC}/1", b"1")
    result_of(waiting)


def test_a_large_call_is_delivered_with_its_last_block(air: RealAir) -> None:
    device = air.device()
    observe(device)
    params = jsontext.encode("x" * 3000)
    waiting = air.world.call(structs.replace(CALL, params=params))
    (first,) = device.heard()
    assert Block.decode(option(first, OptionNumber.BLOCK2) or b"") == Block(0, True, 6)
    device.acknowledge(first)
    body = first.payload
    for number in (1, 2):
        assert air.state() is CallState.SENT
        (part,) = device.ask(path=RPC, token=b"b", block2=Block(number, False, 6))
        body += part.payload
    assert jsontext.decode(body)["params"] == "x" * 3000
    assert air.state() is CallState.DELIVERED
    device.ask(Code.POST, f"{RPC}/1", b"1")
    result_of(waiting)


@both
def test_the_server_says_when_it_stops(kind: int) -> None:
    air = RealAir()
    device = air.device()
    observe(device, kind=kind)
    result_of(air.world.broker.drain(0))
    (last,) = device.heard()
    assert (last.type, last.code) == (kind, Code.DELETED)


def test_who_is_not_known_gets_little(air: RealAir) -> None:
    for path in ("/api/v1/x/rpc", "/api/v1/x/attributes", "/x", "/.well-known/core"):
        for more in ({}, {"observe": 0}):
            (answer,) = air.device().ask(path=path, token=b"", **more)
            assert option(answer, OptionNumber.OBSERVE) is None
            size = 4 + sum(len(each) + 2 for each in path.split("/"))
            assert len(answer.payload) < 3 * size


def test_the_body_of_a_stranger_ends_with_its_first_block(air: RealAir) -> None:
    (answer,) = air.device().ask(Code.POST, "/api/v1/x/telemetry", b"x" * 1024, block1=Block(0, True, 6))
    assert answer.code == Code.UNAUTHORIZED
    (answer,) = air.device().ask(Code.POST, TELEMETRY, b"x" * 1024, block1=Block(0, True, 6))
    assert answer.code == Code.CONTINUE


def test_a_call_to_a_device_that_has_moved_is_tried_where_it_was_heard_last(air: RealAir) -> None:
    before, after = air.device(1), air.device(2)
    observe(before)
    after.ask(Code.POST, TELEMETRY, b'{"t":1}')
    waiting = air.world.call(CALL)
    assert [each.payload for each in before.heard()] == [GIVEN]
    assert after.heard() == []  # another socket of the device, perhaps, that observes nothing
    air.advance(3.1)
    (notification,) = after.heard()
    after.acknowledge(notification)
    assert air.state() is CallState.DELIVERED
    after.ask(Code.POST, f"{RPC}/1", b"1")
    result_of(waiting)


def test_a_device_that_is_heard_where_it_observes_is_nowhere_else(air: RealAir) -> None:
    here, elsewhere = air.device(1), air.device(2)
    observe(here)
    elsewhere.ask(Code.POST, TELEMETRY, b'{"t":1}')
    here.ask(Code.POST, TELEMETRY, b'{"t":2}')
    waiting = air.world.call(CALL)
    air.advance(20)
    assert len(here.heard()) == 4
    assert elsewhere.heard() == []
    waiting.cancel()
    error_of(waiting)


def test_a_large_call_that_is_not_fetched_costs_the_device_none_of_the_others(air: RealAir) -> None:
    device = air.device()
    observe(device)
    large = air.world.call(structs.replace(CALL, params=jsontext.encode("x" * 3000), retries=0))
    device.acknowledge(device.heard()[0])
    air.clock.advance(100)
    assert error_of(large).reason is Reason.NO_ACK
    assert air.coap.session.callable
    result_of(air.world.call(structs.replace(CALL, request_id=None, oneway=True)))


def test_a_call_on_its_way_waits_for_the_next_observation_when_the_session_below_is_closed(air: RealAir) -> None:
    device = air.device()
    observe(device)
    waiting = air.world.call(structs.replace(CALL, retries=0))
    device.heard()
    air.server.lost(device.peer, "the device closed the DTLS session")
    assert "closed the DTLS session" in air.coap.session.presence.connected.cause
    _, again = device.ask(path=RPC, observe=0, token=b"o")
    assert again.payload == GIVEN
    device.ask(Code.POST, f"{RPC}/1", b"1")
    result_of(waiting)


@pytest.mark.parametrize("persistent", [False, True], ids=["lightweight", "persistent"])
def test_a_call_that_a_device_fell_asleep_over_is_given_once_when_it_wakes(air: RealAir, persistent: bool) -> None:
    air.world.broker.device_changed(replace(air.coap.session.device, additional_info={"psm": True}))
    device = air.device()
    observe(device)
    air.advance(9)
    waiting = air.world.call(structs.replace(CALL, persistent=persistent))
    air.advance(120)
    assert {each.payload for each in device.heard()} == {GIVEN}
    assert air.coap.session.connected
    _, given = sorted(device.ask(Code.POST, TELEMETRY, b'{"t":1}'), key=lambda each: each.payload)
    assert given.payload == GIVEN
    assert device.acknowledge(given) == []
    device.ask(Code.POST, f"{RPC}/1", b"1")
    result_of(waiting)
    assert air.state() is CallState.SUCCESSFUL


def test_an_update_that_a_device_fell_asleep_over_comes_when_it_wakes(air: RealAir) -> None:
    broker = air.world.broker
    broker.device_changed(replace(air.coap.session.device, additional_info={"psm": True}))
    device = air.device()
    observe(device, ATTRIBUTES)
    air.advance(9)
    for number in range(2):
        values = broker.attributes.parse(jsontext.encode({"a": number}))
        result_of(broker.attributes.save(air.world.device.id, Scope.SHARED, values))
    air.advance(120)
    assert {each.payload for each in device.heard()} == {b'{"a":0}'}
    _, first = sorted(device.ask(Code.POST, TELEMETRY, b'{"t":1}'), key=lambda each: each.payload)
    assert first.payload == b'{"a":0}'
    (second,) = device.acknowledge(first)
    assert second.payload == b'{"a":1}'


def test_large_updates_and_large_answers_make_room_for_each_other(air: RealAir) -> None:
    device, broker = air.device(), air.world.broker
    for number in range(4):
        values = broker.attributes.parse(jsontext.encode({"a": f"{number}" * 3000}))
        result_of(broker.attributes.save(air.world.device.id, Scope.SHARED, values))
        if number == 0:
            observe(device, ATTRIBUTES)
    device.acknowledge(device.heard()[0])
    assert len(observe(device, ATTRIBUTES).payload) == 1024
    air.advance(1)
    (second,) = device.heard()
    assert second.payload.startswith(b'{"a":"22')
    air.server.lost(device.peer, "the device closed the DTLS session")
    assert (len(air.server.shelf), air.server.shelf.size) == (0, 0)
    air.clock.advance(300)


@pytest.mark.parametrize("what", ["", "/progress"])
def test_what_a_device_says_of_a_call_acknowledges_it(air: RealAir, what: str) -> None:
    """Its acknowledgement was lost, and later calls need not wait for it."""
    device, elsewhere = air.device(1), air.device(2)
    observe(device)
    first, second = air.world.call(CALL), air.world.call(structs.replace(CALL, request_id=None, oneway=True))
    air.advance(10)
    device.heard()
    elsewhere.ask(Code.POST, f"{RPC}/1{what}", b"1")
    assert air.state() is (CallState.DELIVERED if what else CallState.SUCCESSFUL)
    (next_,) = device.heard()
    assert jsontext.decode(next_.payload)["id"] == 2
    device.acknowledge(next_)
    result_of(second)
    air.advance(100)
    assert device.heard() == []
    assert air.coap.session.callable
    device.ask(Code.POST, f"{RPC}/1", b"1")
    result_of(first)


@both
def test_a_device_that_does_not_listen_for_long_gets_its_call_at_its_new_address_at_once(
    air: RealAir, kind: int
) -> None:
    air.world.broker.device_changed(replace(air.coap.session.device, additional_info={"psm": 500}))
    before, after = air.device(1), air.device(2)
    observe(before, kind=kind)
    air.advance(60)
    waiting = air.world.call(CALL)
    (given,) = [each for each in after.ask(Code.POST, TELEMETRY, b'{"t":1}') if each.payload == GIVEN]
    after.acknowledge(given)
    after.ask(Code.POST, f"{RPC}/1", b"1")
    result_of(waiting)
    before.heard()
    again = air.world.call(structs.replace(CALL, request_id=None))
    assert [len(each.heard()) for each in (before, after)] == [0, 1]
    again.cancel()
    error_of(again)
