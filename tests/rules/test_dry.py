"""Dry runs: messages pass chains, and nothing happens but what is told."""

from __future__ import annotations

from itertools import count
from typing import Any
from uuid import UUID

import pytest
from fakes import result_of
from rule_world import CALL, REPLY, RULES, SWITCH, TYPE_FILTER, FakeScripts, graph
from twisted.internet.defer import Deferred

from rpcbroker.core import jsontext
from rpcbroker.core.rules_settings import RulesSettings
from rpcbroker.rules import types
from rpcbroker.rules.chain import ChainRefused
from rpcbroker.rules.dry import DryRun, Path, Step
from rpcbroker.rules.dry_ports import DryDevice, DryMessage, asking, calling
from rpcbroker.rules.format import ChainFile
from rpcbroker.rules.ports import ScriptFailed

OWN = "rpcbroker.rules.OwnAnswer"
DELAY = f"{RULES}.delay.TbMsgDelayNode"
TRANSFORM = f"{RULES}.transform.TbTransformMsgNode"
DUPLICATE = f"{RULES}.transform.TbDuplicateMsgToRelatedNode"
WEB = f"{RULES}.rest.TbRestApiCallNode"
SAVE = f"{RULES}.telemetry.TbMsgTimeseriesNode"
SAVE_ATTRIBUTES = f"{RULES}.telemetry.TbMsgAttributesNode"
GET = f"{RULES}.metadata.TbGetAttributesNode"
LOG = f"{RULES}.action.TbLogNode"
ENTER = f"{RULES}.flow.TbRuleChainInputNode"
LEAVE = f"{RULES}.flow.TbRuleChainOutputNode"
NOW = 1_700_000_000_000
ANSWERING = graph(
    [(SWITCH, "Switch", {}), (OWN, "Own", {}), (REPLY, "Reply", {})],
    (0, 1, "RPC Request from Device"),
    (1, 2, "Unknown Method"),
)
CALLING = graph([(SWITCH, "Switch", {}), (CALL, "Call", {})], (0, 1, "RPC Request to Device"))


def chain(a_graph: Any, name: str = "Test", **more: Any) -> ChainFile:
    text = jsontext.encode({"ruleChain": {"name": name, **more}, "metadata": a_graph})
    file: ChainFile = jsontext.decode_as(ChainFile, text)
    return file


def dry_run(given: DryMessage, *chains: ChainFile, scripts: FakeScripts | None = None, **settings: Any) -> Path:
    numbers = count(1)
    run = DryRun(
        chains,
        given,
        scripts=scripts or FakeScripts(),
        now_ms=NOW,
        new_uuid=lambda: UUID(int=next(numbers)),
        settings=RulesSettings(**settings),
    )
    path: Path = result_of(Deferred.fromCoroutine(run.run()))
    return path


def passed(path: Path) -> list[tuple[str, str | None]]:
    return [(step.node, step.label) for step in path.steps]


def deeds(step: Step) -> list[Any]:
    """As JSON has them."""
    return [jsontext.decode(jsontext.encode([deed.kind, deed.detail])) for deed in step.deeds]


def test_a_question_is_answered_by_the_brokers_own_answer() -> None:
    path = dry_run(asking("getCurrentTime", None), chain(ANSWERING))
    assert passed(path) == [("Switch", "RPC Request from Device"), ("Own", "Success")]
    assert (path.answer, path.error, path.ended) == (b"%d" % NOW, None, True)
    assert deeds(path.steps[1]) == [["reply", {"payload": NOW, "waitedFor": True}]]
    assert path.steps[0].deeds == ()
    assert [step.last for step in path.steps] == [False, True]


def test_a_question_is_answered_by_a_reply_node_with_the_data_of_its_message() -> None:
    path = dry_run(asking("open", {"door": 3}), chain(ANSWERING))
    assert passed(path)[1:] == [("Own", "Unknown Method"), ("Reply", "Success")]
    assert path.answer == b'{"method":"open","params":{"door":3}}'


def test_of_two_answers_the_first_is_what_the_device_gets() -> None:
    nodes = [(SWITCH, "Switch", {}), (REPLY, "One", {}), (REPLY, "Two", {})]
    label = "RPC Request from Device"
    path = dry_run(asking("m", 1), chain(graph(nodes, (0, 1, label), (0, 2, label))))
    assert [deed["waitedFor"] for step in path.steps for _, deed in deeds(step)] == [True, False]


