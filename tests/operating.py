"""An operator at a shell: the real commands against the real daemon."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from daemon import Daemon, environment

PROGRAM = str(Path(sys.executable).parent / "rpcbroker")


class Operator:
    """Somebody at a shell on the broker's machine."""

    def __init__(self, directory: Path, broker: Daemon) -> None:
        self.directory = directory
        self.broker = broker
        self.environ = {name: text for name, text in environment().items() if not name.startswith("RPCBROKER_")}
        self.environ["XDG_CONFIG_HOME"] = str(directory / "xdg")

    def run(self, *words: str, text: str = "", code: int = 0, **environ: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [PROGRAM, *words],
            input=text,
            capture_output=True,
            text=True,
            cwd=self.directory,
            env={**self.environ, **environ},
            timeout=60,
            check=False,
        )
        assert done.returncode == code, (words, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done

    def gets(self, *words: str, text: str = "", **environ: str) -> str:
        """The one thing on stdout."""
        return self.run(*words, text=text, **environ).stdout.strip()

    def log_in(self, email: str, password: str) -> None:
        self.run("login", self.broker.http, "-u", email, "--password-stdin", text=password)

    def activate(self, link: str, password: str) -> None:
        self.run("activate", link, "--password-stdin", text=password)

    def results(self, *words: str, text: str = "", code: int = 0) -> list[str]:
        """What an import says that it did, line by line."""
        return [
            line.split()[1] for line in self.run("device", "import", *words, text=text, code=code).stdout.splitlines()
        ]

    @contextmanager
    def starts(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """A command that goes on meanwhile, and is ended at the end."""
        with subprocess.Popen(
            [PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environ
        ) as process:
            try:
                yield process
            finally:
                process.terminate()

    @contextmanager
    def simulator(self, name: str, *words: str) -> Iterator[subprocess.Popen[str]]:
        """A simulated device that is online."""
        mqtt = f"127.0.0.1:{self.broker.mqtt_port}"
        with self.starts("simulate", name, "--mqtt", mqtt, *words) as simulator:
            assert simulator.stdout
            assert f"{name} is online" in simulator.stdout.readline()
            yield simulator
