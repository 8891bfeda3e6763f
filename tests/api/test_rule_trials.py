"""Messages that are taken through rule chains over REST, without effects."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
import pytest_twisted
from fakes import OTHER_TENANT, result_of, tenant
from rest import Rest
from rule_world import CALL, REPLY, RULES, SWITCH, graph
from twisted.internet.defer import Deferred

from rpcbroker.core.model import Authority
from rpcbroker.rules import dry

OWN = "rpcbroker.rules.OwnAnswer"
ENTER = f"{RULES}.flow.TbRuleChainInputNode"
JS_FILTER = f"{RULES}.filter.TbJsFilterNode"
DELAY = f"{RULES}.delay.TbMsgDelayNode"
CALLING = graph([(SWITCH, "Switch", {}), (CALL, "Call", {})], (0, 1, "RPC Request to Device"))
CALL_MESSAGE = {"type": "RPC_CALL_FROM_SERVER_TO_DEVICE", "data": {"method": "setGpio", "params": '{"pin":7}'}}


async def saved(rest: Rest, a_graph: Any, name: str = "mine") -> str:
    made = await rest.ok("POST", "/api/ruleChain", {"name": name})
    chain_id = str(made["id"]["id"])
    await rest.ok("POST", "/api/ruleChain/metadata", a_graph | {"ruleChainId": made["id"]})
    return chain_id


async def tried(rest: Rest, chain_id: str, message: Any) -> Any:
    return await rest.ok("POST", f"/api/ruleChain/{chain_id}/test", message)


@pytest_twisted.ensureDeferred
async def test_a_call_is_told_and_not_made() -> None:
    rest = Rest()
    link = rest.link()
    chain_id = await saved(rest, CALLING)
    path = await tried(rest, chain_id, CALL_MESSAGE | {"reply": {"done": True}})
    assert [(step["node"], step["label"], step["index"], step["last"]) for step in path["steps"]] == [
        ("Switch", "RPC Request to Device", 0, False),
        ("Call", "Success", 1, True),
    ]
    assert {step["chainId"] for step in path["steps"]} == {chain_id}
    assert path["steps"][1]["would"] == [
        {
            "do": "call",
            "device": "device",
            "method": "setGpio",
            "params": {"pin": 7},
            "oneway": False,
            "persistent": False,
        }
    ]
    assert path["steps"][0]["message"]["originator"] == "device"
    assert (path["answer"], path["error"], path["ended"], path["omitted"]) == ({"done": True}, None, True, 0)
    assert link.calls == []


@pytest_twisted.ensureDeferred
async def test_chains_that_are_entered_are_those_of_the_tenant() -> None:
    rest = Rest()
    inner = await saved(rest, graph([(OWN, "Own", {})]), "inner")
    outer = await saved(rest, graph([(ENTER, "Enter", {"ruleChainId": inner.upper()})]), "outer")
    question = {"type": "TO_SERVER_RPC_REQUEST", "data": {"method": "ping", "params": None}}
    path = await tried(rest, outer, question)
    assert [(step["chain"], step["node"]) for step in path["steps"]] == [("outer", "Enter"), ("inner", "Own")]
    assert path["answer"] == "pong"
    to_root = await saved(rest, graph([(ENTER, "Enter", {"forwardMsgToDefaultRuleChain": True})]), "to root")
    await rest.ok("POST", f"/api/ruleChain/{inner}/root")
    assert (await tried(rest, to_root, question))["answer"] == "pong"


@pytest_twisted.ensureDeferred
async def test_a_delay_takes_no_time() -> None:
    rest = Rest()
    node = (DELAY, "Delay", {"periodInSeconds": 60, "maxPendingMsgs": 1})
    chain_id = await saved(rest, graph([node]))
    path = await tried(rest, chain_id, {"type": "POST_TELEMETRY_REQUEST"})
    assert path["seconds"] == 60
    assert rest.clock.seconds() == 0


@pytest_twisted.ensureDeferred
async def test_of_long_paths_the_first_steps_are_told_and_the_others_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry, "MAX_KEPT", 3 * dry.STEP)
    rest = Rest()
    chain_id = await saved(
        rest, graph([(REPLY, str(n), {}) for n in range(9)], *((n, n + 1, "Failure") for n in range(8)))
    )
    path = await tried(rest, chain_id, {"type": "POST_TELEMETRY_REQUEST"})
    assert (len(path["steps"]), path["omitted"]) == (3, 6)


@pytest_twisted.ensureDeferred
async def test_a_tenant_tries_one_message_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rest = Rest()
    waits: Deferred[Any] = Deferred()
    monkeypatch.setattr(rest.scripts, "run", lambda *_: waits)
    chain_id = await saved(rest, graph([(JS_FILTER, "Filter", {"scriptLang": "JS", "jsScript": "return true;"})]))
    first = Deferred.fromCoroutine(tried(rest, chain_id, {"type": "POST_TELEMETRY_REQUEST"}))
    status, _ = await rest.refused("POST", f"/api/ruleChain/{chain_id}/test", {"type": "POST_TELEMETRY_REQUEST"})
    assert status == 429
    waits.callback(True)
    rest.treq.flush()
    assert [step["label"] for step in (await first)["steps"]] == ["True"]
    await tried(rest, chain_id, {"type": "POST_TELEMETRY_REQUEST"})


@pytest_twisted.ensureDeferred
async def test_another_tenants_chain_does_not_exist() -> None:
    rest = Rest()
    chain_id = await saved(rest, CALLING)
    result_of(rest.store.people.create_tenant(tenant(OTHER_TENANT.int)))
    other = rest.add_user("other@example.org", Authority.TENANT_ADMIN, tenant=OTHER_TENANT)
    for each in (chain_id, str(UUID(int=9))):
        status, message = await rest.refused("POST", f"/api/ruleChain/{each}/test", CALL_MESSAGE, token=other)
        assert (status, message) == (404, f"Rule chain with id [{each}] is not found")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"type": 7},
        {"type": "x" * 256},
        {"type": "A", "metadata": {"k": 1}},
        {"type": "A", "attributes": {"OTHER_SCOPE": {}}},
        {"type": "A", "webStatus": 99},
        {"type": "A", "unknown": 1},
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_no_message_to_try(body: Any) -> None:
    rest = Rest()
    chain_id = await saved(rest, CALLING)
    status, _ = await rest.refused("POST", f"/api/ruleChain/{chain_id}/test", body)
    assert status == 400
