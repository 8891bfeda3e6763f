"""Other chains, acknowledgement, checkpoint; large chains and circles."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any
from uuid import UUID

import pytest
from fakes import OTHER_TENANT, device
from node_bench import BASE, Bench, message, passed, refusal
from rule_world import RuleWorld, graph
from twisted.internet.defer import Deferred

from rpcbroker.core import jsontext
from rpcbroker.rules.chain import MAX_NODES, ChainRefused, Graph, graph_of
from rpcbroker.rules.engine import MAX_NESTED
from rpcbroker.rules.format import read_graph
from rpcbroker.rules.nodes.table import NODE_TYPES

ENTER, LEAVE = "flow.TbRuleChainInputNode", "flow.TbRuleChainOutputNode"
ACKNOWLEDGE, CHECKPOINT = "flow.TbAckNode", "flow.TbCheckpointNode"
DELAY, FILTER = "delay.TbMsgDelayNode", "filter.TbOriginatorTypeFilterNode"


def chain(nodes: list[tuple[str, str, dict[str, Any]]], *connections: tuple[int, int, str]) -> Any:
    return graph([(BASE + type_, name, configuration) for type_, name, configuration in nodes], *connections)


def names(bench: Bench) -> list[tuple[str, str | None]]:
    return [(each.node.name, each.label) for each in bench.passed]


INNER = chain(
    [(FILTER, "Is it a device?", {}), (LEAVE, "It is", {}), (LEAVE, "No", {})], (0, 1, "True"), (0, 2, "False")
)


def test_a_message_goes_through_another_chain_and_on_under_the_name_of_the_output() -> None:
    world = RuleWorld()
    bench = Bench(CHECKPOINT, {}, world)
    inner = world.put(INNER, name="Inner", root=False)
    enter = {"ruleChainId": str(inner), "forwardMsgToDefaultRuleChain": False}
    world.put(
        chain(
            [(ENTER, "Enter", enter), (CHECKPOINT, "Device", {}), (CHECKPOINT, "Other", {})],
            (0, 1, "It is"),
            (0, 2, "No"),
        )
    )
    run = bench.send({"a": 1})
    assert run.ended
    assert names(bench) == [("Enter", None), ("Is it a device?", "True"), ("It is", "It is"), ("Enter", "It is"), ("Device", "Success")]  # fmt: skip
    assert bench.bodies == [{"a": 1}] * 5
    assert not run.faults


def test_the_default_chain_is_the_root_one() -> None:
    world = RuleWorld()
    bench = Bench(LEAVE, {}, world)
    other = world.put(chain([(ENTER, "Enter", {"forwardMsgToDefaultRuleChain": True})]), root=False)
    run = world.rules.engine.begin(
        world.device.tenant_id,
        message(world),
        chain=world.rules.chains.active(world.device.tenant_id, other),
        watch=bench.watch,
    )
    assert run.ended
    assert names(bench)[:2] == [("Enter", None), ("Node", "Node")]


def test_a_chain_that_is_not_there_or_another_tenants_is_a_failure() -> None:
    world = RuleWorld()
    world.add(device(500, tenant=OTHER_TENANT))
    foreign = world.put(INNER, tenant_id=OTHER_TENANT)
    for target in (UUID(int=99), foreign):
        bench = Bench(ENTER, {"ruleChainId": str(target)}, world)
        bench.send()
        assert bench.failure == f"There is no rule chain {target}"


def test_an_output_of_the_first_chain_ends_the_message() -> None:
    bench = passed(LEAVE, {})
    assert bench.labels == ["Node"]


def test_a_chain_that_enters_itself_ends() -> None:
    world = RuleWorld()
    bench = Bench(ENTER, {"forwardMsgToDefaultRuleChain": True}, world)
    run = bench.send()
    assert run.ended
    assert [fault.text for fault in run.faults] == [f"The message is in more than {MAX_NESTED} chains at a time"]
    assert len(bench.came) <= 2 * MAX_NESTED + 2


def test_a_chain_that_enters_itself_over_many_branches_ends_at_the_hop_limit() -> None:
    world = RuleWorld(rules={"max_hops": 500})
    bench = Bench(CHECKPOINT, {}, world)
    twice = {"forwardMsgToDefaultRuleChain": True}
    world.put(
        chain(
            [(CHECKPOINT, "First", {}), (ENTER, "A", twice), (ENTER, "B", twice)], (0, 1, "Success"), (0, 2, "Success")
        )
    )
    run = bench.send()
    assert run.ended
    assert run.acknowledged
    assert all("may no more" in fault.text for fault in run.faults)
    assert world.rules.engine.running == {}


@pytest.mark.parametrize(
    ("configuration", "said"),
    [
        ({}, "there is no ruleChainId"),
        ({"ruleChainId": None}, "there is no ruleChainId"),
        ({"ruleChainId": "7"}, "$.ruleChainId"),
        ({"ruleChainId": str(UUID(int=1)), "forwardMsgToDefaultRuleChain": "yes"}, "$.forwardMsgToDefaultRuleChain"),
    ],
)
def test_bad_targets_are_refused_by_field(configuration: dict[str, Any], said: str) -> None:
    assert said in refusal(ENTER, configuration)


def test_nothing_can_be_connected_behind_an_output() -> None:
    with pytest.raises(ChainRefused, match="node 0 'Out': nothing leaves it under 'Success'"):
        taken(chain([(LEAVE, "Out", {}), (CHECKPOINT, "C", {})], (0, 1, "Success")))


# -- acknowledgement


@pytest.mark.parametrize(("type_", "acknowledged"), [(ACKNOWLEDGE, True), (CHECKPOINT, False)])
def test_only_an_acknowledge_node_acknowledges_what_goes_on(type_: str, acknowledged: bool) -> None:
    world = RuleWorld()
    bench = Bench(CHECKPOINT, {}, world)
    world.put(
        chain([(type_, "Node", {}), ("filter.TbJsFilterNode", "Script", {"jsScript": "slow"})], (0, 1, "Success"))
    )
    waiting: Deferred[Any] = Deferred()
    world.scripts.run = lambda *_: waiting  # type: ignore[method-assign]
    run = bench.send({"a": 1})
    assert run.acknowledged is acknowledged
    assert not run.ended
    waiting.callback(True)
    assert run.ended
    assert run.acknowledged
    assert bench.bodies == [{"a": 1}] * 2


def test_the_broker_does_what_is_behind_a_checkpoint_straight_but_not_what_is_behind_an_acknowledgement() -> None:
    for type_, direct in [(CHECKPOINT, True), (ACKNOWLEDGE, False)]:
        world = RuleWorld()
        world.put(chain([(type_, "Node", {}), ("rpc.TbSendRPCRequestNode", "Call", {})], (0, 1, "Success")))
        assert world.rules.chains.routes(world.device.tenant_id).calls is direct


# -- large ones, and circles


def taken(given: Any) -> Graph:
    return graph_of(read_graph(jsontext.encode(given)), NODE_TYPES)


def line(count: int, *more: tuple[int, int, str]) -> Any:
    nodes = [(CHECKPOINT, str(number), {}) for number in range(count)]
    return chain(nodes, *((number, number + 1, "Success") for number in range(count - 1)), *more)


def test_a_message_passes_a_thousand_nodes() -> None:
    world = RuleWorld()
    bench = Bench(CHECKPOINT, {}, world)
    world.put(line(1000))
    run = bench.send({"a": 1})
    assert run.ended
    assert not run.faults
    assert bench.bodies == [{"a": 1}] * 1000


def test_ten_thousand_nodes_and_a_hundred_thousand_connections_are_read_quickly() -> None:
    fan = [(0, to, "Success") for to in range(1, MAX_NODES)] * 8
    before = time.process_time()
    made = taken(line(MAX_NODES, *fan))
    assert time.process_time() - before < 5
    assert len(made.targets[0]["Success"]) == MAX_NODES - 1
    assert made.warnings == ()


@pytest.mark.parametrize(
    ("count", "more", "in_it"),
    [
        (3, [(2, 0, "Success")], {0, 1, 2}),
        (2, [(1, 1, "Success")], {1}),
        (6, [(3, 1, "Failure")], {1, 2, 3}),
        (9, [(3, 1, "Failure"), (8, 6, "Failure")], {1, 2, 3, 6, 7, 8}),
        (MAX_NODES, [(MAX_NODES - 1, MAX_NODES - 2, "Success")], {MAX_NODES - 1, MAX_NODES - 2}),
    ],
)
def test_a_circle_is_refused_and_a_node_in_it_is_named(
    count: int, more: list[tuple[int, int, str]], in_it: set[int]
) -> None:
    with pytest.raises(ChainRefused) as refused:
        taken(line(count, *more))
    [word] = [word for word in refused.value.message.split() if word.isdigit()]
    assert int(word) in in_it
    assert "it is in a cycle without a node that takes time" in refused.value.message


def test_a_circle_through_a_node_that_takes_time_is_taken() -> None:
    nodes = [(CHECKPOINT, "A", {}), (DELAY, "B", {"periodInSeconds": 1}), (CHECKPOINT, "C", {})]
    made = taken(chain(nodes, (0, 1, "Success"), (1, 2, "Success"), (2, 0, "Success")))
    assert len(made.nodes) == 3
    with pytest.raises(ChainRefused, match="node 2 'C'"):
        taken(chain(nodes, (0, 1, "Success"), (1, 2, "Success"), (2, 2, "Success")))


def test_entering_a_chain_and_acknowledging_take_no_time() -> None:
    for type_, configuration in [(ENTER, {"forwardMsgToDefaultRuleChain": True}), (ACKNOWLEDGE, {})]:
        with pytest.raises(ChainRefused, match="cycle"):
            taken(chain([(type_, "A", configuration), (CHECKPOINT, "B", {})], (0, 1, "Success"), (1, 0, "Success")))


def test_packages_that_few_chains_need_are_not_imported_before() -> None:
    code = (
        "import sys, rpcbroker.rules.system; print({'re2', 'jsonpath', 'treq', 'quickjs'} & set(map(str, sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "set()\n"
