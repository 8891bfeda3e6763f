"""Rule chains over REST: what comes back as it was sent, what is refused, and what holds from when on.

Over 400 lines: all operations share chains that were made and sent by hand; what is refused is one long table.
"""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
import pytest_twisted
from fakes import OTHER_TENANT, TENANT, result_of, tenant
from rest import Rest
from rule_world import CALL, REPLY, RULES, SWITCH, TYPE_FILTER
from twisted.internet.defer import maybeDeferred

from rpcbroker.core.errors import CallFailed
from rpcbroker.core.model import Authority
from rpcbroker.core.questions import Question
from rpcbroker.rules.default_chain import default_chain

ENTER = f"{RULES}.flow.TbRuleChainInputNode"
NOBODYS = "deadbeef-0000-4000-8000-000000000000"


def ref(chain_id: str) -> dict[str, str]:
    return {"entityType": "RULE_CHAIN", "id": chain_id}


def node(type_: str, name: str, configuration: Any = None, **more: Any) -> dict[str, Any]:
    return {"type": type_, "name": name, "configuration": configuration or {}, **more}


def connection(start: int, end: int, label: str) -> dict[str, Any]:
    return {"fromIndex": start, "toIndex": end, "type": label}


def graph(chain_id: str, nodes: list[Any], *connections: Any, first: int | None = 0, **more: Any) -> dict[str, Any]:
    return {
        "ruleChainId": ref(chain_id),
        "firstNodeIndex": first,
        "nodes": nodes,
        "connections": list(connections),
        **more,
    }


async def new_chain(rest: Rest, name: str = "mine", **more: Any) -> str:
    made = await rest.ok("POST", "/api/ruleChain", {"name": name}, **more)
    return str(made["id"]["id"])


async def save(rest: Rest, given: Any, **more: Any) -> Any:
    return await rest.ok("POST", "/api/ruleChain/metadata", given, **more)


async def refused(rest: Rest, given: Any) -> str:
    status, message = await rest.refused("POST", "/api/ruleChain/metadata", given)
    assert status == 400
    return message


async def graph_of(rest: Rest, chain_id: str) -> Any:
    return await rest.ok("GET", f"/api/ruleChain/{chain_id}/metadata")


async def names(rest: Rest, query: str = "") -> list[str]:
    page = await rest.ok("GET", f"/api/ruleChains?pageSize=100{query}")
    return [each["name"] for each in page["data"]]


async def other(rest: Rest) -> str:
    """The token of an administrator of another tenant."""
    result_of(rest.store.people.create_tenant(tenant(OTHER_TENANT.int)))
    return rest.add_user("other@example.org", Authority.TENANT_ADMIN, tenant=OTHER_TENANT)


def ask(rest: Rest, method: str) -> bytes:
    """What a device is answered."""
    asked = Question(method=method, transport="TEST")
    return result_of(maybeDeferred(rest.broker.ask, rest.session(), asked))


# -- the default chain


@pytest_twisted.ensureDeferred
async def test_a_tenant_has_a_chain_before_it_has_made_one() -> None:
    rest = Rest()
    (chain,) = (await rest.ok("GET", "/api/ruleChains?pageSize=10&type=CORE"))["data"]
    assert chain["name"] == "Root Rule Chain"
    assert chain["root"]
    assert chain["version"] == 0
    read = await graph_of(rest, chain["id"]["id"])
    assert [each["name"] for each in read["nodes"]][:3] == [
        "Save Timeseries",
        "Save Client Attributes",
        "Message Type Switch",
    ]
    assert chain["firstRuleNodeId"] == read["nodes"][2]["id"]
    assert await graph_of(rest, chain["id"]["id"]) == read
    assert rest.dump()["rule_chain"] == []


