"""Who must not suffer while a broker is attacked, and what is measured of that broker."""

from __future__ import annotations

import itertools
import os
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from daemon import Daemon
from hostile import EVER, SOON


def gauge(daemon: Daemon, name: str) -> float:
    """The sum of a metric over its labels."""
    with urllib.request.urlopen(daemon.http + "/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    found = [line for line in lines if line.startswith((name + " ", name + "{"))]
    assert found, f"{name} is no metric"
    return sum(float(line.rpartition(" ")[2]) for line in found)


def memory(daemon: Daemon) -> int:
    """Bytes that are resident."""
    return int(Path(f"/proc/{daemon.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def percentile(waits: list[float], share: float) -> float:
    return sorted(waits)[int(len(waits) * share)]


class Honest:
    """A caller of a device that answers {"got": params}, and one that posts: what they waited for, in seconds.

    They go on, some fifty times a second each, until `done` is set.
    """

    def __init__(self, daemon: Daemon, device_id: str, post: Callable[[int], bool], done: threading.Event) -> None:
        """`post` posts something, and tells whether that was acknowledged."""
        self._daemon = daemon
        self._device_id = device_id
        self._post = post
        self._done = done
        self.calls: list[float] = []
        self.posts: list[float] = []
        self.wrong: list[Any] = []
        self._threads = [
            threading.Thread(target=self._repeat, args=each)
            for each in ((self._call, self.calls), (self._say, self.posts))
        ]
        for thread in self._threads:
            thread.start()

    def _repeat(self, act: Callable[[int], None], waits: list[float]) -> None:
        for number in itertools.count():
            if self._done.is_set():
                return
            start = time.monotonic()
            act(number)
            waits.append(time.monotonic() - start)
            time.sleep(0.02)

    def _call(self, number: int) -> None:
        answer = self._daemon.ask("POST", f"/api/rpc/twoway/{self._device_id}", {"method": "get", "params": number})
        if answer != (200, {"got": number}):
            self.wrong.append(answer)

    def _say(self, number: int) -> None:
        if not self._post(number):
            self.wrong.append(f"post {number}")

    def join(self) -> None:
        for thread in self._threads:
            thread.join(40)

    def check(self, told: str) -> str:
        """All went well, and in time; one line on how well. `told` says what was done meanwhile."""
        assert not self.wrong, f"{told}: {self.wrong[:5]}"
        for waits in (self.calls, self.posts):
            assert percentile(waits, 0.99) < SOON, f"{told}: {sorted(waits)[-50:]} of {len(waits)}"
            assert max(waits) < EVER, told
        slowest = [f"{percentile(waits, 0.99):.3f}" for waits in (self.calls, self.posts)]
        return f"{told}; of {len(self.calls)} calls and {len(self.posts)} posts 99 % took {slowest} s"
