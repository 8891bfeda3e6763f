"""Customers, and which devices are theirs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
import pytest_twisted
from fakes import device, result_of
from rest import Rest

from rpcbroker.core.model import Authority


@pytest.fixture
def rest() -> Rest:
    return Rest()


class TestMaking:
    @pytest_twisted.ensureDeferred
    async def test_made_found_changed(self, rest: Rest) -> None:
        body = {"title": " New ", "address2": "a", "additionalInfo": {"a": 1}, "isPublic": True}
        made = await rest.ok("POST", "/api/customer", body)
        assert made["title"] == made["name"] == "New"
        assert (made["address2"], made["country"], made["version"]) == ("a", None, 1)
        path = f"/api/customer/{made['id']['id']}"
        assert await rest.ok("GET", path) == made
        assert await rest.ok("GET", "/api/tenant/customers?customerTitle=New") == made
        assert await rest.ok("GET", f"{path}/shortInfo") == {"customerId": made["id"], "title": "New", "public": False}
        changed = await rest.ok("POST", "/api/customer", made | {"title": "Newer"})
        assert (changed["title"], changed["version"]) == ("Newer", 2)
        assert (await rest.refused("POST", "/api/customer", made))[0] == 409
        assert (await rest.refused("GET", "/api/tenant/customers?customerTitle=New"))[0] == 404
        page = await rest.ok("GET", "/api/customers?pageSize=10&textSearch=ewer")
        assert page["data"] == [changed]

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            ({}, "title"),
            ({"title": ""}, "Customer title should be specified!"),
            ({"title": "x" * 256}, "255 characters"),
            ({"title": "taken"}, "Customer with such title already exists!"),
            ({"title": "n", "phone": "x" * 256}, "phone"),
            ({"title": "n", "additionalInfo": "x" * 40_000}, "additionalInfo"),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_bad_ones(self, rest: Rest, body: Any, says: str) -> None:
        rest.add_customer("taken")
        before = rest.dump()
        status, message = await rest.refused("POST", "/api/customer", body)
        assert status == 400
        assert says in message
        assert rest.dump() == before

    @pytest_twisted.ensureDeferred
    async def test_their_users_see_their_own_and_change_nothing(self, rest: Rest) -> None:
        mine, other = rest.add_customer("mine"), rest.add_customer("other")
        token = rest.add_user("c@example.org", Authority.CUSTOMER_USER, customer=mine.id)
        assert (await rest.ok("GET", f"/api/customer/{mine.id}", token=token))["title"] == "mine"
        assert (await rest.refused("GET", f"/api/customer/{other.id}", token=token))[0] == 404
        for method, path, body in (
            ("POST", "/api/customer", {"title": "n"}),
            ("DELETE", f"/api/customer/{mine.id}", None),
            ("GET", "/api/customers?pageSize=1", None),
            ("POST", f"/api/customer/{mine.id}/device/{rest.device.id}", None),
            ("DELETE", f"/api/customer/device/{rest.device.id}", None),
        ):
            assert (await rest.refused(method, path, body, token=token))[0] == 403


class TestAssigning:
    @pytest_twisted.ensureDeferred
    async def test_what_users_may_call_changes_at_once_also_of_a_device_that_is_connected(self, rest: Rest) -> None:
        customer = rest.add_customer("customer")
        token = rest.add_user("c@example.org", Authority.CUSTOMER_USER, customer=customer.id)
        link, body = rest.link(reply=b"{}"), {"method": "get"}
        assert (await rest.refused("POST", rest.rpc(), body, token=token))[0] == 404
        path = f"/api/customer/{customer.id}/device/{rest.device.id}"
        assigned = await rest.ok("POST", path)
        assert (assigned["customerId"]["id"], assigned["version"]) == (str(customer.id), 2)
        assert await rest.ok("POST", path) == assigned, "again is nothing"
        assert await rest.ok("POST", rest.rpc(), body, token=token) == {}
        assert await rest.ok("GET", f"/api/device/{rest.device.id}", token=token) == assigned
        freed = await rest.ok("DELETE", f"/api/customer/device/{rest.device.id}")
        assert (freed["customerId"]["id"], freed["version"]) == ("13814000-1dd2-11b2-8080-808080808080", 3)
        assert (await rest.refused("POST", rest.rpc(), body, token=token))[0] == 404
        assert (await rest.refused("DELETE", f"/api/customer/device/{rest.device.id}"))[0] == 400
        assert link.closed == []

    @pytest_twisted.ensureDeferred
    async def test_unknown_ones(self, rest: Rest) -> None:
        customer, nobody = rest.add_customer("customer"), UUID(int=404)
        for path in (f"/api/customer/{nobody}/device/{rest.device.id}", f"/api/customer/{customer.id}/device/{nobody}"):
            assert (await rest.refused("POST", path))[0] == 404
        assert (await rest.refused("DELETE", f"/api/customer/device/{nobody}"))[0] == 404

    @pytest_twisted.ensureDeferred
    async def test_nothing_is_made_public(self, rest: Rest) -> None:
        assert (await rest.refused("POST", f"/api/customer/public/device/{rest.device.id}"))[0] == 400
        assert (await rest.refused("POST", "/api/auth/login/public", {"publicId": "x"}, token=None))[0] == 403


class TestDeleting:
    @pytest_twisted.ensureDeferred
    async def test_users_are_out_at_once_and_devices_are_nobodys(self, rest: Rest) -> None:
        customer = rest.add_customer("customer")
        token = rest.add_user("c@example.org", Authority.CUSTOMER_USER, customer=customer.id)
        key = "ApiKey " + (await rest.ok("POST", "/api/apiKey", {"description": "k"}, token=token))["value"]
        await rest.ok("POST", f"/api/customer/{customer.id}/device/{rest.device.id}")
        rest.add(device(101, customer_id=customer.id))
        link = rest.link(reply=b"{}")
        for mine in (token, key):
            assert await rest.ok("POST", rest.rpc(), {"method": "get"}, token=mine) == {}
        await rest.ok("DELETE", f"/api/customer/{customer.id}")
        for mine in (token, key):
            assert (await rest.refused("POST", rest.rpc(), {"method": "get"}, token=mine))[0] == 401
        for number, version in ((100, 3), (101, 2)):
            freed = await rest.ok("GET", f"/api/device/{UUID(int=number)}")
            assert (freed["customerId"]["id"], freed["version"]) == ("13814000-1dd2-11b2-8080-808080808080", version)
        session = rest.session()
        assert session.device == result_of(rest.store.device(rest.device.id)), "memory and store agree"
        assert await rest.ok("POST", rest.rpc(), {"method": "get"}) == {}
        await rest.ok("POST", "/api/device", freed | {"label": "next"})
        assert link.closed == []
        assert (await rest.refused("DELETE", f"/api/customer/{customer.id}"))[0] == 404

    @pytest_twisted.ensureDeferred
    async def test_no_api_key_does_it_for_that_would_delete_users(self, rest: Rest) -> None:
        customer = rest.add_customer("customer")
        key = "ApiKey " + (await rest.ok("POST", "/api/apiKey", {"description": "k"}))["value"]
        status, answer, _ = await rest.ask("DELETE", f"/api/customer/{customer.id}", token=key)
        assert (status, answer["hint"]) == (403, "No API key may do this: log in.")