@pytest_twisted.ensureDeferred
async def test_the_default_chain_is_kept_once_it_is_changed_and_its_nodes_stay_who_they_are() -> None:
    rest = Rest()
    chain_id = str(default_chain(TENANT).id)
    before = await graph_of(rest, chain_id)
    saved = await save(rest, before)
    assert saved["version"] == 1
    assert [each["id"] for each in saved["nodes"]] != []
    assert {each["name"]: each["configuration"] for each in saved["nodes"]} == {
        each["name"]: each["configuration"] for each in before["nodes"]
    }
    assert [each["id"] for each in saved["nodes"]] == [each["id"] for each in before["nodes"]]
    chain = await rest.ok("GET", f"/api/ruleChain/{chain_id}")
    assert chain["root"]
    assert chain["version"] == 1
    assert (await rest.ok("POST", "/api/ruleChain", chain | {"name": "Ours"}))["version"] == 2
    assert await names(rest) == ["Ours"]


@pytest_twisted.ensureDeferred
async def test_another_chain_becomes_the_root_and_the_default_one_stays() -> None:
    rest = Rest()
    chain_id = await new_chain(rest)
    nodes = [node(SWITCH, "Switch"), node(REPLY, "Reply")]
    await save(rest, graph(chain_id, nodes, connection(0, 1, "RPC Request from Device")))
    with pytest.raises(CallFailed):
        ask(rest, "m")
    assert (await rest.ok("POST", f"/api/ruleChain/{chain_id}/root"))["root"]
    assert ask(rest, "m") == b'{"method":"m","params":null}'
    roots = {each["name"]: each["root"] for each in (await rest.ok("GET", "/api/ruleChains?pageSize=10"))["data"]}
    assert roots == {"Root Rule Chain": False, "mine": True}
    default_id = default_chain(TENANT).id
    assert (await rest.ok("POST", f"/api/ruleChain/{default_id}/root"))["root"]
    assert [entry.action for entry in rest.audit(entity=("RULE_CHAIN", default_id))] == ["UPDATED"]


@pytest_twisted.ensureDeferred
async def test_a_new_chain_like_the_default_one() -> None:
    rest = Rest()
    made = await rest.ok("POST", "/api/ruleChain/device/default", {"name": "Thermostats"})
    assert not made["root"]
    read = await graph_of(rest, made["id"]["id"])
    assert [each["name"] for each in read["nodes"]][-1] == "Answer RPC from Device"


# -- one chain


@pytest_twisted.ensureDeferred
async def test_a_chain_comes_back_as_it_was_sent() -> None:
    rest = Rest()
    chain_id = await new_chain(rest)
    filter_ = node(
        TYPE_FILTER,
        "Only questions",
        {"messageTypes": ["TO_SERVER_RPC_REQUEST"], "of a later version": {"x": [1, None]}},
        additionalInfo={"description": "ü", "layoutX": 1, "layoutY": 2},
        debugSettings={"failuresEnabled": True, "allEnabled": False, "allEnabledUntil": 5},
        queueName="HighPriority",
        singletonMode=True,
        configurationVersion=3,
    )
    notes = [{"id": "1", "text": "read this"}]
    sent = graph(chain_id, [filter_, node(REPLY, "Reply")], connection(0, 1, "True"), notes=notes)
    saved = await save(rest, sent)
    assert "warnings" not in saved
    read = await graph_of(rest, chain_id)
    assert read == saved
    assert {name: read["nodes"][0][name] for name in filter_} == filter_
    assert read["connections"] == sent["connections"]
    assert read["notes"] == notes
    assert read["version"] == 2
    chain = await rest.ok("GET", f"/api/ruleChain/{chain_id}")
    assert chain["firstRuleNodeId"] == read["nodes"][0]["id"]
    assert {each["id"]["entityType"] for each in read["nodes"]} == {"RULE_NODE"}


@pytest_twisted.ensureDeferred
async def test_nodes_keep_their_ids_and_new_ones_get_their_own() -> None:
    rest = Rest()
    chain_id = await new_chain(rest)
    first = await save(rest, graph(chain_id, [node(SWITCH, "a")]))
    old = first["nodes"][0]
    foreign = {"entityType": "RULE_NODE", "id": NOBODYS}
    nodes = [old | {"name": "renamed"}, old | {"name": "copy"}, node(SWITCH, "new"), node(SWITCH, "b", id=foreign)]
    second = await save(rest, graph(chain_id, nodes, *(connection(0, n, "Other") for n in (1, 2, 3))))
    ids = [each["id"]["id"] for each in second["nodes"]]
    assert ids[0] == old["id"]["id"]
    assert len(set(ids)) == 4
    assert NOBODYS not in ids
    active = rest.rules.chains.active(TENANT, UUID(chain_id))
    assert active is not None
    assert [str(each.id) for each in active.nodes] == ids


