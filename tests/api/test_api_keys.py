"""API keys: made, shown once, restricted, used, revoked."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_twisted
from estate import Estate
from fakes import Slow, result_of
from hypothesis import given
from hypothesis import strategies as st
from rest import BASE, PASSWORD, Rest
from stores import sql_store, url_of
from twisted.internet.defer import gatherResults, maybeDeferred

from rpcbroker.api.keys import digest
from rpcbroker.core import access
from rpcbroker.core.model import Authority


@pytest.fixture
def rest() -> Rest:
    return Rest()


async def make(rest: Rest, *, token: str = "", **body: Any) -> dict[str, Any]:
    """A key's JSON; its `value` made into what is sent as `token`."""
    made: dict[str, Any] = await rest.ok("POST", "/api/apiKey", {"description": "k"} | body, token=token)
    made["value"] = f"ApiKey {made['value']}"
    return made


async def scoped(rest: Rest, **scope: Any) -> str:
    value: str = (await make(rest, scope=scope))["value"]
    return value


def ref(id_: Any) -> dict[str, str]:
    return {"entityType": "ANY", "id": str(id_)}


class TestMaking:
    @pytest_twisted.ensureDeferred
    async def test_it_is_shown_once_and_stored_as_a_digest(self, rest: Rest) -> None:
        made = await rest.ok("POST", "/api/apiKey", {"description": " for tests "})
        value = made.pop("value")
        assert value.startswith("rpcb_")
        assert made == {
            "id": {"entityType": "API_KEY", "id": made["id"]["id"]},
            "createdTime": made["createdTime"],
            "tenantId": {"entityType": "TENANT", "id": str(rest.user.tenant_id)},
            "userId": {"entityType": "USER", "id": str(rest.user.id)},
            "expirationTime": 0,
            "description": "for tests",
            "enabled": True,
            "expired": False,
            "hint": value[:10],
            "scope": {
                "access": "MANAGE",
                "methods": [],
                "oneway": True,
                "twoway": True,
                "deviceIds": [],
                "deviceTypes": [],
                "customerId": None,
            },
            "lastUsedTime": None,
        }
        page = await rest.ok("GET", f"/api/apiKeys/{rest.user.id}?pageSize=10")
        assert page["data"] == [made]
        assert value not in str(page)
        changed = await rest.ok("POST", "/api/apiKey", {"id": made["id"], "description": "other"})
        assert value not in str(changed)
        assert digest(value) in str(rest.dump())
        result_of(rest.rest.flush())
        assert value not in str(rest.dump())
        assert value[10:] not in str(rest.dump())

    @pytest_twisted.ensureDeferred
    async def test_the_database_file_has_no_key_in_it(self, tmp_path: Path) -> None:
        rest = Rest()
        value = (await make(rest))["value"].removeprefix("ApiKey ")
        file = sql_store(url_of(tmp_path))
        file.open(first_records=lambda: (result_of(rest.store.people.tenant(rest.user.tenant_id)), rest.user))
        await file.people.create_api_key(rest.rest.keys._by_digest[digest(value)][0], most=9)
        await file.close()
        content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert digest(value).encode() in content
        assert value.encode() not in content
        assert value[10:].encode() not in content

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            ({}, "description"),
            ({"description": ""}, "description"),
            ({"description": "x" * 256}, "description"),
            ({"description": "k", "expirationTime": -1}, "expirationTime"),
            ({"description": "k", "expirationTime": 2**60}, "expirationTime"),
            ({"description": "k", "scope": {"access": "GOD"}}, "scope.access"),
            ({"description": "k", "scope": {"access": "CALL", "methods": ["x" * 256]}}, "methods"),
            ({"description": "k", "scope": {"access": "CALL", "methods": ["x"] * 101}}, "methods"),
            ({"description": "k", "scope": {"access": "CALL", "methods": ["\x00"]}}, "scope.methods"),
            ({"description": "k", "scope": {"access": "CALL", "deviceTypes": ["\x00"]}}, "scope.deviceTypes"),
            ({"description": "k", "scope": {"access": "CALL", "deviceIds": ["x"]}}, "deviceIds"),
            ({"description": "k", "scope": {"access": "CALL", "deviceIds": [str(UUID(int=1))] * 101}}, "deviceIds"),
            ({"description": "k", "scope": {"methods": ["get*"]}}, "MANAGE cannot have other rules"),
            ({"description": "k", "scope": {"access": "MANAGE", "oneway": False}}, "MANAGE cannot have other rules"),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_bad_ones(self, rest: Rest, body: Any, says: str) -> None:
        status, message = await rest.refused("POST", "/api/apiKey", body)
        assert status == 400
        assert says in message
        assert rest.dump()["api_key"] == []

    @pytest_twisted.ensureDeferred
    async def test_a_user_has_so_many_and_no_more_also_if_all_come_at_once(self) -> None:
        rest = Rest(max_api_keys_per_user=3)
        headers = {"X-Authorization": f"Bearer {rest.token}"}
        waiting = [rest.treq.post(f"{BASE}/api/apiKey", json={"description": "k"}, headers=headers) for _ in range(5)]
        rest.treq.flush()
        answers = await gatherResults(waiting)
        assert sorted(answer.code for answer in answers) == [200, 200, 200, 400, 400]
        await rest.ok("DELETE", f"/api/apiKey/{(await self.keys(rest))[0]['id']['id']}")
        assert await make(rest)
        other = rest.add_user("o@example.org", Authority.TENANT_ADMIN)
        assert await make(rest, token=other)

    async def keys(self, rest: Rest) -> list[Any]:
        page = await rest.ok("GET", f"/api/apiKeys/{rest.user.id}?pageSize=10")
        return page["data"]  # type: ignore[no-any-return]

    @pytest_twisted.ensureDeferred
    async def test_administrators_make_them_for_customers_users_and_for_nobody_else(self, rest: Rest) -> None:
        customer = rest.add_customer("customer")
        token = rest.add_user("c@example.org", Authority.CUSTOMER_USER, customer=customer.id)
        user = await rest.ok("GET", "/api/auth/user", token=token)
        key = await make(rest, userId=user["id"])
        assert await rest.ok("GET", "/api/auth/user", token=key["value"]) == user
        other = rest.add_user("o@example.org", Authority.TENANT_ADMIN)
        admin = await rest.ok("GET", "/api/auth/user", token=other)
        body = {"description": "k", "userId": admin["id"]}
        assert (await rest.refused("POST", "/api/apiKey", body))[0] == 403
        body = {"description": "k", "userId": ref(rest.user.id)}
        assert (await rest.refused("POST", "/api/apiKey", body, token=token))[0] == 404
        assert (await rest.refused("POST", "/api/apiKey", body, token=rest.sys_token))[0] == 404

    @pytest_twisted.ensureDeferred
    async def test_a_customer_in_the_scope_must_be_one_that_the_user_may_see(self, rest: Rest) -> None:
        mine, other = rest.add_customer("mine"), rest.add_customer("other")
        token = rest.add_user("c@example.org", Authority.CUSTOMER_USER, customer=mine.id)
        lost = rest.add_user("l@example.org", Authority.CUSTOMER_USER)
        for who, customer, status in ((token, mine, 200), (token, other, 404), (lost, mine, 404), ("", other, 200)):
            body = {"description": "k", "scope": {"access": "READ", "customerId": ref(customer.id)}}
            assert (await rest.ask("POST", "/api/apiKey", body, token=who))[0] == status
        body = {"description": "k", "scope": {"access": "READ", "customerId": ref(UUID(int=404))}}
        assert (await rest.refused("POST", "/api/apiKey", body))[0] == 404


