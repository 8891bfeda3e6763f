"""A shell in which the commands run against the fake broker."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import click.testing
import pytest
from fake_broker import FakeBroker, Shell, synchronous_react
from store_files import make_store

from rpcbroker.cli.main import cli


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Shell:
    """Not logged in yet."""
    broker = FakeBroker()
    monkeypatch.setattr("rpcbroker.cli.run.react", synchronous_react)
    for module in ("session", "login"):
        name = f"rpcbroker.cli.{module}"
        monkeypatch.setattr(importlib.import_module(name), "sender", lambda _reactor, **_: broker)
    monkeypatch.delenv("RPCBROKER_URL", raising=False)
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "xdg"), "COLUMNS": "200"}

    def run(*words: str, **more: Any) -> click.testing.Result:
        runner = click.testing.CliRunner(env={**environ, **more.pop("env", {})})
        result = runner.invoke(cli, words, **more)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return Shell(broker, tmp_path / "xdg" / "rpcbroker" / "login.json", run)


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
