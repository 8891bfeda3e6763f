"""Calls by curl, to a device that answers each `get` with an object that has its params."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

from daemon import Daemon
from foreign import program

PARAMS = {"pin": 7, "text": "ü", "list": [1, None]}


def got(params: Any) -> Any:
    """What devices reply."""
    return {"got": params}


def curl(broker: Daemon, path: str, body: Any) -> tuple[int, str]:
    """Status and body of a POST by curl."""
    done = subprocess.run(
        [
            program("curl"),
            "-sS",
            "-w",
            "\n%{http_code}",
            "-H",
            f"X-Authorization: Bearer {broker.token}",
            "-H",
            "Content-Type: application/json",
            "-d",
            "@-",
            broker.http + path,
        ],
        input=json.dumps(body),
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    text, _, status = done.stdout.rpartition("\n")
    return int(status), text


def both_calls(
    broker: Daemon, device_id: str, arrived: Callable[[], Any], reply: Callable[[Any], Any] = got, text: str = "ü"
) -> None:
    """A one-way and a two-way call on both URLs; `arrived()` gives the next that came to the device."""
    broker.wait_callable(device_id)
    for base in ("/api/plugins/rpc", "/api/rpc"):
        params = PARAMS | {"text": text}
        assert curl(broker, f"{base}/oneway/{device_id}", {"method": "set", "params": params}) == (200, "")
        assert arrived() == {"method": "set", "params": params}
        params = {"to": base, "text": text}
        status, answer = curl(broker, f"{base}/twoway/{device_id}", {"method": "get", "params": params})
        assert (status, json.loads(answer)) == (200, reply(params))
        assert arrived() == {"method": "get", "params": params}
