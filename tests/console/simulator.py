"""A simulated device, as its users run it: a process of `rpcbroker simulate`, and what it printed of its calls."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from daemon import Daemon, wait_for

_CALL = re.compile(r"[\d:.]{12}  (\S+) (.*) -> (.*)")
_DECODER = json.JSONDecoder()


class Simulator:
    """The device of this access token, which answers all widgets and tells what changes. It may go, and come back."""

    def __init__(self, broker: Daemon, token: str, device_id: str) -> None:
        self.lines: list[str] = []
        self._broker = broker
        self._token = token
        self._id = device_id
        self.running = False
        self._process: subprocess.Popen[str]
        self._thread: threading.Thread
        self.begin()

    def begin(self) -> None:
        """It connects, and can be called when this returns."""
        command = [sys.executable, "-m", "rpcbroker", "simulate", "widgets", "--gpio", "7,11,12", "--broker"]
        self._process = subprocess.Popen(
            [*command, f"mqtt://127.0.0.1:{self._broker.mqtt_port}"],
            env=os.environ | {"RPCBROKER_DEVICE_TOKEN": self._token, "PYTHONUNBUFFERED": "1"},
            cwd=Path(__file__).parent.parent.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._thread = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._thread.start()
        self._broker.wait_callable(self._id)
        self.running = True

    def end(self) -> None:
        """It leaves, and cannot be called when this returns."""
        self.running = False
        self._process.terminate()
        self._process.wait(10)
        self._thread.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

        def gone() -> bool:
            return not self._broker.ask("GET", f"/api/device/{self._id}/presence")[1]["callable"]["value"]

        wait_for(gone, "a device that cannot be called")

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.lines.append(line.rstrip("\n"))

    def calls(self) -> list[tuple[str, Any]]:
        """Method and params of each, in the order in which they came."""
        found = [_CALL.fullmatch(line) for line in self.lines]
        return [(match[1], _DECODER.raw_decode(match[2])[0]) for match in found if match]

    def call(self, method: str, params: Any = None) -> Any:
        """Somebody else calls it; the reply, when it has printed that, too."""
        before = len(self.calls())
        body = {"method": method, "params": params}
        status, reply = self._broker.ask("POST", f"/api/rpc/twoway/{self._id}", body)
        assert status == 200, reply
        wait_for(lambda: (method, params) in self.calls()[before:], f"the line of {method}")
        return reply

    def tells_to_fail(self, *methods: str) -> None:
        """These methods, and no others, from now on."""
        self.call("fail", list(methods))
