"""Relations between devices over REST."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_twisted
from fakes import CUSTOMER, OTHER_TENANT, TENANT, device, result_of
from rest import Rest
from twisted.internet.defer import Deferred

from rpcbroker.core.model import Authority, Device, Relation
from rpcbroker.core.rules_settings import RulesSettings
from rpcbroker.core.settings import Settings

ONE, TWO, ASSIGNED, FOREIGN = (
    device(100),
    device(101),
    device(102, customer_id=CUSTOMER),
    device(200, tenant=OTHER_TENANT),
)
TYPE = "Contains"


@pytest.fixture
def world() -> Rest:
    made = Rest()
    for each in (TWO, ASSIGNED, FOREIGN):
        made.add(each)
    return made


def ref(one: Device) -> dict[str, str]:
    return {"entityType": "DEVICE", "id": str(one.id)}


def body(source: Device = ONE, target: Device = TWO, type_: str = TYPE, **more: Any) -> dict[str, Any]:
    return {"from": ref(source), "to": ref(target), "type": type_, **more}


def told(source: Device = ONE, target: Device = TWO, type_: str = TYPE, info: Any = None) -> dict[str, Any]:
    return body(source, target, type_, typeGroup="COMMON", additionalInfo=info)


def ends(source: Device | None = ONE, target: Device | None = TWO, **more: str) -> dict[str, str]:
    given = {"from": source, "to": target}
    found = {name: one for name, one in given.items() if one is not None}
    return {
        **{f"{name}Id": str(one.id) for name, one in found.items()},
        **{f"{name}Type": "DEVICE" for name in found},
        **more,
    }


def relation(source: Device = ONE, target: Device = TWO, **more: str) -> str:
    return "/api/relation?" + urlencode({"relationType": TYPE, **ends(source, target, **more)})


def relations(source: Device | None = None, target: Device | None = None, **more: str) -> str:
    return "/api/relations?" + urlencode(ends(source, target, **more))


def kept(world: Rest) -> list[Relation]:
    return result_of(world.store.rules.relations(TENANT))  # type: ignore[no-any-return]


@pytest_twisted.ensureDeferred
async def test_a_relation_is_made_told_changed_and_ended(world: Rest) -> None:
    assert await world.ok("POST", "/api/relation", body()) is None
    assert await world.ok("GET", relation()) == told()
    await world.ok("POST", "/api/relation", body(typeGroup="COMMON", additionalInfo={"since": 2020}))
    assert await world.ok("GET", relation(relationTypeGroup="COMMON")) == told(info={"since": 2020})
    assert await world.ok("DELETE", relation()) is None
    for method in ("GET", "DELETE"):
        assert await world.refused(method, relation()) == (404, "There is no such relation")
    assert await world.refused("GET", relation(TWO, ONE)) == (404, "There is no such relation")


@pytest_twisted.ensureDeferred
async def test_relations_are_listed_from_a_device_to_one_and_by_type(world: Rest) -> None:
    for each in (body(), body(ONE, ASSIGNED), body(TWO, ONE), body(type_="Manages")):
        await world.ok("POST", "/api/relation", each)
    assert await world.ok("GET", relations(ONE)) == [told(), told(ONE, ASSIGNED), told(type_="Manages")]
    assert await world.ok("GET", relations(ONE, relationType="Manages")) == [told(type_="Manages")]
    assert await world.ok("GET", relations(None, ONE)) == [told(TWO, ONE)]
    assert await world.ok("GET", relations(ONE, TWO, relationType=TYPE)) == [told()]
    assert await world.ok("GET", relations(ASSIGNED)) == []


@pytest_twisted.ensureDeferred
async def test_the_children_of_a_gateway_are_listed(world: Rest) -> None:
    child = result_of(Deferred.fromCoroutine(world.broker.child(world.session(), "thermometer"))).device
    assert await world.ok("GET", relations(ONE)) == [told(ONE, child, "Created")]


@pytest.mark.parametrize(("source", "target"), [(ONE, FOREIGN), (FOREIGN, ONE), (ONE, device(999)), (FOREIGN, FOREIGN)])
@pytest_twisted.ensureDeferred
async def test_devices_of_others_are_not_there(world: Rest, source: Device, target: Device) -> None:
    asked = (("POST", "/api/relation", body(source, target)), ("DELETE", relation(source, target), None))
    for method, path, sent in (
        *asked,
        ("GET", relation(source, target), None),
        ("GET", relations(source, target), None),
    ):
        status, message = await world.refused(method, path, sent)
        assert (status, "is not found" in message) == (404, True)
    assert kept(world) == []


@pytest_twisted.ensureDeferred
async def test_customers_read_what_is_between_their_devices_and_write_nothing(world: Rest) -> None:
    mine = device(103, customer_id=CUSTOMER)
    world.add(mine)
    for each in (body(ASSIGNED, mine), body(ASSIGNED, ONE), body(ONE, ASSIGNED)):
        await world.ok("POST", "/api/relation", each)
    token = world.add_user("c@example.org", Authority.CUSTOMER_USER, customer=CUSTOMER)
    assert await world.ok("GET", relations(ASSIGNED), token=token) == [told(ASSIGNED, mine)]
    assert await world.ok("GET", relation(ASSIGNED, mine), token=token) == told(ASSIGNED, mine)
    assert await world.ok("GET", relations(None, ASSIGNED), token=token) == []
    for hidden in (relations(ONE), relation(ASSIGNED, ONE), relation(ONE, ASSIGNED)):
        assert (await world.refused("GET", hidden, token=token))[0] == 404
    assert (await world.refused("POST", "/api/relation", body(ASSIGNED, mine), token=token))[0] == 403
    assert (await world.refused("DELETE", relation(ASSIGNED, mine), token=token))[0] == 403
    assert len(kept(world)) == 3


@pytest_twisted.ensureDeferred
async def test_keys_to_manage_write_and_others_read_what_is_between_their_devices(world: Rest) -> None:
    async def key(**scope: Any) -> str:
        made = await world.ok("POST", "/api/apiKey", {"description": "k", "scope": scope})
        return f"ApiKey {made['value']}"

    both = [str(ONE.id), str(TWO.id)]
    narrow, manages = await key(access="READ", deviceIds=both), await key(access="MANAGE")
    for each in (body(), body(ONE, ASSIGNED)):
        assert (await world.refused("POST", "/api/relation", each, token=narrow))[0] == 403
        await world.ok("POST", "/api/relation", each, token=manages)
    assert len(await world.ok("GET", relations(ONE), token=manages)) == 2
    assert await world.ok("GET", relations(ONE), token=narrow) == [told()]
    assert (await world.refused("GET", relation(ONE, ASSIGNED), token=narrow))[0] == 404


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "an asset": (body() | {"to": {"entityType": "ASSET", "id": str(TWO.id)}}, "Only a DEVICE is related"),
    "another group": (body(typeGroup="ALARM"), "Only relations of the group COMMON"),
    "no type": (body(type_=" "), "Relation type should be specified!"),
    "a type that cannot be kept": (body(type_="a\x00b"), "none of them U+0000"),
    "a long type": (body(type_="x" * 256), "at most 255 characters"),
    "too much info": (body(additionalInfo="x" * 33_000), "additionalInfo must have at most"),
    "no device": ({"from": ref(ONE), "type": TYPE}, "missing required field `to`"),
}


@pytest.mark.parametrize("name", BAD)
@pytest_twisted.ensureDeferred
async def test_what_is_no_relation_is_refused(world: Rest, name: str) -> None:
    sent, says = BAD[name]
    status, message = await world.refused("POST", "/api/relation", sent)
    assert status == 400
    assert says in message
    assert kept(world) == []


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"fromId": str(ONE.id)},
        {"toType": "DEVICE"},
        ends(ONE, None) | {"fromType": "ASSET"},
        ends(ONE, None, relationType=""),
        ends(ONE, None, relationTypeGroup="EDGE"),
        ends(ONE, None) | {"fromId": "x"},
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_list_that_cannot_be_is_refused(world: Rest, query: dict[str, str]) -> None:
    assert (await world.refused("GET", "/api/relations?" + urlencode(query)))[0] == 400


@pytest_twisted.ensureDeferred
async def test_a_device_has_no_more_relations_than_the_settings_say_from_the_moment_they_say_so(world: Rest) -> None:
    world.rest.reconfigure(Settings(rules=RulesSettings(max_relations=1)))
    await world.ok("POST", "/api/relation", body())
    await world.ok("POST", "/api/relation", body(additionalInfo=1))
    status, answer, _ = await world.ask("POST", "/api/relation", body(ONE, ASSIGNED))
    assert (status, answer["hint"]) == (400, "The limit is rules.max_relations.")
    world.rest.reconfigure(Settings())
    await world.ok("POST", "/api/relation", body(ONE, ASSIGNED))


@pytest_twisted.ensureDeferred
async def test_the_audit_log_says_who_was_related_to_whom(world: Rest) -> None:
    await world.ok("POST", "/api/relation", body())
    await world.ok("DELETE", relation())
    await world.refused("DELETE", relation())
    made, ended, failed = world.audit(entity=("DEVICE", ONE.id))
    assert (made.action, made.entity_name) == ("RELATION_ADD_OR_UPDATE", ONE.name)
    assert made.data == {"to": str(TWO.id), "toName": TWO.name, "type": TYPE, "durationMs": 0.0}
    assert (ended.action, ended.failure) == ("RELATION_DELETED", "")
    assert failed.failure.endswith("There is no such relation")
