"""Devices that need no token in the path, for they have shown their certificate over DTLS."""

from __future__ import annotations

import ssl
import time
from dataclasses import replace
from pathlib import Path

import certificates as c
import pytest
from coap_world import RPC_ID, TOKEN, Coap, FakePeer
from fakes import EPOCH_MS, Slow, device, result_of, token

from rpcbroker.core.calls import CallRequest
from rpcbroker.core.credentials import x509_id
from rpcbroker.core.model import CredentialsType
from rpcbroker.wire.coap.numbers import Code

DAY = 86_400
DEVICE = device(7)


def made(directory: Path, serial: int) -> c.Files:
    """A certificate that is good for one day from when these tests are, some years ago."""
    since = (EPOCH_MS / 1000 - time.time()) / DAY
    return c.make(directory, serial=serial, begins=since - 1, days=since + 1)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> c.Files:
    return made(tmp_path_factory.mktemp("certificate"), 1)


@pytest.fixture
def coap(files: c.Files) -> Coap:
    """Device 7 has that certificate."""
    coap = Coap()
    pem = files.certificate.read_text()
    credentials = replace(token(DEVICE), type=CredentialsType.X509_CERTIFICATE, credentials_id=x509_id(pem))
    result_of(coap.world.store.create_device(DEVICE, credentials))
    coap.peer = FakePeer(secure=True, certificate=ssl.PEM_cert_to_DER_cert(pem))
    return coap


@pytest.fixture
def foreign(tmp_path: Path) -> bytes:
    """A certificate that is no device's."""
    return ssl.PEM_cert_to_DER_cert(made(tmp_path, 2).certificate.read_text())


def test_it_does_all_without_a_token(coap: Coap) -> None:
    assert coap.post("/api/v1/telemetry", b'{"t":1}').code == Code.CREATED
    assert coap.post("/api/v1/attributes", b'{"a":1}').code == Code.CREATED
    assert coap.get("/api/v1/attributes").payload == b'{"client":{"a":1}}'
    assert coap.post("/api/v1/claim").code == Code.CREATED
    assert coap.post("/api/v1/rpc", b'{"method":"getCurrentTime"}').code == Code.CONTENT
    observation = coap.observe("/api/v1/rpc")
    waiting = coap.world.call(CallRequest(method="m", request_id=RPC_ID), device_id=DEVICE.id)
    assert observation.payloads == [b'{"id":1,"method":"m","params":null}']
    assert coap.post("/api/v1/RPC/1/progress", b"50").code == Code.CREATED
    assert coap.post("/api/v1/rpc/1", b"7").code == Code.CREATED
    assert result_of(waiting).payload == b"7"
    assert coap.world.session(DEVICE).presence.seen_cause == "CoAPs"


def test_its_mistakes_are_noted(coap: Coap) -> None:
    assert coap.post("/api/v1/rpc", b"no").code == Code.BAD_REQUEST
    assert coap.get("/api/v1").code == Code.BAD_REQUEST
    missed = {miss.value for miss, _ in coap.world.session(DEVICE).near_misses()}
    assert missed == {"BAD_PAYLOAD", "UNKNOWN_TOPIC"}


def test_a_token_in_the_path_decides(coap: Coap) -> None:
    coap.post(f"/api/v1/{TOKEN}/telemetry", b'{"t":1}')
    assert coap.session.presence.seen_time == EPOCH_MS
    assert coap.world.session(DEVICE).presence.seen_time is None
    assert coap.post("/api/v1/nonsense/telemetry", b'{"t":1}').code == Code.UNAUTHORIZED


def test_who_was_here_is_answered_without_the_store(coap: Coap) -> None:
    coap.post("/api/v1/telemetry", b'{"t":1}')
    with Slow(coap.world.store, "matching_credentials"):
        again = FakePeer(secure=True, certificate=bytes(bytearray(coap.peer.certificate or b"")))
        assert coap.post("/api/v1/telemetry", b'{"t":1}', peer=again).code == Code.CREATED


def test_one_that_is_no_device_s_says_nothing(coap: Coap, foreign: bytes) -> None:
    peer = FakePeer(secure=True, certificate=foreign)
    for _ in range(2):
        response = coap.post("/api/v1/telemetry", b'{"t":1}', peer=peer)
        assert (response.code, response.payload) == (Code.UNAUTHORIZED, b"no access token")
    assert coap.post(f"/api/v1/{TOKEN}/telemetry", b'{"t":1}', peer=peer).code == Code.CREATED


def test_nor_does_one_that_nobody_showed(coap: Coap) -> None:
    coap.post("/api/v1/telemetry", b'{"t":1}')
    assert coap.post("/api/v1/telemetry", b'{"t":1}', peer=FakePeer()).code == Code.UNAUTHORIZED


def test_when_its_time_is_over_it_is_good_no_longer(coap: Coap) -> None:
    coap.world.clock.advance(DAY - 60)
    assert coap.post("/api/v1/telemetry", b'{"t":1}').code == Code.CREATED
    coap.world.clock.advance(120)
    assert coap.post("/api/v1/telemetry", b'{"t":1}').code == Code.UNAUTHORIZED
    assert coap.post(f"/api/v1/{TOKEN}/telemetry", b'{"t":1}').code == Code.CREATED


def test_a_device_that_was_deleted_is_not_known_any_more(coap: Coap) -> None:
    observation = coap.observe("/api/v1/rpc")
    result_of(coap.world.store.delete_device(DEVICE.id))
    coap.world.broker.device_deleted(DEVICE.id)
    assert observation.last is not None
    assert coap.post("/api/v1/telemetry", b'{"t":1}').code == Code.UNAUTHORIZED


def test_another_certificate_of_the_device_takes_the_place_of_the_older(coap: Coap, foreign: bytes) -> None:
    coap.post("/api/v1/telemetry", b'{"t":1}')
    pem = ssl.DER_cert_to_PEM_cert(foreign)
    new = replace(
        token(DEVICE),
        type=CredentialsType.X509_CERTIFICATE,
        credentials_id=x509_id(pem),
        credentials_value=pem,
        version=2,
    )
    result_of(coap.world.store.update_credentials(new))
    coap.world.broker.credentials_changed(DEVICE.id)
    assert coap.post("/api/v1/telemetry", b'{"t":1}').code == Code.UNAUTHORIZED
    assert (
        coap.post("/api/v1/telemetry", b'{"t":1}', peer=FakePeer(secure=True, certificate=foreign)).code == Code.CREATED
    )
    assert len(coap.site._senders._by_certificate) == 1


def test_strangers_become_devices_over_dtls_too(coap: Coap, foreign: bytes) -> None:
    assert coap.post("/api/v1/provision", b"{}", peer=FakePeer(secure=True, certificate=foreign)).code == Code.CREATED
