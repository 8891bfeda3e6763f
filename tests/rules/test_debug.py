"""What nodes record: of which messages, how long, and how much of it is kept."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from fakes import OTHER_TENANT, TENANT, device, result_of
from rule_world import CALL as CALL_NODE
from rule_world import REPLY, SWITCH, TYPE_FILTER, RuleWorld, graph
from twisted.internet.defer import maybeDeferred

from rpcbroker.core.calls import CallRequest
from rpcbroker.core.questions import Question
from rpcbroker.rules import debug
from rpcbroker.rules.debug import DebugEvent
from rpcbroker.rules.types import CALL

FAR = 4_000_000_000_000
NODES = [(TYPE_FILTER, "Filter", {"messageTypes": ["A"]}), (REPLY, "Reply", {}), (SWITCH, "Switch", {})]


def chain(world: RuleWorld, settings: dict[int, Any], **more: Any) -> list[UUID]:
    """Messages of the type A go to a reply, which fails, and then to a switch. The ids of these nodes."""
    given = graph(NODES, (0, 1, "True"), (1, 2, "Failure"))
    for index, each in settings.items():
        given["nodes"][index]["debugSettings"] = each
    chain_id = world.put(given, **more)
    active = world.rules.chains.active(more.get("tenant_id", TENANT), chain_id)
    assert active is not None
    return [node.id for node in active.nodes]


def send(world: RuleWorld, type_: str = "A", data: bytes = b"{}", **metadata: str) -> None:
    world.rules.engine.begin(TENANT, world.rules.messages.of_device(world.device, type_, data, metadata))


def seen(world: RuleWorld, node_id: UUID) -> list[tuple[str, str, str | None, str | None]]:
    return [(e.direction, e.message_type, e.label, e.error) for e in world.rules.debug.of_node(TENANT, node_id)]


ALL = {"allEnabledUntil": FAR}
FAILURES = {"failuresEnabled": True}
WHY = "Request id is not present in the metadata!"


@pytest.mark.parametrize(
    ("settings", "filtered", "replied"),
    [
        ({}, [], []),
        ({1: FAILURES}, [], [("OUT", "A", "Failure", WHY)]),
        ({0: FAILURES}, [], []),
        ({0: ALL}, [("IN", "A", None, None), ("OUT", "A", "True", None)], []),
        ({1: ALL}, [], [("IN", "A", "True", None), ("OUT", "A", "Failure", WHY)]),
        ({1: {"allEnabled": True}}, [], [("IN", "A", "True", None), ("OUT", "A", "Failure", WHY)]),
        ({1: {"allEnabledUntil": 5}}, [], []),
        ({1: {"allEnabledUntil": 5, "failuresEnabled": True}}, [], [("OUT", "A", "Failure", WHY)]),
    ],
)
def test_what_a_node_records_is_what_its_settings_say(settings: Any, filtered: Any, replied: Any) -> None:
    world = RuleWorld()
    ids = chain(world, settings)
    send(world)
    assert [seen(world, node_id) for node_id in ids] == [filtered, replied, []]


def test_a_node_records_until_its_time_is_over() -> None:
    world = RuleWorld()
    ids = chain(world, {0: {"allEnabledUntil": world.now_ms() + 1_000}})
    send(world, "B")
    world.clock.advance(1)
    send(world, "B")
    assert seen(world, ids[0]) == [("IN", "B", None, None), ("OUT", "B", "False", None)]


def test_an_event_has_the_message_and_whom_it_is_about() -> None:
    world = RuleWorld()
    ids = chain(world, {0: ALL})
    send(world, data='{"t":"ü"}'.encode(), k="v")
    came, went = world.rules.debug.of_node(TENANT, ids[0])
    assert came.message_id == went.message_id
    assert came.originator == ("DEVICE", world.device.id)
    assert came.data == '{"t":"ü"}'
    assert came.metadata == '{"k":"v","deviceName":"device-100","deviceType":"default"}'
    assert came.time == world.now_ms()
    assert came.id != went.id


def test_what_is_recorded_passes_the_chain_and_only_so_long() -> None:
    """A call that its chain only forwards goes straight, but its node would record nothing."""
    world = RuleWorld()
    given = graph([(SWITCH, "Switch", {}), (CALL_NODE, "Call", {})], (0, 1, "RPC Request to Device"))
    given["nodes"][1]["debugSettings"] = {"allEnabledUntil": world.now_ms() + 60_000}
    chain_id = world.put(given)
    node_id = world.rules.chains.active(TENANT, chain_id).nodes[1].id  # type: ignore[union-attr]
    world.link(reply=b"{}")
    assert not world.rules.chains.routes(TENANT).calls
    assert result_of(world.call(CallRequest(method="get", timeout=1))).payload == b"{}"
    assert seen(world, node_id) == [
        ("IN", CALL, "RPC Request to Device", None),
        ("OUT", CALL, "Success", None),
    ]
    world.clock.advance(61)
    assert world.rules.chains.routes(TENANT).calls


def events(world: RuleWorld, node_id: UUID) -> list[DebugEvent]:
    return world.rules.debug.of_node(TENANT, node_id)


def test_the_oldest_give_way_when_there_are_too_many() -> None:
    world = RuleWorld(rules={"debug_events": 3})
    ids = chain(world, {0: ALL})
    for number in range(5):
        send(world, "B", b"%d" % number)
    assert [(e.direction, e.data) for e in events(world, ids[0])] == [("OUT", "3"), ("IN", "4"), ("OUT", "4")]


def test_nothing_is_kept_if_that_is_the_setting() -> None:
    world = RuleWorld(rules={"debug_events": 0})
    ids = chain(world, {0: ALL})
    send(world)
    assert events(world, ids[0]) == []


def test_long_texts_are_cut_and_it_is_said_by_how_much() -> None:
    world = RuleWorld()
    ids = chain(world, {0: ALL})
    send(world, data=b'"' + "ü".encode() * 500_000 + b'"', k="x" * 10_000)
    event = events(world, ids[0])[0]
    assert event.data.endswith("...[truncated 995906 bytes]")
    assert len(event.data) < 4_200
    assert len(event.metadata) < 4_200


def test_the_oldest_give_way_when_they_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debug, "MAX_BYTES", 100_000)
    world = RuleWorld()
    ids = chain(world, {0: ALL})
    for _ in range(50):
        send(world, "B", b'"' + b"x" * 5_000 + b'"')
    kept = events(world, ids[0])
    assert 10 < len(kept) < 30
    assert sum(each.size for each in kept) <= 100_000


def test_nothing_of_one_tenant_is_another_ones() -> None:
    world = RuleWorld()
    world.add(device(200, tenant=OTHER_TENANT))
    ids = chain(world, {0: ALL})
    send(world)
    assert events(world, ids[0])
    assert world.rules.debug.of_node(OTHER_TENANT, ids[0]) == []
    world.rules.forget_tenant(OTHER_TENANT)
    assert events(world, ids[0])
    world.rules.forget_tenant(TENANT)
    assert events(world, ids[0]) == []


def test_who_asks_is_answered_all_the_same() -> None:
    world = RuleWorld()
    given = graph([(SWITCH, "Switch", {}), (REPLY, "Reply", {})], (0, 1, "RPC Request from Device"))
    for node in given["nodes"]:
        node["debugSettings"] = ALL
    world.put(given)
    question = Question(method="m", transport="TEST")
    assert result_of(maybeDeferred(world.broker.ask, world.session(), question)) == b'{"method":"m","params":null}'
