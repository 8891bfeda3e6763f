"""Server-sent events of a call through the real broker: each comes when the device has given it, and not later."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
import pytest
from daemon import Daemon, wait_for
from paho_device import callable_device, end


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("broker"))
    try:
        yield daemon.login()
    finally:
        daemon.stop()


class Pump:
    """A device that does nothing by itself when it is called."""

    def __init__(self, broker: Daemon, name: str) -> None:
        self.id = broker.add_device(name, name)
        self.called = threading.Event()
        self.client: mqtt.Client = callable_device(broker.mqtt_port, name, self._called)
        broker.wait_callable(self.id)

    def _called(self, _: Any) -> None:
        self.called.set()

    def publish(self, kind: str, payload: Any, wire_id: int) -> None:
        self.client.publish(f"v1/devices/me/rpc/{kind}/{wire_id}", json.dumps(payload), qos=1).wait_for_publish(10)


def call(broker: Daemon, device_id: str) -> tuple[HTTPConnection, HTTPResponse]:
    connection = HTTPConnection(urlsplit(broker.http).netloc, timeout=10)
    headers = {"Accept": "text/event-stream", "X-Authorization": f"Bearer {broker.token}"}
    connection.request("POST", f"/api/rpc/twoway/{device_id}", json.dumps({"method": "get"}), headers)
    return connection, connection.getresponse()


def next_event(response: HTTPResponse) -> tuple[str, Any]:
    lines = [response.readline().decode() for _ in range(3)]
    name, data = lines[0].removeprefix("event: ").strip(), lines[1].removeprefix("data: ")
    assert lines[2] == "\n", lines
    return name, json.loads(data)


def test_each_event_is_there_before_the_device_goes_on(broker: Daemon) -> None:
    pump = Pump(broker, "one")
    try:
        connection, response = call(broker, pump.id)
        assert (response.status, response.headers["Content-Type"]) == (200, "text/event-stream")
        assert pump.called.wait(10)
        wire_id = _wire_id(broker, response.headers["X-RPC-Id"])
        for percent in (10, 20):
            pump.publish("progress", {"percent": percent}, wire_id)
            assert next_event(response) == ("progress", {"percent": percent})
        pump.publish("response", [1], wire_id)
        assert next_event(response) == ("result", [1])
        assert response.read() == b""
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200, "the connection can be used again"
        connection.close()
    finally:
        end(pump.client)


def test_a_caller_who_leaves_cancels_its_call(broker: Daemon) -> None:
    pump = Pump(broker, "two")
    try:
        connection, response = call(broker, pump.id)
        rpc_id = response.headers["X-RPC-Id"]
        assert pump.called.wait(10)
        response.close()
        connection.close()
        line = wait_for(
            lambda: [each for each in [_line(broker, rpc_id)] if each["endedTime"] is not None], "the end of the call"
        )[0]
        assert (line["state"], line["reason"]) == ("DELETED", "CANCELLED")
    finally:
        end(pump.client)


def _line(broker: Daemon, rpc_id: str) -> Any:
    status, line = broker.ask("GET", f"/api/rpc/{rpc_id}/timeline")
    assert status == 200
    return line


def _wire_id(broker: Daemon, rpc_id: str) -> int:
    return int(_line(broker, rpc_id)["wireId"])
