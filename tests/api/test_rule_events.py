"""What nodes recorded, over REST, and scripts that are tried out."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_twisted
from fakes import OTHER_TENANT, TENANT, result_of, tenant
from rest import Rest
from rule_world import REPLY, graph

from rpcbroker.core.model import Authority

FAR = 4_000_000_000_000
PATH = "/api/events/RULE_NODE"


def recording(rest: Rest) -> str:
    """The id of a node that records all: messages fail in it."""
    given = graph([(REPLY, "Reply", {})])
    given["nodes"][0]["debugSettings"] = {"allEnabledUntil": FAR}
    active = rest.rules.chains.active(TENANT, rest.put(given))
    assert active is not None
    return str(active.nodes[0].id)


def send(rest: Rest, type_: str, data: bytes = b"{}") -> None:
    rest.rules.engine.begin(TENANT, rest.rules.messages.of_device(rest.device, type_, data, {}))
    rest.clock.advance(1)


async def events(rest: Rest, node_id: str, query: str = "", type_: str = "") -> list[Any]:
    page = await rest.ok("GET", f"{PATH}/{node_id}{type_}?pageSize=100{query}")
    assert page["totalElements"] == len(page["data"])
    return [(each["body"]["type"], each["body"]["msgType"]) for each in page["data"]]


@pytest_twisted.ensureDeferred
async def test_an_event_is_what_thingsboard_makes_of_it() -> None:
    rest = Rest()
    node_id = recording(rest)
    now = rest.now_ms()
    send(rest, "A", b'{"t":1}')
    page = await rest.ok("GET", f"{PATH}/{node_id}?tenantId={TENANT}&pageSize=10&page=0")
    went, came = page["data"]
    body = {
        "server": "rpcbroker",
        "type": "IN",
        "entityId": str(rest.device.id),
        "entityType": "DEVICE",
        "msgId": came["body"]["msgId"],
        "msgType": "A",
        "dataType": "JSON",
        "data": '{"t":1}',
        "metadata": '{"deviceName":"device-100","deviceType":"default"}',
    }
    assert came == {
        "id": {"id": came["uid"]},
        "uid": came["uid"],
        "tenantId": {"entityType": "TENANT", "id": str(TENANT)},
        "type": "DEBUG_RULE_NODE",
        "entityId": {"entityType": "RULE_NODE", "id": node_id},
        "createdTime": now,
        "body": body,
    }
    error = {"relationType": "Failure", "error": "Request id is not present in the metadata!"}
    assert went["body"] == body | {"type": "OUT"} | error


@pytest_twisted.ensureDeferred
async def test_events_are_chosen_by_time_text_type_and_page() -> None:
    rest = Rest()
    node_id = recording(rest)
    start = rest.now_ms()
    for type_ in ("A", "B", "C"):
        send(rest, type_)
    both = [(direction, type_) for type_ in "CBA" for direction in ("OUT", "IN")]
    assert await events(rest, node_id) == both
    assert await events(rest, node_id, "&sortOrder=ASC&sortProperty=createdTime") == both[::-1]
    assert await events(rest, node_id, f"&startTime={start + 1_000}&endTime={start + 1_999}") == both[2:4]
    assert await events(rest, node_id, "&textSearch=REQUEST%20ID") == both[::2]
    assert await events(rest, node_id, type_="/DEBUG_RULE_NODE") == both
    assert await events(rest, node_id, type_="/LC_EVENT") == []
    page = await rest.ok("GET", f"{PATH}/{node_id}?pageSize=4&page=1")
    assert [each["body"]["type"] for each in page["data"]] == ["OUT", "IN"]
    assert (page["totalElements"], page["totalPages"], page["hasNext"]) == (6, 2, False)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/events/DEVICE/{node}?pageSize=1", 400),
        ("/api/events/RULE_NODE/{node}/OTHER?pageSize=1", 400),
        ("/api/events/RULE_NODE/{node}", 400),
        ("/api/events/RULE_NODE/{node}?pageSize=0", 400),
        ("/api/events/RULE_NODE/{node}?pageSize=1&startTime=x", 400),
        ("/api/events/RULE_NODE/{node}?pageSize=1&sortProperty=body", 400),
        ("/api/events/RULE_NODE/x?pageSize=1", 400),
        ("/api/events/RULE_NODE/deadbeef-0000-4000-8000-000000000000?pageSize=1", 404),
    ],
)
@pytest_twisted.ensureDeferred
async def test_questions_for_events_that_make_no_sense(path: str, status: int) -> None:
    rest = Rest()
    found, _ = await rest.refused("GET", path.format(node=recording(rest)))
    assert found == status


@pytest_twisted.ensureDeferred
async def test_events_are_only_ones_own() -> None:
    rest = Rest()
    node_id = recording(rest)
    send(rest, "A")
    result_of(rest.store.people.create_tenant(tenant(OTHER_TENANT.int)))
    token = rest.add_user("other@example.org", Authority.TENANT_ADMIN, tenant=OTHER_TENANT)
    status, message = await rest.refused("GET", f"{PATH}/{node_id}?pageSize=9&tenantId={TENANT}", token=token)
    assert (status, message) == (404, f"Rule node with id [{node_id}] is not found")
    assert (await rest.refused("GET", f"{PATH}/{node_id}?pageSize=9", token=rest.customer_token))[0] == 403


@pytest_twisted.ensureDeferred
async def test_a_node_that_records_failures_by_rest_and_shows_them() -> None:
    rest = Rest()
    made = await rest.ok("POST", "/api/ruleChain", {"name": "mine"})
    node = {"type": REPLY, "name": "Reply", "debugSettings": {"failuresEnabled": True}}
    given = {"ruleChainId": made["id"], "firstNodeIndex": 0, "nodes": [node]}
    saved = await rest.ok("POST", "/api/ruleChain/metadata", given)
    await rest.ok("POST", f"/api/ruleChain/{made['id']['id']}/root")
    send(rest, "A")
    assert await events(rest, saved["nodes"][0]["id"]["id"]) == [("OUT", "A")]


# -- scripts


def script(rest: Rest, source: str, gives: Any) -> str:
    def run(*values: Any) -> Any:
        return gives(*values) if callable(gives) else gives

    rest.scripts.known[source] = run
    return source


async def tried(rest: Rest, kind: str, source: str, lang: str = "JS", **more: Any) -> tuple[str, str]:
    body = {"script": source, "scriptType": kind, "msg": '{"t":1}', "metadata": {"k": "v"}, "msgType": "A"}
    answer = await rest.ok("POST", f"/api/ruleChain/testScript?scriptLang={lang}", body | more)
    return answer["output"], answer["error"]


@pytest.mark.parametrize(
    ("kind", "gives", "output"),
    [
        ("filter", True, "true"),
        ("filter", False, "false"),
        ("switch", ["a", "b", "a"], '["a","b"]'),
        ("switch", [], "[]"),
        ("json", {"x": [1, None]}, '{"x":[1,null]}'),
        ("string", "text", "text"),
        ("update", {"msg": {"t": 2}}, '{"msg":{"t":2},"metadata":{"k":"v"},"msgType":"A"}'),
        ("update", lambda m, d, t: {"msg": m, "metadata": {**d, "n": 1}, "msgType": t + "B"}, None),
        ("update", [{"msg": 1}, {"msg": 2}], None),
        ("generate", {"msg": {}, "metadata": {}, "msgType": "G"}, '{"msg":{},"metadata":{},"msgType":"G"}'),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_script_gives_what_a_node_would_make_of_it(kind: str, gives: Any, output: str | None) -> None:
    rest = Rest()
    found, error = await tried(rest, kind, script(rest, "return x;", gives))
    assert error == ""
    if output is not None:
        assert found == output
    elif callable(gives):
        assert json.loads(found) == {"msg": {"t": 1}, "metadata": {"k": "v", "n": "1"}, "msgType": "AB"}
    else:
        assert [each["msg"] for each in json.loads(found)] == [1, 2]


@pytest.mark.parametrize(
    ("kind", "gives", "error"),
    [
        ("filter", "yes", "must return true or false, and returned a text"),
        ("switch", 5, "must return an array of labels"),
        ("string", None, "must return a text, and returned nothing"),
        ("update", "x", "must return an object with msg, metadata and msgType"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_script_that_returns_the_wrong_thing_fails_as_in_a_node(kind: str, gives: Any, error: str) -> None:
    rest = Rest()
    output, found = await tried(rest, kind, script(rest, "return x;", gives))
    assert output == ""
    assert error in found


@pytest_twisted.ensureDeferred
async def test_a_script_that_fails_says_why() -> None:
    rest = Rest()
    assert await tried(rest, "filter", "unknown") == ("", "'unknown' is not known to this test")
    assert "The message is not JSON" in (await tried(rest, "filter", script(rest, "x", True), msg="{"))[1]


@pytest_twisted.ensureDeferred
async def test_arguments_have_the_names_that_are_given() -> None:
    rest = Rest()
    source = script(rest, "return prevMsg;", lambda *values: list(values))
    output, _ = await tried(rest, "json", source, "TBEL", argNames=["prevMsg", "prevMetadata", "prevMsgType"])
    assert json.loads(output) == [{"t": 1}, {"k": "v"}, "A"]
    assert rest.scripts.checked[-1].arguments == ("prevMsg", "prevMetadata", "prevMsgType")
    assert rest.scripts.checked[-1].language == "TBEL"


@pytest.mark.parametrize(
    ("query", "more"),
    [
        ("?scriptLang=PHP", {}),
        ("", {"scriptType": "other"}),
        ("", {"script": None}),
        ("", {"metadata": {"k": 1}}),
        ("", {"msg": {"t": 1}}),
        ("", {"argNames": ["a", "b"]}),
        ("", {"argNames": ["a", "b", "c", "d"]}),
        ("", {"argNames": ["msg", "a b", "c"]}),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_no_script_to_try(query: str, more: Any) -> None:
    rest = Rest()
    body = {"script": "return 1;", "scriptType": "json"} | more
    status, _ = await rest.refused("POST", f"/api/ruleChain/testScript{query}", body)
    assert status == 400
    assert rest.scripts.ran == []
