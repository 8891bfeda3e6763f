"""Boards over REST: whose they are, what may be on them, and the changes of presence that pages draw."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from fakes import CUSTOMER, TENANT, device, result_of
from rest import NULL_UUID, Rest

from rpcbroker.core.boards import MAX_CONTENT
from rpcbroker.core.model import Authority
from rpcbroker.core.presence import PresenceChange

WIDGET = {
    "id": "1",
    "type": "switch",
    "title": "Lamp <b>",
    "deviceId": None,
    "settings": {"method": "setValue", "any": [1, {"deep": None}]},
    "x": 0,
    "y": 2,
    "w": 3,
    "h": 4,
}


def body(title: str = "Hall", **more: Any) -> dict[str, Any]:
    return {"title": title, "content": {"widgets": [WIDGET]}} | more


def ref(kind: str, id_: Any) -> dict[str, str]:
    return {"entityType": kind, "id": str(id_)}


class Boards(Rest):
    """With a customer that has a device, and a user of it."""

    def __init__(self) -> None:
        super().__init__()
        self.theirs = device(200, customer_id=CUSTOMER)
        self.add(self.theirs)
        self.user_token = self.add_user("op@example.org", Authority.CUSTOMER_USER, customer=CUSTOMER)

    async def titles(self, query: str = "", **more: Any) -> list[str]:
        page = await self.ok("GET", f"/api/boards?pageSize=100{query}", **more)
        assert all("content" not in each for each in page["data"])
        return [each["title"] for each in page["data"]]


@pytest.fixture
def world() -> Boards:
    return Boards()


@pytest_twisted.ensureDeferred
async def test_made_read_changed_deleted_and_recorded(world: Boards) -> None:
    made = await world.ok("POST", "/api/boards", body(deviceId=ref("DEVICE", world.device.id)))
    path = f"/api/board/{made['id']['id']}"
    assert made["id"]["entityType"] == "BOARD"
    assert made["content"] == {"widgets": [WIDGET]}
    assert (made["tenantId"]["id"], made["customerId"]["id"]) == (str(TENANT), NULL_UUID)
    assert (made["deviceId"], made["version"]) == (ref("DEVICE", world.device.id), 1)
    assert await world.ok("GET", path) == made
    world.clock.advance(1)
    changed = await world.ok("PUT", path, {"title": " Yard ", "version": 1})
    assert (changed["title"], changed["version"], changed["content"]) == ("Yard", 2, {"widgets": []})
    assert changed["deviceId"] is None
    assert (changed["createdTime"], changed["updatedTime"]) == (made["createdTime"], made["updatedTime"] + 1000)
    assert await world.titles() == ["Yard"]
    await world.ok("DELETE", path)
    assert (await world.refused("GET", path))[0] == 404
    told = [(each.action, each.entity_type, each.entity_name) for each in world.audit()]
    assert told[-3:] == [("ADDED", "BOARD", "Hall"), ("UPDATED", "BOARD", "Hall"), ("DELETED", "BOARD", "Yard")]


@pytest_twisted.ensureDeferred
async def test_two_who_change_one_at_a_time_do_not_undo_each_other(world: Boards) -> None:
    made = await world.ok("POST", "/api/boards", body())
    path = f"/api/board/{made['id']['id']}"
    await world.ok("PUT", path, body("first", version=1))
    assert (await world.refused("PUT", path, body("second", version=1)))[0] == 409
    assert (await world.ok("GET", path))["title"] == "first"


@pytest_twisted.ensureDeferred
async def test_users_of_a_customer_have_those_of_their_customer(world: Boards) -> None:
    tenants = await world.ok("POST", "/api/boards", body("of the tenant"))
    given = await world.ok("POST", "/api/boards", body("given", customerId=ref("CUSTOMER", CUSTOMER)))
    mine = await world.ok("POST", "/api/boards", body("mine"), token=world.user_token)
    assert mine["customerId"]["id"] == str(CUSTOMER)
    assert await world.titles(token=world.user_token) == ["given", "mine"]
    assert await world.titles() == ["of the tenant", "given", "mine"]
    for path in (f"/api/board/{tenants['id']['id']}", f"/api/board/{tenants['tenantId']['id']}"):
        for method, sent in (("GET", None), ("PUT", body()), ("DELETE", None)):
            assert (await world.refused(method, path, sent, token=world.user_token))[0] == 404
    path = f"/api/board/{given['id']['id']}"
    other = world.add_customer("another")
    refused = await world.refused("PUT", path, body(customerId=ref("CUSTOMER", other.id)), token=world.user_token)
    assert refused[0] == 404
    assert (await world.ok("PUT", path, body("changed"), token=world.user_token))["customerId"]["id"] == str(CUSTOMER)
    taken = await world.ok("PUT", path, body("taken back"))
    assert taken["customerId"]["id"] == NULL_UUID
    assert await world.titles(token=world.user_token) == ["mine"]


@pytest_twisted.ensureDeferred
async def test_its_device_has_to_be_there_for_who_names_it(world: Boards) -> None:
    foreign = body(deviceId=ref("DEVICE", world.device.id))
    assert (await world.refused("POST", "/api/boards", foreign, token=world.user_token))[0] == 404
    given = await world.ok("POST", "/api/boards", foreign | {"customerId": ref("CUSTOMER", CUSTOMER)})
    kept = await world.ok("PUT", f"/api/board/{given['id']['id']}", foreign, token=world.user_token)
    assert kept["deviceId"] == ref("DEVICE", world.device.id)
    mine = await world.ok(
        "POST", "/api/boards", body("mine", deviceId=ref("DEVICE", world.theirs.id)), token=world.user_token
    )
    assert mine["deviceId"]["id"] == str(world.theirs.id)
    assert await world.titles(f"&deviceId={world.theirs.id}") == ["mine"]
    assert await world.titles(f"&deviceId={TENANT}") == []


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({}, "title"),
        (body("  "), "Board title"),
        (body("x" * 256), "Board title"),
        (body(content={"widgets": [WIDGET | {"x": -1}]}), "x"),
        (body(content={"widgets": [WIDGET | {"w": 0}]}), "w"),
        (body(content={"widgets": [WIDGET | {"title": 5}]}), "title"),
        (body(content={"widgets": [WIDGET | {"settings": []}]}), "settings"),
        (body(content={"widgets": [{"id": "1"}]}), "type"),
        (body(content={"widgets": {}}), "widgets"),
        (body(content=[]), "content"),
        (body(content={"widgets": [WIDGET | {"settings": {"a": "x" * MAX_CONTENT}}]}), "262144 bytes"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_no_board_is_refused_with_what_is_wrong(world: Boards, sent: Any, words: str) -> None:
    status, message = await world.refused("POST", "/api/boards", sent)
    assert status == 400
    assert words in message
    assert await world.titles() == []


@pytest_twisted.ensureDeferred
async def test_keys_to_some_devices_know_no_boards_and_those_to_read_make_none(world: Boards) -> None:
    await world.ok("POST", "/api/boards", body("of the tenant"))
    await world.ok("POST", "/api/boards", body("given", customerId=ref("CUSTOMER", CUSTOMER)))

    async def key(**scope: Any) -> str:
        made = await world.ok("POST", "/api/apiKey", {"description": "k", "scope": scope})
        return f"ApiKey {made['value']}"

    some = await key(access="CALL", deviceIds=[str(world.device.id)])
    assert await world.titles(token=some) == []
    assert (await world.refused("POST", "/api/boards", body(), token=some))[0] == 403
    customers = await key(access="READ", customerId=ref("CUSTOMER", CUSTOMER))
    assert await world.titles(token=customers) == ["given"]
    reader = await key(access="READ")
    assert await world.titles(token=reader) == ["of the tenant", "given"]
    assert (await world.refused("POST", "/api/boards", body(), token=reader))[0] == 403


@pytest_twisted.ensureDeferred
async def test_how_presence_changed_is_told_if_it_is_asked_for(world: Boards) -> None:
    path = f"/api/device/{world.device.id}/presence"
    assert "changes" not in await world.ok("GET", path)
    assert (await world.ok("GET", f"{path}?since=0"))["changes"] == []
    gone = PresenceChange(device_id=world.device.id, time=7, connected=False, callable=False, cause="it has left")
    result_of(world.store.save_presence([], [gone]))
    told = await world.ok("GET", f"{path}?since=8")
    assert told["changes"] == [{"time": 7, "connected": False, "callable": False, "cause": "it has left"}]
    assert told["connected"]["value"] is False
    assert (await world.refused("GET", f"{path}?since=x"))[0] == 400
    assert (await world.refused("GET", f"{path}?since=0", token=world.user_token))[0] == 404
