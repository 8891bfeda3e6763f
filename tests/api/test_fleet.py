"""PUT /api/tenant/device: the same script may run any number of times, and many at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import pytest_twisted
from fakes import Slow, device, result_of, token
from rest import BASE, Rest
from twisted.internet.defer import gatherResults

from rpcbroker.core.ports import CloseReason

PATH = "/api/tenant/device?deviceName=pump"
OLD = "/api/tenant/device?deviceName=device-100"


@pytest.fixture
def rest() -> Rest:
    return Rest()


async def put(rest: Rest, body: Any, path: str = PATH) -> tuple[int, Any]:
    status, answer, _ = await rest.ask("PUT", path, body)
    return status, answer


async def credentials(rest: Rest, made: Any) -> Any:
    return await rest.ok("GET", f"/api/device/{made['id']['id']}/credentials")


class TestIdempotence:
    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"type": "t", "label": "l", "additionalInfo": {"a": [1]}},
            {"customerTitle": "customer"},
            {"customerTitle": ""},
            {"credentials": {}},
            {"credentials": {"credentialsId": "my-token"}},
            {
                "credentials": {
                    "credentialsType": "MQTT_BASIC",
                    "credentialsValue": '{"clientId":"c","userName":"u","password":"p"}',
                }
            },
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_again_changes_nothing_and_closes_no_connection(self, rest: Rest, body: Any) -> None:
        rest.add_customer("customer")
        status, made = await put(rest, body)
        assert (status, made["version"]) == (201, 1)
        before = await credentials(rest, made)
        link = rest.link(result_of(rest.store.device_by_name(rest.user.tenant_id, "pump")))
        for _ in range(3):
            assert await put(rest, body) == (200, made)
        assert await credentials(rest, made) == before
        assert link.closed == []

    @pytest_twisted.ensureDeferred
    async def test_what_is_absent_stays_as_it_is(self, rest: Rest) -> None:
        rest.add_customer("customer")
        _, made = await put(rest, {"type": "t", "label": "l", "additionalInfo": 5, "customerTitle": "customer"})
        status, changed = await put(rest, {"label": "m"})
        assert (status, changed) == (200, made | {"label": "m", "version": 2})
        _, changed = await put(rest, {"label": "", "additionalInfo": None, "customerTitle": ""})
        assert (changed["label"], changed["additionalInfo"], changed["version"]) == (None, None, 3)
        assert changed["customerId"]["id"] == "13814000-1dd2-11b2-8080-808080808080"
        assert changed["type"] == "t"

    @pytest_twisted.ensureDeferred
    async def test_other_credentials_close_the_connection_once(self, rest: Rest) -> None:
        link = rest.link()
        body = {"credentials": {"credentialsId": "new-token"}}
        for _ in range(3):
            assert (await put(rest, body, OLD))[0] == 200
        assert link.closed == [CloseReason.CREDENTIALS_CHANGED]
        assert result_of(rest.store.matching_credentials(["TOKEN100"])) == ()
        assert result_of(rest.store.matching_credentials(["new-token"]))

    @pytest_twisted.ensureDeferred
    async def test_without_credentials_it_keeps_its_token(self, rest: Rest) -> None:
        for body in ({}, {"credentials": {}}, {"credentials": {"credentialsType": "ACCESS_TOKEN"}}):
            await put(rest, body, OLD)
        assert result_of(rest.store.credentials(rest.device.id)) == token(rest.device)


class TestRefusing:
    @pytest.mark.parametrize(
        ("path", "body", "status"),
        [
            (PATH, {"customerTitle": "no such"}, 404),
            (PATH, {"customerTitle": "\x00"}, 400),
            (PATH, {"type": ""}, 400),
            (PATH, {"type": "x" * 256}, 400),
            (PATH, {"label": "x" * 256}, 400),
            (PATH, {"additionalInfo": "x" * 40_000}, 400),
            (PATH, {"credentials": {"credentialsId": "TOKEN100"}}, 400),
            (PATH, {"credentials": {"credentialsId": "a/b"}}, 400),
            (PATH, {"credentials": {"credentialsType": "MQTT_BASIC"}}, 400),
            (PATH, {"credentials": {"credentialsType": "MQTT_BASIC", "credentialsValue": "x" * 20_000}}, 400),
            (PATH, {"credentials": {"credentialsType": "X509_CERTIFICATE", "credentialsValue": "\x00"}}, 400),
            ("/api/tenant/device", {}, 400),
            ("/api/tenant/device?deviceName=", {}, 400),
            ("/api/tenant/device?deviceName=%00", {}, 400),
            ("/api/tenant/device?deviceName=" + "x" * 256, {}, 400),
            ("/api/tenant/device?deviceName=%ff", {}, 400),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_nothing_is_half_done(self, rest: Rest, path: str, body: Any, status: int) -> None:
        before = rest.dump()
        assert (await put(rest, body, path))[0] == status
        assert rest.dump() == before

    @pytest_twisted.ensureDeferred
    async def test_a_change_whose_credentials_are_taken_changes_nothing(self, rest: Rest) -> None:
        rest.add(device(101))
        before = rest.dump()
        body = {"label": "l", "credentials": {"credentialsId": "TOKEN101"}}
        assert (await put(rest, body, OLD))[0] == 400
        assert rest.dump() == before


class TestRaces:
    @pytest_twisted.ensureDeferred
    async def test_many_at_once_make_one_device(self, rest: Rest) -> None:
        headers = {"X-Authorization": f"Bearer {rest.token}"}
        with Slow(rest.store, "device_by_name") as slow:
            both = [rest.treq.put(BASE + PATH, json={"label": f"l{n}"}, headers=headers) for n in range(4)]
            rest.treq.flush()
        slow.arrive()
        rest.treq.flush()
        answers = await gatherResults(both)
        assert sorted(answer.code for answer in answers) == [200, 200, 200, 201]
        (row,) = [row for row in rest.dump()["device"] if "'pump'" in row]
        assert "'l3'" in row

    @pytest_twisted.ensureDeferred
    async def test_a_change_in_between_is_not_lost(self, rest: Rest) -> None:
        headers = {"X-Authorization": f"Bearer {rest.token}"}
        with Slow(rest.store, "device_by_name") as slow:
            putting = rest.treq.put(BASE + OLD, json={"label": "l"}, headers=headers)
            rest.treq.flush()
        result_of(rest.store.update_device(replace(rest.device, type="changed", version=2)))
        slow.arrive()
        rest.treq.flush()
        answer = await rest.treq.json_content(await putting)
        assert (answer["type"], answer["label"], answer["version"]) == ("changed", "l", 3)

    @pytest_twisted.ensureDeferred
    async def test_one_that_is_deleted_in_between_is_gone_and_the_next_request_makes_it_anew(self, rest: Rest) -> None:
        headers = {"X-Authorization": f"Bearer {rest.token}"}
        with Slow(rest.store, "device_by_name") as slow:
            putting = rest.treq.put(BASE + OLD, json={"label": "l"}, headers=headers)
            rest.treq.flush()
        await rest.ok("DELETE", f"/api/device/{rest.device.id}")
        slow.arrive()
        rest.treq.flush()
        assert (await putting).code == 404
        assert (await put(rest, {"label": "l"}, OLD))[0] == 201


class TestDeviceWithCredentials:
    @pytest_twisted.ensureDeferred
    async def test_the_same_credentials_close_no_connection(self, rest: Rest) -> None:
        link = rest.link()
        stored = await rest.ok("GET", f"/api/device/{rest.device.id}")
        for number, given in enumerate(({"credentialsId": "TOKEN100"}, {}, {"credentialsType": "ACCESS_TOKEN"})):
            body = {"device": stored | {"version": None}, "credentials": given}
            changed = await rest.ok("POST", "/api/device-with-credentials", body)
            assert changed["version"] == 2 + number
        assert link.closed == []
        body = {"device": changed, "credentials": {"credentialsId": "other"}}
        await rest.ok("POST", "/api/device-with-credentials", body)
        assert link.closed == [CloseReason.CREDENTIALS_CHANGED]
