"""Devices ask over MQTT, another server answers over HTTP, and the daemon is between them."""

from __future__ import annotations

import json
import queue
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import certificates
import paho.mqtt.client as mqtt
import pytest
from daemon import Daemon

CHAINS = Path(__file__).parents[2] / "conf/chains"


class Webhook(ThreadingHTTPServer):
    """Answers each POST with what it got, and the path; /broken with 500."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.agents: list[str | None] = []
        self.scheme = "http"
        threading.Thread(target=self.serve_forever).start()

    def speak_tls(self, files: certificates.Files) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certificate, files.key)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.scheme = "https"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}"


class _Answering(BaseHTTPRequestHandler):
    server: Webhook
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.server.agents.append(self.headers["User-Agent"])
        got = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps({"path": self.path, "got": got}).encode()
        self.send_response(500 if self.path == "/broken" else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    server = Webhook()
    yield server
    server.shutdown()
    server.server_close()


class Asking:
    """A device on paho that asks."""

    def __init__(self, port: int, token: str) -> None:
        self._answers: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self._client.username_pw_set(token)
        self._client.on_message = lambda _, __, message: self._answers.put((message.topic, json.loads(message.payload)))
        ready = threading.Event()
        self._client.on_connect = lambda *_: self._client.subscribe("v1/devices/me/rpc/response/+", qos=1)
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert ready.wait(10)

    def ask(self, number: int, method: str, params: Any) -> Any:
        self._client.publish(
            f"v1/devices/me/rpc/request/{number}", json.dumps({"method": method, "params": params}), qos=1
        )
        topic, answer = self._answers.get(timeout=15)
        assert topic == f"v1/devices/me/rpc/response/{number}"
        return answer

    def end(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def install(daemon: Daemon, name: str, url: str) -> None:
    """The ready-made chain as its user edits it, as the root chain."""
    text = (CHAINS / f"{name}.json").read_text().replace("https://example.com/rpc", url)
    file = json.loads(text)
    status, chain = daemon.ask("POST", "/api/ruleChain", {"name": name, "type": "CORE"})
    assert status == 200, chain
    status, answer = daemon.ask("POST", "/api/ruleChain/metadata", file["metadata"] | {"ruleChainId": chain["id"]})
    assert status == 200, answer
    assert "warnings" not in answer
    status, answer = daemon.ask("POST", f"/api/ruleChain/{chain['id']['id']}/root")
    assert status == 200, answer


def test_a_webhook_answers_a_device_on_mqtt(tmp_path: Path, webhook: Webhook) -> None:
    daemon = Daemon(tmp_path, RPCBROKER_RULES_WEB_HOSTS="127.0.0.1").login()
    daemon.add_device("Boiler", "boiler-token")
    install(daemon, "webhook", f"{webhook.url}/rpc")
    device = Asking(daemon.mqtt_port, "boiler-token")
    try:
        sent = {"method": "getForecast", "params": {"hours": [1, 2]}, "deviceName": "Boiler", "deviceType": "default"}
        for number in range(1, 4):
            assert device.ask(number, "getForecast", {"hours": [1, 2]}) == {"path": "/rpc", "got": sent}
        assert device.ask(4, "ping", {}) == "pong"
        assert {agent.partition("/")[0] for agent in webhook.agents if agent} == {"rpcbroker"}
        assert len(webhook.agents) == 3
        install(daemon, "webhook", f"{webhook.url}/broken")
        assert device.ask(5, "x", None)["error"].startswith("500 Internal Server Error from POST http://127.0.0.1:")
    finally:
        device.end()
        daemon.stop()
    assert "Traceback" not in daemon.log.read_text()


def test_a_broker_without_certificates_of_its_own_calls_over_tls(tmp_path: Path, webhook: Webhook) -> None:
    files = certificates.make(tmp_path, serial=1)
    webhook.speak_tls(files)
    daemon = Daemon(tmp_path, RPCBROKER_RULES_WEB_HOSTS="127.0.0.1", SSL_CERT_FILE=str(files.certificate)).login()
    daemon.add_device("Boiler", "boiler-token")
    install(daemon, "webhook", f"{webhook.url}/rpc")
    device = Asking(daemon.mqtt_port, "boiler-token")
    try:
        for number in range(1, 3):
            assert device.ask(number, "getForecast", {})["path"] == "/rpc"
    finally:
        device.end()
        daemon.stop()
    assert "Traceback" not in daemon.log.read_text()


def test_what_is_not_public_is_not_called_unless_it_is_listed(tmp_path: Path, webhook: Webhook) -> None:
    daemon = Daemon(tmp_path).login()
    daemon.add_device("Boiler", "boiler-token")
    install(daemon, "webhook", f"{webhook.url}/rpc")
    device = Asking(daemon.mqtt_port, "boiler-token")
    try:
        said = device.ask(1, "getForecast", {})["error"]
        assert said.endswith("at 127.0.0.1 may not be called: [rules] web_hosts says which may")
        assert webhook.agents == []
    finally:
        device.end()
        daemon.stop()
    assert "Traceback" not in daemon.log.read_text()
