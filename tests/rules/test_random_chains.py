"""Random chains of all kinds of nodes, with devices that answer or not: whatever comes, nothing stays behind."""

from __future__ import annotations

from typing import Any

from fakes import TENANT, FakeLink, device, result_of
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rule_world import RuleWorld
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.task import Clock

from rpcbroker.core import jsontext
from rpcbroker.core.calls import CallRequest
from rpcbroker.core.errors import BrokerError
from rpcbroker.core.model import Relation
from rpcbroker.core.questions import Question
from rpcbroker.core.values import parse_attributes, parse_telemetry
from rpcbroker.rules import types
from rpcbroker.rules.chain import ChainRefused
from rpcbroker.rules.format import read_graph
from rpcbroker.rules.message import DEVICE, Originator
from rpcbroker.rules.nodes.table import NODE_TYPES
from rpcbroker.rules.ports import Script, ScriptFailed, WebCallFailed, WebResponse

RULES = "org.thingsboard.rule.engine"
RELATED = {"direction": "FROM", "maxLevel": 2, "filters": [{"relationType": "Contains"}]}
SCRIPTS = [
    "true",
    "'A'",
    "['A', 'Success', 'Failure']",
    "{msg: {temperature: 1}, metadata: {a: 1}, msgType: 'POST_TELEMETRY_REQUEST'}",
    "{msg: {method: 'm', params: {}}, msgType: 'RPC_CALL_FROM_SERVER_TO_DEVICE'}",
    "[{msg: {}}, {msg: [1]}]",
    "nothing",
    "throws",
]
RESULTS: dict[str, Any] = {
    "true": True,
    "'A'": "A",
    "['A', 'Success', 'Failure']": ["A", "Success", "Failure"],
    SCRIPTS[3]: {"msg": {"temperature": 1}, "metadata": {"a": 1}, "msgType": "POST_TELEMETRY_REQUEST"},
    SCRIPTS[4]: {"msg": {"method": "m", "params": {}}, "msgType": "RPC_CALL_FROM_SERVER_TO_DEVICE"},
    "[{msg: {}}, {msg: [1]}]": [{"msg": {}}, {"msg": [1]}],
    "nothing": None,
}
A_SCRIPT = [{"scriptLang": "JS", "jsScript": source} for source in SCRIPTS]
CONFIGURATIONS: dict[str, list[dict[str, Any]]] = {
    f"{RULES}.filter.TbMsgTypeSwitchNode": [{}],
    f"{RULES}.filter.TbMsgTypeFilterNode": [{}, {"messageTypes": [types.CALL]}],
    f"{RULES}.filter.TbOriginatorTypeSwitchNode": [{}],
    f"{RULES}.filter.TbOriginatorTypeFilterNode": [{}, {"originatorTypes": ["TENANT"]}],
    f"{RULES}.filter.TbCheckMessageNode": [{"messageNames": ["temperature"]}, {"metadataNames": ["deviceName"]}],
    f"{RULES}.filter.TbCheckRelationNode": [{"relationType": "Contains"}],
    f"{RULES}.filter.TbJsFilterNode": A_SCRIPT,
    f"{RULES}.filter.TbJsSwitchNode": A_SCRIPT,
    f"{RULES}.transform.TbTransformMsgNode": A_SCRIPT,
    f"{RULES}.action.TbLogNode": A_SCRIPT,
    f"{RULES}.transform.TbChangeOriginatorNode": [
        {"originatorSource": "RELATED", "relationsQuery": RELATED},
        {"originatorSource": "TENANT"},
        {"originatorSource": "CUSTOMER"},
        {"originatorSource": "GATEWAY"},
        {"originatorSource": "ENTITY", "entityType": "DEVICE", "entityNamePattern": "device-${n}01"},
    ],
    f"{RULES}.transform.TbDuplicateMsgToRelatedNode": [{"relationsQuery": RELATED}],
    f"{RULES}.transform.TbDeleteKeysNode": [{"deleteFrom": "DATA", "keys": ["temp.*"]}],
    f"{RULES}.transform.TbCopyKeysNode": [{"copyFrom": "DATA", "keys": ["method"]}],
    f"{RULES}.transform.TbRenameKeysNode": [{"renameIn": "METADATA", "renameKeysMapping": {"requestUUID": "x"}}],
    f"{RULES}.transform.TbJsonPathNode": [{"jsonPath": "$.temperature"}],
    f"{RULES}.transform.TbSplitArrayMsgNode": [{}],
    f"{RULES}.delay.TbMsgDelayNode": [{"periodInSeconds": 5}, {"periodInSeconds": 1, "maxPendingMsgs": 1}],
    f"{RULES}.debug.TbMsgGeneratorNode": [
        {"msgCount": 2, "periodInSeconds": 3, "originatorType": "TENANT", **each} for each in A_SCRIPT
    ],
    f"{RULES}.flow.TbRuleChainInputNode": [
        {"forwardMsgToDefaultRuleChain": True},
        {"ruleChainId": "00000000-0000-0000-0000-0000000000ff"},
    ],
    f"{RULES}.flow.TbRuleChainOutputNode": [{}],
    f"{RULES}.flow.TbAckNode": [{}],
    f"{RULES}.flow.TbCheckpointNode": [{}],
    f"{RULES}.rpc.TbSendRPCRequestNode": [{"timeoutInSeconds": 7}],
    f"{RULES}.rpc.TbSendRPCReplyNode": [{}],
    "rpcbroker.rules.OwnAnswer": [{}],
    f"{RULES}.telemetry.TbMsgTimeseriesNode": [{}],
    f"{RULES}.telemetry.TbMsgAttributesNode": [{"scope": "SERVER_SCOPE", "sendAttributesUpdatedNotification": True}],
    f"{RULES}.metadata.TbGetAttributesNode": [{"latestTsKeyNames": ["temperature"], "tellFailureIfAbsent": False}],
    f"{RULES}.metadata.TbGetTelemetryNode": [{"latestTsKeyNames": ["temperature"]}],
    f"{RULES}.rest.TbSendRestApiCallReplyNode": [{}],
    f"{RULES}.rest.TbRestApiCallNode": [{"restEndpointUrlPattern": "http://example.org/${deviceName}"}],
}
"""Of each kind of nodes."""
ANY_LABEL = ["A", "Success", "Failure", "True", "RPC Request to Device", "RPC Request from Device", "Post telemetry"]


