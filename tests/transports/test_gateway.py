"""The gateway API: devices that speak through another one's connection."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from fakes import Slow, device, error_of, result_of
from gateway_world import CALL, Plant
from twisted.internet.defer import fail

from rpcbroker.core.calls import CallRequest
from rpcbroker.core.errors import NoActiveConnection, Reason, Unavailable
from rpcbroker.core.jsontext import BadJSON
from rpcbroker.core.near_misses import NearMiss
from rpcbroker.core.ports import CloseReason
from rpcbroker.transports import dialect
from rpcbroker.transports.mqtt.face import Refused
from rpcbroker.transports.mqtt.gateway_children import LOOKUPS
from rpcbroker.wire.mqtt.packets import ReasonCode

LEVELS = pytest.mark.parametrize("level", [3, 4, 5])
IMPLEMENTATION_SPECIFIC = 0x83
QUOTA_EXCEEDED = 0x97


@pytest.fixture
def plant() -> Plant:
    return Plant()


# -- connect, disconnect


def test_a_child_that_connects_is_made_and_callable(plant: Plant) -> None:
    assert plant.say("connect", {"device": "A", "type": "thermometer"}) == 0
    child = plant.child("A")
    assert child.device.type == "thermometer"
    assert child.presence.callable.value
    assert child.presence.connected.cause == "connected over MQTT gateway"
    assert child.presence.seen_cause == "MQTT gateway"


def test_connecting_again_changes_nothing(plant: Plant) -> None:
    plant.say("connect", {"device": "A"})
    plant.say("connect", {"device": "A"})
    assert plant.told() == []
    assert plant.child("A").connected


def test_a_child_that_disconnects_is_not_callable_until_it_is_mentioned_again(plant: Plant) -> None:
    plant.say("connect", {"device": "A"})
    assert plant.say("disconnect", {"device": "A"}) == 0
    error = error_of(plant.call_child("A", CallRequest(method="get", connect_timeout=0)))
    assert isinstance(error, NoActiveConnection)
    assert "its gateway said that it disconnected" in error.hint
    plant.say("rpc", {"device": "A", "id": 1, "method": "getCurrentTime"})
    plant.call_child("A")
    assert len(plant.carrier.carried) == 1


def test_who_disconnects_and_was_never_there_is_not_made(plant: Plant) -> None:
    assert plant.say("disconnect", {"device": "A"}) == 0
    assert plant.named("A") is None


def test_silence_takes_nothing_from_a_child(plant: Plant) -> None:
    plant.say("connect", {"device": "A"})
    plant.clock.advance(7 * 24 * 3600)
    plant.call_child("A")
    assert len(plant.carrier.carried) == 1


def test_with_the_gateway_go_its_children(plant: Plant) -> None:
    plant.say("connect", {"device": "A"})
    plant.face.gone("connection lost")
    child = plant.child("A")
    assert not child.connected
    assert child.presence.connected.cause == "its gateway 'device-100': connection lost"


def test_with_a_gateway_that_is_closed_go_its_children(plant: Plant) -> None:
    plant.say("connect", {"device": "A"})
    plant.face.close(CloseReason.SHUTTING_DOWN)
    assert not plant.child("A").connected
    assert plant.carrier.published == []


def test_what_was_said_just_before_the_end_is_done_but_connects_nobody(plant: Plant) -> None:
    with Slow(plant.store, "device_by_name") as slow:
        outcome = plant.outcome("rpc", {"device": "A", "id": 1, "method": "getCurrentTime"})
        plant.face.gone("connection lost")
    slow.arrive()
    assert result_of(outcome) == 0
    assert not plant.child("A").connected
    assert plant.carrier.published == []


# -- calls


@pytest.mark.parametrize(("granted", "qos"), [(None, 1), (0, 0), (1, 1)])
def test_a_call_goes_to_the_gateway_with_the_qos_it_subscribed_with(
    plant: Plant, granted: int | None, qos: int
) -> None:
    if granted is not None:
        plant.granted["v1/gateway/rpc"] = granted
    plant.say("connect", {"device": 'A "1"'})
    plant.call_child('A "1"')
    ((topic, payload, given),) = plant.carrier.texts
    assert (topic, given) == ("v1/gateway/rpc", qos)
    assert payload == b'{"device":"A \\"1\\"","data":{"id":1,"method":"get","params":{"pin":7}}}'


@pytest.mark.parametrize("data", [b"true", b"null", b'{"7": 1.0}', b'"text"', b"[ ]", b"0", b"[" * 63 + b"]" * 63])
def test_a_reply_reaches_the_caller_as_it_was_written(plant: Plant, data: bytes) -> None:
    plant.say("connect", {"device": "A"})
    waiting = plant.call_child("A")
    assert plant.say("rpc", b'{"device":"A","id":1,"data":%b}' % data) == 0
    assert result_of(waiting).payload == data


def test_a_reply_settles_the_call_of_its_own_child_only(plant: Plant) -> None:
    for name in "AB":
        plant.say("connect", {"device": name})
    first, second = plant.call_child("A"), plant.call_child("B")
    assert [call["data"]["id"] for call in plant.carrier.calls()] == [1, 1]
    plant.say("rpc", {"device": "B", "id": 1, "data": "b"})
    assert result_of(second).payload == b'"b"'
    assert not first.called
    plant.say("rpc", {"device": "A", "id": 1, "data": "a"})
    assert result_of(first).payload == b'"a"'


def test_a_late_reply_is_acknowledged_and_dropped(plant: Plant) -> None:
    plant.say("connect", {"device": "A"})
    assert plant.say("rpc", {"device": "A", "id": 99, "data": 1}) == 0
    assert plant.near_misses == [NearMiss.UNKNOWN_REPLY]


@pytest.mark.parametrize("data", [b'"\xff"', b"1e999"])
def test_a_reply_that_looks_like_json_and_is_none_ends_the_call(plant: Plant, data: bytes) -> None:
    plant.say("connect", {"device": "A"})
    waiting = plant.call_child("A")
    assert plant.say("rpc", b'{"device":"A","id":1,"data":%b}' % data) == ReasonCode.PAYLOAD_FORMAT_INVALID
    assert error_of(waiting).reason is Reason.BAD_REPLY


def test_the_gateways_acknowledgement_is_that_of_the_childs_call(plant: Plant) -> None:
    plant.say("connect", {"device": "A"})
    oneway = plant.call_child("A", CallRequest(method="set", oneway=True, timeout=60))
    plant.carrier.acknowledge()
    assert result_of(oneway).payload == b""


def test_calls_that_find_no_room_go_when_there_is_some(plant: Plant) -> None:
    for name in "AB":
        plant.say("connect", {"device": name})
    plant.carrier.room = False
    plant.call_child("A")
    plant.call_child("B")
    plant.carrier.make_room()
    assert [call["device"] for call in plant.carrier.calls()] == ["A", "B"]


def test_a_call_that_waited_is_given_when_the_child_is_first_mentioned(plant: Plant) -> None:
    there = device(7)
    plant.add(there)
    plant.call(CALL, device_id=there.id)
    plant.say("rpc", {"device": there.name, "id": 5, "data": 0})
    assert [call["device"] for call in plant.carrier.calls()] == [there.name]


# -- questions


def test_a_child_asks_the_server(plant: Plant) -> None:
    assert plant.say("rpc", {"device": "A", "id": 3, "method": "getCurrentTime", "params": {}}) == 0
    assert plant.carrier.published == [("v1/gateway/rpc", {"device": "A", "id": 3, "data": plant.now_ms()}, 1)]


def test_a_childs_question_that_nobody_answers_gets_an_error_that_names_the_method(plant: Plant) -> None:
    plant.granted["v1/gateway/rpc"] = 0
    plant.say("rpc", {"device": "A", "id": 3, "method": "reboot"})
    ((_, message, qos),) = plant.carrier.published
    assert message == {"device": "A", "id": 3, "data": {"error": 'no rule answers the method "reboot"'}}
    assert qos == 0


def test_a_message_with_data_is_a_reply_whatever_else_it_has(plant: Plant) -> None:
    plant.say("rpc", {"device": "A", "id": 3, "method": "getCurrentTime", "data": None})
    assert plant.carrier.published == []


# -- moving


def test_a_child_that_another_gateway_names_moves_there_with_its_calls(plant: Plant) -> None:
    plant.say("connect", {"device": "A"})
    waiting = plant.call_child("A")
    other, carrier = plant.another()
    plant.say("connect", {"device": "A"}, other)
    assert plant.told() == [{"device": "A", "reason": 0x8E}]
    assert carrier.calls() == plant.carrier.calls(), "it was not acknowledged: the same call, the same id"
    plant.say("rpc", {"device": "A", "id": 1, "data": 1}, other)
    assert result_of(waiting).payload == b"1"
    assert plant.child("A").device.additional_info == {"lastConnectedGateway": str(UUID(int=200))}


def test_who_lost_a_child_does_not_take_it_back_by_speaking_for_it(plant: Plant) -> None:
    other, carrier = plant.another()
    plant.say("connect", {"device": "A"})
    plant.say("connect", {"device": "A"}, other)
    for _ in range(3):
        assert plant.say("rpc", {"device": "A", "id": 9, "data": 0}) == 0
    assert plant.near_misses == [NearMiss.UNKNOWN_REPLY] * 3, "what it says is taken all the same"
    plant.call_child("A")
    assert (len(carrier.carried), len(plant.carrier.carried)) == (1, 0)
    assert [topic for topic, *_ in carrier.published] == []


def test_who_lost_a_child_takes_it_back_by_connecting_it(plant: Plant) -> None:
    other, carrier = plant.another()
    plant.say("connect", {"device": "A"})
    plant.say("connect", {"device": "A"}, other)
    plant.say("connect", {"device": "A"})
    plant.call_child("A")
    assert (len(carrier.carried), len(plant.carrier.carried)) == (0, 1)
    assert plant.child("A").device.additional_info == {"lastConnectedGateway": str(plant.device.id)}


def test_who_lost_a_child_has_it_back_once_nobody_else_has_it(plant: Plant) -> None:
    other, _ = plant.another()
    plant.say("connect", {"device": "A"})
    plant.say("connect", {"device": "A"}, other)
    other.gone("connection lost")
    plant.say("rpc", {"device": "A", "id": 9, "data": 0})
    plant.call_child("A")
    assert len(plant.carrier.carried) == 1


def test_a_gateway_that_goes_takes_no_child_from_another(plant: Plant) -> None:
    other, _ = plant.another()
    plant.say("connect", {"device": "A"})
    plant.say("connect", {"device": "A"}, other)
    plant.face.gone("connection lost")
    assert plant.child("A").connected
    assert plant.say("disconnect", {"device": "A"}, other) == 0
    assert not plant.child("A").connected


def test_a_device_that_connects_itself_leaves_its_gateway_and_stays(plant: Plant) -> None:
    plant.say("connect", {"device": "A"})
    link = plant.link(plant.named("A"))
    plant.say("rpc", {"device": "A", "id": 9, "data": 0})
    assert link.closed == []
    plant.say("connect", {"device": "A"})
    assert link.closed == [CloseReason.TAKEN_OVER]


def test_a_device_has_two_names_at_a_gateway_after_it_was_renamed_and_one_way(plant: Plant) -> None:
    plant.say("connect", {"device": "A"})
    session = plant.child("A")
    renamed = replace(session.device, name="B", version=2)
    result_of(plant.store.update_device(renamed))
    plant.broker.device_changed(renamed)
    plant.call_child("B")
    assert plant.carrier.calls()[0]["device"] == "A", "the gateway knows it by this name"
    plant.say("connect", {"device": "B"})
    assert plant.child("B") is session
    assert plant.told() == [{"device": "A", "reason": 0x8E}]


# -- what happens to a child's record


def test_a_child_that_is_deleted_is_told_to_the_gateway_and_made_anew_when_mentioned(plant: Plant) -> None:
    plant.say("connect", {"device": "A"})
    before = plant.child("A").device
    result_of(plant.store.delete_device(before.id))
    plant.broker.device_deleted(before.id)
    assert plant.told() == [{"device": "A", "reason": 0x98}]
    plant.say("rpc", {"device": "A", "id": 9, "data": 0})
    assert plant.child("A").device.id != before.id
    assert plant.child("A").connected


def test_a_lost_child_that_is_deleted_is_made_anew_when_mentioned(plant: Plant) -> None:
    other, _ = plant.another()
    plant.say("connect", {"device": "A"})
    plant.say("connect", {"device": "A"}, other)
    before = plant.child("A").device
    result_of(plant.store.delete_device(before.id))
    plant.broker.device_deleted(before.id)
    plant.say("rpc", {"device": "A", "id": 9, "data": 0})
    assert plant.child("A").device.id != before.id


def test_other_credentials_of_a_child_do_not_keep_its_gateway_from_it(plant: Plant) -> None:
    plant.say("connect", {"device": "A"})
    plant.broker.credentials_changed(plant.child("A").device.id)
    plant.clock.advance(1)
    plant.call_child("A")
    assert len(plant.carrier.carried) == 1
    assert plant.told() == []


def test_other_credentials_of_a_child_whose_gateway_goes_attach_nothing(plant: Plant) -> None:
    plant.say("connect", {"device": "A"})
    plant.broker.credentials_changed(plant.child("A").device.id)
    plant.face.gone("connection lost")
    plant.clock.advance(1)
    assert not plant.child("A").connected


# -- order


def test_what_comes_for_a_child_waits_until_it_is_there_and_keeps_its_order(plant: Plant) -> None:
    with Slow(plant.store, "device_by_name") as slow:
        waiting = [
            plant.outcome("connect", {"device": "A"}),
            plant.outcome("rpc", {"device": "A", "id": 1, "method": "getCurrentTime"}),
            plant.outcome("rpc", {"device": "A", "id": 2, "method": "getCurrentTime"}),
        ]
    assert not any(each.called for each in waiting)
    slow.arrive()
    assert [result_of(each) for each in waiting] == [0, 0, 0]
    assert [message["id"] for message in plant.told(dialect.GATEWAY_RPC)] == [1, 2]


def test_no_child_waits_for_another(plant: Plant) -> None:
    plant.say("connect", {"device": "B"})
    with Slow(plant.store, "device_by_name") as slow:
        waiting = plant.outcome("connect", {"device": "A"})
        assert plant.outcome("rpc", {"device": "B", "id": 1, "method": "getCurrentTime"}) == 0
    slow.arrive()
    assert result_of(waiting) == 0


def test_a_child_that_disconnects_before_it_is_there_and_speaks_again_is_connected(plant: Plant) -> None:
    with Slow(plant.store, "device_by_name") as slow:
        waiting = [
            plant.outcome("connect", {"device": "A"}),
            plant.outcome("disconnect", {"device": "A"}),
            plant.outcome("rpc", {"device": "A", "id": 1, "method": "getCurrentTime"}),
            plant.outcome("rpc", {"device": "A", "id": 2, "method": "getCurrentTime"}),
        ]
    slow.arrive()
    assert [result_of(each) for each in waiting] == [0, 0, 0, 0]
    assert [message["id"] for message in plant.told(dialect.GATEWAY_RPC)] == [1, 2]
    assert plant.child("A").connected


def test_a_child_that_connects_and_disconnects_before_it_is_there_is_gone(plant: Plant) -> None:
    with Slow(plant.store, "device_by_name") as slow:
        plant.outcome("connect", {"device": "A"})
        last = plant.outcome("disconnect", {"device": "A"})
    slow.arrive()
    assert result_of(last) == 0
    assert not plant.child("A").connected


# -- limits and errors


@LEVELS
def test_a_gateway_has_so_many_children_and_no_more(level: int) -> None:
    plant = Plant(level=level, max_children=2)
    for name in "AB":
        plant.say("connect", {"device": name})
    refused = plant.refusal("connect", {"device": "C"})
    assert (refused.code, refused.ends) == (QUOTA_EXCEEDED, level < 5)
    assert plant.told() == ([{"device": "C", "reason": QUOTA_EXCEEDED}] if level == 5 else [])
    assert plant.named("C") is None
    plant.say("disconnect", {"device": "A"})
    assert plant.say("connect", {"device": "C"}) == 0


def test_what_waits_for_children_is_bounded_and_counted_down() -> None:
    plant = Plant(max_waiting_for_children=1_200)
    with Slow(plant.store, "device_by_name") as slow:
        waiting = [plant.outcome("connect", {"device": "A"}) for _ in range(2)]
        assert plant.refusal("connect", {"device": "A"}).code == QUOTA_EXCEEDED
    slow.arrive()
    assert [result_of(each) for each in waiting] == [0, 0]
    plant.say("disconnect", {"device": "A"})
    for name in "ABC":
        assert plant.say("connect", {"device": name}) == 0


def test_only_so_many_children_are_looked_up_at_one_time(plant: Plant) -> None:
    with Slow(plant.store, "device_by_name") as slow:
        waiting = [plant.outcome("connect", {"device": f"child-{number}"}) for number in range(LOOKUPS + 5)]
        assert len(slow._waiting) == LOOKUPS
    slow.arrive()
    assert [result_of(each) for each in waiting] == [0] * (LOOKUPS + 5)


@LEVELS
def test_a_child_that_cannot_be_made_is_refused_and_told(level: int) -> None:
    plant = Plant(level=level)
    plant.store.create_device = lambda *_: fail(Unavailable("the disk is full"))
    refused = plant.refusal("connect", {"device": "A"})
    assert (refused.code, refused.ends) == (0x80, level < 5)
    assert plant.told() == ([{"device": "A", "reason": 0x80}] if level == 5 else [])
    del plant.store.create_device
    assert plant.say("connect", {"device": "A"}) == 0


def test_a_defect_in_the_store_is_logged_and_refused(plant: Plant, no_dropped_failures: list[str]) -> None:
    plant.store.device_by_name = lambda *_: fail(ZeroDivisionError("a defect"))
    assert plant.refusal("connect", {"device": "A"}).code == 0x80
    assert "a defect" in no_dropped_failures.pop()


@pytest.mark.parametrize("name", ["", " ", "x" * 256, "device-100"])
def test_a_name_that_cannot_be_a_childs_is_refused(plant: Plant, name: str) -> None:
    refused = plant.refusal("connect", {"device": name})
    assert (refused.code, refused.ends) == (IMPLEMENTATION_SPECIFIC, False)
    assert plant.told() == [{"device": name, "reason": IMPLEMENTATION_SPECIFIC}]


@pytest.mark.parametrize(
    ("topic", "message", "names"),
    [
        ("connect", {}, "device"),
        ("connect", [], "object"),
        ("connect", {"device": 7}, "device"),
        ("connect", {"device": "A", "type": 7}, "type"),
        ("disconnect", {}, "device"),
        ("rpc", {"id": 1, "data": 1}, "device"),
        ("rpc", {"device": "A", "data": 1}, "id"),
        ("rpc", {"device": "A", "id": "1", "data": 1}, "id"),
        ("rpc", {"device": "A", "id": 2**31, "data": 1}, "id"),
        ("rpc", {"device": "A", "id": 1.5, "data": 1}, "id"),
        ("rpc", {"device": "A", "id": 1, "method": 7}, "method"),
    ],
)
def test_json_of_another_shape_is_refused_with_the_member_it_lacks(
    plant: Plant, topic: str, message: Any, names: str
) -> None:
    refused = plant.refusal(topic, message)
    assert isinstance(refused, Refused)
    assert (refused.code, refused.ends) == (IMPLEMENTATION_SPECIFIC, True)
    assert names in refused.message
    assert plant.named("A") is None


@pytest.mark.parametrize("topic", ["connect", "disconnect", "rpc"])
@pytest.mark.parametrize("payload", [b"", b"{", b"\xff", b"[" * 100_000])
def test_what_is_not_json_is_left_to_the_connection(plant: Plant, topic: str, payload: bytes) -> None:
    error = plant.refusal(topic, payload)
    assert isinstance(error, BadJSON)


def test_a_message_that_is_neither_reply_nor_question_is_bad(plant: Plant) -> None:
    error = plant.refusal("rpc", {"device": "A", "id": 1})
    assert isinstance(error, BadJSON)
    assert "'data'" in str(error)
    assert "'method'" in str(error)


@pytest.mark.parametrize("topic", ["", "nonsense", "rpc/request", "attributes/response"])
def test_a_topic_that_a_gateway_does_not_publish_to_is_acknowledged_so(plant: Plant, topic: str) -> None:
    assert plant.say(topic, {}) == ReasonCode.TOPIC_NAME_INVALID
