"""Simulated devices over each protocol, as an operator starts them: the real command against the real daemon."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from subprocess import Popen
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
from certificates import Files, make
from daemon import EMAIL, PASSWORD, Daemon, wait_for
from operating import Operator
from persistent import keep, successful

PLAIN = ["mqtt", "coap", "http", "sse"]
SECURE = {"mqtts": "mqtt", "coaps": "coaps", "https": "http", "https+sse": "sse"}
"""What is spoken over TLS and DTLS -> the protocol that it is called."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return make(tmp_path_factory.mktemp("certificate"), serial=1)


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory, files: Files) -> Iterator[Operator]:
    directory = tmp_path_factory.mktemp("broker")
    free = "tcp:0:interface=127.0.0.1"
    broker = Daemon(
        directory,
        RPCBROKER_HTTP_LISTEN=f"{free} {files.listener()}",
        RPCBROKER_MQTT_LISTEN=f"{free} {files.listener()}",
        RPCBROKER_COAP_DTLS_LISTEN=files.listener().replace("ssl:", "dtls:"),
        RPCBROKER_HTTP_DEVICES_REDELIVER_AFTER="1s",
        RPCBROKER_RPC_MIN_TIMEOUT="100ms",
    )
    broker.login()
    operator = Operator(directory, broker)
    operator.log_in(EMAIL, PASSWORD)
    yield operator
    broker.stop()
    assert "Traceback" not in broker.log.read_text()


@contextmanager
def simulated(operator: Operator, name: str, *words: str) -> Iterator[Popen[str]]:
    """Online, and ended by Ctrl-C, in good order."""
    with operator.starts("simulate", name, "--state-dir", str(operator.broker.state), *words) as process:
        assert process.stdout
        assert process.stderr
        line = process.stdout.readline()
        assert f"{name} is online" in line, line
        yield process
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 0, process.stderr.read()


def secure(operator: Operator, kind: str, files: Files) -> tuple[str, ...]:
    scheme = kind.partition("+")[0]
    return "--broker", operator.broker.endpoints[scheme], "--protocol", SECURE[kind], "--ca", str(files.certificate)


def called(operator: Operator, name: str, method: str, params: Any) -> Any:
    """The reply to a call."""
    body = {"method": method, "params": params, "timeout": 20_000}
    status, reply = operator.broker.ask("POST", f"/api/rpc/twoway/{device_id(operator, name)}", body)
    assert status == 200, reply
    return reply


def unknown_replies(operator: Operator, name: str) -> int:
    """How many replies of the device nobody waited for."""
    found = operator.broker.ask("GET", f"/api/device/{device_id(operator, name)}/diagnostics")[1]["nearMisses"]
    return sum(miss["count"] for miss in found if miss["kind"] == "UNKNOWN_REPLY")


def device_id(operator: Operator, name: str) -> str:
    found: str = operator.broker.ask("GET", f"/api/tenant/device?deviceName={quote(name)}")[1]["id"]["id"]
    return found


@pytest.mark.parametrize("kind", [*PLAIN, *SECURE])
def test_a_device_of_each_kind_is_called_and_reports_and_is_cancelled(
    operator: Operator, files: Files, kind: str
) -> None:
    name = f"{kind}-device"
    words = ("--protocol", kind) if kind in PLAIN else secure(operator, kind, files)
    with simulated(operator, name, "--gpio", "7", *words) as device:
        assert called(operator, name, "setGpioStatus", {"pin": 7, "enabled": True}) == {"7": True}
        text = "0123456789" * 1_000  # over CoAP it takes ten blocks, each way
        assert called(operator, name, "echo", text) == text
        rpc_id = str(uuid4())
        cancelled = ("--request-id", rpc_id) if kind in PLAIN else ()  # it goes on without its caller; else it ends
        with operator.starts("call", name, "countDown", "seconds=60", "--progress", *cancelled) as caller:
            assert caller.stderr
            assert caller.stderr.readline() == 'Progress: {"left":59}\n'
            if cancelled:
                assert operator.run("cancel", rpc_id).stderr == (
                    "Cancelled. It had gone to the device, which was told that nobody waits for it any more.\n"
                )
            else:
                caller.send_signal(signal.SIGINT)
            caller.wait(15)
        assert device.stdout
        said = [device.stdout.readline().split(" -> ")[-1].rstrip() for _ in range(3)]
        assert said[-1] == "cancelled"


