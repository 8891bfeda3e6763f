"""Originator attributes and originator telemetry, one node at a time."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import EPOCH_MS, OTHER_TENANT, device, result_of
from node_bench import Bench, refusal
from rule_world import RuleWorld

from rpcbroker.core.model import Scope
from rpcbroker.rules.message import Originator

ATTRIBUTES, TELEMETRY = "metadata.TbGetAttributesNode", "metadata.TbGetTelemetryNode"


def world() -> RuleWorld:
    """One whose device has attributes in all scopes, and one point a minute of the last ten."""
    made = RuleWorld()
    made.clock.advance(3_600)
    for scope, values in (
        (Scope.CLIENT, {"model": "X", "n": 1}),
        (Scope.SHARED, {"limit": 2.5, "on": True}),
        (Scope.SERVER, {"site": '{"a":1}', "n": 9}),
    ):
        result_of(made.broker.attributes.save(made.device.id, scope, values))
    for minutes in range(10, 0, -1):
        result_of_keep(made, made.now_ms() - minutes * 60_000, {"t": minutes, "text": f"m{minutes}"})
    return made


def result_of_keep(made: RuleWorld, ts: int, values: dict[str, Any]) -> None:
    kept = made.broker.telemetry.keep(made.device.id, [(ts, values)])
    if kept is not None:
        result_of(kept)


def enriched(type_: str, configuration: dict[str, Any], **more: Any) -> Bench:
    bench = Bench(type_, configuration, world())
    assert bench.send({"x": 1, "key": "t"}, **{"metadata": {"which": "model"}} | more).ended
    return bench


class TestAttributes:
    @pytest.mark.parametrize(
        ("configuration", "added"),
        [
            ({"clientAttributeNames": ["model", "n"]}, {"cs_model": "X", "cs_n": "1"}),
            ({"sharedAttributeNames": ["limit", "on"]}, {"shared_limit": "2.5", "shared_on": "true"}),
            ({"serverAttributeNames": ["site", "n"]}, {"ss_site": '{"a":1}', "ss_n": "9"}),
            ({"serverAttributeNames": ["active"]}, {"ss_active": "false"}),
            ({"clientAttributeNames": ["${which}"]}, {"cs_model": "X"}),
            ({"latestTsKeyNames": ["$[key]", "text"]}, {"t": "1", "text": "m1"}),
            ({"clientAttributeNames": ["model", "none"], "tellFailureIfAbsent": False}, {"cs_model": "X"}),
            (
                {"latestTsKeyNames": ["t"], "getLatestValueWithTs": True},
                {"t": f'{{"ts":{EPOCH_MS + 3_540_000},"value":1}}'},
            ),
            ({}, {}),
        ],
    )
    def test_they_are_added_to_the_metadata(self, configuration: dict[str, Any], added: dict[str, str]) -> None:
        bench = enriched(ATTRIBUTES, configuration)
        assert bench.labels == ["Success"]
        assert bench.came[0][1].metadata == {"which": "model"} | added
        assert bench.bodies == [{"x": 1, "key": "t"}]

    @pytest.mark.parametrize("where", [{"fetchTo": "DATA"}, {"fetchToData": True}])
    def test_or_to_the_data(self, where: dict[str, Any]) -> None:
        names = {"clientAttributeNames": ["n"], "serverAttributeNames": ["site"], "latestTsKeyNames": ["t"]}
        bench = enriched(ATTRIBUTES, names | where)
        assert bench.bodies == [{"x": 1, "key": "t", "cs_n": 1, "ss_site": '{"a":1}', "t": 1}]
        assert bench.came[0][1].metadata == {"which": "model"}

    def test_what_is_not_there_is_a_failure_that_names_it_and_has_all_else(self) -> None:
        names = {"clientAttributeNames": ["model", "a"], "serverAttributeNames": ["b"], "latestTsKeyNames": ["c", "d"]}
        bench = enriched(ATTRIBUTES, names)
        assert bench.failure == (
            "The following attribute/telemetry keys is not present in the DB: "
            "[CLIENT_SCOPE]: a; [SERVER_SCOPE]: b; [LATEST_TS]: c, d"
        )
        assert bench.came[0][1].metadata == {"which": "model", "cs_model": "X"}

    @pytest.mark.parametrize(
        ("more", "text"),
        [
            ({"originator": Originator("TENANT", OTHER_TENANT)}, "Message originator is not a device entity!"),
            ({"originator": Originator("DEVICE", device(500).id)}, "wasn't found"),
        ],
    )
    def test_only_devices_of_the_tenant_have_any(self, more: dict[str, Any], text: str) -> None:
        bench = Bench(ATTRIBUTES, {"clientAttributeNames": ["a"]}, world())
        bench.world.add(device(500, tenant=OTHER_TENANT))
        bench.send({}, **more)
        assert text in bench.failure

    @pytest.mark.parametrize(("data", "text"), [(b"[1]", "Message body is not an object!"), (b"x", "not JSON")])
    def test_data_that_are_no_object_take_nothing(self, data: bytes, text: str) -> None:
        bench = Bench(ATTRIBUTES, {"clientAttributeNames": ["n"], "fetchTo": "DATA"}, world())
        bench.send(data)
        assert text in bench.failure

    def test_bad_configurations(self) -> None:
        assert "fetchTo" in refusal(ATTRIBUTES, {"fetchTo": "BOTH"})
        assert "clientAttributeNames" in refusal(ATTRIBUTES, {"clientAttributeNames": "a"})


def interval(start: int, end: int, **more: Any) -> dict[str, Any]:
    return {"latestTsKeyNames": ["t"], "startInterval": start, "endInterval": end} | more


NOW = EPOCH_MS + 3_600_000


class TestTelemetry:
    @pytest.mark.parametrize(
        ("configuration", "added"),
        [
            (interval(5, 2), {"t": "5"}),
            (interval(5, 2, fetchMode="LAST"), {"t": "3"}),
            (interval(600, 0, fetchMode="LAST", startIntervalTimeUnit="SECONDS"), {"t": "1"}),
            (
                interval(3, 1, fetchMode="ALL", orderBy="DESC", aggregation="NONE"),
                {"t": f'[{{"ts":{NOW - 120_000},"value":2}},{{"ts":{NOW - 180_000},"value":3}}]'},
            ),
            (interval(9, 0, fetchMode="ALL", limit=1), {"t": f'[{{"ts":{NOW - 540_000},"value":9}}]'}),
            (interval(9, 0, latestTsKeyNames=["${which}", "text", "none"]), {"text": "m9"}),
            (interval(5, 2, aggregation="AVG"), {"t": "5"}),
            (
                interval(
                    0,
                    0,
                    useMetadataIntervalPatterns=True,
                    startIntervalPattern="${from}",
                    endIntervalPattern="$[to]",
                ),
                {"t": "4"},
            ),
            (interval(1, 1), {}),
        ],
    )
    def test_points_are_added_to_the_metadata(self, configuration: dict[str, Any], added: dict[str, str]) -> None:
        metadata = {"which": "nothing", "from": str(NOW - 240_000)}
        bench = Bench(TELEMETRY, configuration, world())
        bench.send({"to": NOW}, metadata=metadata)
        assert bench.labels == ["Success"]
        assert bench.came[0][1].metadata == metadata | added

    def test_more_than_metadata_may_hold_is_a_failure(self) -> None:
        made = world()
        for number in range(100):
            result_of_keep(made, made.now_ms() - number, {"long": "x" * 15_000})
        bench = Bench(TELEMETRY, interval(1, 0, fetchMode="ALL", latestTsKeyNames=["long"]), made)
        bench.send({})
        assert bench.failure == "The metadata would have more than 1,048,576 characters"

    def test_bad_configurations_and_intervals(self) -> None:
        assert "aggregation must be NONE here, not 'AVG'" in refusal(
            TELEMETRY, interval(2, 1, fetchMode="ALL", aggregation="AVG")
        )
        assert "latestTsKeyNames" in refusal(TELEMETRY, {})
        assert "fetchMode" in refusal(TELEMETRY, interval(2, 1, fetchMode="SOME"))
        assert "startIntervalTimeUnit" in refusal(TELEMETRY, interval(2, 1, startIntervalTimeUnit="WEEKS"))
        bench = enriched(TELEMETRY, interval(1, 2))
        assert bench.failure == "The interval ends before it starts"
        patterns = {"useMetadataIntervalPatterns": True, "startIntervalPattern": "${none}", "endIntervalPattern": "1"}
        bench = enriched(TELEMETRY, interval(1, 2, **patterns))
        assert bench.failure == "The interval '${none}' is no time in milliseconds: '${none}'"
