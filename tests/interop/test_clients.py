"""Foreign clients against the real broker: what arrived at the device, and the JSON at the caller."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon import Daemon

pytestmark = pytest.mark.interop

REQUESTS = "v1/devices/me/rpc/request/+"


def needed(path: str | None, what: str) -> str:
    """A client that is missing fails in CI, and is skipped, saying so, elsewhere."""
    if path and shutil.which(path):
        return path
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing; `make test` installs it")
    pytest.skip(f"{what} is missing; `make test` installs it")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("interop"))
    yield daemon.login()
    daemon.stop()


@pytest.fixture
def device(broker: Daemon, request: pytest.FixtureRequest) -> tuple[str, str]:
    """The id and the token of a fresh device."""
    token = f"T{abs(hash(request.node.nodeid)) % 10**12}"
    return broker.add_device(request.node.name, token), token


def curl(broker: Daemon, path: str, body: Any) -> tuple[int, str]:
    """Status and body of a POST by curl."""
    done = subprocess.run(
        [
            needed("curl", "curl"),
            "-sS",
            "-w",
            "\n%{http_code}",
            "-H",
            f"X-Authorization: Bearer {broker.token}",
            "-H",
            "Content-Type: application/json",
            "-d",
            json.dumps(body),
            broker.http + path,
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    text, _, status = done.stdout.rpartition("\n")
    return int(status), text


def both_calls(broker: Daemon, device_id: str, arrived: Any) -> None:
    """A one-way and a two-way call on both URLs; `arrived()` gives what came to the device, in order.

    The device answers each two-way call with {"got": params}.
    """
    broker.wait_callable(device_id)
    for base in ("/api/plugins/rpc", "/api/rpc"):
        params = {"pin": 7, "text": "ü", "list": [1, None]}
        assert curl(broker, f"{base}/oneway/{device_id}", {"method": "set", "params": params}) == (200, "")
        assert arrived() == {"method": "set", "params": params}
        status, text = curl(broker, f"{base}/twoway/{device_id}", {"method": "get", "params": [base]})
        assert (status, json.loads(text)) == (200, {"got": [base]})
        assert arrived() == {"method": "get", "params": [base]}


@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_paho(broker: Daemon, device: tuple[str, str], version: str) -> None:
    import paho.mqtt.client as mqtt

    device_id, token = device
    arrived: queue.Queue[Any] = queue.Queue()
    protocol = mqtt.MQTTv5 if version == "5" else mqtt.MQTTv311
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=protocol)
    client.username_pw_set(token)
    client.on_connect = lambda c, *_: c.subscribe(REQUESTS, qos=1)

    def on_message(c: Any, _: Any, message: Any) -> None:
        call = json.loads(message.payload)
        arrived.put(call)
        if call["method"] == "get":
            c.publish(message.topic.replace("request", "response"), json.dumps({"got": call["params"]}), qos=1)

    client.on_message = on_message
    client.connect("127.0.0.1", broker.mqtt_port)
    client.loop_start()
    try:
        both_calls(broker, device_id, lambda: arrived.get(timeout=10))
    finally:
        client.disconnect()
        client.loop_stop()


def test_mosquitto_sub_and_pub(broker: Daemon, device: tuple[str, str]) -> None:
    device_id, token = device
    arrived: queue.Queue[Any] = queue.Queue()
    login = ["-h", "127.0.0.1", "-p", str(broker.mqtt_port), "-u", token, "-q", "1"]
    listener = subprocess.Popen(
        [needed("mosquitto_sub", "mosquitto_sub"), *login, "-t", REQUESTS, "-v", "-i", "listener"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert listener.stdout is not None

    def listen(lines: Any) -> None:
        for line in lines:
            topic, _, payload = line.partition(" ")
            arrived.put((topic, json.loads(payload)))

    reader = threading.Thread(target=listen, args=(listener.stdout,))
    reader.start()
    try:
        broker.wait_callable(device_id)
        assert curl(broker, f"/api/rpc/oneway/{device_id}", {"method": "set", "params": 1}) == (200, "")
        assert arrived.get(timeout=10)[1] == {"method": "set", "params": 1}
        answers: list[Any] = []
        caller = threading.Thread(
            target=lambda: answers.append(curl(broker, f"/api/rpc/twoway/{device_id}", {"method": "get"}))
        )
        caller.start()
        topic, call = arrived.get(timeout=10)
        assert call == {"method": "get", "params": None}
        # the answer takes over the device's one connection, as any second one would
        reply = ["-t", topic.replace("request", "response"), "-m", '{"temperature": 21.5}', "-i", "replier"]
        subprocess.run([needed("mosquitto_pub", "mosquitto_pub"), *login, *reply], check=True, timeout=10)
        caller.join(10)
        assert answers[0][0] == 200
        assert json.loads(answers[0][1]) == {"temperature": 21.5}
    finally:
        listener.terminate()
        listener.wait(10)
        reader.join(10)
        listener.stdout.close()


def test_mosquitto_rr_asks_the_server(broker: Daemon, device: tuple[str, str]) -> None:
    _, token = device
    done = subprocess.run(
        [
            needed("mosquitto_rr", "mosquitto_rr"),
            *["-h", "127.0.0.1", "-p", str(broker.mqtt_port), "-u", token, "-q", "1", "-W", "10"],
            *["-t", "v1/devices/me/rpc/request/12", "-e", "v1/devices/me/rpc/response/12"],
            *["-m", '{"method":"getCurrentTime","params":{}}'],
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) > 1_700_000_000_000


TB_DEVICE = """
import json, sys, threading
from tb_device_mqtt import TBDeviceMqttClient

