"""CoAP over DTLS with the real daemon: libcoap's client and `openssl s_client` as devices."""

from __future__ import annotations

import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import certificates as c
import pytest
from daemon import Daemon, wait_for
from dtls_client import DtlsClient

from rpcbroker.core.credentials import x509_id


def program(name: str) -> str:
    """Where it is; it must be somewhere."""
    found = shutil.which(name)
    assert found, f"{name} is not installed: apt install openssl libcoap3-bin"
    return found


def started(directory: Path, **more: str) -> Daemon:
    """A broker that speaks DTLS with a certificate of the serial number 1."""
    listener = c.make(directory, serial=1).listener().replace("ssl:", "dtls:")
    return Daemon(directory, RPCBROKER_COAP_DTLS_LISTEN=listener, **more).login()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    made = started(tmp_path_factory.mktemp("broker"))
    made.add_device("by-token", "TOKEN")
    yield made
    made.stop()
    assert "Traceback" not in made.log.read_text()


def place(daemon: Daemon) -> tuple[str, int]:
    parts = urlsplit(daemon.endpoints["coaps"])
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


def metric(daemon: Daemon, name: str) -> float:
    with urllib.request.urlopen(daemon.http + "/metrics", timeout=5) as response:
        text = response.read().decode()
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found, name
    return float(found[1])


