"""A broker of our own, as a child process that never outlives us."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from rpcbroker.cli.stop import Stop
from rpcbroker.config import PREFIX

START_TIMEOUT = 30.0
"""Seconds until it must have told where it listens: small machines need some."""
STOP_TIMEOUT = 10.0
"""Seconds between asking it to end and ending it."""
POLL = 0.02
KEPT_OUTPUT = 64 << 10


class BrokerProcess(ProcessProtocol):
    """Starts and stops `twistd rpcbroker`; remembers the end of what it wrote."""

    def __init__(self, reactor: Any, state_dir: Path) -> None:
        self._reactor = reactor
        self._state_dir = state_dir
        self._output = b""
        self._ended = False
        self._waiting: list[Deferred[None]] = []
        self._process: Any = None

    def start(self, settings: Mapping[str, str]) -> None:
        """`settings` are variables; others of our prefix do not reach it."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        environ.update(settings)
        command = [*_twistd(), "rpcbroker", "--state-dir", str(self._state_dir)]
        self._process = self._reactor.spawnProcess(self, command[0], command, env=environ)

    @property
    def pid(self) -> int:
        return int(self._process.pid)

    async def endpoints(self) -> dict[str, str]:
        """Where it listens, as soon as it does. Raises Stop."""
        path = self._state_dir / "endpoints.json"
        deadline = self._reactor.seconds() + START_TIMEOUT
        while not path.exists():
            if self._ended:
                raise Stop(f"The broker ended before it was ready. {self.last_words()}")
            if self._reactor.seconds() > deadline:
                raise Stop(f"The broker was not ready after {START_TIMEOUT:g} s. {self.last_words()}")
            await deferLater(self._reactor, POLL)
        return {str(name): str(url) for name, url in json.loads(path.read_text()).items()}

    def last_words(self) -> str:
        """Its own sentence if it said one, else the end of its log."""
        lines = [line for line in self._output.decode(errors="replace").splitlines() if line.strip()]
        own = [line for line in lines if line.startswith("rpcbroker: ")]
        return "It said: " + " / ".join(own or lines[-3:] or ["nothing"])

    def gone(self) -> Deferred[None]:
        """Fires when it has ended."""
        deferred: Deferred[None] = Deferred()
        if self._ended:
            deferred.callback(None)
        else:
            self._waiting.append(deferred)
        return deferred

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL; when this is over there is no process."""
        if self._process is None or self._ended:
            return
        gone = self.gone()
        self._signal("TERM")
        kill = self._reactor.callLater(STOP_TIMEOUT, self._signal, "KILL")
        await gone
        if kill.active():
            kill.cancel()

    def _signal(self, name: str) -> None:
        with contextlib.suppress(ProcessExitedAlready):  # then processEnded will come
            self._process.signalProcess(name)

    # -- Twisted

    def outReceived(self, data: bytes) -> None:
        """Its log."""
        self._output = (self._output + data)[-KEPT_OUTPUT:]

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        """It is gone, and its output is read."""
        self._ended = True
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(None)


def _twistd() -> list[str]:
    """twistd of this very Python, else Twisted's own way to run a plugin."""
    script = Path(sys.executable).with_name("twistd")
    if script.exists():
        return [str(script), "-n", "--pidfile=", "--no_save"]
    return [sys.executable, "-m", "twisted"]
