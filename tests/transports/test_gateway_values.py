"""Telemetry, attributes and claims of a gateway's children."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes import Slow, error_of, result_of
from gateway_world import Plant
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from twisted.internet.defer import Deferred, fail

from rpcbroker.core.errors import BrokerError, InvalidRequest, Unavailable
from rpcbroker.core.jsontext import BadJSON
from rpcbroker.core.model import Scope
from rpcbroker.core.settings import AttributeSettings, LimitsSettings, TelemetrySettings
from rpcbroker.transports import dialect
from rpcbroker.transports.mqtt.face import Refused

IMPLEMENTATION_SPECIFIC = 0x83
RESPONSE = dialect.GATEWAY_ATTRIBUTES_RESPONSE


@pytest.fixture
def plant() -> Plant:
    return Plant()


# -- telemetry


def test_telemetry_of_many_children_is_kept_of_each(plant: Plant) -> None:
    message = {
        "A": [{"ts": 5, "values": {"t": 20.5}}, {"ts": 6, "values": {"t": "21"}}],
        "B": [{"on": True}],
    }
    assert plant.say("telemetry", message) == 0
    assert plant.latest("A", "t") == {"t": (6, 21)}
    assert plant.latest("B", "on") == {"on": (plant.now_ms(), True)}
    assert plant.child("B").connected


def test_that_of_known_children_is_kept_at_once(plant: Plant) -> None:
    names = [f"child-{number}" for number in range(20)]
    plant.say("telemetry", {name: [{"t": 1}] for name in names})
    assert plant.outcome("telemetry", {name: [{"t": 2}] for name in names}) == 0
    assert plant.latest("child-19", "t") == {"t": (plant.now_ms(), 2)}


def test_it_is_acknowledged_when_all_of_it_is_kept_and_nobody_waits_for_another(plant: Plant) -> None:
    plant.say("connect", {"device": "B"})
    with Slow(plant.store, "device_by_name") as slow:
        waiting = plant.outcome("telemetry", {"A": [{"t": 1}], "B": [{"t": 2}], "C": [{"t": 3}]})
    assert plant.latest("B", "t") == {"t": (plant.now_ms(), 2)}
    assert not waiting.called
    slow.arrive()
    assert result_of(waiting) == 0
    assert plant.latest("A", "t") == {"t": (plant.now_ms(), 1)}


def test_messages_of_one_child_are_kept_in_their_order(plant: Plant) -> None:
    with Slow(plant.store, "device_by_name") as slow:
        waiting = [plant.outcome("telemetry", {"A": [{"ts": 5, "values": {"t": n}}]}) for n in range(5)]
    slow.arrive()
    assert [result_of(each) for each in waiting] == [0] * 5
    assert plant.latest("A", "t") == {"t": (5, 4)}, "of one time the one posted last counts"


def test_members_that_are_no_arrays_are_skipped(plant: Plant) -> None:
    assert plant.say("telemetry", {"A": {"t": 1}, "B": [{"t": 2}], "C": None}) == 0
    assert [plant.named(name) is None for name in "ABC"] == [True, False, True]


@pytest.mark.parametrize("message", [{}, {"A": {"t": 1}}, {"A": 7, "B": "x"}, [], [{"A": []}], 7, None])
def test_where_nothing_can_be_used_the_connection_ends(plant: Plant, message: Any) -> None:
    for topic in ("telemetry",) if isinstance(message, dict) and message else ("telemetry", "attributes", "claim"):
        refused = plant.refusal(topic, message)
        assert isinstance(refused, Refused)
        assert (refused.code, refused.ends) == (IMPLEMENTATION_SPECIFIC, True)


@pytest.mark.parametrize("bad", [[7], [{"ts": "x", "values": {}}], [{"": 1}], [{"t": 2**70}], [[{"t": 1}]]])
def test_what_is_bad_of_one_child_takes_nothing_from_the_others(plant: Plant, bad: Any) -> None:
    error = plant.refusal("telemetry", {"A": [{"t": 1}], "B": bad, "C": [{"t": 3}]})
    assert isinstance(error, BadJSON)
    assert str(error).startswith("device 'B': ")
    assert plant.latest("A", "t") != {}
    assert plant.latest("C", "t") != {}


def test_of_a_message_that_partly_fails_the_rest_is_waited_for(plant: Plant) -> None:
    plant.say("connect", {"device": "A"})
    with Slow(plant.store, "device_by_name") as slow:
        waiting = plant.outcome("telemetry", {"A": [7], "B": [{"t": 2}]})
        assert not waiting.called
    slow.arrive()
    assert isinstance(error_of(waiting), BadJSON)
    assert plant.latest("B", "t") != {}


def test_an_array_with_nothing_in_it_connects_its_child(plant: Plant) -> None:
    assert plant.say("telemetry", {"A": []}) == 0
    assert plant.child("A").connected


def test_telemetry_that_does_not_fit_any_more_is_not_taken(plant: Plant) -> None:
    plant.say("connect", {"device": "A"})
    plant.broker.telemetry.settings = TelemetrySettings(max_waiting=0)
    plant.say("telemetry", {"A": [{"t": 1}]})
    assert isinstance(plant.refusal("telemetry", {"A": [{"t": 1}]}), Unavailable)


def test_what_was_sent_just_before_the_end_is_kept(plant: Plant) -> None:
    with Slow(plant.store, "device_by_name") as slow:
        waiting = plant.outcome("telemetry", {"A": [{"t": 1}]})
        plant.face.gone("disconnected")
    slow.arrive()
    assert result_of(waiting) == 0
    assert plant.latest("A", "t") != {}


def test_who_lost_a_child_may_still_tell_what_it_measured(plant: Plant) -> None:
    other, _ = plant.another()
    plant.say("connect", {"device": "A"})
    plant.say("telemetry", {"A": [{"t": 1}]}, other)
    assert plant.say("telemetry", {"A": [{"ts": 2**53, "values": {"t": 2}}]}) == 0
    assert plant.latest("A", "t") == {"t": (2**53, 2)}


# -- attributes


def test_attributes_are_acknowledged_when_they_are_stored(plant: Plant) -> None:
    plant.say("connect", {"device": "A"})
    saved: Deferred[None] = Deferred()
    real = plant.broker.attributes.save
    plant.broker.attributes.save = lambda *args, **named: saved.addCallback(lambda _: real(*args, **named))
    waiting = plant.outcome("attributes", {"A": {"version": "1.2.3"}, "B": {"version": 2}})
    assert not waiting.called
    saved.callback(None)
    assert result_of(waiting) == 0
    assert plant.attributes("A") == {"version": "1.2.3"}


def test_attributes_of_one_child_that_do_not_fit_take_nothing_from_the_others(plant: Plant) -> None:
    error = plant.refusal("attributes", {"A": {"k": 1}, "B": 7, "C": {"k": 3}})
    assert isinstance(error, BadJSON)
    assert plant.attributes("A") == {"k": 1}
    assert plant.attributes("C") == {"k": 3}


def test_more_attributes_than_a_device_may_have_are_refused(plant: Plant) -> None:
    plant.broker.attributes.settings = AttributeSettings(max_keys=1)
    assert isinstance(plant.refusal("attributes", {"A": {"k": 1, "l": 2}}), InvalidRequest)


def test_attributes_that_are_not_stored_are_not_acknowledged(plant: Plant) -> None:
    plant.store.values.save_attributes = lambda *_, **__: fail(Unavailable("too much waits"))
    assert isinstance(plant.refusal("attributes", {"A": {"k": 1}}), Unavailable)


def test_what_becomes_of_shared_attributes_is_told_to_the_gateway(plant: Plant) -> None:
    plant.granted["v1/gateway/attributes"] = 0
    plant.say("connect", {"device": "A"})
    plant.share("A", rate=5)
    result_of(plant.broker.attributes.delete(plant.child("A").device.id, Scope.SHARED, ["rate"]))
    assert plant.carrier.published == [
        ("v1/gateway/attributes", {"device": "A", "data": {"rate": 5}}, 0),
        ("v1/gateway/attributes", {"device": "A", "data": {"deleted": ["rate"]}}, 0),
    ]


def test_who_lost_a_child_is_not_told_of_its_attributes(plant: Plant) -> None:
    other, carrier = plant.another()
    plant.say("connect", {"device": "A"})
    plant.say("connect", {"device": "A"}, other)
    plant.share("A", rate=5)
    assert plant.told(dialect.GATEWAY_ATTRIBUTES) == []
    assert len(carrier.published) == 1


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ({"client": True, "key": "k"}, {"value": "mine"}),
        ({"client": False, "key": "k"}, {"value": {"x": 1}}),
        ({"key": "k"}, {"value": {"x": 1}}),
        ({"client": True, "key": "absent"}, {}),
        ({"client": True, "keys": ["k", "absent"]}, {"values": {"k": "mine"}}),
        ({"client": True, "keys": ["k", "l"]}, {"values": {"k": "mine", "l": 2}}),
        ({"client": True, "keys": []}, {"values": {"k": "mine", "l": 2}}),
        ({"client": False, "keys": ["l"]}, {"values": {}}),
    ],
)
def test_a_gateway_reads_attributes_of_its_children(plant: Plant, asked: Any, answer: Any) -> None:
    plant.say("attributes", {"A": {"k": "mine", "l": 2}})
    plant.share("A", k=Raw(b'{"x": 1}'))
    plant.carrier.published.clear()
    assert plant.say("attributes/request", {"id": 7, "device": "A"} | asked) == 0
    assert plant.carrier.published == [(RESPONSE, {"id": 7, "device": "A"} | answer, 1)]


def test_a_request_reads_what_was_posted_just_before(plant: Plant) -> None:
    with Slow(plant.store, "device_by_name") as slow:
        plant.outcome("attributes", {"A": {"k": 1}})
        reading = plant.outcome("attributes/request", {"id": 7, "device": "A", "client": True, "key": "k"})
    slow.arrive()
    assert result_of(reading) == 0
    assert plant.told(RESPONSE) == [{"id": 7, "device": "A", "value": 1}]


@pytest.mark.parametrize(
    "request_",
    [
        {"device": "A", "client": True, "key": "k"},
        {"id": 1, "client": True, "key": "k"},
        {"id": 1, "device": "A", "client": True},
        {"id": 1, "device": "A", "client": "yes", "key": "k"},
        {"id": 1, "device": "A", "client": True, "keys": "a,b"},
        {"id": "1", "device": "A", "client": True, "key": "k"},
    ],
)
def test_a_request_that_lacks_something_is_refused(plant: Plant, request_: Any) -> None:
    refused = plant.refusal("attributes/request", request_)
    assert (refused.code, refused.ends) == (IMPLEMENTATION_SPECIFIC, True)


# -- claims


def test_children_are_offered_to_be_claimed_and_acknowledged_when_that_is_kept(plant: Plant) -> None:
    plant.claimed = Deferred()
    offer = {"secretKey": "s", "durationMs": 60_000}
    waiting = plant.outcome("claim", {"A": offer})
    assert plant.claims == [("A", offer)]
    assert not waiting.called
    plant.claimed.callback(None)
    assert result_of(waiting) == 0


def test_an_offer_that_is_bad_is_not_acknowledged(plant: Plant) -> None:
    plant.claimed = fail(BadJSON("secretKey must be a text"))
    assert isinstance(plant.refusal("claim", {"A": {"secretKey": 7}}), BadJSON)


# -- rates


@pytest.mark.parametrize("level", [4, 5])
def test_more_values_than_the_children_may_send_end_the_connection(level: int) -> None:
    plant = Plant(level=level)
    plant.broker.quotas.reconfigure(LimitsSettings(gateway_telemetry_points=((3, 60.0),)))
    refused = plant.refusal("telemetry", {"A": [{"t": 1, "u": 2}], "B": [{"t": 3, "u": 4}]})
    assert (refused.code, refused.ends) == (0x97, True)
    assert plant.told() == ([{"device": "B", "reason": 150}] if level == 5 else [])
    assert plant.latest("A", "t") != {}
    assert plant.latest("B", "t") == {}
    assert plant.say("rpc", {"device": "B", "id": 1, "method": "getCurrentTime"}) == 0, "it has another rate"


@pytest.mark.parametrize(
    ("topic", "message"),
    [
        ("connect", {"device": "A"}),
        ("rpc", {"device": "A", "id": 1, "data": 1}),
        ("rpc", {"device": "A", "id": 1, "method": "getCurrentTime"}),
        ("attributes/request", {"id": 1, "device": "A", "key": "k"}),
        ("claim", {"A": {}}),
    ],
)
def test_each_message_without_values_counts_one(plant: Plant, topic: str, message: Any) -> None:
    plant.broker.quotas.reconfigure(LimitsSettings(gateway_messages=((2, 60.0),)))
    for _ in range(2):
        plant.say(topic, message)
    assert plant.refusal(topic, message).code == 0x97
    assert plant.say("disconnect", {"device": "A"}) == 0, "it may always leave"


def test_attributes_count_as_values(plant: Plant) -> None:
    plant.broker.quotas.reconfigure(LimitsSettings(gateway_telemetry_points=((3, 60.0),)))
    plant.say("attributes", {"A": {"k": 1, "l": 2}})
    assert plant.refusal("attributes", {"A": {"k": 1, "l": 2}}).code == 0x97


# -- anything

NAMES = st.sampled_from(["A", "B", "device-100", "", "\x00"]) | st.text(max_size=3)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)
MEMBERS = st.fixed_dictionaries(
    {},
    optional={
        "device": NAMES | JSON,
        "id": st.integers(-5, 5) | JSON,
        "data": JSON,
        "method": st.just("getCurrentTime") | JSON,
        "type": NAMES | JSON,
        "client": st.booleans() | JSON,
        "key": NAMES | JSON,
        "keys": st.lists(NAMES, max_size=2) | JSON,
    },
)
MESSAGES = (
    (MEMBERS | JSON | st.dictionaries(NAMES, JSON | MEMBERS | st.lists(MEMBERS | JSON, max_size=3), max_size=3))
    .map(json.dumps)
    .map(str.encode)
)
TOPICS = st.sampled_from(
    ["connect", "disconnect", "rpc", "telemetry", "attributes", "attributes/request", "claim", "nonsense"]
)


@given(st.lists(st.tuples(TOPICS, MESSAGES | st.binary(max_size=20), st.booleans()), max_size=8))
def test_whatever_a_gateway_says_it_is_taken_or_refused(said: list[tuple[str, bytes, bool]]) -> None:
    plant = Plant()
    outcomes = []
    for topic, payload, slowly in said:
        try:
            if slowly:
                with Slow(plant.store, "device_by_name") as slow:
                    outcome = plant.outcome(topic, payload)
                if slow._waiting:
                    slow.arrive()
            else:
                outcome = plant.outcome(topic, payload)
        except (Refused, BadJSON, BrokerError):
            continue
        outcomes.append(outcome)
    plant.face.gone("connection lost")
    for outcome in outcomes:
        if isinstance(outcome, Deferred):
            outcome.addErrback(lambda failure: failure.trap(Refused, BadJSON, BrokerError) and 0)
            assert isinstance(result_of(outcome), int)
    assert not any(session.connected for session in plant.broker._sessions.values())
    assert plant.face._children._waiting_size == 0
    assert not plant.face._children._arriving
