"""Telemetry and attributes of devices on their way through a chain, and what their senders hear."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import EPOCH_MS, error_of, result_of
from rule_world import DELAY, SAVE_ATTRIBUTES, SAVE_TELEMETRY, SWITCH, TRANSFORM, TYPE_FILTER, RuleWorld, graph
from twisted.internet.defer import Deferred, maybeDeferred

from rpcbroker.core import jsontext
from rpcbroker.core.errors import InvalidRequest, NotFound, Unavailable
from rpcbroker.core.jsontext import BadJSON
from rpcbroker.core.settings import AttributeSettings, TelemetrySettings
from rpcbroker.core.values import Posted
from rpcbroker.rules.message import RuleMessage

SCRIPT = {"scriptLang": "JS", "jsScript": "wait"}


class Values(RuleWorld):
    """A chain of a message type switch, with one node behind Post telemetry and Post attributes, and nodes behind."""

    def __init__(self, *behind: tuple[str, dict[str, Any], str], handled: bool = False, **more: Any) -> None:
        super().__init__(**more)
        nodes: list[Any] = [
            (SWITCH, "Switch", {}),
            (SAVE_TELEMETRY, "Save", {}),
            (SAVE_ATTRIBUTES, "Store", {}),
        ]
        connections = [(0, 1, "Post telemetry"), (0, 2, "Post attributes")]
        for type_, configuration, label in behind:
            nodes.append((type_, f"Behind {label}", configuration))
            connections.append((0, len(nodes) - 1, label))
        if handled:
            nodes.append((TYPE_FILTER, "Handler", {}))
            connections += [(1, len(nodes) - 1, "Failure"), (2, len(nodes) - 1, "Failure")]
        self.put(graph(nodes, *connections))
        self.passed: list[RuleMessage] = []
        begin = self.rules.engine.begin

        def noted(tenant_id: Any, message: RuleMessage, **named: Any) -> Any:
            self.passed.append(message)
            return begin(tenant_id, message, **named)

        self.rules.engine.begin = noted  # type: ignore[method-assign]

    def post(self, posted: Posted) -> Deferred[None]:
        return maybeDeferred(self.broker.keep_telemetry, self.session(), posted)  # type: ignore[arg-type]

    def tell(self, **values: Any) -> Deferred[Any]:
        return maybeDeferred(self.broker.keep_attributes, self.session(), values)

    def latest(self) -> dict[str, Any]:
        found = result_of(Deferred.fromCoroutine(self.broker.telemetry.latest(self.device.id, ("a", "b", "c"))))
        return {key: (point.ts, jsontext.decode(bytes(point.value))) for key, point in found.items()}


def through(*behind: tuple[str, dict[str, Any], str], **more: Any) -> Values:
    return Values(*behind, **{"direct": False} | more)


def test_each_time_is_a_message_of_its_own() -> None:
    world = through()
    result_of(world.post([(5, {"a": 1}), (6, {"a": 2}), (5, {"b": 3, "a": 4}), (7, {})]))
    assert [(each.type, each.body(), each.metadata["ts"]) for each in world.passed] == [
        ("POST_TELEMETRY_REQUEST", {"a": 4, "b": 3}, "5"),
        ("POST_TELEMETRY_REQUEST", {"a": 2}, "6"),
    ]
    assert world.passed[0].metadata == {"ts": "5", "deviceName": "device-100", "deviceType": "default"}
    assert world.latest() == {"a": (6, 2), "b": (5, 3)}


def test_attributes_are_one_message() -> None:
    world = through()
    result_of(world.tell(a=1, b="x"))
    result_of(world.tell())
    assert [(each.type, each.body()) for each in world.passed] == [("POST_ATTRIBUTES_REQUEST", {"a": 1, "b": "x"})]
    assert world.passed[0].metadata == {
        "notifyDevice": "false",
        "deviceName": "device-100",
        "deviceType": "default",
    }
    client, _ = result_of(Deferred.fromCoroutine(world.broker.attributes.of_device(world.device.id, (), ())))
    assert {key: bytes(value) for key, value in client.items()} == {"a": b"1", "b": b'"x"'}


@pytest.mark.parametrize("posted", [[], [(5, {})]])
def test_nothing_is_no_message(posted: Posted) -> None:
    world = through()
    result_of(world.post(posted))
    assert world.passed == []


def test_the_sender_hears_when_all_that_takes_no_time_is_done() -> None:
    world = through((TRANSFORM, SCRIPT, "Post telemetry"), (DELAY, {"periodInSeconds": 60}, "Post telemetry"))
    waiting: list[Deferred[Any]] = [Deferred(), Deferred()]
    scripts = iter(waiting)
    world.scripts.run = lambda *_: next(scripts)  # type: ignore[method-assign]
    acknowledged = world.post([(5, {"a": 1}), (6, {"a": 2})])
    assert world.latest() == {"a": (6, 2)}
    waiting[0].callback({"msg": {}, "metadata": {}, "msgType": "X"})
    assert not acknowledged.called
    waiting[1].callback({"msg": {}, "metadata": {}, "msgType": "X"})
    result_of(acknowledged)
    assert world.rules.engine.running.total() == 2  # in the delay


def test_another_branch_may_fail() -> None:
    world = through((TRANSFORM, SCRIPT, "Post telemetry"), (TRANSFORM, SCRIPT, "Post attributes"))
    result_of(world.post([(5, {"a": 1})]))
    result_of(world.tell(a=1))
    assert world.rules.engine.faults == 2
    assert world.latest() == {"a": (5, 1)}


def full(world: RuleWorld) -> None:
    world.broker.telemetry.settings = TelemetrySettings(max_keys=1)
    world.broker.attributes.settings = AttributeSettings(max_keys=1)


def gone(world: RuleWorld) -> None:
    session = world.session()
    world.session = lambda *_: session  # type: ignore[method-assign]
    result_of(world.store.delete_device(world.device.id))
    world.broker.device_deleted(world.device.id)


def slow(world: RuleWorld) -> None:
    world.broker.telemetry.settings = TelemetrySettings(max_waiting=0)
    result_of(world.broker.telemetry.keep(world.device.id, [(1, {"z": 1})]) or Deferred.fromCoroutine(_nothing()))


async def _nothing() -> None: ...


def crowded(world: RuleWorld) -> None:
    world.rules.settings = type(world.rules.settings)(max_messages=0)


@pytest.mark.parametrize(
    ("direct", "trouble", "telemetry", "attributes"),
    [
        (True, full, BadJSON, InvalidRequest),
        (False, full, BadJSON, InvalidRequest),
        (True, slow, Unavailable, type(None)),
        (False, slow, Unavailable, type(None)),
        (False, gone, NotFound, NotFound),
        (False, crowded, Unavailable, Unavailable),
    ],
)
def test_what_the_broker_refuses_the_sender_hears(direct: bool, trouble: Any, telemetry: Any, attributes: Any) -> None:
    world = Values(direct=direct)
    trouble(world)
    assert type(error_of(world.post([(5, {"a": 1, "b": 2})]))) is telemetry
    told: list[Any] = []
    world.tell(a=1, b=2).addCallbacks(lambda _: told.append(None), lambda failure: told.append(failure.value))
    assert type(told[0]) is attributes


def test_unless_the_chain_handles_it() -> None:
    world = through(handled=True)
    full(world)
    result_of(world.post([(5, {"a": 1, "b": 2})]))
    result_of(world.tell(a=1, b=2))


def test_what_a_chain_makes_of_it_is_not_the_senders_fault() -> None:
    world = RuleWorld(direct=False)
    world.put(
        graph([(TRANSFORM, "Spoil", SCRIPT), (SAVE_TELEMETRY, "Save", {})], (0, 1, "Success")),
    )
    world.scripts.known["wait"] = lambda *_: {"msg": [1]}
    result_of(maybeDeferred(world.broker.keep_telemetry, world.session(), [(5, {"a": 1})]))  # type: ignore[arg-type]
    assert world.rules.engine.faults == 1


def test_values_of_the_default_chain_go_straight() -> None:
    world = RuleWorld()
    routes = world.broker.rules.routes(world.device.tenant_id)
    assert (routes.telemetry, routes.attributes) == (True, True)


@pytest.mark.parametrize(
    ("telemetry", "attributes", "straight"),
    [
        ({}, {"updateAttributesOnlyOnValueChange": True}, (True, True)),
        ({"useServerTs": True}, {"updateAttributesOnlyOnValueChange": False}, (False, False)),
        ({}, {"updateAttributesOnlyOnValueChange": True, "scope": "SERVER_SCOPE"}, (True, False)),
    ],
)
def test_only_what_is_the_same_goes_straight(telemetry: Any, attributes: Any, straight: tuple[bool, bool]) -> None:
    world = RuleWorld()
    nodes = [(SWITCH, "Switch", {}), (SAVE_TELEMETRY, "Save", telemetry), (SAVE_ATTRIBUTES, "Store", attributes)]
    world.put(graph(nodes, (0, 1, "Post telemetry"), (0, 2, "Post attributes")))
    routes = world.broker.rules.routes(world.device.tenant_id)
    assert (routes.telemetry, routes.attributes) == straight


@pytest.mark.parametrize("direct", [True, False])
def test_an_attribute_that_is_as_it_was_keeps_the_time_of_its_change(direct: bool) -> None:
    world = RuleWorld(direct=direct)
    for values in ({"a": 1, "b": 1}, {"a": 1, "b": 2}):
        result_of(world.broker.keep_attributes(world.session(), values))
        world.clock.advance(1)
    found = result_of(world.broker.attributes.read(world.device.id))
    assert {each.key: each.updated_time for each in found} == {"a": EPOCH_MS, "b": EPOCH_MS + 1000}
