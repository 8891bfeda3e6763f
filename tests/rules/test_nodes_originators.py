"""Change originator, duplicate to related, check relation, and the filters by originator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from fakes import CUSTOMER, OTHER_TENANT, TENANT, customer, device, result_of
from node_bench import Bench, refusal
from rule_world import RuleWorld

from rpcbroker.core.model import Device, Relation
from rpcbroker.rules.message import Originator
from rpcbroker.rules.ports import MAX_RELATED

CHANGE, DUPLICATE = "transform.TbChangeOriginatorNode", "transform.TbDuplicateMsgToRelatedNode"
RELATION = "filter.TbCheckRelationNode"
A, B, C, D = device(), device(101), device(102), device(103)
FOREIGN = device(500, tenant=OTHER_TENANT)


def world_of(*devices: Device, relations: tuple[tuple[Device, str, Device], ...] = ()) -> RuleWorld:
    """One with A, these devices, and relations between them."""
    world = RuleWorld()
    for each in devices:
        world.add(each)
    for source, type_, target in relations:
        relation = Relation(tenant_id=TENANT, source=source.id, target=target.id, type=type_)
        result_of(world.store.rules.relate(relation, most=100))
    return world


TREE = ((A, "Contains", B), (A, "Contains", C), (B, "Contains", D), (D, "Manages", A), (A, "Manages", C))


def query(direction: str = "FROM", type_: str | None = "Contains", **more: Any) -> dict[str, Any]:
    return {"direction": direction, "filters": [{"relationType": type_, "entityTypes": ["DEVICE"]}], **more}


def originators(bench: Bench) -> list[Originator]:
    assert set(bench.labels) == {"Success"}
    return [went.originator for _, went in bench.came]


def of(*devices: Device) -> list[Originator]:
    return [Originator("DEVICE", each.id) for each in devices]


@pytest.mark.parametrize(
    ("configuration", "found"),
    [
        ({"originatorSource": "TENANT"}, Originator("TENANT", TENANT)),
        ({"originatorSource": "CUSTOMER"}, Originator("CUSTOMER", CUSTOMER)),
        ({"originatorSource": "RELATED", "relationsQuery": query()}, of(B)[0]),
        ({"originatorSource": "RELATED", "relationsQuery": query("TO", "Manages")}, of(D)[0]),
        ({"originatorSource": "RELATED", "relationsQuery": query("TO", None)}, of(D)[0]),
        ({"originatorSource": "ENTITY", "entityType": "DEVICE", "entityNamePattern": "device-101"}, of(B)[0]),
        ({"originatorSource": "ENTITY", "entityType": "DEVICE", "entityNamePattern": "${to}"}, of(C)[0]),
        ({"originatorSource": "ENTITY", "entityType": "DEVICE", "entityNamePattern": "$[to.name]"}, of(D)[0]),
        ({"originatorSource": "GATEWAY"}, of(B)[0]),
    ],
)
def test_the_message_is_about_something_else_then(configuration: dict[str, Any], found: Originator) -> None:
    world = world_of(B, C, D, relations=TREE)
    known = replace(A, additional_info={"lastConnectedGateway": str(B.id)}, version=A.version + 1)
    if configuration["originatorSource"] == "CUSTOMER":
        result_of(world.store.people.create_customer(customer()))
        known = replace(known, customer_id=CUSTOMER)
    result_of(world.store.update_device(known))
    bench = Bench(CHANGE, configuration, world)
    bench.send({"to": {"name": "device-103"}}, metadata={"to": "device-102"})
    assert originators(bench) == [found]
    assert bench.bodies == [{"to": {"name": "device-103"}}]


@pytest.mark.parametrize(
    ("configuration", "said"),
    [
        ({"originatorSource": "CUSTOMER"}, "The device belongs to no customer"),
        ({"originatorSource": "RELATED", "relationsQuery": query()}, "There is no device that is related so"),
        ({"originatorSource": "GATEWAY"}, "The device was never connected by a gateway"),
        (
            {"originatorSource": "ENTITY", "entityType": "DEVICE", "entityNamePattern": "${none}"},
            "There is no device '${none}'",
        ),
        (
            {"originatorSource": "ENTITY", "entityType": "DEVICE", "entityNamePattern": "device-500"},
            "There is no device 'device-500'",
        ),
    ],
)
def test_nothing_to_be_found_is_a_failure(configuration: dict[str, Any], said: str) -> None:
    bench = Bench(CHANGE, configuration, world_of(FOREIGN))
    bench.send({"a": 1})
    assert bench.failure == said
    assert [went.originator for _, went in bench.came] == of(A)


@pytest.mark.parametrize("info", [None, 5, [], {}, {"lastConnectedGateway": 7}, {"lastConnectedGateway": "x"}])
def test_a_device_without_a_gateway_is_a_failure(info: Any) -> None:
    child = device(200, additional_info=info)
    bench = Bench(CHANGE, {"originatorSource": "GATEWAY"}, world_of(child))
    bench.send(originator=of(child)[0])
    assert bench.failure == "The device was never connected by a gateway"


@pytest.mark.parametrize("gateway", [FOREIGN, device(999)])
def test_a_gateway_of_another_tenant_or_none_is_never_reached(gateway: Device) -> None:
    child = device(200, additional_info={"lastConnectedGateway": str(gateway.id)})
    bench = Bench(CHANGE, {"originatorSource": "GATEWAY"}, world_of(child, FOREIGN))
    bench.send(originator=of(child)[0])
    assert bench.failure == "There is no gateway any more by which the device was connected"


@pytest.mark.parametrize("source", ["CUSTOMER", "GATEWAY", "RELATED"])
def test_what_is_about_no_device_or_a_foreign_one_fails(source: str) -> None:
    configuration = {"originatorSource": source, "relationsQuery": query("TO", "")}
    for originator in (Originator("TENANT", TENANT), of(FOREIGN)[0], of(device(999))[0]):
        bench = Bench(CHANGE, configuration, world_of(FOREIGN))
        bench.send(originator=originator)
        assert bench.labels == ["Failure"]


@pytest.mark.parametrize(
    ("relations_query", "found"),
    [
        (query(), [B, C]),
        (query(maxLevel=2), [B, C, D]),
        (query(maxLevel=0), [B, C, D]),
        (query(maxLevel=2, fetchLastLevelOnly=True), [D]),
        (query(maxLevel=1, fetchLastLevelOnly=True), [B, C]),
        (query("TO", "Manages"), [D]),
        ({"direction": "FROM", "filters": []}, [B, C]),
        ({"direction": "FROM", "filters": [{"relationType": "Manages", "entityTypes": []}]}, [C]),
        (
            {"direction": "FROM", "filters": [{"relationType": "Manages"}, {"relationType": "Contains"}]},
            [C, B],
        ),
    ],
)
def test_a_message_becomes_one_for_each_related_device(relations_query: dict[str, Any], found: list[Device]) -> None:
    bench = Bench(DUPLICATE, {"relationsQuery": relations_query}, world_of(B, C, D, relations=TREE))
    bench.send({"a": 1}, metadata={"k": "v"}, type="T")
    assert originators(bench) == of(*found)
    assert bench.bodies == [{"a": 1}] * len(found)
    assert {(went.type, went.metadata["k"]) for _, went in bench.came} == {("T", "v")}
    assert len({went.id for _, went in bench.came}) == len(found)


def test_no_related_device_is_a_failure() -> None:
    bench = Bench(DUPLICATE, {"relationsQuery": query()}, world_of(B, relations=((B, "Contains", A),)))
    bench.send()
    assert bench.failure == "There is no device that is related so"
    bench = Bench(DUPLICATE, {"relationsQuery": query()}, world_of())
    bench.send(originator=Originator("CUSTOMER", CUSTOMER))
    assert bench.failure == "Only devices have relations, and the message is about none"


@pytest.mark.parametrize(
    ("configuration", "label"),
    [
        ({"direction": "TO", "relationType": "Contains"}, "True"),
        ({"direction": "FROM", "relationType": "Contains"}, "False"),
        ({"direction": "FROM", "relationType": "Manages"}, "True"),
        (
            {
                "direction": "TO",
                "relationType": "Contains",
                "checkForSingleEntity": True,
                "entityType": "DEVICE",
                "entityId": str(B.id),
            },
            "True",
        ),
        (
            {
                "direction": "TO",
                "relationType": "Contains",
                "checkForSingleEntity": True,
                "entityType": "DEVICE",
                "entityId": str(D.id),
            },
            "False",
        ),
    ],
)
def test_messages_are_told_apart_by_relations_of_their_device(configuration: dict[str, Any], label: str) -> None:
    bench = Bench(RELATION, configuration, world_of(B, C, D, relations=TREE))
    bench.send()
    assert bench.labels == [label]


@pytest.mark.parametrize(
    ("type_", "configuration", "said"),
    [
        (CHANGE, {}, "`originatorSource`"),
        (CHANGE, {"originatorSource": "ALARM_ORIGINATOR"}, "Invalid enum value 'ALARM_ORIGINATOR'"),
        (CHANGE, {"originatorSource": "RELATED", "relationsQuery": None}, "there is no relationsQuery"),
        (
            CHANGE,
            {"originatorSource": "ENTITY", "entityType": "ASSET", "entityNamePattern": "x"},
            "entityType is 'ASSET': only DEVICE is known here",
        ),
        (CHANGE, {"originatorSource": "ENTITY", "entityType": "DEVICE"}, "there is no entityNamePattern"),
        (CHANGE, {"originatorSource": "TENANT", "entityNamePattern": 5}, "$.entityNamePattern"),
        (DUPLICATE, {}, "`relationsQuery`"),
        (DUPLICATE, {"relationsQuery": query("UP")}, "$.relationsQuery.direction"),
        (DUPLICATE, {"relationsQuery": query(maxLevel=-1)}, "maxLevel is 0 to 20"),
        (DUPLICATE, {"relationsQuery": query(maxLevel=21)}, "maxLevel is 0 to 20"),
        (
            DUPLICATE,
            {"relationsQuery": query(maxLevel=0, fetchLastLevelOnly=True)},
            "fetchLastLevelOnly needs a maxLevel",
        ),
        (
            DUPLICATE,
            {"relationsQuery": {"filters": [{"relationType": "x", "entityTypes": ["ASSET"]}]}},
            "entityTypes: only relations to DEVICE are known here",
        ),
        (RELATION, {}, "`relationType`"),
        (
            RELATION,
            {"relationType": "x", "checkForSingleEntity": True, "entityType": "ASSET"},
            "entityType is 'ASSET': only DEVICE",
        ),
        (
            RELATION,
            {"relationType": "x", "checkForSingleEntity": True, "entityType": "DEVICE", "entityId": "7"},
            "entityId is no UUID",
        ),
    ],
)
def test_bad_configurations_are_refused_by_field(type_: str, configuration: dict[str, Any], said: str) -> None:
    assert said in refusal(type_, configuration)


@pytest.mark.parametrize(
    ("kind", "switched", "filtered"),
    [
        ("DEVICE", "Device", "True"),
        ("CUSTOMER", "Customer", "False"),
        ("TENANT", "Tenant", "True"),
        ("RULE_NODE", "Rule node", "False"),
    ],
)
def test_messages_are_told_apart_by_what_they_are_about(kind: str, switched: str, filtered: str) -> None:
    originator = Originator(kind, UUID(int=9))
    bench = Bench("filter.TbOriginatorTypeSwitchNode", {"version": 0})
    bench.send(originator=originator)
    assert bench.labels == [switched]
    bench = Bench("filter.TbOriginatorTypeFilterNode", {"originatorTypes": ["DEVICE", "TENANT"]})
    bench.send(originator=originator)
    assert bench.labels == [filtered]


@pytest.mark.parametrize(
    ("data", "metadata", "every", "label"),
    [
        (["a"], ["k"], True, "True"),
        (["a", "none"], ["k"], True, "False"),
        (["a", "none"], [], False, "True"),
        (["none"], ["k"], False, "True"),
        (["none"], ["none"], False, "False"),
        ([], [], True, "True"),
        ([], [], False, "False"),
    ],
)
def test_messages_are_told_apart_by_their_members(
    data: list[str], metadata: list[str], every: bool, label: str
) -> None:
    configuration = {"messageNames": data, "metadataNames": metadata, "checkAllKeys": every}
    bench = Bench("filter.TbCheckMessageNode", configuration)
    bench.send({"a": None}, metadata={"k": "v"})
    assert bench.labels == [label]
    bench = Bench("filter.TbCheckMessageNode", configuration)
    bench.send([1])
    assert bench.failure == "The message is not a JSON object"


def test_where_some_would_be_left_out_none_is_meant_and_that_is_said() -> None:
    many = [device(number) for number in range(2_000, 2_000 + MAX_RELATED + 1)]
    world = world_of(B, *many)
    for each in many:
        relation = Relation(tenant_id=TENANT, source=A.id, target=each.id, type="Contains")
        result_of(world.store.rules.relate(relation, most=2 * MAX_RELATED))
    too_many = "More than 1,000 devices are related so"
    certain = {"direction": "TO", "relationType": "Contains", "checkForSingleEntity": True, "entityType": "DEVICE"}
    for type_, configuration in (
        (DUPLICATE, {"relationsQuery": query()}),
        (CHANGE, {"originatorSource": "RELATED", "relationsQuery": query()}),
        (RELATION, certain | {"entityId": str(B.id)}),
    ):
        bench = Bench(type_, configuration, world)
        bench.send({})
        assert bench.failure == too_many
    bench = Bench(RELATION, {"direction": "TO", "relationType": "Contains"}, world)
    bench.send({})
    assert bench.labels == ["True"]
    result_of(world.store.delete_device(many[0].id))
    bench = Bench(DUPLICATE, {"relationsQuery": query()}, world)
    bench.send({})
    assert len(originators(bench)) == MAX_RELATED
