"""RPC call request, RPC call reply and the broker's own answer, one node at a time."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from fakes import EPOCH_MS, OTHER_TENANT, device, result_of
from node_bench import Bench, message, passed
from rule_world import RuleWorld, graph

from rpcbroker.core.calls import Call
from rpcbroker.rules.message import Originator

CALL, REPLY = "rpc.TbSendRPCRequestNode", "rpc.TbSendRPCReplyNode"
GOOD = {"method": "set", "params": "{}"}
ASKED = {"requestId": "1", "serviceId": "x", "sessionId": "y"}
OTHER = {"originator": Originator("TENANT", OTHER_TENANT)}
NO_DEVICE = "Message originator is not a device entity!"


@pytest.mark.parametrize(
    ("data", "more", "text"),
    [
        ({}, OTHER, NO_DEVICE),
        ({"params": 1}, {}, "Method is not present in the message!"),
        ({"method": "m"}, {}, "Params are not present in the message!"),
        ([], {}, "The message is not a JSON object"),
        (b"", {}, "The message is not JSON"),
        ({"method": "m", "params": "{"}, {}, "params is a text that is not JSON"),
        ({"method": "m", "params": "1", "additionalInfo": "["}, {}, "additionalInfo is a text that is not JSON"),
        (GOOD, {"metadata": {"expirationTime": "soon"}}, "expirationTime in the metadata is no number: 'soon'"),
        (GOOD, {"metadata": {"retries": ""}}, "retries in the metadata is no number: ''"),
        (GOOD, {"originator": Originator("DEVICE", device(500).id)}, "Device with requested id wasn't found!"),
    ],
)
def test_what_a_call_node_needs(data: Any, more: dict[str, Any], text: str) -> None:
    bench = Bench(CALL, {})
    bench.world.add(device(500, tenant=OTHER_TENANT))
    link = bench.world.link(reply=b"1")
    bench.send(data, **more)
    assert text in " ".join(bench.texts)
    assert bench.labels == ["Failure"]
    assert link.calls == []


def called(data: Any, configuration: dict[str, Any] | None = None, **metadata: str) -> Call:
    bench = Bench(CALL, configuration or {})
    link = bench.world.link(step=None)
    bench.send(data, metadata=metadata)
    bench.world.clock.advance(0.1)
    (call,) = link.calls
    return call


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ('{"a": 1}', b'{"a":1}'),
        ('"x"', b'"x"'),
        ({"a": 1}, b'{"a":1}'),
        ([1, 2], b"[1,2]"),
        (5, b"5"),
        (None, b"null"),
        ("null", b"null"),
    ],
)
def test_params_that_are_a_text_are_json_text(params: Any, text: bytes) -> None:
    assert called({"method": "m", "params": params}).params == text


def test_what_the_message_says_of_the_call() -> None:
    data = {"method": 5, "params": None, "additionalInfo": '{"x":1}'}
    call = called(data, expirationTime=str(EPOCH_MS + 7_000), oneway="false", persistent="true", retries="2")
    assert (call.method, call.oneway, call.persistent, call.retries) == ("5", False, True, 2)
    assert (call.expiration_time, call.additional_info) == (EPOCH_MS + 7_000, {"x": 1})


@pytest.mark.parametrize("word", ["True", "1", "yes", "TRUE", ""])
def test_only_true_is_true(word: str) -> None:
    call = called(GOOD, oneway=word, persistent=word)
    assert (call.oneway, call.persistent) == (False, False)


@pytest.mark.parametrize(("configuration", "seconds"), [({}, 60), ({"timeoutInSeconds": 20}, 20)])
def test_without_an_expiration_time_the_node_says_how_long(configuration: dict[str, Any], seconds: int) -> None:
    assert called(GOOD, configuration).expiration_time == EPOCH_MS + seconds * 1000


def test_a_call_of_the_chains_own_has_the_id_that_the_message_names_if_that_is_free() -> None:
    bench = Bench(CALL, {})
    bench.world.link(reply=b"1")
    rpc_id = UUID(int=0xCA11)
    for _ in range(2):
        bench.send(GOOD, metadata={"requestUUID": str(rpc_id)})
    ids = [record.rpc_id for record in bench.world.broker.recorder.newest_first()]
    assert ids[1] == rpc_id
    assert ids[0] != rpc_id
    bench.send(GOOD, metadata={"requestUUID": "no id"})
    assert bench.labels == ["Success"] * 3


@pytest.mark.parametrize(
    ("reply", "metadata", "data"),
    [
        (b'{"a":1}', {}, {"a": 1}),
        (b"5", {}, 5),
        (b"", {}, {}),
        (b"1", {"oneway": "true"}, {}),
    ],
)
def test_the_reply_goes_on_with_the_rest_of_the_message(reply: bytes, metadata: dict[str, str], data: Any) -> None:
    bench = Bench(CALL, {})
    bench.world.link(reply=reply)
    bench.send(GOOD, type="POST_TELEMETRY_REQUEST", metadata=metadata)
    ((label, went),) = bench.came
    assert (label, went.body(), went.type, went.metadata) == ("Success", data, "POST_TELEMETRY_REQUEST", metadata)


def test_of_a_persistent_call_its_id_goes_on() -> None:
    bench = Bench(CALL, {})
    bench.send(GOOD, metadata={"persistent": "true"})
    (body,) = bench.bodies
    kept = result_of(bench.world.store.calls.call(bench.world.device.tenant_id, UUID(body["rpcId"])))
    assert kept.call.method == "set"


@pytest.mark.parametrize(
    ("subscribed", "word"),
    [(True, "TIMEOUT"), (False, "NO_ACTIVE_CONNECTION")],
)
def test_how_a_call_fails(subscribed: bool, word: str) -> None:
    bench = Bench(CALL, {"timeoutInSeconds": 10})
    bench.world.link(subscribed=subscribed)
    bench.send(GOOD, metadata={"k": "v"})
    assert bench.came == []
    bench.world.clock.advance(10.1)
    assert bench.failure == word
    assert bench.bodies == [{"error": word}]
    assert bench.came[0][1].metadata == {"k": "v"}


def test_a_message_is_acknowledged_before_its_call_is_answered() -> None:
    bench = Bench(CALL, {})
    bench.world.link()
    run = bench.send(GOOD)
    assert (run.acknowledged, run.ended) == (True, False)


# -- the reply


@pytest.mark.parametrize(
    ("metadata", "more", "text"),
    [
        (ASKED, OTHER, NO_DEVICE),
        ({}, {}, "Request id is not present in the metadata!"),
        ({"requestId": ""}, {}, "Request id is not present in the metadata!"),
        ({"requestId": "1"}, {}, "Service id is not present in the metadata!"),
        ({"requestId": "1", "serviceId": "x"}, {}, "Session id is not present in the metadata!"),
        (ASKED, {"data": b""}, "Request body is empty!"),
    ],
)
def test_what_a_reply_node_needs(metadata: dict[str, str], more: dict[str, Any], text: str) -> None:
    assert passed(REPLY, {}, **{"data": {}, "metadata": metadata} | more).failure == text


@pytest.mark.parametrize(
    "names",
    [
        {"serviceIdMetaDataAttribute": "s", "sessionIdMetaDataAttribute": "i", "requestIdMetaDataAttribute": "r"},
        {"serviceIdMetaDataAttribute": "", "sessionIdMetaDataAttribute": " ", "requestIdMetaDataAttribute": None},
    ],
)
def test_the_metadata_may_have_other_names_and_whoever_asked_may_be_gone(names: dict[str, Any]) -> None:
    metadata = {"s": "x", "i": "y", "r": "1"} if names["serviceIdMetaDataAttribute"] else ASKED
    bench = passed(REPLY, names, {"a": 1}, metadata=metadata)
    assert bench.labels == ["Success"]
    assert bench.bodies == [{"a": 1}]
    assert bench.world.rules.questions.dropped == 1


def test_what_is_no_question_the_broker_does_not_answer_itself() -> None:
    world = RuleWorld()
    world.put(graph([("rpcbroker.rules.OwnAnswer", "Own", {})]))
    labels: list[Any] = []
    asked = message(world, {"method": "ping", "params": None}, type="TO_SERVER_RPC_REQUEST", metadata=ASKED)
    world.rules.engine.begin(world.device.tenant_id, asked, watch=lambda passed: labels.append(passed.label))
    assert labels == ["Unknown Method"]
