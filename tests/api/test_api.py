"""The REST API in memory: every status, every body, no sockets."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import jwt
import pytest
import pytest_twisted
from fakes import ADMIN, EPOCH_MS, OTHER_TENANT, device
from rest import BASE, KEY, NULL_UUID, PASSWORD, Rest

from rpcbroker.api import errors as api_errors
from rpcbroker.api.calls import parse_call
from rpcbroker.core import errors
from rpcbroker.core.calls import CallRequest, SubmitStrategy
from rpcbroker.core.model import Authority
from rpcbroker.core.near_misses import HINTS, NearMiss
from rpcbroker.schema.ids import parse_uuid


@pytest.fixture
def rest() -> Rest:
    return Rest()


V1, V2 = "/api/plugins/rpc", "/api/rpc"


class TestCalls:
    @pytest.mark.parametrize("base", [V1, V2])
    @pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded"])
    @pytest_twisted.ensureDeferred
    async def test_a_twoway_call_is_answered_with_the_device_s_json(
        self, rest: Rest, base: str, content_type: str
    ) -> None:
        link = rest.link(step=None)
        link.deliver = lambda call: rest.session().receive(call.wire_id, b'[1,"x",null]')  # type: ignore[method-assign]
        status, body, headers = await rest.ask(
            "POST", rest.rpc(f"{base}/twoway"), {"method": "get"}, headers={"Content-Type": content_type}
        )
        assert (status, body) == (200, [1, "x", None])
        assert UUID(headers.getRawHeaders("x-rpc-id")[0])
        assert headers.getRawHeaders("content-type") == ["application/json"]

    @pytest_twisted.ensureDeferred
    async def test_a_oneway_call_is_answered_empty(self, rest: Rest) -> None:
        link = rest.link()
        body = {"method": "set", "params": {"a": [1, 2]}, "requestUUID": "1-2-3-4-5"}
        status, body, headers = await rest.ask("POST", rest.rpc("/api/rpc/oneway"), body)
        assert (status, body) == (200, None)
        assert link.calls[0].params == b'{"a":[1,2]}'
        assert headers.getRawHeaders("x-rpc-id") == ["00000001-0002-0003-0004-000000000005"]

    @pytest.mark.parametrize(("base", "offline", "silent"), [(V1, 409, 408), (V2, 504, 504)])
    @pytest_twisted.ensureDeferred
    async def test_offline_and_silent_devices(self, rest: Rest, base: str, offline: int, silent: int) -> None:
        body = {"method": "get", "connectTimeout": 0}
        status, answer, headers = await rest.ask("POST", rest.rpc(f"{base}/twoway"), body)
        assert (status, answer["status"], answer["reason"]) == (offline, offline, "NEVER_CONNECTED")
        assert answer["hint"]
        assert answer["timestamp"] == EPOCH_MS
        assert headers.getRawHeaders("x-rpc-id")
        rest.link()
        waiting = rest.treq.request(
            "POST",
            BASE + rest.rpc(f"{base}/twoway"),
            data=b'{"method":"get"}',
            headers={"X-Authorization": f"Bearer {rest.token}"},
        )
        rest.treq.flush()
        rest.clock.advance(10.1)
        rest.treq.flush()
        response = await waiting
        assert response.code == silent
        assert json.loads(await rest.treq.content(response))["reason"] == "NO_REPLY"

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            (b"", "empty"),
            (b"{", "not JSON"),
            (b"[1]", "JSON object"),
            (b'"x"', "JSON object"),
            (b"{}", "'method' is missing"),
            (b'{"method":"x","params":NaN}', "not JSON"),
            (b'{"method":"\xff"}', "not JSON"),
            (b'{"method":"x","params":' + b"[" * 1000 + b"]" * 1000 + b"}", "deeper than 64"),
            (b'{"method":"x","requestUUID":null}', "requestUUID"),
            (b'{"method":"x","requestUUID":"zz"}', "requestUUID"),
            (b'{"method":"x","submitStrategy":"burst"}', "submitStrategy"),
            (b'{"method":"x","submitStrategy":[]}', "submitStrategy"),
            (b'{"method":"x","submitStrategy":true}', "submitStrategy"),
            (b'{"method":"x","connectTimeout":"1"}', "connectTimeout"),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_bad_bodies(self, rest: Rest, body: bytes, says: str) -> None:
        status, answer, headers = await rest.ask("POST", rest.rpc(), body)
        assert (status, answer["errorCode"]) == (400, 31)
        assert answer["message"].startswith("Invalid request body")
        assert says in answer["message"]
        assert headers.getRawHeaders("x-rpc-id")

    @pytest_twisted.ensureDeferred
    async def test_a_reply_that_is_not_json_is_406(self, rest: Rest) -> None:
        link = rest.link(step=None)
        link.deliver = lambda call: rest.session().receive_bad(call.wire_id, "no", b"x")  # type: ignore[method-assign]
        status, answer, _ = await rest.ask("POST", rest.rpc(), {"method": "get"})
        assert (status, answer["reason"], answer["errorCode"]) == (406, "BAD_REPLY", 31)

    @pytest_twisted.ensureDeferred
    async def test_a_full_queue_is_429(self, rest: Rest) -> None:
        for _ in range(1000):
            rest.call(parse_call(b'{"method":"x"}', oneway=False, rpc_id=rest.new_uuid())).addErrback(lambda _: None)
        status, answer, _ = await rest.ask("POST", rest.rpc(), {"method": "get"})
        assert (status, answer["errorCode"], answer["reason"]) == (429, 33, "QUEUE_FULL")

    @pytest_twisted.ensureDeferred
    async def test_ids_in_the_path(self, rest: Rest) -> None:
        status, answer, _ = await rest.ask("POST", rest.rpc(device_id="xyz"), {"method": "get"})
        assert (status, answer["message"]) == (400, "Invalid UUID string: xyz")
        unknown = await rest.ask("POST", rest.rpc(device_id=UUID(int=5)), {"method": "get"})
        rest.add(device(300, tenant=OTHER_TENANT))
        foreign = await rest.ask("POST", rest.rpc(device_id=UUID(int=300)), {"method": "get"})
        assert unknown[:2] == foreign[:2]
        assert (unknown[0], unknown[1]["errorCode"]) == (404, 32)

    def test_a_caller_who_hangs_up_cancels_the_call(self, rest: Rest) -> None:
        rest.link()
        waiting = rest.call(parse_call(b'{"method":"x"}', oneway=False, rpc_id=rest.new_uuid()))
        waiting.addErrback(lambda _: None)
        waiting.cancel()
        assert rest.broker.pending_count == 0

    @pytest.mark.parametrize(
        ("member", "value", "field", "expected"),
        [
            ("method", 5, "method", "5"),
            ("method", None, "method", "null"),
            ("method", {"a": 1}, "method", ""),
            ("params", "{}", "params", b'"{}"'),
            ("timeout", 20000, "timeout", 20.0),
            ("timeout", "abc", "timeout", 0.0),
            ("timeout", None, "timeout", 0.0),
            ("timeout", 1e30, "timeout", 2**62 / 1000),
            ("expirationTime", None, "expiration_time", 0),
            ("expirationTime", -5, "expiration_time", 0),
            ("expirationTime", -1e300, "expiration_time", 0),
            ("retries", "5f0c0a52-0000-0000-0000-000000000000", "retries", 0),
            ("retries", "3", "retries", 3),
            ("retries", None, "retries", 0),
            ("connectTimeout", 1500, "connect_timeout", 1.5),
            ("persistent", "TRUE", "persistent", True),
            ("persistent", 1, "persistent", False),
            ("persistent", None, "persistent", False),
            ("submitStrategy", "BURST", "strategy", SubmitStrategy.BURST),
            ("submitStrategy", "SEQUENTIAL_ON_RESPONSE_FROM_DEVICE", "strategy", SubmitStrategy.ON_RESPONSE),
            ("submitStrategy", None, "strategy", None),
            ("requestUUID", "1-2-3-4-5", "once", True),
            ("params", 1, "once", False),
        ],
    )
    def test_members_are_read_leniently(self, member: str, value: Any, field: str, expected: Any) -> None:
        body = json.dumps({"method": "m"} | {member: value}).encode()
        assert getattr(parse_call(body, oneway=False, rpc_id=UUID(int=1)), field) == expected


class TestAuthentication:
    @pytest_twisted.ensureDeferred
    async def test_log_in_and_use_the_token(self, rest: Rest) -> None:
        body = {"username": "ADMIN@example.org", "password": PASSWORD}
        status, pair, _ = await rest.ask("POST", "/api/auth/login", body, token=None)
        assert status == 200
        claims = jwt.decode(
            pair["token"], KEY, algorithms=["HS512"], options={"verify_exp": False, "verify_iat": False}
        )
        assert claims["scopes"] == ["TENANT_ADMIN"]
        assert claims["customerId"] == NULL_UUID
        assert claims["exp"] - claims["iat"] == 9000
        for headers in ({"Authorization": f"Bearer {pair['token']}"}, {"X-Authorization": f"bearer {pair['token']}"}):
            status, user, _ = await rest.ask("GET", "/api/auth/user", token=None, headers=headers)
            assert (status, user["email"], user["authority"]) == (200, "Admin@example.org", "TENANT_ADMIN")
            assert user["customerId"] == {"entityType": "CUSTOMER", "id": NULL_UUID}

    @pytest_twisted.ensureDeferred
    async def test_refresh_gives_a_new_session(self, rest: Rest) -> None:
        pair = rest.pair()
        status, new, _ = await rest.ask("POST", "/api/auth/token", {"refreshToken": pair.refresh_token}, token=None)
        assert status == 200
        assert (await rest.ask("GET", "/api/auth/user", token=new["token"]))[0] == 200
        status, answer, _ = await rest.ask("POST", "/api/auth/token", {"refreshToken": pair.token}, token=None)
        assert (status, answer["errorCode"]) == (401, 10)
        assert (await rest.ask("GET", "/api/auth/user", token=pair.refresh_token))[0] == 401

    @pytest_twisted.ensureDeferred
    async def test_log_out_ends_the_session_and_no_other(self, rest: Rest) -> None:
        pair = rest.pair()
        assert (await rest.ask("GET", "/api/auth/user", token=pair.token))[0] == 200
        assert (await rest.ask("POST", "/api/auth/logout", token=pair.token))[0] == 200
        status, answer, headers = await rest.ask("GET", "/api/auth/user", token=pair.token)
        assert (status, answer["errorCode"]) == (401, 10)
        assert headers.getRawHeaders("www-authenticate") == ["Bearer, ApiKey"]
        body = {"refreshToken": pair.refresh_token}
        assert (await rest.ask("POST", "/api/auth/token", body, token=None))[0] == 401
        assert (await rest.ask("GET", "/api/auth/user"))[0] == 200
        assert Rest(store=rest.store).opened.revoked

    @pytest_twisted.ensureDeferred
    async def test_expired_is_11_and_all_else_is_10(self, rest: Rest) -> None:
        pair = rest.pair()
        other = jwt.encode({"sub": "x"}, b"o" * 64, algorithm="HS512")
        unsigned = jwt.encode(jwt.decode(pair.token, options={"verify_signature": False}), None, algorithm="none")
        for bad in (other, unsigned, "nonsense", pair.token[:-2] + "xx", "a.b.c"):
            status, answer, _ = await rest.ask("GET", "/api/auth/user", token=bad)
            assert (status, answer["errorCode"]) == (401, 10)
        status, answer, _ = await rest.ask("GET", "/api/auth/user", token=None)
        assert (status, answer["errorCode"], answer["message"]) == (401, 10, "Authentication failed")
        assert (await rest.ask("GET", "/api/auth/user", token=pair.token))[0] == 200
        rest.clock.advance(9001)
        for _ in range(2):
            status, answer, _ = await rest.ask("GET", "/api/auth/user", token=pair.token)
            assert (status, answer["errorCode"]) == (401, 11)

    @pytest.mark.parametrize(
        "body", [b"{", b"{}", b'{"username":"a"}', b'{"username":"","password":"x"}', b'{"username":1}']
    )
    @pytest_twisted.ensureDeferred
    async def test_bad_logins(self, rest: Rest, body: bytes) -> None:
        status, answer, _ = await rest.ask("POST", "/api/auth/login", body, token=None)
        assert (status, answer["errorCode"], answer["message"]) == (401, 10, "Authentication failed")

    @pytest_twisted.ensureDeferred
    async def test_five_failures_are_free_then_the_account_waits_longer_each_time(self) -> None:
        rest = Rest(lockout_first=2.0)
        wrong = {"username": "admin@example.org", "password": "wrong"}
        right = wrong | {"password": PASSWORD}
        for _ in range(5):
            assert (await rest.ask("POST", "/api/auth/login", wrong, token=None))[0] == 401
        status, answer, headers = await rest.ask("POST", "/api/auth/login", right, token=None)
        assert (status, answer["errorCode"]) == (429, 33)
        assert headers.getRawHeaders("retry-after") == ["2"]
        other = {"username": "other@example.org", "password": "wrong"}
        assert (await rest.ask("POST", "/api/auth/login", other, token=None))[0] == 401
        rest.clock.advance(2.1)
        assert (await rest.ask("POST", "/api/auth/login", wrong, token=None))[0] == 401
        _, _, headers = await rest.ask("POST", "/api/auth/login", wrong, token=None)
        assert headers.getRawHeaders("retry-after") == ["4"]
        rest.clock.advance(4.1)
        assert (await rest.ask("POST", "/api/auth/login", right, token=None))[0] == 200
        for _ in range(5):
            assert (await rest.ask("POST", "/api/auth/login", wrong, token=None))[0] == 401


class TestDevices:
    @pytest_twisted.ensureDeferred
    async def test_create_find_change_delete(self, rest: Rest) -> None:
        body = {"name": " Pump ", "type": "pump", "additionalInfo": {"gateway": True}}
        status, made, _ = await rest.ask("POST", "/api/device?accessToken=my%20token!", body)
        assert status == 200
        assert made["name"] == "Pump"
        assert made["id"]["entityType"] == "DEVICE"
        assert UUID(made["deviceProfileId"]["id"])
        assert set(made) >= {"firmwareId", "softwareId", "externalId", "version", "deviceData", "label"}
        url = f"/api/device/{made['id']['id']}"
        assert (await rest.ask("GET", url))[1] == made
        for path in ("/api/tenant/device?deviceName=Pump", "/api/tenant/devices?deviceName=Pump"):
            assert (await rest.ask("GET", path))[1] == made
        credentials = (await rest.ask("GET", f"{url}/credentials"))[1]
        assert (credentials["credentialsType"], credentials["credentialsId"]) == ("ACCESS_TOKEN", "my token!")
        status, changed, _ = await rest.ask("POST", "/api/device", made | {"label": "L"})
        assert (status, changed["label"], changed["version"]) == (200, "L", 2)
        status, answer, _ = await rest.ask("POST", "/api/device", made)
        assert (status, answer["errorCode"]) == (409, 35)
        assert (await rest.ask("DELETE", url))[:2] == (200, None)
        status, answer, _ = await rest.ask("GET", url)
        assert (status, answer["errorCode"]) == (404, 32)
        assert (await rest.ask("DELETE", url))[0] == 404

    @pytest.mark.parametrize(
        ("path", "body", "says"),
        [
            ("/api/device", {"name": ""}, "name"),
            ("/api/device", {"name": "x" * 256}, "name"),
            ("/api/device", {"type": "x"}, "name"),
            ("/api/device", {"name": 5}, "name"),
            ("/api/device", [], "object"),
            ("/api/device", {"name": "device-100"}, "Device with such name already exists!"),
            ("/api/device?accessToken=TOKEN100", {"name": "n"}, "Specified credentials are already registered!"),
            ("/api/device?accessToken=a/b", {"name": "n"}, "accessToken"),
            ("/api/device?accessToken=" + "x" * 33, {"name": "n"}, "accessToken"),
            ("/api/device", {"name": "n", "id": {"entityType": "DEVICE", "id": "x"}}, "uuid"),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_bad_devices(self, rest: Rest, path: str, body: Any, says: str) -> None:
        status, answer, _ = await rest.ask("POST", path, body)
        assert (status, answer["errorCode"]) == (400, 31)
        assert says.lower() in answer["message"].lower()

    @pytest_twisted.ensureDeferred
    async def test_lists(self, rest: Rest) -> None:
        for number in range(4):
            rest.add(device(400 + number))
        rest.add(device(500, tenant=OTHER_TENANT))
        status, page, _ = await rest.ask(
            "GET", "/api/tenant/devices?pageSize=2&page=1&sortProperty=name&sortOrder=desc"
        )
        assert status == 200
        assert [item["name"] for item in page["data"]] == ["device-401", "device-400"]
        assert (page["totalPages"], page["totalElements"], page["hasNext"]) == (3, 5, True)

    @pytest.mark.parametrize(
        "query",
        [
            "",
            "pageSize=0&page=0",
            "pageSize=x",
            "pageSize=10&page=-1",
            "pageSize=5&sortOrder=x",
            "pageSize=5&sortProperty=y",
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_bad_queries(self, rest: Rest, query: str) -> None:
        status, answer, _ = await rest.ask("GET", f"/api/tenant/devices?{query}")
        assert (status, answer["errorCode"]) == (400, 31)

    @pytest_twisted.ensureDeferred
    async def test_new_credentials_close_the_connection(self, rest: Rest) -> None:
        link = rest.link()
        url = f"/api/device/{rest.device.id}/credentials"
        old = (await rest.ask("GET", url))[1]
        basic = old | {
            "credentialsType": "MQTT_BASIC",
            "credentialsId": None,
            "credentialsValue": '{"clientId":"c","userName":"u","password":"p"}',
        }
        status, new, _ = await rest.ask("POST", "/api/device/credentials", basic)
        assert (status, new["credentialsType"], new["version"]) == (200, "MQTT_BASIC", 2)
        assert len(link.closed) == 1
        for bad in (None, "{", "{}", '{"clientId":"c","password":"p"}', "[]"):
            status, answer, _ = await rest.ask("POST", "/api/device/credentials", new | {"credentialsValue": bad})
            assert (status, answer["errorCode"]) == (400, 31)

    @pytest_twisted.ensureDeferred
    async def test_presence(self, rest: Rest) -> None:
        rest.link(subscribed=False)
        status, presence, _ = await rest.ask("GET", f"/api/device/{rest.device.id}/presence")
        assert status == 200
        assert presence["connected"] == {"value": True, "time": EPOCH_MS, "cause": "connected over FAKE"}
        assert presence["callable"] == {"value": False, "time": None, "cause": None}
        assert presence["lastSeen"] == {"time": None, "cause": None}
        assert presence["nearMisses"] == []

    @pytest_twisted.ensureDeferred
    async def test_diagnostics(self, rest: Rest) -> None:
        link = rest.link(subscribed=False)
        url = f"/api/device/{rest.device.id}"
        rest.call(CallRequest(method="x", timeout=60)).addErrback(lambda _: None)
        rest.session().note(NearMiss.LEADING_SLASH, "has subscribed to '/x', which begins with a slash")
        rest.session().receive(5, b"1")
        rest.clock.advance(2)
        rest.session().note(NearMiss.LEADING_SLASH, "has subscribed to '/y', which begins with a slash")
        told = await rest.ok("GET", f"{url}/diagnostics")
        assert {name: told[name] for name in ("summary", "links", "pendingByState", "droppedReplies")} == {
            "summary": "The device connected over FAKE 2 s ago, but has not subscribed; "
            "it has subscribed to '/y', which begins with a slash.",
            "links": [{"protocol": "FAKE", "callable": False}],
            "pendingByState": {"QUEUED": 1},
            "droppedReplies": 1,
        }
        assert told["nearMisses"][0] == {
            "kind": "LEADING_SLASH",
            "count": 2,
            "firstTime": EPOCH_MS,
            "lastTime": EPOCH_MS + 2000,
            "detail": "has subscribed to '/y', which begins with a slash",
            "hint": HINTS[NearMiss.LEADING_SLASH],
        }
        assert told["nearMisses"][1]["kind"] == "UNKNOWN_REPLY"
        presence = await rest.ok("GET", f"{url}/presence")
        assert presence == {name: told[name] for name in presence}
        rest.session().subscribe(link)
        told = await rest.ok("GET", f"{url}/diagnostics")
        assert told["links"] == [{"protocol": "FAKE", "callable": True}]
        assert told["pendingByState"] == {"DELIVERED": 1}
        assert told["summary"].startswith("The device connected over FAKE 2 s ago and can take calls")


class TestHttp:
    @pytest_twisted.ensureDeferred
    async def test_probes(self, rest: Rest) -> None:
        assert (await rest.ask("GET", "/healthz", token=None))[:2] == (200, {"status": "ok"})
        assert (await rest.ask("GET", "/readyz", token=None))[0] == 200
        assert (await rest.ask("GET", "/version", token=None))[1]["name"] == "rpcbroker"
        rest.health.stopping = True
        assert (await rest.ask("GET", "/readyz", token=None))[1]["reason"] == "SHUTTING_DOWN"

    @pytest_twisted.ensureDeferred
    async def test_metrics_are_text_for_whom_the_setting_lets_in_now(self, rest: Rest) -> None:
        status, text, headers = await rest.ask("GET", "/metrics", token=None)
        assert (status, headers.getRawHeaders("content-type")) == (200, ["text/plain; version=0.0.4; charset=utf-8"])
        assert text.startswith("# HELP rpcbroker_calls_total ")
        root = rest.add_user("root@example.org", Authority.SYS_ADMIN, tenant=UUID(NULL_UUID))
        rest.metrics_access = "sysadmin"
        assert (await rest.ask("GET", "/metrics", token=None))[0] == 401
        assert (await rest.ask("GET", "/metrics", token="junk"))[0] == 401
        assert (await rest.ask("GET", "/metrics"))[0] == 403
        assert (await rest.ask("GET", "/metrics", token=root))[0] == 200
        rest.metrics_access = "off"
        off, unknown = [await rest.ask("GET", path, token="junk") for path in ("/metrics", "/nothing")]
        assert off[0] == 404
        assert off[:2] == unknown[:2]

    @pytest_twisted.ensureDeferred
    async def test_unknown_paths_and_methods(self, rest: Rest) -> None:
        assert (await rest.ask("GET", "/api/nothing"))[1]["errorCode"] == 32
        status, answer, headers = await rest.ask("PUT", "/api/auth/login")
        assert (status, answer["errorCode"]) == (405, 31)
        assert headers.getRawHeaders("allow") == ["POST"]

    @pytest_twisted.ensureDeferred
    async def test_a_fault_of_ours_shows_no_traceback(self, rest: Rest, no_dropped_failures: list[str]) -> None:
        rest.store.people.user = lambda _: 1 / 0  # type: ignore[method-assign, assignment, return-value]
        status, answer, _ = await rest.ask("GET", "/api/auth/user")
        assert (status, answer["message"]) == (500, "Internal error")
        assert len(no_dropped_failures) == 1
        no_dropped_failures.clear()


def all_errors(root: type[errors.BrokerError]) -> set[type[errors.BrokerError]]:
    return {root}.union(*(all_errors(sub) for sub in root.__subclasses__()))


def test_every_error_has_a_row() -> None:
    assert set(api_errors.TABLE) == all_errors(errors.BrokerError)


@pytest.mark.parametrize(
    ("text", "value"), [("1-1-1-1-1", "00000001-0001-0001-0001-000000000001"), (NULL_UUID, NULL_UUID)]
)
def test_uuids_as_java_reads_them(text: str, value: str) -> None:
    assert str(parse_uuid(text)) == value


@pytest.mark.parametrize("text", ["", "1", "1-1-1-1", "g-1-1-1-1", "123456789-1-1-1-1", "1-1-1-1-1\n", " 1-1-1-1-1"])
def test_what_is_no_uuid(text: str) -> None:
    with pytest.raises(errors.InvalidRequest):
        parse_uuid(text)


def test_a_principal_of_a_verified_token_is_remembered(rest: Rest) -> None:
    assert rest.tokens.verify(rest.token) is rest.tokens.verify(rest.token)
    assert rest.tokens.verify(rest.token).tenant_id == ADMIN.tenant_id
