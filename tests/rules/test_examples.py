"""The ready-made chains of conf/chains do what their descriptions say, in either language."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from exported import EXAMPLES, LANGUAGES, exported_world, finished
from fakes import TENANT, FakeLink, device
from pytest_twisted import ensureDeferred

from rpcbroker.core import jsontext
from rpcbroker.core.calls import CallRequest
from rpcbroker.core.errors import CallFailed, CallTimeout
from rpcbroker.core.model import Relation
from rpcbroker.rules.format import ChainFile

ALL = sorted(EXAMPLES.glob("*.json"))
in_both_languages = pytest.mark.parametrize("language", LANGUAGES)


def test_those_of_the_manual_are_there() -> None:
    assert [path.stem for path in ALL] == [
        "current-time",
        "door-access",
        "fan-out-to-related",
        "retry-until-confirmed",
        "unit-conversion",
        "webhook",
    ]


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
@in_both_languages
@ensureDeferred
async def test_each_is_taken_without_a_warning(path: Path, language: str) -> None:
    async with exported_world() as world:
        graph = await world.install(path, language=language)
        assert graph.warnings == ()
        assert len(graph.nodes) >= 5


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_each_says_what_it_is_for(path: Path) -> None:
    file: ChainFile = jsontext.decode_as(ChainFile, path.read_bytes())
    assert len(file.rule_chain.additional_info["description"]) > 80
    places = [(node.additional_info["layoutX"], node.additional_info["layoutY"]) for node in file.metadata.nodes]
    assert len(set(places)) == len(places)
    names = [node.name for node in file.metadata.nodes]
    assert len(set(names)) == len(names)


@in_both_languages
@ensureDeferred
async def test_current_time_answers_in_place_of_the_server(language: str) -> None:
    async with exported_world() as world:
        await world.install(EXAMPLES / "current-time.json", language=language)
        before = datetime.now(UTC).timestamp() * 1000
        answer = await world.ask("getCurrentTime")
        assert int(before) <= answer["time"] <= datetime.now(UTC).timestamp() * 1000
        assert datetime.fromisoformat(answer["iso"]).timestamp() * 1000 == pytest.approx(answer["time"], abs=1000)
        assert await world.ask("ping") == "pong"
        with pytest.raises(CallFailed, match='no rule answers the method "getWeather"'):
            await world.ask("getWeather")


@in_both_languages
@ensureDeferred
async def test_unit_conversion_converts_what_the_device_measures(language: str) -> None:
    async with exported_world() as world:
        await world.install(EXAMPLES / "unit-conversion.json", language=language)
        await world.post({"temperatureF": 69.8, "humidity": 40})
        assert await world.latest("temperatureF", "temperature", "humidity") == {
            "temperatureF": 69.8,
            "temperature": 21,
            "humidity": 40,
        }
        await world.post({"humidity": 41})
        assert await world.latest("temperature", "humidity") == {"temperature": 21, "humidity": 41}


@in_both_languages
@ensureDeferred
async def test_unit_conversion_converts_what_the_device_is_told(language: str) -> None:
    async with exported_world() as world:
        await world.install(EXAMPLES / "unit-conversion.json", language=language)
        link = world.link(reply=b'{"ok":true}')
        reply = await world.call(CallRequest(method="setTemperature", params=b'{"celsius":21}'))
        assert reply.payload == b'{"ok":true}'
        await world.call(CallRequest(method="other", params=b"[1]"))
        assert [(call.method, jsontext.decode(call.params)) for call in link.calls] == [
            ("setTemperatureF", {"fahrenheit": 69.8}),
            ("other", [1]),
        ]


OPEN = CallRequest(method="setValve", params=b'{"open":true}', timeout=8)


def told(link: FakeLink) -> list[tuple[str, bytes]]:
    return [(call.method, call.params) for call in link.calls]


@in_both_languages
@ensureDeferred
async def test_retry_calls_once_if_telemetry_confirms_it(language: str) -> None:
    async with exported_world() as world:
        await world.install(EXAMPLES / "retry-until-confirmed.json", language=language)
        link = world.link(reply=b'{"accepted":true}')
        reply = await world.call(OPEN)
        assert reply.payload == b'{"accepted":true}'
        await world.quiet()
        await world.post({"valveOpen": True})
        world.clock.advance(5.1)
        await world.quiet()
        assert told(link) == [("setValve", b'{"open":true}')]
        assert world.rules.engine.running[TENANT] == 0
        assert await world.latest("valveFault") == {}


@in_both_languages
@ensureDeferred
async def test_retry_calls_again_until_telemetry_confirms_it(language: str) -> None:
    async with exported_world() as world:
        await world.install(EXAMPLES / "retry-until-confirmed.json", language=language)
        link = world.link(reply=b"{}")
        await world.post({"valveOpen": False})
        await world.call(OPEN)
        await world.quiet()
        world.clock.advance(5.1)
        await world.quiet()
        assert told(link) == [("setValve", b'{"open":true}')] * 2
        await world.post({"valveOpen": True})
        world.clock.advance(5.1)
        await world.quiet()
        assert len(link.calls) == 2
        assert world.rules.engine.running[TENANT] == 0
        assert await world.latest("valveFault") == {}


@in_both_languages
@ensureDeferred
async def test_retry_gives_up_after_three_calls_that_nobody_answers(language: str) -> None:
    async with exported_world() as world:
        await world.install(EXAMPLES / "retry-until-confirmed.json", language=language)
        link = world.link()
        waiting = finished(world.call(OPEN))
        for number in range(1, 4):
            await world.until(lambda number=number: len(link.calls) == number)
            world.clock.advance(10.1)
            await world.until(lambda: world.rules.held[TENANT] == 1)
            world.clock.advance(5.1)
        await world.quiet()
        assert isinstance(await waiting, CallTimeout)
        assert told(link) == [("setValve", b'{"open":true}')] * 3
        assert len({call.wire_id for call in link.calls}) == 3
        assert await world.latest("valveFault") == {"valveFault": True}


@in_both_languages
@ensureDeferred
async def test_fan_out_calls_all_devices_of_the_group_and_no_others(language: str) -> None:
    async with exported_world() as world:
        await world.install(EXAMPLES / "fan-out-to-related.json", language=language)
        group = device(200, type="group")
        lamps = [device(number) for number in (201, 202, 203)]
        for each in (group, *lamps):
            world.add(each)
        for lamp in lamps[:2]:
            relation = Relation(tenant_id=TENANT, source=group.id, target=lamp.id, type="Contains")
            await world.store.rules.relate(relation, most=10)
        links = [world.link(lamp, reply=b'{"from":%d}' % lamp.id.int) for lamp in lamps]
        reply = await world.call(CallRequest(method="off", params=b"{}"), device_id=group.id)
        await world.quiet()
        assert reply.payload == b'{"from":201}'
        assert [told(link) for link in links] == [[("off", b"{}")], [("off", b"{}")], []]
        single = await world.call(CallRequest(method="on", params=b"{}"), device_id=lamps[2].id)
        assert single.payload == b'{"from":203}'
        assert [told(link)[1:] for link in links[:2]] == [[], []]
        assert told(links[2]) == [("on", b"{}")]
