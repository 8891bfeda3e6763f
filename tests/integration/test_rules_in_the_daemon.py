"""Rule chains in the real daemon: large ones, scripts in processes apart, and what is left after a restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon import Daemon
from paho_device import callable_device, end

RULES = "org.thingsboard.rule.engine"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    yield daemon.login()
    daemon.stop()
    text = daemon.log.read_text()
    assert "Traceback" not in text, text[-5000:]


def make_root(broker: Daemon, nodes: list[Any], *connections: tuple[int, int, str]) -> Any:
    """The graph of a new root chain."""
    chain = broker.ask("POST", "/api/ruleChain", {"name": "mine"})[1]
    wired = [{"fromIndex": start, "toIndex": end, "type": label} for start, end, label in connections]
    graph = {"ruleChainId": chain["id"], "firstNodeIndex": 0, "nodes": nodes, "connections": wired}
    status, saved = broker.ask("POST", "/api/ruleChain/metadata", graph)
    assert status == 200, saved
    assert broker.ask("POST", f"/api/ruleChain/{chain['id']['id']}/root")[0] == 200
    return saved


def node(type_: str, name: str, **configuration: Any) -> dict[str, Any]:
    return {"type": f"{RULES}.{type_}", "name": name, "configuration": configuration}


def test_a_call_passes_a_script_and_the_chain_is_there_after_a_restart(tmp_path: Path) -> None:
    broker = Daemon(tmp_path).login()
    device_id = broker.add_device("lamp", "T")
    script = "msg.params = JSON.stringify({twice: JSON.parse(msg.params) * 2}); return {msg: msg};"
    saved = make_root(
        broker,
        [
            node("filter.TbMsgTypeSwitchNode", "Switch"),
            node("transform.TbTransformMsgNode", "Double", scriptLang="JS", jsScript=script)
            | {"debugSettings": {"allEnabled": True}},
            node("rpc.TbSendRPCRequestNode", "Call", timeoutInSeconds=5),
        ],
        (0, 1, "RPC Request to Device"),
        (1, 2, "Success"),
    )
    call = {"method": "set", "params": 21, "timeout": 5000}
    for again in (False, True):
        if again:
            broker.stop()
            broker = Daemon(tmp_path).login()
        lamp = callable_device(broker.mqtt_port, "T", lambda call: call["params"])
        broker.wait_callable(device_id)
        assert broker.ask("POST", f"/api/rpc/twoway/{device_id}", call) == (200, {"twice": 42})
        end(lamp)
        path = f"/api/events/RULE_NODE/{saved['nodes'][1]['id']['id']}?pageSize=10&sortOrder=ASC"
        events = broker.ask("GET", path)[1]["data"]
        assert [(each["body"]["type"], each["body"]["relationType"]) for each in events] == [
            ("IN", "RPC Request to Device"),
            ("OUT", "Success"),
        ]
    assert broker.ask("GET", f"/api/ruleChain/{saved['ruleChainId']['id']}/metadata")[1] == saved
    broker.stop()


def test_large_chains_come_in_where_other_large_bodies_do_not(broker: Daemon) -> None:
    large = node("filter.TbMsgTypeSwitchNode", "Switch", note="x" * (2 << 20))
    saved = make_root(broker, [large])
    assert broker.ask("GET", f"/api/ruleChain/{saved['ruleChainId']['id']}/metadata") == (200, saved)
    assert broker.ask("POST", "/api/ruleChain", {"name": "x" * (2 << 20)})[0] == 413
    larger = node("filter.TbMsgTypeSwitchNode", "Switch", note="x" * (5 << 20))
    body = {"ruleChainId": saved["ruleChainId"], "firstNodeIndex": 0, "nodes": [larger]}
    assert broker.ask("POST", "/api/ruleChain/metadata", body)[0] == 413


@pytest.mark.parametrize(
    ("source", "output", "error"),
    [
        ("return msg.t * 2;", "4", ""),
        ("while (true) {}", "", "longer than 250 ms"),
        ("return (", "", "SyntaxError"),
        ("/*" + "x" * (1 << 20) + "*/ return 1;", "", "larger than 1 MiB"),
        ("throw new Error('why');", "", "why"),
    ],
)
def test_scripts_are_tried_out_where_they_harm_nobody(broker: Daemon, source: str, output: str, error: str) -> None:
    body = {"script": source, "scriptType": "json", "msg": '{"t":2}'}
    status, tried = broker.ask("POST", "/api/ruleChain/testScript?scriptLang=JS", body)
    assert status == 200
    assert tried["output"] == output
    assert error in tried["error"]
    assert broker.ask("GET", "/readyz")[0] == 200


def test_a_chain_with_a_script_that_cannot_be_is_refused_by_name(broker: Daemon) -> None:
    chain = broker.ask("POST", "/api/ruleChain", {"name": "mine"})[1]
    bad = node("filter.TbJsFilterNode", "Hot?", scriptLang="JS", jsScript="return msg.t >;")
    status, answer = broker.ask(
        "POST", "/api/ruleChain/metadata", {"ruleChainId": chain["id"], "firstNodeIndex": 0, "nodes": [bad]}
    )
    assert status == 400
    assert "node 0 'Hot?': its script: SyntaxError" in answer["message"]


def test_a_deleted_chain_is_gone_after_a_restart_too(tmp_path: Path) -> None:
    broker = Daemon(tmp_path).login()
    saved = make_root(broker, [node("filter.TbMsgTypeSwitchNode", "Switch")])
    chain_id = saved["ruleChainId"]["id"]
    default = next(each for each in broker.ask("GET", "/api/ruleChains?pageSize=9")[1]["data"] if not each["root"])
    assert broker.ask("POST", f"/api/ruleChain/{default['id']['id']}/root")[0] == 200
    assert broker.ask("DELETE", f"/api/ruleChain/{chain_id}")[0] == 200
    broker.stop()
    broker = Daemon(tmp_path).login()
    assert broker.ask("GET", f"/api/ruleChain/{chain_id}")[0] == 404
    assert [each["root"] for each in broker.ask("GET", "/api/ruleChains?pageSize=9")[1]["data"]] == [True]
    broker.stop()