class TestChanging:
    @pytest_twisted.ensureDeferred
    async def test_what_is_not_said_stays_as_it_is(self, rest: Rest) -> None:
        scope = {"access": "CALL", "methods": ["get*"]}
        key = await make(rest, enabled=False, expirationTime=rest.now_ms() + 1000, scope=scope)
        changed = await rest.ok("POST", "/api/apiKey", {"id": key["id"], "description": "new"})
        kept = ("enabled", "expirationTime", "scope", "hint", "createdTime", "userId")
        assert {name: changed[name] for name in kept} == {name: key[name] for name in kept}
        assert changed["description"] == "new"
        assert (await rest.refused("GET", "/api/auth/user", token=key["value"]))[0] == 401, "it is not switched on"

    @pytest_twisted.ensureDeferred
    async def test_a_new_scope_holds_at_once(self, rest: Rest) -> None:
        key = await make(rest)
        assert await rest.ok("GET", "/api/customers?pageSize=1", token=key["value"])
        body = {"id": key["id"], "description": "k", "scope": {"access": "READ"}}
        await rest.ok("POST", "/api/apiKey", body)
        assert (await rest.refused("GET", "/api/customers?pageSize=1", token=key["value"]))[0] == 403

    @pytest_twisted.ensureDeferred
    async def test_one_that_is_deleted_while_it_is_changed_stays_deleted(self, rest: Rest) -> None:
        key = await make(rest)
        path = f"/api/apiKey/{key['id']['id']}"
        headers = {"X-Authorization": f"Bearer {rest.token}"}
        with Slow(rest.store.people, "user") as slow:
            changing = rest.treq.put(f"{BASE}{path}/enabled/true", headers=headers)
            rest.treq.flush()
        await rest.ok("DELETE", path)
        slow.arrive()
        rest.treq.flush()
        assert (await changing).code == 404
        assert (await rest.refused("GET", "/api/auth/user", token=key["value"]))[0] == 401

    @pytest_twisted.ensureDeferred
    async def test_one_that_is_made_while_its_user_is_disabled_is_of_a_disabled_user(self, rest: Rest) -> None:
        token = rest.add_user("o@example.org", Authority.TENANT_ADMIN)
        user = await rest.ok("GET", "/api/auth/user", token=token)
        headers = {"X-Authorization": f"Bearer {token}"}
        with Slow(rest.store.people, "user") as slow:
            making = rest.treq.post(f"{BASE}/api/apiKey", json={"description": "k"}, headers=headers)
            rest.treq.flush()
        await rest.ok("POST", f"/api/user/{user['id']['id']}/userCredentialsEnabled?userCredentialsEnabled=false")
        slow.arrive()
        rest.treq.flush()
        answer = await making
        value = (await rest.treq.json_content(answer))["value"]
        assert await rest.refused("GET", "/api/auth/user", token=f"ApiKey {value}") == (
            401,
            "User account is not active",
        )


