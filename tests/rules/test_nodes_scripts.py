"""Script filter, switch and transform, and log."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import result_of
from node_bench import Bench, checked, refusal
from rule_world import RuleWorld
from twisted.internet.defer import Deferred

from rpcbroker.rules.nodes.scripts import LOG_SCRIPT
from rpcbroker.rules.ports import Language, Script

FILTER, SWITCH = "filter.TbJsFilterNode", "filter.TbJsSwitchNode"
TRANSFORM, LOG = "transform.TbTransformMsgNode", "action.TbLogNode"
JS = {"scriptLang": "JS", "jsScript": "script", "tbelScript": "return msg;"}


def scripted(type_: str, result: Any, configuration: Any = JS) -> Bench:
    """A node whose script returns this."""
    world = RuleWorld()
    world.scripts.known["script"] = lambda *_: result
    return Bench(type_, configuration, world)


@pytest.mark.parametrize("type_", [FILTER, SWITCH, TRANSFORM, LOG])
@pytest.mark.parametrize(
    ("configuration", "source"),
    [
        ({"jsScript": "old"}, "old"),
        ({"scriptLang": None, "jsScript": "old", "tbelScript": None}, "old"),
        ({"scriptLang": "JS", "jsScript": "js", "tbelScript": "tbel"}, "js"),
        ({"scriptLang": "TBEL", "jsScript": "js", "tbelScript": "tbel", "more": [1]}, "tbel"),
    ],
)
def test_the_script_of_the_language_gets_message_metadata_and_type(
    type_: str, configuration: dict[str, Any], source: str
) -> None:
    world = RuleWorld()
    got: list[Any] = []
    world.scripts.known[source] = lambda *values: got.append(values)
    bench = Bench(type_, configuration, world)
    bench.send({"t": [1, 2.5]}, metadata={"k": "v"}, type="T")
    assert got == [({"t": [1, 2.5]}, {"k": "v"}, "T")]


@pytest.mark.parametrize(("result", "label"), [(True, "True"), (False, "False")])
def test_a_filter_tells_true_from_false(result: bool, label: str) -> None:
    bench = scripted(FILTER, result)
    bench.send({"a": 1})
    assert bench.labels == [label]
    assert bench.bodies == [{"a": 1}]


@pytest.mark.parametrize(
    ("result", "kind"),
    [(None, "nothing"), (1, "a number"), ("true", "a text"), ([True], "an array"), ({}, "an object")],
)
def test_a_filter_that_returns_no_boolean_fails(result: Any, kind: str) -> None:
    bench = scripted(FILTER, result)
    bench.send()
    assert bench.failure == f"The script must return true or false, and returned {kind}"


@pytest.mark.parametrize(
    ("result", "labels"),
    [("one", ["one"]), (["a", "b"], ["a", "b"]), (["a", "a"], ["a"]), ([], [None]), ([""], [""])],
)
def test_a_switch_sends_on_under_each_label_once(result: Any, labels: list[str | None]) -> None:
    bench = scripted(SWITCH, result)
    assert bench.send().ended
    assert bench.labels == labels


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (None, "and returned nothing"),
        (True, "and returned a boolean"),
        ({"a": 1}, "and returned an object"),
        (["a", 1], "and returned one with a number"),
        ([["a"]], "and returned one with an array"),
        ([str(number) for number in range(1001)], "more than 1,000 labels"),
    ],
)
def test_a_switch_that_returns_no_labels_fails(result: Any, said: str) -> None:
    bench = scripted(SWITCH, result)
    bench.send()
    assert said in bench.failure


@pytest.mark.parametrize(
    ("result", "type_", "data", "metadata"),
    [
        ({}, "T", b'{"a":1}', {"k": "v"}),
        ({"msg": {"b": [2]}}, "T", b'{"b":[2]}', {"k": "v"}),
        ({"msg": None}, "T", b"null", {"k": "v"}),
        ({"msg": "text"}, "T", b'"text"', {"k": "v"}),
        ({"msgType": "NEW"}, "NEW", b'{"a":1}', {"k": "v"}),
        ({"msgType": "", "metadata": None}, "T", b'{"a":1}', {"k": "v"}),
        (
            {"metadata": {"n": 1, "f": 1.5, "b": True, "s": "x", "o": {"a": [1]}, "gone": None}},
            "T",
            b'{"a":1}',
            {"n": "1", "f": "1.5", "b": "true", "s": "x", "o": '{"a":[1]}'},
        ),
    ],
)
def test_a_transform_replaces_what_the_script_returns(
    result: Any, type_: str, data: bytes, metadata: dict[str, str]
) -> None:
    bench = scripted(TRANSFORM, result)
    bench.send({"a": 1}, metadata={"k": "v"}, type="T")
    [(label, went)] = bench.came
    assert (label, went.type, went.data, went.metadata) == ("Success", type_, data, metadata)


def test_a_transform_may_make_several_messages_each_with_an_id_of_its_own() -> None:
    bench = scripted(TRANSFORM, [{"msg": 1}, {"msg": 2, "msgType": "B"}, {}])
    run = bench.send({"a": 1}, type="T")
    assert [(label, went.type, went.data) for label, went in bench.came] == [
        ("Success", "T", b"1"),
        ("Success", "B", b"2"),
        ("Success", "T", b'{"a":1}'),
    ]
    assert len({went.id for _, went in bench.came}) == 3
    assert bench.came[0][1].id == run.message.id


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (None, "must return an object with msg, metadata and msgType, and returned nothing"),
        (5, "and returned a number"),
        ([{}, 5], "and returned a number"),
        ([[]], "and returned an array"),
        ({"metadata": "k"}, "metadata must be an object, and the script returned a text there"),
        ({"metadata": []}, "metadata must be an object, and the script returned an array there"),
        ({"msgType": 5}, "msgType must be a text, and the script returned a number there"),
        ([{}] * 1001, "More than 1,000 messages would become of one"),
    ],
)
def test_a_transform_that_returns_another_shape_fails(result: Any, said: str) -> None:
    bench = scripted(TRANSFORM, result)
    bench.send({"a": 1})
    assert said in bench.failure
    assert bench.bodies == [{"a": 1}]


def test_the_usual_log_script_runs_without_a_script() -> None:
    for script, start in [(LOG_SCRIPT, "\n"), (LOG_SCRIPT.replace("'\\nInc", "'Inc", 1), "")]:
        for language in ("JS", "TBEL"):
            world, logged = _logging()
            bench = Bench(LOG, {"scriptLang": language, "jsScript": script, "tbelScript": script}, world)
            bench.send({"a": 1}, metadata={"k": "v"})
            assert bench.labels == ["Success"]
            assert world.scripts.ran == []
            text = start + 'Incoming message:\n{"a":1}\nIncoming metadata:\n{"k":"v"}'
            assert logged == [("Node", text, True)]


def test_data_that_are_no_json_are_logged_by_the_usual_script_as_they_are() -> None:
    world, logged = _logging()
    Bench(LOG, {"jsScript": LOG_SCRIPT}, world).send(b"\xff[")
    assert logged[0][1].startswith("\nIncoming message:\n\ufffd[\n")


def test_another_log_script_is_run_and_must_return_a_text() -> None:
    world, logged = _logging()
    world.scripts.known["script"] = lambda msg, *_: msg["say"]
    bench = Bench(LOG, {"jsScript": "script"}, world)
    bench.send({"say": "hello"})
    bench.send({"say": 7})
    assert logged == [("Node", "hello", False)]
    assert bench.labels == ["Success", "Failure"]
    assert bench.texts == ["The script must return a text, and returned a number"]


def _logging() -> tuple[RuleWorld, list[tuple[str, str, bool]]]:
    world = RuleWorld()
    logged: list[tuple[str, str, bool]] = []
    world.rules._logged = lambda *given: logged.append(given)  # type: ignore[method-assign]
    return world, logged


@pytest.mark.parametrize("type_", [FILTER, SWITCH, TRANSFORM, LOG])
def test_a_script_that_fails_and_data_that_are_no_json_are_failures(type_: str) -> None:
    bench = Bench(type_, {"jsScript": "unknown"})
    bench.send()
    assert bench.failure == "'unknown' is not known to this test"
    for data in (b"", b"{", b"[" * 65 + b"]" * 65):
        bench = Bench(type_, {"jsScript": "unknown"})
        bench.send(data)
        assert bench.failure.startswith("The message is not JSON: ")
        assert bench.world.scripts.ran == []


def test_messages_go_on_when_the_script_has_returned() -> None:
    waiting: Deferred[Any] = Deferred()
    world = RuleWorld()
    world.scripts.run = lambda *_: waiting  # type: ignore[method-assign]
    bench = Bench(FILTER, JS, world)
    run = bench.send()
    assert not run.ended
    waiting.callback(True)
    assert run.ended
    assert bench.labels == ["True"]


@pytest.mark.parametrize("type_", [FILTER, SWITCH, TRANSFORM, LOG, "debug.TbMsgGeneratorNode"])
@pytest.mark.parametrize(
    ("configuration", "said"),
    [
        ({}, "there is no jsScript"),
        ({"jsScript": "  "}, "there is no jsScript"),
        ({"scriptLang": "TBEL", "jsScript": "return 1;"}, "there is no tbelScript"),
        ({"scriptLang": "LUA", "jsScript": "x"}, "$.scriptLang"),
        ({"jsScript": 5}, "$.jsScript"),
    ],
)
def test_bad_configurations_are_refused_by_field(type_: str, configuration: dict[str, Any], said: str) -> None:
    assert said in refusal(type_, configuration)


def test_scripts_are_shown_for_acceptance_but_for_the_usual_one() -> None:
    accepted: list[Script] = []
    world = RuleWorld()
    check = world.scripts.check
    world.scripts.check = lambda script: accepted.append(script) or check(script)  # type: ignore[func-returns-value, method-assign]
    for type_, configuration in [
        (FILTER, {"jsScript": "a"}),
        (SWITCH, {"scriptLang": "TBEL", "tbelScript": "b"}),
        (TRANSFORM, {"jsScript": "c"}),
        (LOG, {"jsScript": "d"}),
        (LOG, {"jsScript": LOG_SCRIPT}),
        ("debug.TbMsgGeneratorNode", {"jsScript": "e"}),
    ]:
        result_of(checked(world, type_, configuration))
    assert [(script.language, script.source) for script in accepted] == [
        (Language.JS, "a"),
        (Language.TBEL, "b"),
        (Language.JS, "c"),
        (Language.JS, "d"),
        (Language.JS, "e"),
    ]
    assert accepted[-1].arguments == ("prevMsg", "prevMetadata", "prevMsgType")