@pytest_twisted.ensureDeferred
async def test_recording_everything_ends_by_itself() -> None:
    rest = Rest()
    chain_id = await new_chain(rest)
    now = rest.now_ms()
    nodes = [
        node(SWITCH, "all", debugSettings={"failuresEnabled": False, "allEnabled": True, "allEnabledUntil": 0}),
        node(SWITCH, "old", debugMode=True),
        node(SWITCH, "until", debugSettings={"allEnabledUntil": now + 5}),
        node(SWITCH, "for ever", debugSettings={"allEnabledUntil": 2**53}),
    ]
    saved = await save(rest, graph(chain_id, nodes, *(connection(0, end, "Other") for end in (1, 2, 3))))
    assert [each["debugSettings"] for each in saved["nodes"]] == [
        {"failuresEnabled": False, "allEnabled": False, "allEnabledUntil": now + 900_000},
        {"failuresEnabled": True, "allEnabled": False, "allEnabledUntil": now + 900_000},
        {"failuresEnabled": False, "allEnabled": False, "allEnabledUntil": now + 5},
        {"failuresEnabled": False, "allEnabled": False, "allEnabledUntil": now + 900_000},
    ]


@pytest_twisted.ensureDeferred
async def test_older_exports_are_taken() -> None:
    rest = Rest()
    target = await new_chain(rest, "target")
    chain_id = await new_chain(rest)
    given = graph(
        chain_id,
        [node(SWITCH, "Switch", debugMode=False)],
        ruleChainConnections=[
            {"fromIndex": 0, "targetRuleChainId": ref(target), "type": "Other", "additionalInfo": {"layoutX": 5}}
        ],
    )
    saved = await save(rest, given)
    assert [(each["type"], each["configuration"]) for each in saved["nodes"]][1:] == [(ENTER, {"ruleChainId": target})]
    assert saved["connections"] == [connection(0, 1, "Other")]
    assert not saved["ruleChainConnections"]


@pytest_twisted.ensureDeferred
async def test_what_is_likely_to_be_a_mistake_is_said() -> None:
    rest = Rest()
    chain_id = await new_chain(rest)
    nodes = [node(SWITCH, "a"), node(SWITCH, "alone"), node(ENTER, "on", {"ruleChainId": NOBODYS})]
    saved = await save(rest, graph(chain_id, nodes, connection(0, 2, "Other")))
    assert saved["warnings"] == [
        "node 1 'alone': no message gets there",
        f"node 2 'on': there is no rule chain {NOBODYS}",
    ]


@pytest_twisted.ensureDeferred
async def test_what_comes_of_a_generator_alone_is_no_mistake() -> None:
    rest = Rest()
    chain_id = await new_chain(rest)
    beat = node("org.thingsboard.rule.engine.debug.TbMsgGeneratorNode", "beat", {"jsScript": "return {msg: 1};"})
    saved = await save(
        rest, graph(chain_id, [node(SWITCH, "first"), beat, node(SWITCH, "b")], connection(1, 2, "Success"))
    )
    assert "warnings" not in saved


@pytest_twisted.ensureDeferred
async def test_changes_from_another_version_are_refused() -> None:
    rest = Rest()
    chain_id = await new_chain(rest)
    chain = await rest.ok("GET", f"/api/ruleChain/{chain_id}")
    await save(rest, graph(chain_id, [node(SWITCH, "a")], version=1))
    assert await rest.refused("POST", "/api/ruleChain/metadata", graph(chain_id, [], first=None, version=1)) == (
        409,
        "The rule chain was changed in between: it has version 2",
    )
    status, _ = await rest.refused("POST", "/api/ruleChain", chain | {"name": "b"})
    assert status == 409
    assert (await graph_of(rest, chain_id))["nodes"][0]["name"] == "a"


