"""What became of calls, over REST: lists, time lines, cancelling."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
import pytest_twisted
from fakes import EPOCH_MS
from rest import BASE, Rest

ID = UUID(int=7)


@pytest.fixture
def rest() -> Rest:
    return Rest()


def begin(rest: Rest, **body: Any) -> Any:
    """A call that is on its way; what comes back fires with the response."""
    waiting = rest.treq.request(
        "POST",
        BASE + rest.rpc(),
        json={"method": "get", "requestUUID": str(ID)} | body,
        headers={"X-Authorization": f"Bearer {rest.token}"},
    )
    rest.treq.flush()
    return waiting


@pytest_twisted.ensureDeferred
async def test_a_call_that_waits_can_be_cancelled_and_its_caller_is_told(rest: Rest) -> None:
    waiting = begin(rest)
    answer = await rest.ok("DELETE", f"/api/rpc/{ID}")
    assert answer == {"rpcId": str(ID), "cancelled": True, "deliveredBefore": False, "deviceTold": False}
    rest.treq.flush()
    response = await waiting
    assert response.code == 503
    assert (await rest.treq.json_content(response))["reason"] == "CANCELLED"
    assert (await rest.ok("DELETE", f"/api/rpc/{ID}"))["cancelled"] is False
    entries = [entry for entry in rest.audit() if entry.action == "DELETED"]
    assert [entry.data["cancelled"] for entry in entries] == [True, False]
    assert {(entry.entity_type, entry.entity_id, entry.entity_name) for entry in entries} == {("RPC", ID, "get")}
    assert entries[0].data["deviceId"] == str(rest.device.id)


@pytest_twisted.ensureDeferred
async def test_the_time_line_counts_from_when_the_call_was_accepted(rest: Rest) -> None:
    begin(rest, timeout=20_000)
    rest.clock.advance(1.5)
    rest.link(reply=b'{"error":"no such pin"}')
    line = await rest.ok("GET", f"/api/rpc/{ID}/timeline")
    assert (line["rpcId"], line["deviceId"], line["deviceName"]) == (str(ID), str(rest.device.id), rest.device.name)
    assert (line["state"], line["reason"], line["deviceError"]) == ("SUCCESSFUL", None, True)
    assert (line["createdTime"], line["endedTime"]) == (EPOCH_MS, EPOCH_MS + 1_500)
    assert line["steps"][0] == {"ts": EPOCH_MS, "ms": 0, "step": "accepted", "detail": "from Admin@example.org"}
    last = line["steps"][-1]
    assert (last["ts"], last["ms"], last["step"]) == (EPOCH_MS + 1_500, 1_500, "answered")
    assert line["omitted"] == 0


@pytest_twisted.ensureDeferred
async def test_a_time_before_all_times_is_told_as_the_document_says_that_times_are(rest: Rest) -> None:
    status, answer, _ = await rest.ask("POST", rest.rpc(), {"method": "get", "expirationTime": -5, "persistent": True})
    assert (status, answer["reason"]) == (504, "EXPIRED")
    assert "or no number" in answer["hint"]
    (told,) = (await rest.ok("GET", "/api/rpc"))["data"]
    assert told["expirationTime"] == 0


@pytest_twisted.ensureDeferred
async def test_lists_have_what_time_lines_have_without_the_steps(rest: Rest) -> None:
    rest.link(reply=b"1")
    for number in range(3):
        await rest.ok("POST", rest.rpc(), {"method": f"m{number}", "persistent": number == 1})
        rest.clock.advance(1)
    page = await rest.ok("GET", "/api/rpc")
    assert [each["method"] for each in page["data"]] == ["m2", "m1", "m0"]
    assert [each["persistent"] for each in page["data"]] == [False, True, False]
    assert (page["totalPages"], page["totalElements"], page["hasNext"]) == (1, 3, False)
    for each in page["data"]:
        line = await rest.ok("GET", f"/api/rpc/{each['rpcId']}/timeline")
        assert {name: value for name, value in line.items() if name not in ("steps", "omitted")} == each
    path = f"/api/rpc?deviceId={rest.device.id}&state=SUCCESSFUL&method=m1&since={EPOCH_MS}&pageSize=1&page=0"
    assert [each["method"] for each in (await rest.ok("GET", path))["data"]] == ["m1"]


@pytest.mark.parametrize(
    ("query", "status", "says"),
    [
        ("pageSize=0", 400, "pageSize must be 1 to 1000"),
        ("pageSize=1001", 400, "pageSize must be 1 to 1000"),
        ("page=-1", 400, "page must be 0 or more"),
        ("page=100", 400, "Only the newest 10000"),
        ("state=queued", 400, "queued"),
        ("since=-1", 400, "since"),
        ("since=x", 400, "since"),
        ("deviceId=x", 400, "deviceId"),
        (f"deviceId={UUID(int=5)}", 404, "Device with requested id wasn't found!"),
        ("method=%00", 400, "method"),
        (f"method={'x' * 256}", 400, "method"),
        ("method=", 200, None),
    ],
)
@pytest_twisted.ensureDeferred
async def test_bad_queries(rest: Rest, query: str, status: int, says: str | None) -> None:
    found, answer, _ = await rest.ask("GET", f"/api/rpc?{query}")
    assert found == status, answer
    if says is not None:
        assert says in answer["message"]


@pytest.mark.parametrize("path", ["/api/rpc/{}", "/api/rpc/{}/timeline"])
@pytest_twisted.ensureDeferred
async def test_ids_in_the_path(rest: Rest, path: str) -> None:
    method = "GET" if path.endswith("timeline") else "DELETE"
    assert await rest.refused(method, path.format("xyz")) == (400, "Invalid UUID string: xyz")
    assert await rest.refused(method, path.format(ID)) == (404, f"Rpc with id [{ID}] is not found")


@pytest_twisted.ensureDeferred
async def test_what_a_call_was_about_is_told_to_nobody_who_asks_for_its_record(rest: Rest) -> None:
    rest.link(reply=b'"secret-reply"')
    await rest.ok("POST", rest.rpc(), {"method": "m", "params": "secret-param", "requestUUID": str(ID)})
    for path in ("/api/rpc", f"/api/rpc/{ID}/timeline"):
        assert "secret" not in str(await rest.ok("GET", path))
