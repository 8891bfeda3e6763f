"""Messages on their way through chains, where random ones come seldom."""

from __future__ import annotations

from uuid import UUID

from fakes import TENANT
from rule_world import TYPE_FILTER, RuleWorld, graph

from rpcbroker.rules.engine import Passed, Run
from rpcbroker.rules.message import DEVICE, Originator, RuleMessage

ENTER = "org.thingsboard.rule.engine.flow.TbRuleChainInputNode"
LEAVE = "org.thingsboard.rule.engine.flow.TbRuleChainOutputNode"


def begin(world: RuleWorld, passed: list[Passed] | None = None) -> Run:
    message = RuleMessage(
        id=UUID(int=7),
        type="T",
        originator=Originator(DEVICE, world.device.id),
        data=b"{}",
        metadata={},
        time=world.now_ms(),
    )
    return world.rules.engine.begin(TENANT, message, watch=None if passed is None else passed.append)


def test_a_message_leaves_each_chain_to_where_that_one_was_entered() -> None:
    world = RuleWorld()
    inner = world.put(graph([(LEAVE, "done", {})]), name="inner", root=False)
    middle = world.put(
        graph([(ENTER, "to inner", {"ruleChainId": str(inner)}), (LEAVE, "back", {})], (0, 1, "done")),
        name="middle",
        root=False,
    )
    world.put(
        graph(
            [(ENTER, "to middle", {"ruleChainId": str(middle)}), (TYPE_FILTER, "last", {})],
            (0, 1, "back"),
        ),
        name="outer",
    )
    passed: list[Passed] = []
    run = begin(world, passed)
    assert run.ended
    assert run.faults == []
    assert [(each.chain.name, each.node.name, each.label) for each in passed] == [
        ("outer", "to middle", None),
        ("middle", "to inner", None),
        ("inner", "done", "done"),
        ("middle", "to inner", "done"),
        ("middle", "back", "back"),
        ("outer", "to middle", "back"),
        ("outer", "last", "False"),
    ]


def test_what_a_message_becomes_is_bounded_before_it_is_made() -> None:
    world = RuleWorld(rules={"max_hops": 500})
    many = range(1, 301)
    nodes = [(TYPE_FILTER, str(index), {}) for index in range(601)]
    first = [(0, index, "False") for index in many]
    second = [(index, 300 + other, "False") for index in many for other in many]
    world.put(graph(nodes, *first, *second))
    passed: list[Passed] = []
    run = begin(world, passed)
    assert run.ended
    assert [fault.text for fault in run.faults] == ["The message has passed 500 nodes, and may no more"]
    assert len(passed) == 501
    assert world.rules.engine.running == {}