def test_where_no_node_answers_the_broker_does_if_it_can() -> None:
    nothing = chain(graph([(SWITCH, "Switch", {})]))
    path = dry_run(asking("ping", None), nothing)
    assert (path.answer, path.error) == (b'"pong"', None)
    path = dry_run(asking("open", None), nothing)
    assert (path.answer, path.error) == (None, 'no rule answers the method "open"')
    path = dry_run(asking("getAttributes", 7), nothing)
    assert path.answer is None
    assert path.error is not None
    assert path.error.startswith("getAttributes takes clientKeys and sharedKeys")


def test_a_failure_that_nothing_takes_is_told_to_the_device() -> None:
    given = asking("open", None)
    given.metadata["requestId"] = ""
    path = dry_run(given, chain(ANSWERING))
    text = "Request id is not present in the metadata!"
    assert (path.steps[-1].label, path.steps[-1].text) == ("Failure", text)
    assert path.error == f'no rule answers the method "open": Reply: {text}'


def test_own_answers_know_the_attributes_that_are_given() -> None:
    attributes = b'{"CLIENT_SCOPE":{"v":"1.4"},"SHARED_SCOPE":{"limit":7,"other":8},"SERVER_SCOPE":{"secret":1}}'
    given = asking("getAttributes", {"sharedKeys": "limit"})
    given.attributes = jsontext.decode_as(DryMessage, b'{"type":"T","attributes":%b}' % attributes).attributes
    assert dry_run(given, chain(ANSWERING)).answer == b'{"client":{},"shared":{"limit":7}}'
    given.data = {"method": "getAttributes", "params": {}}
    whole = dry_run(given, chain(ANSWERING)).answer
    assert whole == b'{"client":{"v":"1.4"},"shared":{"limit":7,"other":8}}'


def test_a_call_is_answered_with_the_reply_that_is_given() -> None:
    given = calling("setGpio", {"pin": 7})
    given.reply = {"ok": True}
    path = dry_run(given, chain(CALLING))
    assert passed(path) == [("Switch", "RPC Request to Device"), ("Call", "Success")]
    called = {"device": "device", "method": "setGpio", "params": {"pin": 7}, "oneway": False, "persistent": False}
    assert deeds(path.steps[1]) == [["call", called]]
    assert path.answer == path.steps[1].message.data == b'{"ok":true}'


def test_a_call_to_a_device_that_is_offline_fails() -> None:
    given = calling("m", None)
    given.offline = True
    path = dry_run(given, chain(CALLING))
    assert passed(path)[1] == ("Call", "Failure")
    assert (path.answer, path.error) == (None, "The device is offline")
    assert path.steps[1].message.data == b'{"error":"NO_ACTIVE_CONNECTION"}'


@pytest.mark.parametrize(("key", "answer"), [("oneway", b"{}"), ("persistent", b'{"rpcId":"')])
def test_one_way_and_persistent_calls_have_answers_of_their_own(key: str, answer: bytes) -> None:
    given = calling("m", None)
    given.reply = 7
    given.metadata = {key: "true"}
    told = dry_run(given, chain(CALLING)).answer
    assert told is not None
    assert told.startswith(answer)


def test_a_call_that_no_node_takes_would_expire() -> None:
    path = dry_run(calling("m", None), chain(graph([(SWITCH, "Switch", {})])))
    assert path.answer is None
    assert path.error is not None
    assert "NOT_FORWARDED" in path.error


def test_a_call_under_another_type_is_not_the_callers() -> None:
    given = calling("m", None)
    given.type = "MY_OWN"
    path = dry_run(given, chain(graph([(CALL, "Call", {})])))
    assert passed(path) == [("Call", "Success")]
    assert (path.answer, path.error) == (None, None)


def test_nobody_waits_for_what_comes_of_telemetry() -> None:
    given = DryMessage(types.TELEMETRY, {"t": 1}, originator=DryDevice("lamp", "light"))
    path = dry_run(given, chain(ANSWERING))
    assert (path.answer, path.error, path.ended) == (None, None, True)
    message = path.steps[0].message
    assert (message.data, message.time) == (b'{"t":1}', NOW)
    assert message.metadata == {"deviceName": "lamp", "deviceType": "light", "ts": str(NOW)}


