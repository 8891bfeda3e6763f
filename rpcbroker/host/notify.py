"""What systemd is told, over the socket that it names in $NOTIFY_SOCKET: sd_notify(3).

Its watchdog is fed from the reactor's timers, so what is watched is that the reactor turns: a broker
that hangs in one place for longer than $WATCHDOG_USEC is killed and started again. A slow disk is not
a reason to be killed; /readyz and the status tell of it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

STATUS_INTERVAL = 10.0
"""Seconds between two looks at the status; it is sent when it has changed."""
PATIENCE = 1.0
"""Seconds that a change of state may wait for room in systemd's queue. Status and watchdog do not wait."""


class Notify:
    """One way to systemd, or to nobody when it did not start us: then every method does nothing."""

    _log = Logger()

    def __init__(self, environ: Mapping[str, str], *, pid: int, clock: Any) -> None:
        """`pid` is this process's; a watchdog that is meant for another one is not fed."""
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._interval = _watchdog_interval(environ, pid) if self._address else 0.0
        self._clock = clock
        self._status: Callable[[], str] = str
        self._told = ""
        self._stopping = False
        self._warned = False
        self._loops: list[LoopingCall] = []

    def ready(self, status: Callable[[], str]) -> None:
        """Started: from now on the watchdog is fed and `status()`, one line, is kept up to date.

        Nothing is told if the end has begun: a broker may be stopped before it was ready.
        """
        if not self._address or self._stopping:
            return
        self._status = status
        self._tell("READY=1", f"STATUS={self._new_status()}")
        self._loop(STATUS_INTERVAL, self._tell_status)
        if self._interval:
            self._loop(self._interval, lambda: self._tell("WATCHDOG=1", wait=False))

    def reloading(self, monotonic_us: int) -> None:
        """A reload begins; `monotonic_us` is CLOCK_MONOTONIC now."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={monotonic_us}")

    def reloaded(self) -> None:
        """It is over, well or not."""
        self._tell("READY=1")

    def stopping(self, status: Callable[[], str]) -> None:
        """The end begins. The watchdog is fed on."""
        self._stopping = True
        self._status = status
        self._tell("STOPPING=1", f"STATUS={self._new_status()}")

    def stop(self) -> None:
        """Say nothing more."""
        for loop in self._loops:
            loop.stop()
        self._loops.clear()

    def _loop(self, seconds: float, action: Callable[[], None]) -> None:
        loop = LoopingCall(action)
        loop.clock = self._clock
        loop.start(seconds)
        self._loops.append(loop)

    def _new_status(self) -> str:
        self._told = self._status()
        return self._told

    def _tell_status(self) -> None:
        told = self._told
        if self._new_status() != told:
            self._tell(f"STATUS={self._told}", wait=False)

    def _tell(self, *lines: str, wait: bool = True) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
                notifications.settimeout(PATIENCE if wait else 0)
                notifications.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            if not self._warned:
                self._warned = True
                self._log.warn(
                    "systemd cannot be notified: $NOTIFY_SOCKET {address}: {error}", address=self._address, error=error
                )


def _watchdog_interval(environ: Mapping[str, str], pid: int) -> float:
    """Seconds between two signs of life, half of what systemd allows; 0 is none."""
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return 0.0
    limit = environ.get("WATCHDOG_USEC", "")
    return int(limit) / 2e6 if limit.isdecimal() else 0.0
