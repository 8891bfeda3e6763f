"""Foreign clients whose questions, calls and values pass the ready-made rule chains."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from calling import both_calls, curl, got
from daemon import Daemon, wait_for
from foreign import CLIENTS, Foreign, node, program, python_of
from plant import gateway
from seen import add_gateway, child, read

pytestmark = pytest.mark.interop

CHAINS = Path(__file__).parents[2] / "conf/chains"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("rules"))
    yield daemon.login()
    daemon.stop()
    text = daemon.log.read_text()
    assert "Traceback" not in text, text[-5000:]


@pytest.fixture
def root(broker: Daemon) -> Callable[[str], None]:
    """Makes the ready-made chain of this name the root chain, as an interface of ThingsBoard does it."""

    def make(name: str) -> None:
        exported = json.loads((CHAINS / f"{name}.json").read_text())
        status, chain = broker.ask("POST", "/api/ruleChain", exported["ruleChain"])
        assert status == 200, chain
        graph = exported["metadata"] | {"ruleChainId": chain["id"]}
        status, made = broker.ask("POST", "/api/ruleChain/metadata", graph)
        assert status == 200, made
        status, made = broker.ask("POST", f"/api/ruleChain/{chain['id']['id']}/root")
        assert (status, made["root"]) == (200, True)

    return make


@pytest.fixture
def add(broker: Daemon, request: pytest.FixtureRequest) -> Callable[[str], tuple[str, str]]:
    """Adds a device; its id and its token."""

    def made(name: str) -> tuple[str, str]:
        token = f"T{abs(hash(request.node.nodeid + name)) % 10**12}"
        return broker.add_device(f"{request.node.name} {name}", token), token

    return made


def command(client: str, broker: Daemon, token: str) -> list[str]:
    """Run one of `clients/` or `js/`: they all say what they see in the same way."""
    mqtt = f"mqtt://127.0.0.1:{broker.mqtt_port}"
    coap, http = f"{broker.endpoints['coap']}/api/v1/{token}", f"{broker.http}/api/v1/{token}"
    match client.split():
        case ["paho", version]:
            return [sys.executable, str(CLIENTS / "paho_client.py"), mqtt, version, token, "1"]
        case ["MQTT.js", version]:
            return [*node("device.js", "mqtt"), mqtt, version, token, "1"]
        case ["tb-mqtt-client"]:
            return [python_of("TB_PYTHON"), str(CLIENTS / "tb_device.py"), str(broker.mqtt_port), token]
        case ["coap-client"]:
            return [sys.executable, str(CLIENTS / "libcoap_device.py"), program("coap-client-notls"), coap]
        case ["aiocoap"]:
            return [sys.executable, str(CLIENTS / "aiocoap_client.py"), coap, "CON"]
        case ["curl", way]:
            return [sys.executable, str(CLIENTS / "curl_device.py"), program("curl"), http, way]
        case ["TBHTTPDevice"]:
            return [python_of("TB_PYTHON"), str(CLIENTS / "tb_http_device.py"), broker.http, token]
    raise AssertionError(client)


ALL = [
    "paho 3.1.1",
    "paho 5",
    "MQTT.js 3.1.1",
    "tb-mqtt-client",
    "coap-client",
    "aiocoap",
    "curl poll",
    "curl events",
    "TBHTTPDevice",
]
REPLIES: dict[str, Any] = {"TBHTTPDevice": lambda params: {"method": "got", "params": params}}


@pytest.mark.parametrize("client", ALL)
def test_a_script_answers_what_a_device_asks(
    broker: Daemon,
    root: Callable[[str], None],
    add: Callable[[str], tuple[str, str]],
    tmp_path: Path,
    client: str,
) -> None:
    root("current-time")
    _, token = add("device")
    with Foreign(command(client, broker, token), tmp_path) as foreign:
        seen = foreign.saw()
        while seen["asked"] != "getCurrentTime":  # the server itself answers the other question
            seen = foreign.saw()
        answer = seen["answer"]
        assert set(answer) == {"time", "iso"}
        assert datetime.fromisoformat(answer["iso"]).timestamp() * 1000 == pytest.approx(answer["time"], abs=1000)


@pytest.mark.parametrize("client", ALL)
def test_calls_and_values_pass_a_script(
    broker: Daemon,
    root: Callable[[str], None],
    add: Callable[[str], tuple[str, str]],
    tmp_path: Path,
    client: str,
) -> None:
    root("unit-conversion")
    device_id, token = add("device")
    with Foreign(command(client, broker, token), tmp_path) as foreign:
        both_calls(broker, device_id, lambda: foreign.saw_such("called")["called"], REPLIES.get(client, got))
        path = f"/api/rpc/oneway/{device_id}"
        assert curl(broker, path, {"method": "setTemperature", "params": {"celsius": 21}}) == (200, "")
        called = foreign.saw_such("called")["called"]
        assert called == {"method": "setTemperatureF", "params": {"fahrenheit": 69.8}}
    assert read(broker, device_id, "temperature") == 21.5


def test_a_call_to_a_group_is_made_to_devices_of_all_protocols(
    broker: Daemon, root: Callable[[str], None], add: Callable[[str], tuple[str, str]], tmp_path: Path
) -> None:
    root("fan-out-to-related")
    status, group = broker.ask("POST", "/api/device", {"name": "a group", "type": "group"})
    assert status == 200
    clients = []
    try:
        for client in ("paho 5", "coap-client", "curl events"):
            device_id, token = add(client)
            ends = {"from": group["id"], "to": {"id": device_id, "entityType": "DEVICE"}}
            status, made = broker.ask("POST", "/api/relation", {**ends, "type": "Contains", "typeGroup": "COMMON"})
            assert status == 200, made
            directory = tmp_path / token
            directory.mkdir()
            clients.append(Foreign(command(client, broker, token), directory).__enter__())
            broker.wait_callable(device_id)
        status, reply = curl(broker, f"/api/rpc/twoway/{group['id']['id']}", {"method": "get", "params": {"pin": 7}})
        assert (status, json.loads(reply)) == (200, got({"pin": 7}))
        for foreign in clients:
            assert foreign.saw_such("called")["called"] == {"method": "get", "params": {"pin": 7}}
    finally:
        for foreign in clients:
            foreign.__exit__(None, None, None)


def test_the_vendor_s_gateway_and_its_plant_work_with_a_chain_of_scripts(
    broker: Daemon, root: Callable[[str], None], tmp_path: Path
) -> None:
    root("unit-conversion")
    add_gateway(broker, "chained-gateway")
    with gateway(tmp_path, broker.mqtt_port, "chained-gateway") as plant:
        plant.post({"temperature": 21.5, "maker": "Ada"})
        press = child(broker, "press")
        assert read(broker, press, "temperature") == 21.5
        body = {"method": "setTemperature", "params": {"celsius": 21}}
        assert broker.ask("POST", f"/api/rpc/oneway/{press}", body) == (200, None)
        wait_for(lambda: plant.heard, "the call")
        assert plant.heard == [("setTemperatureF", {"fahrenheit": 69.8})]
