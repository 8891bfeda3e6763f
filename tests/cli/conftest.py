"""Shells in which the commands run, against the fake broker and against the real API."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click.testing
import pytest
from fake_broker import FakeBroker, Shell, synchronous_react
from real_shell import RealShell
from store_files import make_store

from rpcbroker.cli.main import cli


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., click.testing.Result]:
    """Runs a command in an environment of its own; a fault of the command is one of the test."""
    monkeypatch.setattr("rpcbroker.cli.run.react", synchronous_react)
    for name in ("RPCBROKER_URL", "RPCBROKER_API_KEY", "RPCBROKER_DEVICE_TOKEN", "STATE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "xdg"), "COLUMNS": "200"}

    def run(*words: str, **more: Any) -> click.testing.Result:
        runner = click.testing.CliRunner(env={**environ, **more.pop("env", {})})
        result = runner.invoke(cli, words, **more)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Callable[..., click.testing.Result]) -> Shell:
    """Commands against the fake broker, not logged in yet."""
    broker = FakeBroker()
    monkeypatch.setattr("rpcbroker.cli.session.sender", lambda _reactor, **_: broker)
    return Shell(broker, tmp_path / "xdg" / "rpcbroker" / "login.json", run)


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Callable[..., click.testing.Result]) -> RealShell:
    """Commands against the real API, not logged in yet."""
    shell = RealShell(run, tmp_path / "xdg" / "rpcbroker" / "login.json")
    monkeypatch.setattr("rpcbroker.cli.session.sender", lambda _reactor, **_: shell.send)
    return shell


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with a store of three devices, as a broker leaves it."""
    directory = tmp_path / "state"
    directory.mkdir(0o700)
    make_store(directory / "rpcbroker.sqlite", devices=3)
    key = directory / "jwt-signing-key"
    key.touch(0o600)
    key.write_text("ab" * 64 + "\n")
    return directory
