"""Devices that prove who they are by a certificate."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

import certificates as c
import pytest
from fakes import EPOCH_MS, World, device, result_of, token
from twisted.internet.defer import Deferred

from rpcbroker.core.credentials import authenticate, x509_fingerprint, x509_id
from rpcbroker.core.model import Credentials, CredentialsType, KnownDevice
from rpcbroker.wire.mqtt.packets import Connect

NOW = round(time.time() * 1000)
DAY = 86_400_000


def der_of(files: c.Files) -> bytes:
    return ssl.PEM_cert_to_DER_cert(files.certificate.read_text())


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def der(tmp_path: Path, world: World) -> bytes:
    """The certificate, good for 100 days, of device 7."""
    files = c.make(tmp_path, serial=1)
    add(world, 7, CredentialsType.X509_CERTIFICATE, x509_id(files.certificate.read_text()))
    return der_of(files)


def add(world: World, number: int, kind: CredentialsType, credentials_id: str, value: str | None = None) -> None:
    made = token(device(number))
    result_of(
        world.store.create_device(
            device(number),
            Credentials(
                id=made.id,
                device_id=made.device_id,
                type=kind,
                credentials_id=credentials_id,
                credentials_value=value,
                created_time=EPOCH_MS,
            ),
        )
    )


def known(world: World, login: Connect, certificate: bytes | None, now: int = NOW) -> str | None:
    """The name of the device that this proves."""
    proving = authenticate(world.store, login, certificate=certificate, now=now)
    found: KnownDevice | None = result_of(Deferred.fromCoroutine(proving))
    return found.device.name if found else None


@pytest.mark.parametrize("login", [Connect(4, ""), Connect(5, "any"), Connect(4, "c", username="u", password=b"p")])
def test_the_certificate_alone_decides(world: World, der: bytes, login: Connect) -> None:
    assert known(world, login, der) == "device-7"


def test_it_is_the_only_way_in_for_its_device(world: World, der: bytes) -> None:
    fingerprint = x509_fingerprint(der)
    for name in (fingerprint, fingerprint[:32], "", None):
        for client_id in ("", fingerprint):
            assert known(world, Connect(4, client_id, username=name, password=fingerprint.encode()), None) is None


def test_one_that_is_not_known_is_refused_whatever_its_owner_says_besides(world: World, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    stranger = der_of(c.make(tmp_path / "other", serial=2))
    login = Connect(4, "c", username="TOKEN100")
    assert known(world, login, None) == "device-100"
    assert known(world, login, stranger) is None


def test_it_is_good_from_its_first_moment_to_its_last(world: World, der: bytes) -> None:
    login = Connect(4, "c")
    assert known(world, login, der, NOW + 99 * DAY) == "device-7"
    assert known(world, login, der, NOW + 101 * DAY) is None
    assert known(world, login, der, NOW - 999 * DAY) == "device-7"
    assert known(world, login, der, NOW - 1001 * DAY) is None


def test_what_is_no_certificate_is_refused_also_if_it_were_known(world: World) -> None:
    assert known(world, Connect(4, "c"), b"nonsense") is None
    add(world, 8, CredentialsType.X509_CERTIFICATE, x509_fingerprint(b"nonsense"))
    assert known(world, Connect(4, "c"), b"nonsense") is None


def test_other_credentials_are_no_certificate_even_with_the_same_id(world: World) -> None:
    add(world, 8, CredentialsType.MQTT_BASIC, x509_fingerprint(b"nonsense"), '{"userName":"u"}')
    assert known(world, Connect(4, "c"), b"nonsense") is None


def test_the_broker_asks_its_own_clock(world: World, der: bytes) -> None:
    """The broker of these tests lives in 2023, when the certificate was not good yet."""

    def enter(certificate: bytes | None) -> object:
        return result_of(Deferred.fromCoroutine(world.broker.enter(Connect(4, ""), certificate=certificate)))

    assert enter(der) is None
    world.clock.advance((NOW - EPOCH_MS) / 1000)
    session = enter(der)
    assert session is world.session(device(7))
    assert enter(None) is None
