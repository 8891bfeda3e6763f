"""What vendors' SDKs send and ask for, beside what the table's main rows say."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
import pytest_twisted
from fakes import OTHER_TENANT, TENANT, device
from rest import NULL_UUID, Rest

from rpcbroker.core.model import Authority
from rpcbroker.schema.devices import profile_id


@pytest.fixture
def rest() -> Rest:
    return Rest()


async def customer_of(rest: Rest) -> str:
    _, answer, _ = await rest.ask("GET", f"/api/device/{rest.device.id}")
    owner: str = answer["customerId"]["id"]
    return owner


async def actions(rest: Rest) -> list[Any]:
    """What was done, the newest first; the log is written a second late at most."""
    rest.clock.advance(2)
    _, page, _ = await rest.ask("GET", "/api/audit/logs?pageSize=100&sortOrder=DESC")
    return [each["actionType"] for each in page["data"]]


@pytest_twisted.ensureDeferred
async def test_a_device_changes_its_owner_and_goes_back(rest: Rest) -> None:
    customer = rest.add_customer("Baker")
    to_customer = f"/api/owner/CUSTOMER/{customer.id}/DEVICE/{rest.device.id}"
    back = f"/api/owner/TENANT/{TENANT}/DEVICE/{rest.device.id}"
    assert (await rest.ask("POST", to_customer, []))[:2] == (200, None)
    assert await customer_of(rest) == str(customer.id)
    assert (await rest.ask("POST", back))[:2] == (200, None)
    assert await customer_of(rest) == NULL_UUID
    assert (await rest.ask("POST", back))[:2] == (200, None)
    assert set(await actions(rest)) == {"ASSIGNED_TO_CUSTOMER", "UNASSIGNED_FROM_CUSTOMER"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("CUSTOMER/{unknown}/DEVICE/{device}", 404),
        ("CUSTOMER/{foreign_customer}/DEVICE/{device}", 404),
        ("TENANT/{other_tenant}/DEVICE/{device}", 404),
        ("TENANT/{tenant}/DEVICE/{foreign_device}", 404),
        ("TENANT/{tenant}/DEVICE/{unknown}", 404),
        ("TENANT/{tenant}/ASSET/{device}", 400),
        ("EDGE/{tenant}/DEVICE/{device}", 400),
        ("TENANT/x/DEVICE/{device}", 400),
    ],
)
@pytest_twisted.ensureDeferred
async def test_owners_that_cannot_be(rest: Rest, path: str, status: int) -> None:
    rest.add(device(300, tenant=OTHER_TENANT))
    ids = {
        "unknown": UUID(int=77),
        "foreign_customer": rest.add_customer("Other", tenant=OTHER_TENANT).id,
        "tenant": TENANT,
        "other_tenant": OTHER_TENANT,
        "device": rest.device.id,
        "foreign_device": UUID(int=300),
    }
    assert (await rest.ask("POST", "/api/owner/" + path.format(**ids)))[0] == status
    assert await customer_of(rest) == NULL_UUID


@pytest_twisted.ensureDeferred
async def test_the_users_have_a_second_path(rest: Rest) -> None:
    first = await rest.ask("GET", "/api/users?pageSize=10&page=0")
    assert first[1]["totalElements"] == 1
    assert (await rest.ask("GET", "/api/user/users?pageSize=10&page=0"))[:2] == first[:2]


@pytest_twisted.ensureDeferred
async def test_the_default_profile_is_the_one_that_devices_of_the_default_type_have(rest: Rest) -> None:
    _, profile, _ = await rest.ask("GET", "/api/deviceProfileInfo/default")
    assert profile["name"] == "default"
    assert profile["id"] == {"entityType": "DEVICE_PROFILE", "id": str(profile_id(TENANT, "default"))}
    _, made, _ = await rest.ask("POST", "/api/device", {"name": "new", "deviceProfileId": profile["id"]})
    assert (made["type"], made["deviceProfileId"]) == ("default", profile["id"])


@pytest_twisted.ensureDeferred
async def test_several_ids_may_come_in_one_parameter_or_in_several(rest: Rest) -> None:
    rest.add(device(200))
    ids = [UUID(int=200), rest.device.id]
    for query in ("deviceIds={},{}", "deviceIds={}&deviceIds={}"):
        status, found, _ = await rest.ask("GET", "/api/devices?" + query.format(*ids))
        assert (status, [each["id"]["id"] for each in found]) == (200, list(map(str, ids)))


@pytest_twisted.ensureDeferred
async def test_a_number_that_is_given_twice_is_no_number(rest: Rest) -> None:
    assert (await rest.ask("GET", "/api/tenant/devices?pageSize=10&pageSize=10"))[0] == 400


@pytest_twisted.ensureDeferred
async def test_an_api_key_is_switched_and_described(rest: Rest) -> None:
    _, made, _ = await rest.ask("POST", "/api/apiKey", {"description": "mine"})
    path = f"/api/apiKey/{made['id']['id']}"
    for text, enabled in (("False", False), ("True", True), ("false", False)):
        status, key, _ = await rest.ask("PUT", f"{path}/enabled/{text}")
        assert (status, key["enabled"]) == (200, enabled)
    assert (await rest.ask("PUT", f"{path}/enabled/perhaps"))[0] == 400
    status, key, _ = await rest.ask("PUT", f"{path}/description", "another")
    assert (status, key["description"], "value" in key) == (200, "another", False)
    for bad in (" ", 5, None, {}):
        assert (await rest.ask("PUT", f"{path}/description", bad))[0] == 400
    rest.add(device(900, tenant=OTHER_TENANT))
    other = rest.add_user("b@example.org", Authority.TENANT_ADMIN, tenant=OTHER_TENANT)
    assert (await rest.ask("PUT", f"{path}/description", "theirs", token=other))[0] == 404


@pytest.mark.parametrize(
    ("path", "body", "change"),
    [
        ("/api/device", {"name": "d"}, {"label": "l"}),
        ("/api/device-with-credentials", {"device": {"name": "d"}, "credentials": {}}, None),
        ("/api/customer", {"title": "c"}, {"city": "Zwolle"}),
        ("/api/user", {"email": "u@example.org", "authority": "TENANT_ADMIN"}, {"firstName": "Ada"}),
        ("/api/apiKey", {"description": "k"}, {"enabled": False}),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_changed_is_audited_as_changed(rest: Rest, path: str, body: Any, change: Any) -> None:
    _, made, _ = await rest.ask("POST", path, body)
    changed = {**body, **(change or {}), "id": made["id"]}
    if change is None:
        changed["device"] = {**body["device"], "id": made["id"]}
    assert (await rest.ask("POST", path, changed))[0] == 200
    assert await actions(rest) == ["UPDATED", "ADDED"]
