"""Which broker of this machine a command is about: its configuration, and where it keeps things."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from rpcbroker.cli.stop import Stop
from rpcbroker.config import ConfigError, Configuration, load


def of_this_machine(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options `config` and `state_dir`, which mean what they mean to twistd."""
    command = click.option(
        "--state-dir", help="Where the store and the keys are.  [default: $STATE_DIRECTORY, else ./var]"
    )(command)
    return click.option("--config", "config", help="The broker's TOML file; without it there are only defaults.")(
        command
    )


def configuration_of(file: str | None, environ: Mapping[str, str]) -> Configuration:
    """Its warnings go to stderr. Raises Stop."""
    try:
        configuration = load(file, environ)
    except ConfigError as error:
        raise Stop(str(error)) from None
    for warning in configuration.warnings:
        click.echo(f"Warning: {warning}", err=True)
    return configuration


def state_dir_of(given: str | None) -> Path:
    """The absolute path."""
    return Path(given or os.environ.get("STATE_DIRECTORY") or "var").absolute()


def endpoints_of(state_dir: Path) -> dict[str, str]:
    """What the broker wrote down: name -> URL. Empty when it wrote nothing that can be read."""
    try:
        return {str(name): str(url) for name, url in json.loads((state_dir / "endpoints.json").read_text()).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def store_file_of(config: str | None, state_dir: Path, *, instead: str) -> Path:
    """The file of a SQLite store. Raises Stop with the hint `instead` when the store is on a server."""
    from rpcbroker.core.ports import StoreError
    from rpcbroker.store.location import sqlite_file, store_url

    settings = configuration_of(config, os.environ).settings
    try:
        file = sqlite_file(store_url(settings.store.url, state_dir))
    except StoreError as error:
        raise Stop(str(error)) from None
    if file is None:
        raise Stop("The store is a database on a server, which has tools of its own for that.", hint=instead)
    return file
