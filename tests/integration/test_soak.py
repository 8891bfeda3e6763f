"""What takes minutes: random bytes at the HTTP door, and kill -9 again and again. MQTT has test_fuzz_mqtt.py."""

from __future__ import annotations

import random
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon import Daemon
from hostile import check_log

pytestmark = pytest.mark.soak

SECONDS = 60
KILLS = 20


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    yield daemon.login()
    daemon.stop()


def mutated(chance: random.Random, seeds: list[bytes]) -> bytes:
    data = bytearray(b"".join(chance.choices(seeds, k=chance.randint(1, 5))))
    for _ in range(chance.randint(0, 4)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data)


def test_random_bytes_at_the_http_door_disturb_nobody(broker: Daemon) -> None:
    chance = random.Random(7)
    host, port = broker.http.removeprefix("http://").split(":")
    requests = [
        b"POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
        b"GET /healthz HTTP/1.1\r\n\r\n",
    ]
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        with socket.create_connection((host, int(port)), 5) as connection:
            connection.sendall(mutated(chance, requests))
    assert broker.ask("GET", "/healthz") == (200, {"status": "ok"})
    check_log(broker)


def test_the_store_is_whole_after_many_kills(tmp_path: Path) -> None:
    chance = random.Random(7)
    kept: list[str] = []
    for round_ in range(KILLS):
        daemon = Daemon(tmp_path).login()
        for name in kept:
            assert daemon.ask("GET", f"/api/tenant/device?deviceName={name}")[0] == 200
        for number in range(chance.randint(1, 20)):
            daemon.add_device(f"d{round_}-{number}", f"T{round_}-{number}")
            kept.append(f"d{round_}-{number}")
        daemon.stop(signal.SIGKILL)
        (daemon.state / "endpoints.json").unlink()