def test_a_cycle_ends_at_the_hop_limit() -> None:
    looping = graph([(CALL, "Call", {})], (0, 0, "Success"))
    given = DryMessage("T", {"method": "m", "params": None}, reply={"method": "m", "params": 1})
    path = dry_run(given, chain(looping), max_hops=20)
    assert len(path.steps) == 21
    assert path.ended
    assert path.steps[-1].text == "The message has passed 20 nodes, and may no more"


def test_a_bad_chain_is_refused_by_its_name() -> None:
    with pytest.raises(ChainRefused, match="'Broken': The rule chain cannot be taken: node 0 'x': the type 'y'"):
        dry_run(asking("m", None), chain(ANSWERING), chain(graph([("y", "x", {})]), name="Broken"))


def test_a_message_has_no_other_members() -> None:
    with pytest.raises(jsontext.BadJSON, match="datta"):
        jsontext.decode_as(DryMessage, b'{"type":"T","datta":{}}')


def test_a_filter_ends_the_branch_where_nothing_is_connected() -> None:
    path = dry_run(calling("m", None), chain(graph([(TYPE_FILTER, "Filter", {})])))
    assert [(step.label, step.last) for step in path.steps] == [("False", True)]


def test_delays_take_no_time_and_are_told() -> None:
    delayed = graph(
        [(DELAY, "Wait", {"periodValue": 3, "periodTimeUnit": "HOURS"}), (OWN, "Own", {})],
        (0, 1, "Success"),
    )
    path = dry_run(asking("getCurrentTime", None), chain(delayed))
    assert path.seconds == 3 * 3600
    assert path.answer == b"%d" % (NOW + 3 * 3_600_000), "its clock has gone on"


def test_a_cycle_through_a_delay_ends_at_the_hop_limit() -> None:
    round_and_round = graph([(DELAY, "Wait", {"periodValue": 1})], (0, 0, "Success"))
    path = dry_run(asking("m", None), chain(round_and_round), max_hops=50)
    assert path.ended
    assert path.seconds == 50
    assert path.error is not None
    assert "has passed 50 nodes" in path.error


