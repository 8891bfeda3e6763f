"""Devices that come in by a certificate: real TLS, and paho as the device."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import certificates as c
import paho.mqtt.client as mqtt
import pytest
from daemon import Daemon, wait_for

from rpcbroker.core.credentials import x509_id
from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.codec import encode

REFUSED = b"\x20\x02\x00\x05"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("broker")
    both = f"tcp:0:interface=127.0.0.1 {files(directory, 1).listener()}"
    made = Daemon(directory, RPCBROKER_HTTP_LISTEN=both, RPCBROKER_MQTT_LISTEN=both).login()
    yield made
    made.stop()
    assert "Traceback" not in made.log.read_text()


def files(directory: Path, serial: int, **more: Any) -> c.Files:
    into = directory / str(serial)
    into.mkdir()
    return c.make(into, serial=serial, **more)


def add(daemon: Daemon, name: str, made: c.Files) -> str:
    """A device that has this certificate."""
    device_id = daemon.add_device(name, f"token-{name}")
    path = f"/api/device/{device_id}/credentials"
    status, credentials = daemon.ask("GET", path)
    assert status == 200
    value = made.certificate.read_text()
    credentials |= {"credentialsType": "X509_CERTIFICATE", "credentialsId": None, "credentialsValue": value}
    status, saved = daemon.ask("POST", "/api/device/credentials", credentials)
    assert (status, saved["credentialsId"]) == (200, x509_id(value))
    return device_id


def context(shown: c.Files | None, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A device's side, which shows this certificate."""
    made = ssl.create_default_context()
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    if shown:
        made.load_cert_chain(shown.certificate, shown.key)
    if version:
        made.minimum_version = made.maximum_version = version
    return made


def port_of(daemon: Daemon, name: str) -> int:
    return int(daemon.endpoints[name].rsplit(":", 1)[1])


def connack(daemon: Daemon, connect: p.Connect, tls: ssl.SSLContext, session: ssl.SSLSession | None = None) -> bytes:
    """What the broker answers to this CONNECT, and nothing after it if that was a refusal."""
    with (
        socket.create_connection(("127.0.0.1", port_of(daemon, "mqtts")), 10) as plain,
        tls.wrap_socket(plain, session=session) as wrapped,
    ):
        wrapped.sendall(encode(connect, connect.level))
        answer = wrapped.recv(100)
        if answer[3]:
            assert wrapped.recv(100) == b"", "closed after the refusal"
        return answer


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_paho_is_called_by_its_certificate(daemon: Daemon, tmp_path: Path, version: ssl.TLSVersion) -> None:
    made = files(tmp_path, 2)
    device_id = add(daemon, f"paho-{version.name}", made)
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.tls_set_context(context(made, version))
    subscribed = threading.Event()
    client.on_connect = lambda *_: client.subscribe("v1/devices/me/rpc/request/+", qos=1)
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = lambda _client, _data, message: client.publish(
        message.topic.replace("request", "response"), b'{"on":true}', qos=1
    )
    client.connect("127.0.0.1", port_of(daemon, "mqtts"))
    client.loop_start()
    try:
        assert subscribed.wait(10)
        assert daemon.ask("POST", f"/api/rpc/twoway/{device_id}", {"method": "get"}) == (200, {"on": True})
    finally:
        client.disconnect()
        client.loop_stop()


@pytest.mark.parametrize("level", [4, 5])
def test_without_it_and_with_another_one_the_device_stays_out(daemon: Daemon, tmp_path: Path, level: int) -> None:
    mine, other = files(tmp_path, 3), files(tmp_path, 4)
    add(daemon, f"kept-{level}", mine)
    fingerprint = x509_id(mine.certificate.read_text())
    connect = p.Connect(level, fingerprint, username=fingerprint, password=b"x")
    assert connack(daemon, connect, context(mine))[3] == 0
    assert connack(daemon, connect, context(None))[3] == (5 if level < 5 else 0x86)
    assert connack(daemon, connect, context(other))[3] == (5 if level < 5 else 0x87)


def test_a_token_does_not_help_an_unknown_certificate(daemon: Daemon, tmp_path: Path) -> None:
    daemon.add_device("by-token", "secret-token")
    connect = p.Connect(4, "c", username="secret-token")
    assert connack(daemon, connect, context(None)) == b"\x20\x02\x00\x00"
    assert connack(daemon, connect, context(files(tmp_path, 5))) == REFUSED


def test_one_that_has_expired_or_is_not_good_yet_is_refused(daemon: Daemon, tmp_path: Path) -> None:
    for number, more in ((6, {"days": -1}), (7, {"begins": 1})):
        made = files(tmp_path, number, **more)
        add(daemon, f"out-of-time-{number}", made)
        assert connack(daemon, p.Connect(4, ""), context(made)) == REFUSED


def test_a_device_that_offers_its_old_session_gets_in(daemon: Daemon, tmp_path: Path) -> None:
    made = files(tmp_path, 10)
    add(daemon, "again", made)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        tls = context(made, version)
        with (
            socket.create_connection(("127.0.0.1", port_of(daemon, "mqtts")), 10) as plain,
            tls.wrap_socket(plain) as wrapped,
        ):
            wrapped.sendall(encode(p.Connect(4, "c"), 4))
            assert wrapped.recv(100)[3] == 0
            session = wrapped.session
        assert connack(daemon, p.Connect(4, "c"), tls, session)[3] == 0


def test_callers_over_https_are_not_asked_for_one(daemon: Daemon, tmp_path: Path) -> None:
    tls = context(files(tmp_path, 11), ssl.TLSVersion.TLSv1_2)
    asked: list[str] = []
    tls._msg_callback = lambda *seen: asked.append(seen[4].name)
    for name in ("https", "mqtts"):
        asked.clear()
        with (
            socket.create_connection(("127.0.0.1", port_of(daemon, name)), 10) as plain,
            tls.wrap_socket(plain),
        ):
            assert ("CERTIFICATE_REQUEST" in asked) == (name == "mqtts")


def test_a_device_whose_certificate_is_replaced_is_thrown_out(daemon: Daemon, tmp_path: Path) -> None:
    old, new = files(tmp_path, 12), files(tmp_path, 13)
    device_id = add(daemon, "renewed", old)
    with (
        socket.create_connection(("127.0.0.1", port_of(daemon, "mqtts")), 10) as plain,
        context(old).wrap_socket(plain) as wrapped,
    ):
        wrapped.sendall(encode(p.Connect(4, "c"), 4))
        assert wrapped.recv(100)[3] == 0
        _, credentials = daemon.ask("GET", f"/api/device/{device_id}/credentials")
        credentials["credentialsValue"] = new.certificate.read_text()
        assert daemon.ask("POST", "/api/device/credentials", credentials)[0] == 200
        with suppress(ConnectionError):
            assert wrapped.recv(100) == b""
    assert connack(daemon, p.Connect(4, "c"), context(old)) == REFUSED
    wait_for(lambda: connack(daemon, p.Connect(4, "c"), context(new))[3] == 0, "the new one")