client = TBDeviceMqttClient("127.0.0.1", port=int(sys.argv[1]), username=sys.argv[2])

def called(request_id, request):
    print(json.dumps({"method": request["method"], "params": request["params"]}), flush=True)
    if request["method"] == "get":
        client.send_rpc_reply(request_id, {"got": request["params"]})

client.set_server_side_rpc_request_handler(called)
client.connect()
threading.Event().wait()
"""


def test_tb_mqtt_client(broker: Daemon, device: tuple[str, str], tmp_path: Path) -> None:
    """The vendor's SDK, in an environment of its own."""
    python = needed(os.environ.get("TB_PYTHON"), "tb-mqtt-client (TB_PYTHON)")
    device_id, token = device
    script = tmp_path / "device.py"
    script.write_text(TB_DEVICE)
    arrived: queue.Queue[Any] = queue.Queue()
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [python, str(script), str(broker.mqtt_port), token], stdout=subprocess.PIPE, stderr=log, text=True
        )
    assert process.stdout is not None

    def listen(lines: Any) -> None:
        for line in lines:
            if line.startswith("{"):
                arrived.put(json.loads(line))

    reader = threading.Thread(target=listen, args=(process.stdout,))
    reader.start()
    try:
        both_calls(broker, device_id, lambda: arrived.get(timeout=10))
    except AssertionError as error:
        raise AssertionError(f"{error}\n{(tmp_path / 'log').read_text()[-3000:]}") from None
    finally:
        process.terminate()
        process.wait(10)
        reader.join(10)
        process.stdout.close()


def test_a_wrong_token_is_refused_by_every_client(broker: Daemon) -> None:
    login = ["-h", "127.0.0.1", "-p", str(broker.mqtt_port), "-u", "WRONG", "-t", REQUESTS, "-W", "5"]
    for version in ("mqttv311", "mqttv5"):
        done = subprocess.run(
            [needed("mosquitto_sub", "mosquitto_sub"), *login, "-V", version],
            check=False,
            capture_output=True,
            text=True,
            timeout=10,
        )
        assert done.returncode != 0
        assert "refused" in done.stderr or "Bad" in done.stderr or "authorised" in done.stderr