class TestRevoking:
    @pytest_twisted.ensureDeferred
    async def test_it_is_refused_from_the_very_next_request(self, rest: Rest) -> None:
        key = await make(rest)
        path = f"/api/apiKey/{key['id']['id']}"
        told = []

        async def use() -> None:
            status, answer, _ = await rest.ask("GET", "/api/auth/user", token=key["value"])
            told.append((status, answer.get("message")))

        await use()
        await rest.ok("PUT", f"{path}/enabled/false")
        await use()
        await rest.ok("PUT", f"{path}/enabled/true")
        await use()
        await rest.ok("DELETE", path)
        await use()
        assert told == [(200, None), (401, "The API key is disabled"), (200, None), (401, "Invalid API key")]
        assert (await rest.refused("PUT", f"{path}/enabled/maybe"))[0] == 400
        assert (await rest.refused("DELETE", path))[0] == 404

    @pytest_twisted.ensureDeferred
    async def test_it_ends_at_its_expiration_time(self, rest: Rest) -> None:
        key = await make(rest, expirationTime=rest.now_ms() + 5000)
        rest.clock.advance(4.999)
        assert await rest.ok("GET", "/api/auth/user", token=key["value"])
        rest.clock.advance(0.001)
        assert await rest.refused("GET", "/api/auth/user", token=key["value"]) == (401, "The API key has expired")
        page = await rest.ok("GET", f"/api/apiKeys/{rest.user.id}?pageSize=10")
        assert [each["expired"] for each in page["data"]] == [True]

    @pytest.mark.parametrize("how", ["disable", "delete"])
    @pytest_twisted.ensureDeferred
    async def test_with_its_user(self, rest: Rest, how: str) -> None:
        token = rest.add_user("o@example.org", Authority.TENANT_ADMIN)
        user = await rest.ok("GET", "/api/auth/user", token=token)
        key, path = await make(rest, token=token), f"/api/user/{user['id']['id']}"
        if how == "delete":
            await rest.ok("DELETE", path)
        else:
            await rest.ok("POST", f"{path}/userCredentialsEnabled?userCredentialsEnabled=false")
        for each in (rest, Rest(store=rest.store)):
            assert (await each.refused("GET", "/api/auth/user", token=key["value"]))[0] == 401
        if how == "disable":
            await rest.ok("POST", f"{path}/userCredentialsEnabled?userCredentialsEnabled=true")
            assert await rest.ok("GET", "/api/auth/user", token=key["value"])

    @pytest_twisted.ensureDeferred
    async def test_a_new_password_does_not_end_it(self, rest: Rest) -> None:
        key = await make(rest)
        body = {"currentPassword": PASSWORD, "newPassword": "another one"}
        await rest.ok("POST", "/api/auth/changePassword", body)
        assert await rest.ok("GET", "/api/auth/user", token=key["value"])

    @pytest_twisted.ensureDeferred
    async def test_it_is_known_after_a_restart(self, rest: Rest) -> None:
        scope = {"access": "CALL", "methods": ["get*"], "deviceIds": [str(rest.device.id)]}
        key = await make(rest, scope=scope)
        again = Rest(store=rest.store)
        assert await again.ok("GET", "/api/auth/user", token=key["value"])
        assert (await again.refused("POST", again.rpc(), {"method": "set"}, token=key["value"]))[0] == 403


