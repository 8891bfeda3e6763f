"""Processes that a benchmark starts, and that never outlive it; what the machine is."""

from __future__ import annotations

import atexit
import contextlib
import importlib.metadata
import os
import platform
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class Child:
    """A process whose output goes to a file: who waits for the end of our own output does not wait for it."""

    def __init__(
        self, name: str, command: Sequence[str], directory: Path, env: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        """`more` is what `subprocess.Popen` takes besides. Raises SystemExit if there is no such program."""
        self.name = name
        self._log = directory / f"{name}.log"
        with self._log.open("ab") as log:
            try:
                self.process = subprocess.Popen(command, env=env, **{"stdout": log, "stderr": log} | more)
            except OSError as error:
                raise SystemExit(f"{name} cannot be started: {error}") from None
        atexit.register(self._kill)

    def wait_for(self, condition: Callable[[], T], seconds: float = 60) -> T:
        """What `condition` returns once it is true and raises no OSError. Raises SystemExit."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise self.failure(f"ended with status {self.process.returncode}")
            with contextlib.suppress(OSError):
                if value := condition():
                    return value
            time.sleep(0.005)
        raise self.failure(f"was not ready within {seconds:.0f} s")

    def failure(self, why: str) -> SystemExit:
        """What is to be raised: why, and the last that the process said."""
        said = self._log.read_text(errors="replace").strip().splitlines()[-10:]
        return SystemExit("\n".join((f"{self.name} {why}", *said)))

    @property
    def pid(self) -> int:
        """Of the process that does the work."""
        return self.process.pid

    def rss_kb(self) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1])
        raise self.failure("is gone")

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self._kill()
        atexit.unregister(self._kill)

    def _kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


def prepare() -> None:
    """As many files as this user may open, and children that end also when SIGTERM ends this program."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def machine() -> str:
    """The machine, how busy it is with other things, and the versions."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("twisted", "klein", "msgspec"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = " ".join(f"{average:.1f}" for average in os.getloadavg())
    return (
        f"{time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}, {_processor()}, {os.cpu_count()} cores, "
        f"{memory:.0f} GB, load average {load}\n"
        f"{platform.platform()}, Python {platform.python_version()}, {versions}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(": ")[2]
    return platform.machine()


def progress(text: str) -> None:
    """What is being done, on stderr, for who waits."""
    print(text, file=sys.stderr, flush=True)
