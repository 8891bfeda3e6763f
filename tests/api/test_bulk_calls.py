"""One request for many devices, over REST."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_twisted
from fakes import CUSTOMER, OTHER_TENANT, FakeLink, device, result_of
from rest import BASE, Rest
from test_event_stream import decoded

from rpcbroker.core.bulk import BulkState, EntryState, Why
from rpcbroker.core.model import Authority

PATH = "/api/rpc/bulk"
BULK = "b0b0b0b0-0000-4000-8000-000000000001"
EVENTS = {"Accept": "text/event-stream"}
DOCS = (Path(__file__).parent.parent.parent / "docs" / "bulk.md").read_text()


class Lamps(Rest):
    """Three lamps: one works, one says that it cannot, one is offline."""

    def __init__(self, *, replies: tuple[bytes | None, ...] = (b'{"state":"ok"}', b'{"error":"no space"}')) -> None:
        super().__init__()
        self.lamps = [device(200 + number, type="lamp") for number in range(3)]
        for each in self.lamps:
            self.add(each)
        self.links: list[FakeLink] = [
            self.link(each, reply=reply) for each, reply in zip(self.lamps, replies, strict=False)
        ]

    def body(self, **more: Any) -> dict[str, Any]:
        request = {"method": "update", "params": {"version": "1.4.2"}, "connectTimeout": 0}
        return {"devices": [str(each.id) for each in self.lamps], "request": request, "requestUUID": BULK} | more

    async def begin(self, **more: Any) -> str:
        made: str = (await self.ok("POST", PATH, self.body(**more)))["bulkId"]
        return made

    def called(self) -> list[int]:
        return [len(link.calls) for link in self.links]

    async def key(self, **scope: Any) -> str:
        """An API key of the administrator."""
        made = await self.ok("POST", "/api/apiKey", {"description": "deploys", "scope": scope})
        return f"ApiKey {made['value']}"


def example(title: str) -> Any:
    """What docs/bulk.md shows under this comment."""
    match = re.search(rf"<!-- {title} -->\n```json\n(.*?)\n```", DOCS, re.DOTALL)
    assert match, title
    return json.loads(match[1])


# -- what the manual shows


@pytest_twisted.ensureDeferred
async def test_the_examples_of_the_manual() -> None:
    rest = Lamps()
    asked = example("request")
    assert asked["request"] == rest.body()["request"]
    assert await rest.ok("POST", PATH, asked) == example("accepted")
    assert await rest.ok("GET", f"{PATH}/{BULK}?pageSize=10") == example("results")
    assert await rest.ok("GET", f"{PATH}?pageSize=10") == example("list")
    status, text, _ = await rest.ask("GET", f"{PATH}/{BULK}", headers=EVENTS)
    match = re.search(r"<!-- events -->\n```text\n(.*?)```", DOCS, re.DOTALL)
    assert match
    assert (status, decoded(text)) == (200, decoded(match[1]))


@pytest_twisted.ensureDeferred
async def test_the_example_of_an_aborted_bulk() -> None:
    rest = Lamps(replies=(None, b"1"))
    await rest.begin(concurrency=1)
    assert await rest.ok("DELETE", f"{PATH}/{BULK}") == example("aborted")


@pytest_twisted.ensureDeferred
async def test_the_example_of_unknown_devices() -> None:
    rest = Lamps()
    devices = [str(rest.lamps[0].id), str(UUID(int=0xDEAD))]
    status, answer, _ = await rest.ask("POST", PATH, rest.body(devices=devices))
    assert (status, answer) == (400, example("unknown"))
    assert rest.called() == [0, 0]


@pytest_twisted.ensureDeferred
async def test_a_stream_that_the_servers_stop_ends_says_so_and_not_that_the_bulk_is_done() -> None:
    rest = Lamps()
    lamp = str(rest.lamps[2].id)
    await rest.begin(devices=[lamp], request={"method": "update", "persistent": True, "timeout": 60_000})
    following = rest.treq.get(f"{BASE}{PATH}/{BULK}", headers=EVENTS | {"X-Authorization": f"Bearer {rest.token}"})
    rest.treq.flush()
    rest.bulks.stop()
    rest.treq.flush()
    response = await following
    ((name, data),) = decoded(await rest.treq.text_content(response))
    assert (name, json.loads(data)["reason"]) == ("error", "SHUTTING_DOWN")


def test_every_word_of_a_state_stands_in_the_manual() -> None:
    for word in (*BulkState, *EntryState, *Why):
        assert f"`{word.value}`" in DOCS


# -- lists and pages


@pytest_twisted.ensureDeferred
async def test_results_by_page_and_by_state() -> None:
    rest = Lamps()
    await rest.begin()
    page = (await rest.ok("GET", f"{PATH}/{BULK}?pageSize=2&page=1"))["results"]
    assert ([each["deviceName"] for each in page["data"]], page["totalElements"], page["hasNext"]) == (
        ["device-202"],
        3,
        False,
    )
    failed = (await rest.ok("GET", f"{PATH}/{BULK}?state=FAILED"))["results"]["data"]
    assert [each["reason"] for each in failed] == ["DEVICE_ERROR", "NEVER_CONNECTED"]
    assert (await rest.refused("GET", f"{PATH}/{BULK}?state=LOST"))[0] == 400
    assert (await rest.refused("GET", f"{PATH}/{BULK}?pageSize=0"))[0] == 400
    assert (await rest.refused("GET", f"{PATH}?pageSize=1001"))[0] == 400
    assert await rest.refused("GET", f"{PATH}/{UUID(int=9)}") == (404, f"Bulk with id [{UUID(int=9)}] is not found")


@pytest_twisted.ensureDeferred
async def test_the_newest_bulk_comes_first() -> None:
    rest = Lamps()
    await rest.begin(requestUUID=None)
    rest.clock.advance(1)
    await rest.begin()
    listed = await rest.ok("GET", PATH)
    assert [each["bulkId"] == BULK for each in listed["data"]] == [True, False]


@pytest_twisted.ensureDeferred
async def test_the_same_again_gets_the_same_answer_and_other_content_is_a_conflict() -> None:
    rest = Lamps()
    assert [await rest.begin() for _ in range(2)] == [BULK, BULK]
    assert rest.called() == [1, 1]
    status, answer, _ = await rest.ask("POST", PATH, rest.body(canary=1))
    assert (status, answer["errorCode"]) == (409, 35)


# -- events


@pytest_twisted.ensureDeferred
async def test_events_come_as_devices_answer() -> None:
    rest = Lamps(replies=(None, None))
    await rest.begin(devices=[str(each.id) for each in rest.lamps[:2]])
    read: list[bytes] = []
    headers = {"X-Authorization": f"Bearer {rest.token}"} | EVENTS
    waiting = rest.treq.request("GET", f"{BASE}{PATH}/{BULK}", headers=headers)
    rest.treq.flush()
    response = result_of(waiting)
    ended = rest.treq.collect(response, read.append)

    def events() -> list[tuple[str, Any]]:
        rest.treq.flush()
        text = b"".join(read).decode()
        read.clear()
        return [(name, json.loads(data)) for name, data in decoded(text)]

    assert events() == []
    for number in (1, 0):
        link = rest.links[number]
        link.session.receive(link.calls[0].wire_id, b"%d" % number)
        (told, *last) = events()
        assert told[0] == "result"
        assert (told[1]["deviceName"], told[1]["response"]) == (f"device-{200 + number}", number)
    assert [(name, counts["successful"]) for name, counts in last] == [("done", 2)]
    result_of(ended)


# -- bad input


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"devices": None}, "exactly one of devices, type and customerId"),
        ({"type": "lamp"}, "exactly one of devices, type and customerId"),
        ({"devices": ["x"]}, "$.devices[0]"),
        ({"devices": "x"}, "$.devices"),
        ({"devices": []}, None),
        ({"devices": None, "type": " "}, "type should be specified"),
        ({"devices": None, "type": "none"}, "no such devices"),
        ({"devices": None, "customerId": str(CUSTOMER)}, "no such devices"),
        ({"request": None}, "$.request"),
        ({"request": {}}, "method"),
        ({"request": {"method": "a\x00"}}, "method must have"),
        ({"request": {"method": "m", "requestUUID": BULK}}, "requestUUID belongs beside"),
        ({"request": {"method": "m", "timeout": "soon"}}, "$.request.timeout"),
        ({"request": {"method": "m", "submitStrategy": "FAST"}}, "submitStrategy"),
        ({"rate": "fast"}, "rate must be a rate"),
        ({"rate": "0:1"}, "rate must be a rate"),
        ({"rate": 5}, "$.rate"),
        ({"concurrency": 0}, "concurrency must be 1 to 1000"),
        ({"concurrency": 1001}, "concurrency must be 1 to 1000"),
        ({"canary": -1}, "$.canary"),
        ({"abortAfterFailures": 0}, "abortAfterFailures must be 1 or more"),
        ({"ignoreUnknown": "yes"}, "$.ignoreUnknown"),
        ({"requestUUID": "x"}, "$.requestUUID"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_bad_input_names_the_member_and_no_device_is_called(more: dict[str, Any], says: str | None) -> None:
    rest = Lamps()
    status, answer, _ = await rest.ask("POST", PATH, rest.body(**more))
    if says is None:  # no devices are none that could be called
        assert (status, answer) == (200, {"bulkId": BULK})
    else:
        assert (status, answer["errorCode"]) == (400, 31)
        assert says in answer["message"]
    assert rest.called() == [0, 0]


@pytest_twisted.ensureDeferred
async def test_unknown_devices_can_be_left_out() -> None:
    rest = Lamps()
    rest.add(device(400, tenant=OTHER_TENANT))
    devices = [str(UUID(int=400)), str(rest.lamps[0].id), str(UUID(int=9999))]
    assert (await rest.refused("POST", PATH, rest.body(devices=devices)))[0] == 400
    await rest.begin(devices=devices, ignoreUnknown=True)
    results = (await rest.ok("GET", f"{PATH}/{BULK}"))["results"]["data"]
    assert [each["deviceId"] for each in results] == [devices[1]]


# -- rights


@pytest.mark.parametrize(
    ("scope", "status"),
    [
        ({"access": "READ"}, 403),
        ({"access": "CALL"}, 200),
        ({"access": "CALL", "methods": ["get*"]}, 403),
        ({"access": "CALL", "methods": ["up*"]}, 200),
        ({"access": "CALL", "twoway": False}, 403),
        ({"access": "CALL", "deviceIds": [str(UUID(int=200))]}, 400),
        ({"access": "CALL", "deviceTypes": ["lamp"]}, 200),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_an_api_key_may_call(scope: dict[str, Any], status: int) -> None:
    rest = Lamps()
    key = await rest.key(**scope)
    assert (await rest.ask("POST", PATH, rest.body(), token=key))[0] == status
    assert sum(rest.called()) == (2 if status == 200 else 0)
    if status == 200:
        assert (await rest.ok("GET", f"{PATH}/{BULK}", token=key))["by"] == "deploys"


@pytest_twisted.ensureDeferred
async def test_a_system_administrator_calls_no_devices() -> None:
    rest = Lamps()
    assert (await rest.ask("POST", PATH, rest.body(), token=rest.sys_token))[0] == 403


@pytest_twisted.ensureDeferred
async def test_a_customers_user_calls_its_devices_and_sees_what_it_made() -> None:
    rest = Lamps()
    rest.add(device(300, customer_id=CUSTOMER))
    mine = rest.add_user("cu@example.org", Authority.CUSTOMER_USER, customer=CUSTOMER)
    other = rest.add_user("cu2@example.org", Authority.CUSTOMER_USER, customer=CUSTOMER)
    assert (await rest.ask("POST", PATH, rest.body(), token=mine))[0] == 400
    body = rest.body(devices=None, customerId=str(CUSTOMER))
    await rest.ok("POST", PATH, body, token=mine)
    seen = {
        name: (await rest.ask("GET", f"{PATH}/{BULK}", token=token))[0]
        for name, token in {"mine": mine, "other": other, "admin": rest.token}.items()
    }
    assert seen == {"mine": 200, "other": 404, "admin": 200}
    assert (await rest.ok("GET", PATH, token=other))["data"] == []
    assert (await rest.ask("DELETE", f"{PATH}/{BULK}", token=other))[0] == 404
    assert (await rest.ok("DELETE", f"{PATH}/{BULK}", token=mine))["state"] == "DONE"


@pytest_twisted.ensureDeferred
async def test_the_audit_log_has_the_bulk_and_its_end() -> None:
    rest = Lamps(replies=(None,))
    await rest.begin()
    await rest.ok("DELETE", f"{PATH}/{BULK}")
    made, aborted = rest.audit()
    assert (made.action, made.entity_type, str(made.entity_id), made.entity_name) == ("ADDED", "BULK", BULK, "update")
    assert made.data["devices"] == 3
    assert "params" not in made.data
    assert (aborted.action, aborted.data["state"]) == ("UPDATED", "ABORTED")


@pytest_twisted.ensureDeferred
async def test_too_many_bulks_at_once_are_refused_with_a_time_to_wait() -> None:
    rest = Lamps(replies=(None,))
    for _ in range(10):
        await rest.begin(requestUUID=None, devices=[str(rest.lamps[0].id)])
    status, answer, headers = await rest.ask("POST", PATH, rest.body())
    assert (status, answer["errorCode"]) == (429, 33)
    assert headers.getRawHeaders("retry-after") == ["10"]