class TestMethods:
    @pytest.mark.parametrize(
        ("patterns", "method", "may"),
        [
            ([], "anything", True),
            (["get*"], "get", True),
            (["get*"], "getState", True),
            (["get*"], "GetState", False),
            (["get*"], "forget", False),
            (["*State"], "getState", True),
            (["get*", "ping"], "ping", True),
            (["a*b*c"], "aXbYc", True),
            (["a*b*c"], "acb", False),
            (["aa*aa"], "aaa", False),
            (["*"], "", True),
            ([""], "get", False),
            ([""], "", True),
            (["get?"], "getX", False),
            (["[a]"], "a", False),
            (["[a]"], "[a]", True),
            (["x*"], "x\ny", True),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_patterns(self, rest: Rest, patterns: list[str], method: str, may: bool) -> None:
        rest.link(reply=b"{}")
        key = await scoped(rest, access="CALL", methods=patterns)
        status, answer, _ = await rest.ask("POST", rest.rpc(), {"method": method}, token=key)
        assert (status == 200) is may
        if not may:
            assert (status, answer["message"]) == (403, "The API key may not call this method")
            assert answer["hint"] == f"Its rule 'methods' allows {', '.join(patterns)}."

    @given(st.text("ab", max_size=8), st.text("ab*", max_size=6))
    def test_a_pattern_is_a_regular_expression_of_stars(self, method: str, pattern: str) -> None:
        expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), method) is not None
        assert access.fits(pattern, method) is expected

    def test_a_million_letters_and_a_hundred_stars_take_no_time(self) -> None:
        started = time.process_time()
        assert not access.fits("*a" * 127 + "b", "a" * 10**6)
        assert time.process_time() - started < 0.5

    @pytest.mark.parametrize("base", ["/api/rpc", "/api/plugins/rpc"])
    @pytest.mark.parametrize("kind", ["oneway", "twoway"])
    @pytest_twisted.ensureDeferred
    async def test_one_way_and_two_way(self, rest: Rest, base: str, kind: str) -> None:
        rest.link(reply=b"{}")
        other = {"oneway": "twoway", "twoway": "oneway"}[kind]
        key = await scoped(rest, access="CALL", **{other: False})
        assert (await rest.ask("POST", rest.rpc(f"{base}/{kind}"), {"method": "m"}, token=key))[0] == 200
        status, answer, _ = await rest.ask("POST", rest.rpc(f"{base}/{other}"), {"method": "m"}, token=key)
        assert (status, answer["message"]) == (403, "The API key may not make calls of this kind")
        assert f"'{other}' is false" in answer["hint"]


