"""Devices on foreign clients that report progress, answer calls that are kept, and hear what is cancelled."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon import Daemon, wait_for
from foreign import Foreign, program
from paho_device import REQUESTS, callable_device, end
from persistent import keep, persistent

pytestmark = pytest.mark.interop

ME = "v1/devices/me/rpc"
CANCELS = f"{ME}/cancel/+"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("interop"))
    yield daemon.login()
    daemon.stop()
    text = daemon.log.read_text()
    assert "Traceback" not in text, text[-5000:]


@pytest.fixture
def device(broker: Daemon, request: pytest.FixtureRequest) -> tuple[str, str]:
    """The id and the token of a fresh device that wants to hear what is cancelled."""
    token = f"T{abs(hash(request.node.nodeid)) % 10**12}"
    body = {"name": request.node.name, "additionalInfo": {"rpcCancel": True}}
    status, made = broker.ask("POST", f"/api/device?accessToken={token}", body)
    assert status == 200, made
    return made["id"]["id"], token


def cancel(broker: Daemon, rpc_id: str) -> None:
    """By a caller; the device is told."""
    assert broker.ask("DELETE", f"/api/rpc/{rpc_id}") == (
        200,
        {"rpcId": rpc_id, "cancelled": True, "deliveredBefore": True, "deviceTold": True},
    )


class PahoDevice:
    """It does what the test says; `heard` has topic and JSON of each call and cancellation."""

    def __init__(self, port: int, token: str) -> None:
        self.heard: queue.Queue[tuple[str, Any]] = queue.Queue()
        self.client = callable_device(port, token, lambda _call: None)
        for topic_filter in (REQUESTS, CANCELS):
            self.client.message_callback_add(topic_filter, self._hear)
        ready = threading.Event()
        self.client.on_subscribe = lambda *_: ready.set()
        self.client.subscribe(CANCELS, qos=1)
        assert ready.wait(10)

    def _hear(self, _client: Any, _data: Any, message: Any) -> None:
        self.heard.put((message.topic, json.loads(message.payload)))

    def __enter__(self) -> PahoDevice:
        return self

    def __exit__(self, *_: object) -> None:
        end(self.client)


def test_a_caller_sees_progress_as_it_comes(broker: Daemon, device: tuple[str, str]) -> None:
    device_id, token = device
    command = [program("curl"), "-sSN", "--max-time", "30", f"{broker.http}/api/rpc/twoway/{device_id}"]
    command += ["-H", f"X-Authorization: Bearer {broker.token}", "-H", "Content-Type: application/json"]
    command += ["-H", "Accept: text/event-stream", "-d", '{"method":"countDown","params":{"seconds":3}}']
    with (
        PahoDevice(broker.mqtt_port, token) as paho,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as caller,
    ):
        assert caller.stdout is not None
        topic, call = paho.heard.get(timeout=10)
        assert call == {"method": "countDown", "params": {"seconds": 3}}
        for left in (2, 1, 0):
            word = "progress" if left else "response"
            paho.client.publish(topic.replace("request", word), json.dumps({"left": left}), qos=1)
            lines = [caller.stdout.readline() for _ in range(3)]
            assert lines == [f"event: {'progress' if left else 'result'}\n", f'data: {{"left": {left}}}\n', "\n"]
        assert caller.stdout.read() == ""
        assert caller.wait(10) == 0


def test_paho_hears_that_its_call_is_cancelled(broker: Daemon, device: tuple[str, str]) -> None:
    device_id, token = device
    with PahoDevice(broker.mqtt_port, token) as paho:
        rpc_id = keep(broker, device_id, "countDown")
        topic, _ = paho.heard.get(timeout=10)
        number = topic.rpartition("/")[2]
        cancel(broker, rpc_id)
        assert paho.heard.get(timeout=10) == (f"{ME}/cancel/{number}", {"id": int(number), "cancel": True})
        late = paho.client.publish(f"{ME}/response/{number}", b"true", qos=1)
        late.wait_for_publish(10)
        assert late.is_published(), "it is acknowledged all the same"


@pytest.mark.parametrize("version", ["mqttv31", "mqttv311"])
def test_mosquitto_s_clients(broker: Daemon, device: tuple[str, str], tmp_path: Path, version: str) -> None:
    """The one that says something takes over the device's connection each time; the listener comes back.

    With 5.0 it would not: it is told that it was replaced, and leaves.
    """
    device_id, token = device
    login = ["-h", "127.0.0.1", "-p", str(broker.mqtt_port), "-u", token, "-V", version, "-q", "1"]
    listening = [program("mosquitto_sub"), *login, "-i", "listener", "-t", REQUESTS, "-t", CANCELS]

    def say(topic: str, payload: str) -> None:
        command = [program("mosquitto_pub"), *login, "-i", "speaker", "-t", topic, "-m", payload]
        subprocess.run(command, check=True, timeout=10)

    with Foreign([*listening, "-F", '{"topic":"%t","payload":%p}'], tmp_path) as listener:
        broker.wait_callable(device_id)
        rpc_id = keep(broker, device_id, "get")
        heard = listener.saw()
        assert heard["payload"] == {"method": "get", "params": None}
        say(heard["topic"].replace("request", "progress"), '{"percent": 50}')
        assert listener.saw()["topic"] == heard["topic"], "it is not answered yet"
        say(heard["topic"].replace("request", "response"), "21.5")
        assert (persistent(broker, rpc_id)["status"], persistent(broker, rpc_id)["response"]) == ("SUCCESSFUL", 21.5)
        broker.wait_callable(device_id)
        other = keep(broker, device_id, "set")
        second = listener.saw()
        assert second["payload"]["method"] == "set"
        wait_for(lambda: persistent(broker, other)["status"] == "DELIVERED", "its PUBACK")
        cancel(broker, other)
        number = int(second["topic"].rpartition("/")[2])
        assert listener.saw() == {"topic": f"{ME}/cancel/{number}", "payload": {"id": number, "cancel": True}}
