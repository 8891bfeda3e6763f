"""`rpcbroker rules check` and `rules test` with files: no broker is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import click.testing
import pytest
from rule_world import CALL, REPLY, SWITCH, graph

Run = Callable[..., click.testing.Result]

OWN = "rpcbroker.rules.OwnAnswer"
BOTH = graph(
    [(SWITCH, "Switch", {}), (OWN, "Own", {}), (CALL, "Call", {})],
    (0, 1, "RPC Request from Device"),
    (0, 2, "RPC Request to Device"),
)


def exported(a_graph: Any, name: str = "Floor", **more: Any) -> dict[str, Any]:
    return {"ruleChain": {"name": name, "type": "CORE", **more}, "metadata": a_graph}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """A file with this JSON in it; its path."""

    def write(value: Any, name: str = "chain.json") -> str:
        file = tmp_path / name
        file.write_text(value if isinstance(value, str) else json.dumps(value))
        return str(file)

    return write


# -- check


def test_a_good_chain_is_well(run: Run, write: Callable[..., str]) -> None:
    file = write(exported(BOTH))
    done = run("rules", "check", file)
    assert (done.exit_code, done.stdout) == (0, f"ok      {file}: Floor, 3 nodes\n")


def test_all_faults_are_told_with_their_nodes(run: Run, write: Callable[..., str]) -> None:
    nodes = [(f"no.such.Node{n}", f"n{n}", {}) for n in range(25)]
    broken = write(exported(graph([*nodes, (CALL, "Call", {"timeoutInSeconds": "x"})], (0, 99, "Success"))))
    good = write(exported(BOTH), "good.json")
    done = run("rules", "check", good, broken)
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert done.exit_code == 1
    assert done.stderr == "Error: 1 of 2 rule chains cannot be taken.\n"
    assert lines[0] == f"ok      {good}: Floor, 3 nodes"
    assert lines[1] == f"BROKEN  {broken}: Floor, 26 nodes"
    assert lines[2:27] == [f"node {n} 'n{n}': the type 'no.such.Node{n}' is not known here" for n in range(25)]
    assert lines[27].startswith("node 25 'Call': configuration: ")
    assert "timeoutInSeconds" in lines[27]
    assert lines[28] == "connection 0: there is no node 99"
    assert len(lines) == 29


def test_what_is_only_strange_is_a_warning(run: Run, write: Callable[..., str]) -> None:
    file = write(exported(graph([(SWITCH, "Switch", {}), (REPLY, "lost", {})])))
    done = run("rules", "check", file)
    assert done.exit_code == 0
    assert "Warning: node 1 'lost': no message gets there" in done.stdout


def test_what_was_found_is_told_as_json(run: Run, write: Callable[..., str]) -> None:
    file = write(exported(graph([("x", "y", {})])))
    done = run("rules", "check", "--json", file)
    fault = "node 0 'y': the type 'x' is not known here"
    assert json.loads(done.stdout) == [{"file": file, "chain": "Floor", "nodes": 1, "faults": [fault], "warnings": []}]
    assert done.exit_code == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "is no exported rule chain: not JSON"),
        ('{"nodes":[]}', "is no exported rule chain"),
        ('{"ruleChains":[],"metadata":[]}', "is no exported rule chain: there are no ruleChains in it"),
        ('{"ruleChain":{"name":"a","id":{"entityType":"RULE_CHAIN","id":"7"}},"metadata":{}}', "its id '7' is no UUID"),
        ('{"ruleChains":[{"name":"a"}],"metadata":[]}', "there are 1 ruleChains and 0 metadata"),
        (f'{{"ruleChain":{"[" * 100}{"]" * 100}}}', "nested deeper"),
    ],
)
def test_what_is_no_exported_chain_is_refused(run: Run, write: Callable[..., str], text: str, why: str) -> None:
    done = run("rules", "check", write(text))
    assert done.exit_code == 1
    assert why in done.stderr
    assert "Hint: " in done.stderr


def test_a_file_without_end_is_not_read_to_its_end(run: Run) -> None:
    done = run("rules", "check", "/dev/zero")
    assert (done.exit_code, done.stderr) == (1, "Error: /dev/zero has more than 33,554,432 bytes.\n")


def test_a_file_of_an_editor_that_marks_them_is_read(run: Run, write: Callable[..., str]) -> None:
    assert run("rules", "check", write("\ufeff" + json.dumps(exported(BOTH)))).exit_code == 0


def test_a_file_that_is_not_there(run: Run) -> None:
    done = run("rules", "check", "/no/such/file.json")
    assert (done.exit_code, done.stderr) == (
        1,
        "Error: /no/such/file.json cannot be read: No such file or directory.\n",
    )


def test_all_chains_of_a_file_are_checked(run: Run, write: Callable[..., str]) -> None:
    ids = [{"entityType": "RULE_CHAIN", "id": str(uuid4())} for _ in range(2)]
    chains = [{"name": name, "id": chain_id} for name, chain_id in zip("AB", ids, strict=True)]
    graphs = [{**BOTH, "ruleChainId": ids[1]}, {**graph([]), "firstNodeIndex": None, "ruleChainId": ids[0]}]
    file = write({"ruleChains": chains, "metadata": graphs})
    done = run("rules", "check", file)
    assert done.stdout.splitlines() == [f"ok      {file}: A, 0 nodes", f"ok      {file}: B, 3 nodes"]


# -- test


def test_the_path_of_a_question_is_printed_with_its_answer(run: Run, write: Callable[..., str]) -> None:
    done = run("rules", "test", write(exported(BOTH)), "--ask", "ping")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "Chain 'Floor':",
        "  0  Switch -> RPC Request from Device",
        "  1  Own -> Success (the end)",
        '       would answer the device: "pong"',
        '       data: "pong"',
        'The device that asked gets: "pong"',
    ]


def test_a_question_that_nobody_answers_is_exit_code_1(run: Run, write: Callable[..., str]) -> None:
    done = run("rules", "test", write(exported(BOTH)), "--ask", "open", "door=3")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1] == ('The device that asked gets no answer: no rule answers the method "open".')


def test_a_call_is_printed_with_the_reply_that_is_given(run: Run, write: Callable[..., str]) -> None:
    done = run("rules", "test", write(exported(BOTH)), "--call", "setGpio", "pin=7", "--reply", '{"ok": true}')
    assert done.exit_code == 0
    assert '       would call device: setGpio {"pin":7}' in done.stdout.splitlines()
    assert done.stdout.splitlines()[-1] == 'The caller gets: {"ok":true}'
    done = run("rules", "test", write(exported(BOTH)), "--call", "setGpio", "--offline")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1] == "The caller gets no answer: The device is offline."


def test_a_message_comes_from_the_command_line_or_a_file(run: Run, write: Callable[..., str]) -> None:
    message = {"type": "TO_SERVER_RPC_REQUEST", "data": {"method": "ping"}, "originator": {"name": "lamp"}}
    for given in (json.dumps(message), "@" + write(message, "message.json")):
        done = run("rules", "test", write(exported(BOTH)), given)
        assert done.stdout.splitlines()[-1] == 'The device that asked gets: "pong"'


def test_the_path_is_told_as_json(run: Run, write: Callable[..., str]) -> None:
    done = run("rules", "test", "--json", write(exported(BOTH)), "--call", "set", "[1]", "--reply", "7")
    path = json.loads(done.stdout)
    assert (path["answer"], path["error"], path["ended"], path["seconds"]) == (7, None, True, 0)
    assert [(step["node"], step["label"]) for step in path["steps"]] == [
        ("Switch", "RPC Request to Device"),
        ("Call", "Success"),
    ]
    called = {"do": "call", "device": "device", "method": "set", "params": [1], "oneway": False, "persistent": False}
    assert path["steps"][1]["would"] == [called]
    assert path["steps"][1]["message"]["data"] == "7"


def test_of_a_message_that_goes_round_only_the_first_steps_are_told(run: Run, write: Callable[..., str]) -> None:
    looping = write(exported(graph([(CALL, "Call", {})], (0, 0, "Success"))))
    message = {"type": "T", "data": {"method": "m", "params": None}, "reply": {"method": "m", "params": None}}
    done = run("rules", "test", looping, json.dumps(message))
    assert "... and 1,901 more steps" in done.stdout.splitlines()


def test_what_would_move_the_cursor_is_not_printed(run: Run, write: Callable[..., str]) -> None:
    named = graph([(SWITCH, "S\x1b[2J", {})])
    done = run("rules", "test", write(exported(named, name="\x1bchain")), '{"type":"T\\u001b"}')
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "Say which message"),
        (['{"type":"T"}', "more"], "Say which message"),
        (["--ask", "a", "--call", "b"], "Either --ask or --call"),
        (['{"type":"T","datta":1}'], "datta"),
        (['{"data":1}'], "type"),
        (["{"], "The message cannot be read: not JSON"),
        (["--ask", "a", "--reply", "{"], "--reply is not JSON"),
    ],
)
def test_a_wrong_message_is_a_wrong_command_line(
    run: Run, write: Callable[..., str], words: list[str], why: str
) -> None:
    done = run("rules", "test", write(exported(BOTH)), *words)
    assert done.exit_code == 2
    assert why in done.stderr


def test_a_bad_chain_is_not_tried(run: Run, write: Callable[..., str]) -> None:
    done = run("rules", "test", write(exported(graph([("x", "y", {})]))), "--ask", "ping")
    assert done.exit_code == 1
    assert "node 0 'y': the type 'x' is not known here" in done.stderr
    assert "rpcbroker rules check" in done.stderr


def test_a_file_that_is_not_there_is_no_chain_of_a_broker(run: Run) -> None:
    done = run("rules", "test", "no-such.json", "--ask", "ping")
    assert (done.exit_code, done.stderr) == (4, "Error: There is no file no-such.json.\n")