class TestDevices:
    """What a key can see is what its rules and its user's rights both allow."""

    @pytest.fixture
    def world(self) -> Estate:
        return Estate()

    @pytest.mark.parametrize(
        ("scope", "names"),
        [
            ({}, {"its-device-name", "its-free-device", "mine-device", "device-100"}),
            ({"deviceIds": [str(UUID(int=501)), str(UUID(int=601))]}, {"its-device-name"}),
            ({"deviceTypes": ["its-free-type", "default"]}, {"its-free-device", "device-100"}),
            ({"customerId": "its_customer"}, {"its-device-name"}),
            ({"customerId": "its_customer", "deviceTypes": ["mine-type"]}, set()),
            ({"deviceTypes": ["its-device-type"], "deviceIds": [str(UUID(int=501))]}, {"its-device-name"}),
            ({"deviceTypes": ["mine-type"], "deviceIds": [str(UUID(int=501))]}, set()),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_in_lists_by_ids_and_one_by_one(self, world: Estate, scope: Any, names: set[str]) -> None:
        given_ = dict(scope)
        if "customerId" in scope:
            given_["customerId"] = ref(getattr(world, scope["customerId"]).id)
        key = await scoped(world, access="READ", **given_)
        devices = {
            each.name: each
            for each in (world.its_device, world.free_device, world.mine_device, world.device, world.their_device)
        }
        ids = ",".join(str(each.id) for each in devices.values())
        for path in (
            "/api/tenant/devices?pageSize=10",
            "/api/tenant/deviceInfos?pageSize=10",
            "/api/deviceInfos/all?pageSize=10",
            f"/api/devices?deviceIds={ids}",
        ):
            found = await world.ok("GET", path, token=key)
            found = found["data"] if isinstance(found, dict) else found
            assert {each["name"] for each in found} == names, path
        types = await world.ok("GET", "/api/device/types", token=key)
        assert {each["type"] for each in types} == {devices[name].type for name in names}
        for name, one in devices.items():
            for path in (
                f"/api/device/{one.id}",
                f"/api/device/info/{one.id}",
                f"/api/device/{one.id}/presence",
                f"/api/device/{one.id}/diagnostics",
                f"/api/tenant/device?deviceName={name}",
                f"/api/tenant/devices?deviceName={name}",
            ):
                assert (await world.ask("GET", path, token=key))[0] == (200 if name in names else 404), path

    @pytest_twisted.ensureDeferred
    async def test_a_customers_user_has_no_key_beyond_its_own_rights(self, world: Estate) -> None:
        token = world.add_user("c@example.org", Authority.CUSTOMER_USER, customer=world.mine_customer.id)
        scope = {"access": "READ", "deviceIds": [str(world.its_device.id), str(world.mine_device.id)]}
        key = (await make(world, token=token, scope=scope))["value"]
        page = await world.ok("GET", "/api/deviceInfos/all?pageSize=10", token=key)
        assert [each["name"] for each in page["data"]] == ["mine-device"]

    @pytest_twisted.ensureDeferred
    async def test_what_is_not_visible_cannot_be_called(self, world: Estate) -> None:
        key = await scoped(world, access="CALL", deviceIds=[str(world.its_device.id)])
        assert await world.ok("POST", world.rpc(device_id=world.its_device.id), {"method": "m"}, token=key) == {}
        body = {"method": "m", "connectTimeout": 0}
        for one in (world.free_device, world.their_device):
            assert (await world.refused("POST", world.rpc(device_id=one.id), body, token=key))[0] == 404

    @pytest_twisted.ensureDeferred
    async def test_a_rule_about_a_customer_holds_as_soon_as_the_device_moves(self, world: Estate) -> None:
        key = await scoped(world, access="CALL", customerId=ref(world.its_customer.id))
        path = world.rpc(device_id=world.its_device.id)
        assert await world.ok("POST", path, {"method": "m"}, token=key) == {}
        await world.ok("POST", f"/api/customer/{world.mine_customer.id}/device/{world.its_device.id}")
        assert (await world.refused("POST", path, {"method": "m"}, token=key))[0] == 404


class TestAccess:
    @pytest_twisted.ensureDeferred
    async def test_read_call_and_manage_include_one_another(self, rest: Rest) -> None:
        rest.link(reply=b"{}")
        asked = {
            "READ": ("GET", f"/api/device/{rest.device.id}", None),
            "CALL": ("POST", rest.rpc(), {"method": "m"}),
            "MANAGE": ("GET", f"/api/device/{rest.device.id}/credentials", None),
        }
        order = list(asked)
        for access_ in order:
            key = await scoped(rest, access=access_)
            for needed, (method, path, body) in asked.items():
                status, answer, _ = await rest.ask(method, path, body, token=key)
                if order.index(needed) <= order.index(access_):
                    assert status == 200
                else:
                    hint = f"The API key has access {access_}; this needs {needed}."
                    assert (status, answer["hint"]) == (403, hint)

    @pytest_twisted.ensureDeferred
    async def test_no_key_handles_users_keys_passwords_tenants_or_sessions(self, rest: Rest) -> None:
        key = (await make(rest))["value"]
        closed = {
            "logout",
            "changePassword",
            "saveUser",
            "getUserById",
            "getUsers",
            "getCustomerUsers",
            "deleteUser",
            "getActivationLink",
            "resetUserPassword",
            "setUserCredentialsEnabled",
            "saveApiKey",
            "getUserApiKeys",
            "enableApiKey",
            "updateApiKeyDescription",
            "deleteApiKey",
            "deleteCustomer",
            "getUserUsers",
            "saveTenant",
            "getTenantById",
            "getTenants",
            "deleteTenant",
            "getTenantAdmins",
        }
        assert {route.operation for route in rest.table if route.roles and route.access is None} == closed
        before = rest.dump()
        for route in rest.table:
            if route.operation in closed:
                path = re.sub(r"<\w+>", "x", route.path)
                status, answer, _ = await rest.ask(route.method, path, {}, token=key)
                assert (status, answer["errorCode"]) == (403, 20), route.operation
        assert rest.dump() == before

    @pytest_twisted.ensureDeferred
    async def test_a_key_to_manage_may_do_what_its_user_may_with_devices(self, rest: Rest) -> None:
        key = (await make(rest))["value"]
        made = await rest.ok("POST", "/api/device", {"name": "n"}, token=key)
        assert await rest.ok("GET", f"/api/device/{made['id']['id']}/credentials", token=key)
        await rest.ok("DELETE", f"/api/device/{made['id']['id']}", token=key)


class TestLastUse:
    @pytest_twisted.ensureDeferred
    async def test_it_is_told_at_once_and_written_behind(self, rest: Rest) -> None:
        key = await make(rest)

        async def told() -> Any:
            return (await rest.ok("GET", f"/api/apiKeys/{rest.user.id}?pageSize=10"))["data"][0]["lastUsedTime"]

        assert await told() is None
        used = rest.now_ms() + 1000
        rest.clock.advance(1)
        await rest.ok("GET", "/api/auth/user", token=key["value"])
        assert await told() == used
        assert str(used) not in str(rest.dump()["api_key"])
        rest.clock.advance(5.1)
        assert str(used) in str(rest.dump()["api_key"])
        assert await told() == used
        await rest.ok("PUT", f"/api/apiKey/{key['id']['id']}/enabled/false")
        assert await told() == used, "a change does not forget it"
        await rest.refused("GET", "/api/auth/user", token=key["value"])
        rest.clock.advance(6)
        assert await told() == used, "what is refused is no use"

    @pytest_twisted.ensureDeferred
    async def test_a_store_that_fails_only_loses_the_time(self, rest: Rest) -> None:
        key = await make(rest)
        await rest.ok("GET", "/api/auth/user", token=key["value"])
        rest.store.people.used_api_keys = lambda _: maybeDeferred(lambda: 1 / 0)
        rest.clock.advance(6)
        assert await rest.ok("GET", "/api/auth/user", token=key["value"])


@pytest.mark.parametrize("value", ["", "rpcb_", "x" * 8000, "rpcb_secret-1", "RPCB_", "ü", "null"])
@pytest_twisted.ensureDeferred
async def test_what_is_no_key(rest: Rest, value: str) -> None:
    await make(rest)
    headers = {"X-Authorization": f"ApiKey {value}".encode()}
    assert (await rest.refused("GET", "/api/auth/user", token=None, headers=headers))[0] == 401


def test_what_a_digest_is_of_can_be_any_text() -> None:
    assert digest("\ud800") != digest("")
