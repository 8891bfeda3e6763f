"""What an operator's tools see of the real daemon: /metrics and /readyz."""

from __future__ import annotations

import sqlite3
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon import Daemon, wait_for
from prometheus_client.parser import text_string_to_metric_families
from test_daemon import Device

from rpcbroker.wire.mqtt import packets as p


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    yield daemon.login()
    daemon.stop()


def scrape(broker: Daemon) -> dict[tuple[str, ...], float]:
    """(name, *label values in the order of their names) -> value."""
    with urllib.request.urlopen(broker.http + "/metrics", timeout=10) as response:
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        text = response.read().decode()
    return {
        (sample.name.removeprefix("rpcbroker_"), *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_tell_what_has_happened(broker: Daemon) -> None:
    before = scrape(broker)
    assert not [key for key in before if key[0] == "calls_total"]
    assert before["mqtt_connections",] == 0
    device_id = broker.add_device("d", "D")
    device = Device(broker, "D")
    for _ in range(2):
        assert broker.ask("POST", f"/api/rpc/oneway/{device_id}", {"method": "x"})[0] == 200
        request = device.read()
        assert isinstance(request, p.Publish)
    answers: list[object] = []

    def call() -> None:
        answers.append(broker.ask("POST", f"/api/rpc/twoway/{device_id}", {"method": "x"}))

    caller = threading.Thread(target=call)
    caller.start()
    request = device.read()
    assert isinstance(request, p.Publish)
    during = scrape(broker)
    assert during["calls_pending",] == during["calls_waiting", "sent"] == 1
    assert during["devices_connected", "mqtt"] == during["devices_callable", "mqtt"] == 1
    device.send(p.Publish(request.topic.replace("request", "response"), b"1"))
    caller.join(10)
    assert answers == [(200, 1)]
    device.send(p.Publish("v1/devices/me/rpc/request/7", b'{"method":"getSessionLimits"}'))
    device.send(p.Publish("v1/devices/me/rpc/request/8", b'{"method":"unknown"}'))
    assert isinstance(device.read(), p.Publish)
    assert isinstance(device.read(), p.Publish)
    device.socket.close()
    wait_for(lambda: not scrape(broker)["mqtt_connections",], "the end of the connection")
    status, error = broker.ask("POST", f"/api/rpc/twoway/{device_id}", {"method": "x", "connectTimeout": 0})
    assert (status, error["reason"]) == (504, "DISCONNECTED")
    after = scrape(broker)
    assert {key[1:]: value for key, value in after.items() if key[0] == "calls_total"} == {
        ("oneway", "", "sent", "mqtt"): 2,
        ("twoway", "", "successful", "mqtt"): 1,
        ("twoway", "DISCONNECTED", "refused", "none"): 1,
    }
    assert after["call_seconds_count", "twoway"] == 1
    assert 0 < after["call_seconds_sum", "twoway"] < 10
    assert after["questions_total", "", "successful", "mqtt"] == 1
    assert after["questions_total", "NO_HANDLER", "failed", "mqtt"] == 1
    assert after["store_commits_total",] > before["store_commits_total",]
    assert after["http_connections",] == 1, "the one that asks"
    assert after["devices_connected", "mqtt"] == after["devices_callable", "mqtt"] == 0
    assert abs(after["start_time_seconds",] - time.time()) < 60
    assert after["process_resident_memory_bytes",] > 1 << 20
    wait_for(lambda: scrape(broker)["loop_lag_seconds_count",], "a look at the loop")


def test_metrics_that_are_switched_off_are_not_there(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, RPCBROKER_HTTP_METRICS="off")
    try:
        off, unknown = daemon.ask("GET", "/metrics"), daemon.ask("GET", "/nothing")
        assert (off[0], off[1]["message"]) == (unknown[0], unknown[1]["message"])
        assert off[0] == 404
    finally:
        daemon.stop()


def test_ready_names_all_parts(broker: Daemon) -> None:
    parts = dict.fromkeys(("store", "store writer", "wire ids", "http", "mqtt", "coap"), "ready")
    assert broker.ask("GET", "/readyz") == (200, {"status": "ready", "parts": parts})


def test_a_stuck_writer_is_not_ready_but_alive_and_ready_again_afterwards(broker: Daemon) -> None:
    other = sqlite3.connect(broker.state / "rpcbroker.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writing = threading.Thread(target=lambda: broker.ask("POST", "/api/device", {"name": "d"}))
    writing.start()

    def stuck() -> str | None:
        status, answer = broker.ask("GET", "/readyz")
        return answer["message"] if status == 503 else None

    assert wait_for(stuck, "not ready") == "Not ready: store writer (no answer within 2 s)"
    assert broker.ask("GET", "/healthz") == (200, {"status": "ok"})
    other.execute("ROLLBACK")
    writing.join(10)
    other.close()
    assert broker.ask("GET", "/readyz")[0] == 200
