"""A backup of a SQLite store while the broker writes to it.

The copy is made inside one read transaction. Without it SQLite begins a copy again whenever another
connection has written between two steps, so that under constant writes it never ends. A reader holds
up no writer of a WAL; its price is that the WAL grows by what is written meanwhile.

The copy goes to the disk in small pieces. One flush of all of it at the end makes the broker's own
commits, which wait for the same disk, wait for hundreds of milliseconds.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage
from tempfile import TemporaryDirectory

from rpcbroker.core.ports import StoreError
from rpcbroker.store import tables as t

PAGES = 256
"""Pages between two pauses: 1 MiB is written in a few milliseconds, and a commit waits no longer than that."""
PAUSE = 0.005
"""Seconds between two pieces, in which the disk is the broker's alone."""
WORKSHOP = ".rpcbroker-"
"""How the names of directories begin in which copies are made; one that is found was left by a kill."""
SIDECARS = ("-wal", "-shm", "-journal")
"""Ends of the names of what SQLite keeps beside a database, and applies to whatever bears its name."""
_OURS = {"alembic_version", *(table.name for table in (t.tenant, t.user, t.device, t.credentials, t.counter))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a store holds; `size` is bytes."""

    size: int
    schema_version: str
    devices: int
    users: int


def back_up(store: Path, target: Path, *, replace: bool, pause: Callable[[float], None]) -> Contents:
    """Make `target` a checked copy of `store`, 0600, all or nothing.

    `pause` is given seconds; what it raises ends the backup. Raises StoreError, also when `target`
    exists and `replace` is False.
    """
    _check_target(store, target, replace=replace)
    with errors_about(f"cannot write {target}"), TemporaryDirectory(prefix=WORKSHOP, dir=target.parent) as room:
        copy = Path(room) / "copy.sqlite"
        snapshot(store, copy, pause=pause)
        contents = contents_of(copy, f"the copy of {store}")
        if target.exists() and not replace:
            raise StoreError(f"{target} exists already")
        copy.replace(target)
        flush(target.parent)
    return contents


def snapshot(source: Path, target: Path, *, pause: Callable[[float], None], at_rest: bool = False) -> None:
    """Write the state that `source` has now to the new file `target`, 0600, and to the disk.

    `at_rest`: nobody has `source` open, and nothing may be created beside it. `target` is one file that
    needs no WAL, whatever `source` is. Raises StoreError.
    """
    with errors_about(f"cannot copy {source}"):
        file = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with closing(reader_of(source, at_rest=at_rest)) as reader, closing(sqlite3.connect(target)) as writer:
                reader.execute("BEGIN")
                reader.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # from here on it sees one state
                for pragma in ("journal_mode=OFF", "synchronous=OFF"):  # we flush, and half a copy is thrown away
                    writer.execute(f"PRAGMA {pragma}")

                def piece(_status: int, _remaining: int, _total: int) -> None:
                    os.fdatasync(file)
                    pause(PAUSE)

                reader.backup(writer, pages=PAGES, progress=piece)
                writer.execute("PRAGMA journal_mode=DELETE")
            os.fsync(file)
        finally:
            os.close(file)


def contents_of(path: Path, name: str) -> Contents:
    """Read every page of a database that nobody writes to, and say what it holds.

    Raises StoreError, which calls it `name`, unless it is whole, one of ours, and not newer than this program.
    """
    with errors_about(name), closing(reader_of(path)) as reader:
        found = reader.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if found != "ok":
            raise StoreError(f"{name} is damaged: {' '.join(found.split())}")
        if not {row[0] for row in reader.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")} >= _OURS:
            raise StoreError(f"{name} is a SQLite database, but no store of rpcbroker")
        (version,) = reader.execute("SELECT version_num FROM alembic_version").fetchone() or ("",)
        if version > t.SCHEMA_VERSION:
            raise StoreError(
                f"{name} has schema version {version}, newer than this program's {t.SCHEMA_VERSION}: "
                "use the newer program"
            )
        return Contents(
            size=path.stat().st_size,
            schema_version=version,
            devices=_count(reader, t.device.name),
            users=_count(reader, t.user.name),
        )


def reader_of(path: Path, *, at_rest: bool = False) -> sqlite3.Connection:
    """A connection that changes nothing; `at_rest`: nor creates the files that a WAL needs. Raises sqlite3.Error."""
    how = "immutable=1" if at_rest and not beside(path, "-wal").exists() else "mode=ro"
    return sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, isolation_level=None, timeout=10)


def flush(path: Path) -> None:
    """Make sure that a file, or the names in a directory, are on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def errors_about(what: str) -> Iterator[None]:
    """Turns what SQLite and the system raise into a StoreError that begins with `what`."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"{what}: {error}") from None
    except OSError as error:
        raise StoreError(f"{what}: {error.strerror or error}") from None


def _check_target(store: Path, target: Path, *, replace: bool) -> None:
    if not store.is_file():
        raise StoreError(f"there is no store at {store}")
    if target.resolve() in {store.resolve(), *(beside(store.resolve(), end) for end in SIDECARS)}:
        raise StoreError(f"{target} is the store itself")
    if target.is_dir():
        raise StoreError(f"{target} is a directory: name a file in it")
    if target.exists() and not replace:
        raise StoreError(f"{target} exists already")
    with errors_about(f"cannot write {target}"):
        free = disk_usage(target.parent).free
    if free < (needed := size_of(store)):
        raise StoreError(f"cannot write {target}: it needs {needed} bytes, and {free} are free")


def size_of(store: Path) -> int:
    """Bytes of a store and of what its WAL may still add to it; 0 when there is none. Raises OSError."""
    return sum(path.stat().st_size for path in (store, beside(store, "-wal")) if path.is_file())


def beside(path: Path, end: str) -> Path:
    """The file whose name is that of `path` and `end`."""
    return path.with_name(path.name + end)


def _count(reader: sqlite3.Connection, table: str) -> int:
    count: int = reader.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - a name of ours
    return count