def coap(url: str, *arguments: str, shown: c.Files | None = None) -> str:
    """What libcoap's client was answered; its exit code says nothing of that."""
    identity = ("-c", str(shown.certificate), "-j", str(shown.key)) if shown else ()
    done = subprocess.run(
        [program("coap-client-openssl"), "-B", "10", "-n", *identity, *arguments, url],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    return done.stdout + done.stderr


def handshake(daemon: Daemon, *arguments: str) -> str:
    """What `openssl s_client` tells of one."""
    host, port = place(daemon)
    done = subprocess.run(
        [program("openssl"), "s_client", "-connect", f"{host}:{port}", *arguments],
        input="Q\n",
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return done.stdout + done.stderr


def serial(daemon: Daemon) -> int:
    """Of the certificate that a new session is shown."""
    shown = re.search(r"-----BEGIN.*?END CERTIFICATE-----\n", handshake(daemon, "-dtls1_2"), re.DOTALL)
    assert shown
    done = subprocess.run(
        [program("openssl"), "x509", "-noout", "-serial"], input=shown[0], capture_output=True, text=True, check=True
    )
    return int(done.stdout.removeprefix("serial="), 16)


def add_with(daemon: Daemon, name: str, made: c.Files) -> None:
    """A device that has this certificate."""
    device_id = daemon.add_device(name, f"token-{name}")
    _, credentials = daemon.ask("GET", f"/api/device/{device_id}/credentials")
    value = made.certificate.read_text()
    credentials |= {"credentialsType": "X509_CERTIFICATE", "credentialsId": None, "credentialsValue": value}
    status, saved = daemon.ask("POST", "/api/device/credentials", credentials)
    assert (status, saved["credentialsId"]) == (200, x509_id(value))


# -- who comes in


def test_a_device_with_a_token(broker: Daemon) -> None:
    url = broker.endpoints["coaps"]
    assert coap(f"{url}/api/v1/TOKEN/attributes") == "{}\n"
    assert coap(f"{url}/api/v1/TOKEN/telemetry", "-m", "post", "-e", '{"a":1}') == ""
    assert "4.01" in coap(f"{url}/api/v1/WRONG/attributes")
    assert "4.01" in coap(f"{url}/api/v1/attributes"), "without a certificate there is nothing to know it by"


def test_a_device_with_a_certificate_needs_no_token(broker: Daemon, tmp_path: Path) -> None:
    mine = c.make(tmp_path, serial=2)
    url = f"{broker.endpoints['coaps']}/api/v1/attributes"
    assert "4.01" in coap(url, shown=mine), "nobody's certificate yet"
    add_with(broker, "by-certificate", mine)
    assert coap(url, shown=mine) == "{}\n"


@pytest.mark.parametrize("more", [{"days": -1}, {"begins": 1}])
def test_a_certificate_out_of_its_time_is_refused(broker: Daemon, tmp_path: Path, more: dict[str, float]) -> None:
    mine = c.make(tmp_path, serial=3, **more)  # type: ignore[arg-type]
    add_with(broker, f"out-of-time-{'-'.join(more)}", mine)
    assert "4.01" in coap(f"{broker.endpoints['coaps']}/api/v1/attributes", shown=mine)


def test_only_dtls_1_2_is_spoken(broker: Daemon) -> None:
    said = handshake(broker, "-dtls1_2", "-brief")
    assert "Protocol version: DTLSv1.2" in said
    assert "CONNECTION ESTABLISHED" in said
    said = handshake(broker, "-dtls1", "-cipher", "ALL:@SECLEVEL=0", "-brief")
    assert "alert protocol version" in said
    assert "CONNECTION ESTABLISHED" not in said


# -- what the network does


def test_datagrams_of_the_device_that_are_lost(broker: Daemon) -> None:
    """Of the second ClientHello, and of what follows; libcoap's OpenSSL sends them again after a second."""
    assert coap(f"{broker.endpoints['coaps']}/api/v1/TOKEN/attributes", "-l", "2,3") == "{}\n"


class LossyRelay(threading.Thread):
    """Between one device and the broker: the broker's first flight is lost, and then all that the device says.

    Until the broker, by itself, says it again.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(daemon=True)
        self._target = target
        self.near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.near.bind(("127.0.0.1", 0))
        self.port = self.near.getsockname()[1]
        self.far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.far.connect(target)
        self.lost_at: float | None = None
        self.again_at: float | None = None
        self._device: Any = None

    def run(self) -> None:
        threading.Thread(target=self._upwards, daemon=True).start()
        number = 0
        while datagram := self.far.recv(65_536):
            number += 1
            if number == 2:
                self.lost_at = time.monotonic()
            elif self.lost_at is not None and self.again_at is None and time.monotonic() - self.lost_at < 0.5:
                continue  # the rest of the flight
            else:
                if self.lost_at is not None and self.again_at is None:
                    self.again_at = time.monotonic()
                self.near.sendto(datagram, self._device)

    def _upwards(self) -> None:
        while True:
            datagram, self._device = self.near.recvfrom(65_536)
            if self.lost_at is None or self.again_at is not None:
                self.far.send(datagram)


def test_datagrams_of_the_broker_that_are_lost(broker: Daemon) -> None:
    relay = LossyRelay(place(broker))
    relay.start()
    assert coap(f"coaps://127.0.0.1:{relay.port}/api/v1/TOKEN/attributes") == "{}\n"
    assert relay.lost_at is not None
    assert relay.again_at is not None
    assert 0.8 < relay.again_at - relay.lost_at < 5, "RFC 6347 4.2.4.1: a second"


def test_garbage_does_no_harm(broker: Daemon) -> None:
    rng = random.Random(6)
    (hello,) = DtlsClient().hello()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(place(broker))
        for number in range(2_000):
            made = bytearray(hello if number % 2 else rng.randbytes(rng.randrange(1_500)))
            for _ in range(3):
                if made:
                    made[rng.randrange(len(made))] = rng.randrange(256)
            sender.send(made)
    assert coap(f"{broker.endpoints['coaps']}/api/v1/TOKEN/attributes") == "{}\n"


# -- the end of sessions


class Device:
    """One DTLS session on a socket, which says nothing by itself."""

    def __init__(self, daemon: Daemon) -> None:
        self.client = DtlsClient()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(10)
        self._socket.connect(place(daemon))
        said = self.client.hello()
        while not self.client.established:
            self.send(*said)
            said = self.client.take(self._socket.recv(65_536))

    def send(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self._socket.send(datagram)

    def close(self) -> None:
        self._socket.close()

    def wait_until_closed(self) -> None:
        while not self.client.closed:
            self.client.take(self._socket.recv(65_536))


def test_idle_sessions_end(tmp_path: Path) -> None:
    daemon = started(tmp_path, RPCBROKER_COAP_DTLS_IDLE_TIMEOUT="500ms")
    device = Device(daemon)
    try:
        device.wait_until_closed()
        wait_for(lambda: metric(daemon, "rpcbroker_dtls_sessions") == 0, "its end")
        assert metric(daemon, 'rpcbroker_dtls_total{what="handshakes"}') == 1
    finally:
        device.close()
        daemon.stop()


def test_the_broker_says_that_it_stops(tmp_path: Path) -> None:
    daemon = started(tmp_path)
    device = Device(daemon)
    try:
        wait_for(lambda: metric(daemon, "rpcbroker_dtls_sessions") == 1, "the session")
        daemon.stop()
        device.wait_until_closed()
    finally:
        device.close()
        daemon.stop()


@contextmanager
def observing(url: str) -> Iterator[subprocess.Popen[bytes]]:
    """libcoap's client as a device that can be called, until it is told to leave."""
    with subprocess.Popen(
        [program("coap-client-openssl"), "-B", "60", "-n", "-s", "60", f"{url}/api/v1/OBSERVER/rpc"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_an_observer_that_closes_its_session_is_gone_at_once(broker: Daemon) -> None:
    device_id = broker.add_device("observer", "OBSERVER")
    with observing(broker.endpoints["coaps"]) as process:
        broker.wait_callable(device_id)
        assert broker.ask("POST", f"/api/rpc/oneway/{device_id}", {"method": "x"})[0] == 200
        process.send_signal(signal.SIGINT)
        process.wait(10)

    def is_gone() -> bool:
        presence = broker.ask("GET", f"/api/device/{device_id}/presence")[1]
        return not presence["callable"]["value"]

    wait_for(is_gone, "the end of the observation")


# -- what may change


def test_a_new_certificate_is_shown_to_new_sessions_and_open_ones_go_on(tmp_path: Path) -> None:
    daemon = started(tmp_path, RPCBROKER_SERVER_TLS_CHECK="1h")
    daemon.add_device("by-token", "TOKEN")
    device = Device(daemon)
    try:
        assert serial(daemon) == 1
        files = c.make(tmp_path, serial=2)
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: serial(daemon) == 2, "the new certificate")
        files.certificate.write_text("nonsense")
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "the certificate in use stays: certKey" in daemon.log.read_text(), "an error")
        assert serial(daemon) == 2
        before = metric(daemon, 'rpcbroker_coap_messages_total{what="malformed"}')
        device.send(device.client.seal(b"no CoAP"))
        wait_for(lambda: metric(daemon, 'rpcbroker_coap_messages_total{what="malformed"}') > before, "what it said")
    finally:
        device.close()
        daemon.stop()
    assert "Traceback" not in daemon.log.read_text()
