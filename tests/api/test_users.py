"""Users: who may make, change, disable and delete whom."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
import pytest_twisted
from fakes import OTHER_TENANT, TENANT, result_of, tenant
from rest import NULL_UUID, PASSWORD, Rest

from rpcbroker.core.model import Authority, User


@pytest.fixture
def rest() -> Rest:
    return Rest()


def admin(email: str = "new@example.org", **more: Any) -> dict[str, Any]:
    return {"email": email, "authority": "TENANT_ADMIN"} | more


def ref(id_: Any) -> dict[str, str]:
    return {"entityType": "ANY", "id": str(id_)}


def stored(rest: Rest, email: str) -> User:
    return result_of(rest.store.people.user_by_email(email))  # type: ignore[no-any-return]


class TestMaking:
    @pytest_twisted.ensureDeferred
    async def test_a_new_user_is_as_the_wire_has_it_and_cannot_log_in_yet(self, rest: Rest) -> None:
        body = admin(firstName="F", lastName="L", phone="1", additionalInfo={"lang": "de"})
        made = await rest.ok("POST", "/api/user?sendActivationMail=false", body)
        assert made == {
            "id": {"entityType": "USER", "id": made["id"]["id"]},
            "createdTime": made["createdTime"],
            "tenantId": {"entityType": "TENANT", "id": str(TENANT)},
            "customerId": {"entityType": "CUSTOMER", "id": NULL_UUID},
            "email": "new@example.org",
            "name": "new@example.org",
            "authority": "TENANT_ADMIN",
            "firstName": "F",
            "lastName": "L",
            "phone": "1",
            "version": 1,
            "additionalInfo": {"lang": "de", "userCredentialsEnabled": True, "userActivated": False},
        }
        assert await rest.ok("GET", f"/api/user/{made['id']['id']}") == made
        for password in (PASSWORD, "", "None"):
            body = {"username": "new@example.org", "password": password}
            assert (await rest.refused("POST", "/api/auth/login", body, token=None))[0] == 401

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (admin(authority="SYS_ADMIN"), 403),
            (admin(authority="CUSTOMER_USER"), 400),
            (admin(authority="CUSTOMER_USER", customerId=ref(UUID(int=404))), 404),
            (admin(authority="GOD"), 400),
            (admin("Admin@EXAMPLE.org"), 400),
            (admin("no email"), 400),
            (admin("a@b\x00"), 400),
            (admin("a@b\x1b[31m"), 400),
            (admin("a@" + "b" * 320), 400),
            (admin(firstName="x" * 256), 400),
            (admin(lastName="\x00"), 400),
            (admin(phone="x" * 256), 400),
            (admin(additionalInfo="x" * (32 << 10)), 400),
            (admin(version=2**31), 400),
            (admin(id={"entityType": "USER", "id": "x"}), 400),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_what_a_tenants_administrator_may_not_make(self, rest: Rest, body: Any, status: int) -> None:
        before = rest.dump()
        assert (await rest.refused("POST", "/api/user", body))[0] == status
        assert rest.dump() == before

    @pytest_twisted.ensureDeferred
    async def test_tenant_and_customer_of_another_are_not_taken_from_the_body(self, rest: Rest) -> None:
        result_of(rest.store.people.create_tenant(tenant()))
        theirs = rest.add_customer("theirs", tenant=OTHER_TENANT)
        made = await rest.ok("POST", "/api/user", admin(tenantId=ref(OTHER_TENANT), customerId=ref(theirs.id)))
        assert (made["tenantId"]["id"], made["customerId"]["id"]) == (str(TENANT), NULL_UUID)
        body = admin("other@example.org", authority="CUSTOMER_USER", customerId=ref(theirs.id))
        assert (await rest.refused("POST", "/api/user", body))[0] == 404

    @pytest_twisted.ensureDeferred
    async def test_system_administrators_make_their_like_and_administrators_of_tenants(self, rest: Rest) -> None:
        token = rest.sys_token
        made = await rest.ok("POST", "/api/user", admin(authority="SYS_ADMIN", tenantId=ref(TENANT)), token=token)
        assert made["tenantId"]["id"] == NULL_UUID
        made = await rest.ok("POST", "/api/user", admin("a@b", tenantId=ref(TENANT)), token=token)
        assert made["tenantId"]["id"] == str(TENANT)
        for body, status in (
            (admin("c@d"), 400),
            (admin("c@d", tenantId=ref(NULL_UUID)), 404),
            (admin("c@d", tenantId=ref(UUID(int=404))), 404),
            (admin("c@d", authority="CUSTOMER_USER", customerId=ref(rest.add_customer("c").id)), 403),
        ):
            assert (await rest.refused("POST", "/api/user", body, token=token))[0] == status

    @pytest_twisted.ensureDeferred
    async def test_nobody_promises_a_mail(self, rest: Rest) -> None:
        status, answer, _ = await rest.ask("POST", "/api/user?sendActivationMail=true", admin())
        assert status == 400
        assert "activationLink" in answer["hint"]


class TestChanging:
    @pytest_twisted.ensureDeferred
    async def test_what_is_read_can_be_written_back(self, rest: Rest) -> None:
        made = await rest.ok("POST", "/api/user", admin(additionalInfo={"lang": "de"}))
        again = await rest.ok("POST", "/api/user", made)
        assert again == made | {"version": 2}
        assert (await rest.refused("POST", "/api/user", made))[0] == 409

    @pytest_twisted.ensureDeferred
    async def test_neither_authority_nor_tenant_can_be_changed(self, rest: Rest) -> None:
        result_of(rest.store.people.create_tenant(tenant()))
        made = await rest.ok("POST", "/api/user", admin())
        for authority in ("SYS_ADMIN", "CUSTOMER_USER"):
            assert (await rest.refused("POST", "/api/user", made | {"authority": authority}))[0] == 400
        changed = await rest.ok("POST", "/api/user", made | {"tenantId": ref(OTHER_TENANT)})
        assert changed["tenantId"]["id"] == str(TENANT)
        moved = await rest.ok("POST", "/api/user", changed | {"tenantId": ref(OTHER_TENANT)}, token=rest.sys_token)
        assert moved["tenantId"]["id"] == str(TENANT)
        assert stored(rest, "new@example.org").authority is Authority.TENANT_ADMIN

    @pytest_twisted.ensureDeferred
    async def test_a_customers_user_moves_to_another_customer_of_the_tenant_only(self, rest: Rest) -> None:
        result_of(rest.store.people.create_tenant(tenant()))
        one, two = rest.add_customer("one"), rest.add_customer("two")
        theirs = rest.add_customer("theirs", tenant=OTHER_TENANT)
        token = rest.add_user("c@example.org", Authority.CUSTOMER_USER, customer=one.id)
        user = await rest.ok("GET", "/api/auth/user", token=token)
        assert (await rest.refused("POST", "/api/user", user | {"customerId": ref(theirs.id)}))[0] == 404
        moved = await rest.ok("POST", "/api/user", user | {"customerId": ref(two.id)})
        assert moved["customerId"]["id"] == str(two.id)
        assert (await rest.refused("GET", "/api/auth/user", token=token))[0] == 401, "it says the old customer"

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("DELETE", "/api/user/{id}"),
            ("POST", "/api/user/{id}/resetPassword"),
            ("POST", "/api/user/{id}/userCredentialsEnabled?userCredentialsEnabled=false"),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_nobody_shuts_oneself_out(self, rest: Rest, method: str, path: str) -> None:
        for token in (rest.token, rest.sys_token):
            me = await rest.ok("GET", "/api/auth/user", token=token)
            status, message = await rest.refused(method, path.format(id=me["id"]["id"]), token=token)
            assert (status, message) == (400, "Nobody can do this to oneself")
            assert await rest.ok("GET", "/api/auth/user", token=token) == me

    @pytest_twisted.ensureDeferred
    async def test_a_disabled_user_is_out_at_once_and_in_again_when_enabled(self, rest: Rest) -> None:
        token = rest.add_user("c@example.org", Authority.TENANT_ADMIN)
        path = f"/api/user/{stored(rest, 'c@example.org').id}"
        login = {"username": "c@example.org", "password": PASSWORD}
        await rest.ok("POST", f"{path}/userCredentialsEnabled?userCredentialsEnabled=false")
        assert (await rest.ok("GET", path))["additionalInfo"]["userCredentialsEnabled"] is False
        assert (await rest.refused("GET", "/api/auth/user", token=token))[0] == 401
        assert await rest.refused("POST", "/api/auth/login", login, token=None) == (401, "User account is not active")
        await rest.ok("POST", f"{path}/userCredentialsEnabled")
        assert await rest.ok("POST", "/api/auth/login", login, token=None)
        assert (await rest.refused("GET", "/api/auth/user", token=token))[0] == 401, "an old session does not come back"

    @pytest_twisted.ensureDeferred
    async def test_a_wrong_password_does_not_tell_that_an_account_is_disabled_or_there(self, rest: Rest) -> None:
        rest.add_user("c@example.org", Authority.TENANT_ADMIN)
        path = f"/api/user/{stored(rest, 'c@example.org').id}/userCredentialsEnabled?userCredentialsEnabled=false"
        await rest.ok("POST", path)
        told = set()
        for email in ("c@example.org", "admin@example.org", "nobody@example.org"):
            for _ in range(6):
                status, answer, headers = await rest.ask(
                    "POST", "/api/auth/login", {"username": email, "password": "wrong"}, token=None
                )
                told.add((email, status, answer["message"], str(headers.getRawHeaders("retry-after"))))
        assert len({each[1:] for each in told}) * 3 == len(told)

    @pytest_twisted.ensureDeferred
    async def test_two_changes_at_once_cannot_both_be(self, rest: Rest) -> None:
        made = await rest.ok("POST", "/api/user", admin())
        first = await rest.ask("POST", "/api/user", made | {"firstName": "one"})
        second = await rest.ask("POST", "/api/user", made | {"firstName": "two"})
        assert (first[0], second[0], second[1]["errorCode"]) == (200, 409, 35)


@pytest_twisted.ensureDeferred
async def test_lists(rest: Rest) -> None:
    customer = rest.add_customer("customer")
    token = rest.add_user("c@example.org", Authority.CUSTOMER_USER, customer=customer.id)
    sys_token = rest.sys_token

    async def emails(path: str, token: str = "") -> list[str]:
        page = await rest.ok("GET", f"{path}?pageSize=10&sortProperty=email", token=token)
        assert page["totalElements"] == len(page["data"])
        return [each["email"] for each in page["data"]]

    assert await emails("/api/users") == ["Admin@example.org", "c@example.org"]
    assert await emails(f"/api/customer/{customer.id}/users") == ["c@example.org"]
    assert await emails("/api/users", sys_token) == ["root@example.org"]
    assert await emails(f"/api/tenant/{TENANT}/users", sys_token) == ["Admin@example.org"]
    assert (await rest.refused("GET", "/api/users?pageSize=10", token=token))[0] == 403
    me = await rest.ok("GET", "/api/auth/user", token=token)
    assert await rest.ok("GET", f"/api/user/{me['id']['id']}", token=token) == me
