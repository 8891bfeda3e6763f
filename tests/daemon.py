"""The real broker in a process of its own, and a caller by curl's rules: for integration and interop tests."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

EMAIL, PASSWORD = "admin@example.org", "correct horse"
TWISTD = str(Path(sys.executable).parent / "twistd")


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 15.0) -> Any:
    """What `condition` returns once it is true; polled, for there is nothing to listen to."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come within {seconds} s")


def environment(**more: str) -> dict[str, str]:
    """Listeners on free loopback ports, and the first administrator."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("RPCBROKER_")}
    return mine | {
        "RPCBROKER_HTTP_LISTEN": "tcp:0:interface=127.0.0.1",
        "RPCBROKER_MQTT_LISTEN": "tcp:0:interface=127.0.0.1",
        "RPCBROKER_COAP_LISTEN": "udp:0:interface=127.0.0.1",
        "RPCBROKER_ADMIN_EMAIL": EMAIL,
        "RPCBROKER_ADMIN_PASSWORD": PASSWORD,
        **more,
    }


class Daemon:
    """`twistd -n rpcbroker` on a state directory."""

    def __init__(
        self,
        directory: Path,
        *,
        command: list[str] | None = None,
        arguments: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
        **more: str,
    ) -> None:
        """`command` runs the plugin, which is given the `arguments`; `more` is its environment."""
        self.directory = directory
        self.state = directory / "state"
        self.log = directory / "log"
        command = command or [TWISTD, "-n", "--pidfile="]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "rpcbroker", "--state-dir", str(self.state), *arguments],
                cwd=directory,
                env=environment(**more),
                stdout=log,
                stderr=log,
                pass_fds=pass_fds,
            )
        atexit.register(self.process.kill)  # a test that fails leaves nobody behind
        self.endpoints = self.wait_until_ready()
        self.http = self.endpoints["http"]
        self.mqtt_port = int(self.endpoints["mqtt"].rsplit(":", 1)[1])
        self.token: str | None = None

    def wait_until_ready(self) -> dict[str, str]:
        path = self.state / "endpoints.json"

        def ready() -> dict[str, str] | None:
            assert self.process.poll() is None, self.log.read_text()
            if not path.exists():
                return None
            endpoints: dict[str, str] = json.loads(path.read_text())
            try:
                urllib.request.urlopen(endpoints["http"] + "/readyz", timeout=5).close()
            except OSError:
                return None
            return endpoints

        found: dict[str, str] = wait_for(ready, "the broker")
        return found

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.http + path, data=data, method=method)
        request.add_header("Content-Type", "application/json")
        if self.token:
            request.add_header("X-Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                status, content = response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                status, content = error.code, error.read()
        return status, json.loads(content) if content else None

    def login(self) -> Daemon:
        status, pair = self.ask("POST", "/api/auth/login", {"username": EMAIL, "password": PASSWORD})
        assert status == 200
        self.token = pair["token"]
        return self

    def add_device(self, name: str, token: str) -> str:
        status, made = self.ask("POST", f"/api/device?accessToken={token}", {"name": name})
        assert status == 200, made
        device_id: str = made["id"]["id"]
        return device_id

    def wait_callable(self, device_id: str) -> None:
        def is_callable() -> bool:
            presence = self.ask("GET", f"/api/device/{device_id}/presence")[1]
            return bool(presence["callable"]["value"])

        wait_for(is_callable, "a callable device")

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(15)