def test_all_kinds_of_nodes_are_used() -> None:
    assert set(CONFIGURATIONS) == set(NODE_TYPES)


class LateScripts:
    """What a script returns is `RESULTS`, at once or some time later."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.number = 0

    def check(self, script: Script) -> Deferred[None]:
        return succeed(None)

    def run(self, tenant_id: object, script: Script, values: object) -> Deferred[Any]:
        self.number += 1
        if script.source not in RESULTS:
            return fail(ScriptFailed("it threw"))
        result: Deferred[Any] = Deferred()
        if self.number % 3:
            result.callback(RESULTS[script.source])
        else:
            self.clock.callLater(0.01 * (self.number % 7), result.callback, RESULTS[script.source])
        return result


class LateWeb:
    """Every second request has no response, and the others have one later."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.number = 0

    def call(self, tenant_id: object, request: object, **more: object) -> Deferred[WebResponse]:
        self.number += 1
        if self.number % 2:
            return fail(WebCallFailed("nobody answers"))
        response: Deferred[WebResponse] = Deferred()
        self.clock.callLater(
            0.5, response.callback, WebResponse(status=200, reason="OK", headers={}, body=b'{"temperature":2}')
        )
        return response


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Any]:
    count = draw(st.integers(1, 9))
    nodes, connections = [], []
    for index in range(count):
        kind = draw(st.sampled_from(sorted(CONFIGURATIONS)))
        nodes.append(
            {
                "type": kind,
                "name": draw(st.sampled_from(["A", "Success", f"node {index}"])),
                "configuration": draw(st.sampled_from(CONFIGURATIONS[kind])),
                "debugMode": draw(st.booleans()),
            }
        )
        labels = NODE_TYPES[kind].labels
        some = [label for label in (ANY_LABEL if labels is None else labels) if draw(st.booleans())]
        least = 0 if NODE_TYPES[kind].takes_time else index + 1
        for label in some if least < count else ():
            for end in draw(st.lists(st.integers(least, count - 1), max_size=2, unique=True)):
                connections.append({"fromIndex": index, "toIndex": end, "type": label})
    return {"firstNodeIndex": 0, "nodes": nodes, "connections": connections}


WAYS = ["telemetry", "attributes", "question", "call", "persistent call", "REST", "time"]


