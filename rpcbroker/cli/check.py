"""`rpcbroker check`"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import NamedTuple

import click
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError

from rpcbroker.cli.place import configuration_of, of_this_machine, state_dir_of
from rpcbroker.cli.stop import ExitCode, Stop
from rpcbroker.cli.words import counted
from rpcbroker.core.ports import StoreError
from rpcbroker.host.lock import holder_of
from rpcbroker.store import tables as t
from rpcbroker.store.database import first_line, shown_url
from rpcbroker.store.direct import check_version
from rpcbroker.store.examine import engine_for_reading
from rpcbroker.store.invariants import Verified, verify
from rpcbroker.store.location import sqlite_file, store_url
from rpcbroker.store.schema import stored_version
from rpcbroker.store.soundness import look_at, remedy


class _Found(NamedTuple):
    verified: list[Verified]
    calls: int
    devices: int


@click.command
@click.option("--json", "as_json", is_flag=True, help="One JSON object: what is broken, and all invariants.")
@of_this_machine
@click.pass_context
def check(ctx: click.Context, as_json: bool, config: str | None, state_dir: str | None) -> None:
    """Verify that what is in the store fits together.

    A line for each thing that must be true of every store, with how many records break it, and the ids of the
    first ones. Nothing is written; a broker may run meanwhile. The exit code is 1 when something is broken.
    Whether the file itself is whole is looked at first.
    """
    place = state_dir_of(state_dir)
    try:
        url = store_url(configuration_of(config, os.environ).settings.store.url, place)
        running = place.is_dir() and holder_of(place) is not None
        found = _verified(url, running=running)
    except StoreError as error:
        raise Stop(f"{error}.") from None
    except OSError as error:
        raise Stop(f"{place}: {error.strerror}.", hint="Run this as the user of the broker.") from None
    broken = sum(bool(each.broken) for each in found.verified)
    click.echo(_json(found, broken) if as_json else _told(found, broken))
    ctx.exit(ExitCode.ERROR if broken else ExitCode.OK)


def _verified(url: str, *, running: bool) -> _Found:
    """Raises StoreError."""
    file = sqlite_file(url)
    if file is not None:
        if not file.is_file():
            raise StoreError(f"there is no store at {file}")
        look_at(file, at_rest=not running)
    try:
        with engine_for_reading(url, file, at_rest=not running).connect() as connection:
            _see_one_state(connection, file)
            check_version(stored_version(connection))
            calls, devices = (
                connection.execute(select(func.count()).select_from(table)).scalar_one() for table in (t.rpc, t.device)
            )
            return _Found(list(verify(connection, now=time.time_ns() // 1_000_000, running=running)), calls, devices)
    except (SQLAlchemyError, ImportError) as error:
        raise StoreError(f"store {shown_url(url)}: {first_line(error)}{remedy(error)}") from None


def _see_one_state(connection: Connection, file: Path | None) -> None:
    """From here on, whatever a broker writes meanwhile."""
    if file is not None:
        connection.exec_driver_sql("BEGIN")
    elif connection.dialect.name == "postgresql":
        connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def _told(found: _Found, broken: int) -> str:
    width = max(len(each.invariant.name) for each in found.verified)
    lines = []
    for each in found.verified:
        if each.broken is None:
            mark, count, more = click.style("-     ", fg="yellow"), "", "; not looked at, for no broker runs"
        else:
            mark = click.style("BROKEN", fg="red") if each.broken else click.style("ok    ", fg="green")
            count, more = f"{each.broken:,}", ""
        lines.append(f"{mark}  {each.invariant.name:{width}}  {count:>6}  {each.invariant.sentence}{more}")
        lines += [f"{'':8}{'':{width}}  {'':6}  {example}" for example in each.examples]
        if each.broken and each.broken > len(each.examples):
            lines.append(f"{'':8}{'':{width}}  {'':6}  and {each.broken - len(each.examples):,} more")
    lines.append(f"{counted(found.calls, 'call')}, {counted(found.devices, 'device')}: {broken or 'nothing'} broken")
    return "\n".join(lines)


def _json(found: _Found, broken: int) -> str:
    invariants = [
        {
            "name": each.invariant.name,
            "sentence": each.invariant.sentence,
            "broken": each.broken,
            "examples": each.examples,
        }
        for each in found.verified
    ]
    answer = {"broken": broken, "calls": found.calls, "devices": found.devices, "invariants": invariants}
    return json.dumps(answer, indent=2, ensure_ascii=False)