@pytest_twisted.ensureDeferred
async def test_lists_are_searched_and_sorted() -> None:
    rest = Rest()
    for name in ("beta", "Alpha", "gamma"):
        rest.clock.advance(1)
        await new_chain(rest, name)
    assert await names(rest) == ["Root Rule Chain", "beta", "Alpha", "gamma"]
    assert await names(rest, "&sortOrder=DESC") == ["gamma", "Alpha", "beta", "Root Rule Chain"]
    found = await names(rest, "&sortProperty=name&sortOrder=ASC&textSearch=A")
    assert found == ["Alpha", "Root Rule Chain", "beta", "gamma"]
    assert await names(rest, "&type=EDGE") == []
    page = await rest.ok("GET", "/api/ruleChains?pageSize=2&page=1")
    assert [each["name"] for each in page["data"]] == ["Alpha", "gamma"]
    assert page["totalElements"] == 4
    assert (await rest.refused("GET", "/api/ruleChains?pageSize=2&sortProperty=graph"))[0] == 400


@pytest_twisted.ensureDeferred
async def test_a_deleted_chain_is_gone_and_the_root_one_cannot_be() -> None:
    rest = Rest()
    chain_id = await new_chain(rest)
    await rest.ok("DELETE", f"/api/ruleChain/{chain_id}")
    for method, path in (("GET", ""), ("GET", "/metadata"), ("POST", "/root"), ("DELETE", "")):
        assert (await rest.refused(method, f"/api/ruleChain/{chain_id}{path}"))[0] == 404
    status, message = await rest.refused("DELETE", f"/api/ruleChain/{default_chain(TENANT).id}")
    assert status == 400
    assert "root" in message


# -- what is refused


@pytest_twisted.ensureDeferred
async def test_all_that_is_wrong_is_named_with_its_node() -> None:
    rest = Rest()
    chain_id = await new_chain(rest)
    nodes = [
        node(SWITCH, "Switch"),
        node("org.example.Unknown", "Strange"),
        node(CALL, "Call", {"timeoutInSeconds": "x"}),
    ]
    message = await refused(rest, graph(chain_id, nodes, connection(0, 7, "Other")))
    assert "node 1 'Strange': the type 'org.example.Unknown' is not known here" in message
    assert "node 2 'Call': configuration: Expected `int`, got `str` - at `$.timeoutInSeconds`" in message
    assert "connection 0: there is no node 7" in message
    assert (await graph_of(rest, chain_id))["nodes"] == []