def test_devices_in_trouble_are_called_all_the_same(operator: Operator) -> None:
    """All of them in one test, for it takes 5 s until one is back after a crash."""
    trouble = "--latency", "300ms", "--duplicate", "100%", "--crash-after", "2"
    with ExitStack() as stack:
        devices = {
            kind: stack.enter_context(simulated(operator, f"{kind}-troubled", "--protocol", kind, *trouble))
            for kind in PLAIN
        }
        for kind in devices:
            start = time.monotonic()
            assert called(operator, f"{kind}-troubled", "echo", 1) == 1
            assert time.monotonic() - start >= 0.3
        kept = {
            kind: keep(operator.broker, device_id(operator, f"{kind}-troubled"), "echo", 2, timeout=60_000)
            for kind in devices
        }
        for kind, rpc_id in kept.items():
            wait_for(successful(operator.broker, rpc_id), f"the reply over {kind} after the crash")
            assert unknown_replies(operator, f"{kind}-troubled"), "the second one to the first call"
        for device in devices.values():
            assert device.stdout
            said = [line.split("  ", 1)[1].rstrip() for line in (device.stdout.readline() for _ in range(5)) if line]
            assert [line for line in said if line.startswith("echo")] == [
                "echo 1 -> 1 (sent twice)",
                "echo 2 -> crashed",
                "echo 2 -> 2 (sent twice)",
            ], said


@pytest.mark.parametrize("kind", PLAIN)
def test_a_call_that_a_device_drops_has_no_reply(operator: Operator, kind: str) -> None:
    name = f"{kind}-dropper"
    with simulated(operator, name, "--protocol", kind, "--drop", "100%") as device:
        path = f"/api/rpc/twoway/{device_id(operator, name)}"
        status, error = operator.broker.ask("POST", path, {"method": "echo", "params": 1, "timeout": 700})
        assert (status, error["reason"]) == (504, "NO_REPLY")
        assert device.stdout
        assert device.stdout.readline().endswith("echo 1 -> dropped\n")


@pytest.mark.parametrize("kind", PLAIN)
def test_a_device_that_the_broker_does_not_know_is_refused(operator: Operator, kind: str) -> None:
    words = ("--protocol", kind, "--state-dir", str(operator.broker.state))
    refused = operator.run("simulate", "x", *words, code=3, RPCBROKER_DEVICE_TOKEN="UNKNOWN")
    assert refused.stderr.startswith("Error: The broker refused the device: ")
    assert "UNKNOWN" not in refused.stdout + refused.stderr


@pytest.mark.parametrize("kind", ["mqtts", "coaps", "https"])
def test_a_broker_that_is_not_believed_is_left(operator: Operator, files: Files, kind: str) -> None:
    words = secure(operator, kind, files)[:-2]
    refused = operator.run("simulate", "x", *words, code=3, RPCBROKER_DEVICE_TOKEN="UNKNOWN")
    assert refused.stderr.startswith("Error: The broker's certificate is not believed. ")


@pytest.mark.parametrize("kind", ["coaps", "mqtts"])
def test_a_device_may_be_known_by_its_certificate(
    operator: Operator, tmp_path_factory: pytest.TempPathFactory, files: Files, kind: str
) -> None:
    own = make(tmp_path_factory.mktemp("own"), serial=7)
    name = f"{kind}-certified"
    added = operator.broker.add_device(name, f"TOKEN-{kind}")
    _, credentials = operator.broker.ask("GET", f"/api/device/{added}/credentials")
    credentials |= {
        "credentialsType": "X509_CERTIFICATE",
        "credentialsId": None,
        "credentialsValue": own.certificate.read_text(),
    }
    assert operator.broker.ask("POST", "/api/device/credentials", credentials)[0] == 200
    believing = (*secure(operator, kind, files)[:-2], "--insecure")
    words = (*believing, "--cert", str(own.certificate), "--key", str(own.key))
    with simulated(operator, name, *words):
        assert called(operator, name, "echo", 1) == 1


@pytest.mark.parametrize("kind", PLAIN)
def test_a_call_to_a_sleeping_device_is_answered_when_it_is_awake(operator: Operator, kind: str) -> None:
    name = f"{kind}-sleeper"
    with simulated(operator, name, "--protocol", kind, "--sleep-schedule", "1s/2s") as device:
        assert device.stdout
        assert "Asleep for 2 s." in device.stdout.readline()
        assert called(operator, name, "echo", 1) == 1


def test_over_coap_the_broker_is_told_when_the_device_leaves(operator: Operator) -> None:
    with simulated(operator, "leaver", "--protocol", "coap"):
        path = f"/api/device/{device_id(operator, 'leaver')}/presence"
        assert operator.broker.ask("GET", path)[1]["callable"]["value"]
    wait_for(lambda: not operator.broker.ask("GET", path)[1]["callable"]["value"], "the end of the observation", 5.0)
