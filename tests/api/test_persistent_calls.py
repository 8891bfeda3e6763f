"""Persistent calls over REST: accepted, read, listed, deleted, in the shapes that the wire has always had."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
import pytest_twisted
from fakes import EPOCH_MS, TENANT, FakeLink, device, result_of
from rest import Rest, leave
from twisted.internet.defer import Deferred, fail

from rpcbroker.core.calls import Step
from rpcbroker.core.errors import Unavailable
from rpcbroker.core.model import Authority

UNKNOWN = UUID(int=404)


@pytest.fixture
def rest() -> Rest:
    return Rest()


async def keep(rest: Rest, method: str = "set", *, path: str = "/api/rpc/twoway", **body: Any) -> str:
    """A persistent call; its id."""
    answer = await rest.ok("POST", rest.rpc(path), {"method": method, "persistent": True} | body)
    assert list(answer) == ["rpcId"]
    return str(answer["rpcId"])


async def kept(rest: Rest, rpc_id: str) -> Any:
    return await rest.ok("GET", f"/api/rpc/persistent/{rpc_id}")


class TestCalling:
    @pytest.mark.parametrize("base", ["/api/rpc", "/api/plugins/rpc"])
    @pytest.mark.parametrize("direction", ["oneway", "twoway"])
    @pytest_twisted.ensureDeferred
    async def test_the_answer_is_the_id_whether_the_device_is_there_or_not(
        self, rest: Rest, base: str, direction: str
    ) -> None:
        for _ in range(2):
            body = {"method": "set", "persistent": "true", "requestUUID": str(rest.new_uuid())}
            status, answer, headers = await rest.ask("POST", rest.rpc(f"{base}/{direction}"), body)
            assert (status, answer) == (200, {"rpcId": body["requestUUID"]})
            assert headers.getRawHeaders("x-rpc-id") == [body["requestUUID"]]
            rest.link()

    @pytest_twisted.ensureDeferred
    async def test_a_call_that_cannot_be_kept_is_503(self, rest: Rest) -> None:
        rest.store.calls.insert = lambda _: fail(Unavailable("The disk is full"))  # type: ignore[method-assign]
        link = rest.link()
        status, answer, headers = await rest.ask("POST", rest.rpc(), {"method": "set", "persistent": True})
        assert (status, answer["errorCode"], answer["message"]) == (503, 2, "The disk is full")
        assert headers.getRawHeaders("x-rpc-id")
        assert link.calls == []
        link.reply = b"1"
        assert await rest.ok("POST", rest.rpc(), {"method": "get"}) == 1

    @pytest_twisted.ensureDeferred
    async def test_an_expired_one_is_refused_and_kept(self, rest: Rest) -> None:
        body = {"method": "set", "persistent": True, "expirationTime": 1, "requestUUID": str(UUID(int=7))}
        status, answer, _ = await rest.ask("POST", rest.rpc(), body)
        assert (status, answer["reason"]) == (504, "EXPIRED")
        assert (await kept(rest, str(UUID(int=7))))["status"] == "EXPIRED"

    @pytest_twisted.ensureDeferred
    async def test_the_same_id_is_the_same_call_and_another_call_is_a_conflict(self, rest: Rest) -> None:
        link = rest.link()
        one = {"method": "set", "params": 1, "requestUUID": str(UUID(int=8)), "persistent": True}
        for _ in range(3):
            assert await rest.ok("POST", rest.rpc(), one) == {"rpcId": str(UUID(int=8))}
        assert len(link.calls) == 1
        for other in ({"params": 2}, {"method": "get"}, {"persistent": False}):
            status, answer, headers = await rest.ask("POST", rest.rpc(), one | other)
            assert (status, answer["errorCode"]) == (409, 35)
            assert headers.getRawHeaders("x-rpc-id") == [str(UUID(int=8))]
        status, answer, _ = await rest.ask("POST", rest.rpc("/api/rpc/oneway"), one)
        assert (status, answer["errorCode"]) == (409, 35)

    @pytest_twisted.ensureDeferred
    async def test_a_call_that_carries_an_id_goes_on_without_its_caller(self, rest: Rest) -> None:
        link = rest.link()
        leave(rest, "POST", rest.rpc(), {"method": "get", "requestUUID": str(UUID(int=9))})
        assert rest.broker.pending_count == 1
        assert [(entry.action, entry.failure) for entry in rest.audit()] == [("RPC_CALL", "")]
        result_of(Deferred.fromCoroutine(_reply(rest, link.calls[0].wire_id, b"5")))
        again = {"method": "get", "requestUUID": str(UUID(int=9))}
        assert await rest.ok("POST", rest.rpc(), again) == 5
        assert len(link.calls) == 1


async def _reply(rest: Rest, wire_id: int, payload: bytes) -> bool:
    settled = rest.session().receive(wire_id, payload)
    return settled if isinstance(settled, bool) else await settled


class TestReading:
    @pytest_twisted.ensureDeferred
    async def test_all_members_are_there_nulls_too(self, rest: Rest) -> None:
        rpc_id = await keep(rest, "setGpio", params={"pin": 7}, requestUUID="1-2-3-4-5")
        tenant = {"entityType": "TENANT", "id": str(TENANT)}
        of_device = {"entityType": "DEVICE", "id": str(rest.device.id)}
        assert await kept(rest, rpc_id) == {
            "id": {"entityType": "RPC", "id": rpc_id},
            "createdTime": EPOCH_MS,
            "tenantId": tenant,
            "deviceId": of_device,
            "expirationTime": EPOCH_MS + 10_000,
            "request": {
                "id": rpc_id,
                "tenantId": tenant,
                "deviceId": of_device,
                "oneway": False,
                "expirationTime": EPOCH_MS + 10_000,
                "body": {"method": "setGpio", "params": '{"pin":7}'},
                "persisted": True,
                "retries": None,
            },
            "response": None,
            "status": "QUEUED",
            "additionalInfo": None,
        }

    @pytest_twisted.ensureDeferred
    async def test_the_states_on_the_way_to_a_reply(self, rest: Rest) -> None:
        link = rest.link(step=None)
        rpc_id = await keep(rest, retries="2", additionalInfo={"why": [None]})
        assert (await kept(rest, rpc_id))["status"] == "QUEUED"
        for step, status in (("WRITTEN", "SENT"), ("ACKNOWLEDGED", "DELIVERED")):
            _report(rest, link, step)
            assert (await kept(rest, rpc_id))["status"] == status
        assert await _reply(rest, link.calls[0].wire_id, b'{"done": [true]}')
        rpc = await kept(rest, rpc_id)
        assert (rpc["status"], rpc["response"]) == ("SUCCESSFUL", {"done": [True]})
        assert (rpc["request"]["retries"], rpc["additionalInfo"]) == (2, {"why": [None]})

    @pytest_twisted.ensureDeferred
    async def test_one_that_nobody_takes_expires(self, rest: Rest) -> None:
        rpc_id = await keep(rest)
        rest.clock.advance(12)
        assert (await kept(rest, rpc_id))["status"] == "EXPIRED"

    @pytest_twisted.ensureDeferred
    async def test_what_is_unknown_or_not_persistent_is_404(self, rest: Rest) -> None:
        rest.link(reply=b"1")
        await rest.ok("POST", rest.rpc(), {"method": "get", "requestUUID": str(UUID(int=6))})
        for rpc_id in (UNKNOWN, UUID(int=6)):
            for method in ("GET", "DELETE"):
                status, answer, _ = await rest.ask(method, f"/api/rpc/persistent/{rpc_id}")
                assert (status, answer["errorCode"]) == (404, 32)
                assert answer["message"] == f"Rpc with id [{rpc_id}] is not found"
        assert await rest.refused("GET", "/api/rpc/persistent/xyz") == (400, "Invalid UUID string: xyz")


def _report(rest: Rest, link: FakeLink, step: str) -> None:
    rest.session().report(link.calls[-1].wire_id, Step[step])


class TestListing:
    def path(self, rest: Rest, query: str = "pageSize=10&page=0") -> str:
        return f"/api/rpc/persistent/device/{rest.device.id}?{query}"

    @pytest_twisted.ensureDeferred
    async def test_pages_in_an_order_and_by_state(self, rest: Rest) -> None:
        ids = []
        for number in range(3):
            ids.append(await keep(rest, f"method-{number}"))
            rest.clock.advance(1)
        page = await rest.ok("GET", self.path(rest, "pageSize=2&page=0&sortProperty=createdTime&sortOrder=desc"))
        assert [each["id"]["id"] for each in page["data"]] == ids[:0:-1]
        assert (page["totalPages"], page["totalElements"], page["hasNext"]) == (2, 3, True)
        page = await rest.ok("GET", self.path(rest, "pageSize=2&page=1&sortProperty=createdTime&sortOrder=DESC"))
        assert [each["id"]["id"] for each in page["data"]] == ids[:1]
        assert page["hasNext"] is False
        assert page["data"][0] == await kept(rest, ids[0])
        rest.link(reply=b"1")
        for status, found in (("SUCCESSFUL", 3), ("QUEUED", 0), ("", 3)):
            page = await rest.ok("GET", self.path(rest, f"pageSize=10&page=0&rpcStatus={status}"))
            assert page["totalElements"] == len(page["data"]) == found

    @pytest_twisted.ensureDeferred
    async def test_a_text_to_search_for_is_passed_over(self, rest: Rest) -> None:
        await keep(rest)
        page = await rest.ok("GET", self.path(rest, "pageSize=10&page=0&textSearch=nowhere"))
        assert page["totalElements"] == 1

    @pytest.mark.parametrize(
        ("query", "says"),
        [
            ("pageSize=0&page=0", "pageSize must be 1 to 1000"),
            ("page=0", "pageSize"),
            ("pageSize=x&page=0", "pageSize"),
            ("pageSize=1&page=-1", "page must be 0 or more"),
            ("pageSize=1&page=0&rpcStatus=DELETED", "DELETED"),
            ("pageSize=1&page=0&rpcStatus=queued", "queued"),
            ("pageSize=1&page=0&sortProperty=nothing", "sortProperty must be one of createdTime, expirationTime"),
            ("pageSize=1&page=0&sortOrder=x", "Unsupported sort order 'x'! Only 'ASC' or 'DESC' types are allowed."),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_bad_queries_are_400(self, rest: Rest, query: str, says: str) -> None:
        status, answer, _ = await rest.ask("GET", self.path(rest, query))
        assert (status, answer["errorCode"]) == (400, 31)
        assert says in answer["message"]

    @pytest_twisted.ensureDeferred
    async def test_an_unknown_device_is_404(self, rest: Rest) -> None:
        path = f"/api/rpc/persistent/device/{UNKNOWN}?pageSize=1&page=0"
        assert await rest.refused("GET", path) == (404, "Device with requested id wasn't found!")


class TestDeleting:
    @pytest_twisted.ensureDeferred
    async def test_a_call_that_goes_on_is_cancelled_and_gone(self, rest: Rest) -> None:
        rpc_id = await keep(rest)
        status, answer, _ = await rest.ask("DELETE", f"/api/rpc/persistent/{rpc_id}")
        assert (status, answer) == (200, None)
        for method in ("GET", "DELETE"):
            assert (await rest.ask(method, f"/api/rpc/persistent/{rpc_id}"))[0] == 404
        link = rest.link()
        assert link.calls == [], "it was not sent, and never is"
        line = await rest.ok("GET", f"/api/rpc/{rpc_id}/timeline")
        assert (line["state"], line["reason"]) == ("DELETED", "CANCELLED")
        entry = rest.audit()[1]
        assert (entry.action, entry.entity_type, str(entry.entity_id)) == ("DELETED", "RPC", rpc_id)
        assert entry.data["deviceId"] == str(rest.device.id)

    @pytest_twisted.ensureDeferred
    async def test_one_that_has_ended_is_gone(self, rest: Rest) -> None:
        rest.link(reply=b"1")
        rpc_id = await keep(rest)
        await rest.ask("DELETE", f"/api/rpc/persistent/{rpc_id}")
        assert (await rest.ask("GET", f"/api/rpc/persistent/{rpc_id}"))[0] == 404
        assert (await rest.ok("GET", f"/api/rpc/{rpc_id}/timeline"))["state"] == "SUCCESSFUL"

    @pytest_twisted.ensureDeferred
    async def test_it_is_for_administrators(self, rest: Rest) -> None:
        rpc_id = await keep(rest)
        status, answer, _ = await rest.ask("DELETE", f"/api/rpc/persistent/{rpc_id}", token=rest.customer_token)
        assert (status, answer["errorCode"]) == (403, 20)
        assert (await rest.ask("GET", f"/api/rpc/persistent/{rpc_id}", token=rest.sys_token))[0] == 403
        assert (await kept(rest, rpc_id))["status"] == "QUEUED"


@pytest_twisted.ensureDeferred
async def test_a_customer_s_user_reads_those_of_the_customer_s_devices(rest: Rest) -> None:
    """Whoever was told an id of another one's call gets no more than of one that nobody has."""
    customer = rest.add_customer("one")
    token = rest.add_user("one@example.org", Authority.CUSTOMER_USER, customer=customer.id)
    rest.add(device(200, customer_id=customer.id))
    body = {"method": "set", "persistent": True}
    foreign = (await rest.ok("POST", rest.rpc(), body))["rpcId"]
    own = (await rest.ok("POST", rest.rpc(device_id=UUID(int=200)), body, token=token))["rpcId"]
    for path in ("/api/rpc/persistent/{}", "/api/rpc/{}/timeline"):
        assert (await rest.ask("GET", path.format(own), token=token))[0] == 200
        assert (await rest.ask("GET", path.format(foreign), token=token))[0] == 404
    assert (await rest.ask("DELETE", f"/api/rpc/{foreign}", token=token))[0] == 404
    assert (await kept(rest, foreign))["status"] == "QUEUED"