CHAIN = "11111111-2222-4333-8444-555555555555"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"nodes": []}, "ruleChainId is missing"),
        ({"ruleChainId": {"id": "x", "entityType": "RULE_CHAIN"}}, "Invalid UUID string: x"),
        (graph(CHAIN, [node(SWITCH, "a")], first=1), "firstNodeIndex 1 is no node's"),
        (graph(CHAIN, [node(SWITCH, "a")], first=-1), "firstNodeIndex -1 is no node's"),
        (graph(CHAIN, [node(SWITCH, "a")], first=None), "firstNodeIndex is missing"),
        (graph(CHAIN, [node(SWITCH, "a")], connection(0, -1, "Other")), "connection 0: there is no node -1"),
        (graph(CHAIN, [node(SWITCH, "a" * 256)]), "a name has 1 to 255 characters"),
        (graph(CHAIN, [node(SWITCH, " ")]), "a name has 1 to 255 characters"),
        (graph(CHAIN, [node(SWITCH, "a")], connection(0, 0, "Other")), "a cycle without a node that takes time"),
        (graph(CHAIN, [node(REPLY, "a"), node(REPLY, "b")], connection(0, 1, "Sucess")), "'Sucess'"),
        (graph(CHAIN, [node(SWITCH, "a")] * 10_001), "at most 10,000 nodes"),
        (graph(CHAIN, [node(SWITCH, "a")], connection(0, 2**60, "x")), "Invalid request body"),
        (graph(CHAIN, [{"name": "a"}]), "missing required field `type`"),
        (graph(CHAIN, [node(SWITCH, "a", singletonMode=1)]), "Expected `bool | null`"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_no_chain_is_refused(given: Any, why: str) -> None:
    rest = Rest()
    chain_id = await new_chain(rest)
    text = json.dumps(given).replace(CHAIN, chain_id)
    assert why in await refused(rest, text.encode())
    assert (await graph_of(rest, chain_id))["version"] == 1


@pytest_twisted.ensureDeferred
async def test_a_configuration_that_is_nested_too_deep_is_refused() -> None:
    rest = Rest()
    chain_id = await new_chain(rest)
    for depth, taken in ((50, True), (100, False), (100_000, False)):
        text = json.dumps(graph(chain_id, [node(SWITCH, "a", {"x": "DEEP"})])).replace(
            '"DEEP"', "[" * depth + "]" * depth
        )
        status, answer, _ = await rest.ask("POST", "/api/ruleChain/metadata", text.encode())
        assert status == (200 if taken else 400), answer


@pytest_twisted.ensureDeferred
async def test_a_chain_of_a_thousand_nodes_is_taken_and_works() -> None:
    rest = Rest()
    chain_id = await new_chain(rest)
    nodes = [node(TYPE_FILTER, f"filter {n}", {"messageTypes": ["TO_SERVER_RPC_REQUEST"]}) for n in range(999)]
    wired = [connection(n, n + 1, "True") for n in range(999)]
    await save(rest, graph(chain_id, [*nodes, node(REPLY, "Reply")], *wired))
    await rest.ok("POST", f"/api/ruleChain/{chain_id}/root")
    assert ask(rest, "m") == b'{"method":"m","params":null}'


@pytest_twisted.ensureDeferred
async def test_a_chain_larger_than_the_limit_is_413() -> None:
    rest = Rest(rules={"max_chain_size": 2_000})
    chain_id = await new_chain(rest)
    small = graph(chain_id, [node(SWITCH, "a", {"x": "y" * 500})])
    await save(rest, small)
    status, message = await rest.refused(
        "POST", "/api/ruleChain/metadata", graph(chain_id, [node(SWITCH, "a", {"x": "y" * 2_000})])
    )
    assert (status, message) == (413, "A rule chain has at most 2000 bytes as JSON")
    assert (await graph_of(rest, chain_id))["version"] == 2


@pytest_twisted.ensureDeferred
async def test_a_tenant_has_so_many_chains_at_most() -> None:
    rest = Rest(rules={"max_chains": 2})
    await new_chain(rest, "a")
    await new_chain(rest, "b")
    status, message = await rest.refused("POST", "/api/ruleChain", {"name": "c"})
    assert (status, message) == (400, "A tenant has at most 2 rule chains")
    status, _ = await rest.refused("POST", "/api/ruleChains/import", {"ruleChain": {"name": "c"}, "metadata": {}})
    assert status == 400


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"name": ""}, "Rule chain name should be specified!"),
        ({"name": " "}, "Rule chain name should be specified!"),
        ({"name": "a" * 256}, "Rule chain name must have at most 255 characters"),
        ({"name": "a\x00"}, "Rule chain name must have at most 255 characters"),
        ({"name": "a", "type": "EDGE"}, "Rule chains are of the type CORE"),
        ({"name": "a", "id": {"entityType": "RULE_CHAIN", "id": "1"}}, "Invalid UUID string: 1"),
        ({"name": "a", "additionalInfo": "x" * 40_000}, "additionalInfo must have at most"),
        ({}, "missing required field `name`"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_a_chain_cannot_be(given: Any, why: str) -> None:
    rest = Rest()
    status, message = await rest.refused("POST", "/api/ruleChain", given)
    assert status == 400
    assert why in message
    assert await names(rest) == ["Root Rule Chain"]


@pytest.mark.parametrize("chain_id", ["x", "1", "11111111-2222-4333-8444-55555555555g", "%00"])
@pytest_twisted.ensureDeferred
async def test_ids_that_are_none(chain_id: str) -> None:
    rest = Rest()
    for method, path in (("GET", ""), ("GET", "/metadata"), ("POST", "/root"), ("DELETE", "")):
        status, message = await rest.refused(method, f"/api/ruleChain/{chain_id}{path}")
        assert status == 400
        assert "Invalid UUID string" in message


@pytest_twisted.ensureDeferred
async def test_nothing_of_one_tenant_is_there_for_another() -> None:
    rest = Rest()
    token = await other(rest)
    chain_id = await new_chain(rest, "secret")
    foreign, unknown = [], []
    for found, id_ in ((foreign, chain_id), (unknown, NOBODYS)):
        for method, path, body in (
            ("GET", f"/api/ruleChain/{id_}", None),
            ("GET", f"/api/ruleChain/{id_}/metadata", None),
            ("POST", f"/api/ruleChain/{id_}/root", None),
            ("DELETE", f"/api/ruleChain/{id_}", None),
            ("POST", "/api/ruleChain", {"id": ref(id_), "name": "x"}),
            ("POST", "/api/ruleChain/metadata", graph(id_, [])),
        ):
            status, message = await rest.refused(method, path, body, token=token)
            assert status == 404
            found.append(message.replace(id_, "ID"))
    assert foreign == unknown
    assert [each["name"] for each in (await rest.ok("GET", "/api/ruleChains/export", token=token))["ruleChains"]] == [
        "Root Rule Chain"
    ]
    assert default_chain(TENANT).id != default_chain(OTHER_TENANT).id
    assert (await rest.refused("GET", "/api/ruleChains?pageSize=1", token=rest.customer_token))[0] == 403


# -- import and export


@pytest_twisted.ensureDeferred
async def test_what_was_exported_is_imported_with_new_ids() -> None:
    rest = Rest()
    inner, outer = await new_chain(rest, "inner"), await new_chain(rest, "outer")
    await save(rest, graph(inner, [node(REPLY, "Reply")]))
    await save(rest, graph(outer, [node(ENTER, "To inner", {"ruleChainId": inner})]))
    exported = await rest.ok("GET", "/api/ruleChains/export?limit=1000")
    assert len((await rest.ok("GET", "/api/ruleChains/export?limit=2"))["metadata"]) == 2
    token = await other(rest)
    results = await rest.ok("POST", "/api/ruleChains/import", exported, token=token)
    assert [(each["ruleChainName"], each["updated"], each["warnings"]) for each in results] == [
        ("Root Rule Chain", False, []),
        ("inner", False, []),
        ("outer", False, []),
    ]
    ids = {each["ruleChainName"]: each["ruleChainId"]["id"] for each in results}
    assert not set(ids.values()) & {inner, outer}
    read = await rest.ok("GET", f"/api/ruleChain/{ids['outer']}/metadata", token=token)
    assert read["nodes"][0]["configuration"] == {"ruleChainId": ids["inner"]}
    assert read["nodes"][0]["id"] not in [each["id"] for graph in exported["metadata"] for each in graph["nodes"]]
    page = await rest.ok("GET", "/api/ruleChains?pageSize=10", token=token)
    assert [(each["name"], each["root"]) for each in page["data"]] == [
        ("Root Rule Chain", True),
        ("Root Rule Chain", False),
        ("inner", False),
        ("outer", False),
    ]


@pytest_twisted.ensureDeferred
async def test_chains_replace_those_of_the_same_name_if_that_is_wanted() -> None:
    rest = Rest()
    chain_id = await new_chain(rest, "mine")
    before = await save(rest, graph(chain_id, [node(SWITCH, "a")]))
    exported = await rest.ok("GET", "/api/ruleChains/export")
    graph_ = next(each for each in exported["metadata"] if each["ruleChainId"]["id"] == chain_id)
    graph_["nodes"][0]["name"] = "b"
    results = await rest.ok("POST", "/api/ruleChains/import?overwrite=true", exported)
    assert [(each["ruleChainName"], each["updated"]) for each in results] == [("Root Rule Chain", True), ("mine", True)]
    read = await graph_of(rest, chain_id)
    assert [each["name"] for each in read["nodes"]] == ["b"]
    assert read["nodes"][0]["id"] == before["nodes"][0]["id"]
    assert await names(rest) == ["Root Rule Chain", "mine"]


@pytest_twisted.ensureDeferred
async def test_one_exported_file_is_imported_or_posted_in_two_steps() -> None:
    rest = Rest()
    chain = {
        "additionalInfo": {"description": "d"},
        "name": "Filed",
        "type": "CORE",
        "firstRuleNodeId": None,
        "root": True,
        "debugMode": False,
        "configuration": None,
        "externalId": None,
    }
    metadata = {
        "firstNodeIndex": 0,
        "nodes": [node(SWITCH, "a", externalId=None, additionalInfo={"layoutX": 1, "layoutY": 2})],
        "connections": [],
        "ruleChainConnections": None,
    }
    (result,) = await rest.ok("POST", "/api/ruleChains/import", {"ruleChain": chain, "metadata": metadata})
    read = await rest.ok("GET", f"/api/ruleChain/{result['ruleChainId']['id']}")
    assert read["additionalInfo"] == {"description": "d"}
    assert not read["root"]
    made = await rest.ok("POST", "/api/ruleChain", chain)
    assert not made["root"]
    saved = await save(rest, metadata | {"ruleChainId": made["id"]})
    assert saved["nodes"][0]["additionalInfo"] == {"layoutX": 1, "layoutY": 2}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"metadata": []}, "as many metadata as ruleChains"),
        ({"ruleChains": [], "metadata": []}, "as many metadata as ruleChains"),
        ({"ruleChains": [{"name": "a"}], "metadata": []}, "as many metadata as ruleChains"),
        ({"ruleChains": [{"name": "a"}, {"name": ""}], "metadata": [{}, {}]}, "should be specified"),
        (
            {"ruleChains": [{"name": "a"}, {"name": "b"}], "metadata": [{}, {"nodes": [node("x", "y")]}]},
            "b: The rule chain cannot be taken",
        ),
    ],
)
@pytest_twisted.ensureDeferred
async def test_all_of_a_file_is_taken_or_nothing(given: Any, why: str) -> None:
    rest = Rest()
    status, message = await rest.refused("POST", "/api/ruleChains/import", given)
    assert status == 400
    assert why in message
    assert await names(rest) == ["Root Rule Chain"]


