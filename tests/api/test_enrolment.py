"""Provision keys and claims over REST."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
import pytest_twisted
from fakes import TENANT, device, result_of
from rest import Rest

from rpcbroker.core.model import Authority

CLAIM = "/api/customer/device/device-100/claim"


@pytest.fixture
def rest() -> Rest:
    return Rest()


def shopper(rest: Rest, title: str = "Shop") -> str:
    """The token of a user of a new customer."""
    customer = rest.add_customer(title)
    return rest.add_user(f"{title}@example.org".lower(), Authority.CUSTOMER_USER, customer=customer.id)


class TestProvisionKeys:
    @pytest_twisted.ensureDeferred
    async def test_the_secret_is_shown_once_and_lets_devices_in(self, rest: Rest) -> None:
        customer = rest.add_customer("Shop")
        ref = {"entityType": "CUSTOMER", "id": str(customer.id)}
        made = await rest.ok("POST", "/api/provisionKey", {"deviceType": "pump", "customerId": ref})
        secret = made.pop("provisionDeviceSecret")
        assert len(secret) >= 40
        page = await rest.ok("GET", "/api/provisionKeys?pageSize=10")
        assert page["data"] == [made]
        assert (made["deviceType"], made["customerId"], made["provisionType"], made["uses"], made["enabled"]) == (
            "pump",
            ref,
            "ALLOW_CREATE_NEW_DEVICES",
            0,
            True,
        )
        request = {"provisionDeviceKey": made["provisionDeviceKey"], "provisionDeviceSecret": secret}
        answer = json.loads(result_of(rest.rest.provisioning.provision(json.dumps(request).encode())))
        assert answer["status"] == "SUCCESS"
        assert (await rest.ok("GET", "/api/provisionKeys?pageSize=10"))["data"][0]["uses"] == 1
        assert secret not in json.dumps(rest.dump())
        url = f"/api/provisionKey/{made['id']['id']}"
        assert not (await rest.ok("PUT", f"{url}/enabled/false"))["enabled"]
        assert (
            json.loads(result_of(rest.rest.provisioning.provision(json.dumps(request).encode())))["status"] != "SUCCESS"
        )
        await rest.ok("DELETE", url)
        assert (await rest.refused("DELETE", url))[0] == 404
        actions = [(entry.action, entry.entity_type) for entry in rest.audit()]
        assert actions == [
            ("ADDED", "PROVISION_KEY"),
            ("PROVISION_SUCCESS", "DEVICE"),
            ("UPDATED", "PROVISION_KEY"),
            ("DELETED", "PROVISION_KEY"),
            ("DELETED", "PROVISION_KEY"),
        ]

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            ({"provisionDeviceSecret": "s" * 19}, "20 characters"),
            ({"provisionDeviceSecret": "s" * 256}, "at most 255"),
            ({"provisionDeviceKey": " "}, "provisionDeviceKey"),
            ({"provisionDeviceKey": "taken"}, "already exists"),
            ({"deviceType": ""}, "deviceType"),
            ({"provisionType": "DISABLED"}, "provisionType"),
            ({"customerId": {"entityType": "CUSTOMER", "id": str(TENANT)}}, "not found"),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_bad_keys(self, rest: Rest, body: dict[str, Any], says: str) -> None:
        await rest.ok("POST", "/api/provisionKey", {"provisionDeviceKey": "taken"})
        status, message = await rest.refused("POST", "/api/provisionKey", body)
        assert status in (400, 404)
        assert says in message
        assert (await rest.ok("GET", "/api/provisionKeys?pageSize=10"))["totalElements"] == 1

    @pytest_twisted.ensureDeferred
    async def test_keys_are_for_administrators_and_api_keys_that_manage(self, rest: Rest) -> None:
        for access, status in (("MANAGE", 200), ("CALL", 403), ("READ", 403)):
            body = {"description": access, "scope": {"access": access}}
            key = (await rest.ok("POST", "/api/apiKey", body))["value"]
            assert (await rest.ask("GET", "/api/provisionKeys?pageSize=1", token=f"ApiKey {key}"))[0] == status
            assert (await rest.ask("POST", "/api/provisionKey", {}, token=f"ApiKey {key}"))[0] == status
        for token in (shopper(rest), rest.sys_token):
            assert (await rest.ask("POST", "/api/provisionKey", {}, token=token))[0] == 403


class TestClaims:
    @pytest_twisted.ensureDeferred
    async def test_a_customers_user_claims_a_device_and_gives_it_up(self, rest: Rest) -> None:
        token = shopper(rest)
        result_of(rest.rest.claiming.offer(rest.device, b'{"secretKey":"s"}'))
        status, answer, _ = await rest.ask("POST", CLAIM, {"secretKey": "wrong"}, token=token)
        assert (status, answer["response"], answer["errorCode"]) == (400, "FAILURE", 31)
        answer = await rest.ok("POST", CLAIM, {"secretKey": "s"}, token=token)
        assert (answer["response"], answer["device"]["name"]) == ("SUCCESS", "device-100")
        url = f"/api/device/{rest.device.id}"
        assert await rest.ok("GET", url, token=token) == answer["device"]
        status, answer, _ = await rest.ask("POST", CLAIM, {"secretKey": "s"}, token=token)
        assert (status, answer["response"]) == (400, "CLAIMED")
        assert await rest.ok("DELETE", CLAIM, token=token) is None
        assert (await rest.ask("GET", url, token=token))[0] == 404
        assert (await rest.refused("DELETE", CLAIM, token=token))[0] == 404
        assert [entry.action for entry in rest.audit()] == ["ASSIGNED_TO_CUSTOMER", "UNASSIGNED_FROM_CUSTOMER"]

    @pytest_twisted.ensureDeferred
    async def test_an_administrator_takes_it_back(self, rest: Rest) -> None:
        result_of(rest.rest.claiming.offer(rest.device, b""))
        await rest.ok("POST", CLAIM, {}, token=shopper(rest))
        await rest.ok("DELETE", CLAIM)
        assert (await rest.refused("DELETE", CLAIM)) == (400, "Device isn't assigned to any customer!")

    @pytest_twisted.ensureDeferred
    async def test_another_customer_cannot(self, rest: Rest) -> None:
        result_of(rest.rest.claiming.offer(rest.device, b""))
        await rest.ok("POST", CLAIM, {}, token=shopper(rest))
        assert (await rest.refused("DELETE", CLAIM, token=shopper(rest, "Other")))[0] == 404

    @pytest_twisted.ensureDeferred
    async def test_guessing_is_429_with_a_time(self, rest: Rest) -> None:
        token = shopper(rest)
        for _ in range(10):
            assert (await rest.refused("POST", CLAIM, {}, token=token))[0] == 400
        status, _, headers = await rest.ask("POST", CLAIM, {}, token=token)
        assert (status, headers.getRawHeaders("Retry-After")) == (429, ["6"])

    @pytest.mark.parametrize("name", ["root", "metadata", "import", "claim", "x y"])
    @pytest_twisted.ensureDeferred
    async def test_a_device_may_be_called_as_parts_of_other_paths_are(self, rest: Rest, name: str) -> None:
        one = replace(device(200), name=name)
        rest.add(one)
        result_of(rest.rest.claiming.offer(one, b""))
        path = f"/api/customer/device/{quote(name)}/claim"
        assert (await rest.ok("POST", path, {}, token=shopper(rest)))["response"] == "SUCCESS"

    @pytest_twisted.ensureDeferred
    async def test_administrators_and_users_of_no_customer_claim_nothing(self, rest: Rest) -> None:
        nobodys = rest.add_user("n@example.org", Authority.CUSTOMER_USER)
        for token in (rest.token, rest.sys_token, nobodys):
            assert (await rest.refused("POST", CLAIM, {}, token=token))[0] == 403
