"""`rpcbroker backup`"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Any

import click

from rpcbroker.cli.place import of_this_machine, state_dir_of, store_file_of
from rpcbroker.cli.stop import Stop
from rpcbroker.cli.words import counted, size
from rpcbroker.core.ports import StoreError
from rpcbroker.store.backup import Contents, back_up


@click.command
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@of_this_machine
def backup(file: Path, force: bool, config: str | None, state_dir: str | None) -> None:
    """Copy the store to FILE, while the broker runs.

    The copy is whole, checked, and readable by you alone: the devices' tokens are in it. Bring it back
    with `rpcbroker restore`. The key that signs tokens of users is not in it.
    """
    place = state_dir_of(state_dir)
    store = store_file_of(config, place, instead="pg_dump --format=custom --file FILE DATABASE")
    before = signal.signal(signal.SIGTERM, _end)
    try:
        contents = back_up(store, file.absolute(), replace=force, pause=time.sleep)
    except StoreError as error:
        raise Stop(f"{error}.", hint=_hint(store, file, force)) from None
    finally:
        signal.signal(signal.SIGTERM, before)
    click.echo(f"{file}: {described(contents)}.")


def described(contents: Contents) -> str:
    """`1.2 MiB, 3 devices, 1 user, schema version 0001`."""
    devices, users = counted(contents.devices, "device"), counted(contents.users, "user")
    return f"{size(contents.size)}, {devices}, {users}, schema version {contents.schema_version}"


def _end(_signal: int, _frame: Any) -> None:
    """In good order, so that half a copy is not left lying about."""
    sys.exit(128 + signal.SIGTERM)


def _hint(store: Path, file: Path, force: bool) -> str | None:
    if not store.is_file():
        return "Name the place where the broker keeps its store: --state-dir DIR, and --config FILE if it has one."
    if file.is_file() and not force and file.resolve() != store.resolve():
        return "Name another file, or replace it: --force"
    return None
