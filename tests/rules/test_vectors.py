"""Chains as users of ThingsBoard export them, from old releases and new ones, with all that stands in such files."""

from __future__ import annotations

import pytest
from exported import VECTORS, exported_world
from fakes import TENANT, device
from pytest_twisted import ensureDeferred
from rule_world import REPLY, SWITCH, graph
from twisted.internet.defer import Deferred

from rpcbroker.core import jsontext
from rpcbroker.core.calls import CallRequest
from rpcbroker.core.model import Relation, Scope
from rpcbroker.rules.chain import ChainRefused

LEFT_OUT = {"alarms-3.4"}
"""Those with nodes that there are not here."""


def test_every_file_is_used() -> None:
    assert {path.stem for path in VECTORS.glob("*.json")} - LEFT_OUT == {
        "answers-3.2",
        "generator-3.5",
        "greenhouse-3.9",
        "motion-light-3.6",
        "smart-valve-4.0",
        "thermostat-3.1",
    }


@ensureDeferred
async def test_alarms_are_refused_and_each_node_of_them_is_named() -> None:
    async with exported_world() as world:
        with pytest.raises(ChainRefused) as refused:
            await world.install(VECTORS / "alarms-3.4.json")
    rules = "org.thingsboard.rule.engine"
    assert refused.value.message == (
        "The rule chain cannot be taken: "
        f"node 0 'Device Profile Node': the type '{rules}.profile.TbDeviceProfileNode' is not known here; "
        f"node 2 'Create alarm': the type '{rules}.action.TbCreateAlarmNode' is not known here; "
        f"node 3 'Clear alarm': the type '{rules}.action.TbClearAlarmNode' is not known here"
    )


@ensureDeferred
async def test_thermostat_of_3_1_keeps_what_is_sane() -> None:
    async with exported_world() as world:
        taken = await world.install(VECTORS / "thermostat-3.1.json")
        assert taken.warnings == ()
        assert [node.debug.failures_enabled or node.debug.all_enabled for node in taken.nodes][:3] == [
            False,
            True,
            False,
        ]
        link = world.link(reply=b'"done"')
        await world.post({"temperature": 21.46})
        await world.post({"temperature": 85})
        assert await world.latest("temperature") == {"temperature": 21.5}
        reply = await world.call(CallRequest(method="set", params=b"1"))
        assert reply.payload == b'"done"'
        assert [call.method for call in link.calls] == ["set"]


@ensureDeferred
async def test_smart_valve_of_4_0_is_opened_when_it_is_dry_and_closed_when_it_is_wet() -> None:
    async with exported_world() as world:
        taken = await world.install(VECTORS / "smart-valve-4.0.json")
        assert taken.warnings == ()
        link = world.link(reply=b"{}")
        for moisture in (10, 40, 70):
            await world.post({"moisture": moisture})
        assert [(call.method, jsontext.decode(call.params)) for call in link.calls] == [
            ("setValve", {"open": True, "minutes": 10}),
            ("setValve", {"open": False}),
        ]
        assert await world.latest("moisture", "valveReachable") == {"moisture": 70}


@ensureDeferred
async def test_smart_valve_that_does_not_answer_is_told_in_telemetry() -> None:
    async with exported_world() as world:
        await world.install(VECTORS / "smart-valve-4.0.json")
        link = world.link()
        posted = Deferred.fromCoroutine(world.post({"moisture": 10}))
        await world.until(lambda: link.calls)
        world.clock.advance(15.1)
        await posted
        assert await world.latest("valveReachable") == {"valveReachable": False}


@ensureDeferred
async def test_greenhouse_of_3_9_has_a_dew_point_and_loses_raw_values() -> None:
    async with exported_world() as world:
        taken = await world.install(VECTORS / "greenhouse-3.9.json")
        assert taken.warnings == ()
        await world.post({"temperature": 20.0, "humidity": 50, "rawAdc": 812, "debug": True})
        keys = ("temperature", "humidity", "dewPoint", "rawAdc", "debug")
        assert await world.latest(*keys) == {"temperature": 20, "humidity": 50, "dewPoint": 9.3}
        await world.post({"temperature": 22.0, "rawAdc": 900})
        assert await world.latest(*keys) == {"temperature": 22, "humidity": 50, "dewPoint": 9.3}


@ensureDeferred
async def test_motion_of_3_6_calls_the_lamp_that_the_sensor_manages() -> None:
    async with exported_world() as world:
        taken = await world.install(VECTORS / "motion-light-3.6.json")
        assert taken.warnings == ()
        lamp, other = device(201), device(202)
        world.add(lamp)
        world.add(other)
        relation = Relation(tenant_id=TENANT, source=world.device.id, target=lamp.id, type="Manages")
        await world.store.rules.relate(relation, most=10)
        link, bystander = world.link(lamp), world.link(other)
        await world.post({"motion": False})
        assert link.calls == []
        await world.post({"motion": True})
        assert [(call.method, jsontext.decode(call.params), call.oneway) for call in link.calls] == [
            ("setLight", {"on": True, "by": world.device.name}, True)
        ]
        assert bystander.calls == []
        assert await world.latest("motion") == {"motion": True}


@ensureDeferred
async def test_generator_of_3_5_makes_as_many_messages_as_it_says() -> None:
    async with exported_world() as world:
        taken = await world.install(VECTORS / "generator-3.5.json")
        assert taken.warnings == ()
        beats = []
        for number in range(1, 4):
            world.clock.advance(10.1)
            await world.until(lambda number=number: world.rules.engine.passed == number)
            beats.append(await world.latest("beat"))
        assert beats == [{"beat": 1}, {"beat": 2}, {"beat": 3}]
        world.clock.advance(60)
        await world.quiet()
        assert world.rules.engine.passed == 3


ELSE = graph(
    [(SWITCH, "Switch", {}), (REPLY, "Echo", {})],
    (0, 1, "RPC Request from Device"),
)


@ensureDeferred
async def test_answers_of_3_2_go_on_in_another_chain() -> None:
    async with exported_world() as world:
        path = VECTORS / "answers-3.2.json"
        (connection,) = jsontext.decode(path.read_bytes())["metadata"]["ruleChainConnections"]
        other = world.put(ELSE, name="Else", root=False)
        taken = await world.install(path, chains={connection["targetRuleChainId"]["id"]: other})
        assert taken.warnings == ()
        await world.broker.attributes.save(world.device.id, Scope.SERVER, {"maxTemperature": 70})
        assert await world.ask("getLimits") == {"max": 70}
        assert await world.ask("x", b"[1]") == {"method": "x", "params": [1]}
