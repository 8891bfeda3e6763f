"""Telemetry and attributes over REST."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
import pytest_twisted
from fakes import EPOCH_MS, device, result_of
from rest import Rest
from twisted.internet.defer import fail

from rpcbroker.api.keys import digest
from rpcbroker.core.errors import Unavailable
from rpcbroker.core.model import ApiKey, Authority, KeyAccess, KeyScope, Scope
from rpcbroker.core.setting import Size
from rpcbroker.core.settings import AttributeSettings, TelemetrySettings

ID = device().id
BASE = "/api/plugins/telemetry"
ONE = f"{BASE}/DEVICE/{ID}"
SERIES, ATTRIBUTES = f"{ONE}/values/timeseries", f"{ONE}/values/attributes"


@pytest.fixture
def rest() -> Rest:
    return Rest()


def post(rest: Rest, payload: bytes, of: UUID = ID) -> None:
    """As the device does."""
    telemetry = rest.broker.telemetry
    kept = telemetry.keep(of, telemetry.parse(payload))
    if kept is not None:
        result_of(kept)


async def values(rest: Rest, path: str = "", **more: Any) -> dict[str, Any]:
    """Key -> value of attributes."""
    return {each["key"]: each["value"] for each in await rest.ok("GET", ATTRIBUTES + path, **more)}


class TestTelemetry:
    @pytest_twisted.ensureDeferred
    async def test_what_a_device_posts_is_read_at_once(self, rest: Rest) -> None:
        post(rest, b'{"t":21.5,"on":true,"n":"7","s":"text","j":{"a":[1]}}')
        point = {
            "t": "21.5",
            "on": "true",
            "n": "7",
            "s": "text",
            "j": '{"a":[1]}',
        }
        expected = {key: [{"ts": EPOCH_MS, "value": value}] for key, value in point.items()}
        assert await rest.ok("GET", SERIES) == expected
        assert await rest.ok("GET", f"{SERIES}?keys=") == expected
        assert await rest.ok("GET", f"{ONE}/keys/timeseries") == ["j", "n", "on", "s", "t"]
        strict = await rest.ok("GET", f"{SERIES}?useStrictDataTypes=true&keys=j,t,n,on,s")
        assert [each[0]["value"] for each in strict.values()] == [{"a": [1]}, 21.5, 7, True, "text"]

    @pytest_twisted.ensureDeferred
    async def test_a_key_without_a_point_is_null(self, rest: Rest) -> None:
        post(rest, b'{"t":1}')
        assert await rest.ok("GET", f"{SERIES}?keys=t,%20none,t") == {
            "t": [{"ts": EPOCH_MS, "value": "1"}],
            "none": [{"ts": EPOCH_MS, "value": None}],
        }
        rest.add(device(101))
        assert await rest.ok("GET", f"{BASE}/DEVICE/{UUID(int=101)}/values/timeseries") == {}

    @pytest_twisted.ensureDeferred
    async def test_history(self, rest: Rest) -> None:
        for number in range(150):
            post(rest, b'{"ts":%d,"values":{"k":%d}}' % (1000 + number, number))
        post(rest, b'{"ts":5,"values":{"other":1}}')
        between = f"{SERIES}?keys=k,other,none&startTs=1100&endTs=1149"
        found = await rest.ok("GET", between)
        assert list(found) == ["k"]
        assert [each["ts"] for each in found["k"]] == list(range(1148, 1099, -1))
        assert found["k"][0] == {"ts": 1148, "value": "148"}
        found = await rest.ok("GET", f"{between}&orderBy=asc&limit=2&agg=NONE&interval=0&useStrictDataTypes=true")
        assert found == {"k": [{"ts": 1100, "value": 100}, {"ts": 1101, "value": 101}]}
        everything = await rest.ok("GET", f"{SERIES}?keys=k,other&startTs=0&endTs=9999&limit=1000")
        assert {key: len(points) for key, points in everything.items()} == {"k": 100, "other": 1}

    @pytest.mark.parametrize(
        ("query", "says"),
        [
            ("startTs=1&keys=k", "together"),
            ("endTs=1&keys=k", "together"),
            ("startTs=2&endTs=1&keys=k", "before startTs"),
            ("startTs=1&endTs=2", "keys must be given"),
            ("startTs=1&endTs=2&keys=k&agg=AVG", "agg must be NONE, not: AVG"),
            ("startTs=1&endTs=2&keys=k&limit=0", "limit must be"),
            ("startTs=1&endTs=2&keys=k&orderBy=UP", "orderBy must be"),
            ("startTs=x&endTs=2&keys=k", "startTs"),
            ("startTs=-1&endTs=2&keys=k", "startTs"),
            ("keys=%00", "U+0000"),
            ("useStrictDataTypes=perhaps", "useStrictDataTypes"),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_what_cannot_be_asked_for_is_said(self, rest: Rest, query: str, says: str) -> None:
        status, message = await rest.refused("GET", f"{SERIES}?{query}")
        assert status == 400
        assert says in message

    @pytest_twisted.ensureDeferred
    async def test_callers_post_it_too(self, rest: Rest) -> None:
        for path in (f"{ONE}/timeseries/ANY", f"{ONE}/timeseries/LATEST_TELEMETRY/86400"):
            for body in ({"k": "5"}, [{"ts": 7, "values": {"k": 1}}]):
                assert await rest.ok("POST", path, body) is None
        assert await rest.ok("GET", f"{SERIES}?useStrictDataTypes=true") == {"k": [{"ts": EPOCH_MS, "value": 5}]}
        assert (
            await rest.ok("POST", f"{ONE}/timeseries/ANY", b'{"k":6}', headers={"Content-Type": "text/plain"}) is None
        )
        rest.clock.advance(1)
        stored = result_of(rest.store.values.series(ID, ["k"], window=100))
        assert len(stored["k"].points) == 5

    @pytest.mark.parametrize("body", [b"", b"x", b"5", b"[1]", b'{"k":null}', b'{"k":NaN}', b"[" * 100_000])
    @pytest_twisted.ensureDeferred
    async def test_what_is_no_telemetry_is_refused(self, rest: Rest, body: bytes) -> None:
        status, message = await rest.refused("POST", f"{ONE}/timeseries/ANY", body)
        assert (status, message[:13]) == (400, "Invalid JSON:")
        assert await rest.ok("GET", SERIES) == {}

    @pytest_twisted.ensureDeferred
    async def test_a_store_that_does_not_keep_up_is_told(self, rest: Rest) -> None:
        rest.store.values.save_points = lambda *_, **__: fail(Unavailable("no"))  # type: ignore[method-assign]
        rest.broker.telemetry.settings = TelemetrySettings(max_waiting=Size(1))
        assert await rest.ok("POST", f"{ONE}/timeseries/ANY", {"k": 1}) is None
        status, answer, _ = await rest.ask("POST", f"{ONE}/timeseries/ANY", {"k": 2})
        assert (status, answer["message"]) == (503, "The store does not keep up with telemetry")
        assert await rest.ok("GET", SERIES) == {"k": [{"ts": EPOCH_MS, "value": "1"}]}

    @pytest_twisted.ensureDeferred
    async def test_deleting(self, rest: Rest) -> None:
        for ts in (1, 2, 3):
            post(rest, b'{"ts":%d,"values":{"a":%d,"b":%d,"c":1}}' % (ts, ts, ts))
        path = f"{ONE}/timeseries/delete"
        assert await rest.ok("DELETE", f"{path}?keys=a,none&deleteAllDataForKeys=true") is None
        assert await rest.ok("DELETE", f"{path}?keys=b&startTs=3&endTs=4") is None
        assert await rest.ok("DELETE", f"{path}?keys=c&startTs=0&endTs=9&deleteLatest=false") is None
        assert await rest.ok("GET", SERIES) == {
            "b": [{"ts": 2, "value": "2"}],
            "c": [{"ts": 3, "value": "1"}],
        }
        for query in ("deleteAllDataForKeys=true", "keys=,&deleteAllDataForKeys=true", "keys=b", "keys=b&startTs=1"):
            assert (await rest.refused("DELETE", f"{path}?{query}"))[0] == 400
        history = await rest.ok("GET", f"{SERIES}?keys=b,c&startTs=0&endTs=9&orderBy=ASC")
        assert {key: [each["ts"] for each in points] for key, points in history.items()} == {"b": [1, 2], "c": [3]}


class TestAttributes:
    @pytest.mark.parametrize("path", [f"{ONE}/attributes", ONE, f"{BASE}/{ID}"])
    @pytest_twisted.ensureDeferred
    async def test_writing_and_deleting_under_all_paths(self, rest: Rest, path: str) -> None:
        link = rest.link()
        assert await rest.ok("POST", f"{path}/SHARED_SCOPE", {"a": "5", "b": {"x": 1}}) is None
        assert await rest.ok("POST", f"{path}/SERVER_SCOPE", {"a": True}) is None
        assert await rest.ok("GET", f"{ATTRIBUTES}/SHARED_SCOPE") == [
            {"lastUpdateTs": EPOCH_MS, "key": "a", "value": "5"},
            {"lastUpdateTs": EPOCH_MS, "key": "b", "value": {"x": 1}},
        ]
        assert await values(rest, "/SERVER_SCOPE?keys=a,none") == {"a": True}
        delete = path.removesuffix("/attributes")
        assert await rest.ok("DELETE", f"{delete}/SHARED_SCOPE?keys=a,none") is None
        assert await rest.ok("DELETE", f"{delete}/SERVER_SCOPE?keys=a") is None
        assert await values(rest, "/SHARED_SCOPE") == {"b": {"x": 1}}
        assert link.updates == [b'{"a":"5","b":{"x":1}}', b'{"deleted":["a"]}']

    @pytest_twisted.ensureDeferred
    async def test_keys_and_values_of_all_scopes_and_of_one(self, rest: Rest) -> None:
        rest.session()
        result_of(rest.broker.attributes.save(ID, Scope.CLIENT, rest.broker.attributes.parse(b'{"c":"1","both":1}')))
        await rest.ok("POST", f"{ONE}/SHARED_SCOPE", {"s": 2, "both": 2})
        assert await rest.ok("GET", f"{ONE}/keys/attributes") == ["active", "both", "c", "s"]
        assert await rest.ok("GET", f"{ONE}/keys/attributes/CLIENT_SCOPE") == ["both", "c"]
        assert await rest.ok("GET", f"{ONE}/keys/attributes/SERVER_SCOPE") == ["active"]
        found = await rest.ok("GET", f"{ATTRIBUTES}?keys=both,c")
        assert [(each["key"], each["value"]) for each in found] == [("both", 1), ("c", 1), ("both", 2)]
        assert await rest.ok("DELETE", f"{ONE}/CLIENT_SCOPE?keys=c") is None
        assert await values(rest, "/CLIENT_SCOPE") == {"both": 1}

    @pytest_twisted.ensureDeferred
    async def test_the_device_s_state_is_there_and_nobody_writes_it(self, rest: Rest) -> None:
        assert await values(rest, "/SERVER_SCOPE") == {"active": False}
        rest.clock.advance(1)
        link = rest.link()
        rest.clock.advance(1)
        rest.session().seen("FAKE")
        connected = {"active": True, "lastConnectTime": EPOCH_MS + 1000, "lastActivityTime": EPOCH_MS + 2000}
        assert await values(rest, "/SERVER_SCOPE") == connected
        rest.clock.advance(1)
        rest.session().detach(link, "gone")
        gone = connected | {"active": False, "lastDisconnectTime": EPOCH_MS + 3000}
        assert await values(rest, "/SERVER_SCOPE") == gone
        assert await values(rest) == gone
        assert await values(rest, "/SERVER_SCOPE?keys=active,lastConnectTime") == {
            "active": False,
            "lastConnectTime": EPOCH_MS + 1000,
        }
        assert await rest.ok("GET", f"{ATTRIBUTES}?keys=active") == [
            {"lastUpdateTs": EPOCH_MS + 3000, "key": "active", "value": False}
        ]
        for refused in (
            ("POST", f"{ONE}/SERVER_SCOPE", {"active": True, "x": 1}),
            ("DELETE", f"{ONE}/SERVER_SCOPE?keys=x,lastActivityTime"),
        ):
            status, message = await rest.refused(*refused)
            assert (status, "the broker knows that itself" in message) == (400, True)
        assert await rest.ok("POST", f"{ONE}/SHARED_SCOPE", {"active": "yes"}) is None

    @pytest.mark.parametrize(
        ("scope", "body", "says"),
        [
            ("CLIENT_SCOPE", b'{"a":1}', "Only the device writes"),
            ("SOME_SCOPE", b'{"a":1}', "must be one of CLIENT_SCOPE, SERVER_SCOPE, SHARED_SCOPE"),
            ("SERVER_SCOPE", b"{}", "no attributes"),
            ("SERVER_SCOPE", b"", "Invalid JSON"),
            ("SERVER_SCOPE", b"nonsense", "Invalid JSON"),
            ("SERVER_SCOPE", b"[]", "Invalid JSON"),
            ("SERVER_SCOPE", b'{"":1}', "a key must have"),
            ("SERVER_SCOPE", b'{"a":null}', "is null"),
            ("SERVER_SCOPE", b'{"a":18446744073709551616}', "64 bits"),
            ("SERVER_SCOPE", b'{"a":"12345678901"}', "11 bytes"),
            ("SERVER_SCOPE", b'{"a":1,"b":1,"c":1}', "at most 2"),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_what_cannot_be_written_is_said(self, rest: Rest, scope: str, body: bytes, says: str) -> None:
        rest.broker.attributes.settings = AttributeSettings(max_keys=2, max_value_size=Size(10))
        status, message = await rest.refused("POST", f"{ONE}/{scope}", body)
        assert status == 400
        assert says in message
        assert await rest.ok("GET", f"{ONE}/keys/attributes") == ["active"]

    @pytest_twisted.ensureDeferred
    async def test_a_save_that_fails_is_told(self, rest: Rest) -> None:
        rest.store.values.save_attributes = lambda *_, **__: fail(Unavailable("no"))  # type: ignore[method-assign]
        assert (await rest.ask("POST", f"{ONE}/SERVER_SCOPE", {"a": 1}))[0] == 503


class TestRights:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "keys/attributes"),
            ("GET", "keys/attributes/SERVER_SCOPE"),
            ("GET", "values/attributes"),
            ("GET", "values/attributes/SERVER_SCOPE"),
            ("GET", "keys/timeseries"),
            ("GET", "values/timeseries"),
            ("GET", "values/timeseries?keys=k&startTs=1&endTs=2"),
            ("POST", "SERVER_SCOPE"),
            ("POST", "attributes/SERVER_SCOPE"),
            ("POST", "timeseries/ANY"),
            ("POST", "timeseries/ANY/0"),
            ("DELETE", "SERVER_SCOPE?keys=k"),
            ("DELETE", "timeseries/delete?keys=k&deleteAllDataForKeys=true"),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_only_devices_have_values(self, rest: Rest, method: str, path: str) -> None:
        body = {"k": 1} if method == "POST" else None
        for kind in ("ASSET", "CUSTOMER"):
            status, message = await rest.refused(method, f"{BASE}/{kind}/{ID}/{path}", body)
            assert (status, message) == (400, f"Only a DEVICE has telemetry and attributes here, not: {kind}")
        assert (await rest.refused(method, f"{BASE}/DEVICE/{UUID(int=404)}/{path}", body))[0] == 404
        assert (await rest.refused(method, f"{BASE}/DEVICE/nonsense/{path}", body))[0] == 400
        assert (await rest.refused(method, f"{BASE}/DEVICE/{ID}/{path}", body, token=rest.sys_token))[0] == 403
        assert (await rest.ask(method, f"{BASE}/DEVICE/{ID}/{path}", body))[0] == 200

    @pytest_twisted.ensureDeferred
    async def test_a_customers_user_reads_and_writes_those_of_its_devices(self, rest: Rest) -> None:
        mine = rest.add_customer("mine")
        rest.add(device(200, customer_id=mine.id))
        token = rest.add_user("user@example.org", Authority.CUSTOMER_USER, customer=mine.id)
        path = f"{BASE}/DEVICE/{UUID(int=200)}"
        await rest.ok("POST", f"{path}/SHARED_SCOPE", {"a": 1}, token=token)
        await rest.ok("POST", f"{path}/timeseries/ANY", {"a": 1}, token=token)
        assert await rest.ok("GET", f"{path}/keys/timeseries", token=token) == ["a"]
        assert (await rest.refused("GET", SERIES, token=token))[0] == 404

    @pytest.mark.parametrize("access", list(KeyAccess))
    @pytest_twisted.ensureDeferred
    async def test_a_key_to_read_reads_and_a_key_to_manage_writes(self, rest: Rest, access: KeyAccess) -> None:
        key = ApiKey(
            id=rest.new_uuid(),
            tenant_id=rest.user.tenant_id,
            user_id=rest.user.id,
            description="d",
            digest=digest("my-key"),
            hint="h",
            scope=KeyScope(access=access),
            created_time=EPOCH_MS,
        )
        rest.rest.keys.put(key, result_of(rest.store.people.create_api_key(key, most=9)))
        assert await rest.ok("GET", SERIES, token="ApiKey my-key") == {}
        assert await values(rest, token="ApiKey my-key") == {"active": False}
        may = 200 if access is KeyAccess.MANAGE else 403
        for method, path in (
            ("POST", f"{ONE}/SERVER_SCOPE"),
            ("POST", f"{ONE}/timeseries/ANY"),
            ("DELETE", f"{ONE}/SERVER_SCOPE?keys=k"),
            ("DELETE", f"{ONE}/timeseries/delete?keys=k&deleteAllDataForKeys=true"),
        ):
            body = {"k": 1} if method == "POST" else None
            assert (await rest.ask(method, path, body, token="ApiKey my-key"))[0] == may

    @pytest_twisted.ensureDeferred
    async def test_writes_are_in_the_audit_log_without_the_values(self, rest: Rest) -> None:
        await rest.ok("POST", f"{BASE}/{ID}/SHARED_SCOPE", {"a": "secret", "b": 1})
        await rest.ok("DELETE", f"{ONE}/SHARED_SCOPE?keys=a")
        await rest.ok("POST", f"{ONE}/timeseries/ANY", [{"t": "secret"}, {"u": 1}, {"t": 2}])
        await rest.ok("DELETE", f"{ONE}/timeseries/delete?keys=t&startTs=1&endTs=2")
        await rest.refused("POST", f"{ONE}/timeseries/ANY", b"nonsense")
        entries = rest.audit()
        told = [
            (
                each.action,
                {name: value for name, value in each.data.items() if name != "durationMs"},
                bool(each.failure),
            )
            for each in entries
        ]
        assert told == [
            ("ATTRIBUTES_UPDATED", {"scope": "SHARED_SCOPE", "keys": ["a", "b"]}, False),
            ("ATTRIBUTES_DELETED", {"scope": "SHARED_SCOPE", "keys": ["a"]}, False),
            ("TIMESERIES_UPDATED", {"keys": ["t", "u"]}, False),
            ("TIMESERIES_DELETED", {"keys": ["t"], "startTs": 1, "endTs": 2}, False),
            ("TIMESERIES_UPDATED", {}, True),
        ]
        assert {(each.entity_type, each.entity_id, each.entity_name) for each in entries} == {
            ("DEVICE", ID, "device-100")
        }

    @pytest_twisted.ensureDeferred
    async def test_nothing_is_left_of_a_device_that_is_deleted(self, rest: Rest) -> None:
        post(rest, b'{"k":1}')
        for scope in (Scope.SERVER, Scope.SHARED):
            await rest.ok("POST", f"{ONE}/{scope}", {"a": 1})
        await rest.ok("DELETE", f"/api/device/{ID}")
        rest.clock.advance(1)
        rows = rest.dump()
        assert [rows[name] for name in ("attribute", "telemetry_latest", "telemetry_block")] == [[], [], []]
        assert (await rest.refused("GET", SERIES))[0] == 404