class Plant:
    """A RuleWorld with a group of three devices: the first answers at once, the second never, the third is away."""

    def __init__(self, graph: dict[str, Any]) -> None:
        scripts, web = LateScripts(), LateWeb()
        self.world = world = RuleWorld(direct=False, rules={"max_hops": 60}, scripts=scripts, web=web)
        scripts.clock = web.clock = world.clock
        self.devices = [world.device, device(101), device(102)]
        for each in self.devices[1:]:
            world.add(each)
            relation = Relation(tenant_id=TENANT, source=world.device.id, target=each.id, type="Contains")
            result_of(world.store.rules.relate(relation, most=10))
        self.links: list[FakeLink] = [world.link(self.devices[0], reply=b"{}"), world.link(self.devices[1])]
        self.waiting: list[Deferred[Any]] = []
        result_of(Deferred.fromCoroutine(world.rules.chains.check(TENANT, read_graph(jsontext.encode(graph)))))
        world.put(graph)

    def do(self, way: str, number: int) -> None:
        world, of = self.world, self.devices[number]
        session, now = world.session(of), world.now_ms()
        if way == "time":
            world.clock.advance(2.5)
            return
        if way == "telemetry":
            posted = parse_telemetry(b'{"temperature":21}', world.broker.telemetry.settings, now_ms=now)
            waiting = maybeDeferred(world.broker.keep_telemetry, session, posted)
        elif way == "attributes":
            values = parse_attributes(b'{"maker":"Ada"}', world.broker.telemetry.settings)
            waiting = maybeDeferred(world.broker.keep_attributes, session, values)
        elif way == "question":
            question = Question(method="ping", params=b"{}", transport="TEST", number=number)
            waiting = maybeDeferred(world.broker.ask, session, question)
        elif way == "REST":
            waiting = world.rules.rest_request(TENANT, Originator(DEVICE, of.id), b'{"a":1}', timeout=9)
        else:
            request = CallRequest(method="m", params=b"{}", timeout=11, persistent=way != "call", expiration_time=None)
            waiting = world.call(request, device_id=of.id)
        self.waiting.append(waiting)


@settings(max_examples=150, deadline=None)
@given(graph=graphs(), ways=st.lists(st.tuples(st.sampled_from(WAYS), st.integers(0, 2)), min_size=1, max_size=8))
def test_every_message_ends_and_everybody_hears_how(graph: dict[str, Any], ways: list[tuple[str, int]]) -> None:
    try:
        plant = Plant(graph)
    except ChainRefused as refused:
        raise AssertionError(f"a chain that is well was refused: {refused.message}") from None
    for way, number in ways:
        plant.do(way, number)
    world, engine = plant.world, plant.world.rules.engine
    for _ in range(200):
        if not engine.running and all(waiting.called for waiting in plant.waiting):
            break
        world.clock.advance(5)
    assert not engine.running
    assert not world.rules.held
    assert [len(some) for some in (world.rules.submissions, world.rules.questions)] == [0, 0]
    for waiting in plant.waiting:
        outcome: list[Any] = []
        waiting.addBoth(outcome.append)
        assert outcome, "somebody was not told"
        error = getattr(outcome[0], "value", None)
        assert error is None or isinstance(error, BrokerError), error
    assert engine.passed >= sum(way != "time" for way, _ in ways)


ONE_SCRIPT_AFTER_ANOTHER = {
    "firstNodeIndex": 0,
    "nodes": [
        {
            "type": f"{RULES}.action.TbLogNode",
            "name": name,
            "configuration": {"scriptLang": "JS", "jsScript": "'A'"},
            "debugMode": False,
        }
        for name in "AB"
    ],
    "connections": [{"fromIndex": 0, "toIndex": 1, "type": "Success"}],
}


@settings(max_examples=60, deadline=None)
@example(graph=ONE_SCRIPT_AFTER_ANOTHER, ways=[("telemetry", 0)] * 7 + [("question", 0)])
@given(graph=graphs(), ways=st.lists(st.tuples(st.sampled_from(WAYS), st.integers(0, 2)), min_size=1, max_size=8))
def test_a_stop_at_any_time_leaves_nobody_waiting(graph: dict[str, Any], ways: list[tuple[str, int]]) -> None:
    plant = Plant(graph)
    for way, number in ways:
        plant.do(way, number)
    plant.world.broker.rules.stop()
    for _ in range(120):  # what scripts and others had begun, and what they begin behind that
        plant.world.clock.advance(0.5)
    assert not plant.world.rules.held
    assert [len(some) for some in (plant.world.rules.submissions, plant.world.rules.questions)] == [0, 0]
    for waiting in plant.waiting:
        assert waiting.called, "somebody still waits"
        waiting.addErrback(lambda failure: failure.trap(BrokerError))
