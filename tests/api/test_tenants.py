"""Tenants: made, changed, deleted with all that is theirs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
import pytest_twisted
from estate import Estate
from fakes import OTHER_TENANT, TENANT, result_of
from rest import BASE, NULL_UUID, PASSWORD, Rest
from twisted.internet.defer import Deferred

from rpcbroker.core.model import Authority
from rpcbroker.core.ports import CloseReason


@pytest.fixture
def rest() -> Rest:
    return Rest()


@dataclass
class Login:
    username: str | None
    client_id: str = ""
    password: bytes | None = None


@pytest_twisted.ensureDeferred
async def test_made_found_changed(rest: Rest) -> None:
    token = rest.sys_token
    body = {"title": " New ", "city": "Linz", "email": "no check", "additionalInfo": {"a": 1}, "region": "x"}
    made = await rest.ok("POST", "/api/tenant", body, token=token)
    assert made["title"] == made["name"] == "New"
    assert (made["city"], made["country"], made["version"], made["region"]) == ("Linz", None, 1, "Global")
    path = f"/api/tenant/{made['id']['id']}"
    assert await rest.ok("GET", path, token=token) == made
    changed = await rest.ok("POST", "/api/tenant", made | {"title": "Newer", "city": None}, token=token)
    assert (changed["title"], changed["city"], changed["version"]) == ("Newer", None, 2)
    assert (await rest.refused("POST", "/api/tenant", made, token=token))[0] == 409
    page = await rest.ok("GET", "/api/tenants?pageSize=10&sortProperty=title", token=token)
    assert [each["title"] for each in page["data"]] == ["Default", "Newer"]
    page = await rest.ok("GET", "/api/tenants?pageSize=10&textSearch=fAULT", token=token)
    assert [each["title"] for each in page["data"]] == ["Default"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "title"),
        ({"title": " "}, "Tenant title should be specified!"),
        ({"title": "x" * 256}, "255 characters"),
        ({"title": "\x00"}, "U+0000"),
        ({"title": "Default"}, "Tenant with such title already exists!"),
        ({"title": "n", "city": "\x00"}, "city"),
        ({"title": "n", "zip": "x" * 256}, "zip"),
        ({"title": "n", "additionalInfo": ["x" * 40_000]}, "additionalInfo"),
        ({"title": "n", "version": -1}, "version"),
        ({"title": "n", "version": 2**31 - 1}, "version"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_bad_ones(rest: Rest, body: Any, says: str) -> None:
    token, before = rest.sys_token, rest.dump()
    status, message = await rest.refused("POST", "/api/tenant", body, token=token)
    assert status == 400
    assert says in message
    assert rest.dump() == before


@pytest_twisted.ensureDeferred
async def test_administrators_of_a_tenant_see_it_and_no_more(rest: Rest) -> None:
    assert (await rest.ok("GET", f"/api/tenant/{TENANT}"))["title"] == "Default"
    for method, path, body in (
        ("POST", "/api/tenant", {"title": "n"}),
        ("GET", "/api/tenants?pageSize=1", None),
        ("DELETE", f"/api/tenant/{TENANT}", None),
        ("GET", f"/api/tenant/{TENANT}/users?pageSize=1", None),
    ):
        assert (await rest.refused(method, path, body))[0] == 403


@pytest_twisted.ensureDeferred
async def test_that_of_system_administrators_is_none(rest: Rest) -> None:
    token, before = rest.sys_token, rest.dump()
    path = f"/api/tenant/{NULL_UUID}"
    assert (await rest.refused("GET", path, token=token))[0] == 404
    assert (await rest.refused("DELETE", path, token=token))[0] == 404
    body = {"id": {"entityType": "TENANT", "id": NULL_UUID}, "title": "mine"}
    assert (await rest.refused("POST", "/api/tenant", body, token=token))[0] == 404
    assert rest.dump() == before


class TestDeleting:
    @pytest_twisted.ensureDeferred
    async def test_all_that_was_its_is_gone_at_once_and_others_are_untouched(self) -> None:
        world = Estate()
        token, its_key = world.sys_token, "ApiKey value-of-its-key-description"
        user = world.pair(world.its_user)
        assert await world.ok("GET", "/api/auth/user", token=its_key)
        assert await world.ok("GET", "/api/auth/user", token=user.token)
        assert result_of(Deferred.fromCoroutine(world.broker.enter(Login("token-of-501"))))
        world.its_link.reply = None
        headers = {"X-Authorization": f"Bearer {world.token}"}
        calling = world.treq.request(
            "POST", BASE + world.rpc(device_id=world.its_device.id), data=b'{"method":"x"}', headers=headers
        )
        world.treq.flush()

        await world.ok("DELETE", f"/api/tenant/{TENANT}", token=token)

        world.treq.flush()
        answer = await calling
        assert answer.code == 503
        assert (await world.treq.json_content(answer))["reason"] == "DEVICE_DELETED"
        assert world.its_link.closed == [CloseReason.DEVICE_DELETED]
        assert result_of(Deferred.fromCoroutine(world.broker.enter(Login("token-of-501")))) is None
        for gone in (world.token, user.token, its_key):
            assert (await world.refused("GET", "/api/auth/user", token=gone))[0] == 401
        for pair in (user, world.pair(world.its_user)):
            body = {"refreshToken": pair.refresh_token}
            assert (await world.refused("POST", "/api/auth/token", body, token=None))[0] == 401
        body = {"username": world.user.email, "password": PASSWORD}
        assert (await world.refused("POST", "/api/auth/login", body, token=None))[0] == 401
        result_of(world.rest.flush())
        rows = {name: each for name, each in world.dump().items() if name not in ("revoked_user", "revoked_session")}
        (entry,) = [row for row in rows["audit"] if repr(TENANT) in row]
        assert "'DELETED'" in entry, "this is what the system administrator did"
        rows["audit"].remove(entry)
        assert repr(TENANT) not in str(rows)
        assert repr(world.its_device.id) not in str(rows)
        assert repr(OTHER_TENANT) in str(rows["device"])
        assert len(rows["customer"]) == 1
        assert (await world.refused("DELETE", f"/api/tenant/{TENANT}", token=token))[0] == 404

    @pytest_twisted.ensureDeferred
    async def test_nothing_comes_back_with_a_restart(self) -> None:
        world = Estate()
        token = world.add_user("their@example.org", Authority.TENANT_ADMIN, tenant=OTHER_TENANT)
        key = "ApiKey " + (await world.ok("POST", "/api/apiKey", {"description": "k"}, token=token))["value"]
        await world.ok("DELETE", f"/api/tenant/{OTHER_TENANT}", token=world.sys_token)
        again = Rest(store=world.store)
        for gone in (token, key):
            assert (await again.refused("GET", "/api/auth/user", token=gone))[0] == 401
        assert result_of(Deferred.fromCoroutine(again.broker.enter(Login("token-of-601")))) is None
        assert result_of(Deferred.fromCoroutine(again.broker.enter(Login("token-of-501"))))


@pytest_twisted.ensureDeferred
async def test_a_tenant_that_is_unknown_is_404(rest: Rest) -> None:
    token = rest.sys_token
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/users?pageSize=1")):
        assert (await rest.refused(method, f"/api/tenant/{UUID(int=404)}{path}", token=token))[0] == 404
