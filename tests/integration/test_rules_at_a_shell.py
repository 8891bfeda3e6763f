"""Rule chains from a shell: the real commands and the real daemon, scripts in real processes, a device that asks."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon import EMAIL, PASSWORD, Daemon
from operating import Operator
from rule_world import REPLY, RULES, SWITCH, graph

ROOT = "Root Rule Chain"
HALVE = {
    "scriptLang": "TBEL",
    "tbelScript": "return {msg: {half: msg.params.x / 2}, metadata: metadata, msgType: msgType};",
}
LOOP = {"scriptLang": "JS", "jsScript": "while (true) {}"}
WHICH = {"scriptLang": "JS", "jsScript": "return [msg.method];"}


def exported(*, loop: dict[str, Any] = LOOP) -> str:
    """A chain that answers the method halve, and does not come back from loop."""
    nodes = [
        (SWITCH, "Switch", {}),
        (f"{RULES}.filter.TbJsSwitchNode", "Which", WHICH),
        (f"{RULES}.transform.TbTransformMsgNode", "Halve", HALVE),
        (f"{RULES}.transform.TbTransformMsgNode", "Loop", loop),
        (REPLY, "Reply", {}),
    ]
    connections = [
        (0, 1, "RPC Request from Device"),
        (1, 2, "halve"),
        (1, 3, "loop"),
        (2, 4, "Success"),
    ]
    return json.dumps({"ruleChain": {"name": "Halves"}, "metadata": graph(nodes, *connections)})


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    directory = tmp_path_factory.mktemp("broker")
    broker = Daemon(directory)
    operator = Operator(directory, broker)
    operator.log_in(EMAIL, PASSWORD)
    (directory / "halves.json").write_text(exported())
    yield operator
    broker.stop()
    assert "Traceback" not in broker.log.read_text()


def ask(operator: Operator, token: str, method: str, params: Any = None) -> tuple[int, Any]:
    """What a device is answered over HTTP."""
    body = json.dumps({"method": method, "params": params}).encode()
    request = urllib.request.Request(f"{operator.broker.http}/api/v1/{token}/rpc", body, method="POST")
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=15) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_what_a_dry_run_foretells_is_what_a_device_is_answered(operator: Operator) -> None:
    token = operator.gets("device", "add", "asker")
    operator.run("rules", "check", "halves.json")
    foretold = operator.gets("rules", "test", "halves.json", "--ask", "halve", "x=3")
    assert foretold.splitlines()[-1] == 'The device that asked gets: {"half":1.5}'
    operator.run("rules", "import", "halves.json", "--root")
    try:
        assert operator.gets("rules", "test", "Halves", "--ask", "halve", "x=3") == foretold
        assert ask(operator, token, "halve", {"x": 3}) == (200, {"half": 1.5})

        lost = operator.run("rules", "test", "Halves", "--ask", "loop", code=1).stdout.strip()
        why = 'no rule answers the method "loop": Loop: the script took longer than 250 ms'
        assert lost.endswith(f"The device that asked gets no answer: {why}.")
        assert ask(operator, token, "loop") == (404, {"error": why})
    finally:
        operator.run("rules", "root", ROOT)
        operator.run("rules", "delete", "Halves", "--yes")
    assert ask(operator, token, "ping") == (200, "pong")


def test_a_script_with_an_unknown_word_is_refused_here_and_there(operator: Operator) -> None:
    file = Path(operator.directory, "bad.json")
    file.write_text(exported(loop={"scriptLang": "TBEL", "tbelScript": "return launchRockets(msg);"}))
    fault = "node 3 'Loop': its script: "
    checked = operator.run("rules", "check", "bad.json", code=1)
    imported = operator.run("rules", "import", "bad.json", code=1)
    for text in (checked.stdout, imported.stderr):
        assert fault in text
        assert "launchRockets" in text
    assert ROOT in operator.gets("rules", "list")
    assert "Halves" not in operator.gets("rules", "list")


def test_why_a_call_was_not_forwarded_is_explained(operator: Operator) -> None:
    operator.run("device", "add", "victim")
    operator.run("rules", "import", "halves.json", "--root")
    try:
        failed = operator.run("call", "victim", "m", "--timeout", "1s", "--connect-timeout", "1s", code=6)
        (call,) = json.loads(operator.gets("calls", "--device", "victim", "--json"))
        told = operator.gets("explain", call["rpcId"])
    finally:
        operator.run("rules", "root", ROOT)
        operator.run("rules", "delete", "Halves", "--yes")
    assert "NOT_FORWARDED" in failed.stderr
    assert "passed 'Switch' of chain 'Halves' as 'RPC Request to Device'" in told
    assert "for no rule chain gave it to the device" in told
    assert "\nHint: A chain gives calls to devices by an 'rpc call request' node" in told