@pytest_twisted.ensureDeferred
async def test_what_was_done_is_in_the_audit_log() -> None:
    rest = Rest()
    chain_id = await new_chain(rest)
    await save(rest, graph(chain_id, [node(SWITCH, "a")]))
    await rest.ok("POST", f"/api/ruleChain/{chain_id}/root")
    await rest.refused("DELETE", f"/api/ruleChain/{chain_id}")
    entries = [
        (entry.action, entry.entity_name, bool(entry.failure))
        for entry in rest.audit()
        if entry.entity_type == "RULE_CHAIN"
    ]
    assert entries == [
        ("ADDED", "mine", False),
        ("UPDATED", "mine", False),
        ("UPDATED", "mine", False),
        ("DELETED", "mine", True),
    ]


@pytest_twisted.ensureDeferred
async def test_chains_go_on_after_a_restart() -> None:
    rest = Rest()
    chain_id = await new_chain(rest)
    saved = await save(rest, graph(chain_id, [node(REPLY, "Reply")]))
    await rest.ok("POST", f"/api/ruleChain/{chain_id}/root")
    again = Rest(store=rest.store)
    again.device = rest.device
    assert {**saved} == await graph_of(again, chain_id)
    assert ask(again, "m") == b'{"method":"m","params":null}'


@pytest_twisted.ensureDeferred
async def test_a_deleted_tenants_chains_are_forgotten() -> None:
    rest = Rest()
    token = await other(rest)
    chain_id = await new_chain(rest, token=token)
    await rest.ok("DELETE", f"/api/tenant/{OTHER_TENANT}", token=rest.sys_token)
    assert rest.rules.chains.find(OTHER_TENANT, UUID(chain_id)) is None
    assert rest.dump()["rule_chain"] == []
