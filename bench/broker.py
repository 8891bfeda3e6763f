"""The broker that is measured, in a process of its own, and its devices."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from child import Child

from rpcbroker.core.model import NULL_UUID, Credentials, CredentialsType, Device
from rpcbroker.store import tables as t
from rpcbroker.store.direct import DirectDatabase
from rpcbroker.store.location import store_url
from rpcbroker.store.rows import values

EMAIL, PASSWORD = "bench@localhost", "benchmark-only"


class Broker(Child):
    """A broker on the state directory `state` in `directory`; `more` is its environment.

    `program` is a Python program that does as twistd does, if it is not twistd itself.
    """

    def __init__(self, directory: Path, *, program: Path | None = None, **more: str) -> None:
        self.state = directory / "state"
        (self.state / "endpoints.json").unlink(missing_ok=True)
        mine = {name: value for name, value in os.environ.items() if not name.startswith("RPCBROKER_")}
        settings = {
            "RPCBROKER_HTTP_LISTEN": "tcp:0:interface=127.0.0.1",
            "RPCBROKER_MQTT_LISTEN": "tcp:0:interface=127.0.0.1",
            "RPCBROKER_COAP_LISTEN": "udp:0:interface=127.0.0.1",
            "RPCBROKER_ADMIN_EMAIL": EMAIL,
            "RPCBROKER_ADMIN_PASSWORD": PASSWORD,
            "RPCBROKER_MQTT_MAX_HANDSHAKES": "20000",
            "RPCBROKER_LOG_LEVEL": "warn",
        }
        command = [
            *([sys.executable, str(program)] if program else [str(Path(sys.executable).parent / "twistd")]),
            "-n",
            "--pidfile=",
            "rpcbroker",
            "--state-dir",
            str(self.state),
        ]
        started = time.perf_counter()
        self.environ = mine | settings | more
        super().__init__("rpcbroker", command, directory, self.environ)
        self.endpoints = endpoints = self.wait_for(self._endpoints)
        self.start_seconds = time.perf_counter() - started
        # The last two are there if the environment has listeners with TLS.
        self.http, self.mqtt, self.https, self.mqtts = (
            ("127.0.0.1", int(endpoints.get(name, ":0").rsplit(":", 1)[1]))
            for name in ("http", "mqtt", "https", "mqtts")
        )
        self.token = ""

    def _endpoints(self) -> dict[str, str]:
        endpoints: dict[str, str] = json.loads((self.state / "endpoints.json").read_text())
        host, port = endpoints["http"].removeprefix("http://").split(":")
        socket.create_connection((host, int(port))).close()
        return endpoints

    def log_in(self) -> None:
        self.token = self.ask("/api/auth/login", {"username": EMAIL, "password": PASSWORD})["token"]

    def ask(self, path: str, body: Any = None) -> Any:
        """What the broker answers to a GET, or to a POST if there is a body."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.http[0]}:{self.http[1]}{path}", data)
        request.add_header("X-Authorization", f"Bearer {self.token}")
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.loads(response.read())

    def metric(self, name: str) -> float:
        """What /metrics says of a number without labels. Raises SystemExit."""
        with urllib.request.urlopen(f"http://{self.http[0]}:{self.http[1]}/metrics", timeout=30) as answer:
            found = re.search(rf"^{name} (\S+)$", answer.read().decode(), re.MULTILINE)
        if found is None:
            raise self.failure(f"has no metric {name}")
        return float(found[1])


def provision(state: Path, count: int) -> list[str]:
    """Devices d0, d1, ... with the access tokens B0, B1, ...; their ids.

    Written into the store of a broker that has run and does not run now: over REST ten thousand take minutes.
    """
    database = DirectDatabase(store_url("", state))
    tenant_id = database.open(
        lambda connection: connection.execute(sa.select(t.tenant.c.id).where(t.tenant.c.id != NULL_UUID)).scalar_one()
    )
    now = int(time.time() * 1000)
    devices = [Device(id=uuid4(), tenant_id=tenant_id, name=f"d{number}", created_time=now) for number in range(count)]
    tokens = [
        Credentials(
            id=uuid4(),
            device_id=device.id,
            type=CredentialsType.ACCESS_TOKEN,
            credentials_id=f"B{number}",
            created_time=now,
        )
        for number, device in enumerate(devices)
    ]

    def work(connection: sa.Connection) -> None:
        connection.execute(sa.insert(t.device), [values(device) for device in devices])
        connection.execute(sa.insert(t.credentials), [values(token) for token in tokens])

    failures: list[Any] = []
    database.write(work).addErrback(failures.append)
    database.close()
    if failures:
        raise SystemExit(f"the devices could not be made: {failures[0].getErrorMessage()}")
    return [str(device.id) for device in devices]
