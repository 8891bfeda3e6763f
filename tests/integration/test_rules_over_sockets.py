"""Rule chains in the real daemon: questions over all protocols, events as messages, and a stop with messages in delays."""

from __future__ import annotations

import json
import queue
import re
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from coap_socket import CoapSocket, Udp
from daemon import Daemon, wait_for
from device_kinds import SECONDS, GatewayChildKind, MqttKind
from rule_world import CALL, DELAY, REPLY, RULES, SAVE_ATTRIBUTES, SWITCH, TRANSFORM, graph

from rpcbroker.wire.coap.numbers import Code
from rpcbroker.wire.mqtt import packets as p

FILTER = f"{RULES}.filter.TbJsFilterNode"
TO_ATTRIBUTES = (
    "return {msg: {lastReply: msg.response, status: msg.status}, metadata: {}, msgType: 'POST_ATTRIBUTES_REQUEST'};"
)
NODES: list[Any] = [
    (SWITCH, "Switch", {}),
    (FILTER, "Is it slow?", {"scriptLang": "JS", "jsScript": "return msg.method === 'slow';"}),
    (DELAY, "Wait", {"periodInSeconds": 30}),
    (REPLY, "Reply", {}),
    (FILTER, "Is it echo?", {"scriptLang": "JS", "jsScript": "return msg.method === 'echo';"}),
    (FILTER, "Is the call slow?", {"scriptLang": "JS", "jsScript": "return msg.method === 'slow';"}),
    (CALL, "Call", {}),
    (TRANSFORM, "What was answered", {"scriptLang": "JS", "jsScript": TO_ATTRIBUTES}),
    (SAVE_ATTRIBUTES, "Remember", {"scope": "SERVER_SCOPE"}),
]
CHAIN = graph(
    NODES,
    (0, 1, "RPC Request from Device"),
    (1, 2, "True"),
    (2, 3, "Success"),
    (1, 4, "False"),
    (4, 3, "True"),
    (0, 5, "RPC Request to Device"),
    (5, 2, "True"),
    (5, 6, "False"),
    (0, 7, "RPC Successful"),
    (7, 8, "Success"),
)


def put_root(broker: Daemon, chain: dict[str, Any]) -> None:
    status, made = broker.ask("POST", "/api/ruleChain", {"name": "Over sockets", "type": "CORE"})
    assert status == 200, made
    status, graph_ = broker.ask("POST", "/api/ruleChain/metadata", chain | {"ruleChainId": made["id"]})
    assert status == 200, graph_
    assert broker.ask("POST", f"/api/ruleChain/{made['id']['id']}/root")[0] == 200


