"""Foreign clients of CoAP and of the HTTP device API, against the real broker: calls, questions and values both ways."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import certificates as c
import pytest
from calling import both_calls, got
from daemon import Daemon
from foreign import CLIENTS, Foreign, node, program, python_of
from seen import read

pytestmark = pytest.mark.interop

LONG = "ü-" * 2000
"""Makes several blocks of what has it, in CoAP."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> c.Files:
    """The server's."""
    return c.make(tmp_path_factory.mktemp("server"), serial=1)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, files: c.Files) -> Iterator[Daemon]:
    dtls = files.listener().replace("ssl:", "dtls:")
    daemon = Daemon(tmp_path_factory.mktemp("interop"), RPCBROKER_COAP_DTLS_LISTEN=dtls)
    yield daemon.login()
    daemon.stop()
    assert "Traceback" not in daemon.log.read_text()


@pytest.fixture
def device(broker: Daemon, request: pytest.FixtureRequest) -> tuple[str, str]:
    """The id and the token of a fresh device."""
    token = f"T{abs(hash(request.node.nodeid)) % 10**12}"
    return broker.add_device(request.node.name, token), token


def certify(broker: Daemon, device_id: str, made: c.Files) -> None:
    """Let the device in by this certificate, and no more by its token."""
    status, credentials = broker.ask("GET", f"/api/device/{device_id}/credentials")
    assert status == 200
    value = made.certificate.read_text()
    credentials |= {"credentialsType": "X509_CERTIFICATE", "credentialsId": None, "credentialsValue": value}
    assert broker.ask("POST", "/api/device/credentials", credentials)[0] == 200


def command(client: str, broker: Daemon, token: str, device_id: str, server: c.Files, directory: Path) -> list[str]:
    """Run one of `clients/` or `js/`: they all say what they see in the same way."""
    plain, http = f"{broker.endpoints['coap']}/api/v1/{token}", f"{broker.http}/api/v1/{token}"
    python = [sys.executable]
    libcoap = [*python, str(CLIENTS / "libcoap_device.py")]
    match client.split():
        case ["coap-client-notls", *options]:
            return [*libcoap, program("coap-client-notls"), plain, *options]
        case ["coap-client-openssl"]:
            secure = f"{broker.endpoints['coaps']}/api/v1/{token}"
            return [*libcoap, program("coap-client-openssl"), secure, "-R", str(server.certificate)]
        case ["coap-client-openssl", "certificate"]:
            own = c.make(directory, serial=2)
            certify(broker, device_id, own)
            options = ["-c", str(own.certificate), "-j", str(own.key), "-R", str(server.certificate)]
            return [*libcoap, program("coap-client-openssl"), f"{broker.endpoints['coaps']}/api/v1", *options]
        case ["aiocoap", kind]:
            return [*python, str(CLIENTS / "aiocoap_client.py"), plain, kind]
        case ["node-coap", kind]:
            return [*node("coap_device.js", "coap"), plain, kind]
        case ["curl", way]:
            return [*python, str(CLIENTS / "curl_device.py"), program("curl"), http, way]
        case ["TBHTTPDevice"]:
            return [python_of("TB_PYTHON"), str(CLIENTS / "tb_http_device.py"), broker.http, token]
    raise AssertionError(client)


COAP = [
    "coap-client-notls",
    "coap-client-notls -N",
    "coap-client-notls -b 64",
    "coap-client-openssl",
    "coap-client-openssl certificate",
    "aiocoap CON",
    "aiocoap NON",
    "node-coap CON",
    "node-coap NON",
]
HTTP = ["curl poll", "curl events", "TBHTTPDevice"]
REPLIES: dict[str, Any] = {"TBHTTPDevice": lambda params: {"method": "got", "params": params}}


@pytest.mark.parametrize("client", [*COAP, *HTTP])
def test_calls_questions_and_values_go_both_ways(
    broker: Daemon, device: tuple[str, str], files: c.Files, tmp_path: Path, client: str
) -> None:
    device_id, token = device
    reply = REPLIES.get(client, got)
    with Foreign(command(client, broker, token, device_id, files, tmp_path), tmp_path) as foreign:
        asked = foreign.saw()
        assert asked["asked"] == "getCurrentTime"
        assert asked["answer"] > 1_700_000_000_000
        both_calls(broker, device_id, lambda: foreign.saw()["called"], reply)
        both_calls(broker, device_id, lambda: foreign.saw()["called"], reply, LONG)
        assert foreign.saw_nothing_more()
    assert read(broker, device_id, "temperature") == 21.5
    assert read(broker, device_id, "long") == "x" * 5000


@pytest.mark.parametrize(
    ("path", "expected"),
    [("WRONG/telemetry", "4.01"), ("WRONG/rpc", "4.01"), ("WRONG/nothing", "4.0"), ("", "4.0")],
)
def test_what_is_refused_is_a_code_at_coap_client(broker: Daemon, path: str, expected: str) -> None:
    done = subprocess.run(
        [program("coap-client-notls"), "-m", "post", "-e", "{}", f"{broker.endpoints['coap']}/api/v1/{path}"],
        check=True,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.stderr.startswith(expected)
    assert "WRONG" not in done.stderr


def test_a_certificate_of_nobody_still_needs_a_token(broker: Daemon, device: tuple[str, str], tmp_path: Path) -> None:
    """The handshake succeeds, and then only the path says who it is."""
    _, token = device
    own = c.make(tmp_path, serial=3)
    client = [program("coap-client-openssl"), "-n", "-c", str(own.certificate), "-j", str(own.key), "-m", "post"]
    for path, expected in ((f"{token}/telemetry", ""), ("telemetry", "4.01")):
        done = subprocess.run(
            [*client, "-e", '{"a":1}', f"{broker.endpoints['coaps']}/api/v1/{path}"],
            check=True,
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert done.stderr[:4] == expected


def test_what_there_is_is_found_at_well_known_core(broker: Daemon) -> None:
    done = subprocess.run(
        [program("coap-client-notls"), f"{broker.endpoints['coap']}/.well-known/core"],
        check=True,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.stderr == ""
    assert done.stdout.startswith("<")
