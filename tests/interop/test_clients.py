"""Foreign clients against the real broker: what arrived at the device, and the JSON at the caller."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from calling import both_calls, curl
from daemon import Daemon
from foreign import CLIENTS, Foreign, node, program, python_of
from seen import read

pytestmark = pytest.mark.interop

REQUESTS = "v1/devices/me/rpc/request/+"
LIMITS = {"messages", "telemetryMessages", "telemetryDataPoints"}


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


CASES = [
    *[("paho", version, "mqtt", qos) for version in ("3.1", "3.1.1", "5") for qos in (0, 1, 2)],
    *[("paho", version, "ws", 1) for version in ("3.1.1", "5")],
    *[("gmqtt", version, "mqtt", qos) for version in ("3.1.1", "5") for qos in (1, 2)],
    *[("mqttjs", version, "mqtt", 1) for version in ("3.1", "3.1.1", "5")],
    *[("mqttjs", version, "ws", qos) for version in ("3.1.1", "5") for qos in (0, 2)],
    ("tb", "5", "mqtt", 1),
]
"""Client, version, URL scheme, QoS of all that it sends and subscribes to."""
POSTING = [("paho", "3.1", "mqtt", 0), ("gmqtt", "5", "mqtt", 2), ("mqttjs", "3.1.1", "ws", 1), ("tb", "5", "mqtt", 1)]


def address(broker: Daemon, scheme: str) -> str:
    return (
        f"mqtt://127.0.0.1:{broker.mqtt_port}" if scheme == "mqtt" else broker.http.replace("http", "ws", 1) + "/mqtt"
    )


def command(client: str, version: str, url: str, token: str, qos: int) -> list[str]:
    """Run one of `clients/` or `js/`: they all say what they see in the same way."""
    rest = [url, version, token, str(qos)]
    match client:
        case "mqttjs":
            return [*node("device.js", "mqtt"), *rest]
        case "tb":
            return [python_of("TB_PYTHON"), str(CLIENTS / "tb_device.py"), url.rpartition(":")[2], token]
    return [sys.executable, str(CLIENTS / f"{client}_client.py"), *rest]


@pytest.mark.parametrize(("client", "version", "scheme", "qos"), CASES)
def test_calls_go_both_ways(
    broker: Daemon, device: tuple[str, str], tmp_path: Path, client: str, version: str, scheme: str, qos: int
) -> None:
    device_id, token = device
    with Foreign(command(client, version, address(broker, scheme), token, qos), tmp_path) as foreign:
        answers = {}
        for _ in range(2):
            seen = foreign.saw()
            answers[seen["asked"]] = seen["answer"]
        assert answers["getCurrentTime"] > 1_700_000_000_000
        assert answers["getSessionLimits"]["maxPayloadSize"] == 65536
        assert set(answers["getSessionLimits"]["rateLimits"]) == LIMITS
        both_calls(broker, device_id, lambda: foreign.saw()["called"])
        assert foreign.saw_nothing_more()


@pytest.mark.parametrize(("client", "version", "scheme", "qos"), POSTING)
def test_what_a_device_posts_is_read_by_the_caller(
    broker: Daemon, device: tuple[str, str], tmp_path: Path, client: str, version: str, scheme: str, qos: int
) -> None:
    device_id, token = device
    with Foreign(command(client, version, address(broker, scheme), token, qos), tmp_path) as foreign:
        foreign.saw()  # the answer to what it asks after it has posted
        assert read(broker, device_id, "temperature") == 21.5


@pytest.mark.parametrize(("version", "qos"), [("mqttv31", 1), ("mqttv311", 2), ("mqttv5", 0)])
def test_mosquitto_sub_and_pub(broker: Daemon, device: tuple[str, str], version: str, qos: int) -> None:
    device_id, token = device
    arrived: queue.Queue[Any] = queue.Queue()
    login = ["-h", "127.0.0.1", "-p", str(broker.mqtt_port), "-u", token, "-V", version, "-q", str(qos)]
    listener = subprocess.Popen(
        [program("mosquitto_sub"), *login, "-t", REQUESTS, "-v", "-i", "listener"],
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
        subprocess.run([program("mosquitto_pub"), *login, *reply], check=True, timeout=10)
        caller.join(10)
        assert answers[0][0] == 200
        assert json.loads(answers[0][1]) == {"temperature": 21.5}
    finally:
        listener.terminate()
        listener.wait(10)
        reader.join(10)
        listener.stdout.close()


@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
def test_mosquitto_rr_asks_the_server(broker: Daemon, device: tuple[str, str], version: str) -> None:
    _, token = device
    done = subprocess.run(
        [
            program("mosquitto_rr"),
            *["-h", "127.0.0.1", "-p", str(broker.mqtt_port), "-u", token, "-q", "1", "-W", "10", "-V", version],
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


def test_a_wrong_token_is_refused_by_every_client(broker: Daemon) -> None:
    login = ["-h", "127.0.0.1", "-p", str(broker.mqtt_port), "-u", "WRONG", "-t", REQUESTS, "-W", "5"]
    for version in ("mqttv311", "mqttv5"):
        done = subprocess.run(
            [program("mosquitto_sub"), *login, "-V", version],
            check=False,
            capture_output=True,
            text=True,
            timeout=10,
        )
        assert done.returncode != 0
        assert "refused" in done.stderr or "Bad" in done.stderr or "authorised" in done.stderr