class SlowScripts(FakeScripts):
    """They end when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Deferred[Any]] = []

    def run(self, tenant_id: UUID, script: Any, values: Any) -> Deferred[Any]:
        self.waiting.append(Deferred())
        return self.waiting[-1]


def test_a_run_waits_for_scripts_also_when_these_run_side_by_side() -> None:
    script = {"scriptLang": "JS", "jsScript": "return 1;"}
    both = graph(
        [(TRANSFORM, "First", script), (TRANSFORM, "A", script), (TRANSFORM, "B", script), (REPLY, "Reply", {})],
        (0, 1, "Success"),
        (0, 2, "Success"),
        (2, 3, "Success"),
    )
    scripts = SlowScripts()
    numbers = count(1)
    run = DryRun(
        [chain(both)],
        asking("m", None),
        scripts=scripts,
        now_ms=NOW,
        new_uuid=lambda: UUID(int=next(numbers)),
        settings=RulesSettings(),
    )
    waiting = Deferred.fromCoroutine(run.run())
    scripts.waiting.pop(0).callback({"msg": 1})
    assert not waiting.called
    scripts.waiting.pop(0).callback({"msg": 2})
    assert not waiting.called
    scripts.waiting.pop(0).errback(ScriptFailed("it throws"))
    path: Path = result_of(waiting)
    assert passed(path) == [("First", "Success"), ("A", "Success"), ("B", "Failure")]
    assert path.error == 'no rule answers the method "m": B: it throws'


def test_a_message_goes_into_another_chain_and_comes_back() -> None:
    other = str(UUID(int=700))
    outer = graph([(ENTER, "In", {"ruleChainId": other}), (OWN, "Own", {})], (0, 1, "known"))
    inner = graph([(SWITCH, "Switch", {}), (LEAVE, "known", {})], (0, 1, "RPC Request from Device"))
    chains = chain(outer), chain(inner, "Inner", id={"entityType": "RULE_CHAIN", "id": other})
    path = dry_run(asking("ping", None), *chains)
    assert [(step.chain, step.node) for step in path.steps] == [
        ("Test", "In"),
        ("Inner", "Switch"),
        ("Inner", "known"),
        ("Test", "In"),
        ("Test", "Own"),
    ]
    assert path.answer == b'"pong"'
    assert "There is no rule chain" in str(dry_run(asking("ping", None), chains[0]).steps[0].text)


def test_a_message_enters_the_chain_that_says_it_is_the_root() -> None:
    outer = graph([(ENTER, "In", {"forwardMsgToDefaultRuleChain": True})])
    path = dry_run(asking("ping", None), chain(outer), chain(ANSWERING, "Root", root=True))
    assert [step.chain for step in path.steps] == ["Test", "Root", "Root"]


def test_related_devices_are_those_that_are_given() -> None:
    fan_out = graph([(DUPLICATE, "All", {"relationsQuery": {}}), (CALL, "Call", {})], (0, 1, "Success"))
    given = DryMessage("T", {"method": "m", "params": 1}, related=[DryDevice("lamp-1"), DryDevice("lamp-2")])
    path = dry_run(given, chain(fan_out))
    called = [deed["device"] for step in path.steps for kind, deed in deeds(step) if kind == "call"]
    assert called == ["lamp-1", "lamp-2"]


def test_what_would_be_logged_is_told() -> None:
    script = {"scriptLang": "JS", "jsScript": "return 'hi';"}
    path = dry_run(
        asking("m", None),
        chain(graph([(LOG, "Log", script)])),
        scripts=FakeScripts({"return 'hi';": lambda *_: "hi"}),
    )
    assert deeds(path.steps[0]) == [["log", {"text": "hi"}]]


@pytest.mark.parametrize(("status", "label"), [(200, "Success"), (404, "Failure")])
def test_other_servers_are_not_asked_but_answer_as_is_given(status: int, label: str) -> None:
    configuration = {"restEndpointUrlPattern": "https://door.example/$[params.door]", "requestMethod": "POST"}
    given = asking("open", {"door": 3})
    given.web_reply, given.web_status = {"open": True}, status
    nodes = [(WEB, "Door", configuration), (REPLY, "Reply", {})]
    path = dry_run(given, chain(graph(nodes, (0, 1, "Success"))))
    body = {"method": "open", "params": {"door": 3}}
    assert deeds(path.steps[0]) == [["web", {"method": "POST", "url": "https://door.example/3", "body": body}]]
    assert path.steps[0].label == label
    assert path.answer == (b'{"open":true}' if label == "Success" else None)


def test_what_would_be_saved_is_told_and_what_cannot_be_fails() -> None:
    saving = chain(graph([(SAVE, "Save", {})]))
    path = dry_run(DryMessage(types.TELEMETRY, {"ts": 5, "values": {"t": "21"}}), saving)
    assert deeds(path.steps[0]) == [
        ["save telemetry", {"device": "device", "points": [{"ts": 5, "values": {"t": 21}}]}]
    ]
    path = dry_run(DryMessage(types.TELEMETRY, 7), saving)
    assert (path.steps[0].label, path.steps[0].deeds) == ("Failure", ())
    saving = chain(graph([(SAVE_ATTRIBUTES, "Save", {"scope": "SERVER_SCOPE"})]))
    path = dry_run(DryMessage(types.ATTRIBUTES, {"v": 1}), saving)
    told = {"device": "device", "scope": "SERVER_SCOPE", "values": {"v": 1}}
    assert deeds(path.steps[0]) == [["save attributes", told]]


def test_attributes_and_telemetry_are_those_that_are_given() -> None:
    getting = graph([(GET, "Get", {"serverAttributeNames": ["limit"], "latestTsKeyNames": ["t"]})])
    text = b'{"type":"T","attributes":{"SERVER_SCOPE":{"limit":21.5}},"telemetry":{"t":20}}'
    path = dry_run(jsontext.decode_as(DryMessage, text), chain(getting))
    assert path.steps[0].label == "Success", path.steps[0].text
    assert {"ss_limit": "21.5", "t": "20"}.items() <= path.steps[0].message.metadata.items()
