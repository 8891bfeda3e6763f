"""Delay and generator: what happens later."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes import EPOCH_MS, OTHER_TENANT, device, result_of
from node_bench import BASE, Bench, refusal
from rule_world import RuleWorld, graph
from twisted.internet.defer import Deferred

from rpcbroker.core import jsontext
from rpcbroker.rules.chain import ChainRefused, graph_of
from rpcbroker.rules.format import read_graph
from rpcbroker.rules.message import Originator
from rpcbroker.rules.nodes.delay import STOPPED
from rpcbroker.rules.nodes.table import NODE_TYPES

DELAY, GENERATOR = "delay.TbMsgDelayNode", "debug.TbMsgGeneratorNode"
LAST = {"scriptLang": "JS", "jsScript": "script"}


# -- delay


@pytest.mark.parametrize(
    ("configuration", "seconds"),
    [
        ({"periodInSeconds": 5, "maxPendingMsgs": 1000, "periodInSecondsPattern": None}, 5),
        ({"periodInSeconds": 9, "periodInSecondsPattern": "${wait}", "useMetadataPeriodInSecondsPatterns": True}, 7),
        ({"periodInSeconds": 9, "periodInSecondsPattern": "${x}", "useMetadataPeriodInSecondsPatterns": False}, 9),
        ({"periodValue": 2, "periodTimeUnit": "MINUTES", "usePeriodValuePattern": False}, 120),
        ({"periodValue": 2, "periodTimeUnit": "HOURS"}, 7200),
        ({"periodValuePattern": "$[wait]", "usePeriodValuePattern": True, "periodTimeUnit": "SECONDS"}, 8),
        (
            {
                "periodValuePattern": "${wait}",
                "usePeriodValuePattern": True,
                "periodTimeUnitPattern": "${unit}",
                "usePeriodTimeUnitPattern": True,
            },
            420,
        ),
        ({"periodValue": 0}, 0),
    ],
)
def test_messages_go_on_later_as_they_came(configuration: dict[str, Any], seconds: int) -> None:
    bench = Bench(DELAY, configuration)
    run = bench.send({"wait": 8}, metadata={"wait": "7", "unit": "MINUTES"})
    assert run.acknowledged
    assert not run.ended
    if seconds:
        bench.world.clock.advance(seconds - 0.1)
        assert not bench.came
    bench.world.clock.advance(0.2)
    assert run.ended
    assert bench.labels == ["Success"]
    assert bench.came[0][1] == run.message
    assert bench.world.rules.held == {}


def test_messages_that_came_together_go_on_in_their_order() -> None:
    bench = Bench(DELAY, {"periodInSeconds": 1})
    for number in range(5):
        bench.send({"n": number})
    bench.world.clock.advance(1.1)
    assert [message.body()["n"] for _, message in bench.came] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        ("x", "SECONDS", "No delay is given by 'x' 'SECONDS'"),
        ("1.5", "SECONDS", "No delay is given by '1.5' 'SECONDS'"),
        ("1", "DAYS", "No delay is given by '1' 'DAYS'"),
        ("-1", "SECONDS", "A delay of -1 SECONDS is negative"),
        ("25", "HOURS", "A delay of 25 HOURS is negative, or longer than rules.max_delay"),
        ("9" * 5000, "HOURS", "No delay is given by '999"),
        ("9" * 4300, "HOURS", "is negative, or longer than rules.max_delay"),
    ],
)
def test_a_delay_that_is_none_is_a_failure_at_once(value: str, unit: str, said: str) -> None:
    bench = Bench(
        DELAY,
        {
            "periodValuePattern": "${value}",
            "usePeriodValuePattern": True,
            "periodTimeUnitPattern": "${unit}",
            "usePeriodTimeUnitPattern": True,
        },
    )
    bench.send(metadata={"value": value, "unit": unit})
    assert said in bench.failure
    assert bench.world.rules.held == {}


def test_a_node_and_a_tenant_hold_only_so_many_messages() -> None:
    bench = Bench(DELAY, {"periodInSeconds": 5, "maxPendingMsgs": 2}, rules={"max_pending_delays": 3})
    for _ in range(3):
        bench.send()
    assert bench.failure == "The node holds 2 messages, and may hold no more"
    other = Bench(DELAY, {"periodInSeconds": 5}, bench.world)
    other.send()
    other.send()
    assert other.failure.endswith("rules.max_pending_delays")
    bench.world.clock.advance(5)
    assert other.labels == ["Failure", "Success"]
    assert bench.world.rules.held == {}


def test_when_the_broker_stops_held_messages_go_on_under_failure() -> None:
    bench = Bench(DELAY, {"periodInSeconds": 5})
    runs = [bench.send(), bench.send()]
    bench.world.rules.traffic.stop()
    assert bench.labels == ["Failure", "Failure"]
    assert bench.texts == [STOPPED, STOPPED]
    assert "the server is shutting down" in STOPPED
    assert all(run.ended for run in runs)
    bench.world.clock.advance(10)
    assert len(bench.came) == 2
    assert bench.world.rules.held == {}


def test_when_a_chain_is_replaced_its_held_messages_go_on_under_failure() -> None:
    world = RuleWorld()
    bench = Bench(DELAY, {"periodInSeconds": 5}, world)
    bench.send()
    chain = world.rules.chains.get(world.device.tenant_id, bench.chain_id)
    result_of(Deferred.fromCoroutine(world.rules.chains.save(replace(chain, version=chain.version + 1))))
    assert bench.failure == STOPPED


def test_a_circle_of_delays_ends_when_the_broker_stops() -> None:
    world = RuleWorld(rules={"max_hops": 50})
    circle = graph(
        [(BASE + DELAY, "A", {"periodInSeconds": 1}), (BASE + DELAY, "B", {"periodInSeconds": 1})],
        (0, 1, "Success"),
        (1, 0, "Success"),
        (0, 1, "Failure"),
        (1, 0, "Failure"),
    )
    bench = Bench(DELAY, {"periodInSeconds": 1}, world)
    world.put(circle)
    run = bench.send()
    for _ in range(3):
        world.clock.advance(1)
    assert bench.labels == ["Success"] * 3
    world.rules.traffic.stop()
    assert run.ended
    assert set(bench.labels[3:]) == {"Failure"}


@pytest.mark.parametrize(
    ("configuration", "said"),
    [
        ({}, "there is no periodValue"),
        ({"periodInSeconds": "5"}, "$.periodInSeconds"),
        ({"periodValue": 5, "periodTimeUnit": "DAYS"}, "$.periodTimeUnit"),
        ({"periodValue": -5}, "periodValue is negative"),
        ({"usePeriodValuePattern": True, "periodValuePattern": ""}, "there is no periodValue"),
        ({"periodValue": 5, "usePeriodTimeUnitPattern": True}, "there is no periodTimeUnitPattern"),
        ({"periodValue": 5, "maxPendingMsgs": 0}, "maxPendingMsgs is 1 to 100,000"),
        ({"periodValue": 5, "maxPendingMsgs": 100_001}, "maxPendingMsgs is 1 to 100,000"),
    ],
)
def test_bad_delays_are_refused_by_field(configuration: dict[str, Any], said: str) -> None:
    assert said in refusal(DELAY, configuration)


# -- generator


class Generating(Bench):
    """A generator, and all that it makes."""

    def __init__(self, results: list[Any], **configuration: Any) -> None:
        world = RuleWorld()
        self.got: list[Any] = []

        def script(*values: Any) -> Any:
            self.got.append(values)
            result = results[min(len(self.got), len(results)) - 1]
            if isinstance(result, Exception):
                raise result
            return result

        world.scripts.known["script"] = script
        self.made: list[Any] = []
        emitted = world.rules.chains._emit
        world.rules.chains._emit = lambda chain, node, out: (self.made.append(out), emitted(chain, node, out))
        super().__init__(GENERATOR, {**LAST, **configuration}, world)

    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds * 10)):
            self.world.clock.advance(0.1)


def test_a_generator_makes_a_message_each_period_and_knows_the_last_one() -> None:
    bench = Generating([{"msg": {"n": 1}, "metadata": {"a": 1}, "msgType": "X"}, {"msg": {"n": 2}}], periodInSeconds=2)
    bench.wait(1.9)
    assert bench.made == []
    bench.wait(2.2)
    assert bench.got == [({}, {}, ""), ({"n": 1}, {"a": "1"}, "X")]
    assert [(out.label, out.message.type, out.message.data) for out in bench.made] == [
        ("Success", "X", b'{"n":1}'),
        ("Success", "X", b'{"n":2}'),
    ]
    first, second = (out.message for out in bench.made)
    assert first.id != second.id
    assert first.originator.kind == "RULE_NODE"
    assert EPOCH_MS + 2000 <= first.time <= EPOCH_MS + 2200


def test_a_generator_ends_after_so_many_messages() -> None:
    bench = Generating([{"msg": 1}], msgCount=3)
    bench.wait(10)
    assert len(bench.made) == 3


@pytest.mark.parametrize(
    ("configuration", "originator"),
    [
        ({"originatorType": "DEVICE", "originatorId": str(device().id)}, Originator("DEVICE", device().id)),
        ({"originatorType": "TENANT", "originatorId": None}, Originator("TENANT", device().tenant_id)),
    ],
)
def test_generated_messages_are_about_what_is_configured(configuration: dict[str, Any], originator: Originator) -> None:
    bench = Generating([{"msg": 1}], msgCount=1, **configuration)
    bench.wait(2)
    assert [(out.label, out.message.originator) for out in bench.made] == [("Success", originator)]


def test_a_device_of_another_tenant_gets_no_generated_message() -> None:
    foreign = device(500, tenant=OTHER_TENANT)
    bench = Generating([{"msg": 1}], msgCount=2, originatorType="DEVICE", originatorId=str(foreign.id))
    bench.world.add(foreign)
    bench.wait(5)
    assert bench.got == []
    assert [out.label for out in bench.made] == ["Failure", "Failure"]
    assert bench.made[0].message.metadata == {"error": "There is no such device"}


def test_a_script_that_fails_does_not_stop_the_generator() -> None:
    bench = Generating([{"msg": 1}, 7, {"msg": 2}])
    bench.wait(3.5)
    assert [out.label for out in bench.made] == ["Success", "Failure", "Success"]
    assert "returned a number" in bench.made[1].message.metadata["error"]
    assert [values[0] for values in bench.got] == [{}, 1, 1]
    unknown = Bench(GENERATOR, {"jsScript": "unknown"})
    for _ in range(40):
        unknown.world.clock.advance(0.1)
    assert len(unknown.world.scripts.ran) == 3


def test_a_generator_that_is_stopped_makes_nothing_not_even_what_it_was_making() -> None:
    bench = Generating([{"msg": 1}])
    late: Deferred[Any] = Deferred()
    bench.world.scripts.run = lambda *_: late  # type: ignore[method-assign]
    bench.wait(1.2)
    bench.world.rules.traffic.stop()
    late.callback({"msg": 1})
    bench.wait(5)
    assert bench.made == []


def test_what_a_generator_makes_passes_the_nodes_behind_it() -> None:
    world = RuleWorld()
    world.scripts.known["script"] = lambda *_: {"msg": {"a": 1}}
    world.scripts.known["seen"] = lambda msg, *_: bool(seen.append(msg))
    seen: list[Any] = []
    world.put(
        graph(
            [
                (BASE + "filter.TbMsgTypeSwitchNode", "Switch", {}),
                (BASE + GENERATOR, "Generator", {**LAST, "msgCount": 2}),
                (BASE + "filter.TbJsFilterNode", "Filter", {"jsScript": "seen"}),
            ],
            (1, 2, "Success"),
        )
    )
    for _ in range(40):
        world.clock.advance(0.1)
    assert seen == [{"a": 1}, {"a": 1}]


def test_a_generator_takes_no_messages() -> None:
    bench = Generating([{"msg": 1}])
    bench.send()
    assert bench.failure == "A generator makes messages, and takes none"


@pytest.mark.parametrize(
    ("configuration", "said"),
    [
        ({"periodInSeconds": 0}, "periodInSeconds is at least 1"),
        ({"periodInSeconds": None}, "$.periodInSeconds"),
        ({"msgCount": -1}, "msgCount is negative"),
        ({"originatorType": "ASSET"}, "originatorType 'ASSET': DEVICE, TENANT and RULE_NODE are known here"),
        ({"originatorType": "DEVICE", "originatorId": ""}, "originatorId is no UUID"),
    ],
)
def test_bad_generators_are_refused_by_field(configuration: dict[str, Any], said: str) -> None:
    assert said in refusal(GENERATOR, {**LAST, **configuration})


def test_a_chain_has_few_generators() -> None:
    nodes = [(BASE + GENERATOR, f"Generator {number}", LAST) for number in range(11)]
    given = read_graph(jsontext.encode(graph(nodes[:10])))
    assert graph_of(given, NODE_TYPES).first == 0
    with pytest.raises(ChainRefused, match=r"it has 11 nodes of the type .*TbMsgGeneratorNode, and may have 10"):
        graph_of(read_graph(jsontext.encode(graph(nodes))), NODE_TYPES)