@pytest.fixture
def broker(tmp_path: Any, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    patience = {"RPCBROKER_RULES_QUESTION_TIMEOUT": "1s", "RPCBROKER_COAP_QUESTION_TIMEOUT": "1s"}
    daemon = Daemon(tmp_path, **getattr(request, "param", patience)).login()
    put_root(daemon, CHAIN)
    yield daemon
    daemon.stop()
    text = daemon.log.read_text()
    assert "Traceback" not in text, text[-5000:]


class AskingMqtt(MqttKind):
    """It hears the answers to its questions."""

    def ask(self, method: str) -> Any:
        self.answers: queue.Queue[Any] = queue.Queue()
        body = json.dumps({"method": method, "params": [1]}).encode()
        self._send(p.Publish("v1/devices/me/rpc/request/5", body, 1, 20))
        return self.answers.get(timeout=SECONDS)

    def came(self, topic: str, content: Any) -> None:
        if topic == "v1/devices/me/rpc/response/5":
            self.answers.put(content)
        else:
            super().came(topic, content)


class AskingChild(GatewayChildKind):
    """Its gateway asks for it."""

    def ask(self, method: str) -> Any:
        self.answers: queue.Queue[Any] = queue.Queue()
        body = json.dumps({"device": self.name, "id": 5, "method": method, "params": [1]}).encode()
        self._send(p.Publish("v1/gateway/rpc", body, 1, 20))
        return self.answers.get(timeout=SECONDS)

    def came(self, topic: str, content: Any) -> None:
        if content.get("id") == 5:
            self.answers.put(content["data"])
        else:
            super().came(topic, content)


ECHO = {"method": "echo", "params": [1]}
NOBODY = {"error": 'no rule answers the method "reboot"'}


@pytest.mark.parametrize("kind", [AskingMqtt, AskingChild])
def test_questions_over_mqtt(broker: Daemon, kind: Any) -> None:
    device = kind(broker, "asking")
    device.connect()
    try:
        assert device.ask("echo") == ECHO
        assert device.ask("reboot") == NOBODY
        assert device.ask("slow") == {"error": "timeout"}
    finally:
        device.leave()


def test_questions_over_http(broker: Daemon) -> None:
    broker.add_device("asking", "asking")

    def asked(method: str) -> tuple[int, Any]:
        return broker.ask("POST", "/api/v1/asking/rpc", {"method": method, "params": [1]})

    assert asked("echo") == (200, ECHO)
    assert asked("reboot") == (404, NOBODY)
    assert asked("slow")[0] == 408


def test_questions_over_coap(broker: Daemon) -> None:
    broker.add_device("asking", "asking")
    with CoapSocket(Udp(broker.endpoints["coap"])) as device:

        def asked(method: str) -> Any:
            body = json.dumps({"method": method, "params": [1]}).encode()
            return device.ask(Code.POST, "api/v1/asking/rpc", body)

        assert json.loads(asked("echo").payload) == ECHO
        nobody = asked("reboot")
        assert (nobody.code, json.loads(nobody.payload)) == (Code.NOT_FOUND, NOBODY)
        assert asked("slow").code == Code.GATEWAY_TIMEOUT


def test_what_became_of_a_kept_call_passes_the_chain(broker: Daemon) -> None:
    device = AskingMqtt(broker, "called")
    device.connect()
    try:
        body = {"method": "get", "params": {}, "persistent": True}
        status, kept = broker.ask("POST", f"/api/rpc/twoway/{device.device_id}", body)
        assert status == 200, kept
        device.reply(device.calls.get(timeout=SECONDS).number, {"on": True})
        path = f"/api/plugins/telemetry/DEVICE/{device.device_id}/values/attributes/SERVER_SCOPE?keys=lastReply,status"

        def remembered() -> dict[str, Any]:
            return {each["key"]: each["value"] for each in broker.ask("GET", path)[1]}

        found = wait_for(remembered, "the reply as an attribute")
        assert found == {"lastReply": {"on": True}, "status": "SUCCESSFUL"}
    finally:
        device.leave()


@pytest.mark.parametrize("broker", [{}], indirect=True)
def test_calls_and_questions_in_delays_hear_that_the_broker_stops(broker: Daemon) -> None:
    device_id = broker.add_device("asking", "asking")
    found: dict[str, tuple[int, Any]] = {}

    def wait(name: str, path: str) -> None:
        found[name] = broker.ask("POST", path, {"method": "slow", "params": [1], "timeout": 60_000})

    paths = {"caller": f"/api/rpc/twoway/{device_id}", "device": "/api/v1/asking/rpc"}
    waiting = [threading.Thread(target=wait, args=each) for each in paths.items()]
    for each in waiting:
        each.start()

    def running() -> bool:
        with urllib.request.urlopen(broker.http + "/metrics", timeout=5) as answer:
            return re.search(rb"^rpcbroker_rules_running 2(\.0)?$", answer.read(), re.MULTILINE) is not None

    wait_for(running, "two messages in the chain")
    broker.stop()
    for each in waiting:
        each.join(SECONDS)
    assert {name: status for name, (status, _) in found.items()} == {"caller": 503, "device": 503}
    assert found["caller"][1]["reason"] == "SHUTTING_DOWN"
