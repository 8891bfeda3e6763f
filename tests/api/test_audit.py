"""The audit log: what it says of what was done, what it does not say, and how it is read."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
import pytest_twisted
from estate import Estate
from fakes import TENANT, result_of
from rest import NULL_TENANT, NULL_UUID, PASSWORD, Rest

from rpcbroker.core.model import AuditEntry, Authority


@pytest.fixture
def rest() -> Rest:
    return Rest()


async def last(rest: Rest, tenant: Any = TENANT) -> AuditEntry:
    return rest.audit(tenant)[-1]


def ref(id_: Any) -> dict[str, str]:
    return {"entityType": "ANY", "id": str(id_)}


class TestWhatIsRecorded:
    @pytest_twisted.ensureDeferred
    async def test_an_entry_is_as_the_wire_has_it(self, rest: Rest) -> None:
        made = await rest.ok("POST", "/api/device", {"name": "pump"})
        result_of(rest.rest.flush())
        (entry,) = (await rest.ok("GET", "/api/audit/logs?pageSize=10"))["data"]
        duration = entry["actionData"].pop("durationMs")
        assert isinstance(duration, float)
        assert UUID(entry.pop("id")["id"])
        assert entry == {
            "createdTime": rest.now_ms(),
            "tenantId": {"entityType": "TENANT", "id": str(TENANT)},
            "customerId": {"entityType": "CUSTOMER", "id": NULL_UUID},
            "entityId": made["id"],
            "entityName": "pump",
            "userId": {"entityType": "USER", "id": str(rest.user.id)},
            "userName": "Admin@example.org",
            "actionType": "ADDED",
            "actionData": {},
            "actionStatus": "SUCCESS",
            "actionFailureDetails": "",
        }

    @pytest_twisted.ensureDeferred
    async def test_every_change_is_with_its_action_and_its_name(self, rest: Rest) -> None:
        one = await rest.ok("POST", "/api/device", {"name": "d"})
        path = f"/api/device/{one['id']['id']}"
        await rest.ok("POST", "/api/device", one | {"label": "l"})
        credentials = await rest.ok("GET", f"{path}/credentials")
        await rest.ok("POST", "/api/device/credentials", credentials | {"credentialsId": "secret-token"})
        customer = await rest.ok("POST", "/api/customer", {"title": "c"})
        await rest.ok("POST", "/api/customer", customer)
        customer_path = f"/api/customer/{customer['id']['id']}"
        await rest.ok("POST", f"{customer_path}/device/{one['id']['id']}")
        await rest.ok("DELETE", f"/api/customer/device/{one['id']['id']}")
        user = await rest.ok("POST", "/api/user", {"email": "u@x", "authority": "TENANT_ADMIN"})
        user = await rest.ok("POST", "/api/user", user)
        user_path = f"/api/user/{user['id']['id']}"
        await rest.ok("GET", f"{user_path}/activationLink")
        await rest.ok("POST", f"{user_path}/userCredentialsEnabled?userCredentialsEnabled=false")
        await rest.ok("POST", f"{user_path}/userCredentialsEnabled?userCredentialsEnabled=true")
        await rest.ok("POST", f"{user_path}/resetPassword")
        key = await rest.ok("POST", "/api/apiKey", {"description": "k"})
        await rest.ok("POST", "/api/apiKey", {"description": "k", "id": key["id"]})
        await rest.ok("PUT", f"/api/apiKey/{key['id']['id']}/enabled/false")
        await rest.ok("DELETE", f"/api/apiKey/{key['id']['id']}")
        await rest.ok("DELETE", user_path)
        await rest.ok("DELETE", customer_path)
        await rest.ok("DELETE", path)
        entries = rest.audit()
        assert [(each.entity_type, each.entity_name, each.action) for each in entries] == [
            ("DEVICE", "d", "ADDED"),
            ("DEVICE", "d", "UPDATED"),
            ("DEVICE", "d", "CREDENTIALS_READ"),
            ("DEVICE", "d", "CREDENTIALS_UPDATED"),
            ("CUSTOMER", "c", "ADDED"),
            ("CUSTOMER", "c", "UPDATED"),
            ("DEVICE", "d", "ASSIGNED_TO_CUSTOMER"),
            ("DEVICE", "d", "UNASSIGNED_FROM_CUSTOMER"),
            ("USER", "u@x", "ADDED"),
            ("USER", "u@x", "UPDATED"),
            ("USER", "u@x", "CREDENTIALS_READ"),
            ("USER", "u@x", "SUSPENDED"),
            ("USER", "u@x", "UPDATED"),
            ("USER", "u@x", "CREDENTIALS_UPDATED"),
            ("API_KEY", "k", "ADDED"),
            ("API_KEY", "k", "UPDATED"),
            ("API_KEY", "k", "UPDATED"),
            ("API_KEY", "k", "DELETED"),
            ("USER", "u@x", "DELETED"),
            ("CUSTOMER", "c", "DELETED"),
            ("DEVICE", "d", "DELETED"),
        ]
        assert {each.failure for each in entries} == {""}
        assert "secret-" not in str(entries), "neither a token, nor a key, nor the nonce of a link"

    @pytest_twisted.ensureDeferred
    async def test_a_call_with_its_method_its_duration_and_how_it_ended(self, rest: Rest) -> None:
        link = rest.link(reply=b"{}")
        body = {"method": "set", "params": {"pin": "1234"}, "requestUUID": "1-2-3-4-5"}
        await rest.ok("POST", rest.rpc(), body)
        entry = await last(rest)
        assert (entry.action, entry.entity_id, entry.entity_name) == ("RPC_CALL", rest.device.id, "device-100")
        rpc_id = "00000001-0002-0003-0004-000000000005"
        assert entry.data == {"rpcId": rpc_id, "oneWay": False, "method": "set", "durationMs": 0.0}
        link.reply = None
        headers = {"X-Authorization": f"Bearer {rest.token}"}
        waiting = rest.treq.post(f"http://broker.test{rest.rpc()}", json={"method": "set"}, headers=headers)
        rest.treq.flush()
        rest.clock.advance(10.1)
        rest.treq.flush()
        assert (await waiting).code == 504
        entry = await last(rest)
        assert entry.failure == "NO_REPLY: The device did not reply in time"
        assert 10_000 <= entry.data["durationMs"] <= 10_200
        assert "1234" not in str(rest.audit())

    @pytest.mark.parametrize(
        ("path", "body", "failure"),
        [
            ("{call}", {"method": "get", "connectTimeout": 0}, "NEVER_CONNECTED: The device has never connected"),
            ("{call}", {}, "Invalid request body: the member 'method' is missing"),
            ("{call}", {"method": "m", "requestUUID": "\x00"}, "'requestUUID': Invalid UUID string: \ufffd"),
            ("/api/rpc/twoway/{other}", {"method": "m"}, "Device with requested id wasn't found!"),
            ("/api/device?accessToken=TOKEN100", {"name": "n"}, "Specified credentials are already registered!"),
            ("/api/device", {"name": "device-100"}, "Device with such name already exists!"),
            ("/api/customer/public/device/{other}", None, ""),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_a_failure_says_why(self, rest: Rest, path: str, body: Any, failure: str) -> None:
        assert (await rest.ask("POST", path.format(call=rest.rpc(), other=UUID(int=404)), body))[0] >= 400
        found = rest.audit()
        assert [each.failure for each in found if failure in each.failure] == [each.failure for each in found]
        assert len(found) == (1 if failure else 0)

    @pytest_twisted.ensureDeferred
    async def test_a_key_that_oversteps_its_rules_is_named(self, rest: Rest) -> None:
        body = {"description": "the key", "scope": {"access": "CALL", "methods": ["get*"]}}
        key = await rest.ok("POST", "/api/apiKey", body)
        await rest.refused("POST", rest.rpc(), {"method": "set"}, token=f"ApiKey {key['value']}")
        entry = await last(rest)
        assert (entry.failure, entry.user_name) == ("The API key may not call this method", "Admin@example.org")
        assert entry.data["apiKey"] == "the key"
        assert key["value"] not in str(rest.audit())
        assert rest.audit()[0].data["scope"]["methods"] == ["get*"]

    @pytest_twisted.ensureDeferred
    async def test_what_changed_nothing_is_not_there(self, rest: Rest) -> None:
        body = {"label": "l"}
        assert (await rest.ask("PUT", "/api/tenant/device?deviceName=new", body))[0] == 201
        for _ in range(3):
            await rest.ok("PUT", "/api/tenant/device?deviceName=new", body)
        await rest.ok("PUT", "/api/tenant/device?deviceName=new", {"label": "m"})
        assert [each.action for each in rest.audit()] == ["ADDED", "UPDATED"]

    @pytest_twisted.ensureDeferred
    async def test_reading_is_not_there(self) -> None:
        world = Estate()
        before = len(world.audit())
        for path in ("/api/tenant/devices?pageSize=9", "/api/users?pageSize=9", "/api/audit/logs?pageSize=9"):
            await world.ok("GET", path)
        assert len(world.audit()) == before


class TestSettings:
    @pytest_twisted.ensureDeferred
    async def test_params_are_recorded_only_if_it_says_so_and_large_ones_by_their_size(self) -> None:
        rest = Rest(audit={"payloads": True})
        rest.link(reply=b"{}")
        for params in ({"pin": 7}, None, "x" * 10_000):
            await rest.ok("POST", rest.rpc(), {"method": "m", "params": params})
        assert [each.data["params"] for each in rest.audit()] == [{"pin": 7}, None, "10002 bytes"]

    @pytest_twisted.ensureDeferred
    async def test_a_large_scope_is_recorded_by_its_size(self, rest: Rest) -> None:
        scope = {"access": "READ", "methods": ["x" * 255] * 100}
        await rest.ok("POST", "/api/apiKey", {"description": "k", "scope": scope})
        assert (await last(rest)).data["scope"].endswith(" bytes")

    @pytest_twisted.ensureDeferred
    async def test_calls_may_be_left_out_and_changes_not(self) -> None:
        rest = Rest(audit={"calls": False})
        rest.link(reply=b"{}")
        await rest.ok("POST", rest.rpc(), {"method": "m"})
        await rest.ok("POST", "/api/device", {"name": "n"})
        assert [each.action for each in rest.audit()] == ["ADDED"]

    @pytest_twisted.ensureDeferred
    async def test_age_and_number_are_bounded(self) -> None:
        rest = Rest(audit={"max_entries": 3, "max_age": 100.0})
        for number in range(5):
            await rest.ok("POST", "/api/device", {"name": f"n{number}"})
        assert [each.entity_name for each in rest.audit()] == ["n2", "n3", "n4"]
        rest.clock.advance(99)
        await rest.ok("POST", "/api/device", {"name": "m"})
        assert [each.entity_name for each in rest.audit()] == ["n3", "n4", "m"]
        rest.clock.advance(2)
        await rest.ok("POST", "/api/device", {"name": "o"})
        assert [each.entity_name for each in rest.audit()] == ["m", "o"]

    @pytest_twisted.ensureDeferred
    async def test_what_waits_is_written_at_the_end(self, rest: Rest) -> None:
        await rest.ok("POST", "/api/device", {"name": "n"})
        assert rest.dump()["audit"] == []
        result_of(rest.rest.flush())
        assert len(rest.dump()["audit"]) == 1


class TestLogins:
    @pytest_twisted.ensureDeferred
    async def test_success_failure_and_logout_are_in_the_users_tenant(self, rest: Rest) -> None:
        right = {"username": "ADMIN@example.org", "password": PASSWORD}
        await rest.refused("POST", "/api/auth/login", right | {"password": "wrong"}, token=None)
        pair = await rest.ok("POST", "/api/auth/login", right, token=None)
        await rest.ok("POST", "/api/auth/logout", token=pair["token"])
        assert [(each.action, each.user_name, each.entity_type, each.failure) for each in rest.audit()] == [
            ("LOGIN", "Admin@example.org", "USER", "Invalid username or password"),
            ("LOGIN", "Admin@example.org", "USER", ""),
            ("LOGOUT", "Admin@example.org", "USER", ""),
        ]
        assert "wrong" not in str(rest.audit())
        assert PASSWORD not in str(rest.audit())

    @pytest_twisted.ensureDeferred
    async def test_a_stranger_does_not_fill_it(self, rest: Rest) -> None:
        wrong = {"username": rest.user.email, "password": "wrong"}
        for _ in range(100):
            await rest.refused("POST", "/api/auth/login", wrong, token=None)
            await rest.refused("POST", "/api/auth/login", wrong | {"username": "nobody@x"}, token=None)
            await rest.refused("POST", rest.rpc(), {"method": "m"}, token="a.b.c")
            await rest.refused("POST", "/api/auth/login", b"{", token=None)
        entries = rest.audit()
        assert [each.action for each in entries] == ["LOGIN"] * 4 + ["LOCKOUT"]
        assert rest.audit(NULL_TENANT) == ()
        hours = 24
        for _ in range(hours * 60):
            rest.clock.advance(60)
            await rest.refused("POST", "/api/auth/login", wrong, token=None)
        assert len(rest.audit()) < 6 + 10 + hours * 3600 / rest.rest.tokens.settings.lockout_max

    @pytest_twisted.ensureDeferred
    async def test_activation_and_a_new_password(self, rest: Rest) -> None:
        user = await rest.ok("POST", "/api/user", {"email": "u@x", "authority": "TENANT_ADMIN"})
        link = await rest.ok("GET", f"/api/user/{user['id']['id']}/activationLink")
        body = {"activateToken": link.rpartition("=")[2], "password": "chosen password"}
        pair = await rest.ok("POST", "/api/noauth/activate", body, token=None)
        body = {"currentPassword": "chosen password", "newPassword": "another password"}
        await rest.ok("POST", "/api/auth/changePassword", body, token=pair["token"])
        told = [(each.action, each.user_name) for each in rest.audit()]
        assert told[-2:] == [("ACTIVATED", "u@x"), ("CREDENTIALS_UPDATED", "u@x")]
        assert "password" not in str([each.data for each in rest.audit()])


class TestReading:
    async def names(self, rest: Rest, path: str, **more: Any) -> list[str]:
        result_of(rest.rest.flush())
        page = await rest.ok("GET", f"{path}{'&' if '?' in path else '?'}pageSize=100", **more)
        return [each["entityName"] for each in page["data"]]

    @pytest_twisted.ensureDeferred
    async def test_filters_pages_and_sorting(self, rest: Rest) -> None:
        customer = rest.add_customer("customer")
        rest.link(reply=b"{}")
        await rest.ok("POST", f"/api/customer/{customer.id}/device/{rest.device.id}")
        token = rest.add_user("c@example.org", Authority.CUSTOMER_USER, customer=customer.id)
        me = await rest.ok("GET", "/api/auth/user", token=token)
        rest.clock.advance(1)
        await rest.ok("POST", rest.rpc(), {"method": "m"}, token=token)
        rest.clock.advance(1)
        await rest.ok("POST", "/api/device", {"name": "other"})
        logs, now = "/api/audit/logs", rest.now_ms()
        assert await self.names(rest, logs) == ["device-100", "device-100", "other"]
        assert await self.names(rest, f"{logs}?sortOrder=DESC") == ["other", "device-100", "device-100"]
        assert await self.names(rest, f"{logs}?sortProperty=entityName&sortOrder=DESC&page=0") == [
            "other",
            "device-100",
            "device-100",
        ]
        assert await self.names(rest, f"{logs}?startTime={now}") == ["other"]
        assert await self.names(rest, f"{logs}?endTime={now - 2000}") == ["device-100"]
        assert await self.names(rest, f"{logs}?actionTypes=ADDED,DELETED") == ["other"]
        assert await self.names(rest, f"{logs}?textSearch=rpc_") == ["device-100"]
        assert await self.names(rest, f"{logs}/customer/{customer.id}") == ["device-100"]
        assert await self.names(rest, f"{logs}/user/{me['id']['id']}") == ["device-100"]
        assert await self.names(rest, f"{logs}/entity/DEVICE/{rest.device.id}") == ["device-100", "device-100"]
        assert await self.names(rest, f"{logs}/entity/USER/{rest.device.id}") == []
        page = await rest.ok("GET", f"{logs}?pageSize=2&page=1")
        assert (page["totalPages"], page["totalElements"], page["hasNext"], len(page["data"])) == (2, 3, False, 1)

    @pytest.mark.parametrize(
        "query",
        [
            "",
            "pageSize=0",
            "pageSize=1001",
            "pageSize=1&page=-1",
            "pageSize=1&sortProperty=failure",
            "pageSize=1&sortOrder=UP",
            "pageSize=1&startTime=x",
            "pageSize=1&endTime=-1",
            "pageSize=1&startTime=" + "9" * 30,
            "pageSize=1&textSearch=%00",
            "pageSize=1&textSearch=" + "x" * 256,
            "pageSize=1&actionTypes=%00",
            "pageSize=1&actionTypes=" + "a," * 51,
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_bad_queries(self, rest: Rest, query: str) -> None:
        assert (await rest.refused("GET", f"/api/audit/logs?{query}"))[0] == 400

    @pytest_twisted.ensureDeferred
    async def test_only_administrators_read_it_each_their_own(self, rest: Rest) -> None:
        customer = rest.add_customer("customer")
        token = rest.add_user("c@example.org", Authority.CUSTOMER_USER, customer=customer.id)
        await rest.ok("POST", "/api/device", {"name": "n"})
        await rest.ok("POST", "/api/tenant", {"title": "new tenant"}, token=rest.sys_token)
        assert await self.names(rest, "/api/audit/logs", token=rest.sys_token) == ["new tenant"]
        assert await self.names(rest, "/api/audit/logs") == ["n"]
        assert (await rest.refused("GET", "/api/audit/logs?pageSize=1", token=token))[0] == 403
