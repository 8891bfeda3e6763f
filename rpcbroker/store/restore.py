"""Puts a backup in the place of the store, and takes over what must not go back in time.

Wire ids that were given out after the backup must not be given out again, who has logged out since then stays logged
out, and what devices have answered since is not asked again (see `catch_up`). All else is as it was: passwords,
credentials and devices too.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rpcbroker.core.ports import StoreError
from rpcbroker.core.wire_ids import BEGIN_AGAIN
from rpcbroker.store import tables as t
from rpcbroker.store.backup import (
    SIDECARS,
    WORKSHOP,
    Contents,
    beside,
    contents_of,
    errors_about,
    flush,
    reader_of,
    snapshot,
)
from rpcbroker.store.catch_up import CaughtUp, catch_up
from rpcbroker.store.sql import WIRE_IDS

WIRE_IDS_AHEAD = 1_000_000
"""How far wire ids are raised above all that is known of, for those that were given out after the backup when
the store that knows is lost: more than the busiest device is called in a day at eleven calls a second. Two
thousand restores fit into the ids."""
_REVOKED = ((t.revoked_session.name, "session_id", "until"), (t.revoked_user.name, "user_id", "time"))
"""Tables of what must stay refused: what, and the time that only grows."""
_IN_USE = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """`kept` is the copy of the store that was there, if one was; ids of calls go on above `wire_ids`.

    `merged`: the old store could be read, and log-outs since the backup are still good. `caught_up` is what it said of
    calls.
    """

    contents: Contents
    kept: Path | None
    wire_ids: int
    merged: bool
    caught_up: CaughtUp


@dataclass(frozen=True, slots=True)
class _Carried:
    """What outlives a restore."""

    wire_ids: int
    revoked: dict[str, list[tuple[str, int]]]


def restore(backup: Path, store: Path, *, stamp: str, now: int) -> Restored:
    """Replace `store` by what `backup` holds, at `now` (epoch ms). The caller has made sure that no broker runs, and
    that none starts.

    The store that was there is kept beside it, named with `stamp`. Until the last step it stays in its place.
    Raises StoreError.
    """
    if not backup.is_file():
        raise StoreError(f"there is no backup at {backup}")
    if store.exists() and backup.samefile(store):
        raise StoreError(f"{backup} is the store itself")
    with errors_about(f"cannot restore to {store}"), TemporaryDirectory(prefix=WORKSHOP, dir=store.parent) as room:
        copy = Path(room) / "copy.sqlite"
        snapshot(backup, copy, pause=lambda _: None, at_rest=True)
        contents = contents_of(copy, str(backup))
        present = _settled(store)
        wire_ids = _carry_over(copy, present)
        caught_up = catch_up(copy, store if present else None, now=now)
        same_owner(copy, store if store.exists() else store.parent)
        kept = _keep(store, beside(store, f".before-restore-{stamp}"))
        copy.replace(store)
        flush(store.parent)
    return Restored(contents=contents, kept=kept, wire_ids=wire_ids, merged=present is not None, caught_up=caught_up)


def raised(reserved: Iterable[int]) -> int:
    """A number of wire ids above all in `reserved`.

    Those from which `WireIds` would begin again count as 0, as they do there: when some stores have begun
    again and others have not, the small numbers are the new ones.
    """
    return max((number for number in reserved if number + WIRE_IDS_AHEAD <= BEGIN_AGAIN), default=0) + WIRE_IDS_AHEAD


def same_owner(path: Path, like: Path) -> None:
    """When root restores, the broker still has to be able to open its files. Raises OSError."""
    if os.geteuid() == 0:
        status = like.stat()
        os.chown(path, status.st_uid, status.st_gid)


def _settled(store: Path) -> _Carried | None:
    """Read the present store, and make it one file without a WAL; None when there is none that can be read.

    One that cannot be read is not touched. Raises StoreError when somebody has it open.
    """
    if not store.is_file():
        return None
    try:
        with closing(reader_of(store)) as present:
            carried = _carried(present)
        with closing(sqlite3.connect(store, timeout=1)) as present:
            present.execute("PRAGMA journal_mode=DELETE")  # only the one who is alone with it may do that
        return carried
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) in _IN_USE:
            raise StoreError(f"another program has {store} open") from None
        return None


def _carried(connection: sqlite3.Connection) -> _Carried:
    counted = connection.execute(f"SELECT value FROM {t.counter.name} WHERE name = ?", (WIRE_IDS,)).fetchone()  # noqa: S608
    revoked = {
        table: connection.execute(f"SELECT {what}, {when} FROM {table}").fetchall()  # noqa: S608 - names of ours
        for table, what, when in _REVOKED
        if _has(connection, table)
    }
    return _Carried(counted[0] if counted else 0, revoked)


def _has(connection: sqlite3.Connection, table: str) -> bool:
    """A store of an older schema lacks some."""
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(query, (table,)).fetchone() is not None


def _carry_over(copy: Path, present: _Carried | None) -> int:
    with closing(sqlite3.connect(copy)) as connection, connection:
        known = [_carried(connection)] + ([present] if present else [])
        wire_ids = raised(each.wire_ids for each in known)
        connection.execute(
            f"INSERT INTO {t.counter.name} (name, value) VALUES (?, ?)"  # noqa: S608 - a name of ours
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (WIRE_IDS, wire_ids),
        )
        for table, what, when in _REVOKED:
            if present and _has(connection, table):
                connection.executemany(
                    f"INSERT INTO {table} ({what}, {when}) VALUES (?, ?)"  # noqa: S608 - names of ours
                    f" ON CONFLICT ({what}) DO UPDATE SET {when} = max({when}, excluded.{when})",
                    present.revoked.get(table, ()),
                )
    return wire_ids


def _keep(store: Path, kept: Path) -> Path | None:
    """Give the store, which stays where it is, a second name, and what lies beside it another one.

    A WAL that stayed would be applied to the file that comes. Only one of a store that cannot be read is left by now.
    """
    for end in SIDECARS:
        if (sidecar := beside(store, end)).exists():
            sidecar.rename(beside(kept, end))
    if not store.exists():
        return None
    try:
        os.link(store, kept)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        shutil.copyfile(store, kept)
        same_owner(kept, store)
        flush(kept)
    kept.chmod(0o600)
    return kept
