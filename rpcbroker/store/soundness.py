"""Whether a SQLite store is whole, found out before anything is written to it.

To read all of it at each start takes too long when it is large. A mark in the state directory says how the file
was left by the broker that closed it: one that is as it was left is taken at its word. After a kill or a crash,
and when somebody else has written to it or put another in its place, every page is read.
"""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from rpcbroker.core.ports import StoreError
from rpcbroker.store.backup import beside, reader_of
from rpcbroker.store.failures import RESTORE, cause_of

_OPEN = {"open": True}


class Mark:
    """What the state directory says about a store. A mark that cannot be read says nothing."""

    def __init__(self, path: Path, store: Path) -> None:
        self._path = path
        self._store = store

    def is_there(self) -> bool:
        """Whether a broker has had the store open from here."""
        return self._path.exists()

    def trusted(self) -> bool:
        """Whether the store was closed in good order, and nothing was done to it since."""
        try:
            return bool(json.loads(self._path.read_text()) == self._closed()) and not self._has_wal()
        except (OSError, ValueError):
            return False

    def opened(self) -> None:
        """A broker is about to write to the store. Raises OSError."""
        self._write(_OPEN)

    def closed(self) -> None:
        """The store was closed, in good order unless SQLite has left a WAL behind. Raises OSError."""
        if not self._has_wal():
            self._write(self._closed())

    def _closed(self) -> dict[str, Any]:
        status = self._store.stat()
        return {"open": False, "size": status.st_size, "modified_ns": status.st_mtime_ns}

    def _has_wal(self) -> bool:
        """A WAL that has something in it. The last connection that closes takes it away."""
        try:
            return beside(self._store, "-wal").stat().st_size > 0
        except FileNotFoundError:
            return False

    def _write(self, said: dict[str, Any]) -> None:
        new = self._path.with_name(f".{self._path.name}.new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(json.dumps(said) + "\n")
        new.replace(self._path)


def needs_a_look(store: Path, mark: Mark) -> bool:
    """Whether the pages of a store have to be read before it is used.

    Raises StoreError for an empty file in the place of a store that was in use: it would become a new store, in
    which no device and no user is known.
    """
    if not store.exists():
        return False
    if store.stat().st_size == 0:
        if mark.is_there():
            raise StoreError(
                f"store {store}: it was in use, and now the file is empty: {RESTORE}, or remove it to begin anew"
            )
        return False
    return not mark.trusted()


def look_at(store: Path, *, at_rest: bool = True) -> None:
    """Read all pages, and change nothing. `at_rest`: no broker has it open.

    Raises StoreError for what is damaged, or cannot be read.
    """
    try:
        with closing(reader_of(store, at_rest=at_rest)) as reader:
            found = str(reader.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.Error as error:
        raise StoreError(f"store {store}: {error}{remedy(error)}") from None
    if found != "ok":
        raise StoreError(f"store {store}: it is damaged ({' '.join(found.split())}): {RESTORE}")


def remedy(error: Exception) -> str:
    """What to add to the line about a store that cannot be opened."""
    return f": {RESTORE}" if cause_of(error).lasting else ""
