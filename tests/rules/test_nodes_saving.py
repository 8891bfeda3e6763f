"""Save time series and save attributes, one node at a time."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import EPOCH_MS, OTHER_TENANT, device, result_of
from node_bench import Bench, passed, refusal
from rule_world import RuleWorld
from twisted.internet.defer import Deferred

from rpcbroker.core import jsontext
from rpcbroker.core.settings import TelemetrySettings
from rpcbroker.rules.message import Originator

TELEMETRY, ATTRIBUTES = "telemetry.TbMsgTimeseriesNode", "telemetry.TbMsgAttributesNode"
FOREIGN = device(500, tenant=OTHER_TENANT)


def latest(world: RuleWorld) -> dict[str, tuple[int, Any]]:
    read = world.broker.telemetry.latest(world.device.id, result_of_keys(world))
    found = result_of(Deferred.fromCoroutine(read))
    return {key: (point.ts, jsontext.decode(bytes(point.value))) for key, point in found.items()}


def result_of_keys(world: RuleWorld) -> list[str]:
    keys: list[str] = result_of(Deferred.fromCoroutine(world.broker.telemetry.keys(world.device.id)))
    return keys


def attributes(world: RuleWorld) -> dict[tuple[str, str], tuple[int, Any]]:
    found = result_of(world.broker.attributes.read(world.device.id))
    return {(each.scope.value, each.key): (each.updated_time, jsontext.decode(bytes(each.value))) for each in found}


class TestTelemetry:
    @pytest.mark.parametrize(
        ("configuration", "data", "metadata", "kept"),
        [
            ({}, {"a": 1, "b": "x"}, {"ts": "5"}, {"a": (5, 1), "b": (5, "x")}),
            ({}, {"a": "12", "b": "007"}, {"ts": ""}, {"a": (EPOCH_MS, 12), "b": (EPOCH_MS, "007")}),
            ({}, {"a": {"x": [1]}}, {"ts": "soon"}, {"a": (EPOCH_MS, {"x": [1]})}),
            ({}, {"ts": 7, "values": {"a": True}}, {"ts": "5"}, {"a": (7, True)}),
            ({}, [{"a": 1}, {"ts": 8, "values": {"b": 2}}], {"ts": "5"}, {"a": (5, 1), "b": (8, 2)}),
            ({"useServerTs": True}, {"a": 1}, {"ts": "5"}, {"a": (EPOCH_MS, 1)}),
            ({"defaultTTL": 3600, "processingSettings": None}, {"a": 1}, {"ts": "5", "TTL": "1"}, {"a": (5, 1)}),
        ],
    )
    def test_it_is_kept(self, configuration: Any, data: Any, metadata: dict[str, str], kept: Any) -> None:
        bench = passed(TELEMETRY, configuration, data, metadata=metadata)
        assert bench.labels == ["Success"]
        assert bench.bodies == [data]
        assert latest(bench.world) == kept

    @pytest.mark.parametrize(
        ("data", "more", "text"),
        [
            ({"a": 1}, {"type": "POST_ATTRIBUTES_REQUEST"}, "Unsupported msg type: POST_ATTRIBUTES_REQUEST"),
            (
                {"a": 1},
                {"originator": Originator("TENANT", OTHER_TENANT)},
                "Message originator is not a device entity!",
            ),
            ({}, {}, "Msg body is empty: {}"),
            ([], {}, "Msg body is empty: []"),
            (b"", {}, "not JSON: Input data was truncated"),
            (b"{", {}, "not JSON: Input data was truncated"),
            (5, {}, "telemetry must be a JSON object, or an array of objects"),
            ({"a": None}, {}, '"a" is null: leave it out'),
            ({"a": 1}, {"metadata": {"ts": "-1"}}, "ts in the metadata is no time in milliseconds since 1970"),
            ({"a": 1}, {"metadata": {"ts": str(2**60)}}, "ts in the metadata is no time in milliseconds since 1970"),
            ({"a": 1}, {"originator": Originator("DEVICE", OTHER_TENANT)}, "Device with requested id wasn't found!"),
        ],
    )
    def test_what_cannot_be_kept_is_a_failure(self, data: Any, more: dict[str, Any], text: str) -> None:
        assert text in passed(TELEMETRY, {}, data, **more).failure

    def test_a_device_of_another_tenant_is_not_there(self) -> None:
        bench = Bench(TELEMETRY, {})
        bench.world.add(FOREIGN)
        bench.world.session(FOREIGN)
        bench.send({"a": 1}, originator=Originator("DEVICE", FOREIGN.id))
        assert "wasn't found" in bench.failure
        assert result_of(Deferred.fromCoroutine(bench.world.broker.telemetry.keys(FOREIGN.id))) == []

    def test_what_the_broker_refuses_is_the_cause(self) -> None:
        bench = Bench(TELEMETRY, {})
        bench.world.broker.telemetry.settings = TelemetrySettings(max_keys=1)
        faults = bench.send({"a": 1, "b": 2}).faults
        assert [str(fault.cause) for fault in faults] == ["the device has 0 keys of telemetry, and may have at most 1"]
        assert [fault.cause for fault in bench.send([]).faults] == [None]

    def test_ways_to_leave_messages_out_are_not_known(self) -> None:
        text = refusal(TELEMETRY, {"processingSettings": {"type": "WEBSOCKETS_ONLY"}})
        assert "processingSettings: type must be ON_EVERY_MESSAGE, not 'WEBSOCKETS_ONLY'" in text
        assert "useServerTs" in refusal(TELEMETRY, {"useServerTs": "yes"})


class TestAttributes:
    @pytest.mark.parametrize(
        ("configuration", "metadata", "scope"),
        [
            ({}, {}, "CLIENT_SCOPE"),
            ({"scope": None}, {"scope": ""}, "CLIENT_SCOPE"),
            ({"scope": "SERVER_SCOPE", "notifyDevice": "false"}, {}, "SERVER_SCOPE"),
            ({"scope": "SERVER_SCOPE"}, {"scope": "SHARED_SCOPE"}, "SHARED_SCOPE"),
        ],
    )
    def test_they_are_stored_in_a_scope(self, configuration: Any, metadata: dict[str, str], scope: str) -> None:
        bench = Bench(ATTRIBUTES, configuration)
        bench.send({"a": "12", "b": [1]}, type="POST_ATTRIBUTES_REQUEST", metadata=metadata)
        assert bench.labels == ["Success"]
        assert attributes(bench.world) == {(scope, "a"): (EPOCH_MS, 12), (scope, "b"): (EPOCH_MS, [1])}

    @pytest.mark.parametrize(
        ("always", "metadata", "told"),
        [
            (False, {}, True),
            (False, {"notifyDevice": "True"}, True),
            (False, {"notifyDevice": "false"}, False),
            (True, {"notifyDevice": "false"}, True),
        ],
    )
    def test_a_device_is_told_of_shared_ones(self, always: bool, metadata: dict[str, str], told: bool) -> None:
        bench = Bench(ATTRIBUTES, {"scope": "SHARED_SCOPE", "notifyDevice": always})
        link = bench.world.link()
        bench.send({"a": 1}, type="POST_ATTRIBUTES_REQUEST", metadata=metadata)
        assert link.updates == ([b'{"a":1}'] if told else [])

    @pytest.mark.parametrize(("only_changed", "time"), [(True, EPOCH_MS), (False, EPOCH_MS + 1000)])
    def test_what_stands_there_already_is_written_again_or_not(self, only_changed: bool, time: int) -> None:
        bench = Bench(ATTRIBUTES, {"scope": "SHARED_SCOPE", "updateAttributesOnlyOnValueChange": only_changed})
        link = bench.world.link()
        for values in ({"a": 1, "b": 1}, {"a": 1, "b": 2}):
            bench.send(values, type="POST_ATTRIBUTES_REQUEST")
            bench.world.clock.advance(1)
        assert attributes(bench.world) == {
            ("SHARED_SCOPE", "a"): (time, 1),
            ("SHARED_SCOPE", "b"): (EPOCH_MS + 1000, 2),
        }
        assert link.updates == [b'{"a":1,"b":1}', b'{"b":2}' if only_changed else b'{"a":1,"b":2}']

    @pytest.mark.parametrize(
        ("data", "more", "text"),
        [
            ({"a": 1}, {"type": "POST_TELEMETRY_REQUEST"}, "Unsupported msg type: POST_TELEMETRY_REQUEST"),
            (
                {"a": 1},
                {"originator": Originator("TENANT", OTHER_TENANT)},
                "Message originator is not a device entity!",
            ),
            ({}, {}, "Msg body is empty: {}"),
            ([1], {}, "attributes must be a JSON object"),
            ({"a": 1}, {"metadata": {"scope": "MINE"}}, "scope in the metadata is none of CLIENT_SCOPE, SERVER_SCOPE"),
            ({"active": True}, {"metadata": {"scope": "SERVER_SCOPE"}}, "active: the broker knows that itself"),
        ],
    )
    def test_what_cannot_be_stored_is_a_failure(self, data: Any, more: dict[str, Any], text: str) -> None:
        assert text in passed(ATTRIBUTES, {}, data, **{"type": "POST_ATTRIBUTES_REQUEST"} | more).failure

    def test_a_device_of_another_tenant_is_not_there(self) -> None:
        bench = Bench(ATTRIBUTES, {})
        bench.world.add(FOREIGN)
        foreign = Originator("DEVICE", FOREIGN.id)
        bench.send({"a": 1}, type="POST_ATTRIBUTES_REQUEST", originator=foreign)
        assert "wasn't found" in bench.failure
        assert result_of(bench.world.broker.attributes.read(FOREIGN.id)) == ()

    def test_the_root_chain_hears_of_changes(self) -> None:
        configuration = {
            "scope": "SHARED_SCOPE",
            "sendAttributesUpdatedNotification": True,
            "updateAttributesOnlyOnValueChange": True,
        }
        bench = Bench(ATTRIBUTES, configuration)
        for values in ({"a": 1}, {"a": 1}, {"a": 2, "b": 3}):
            bench.passed.clear()
            bench.send(values, type="POST_ATTRIBUTES_REQUEST")
        # the chain is its own root here, and the node takes no such message
        assert bench.labels == ["Success", None, "Failure"]
        assert bench.texts == ["Unsupported msg type: ATTRIBUTES_UPDATED"]
        told = bench.came[-1][1]
        assert (told.type, told.body(), told.metadata) == (
            "ATTRIBUTES_UPDATED",
            {"a": 2, "b": 3},
            {"deviceName": "A", "scope": "SHARED_SCOPE"},
        )

    def test_nobody_hears_of_what_is_as_it_was_or_of_the_devices_own(self) -> None:
        for scope, times in (("SHARED_SCOPE", 2), ("CLIENT_SCOPE", 1)):
            configuration = {
                "scope": scope,
                "sendAttributesUpdatedNotification": True,
                "updateAttributesOnlyOnValueChange": True,
            }
            bench = Bench(ATTRIBUTES, configuration)
            for _ in range(times):
                bench.passed.clear()
                bench.send({"a": 1}, type="POST_ATTRIBUTES_REQUEST")
            assert bench.labels == ["Success"]

    def test_bad_configurations(self) -> None:
        assert "scope" in refusal(ATTRIBUTES, {"scope": "MINE"})
        assert "ON_EVERY_MESSAGE" in refusal(ATTRIBUTES, {"processingSettings": {"type": "DEDUPLICATE"}})
        assert "notifyDevice" in refusal(ATTRIBUTES, {"notifyDevice": 5})
