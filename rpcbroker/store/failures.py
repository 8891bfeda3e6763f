"""What the exceptions of databases mean, in plain words: no path, no statement, nothing of the data."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError, OperationalError


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why a store cannot be used: half a sentence, and what to do.

    `lasting`: it does not go away by itself. `of_all`: whoever asks next fares alike, so it is not worth asking.
    """

    words: str
    hint: str
    lasting: bool = False
    of_all: bool = False


RESTORE = "put a backup in its place: rpcbroker restore FILE"
DAMAGED = Cause(
    words="the store is damaged",
    hint="Stop the broker and put a backup in the store's place: rpcbroker restore FILE.",
    lasting=True,
)
FULL = Cause(words="the disk is full", hint="Make room on the store's disk: no restart is needed.")
READ_ONLY = Cause(
    words="the store is read-only", hint="Let the broker's user write to the store and its disk: no restart is needed."
)
REFUSED = Cause(
    words="the disk refuses it",
    hint="It may be full, over a quota or a limit, or failing: the system's log says more.",
)
LOCKED = Cause(words="another program keeps the store locked", hint="End what else has the store open.")
NOT_THERE = Cause(words="the store's file cannot be opened", hint="Is its disk mounted? rpcbroker doctor says more.")
UNREACHABLE = Cause(
    words="the database cannot be reached",
    hint="Start it, or let the broker reach it: the broker goes on when it is back.",
    of_all=True,
)
OVERLOADED = Cause(words="the database has no room for more", hint="Its log says of what: connections, memory, disk.")
UNKNOWN = Cause(words="something failed", hint="The server's log says more.")

SQLITE: dict[int, Cause] = {
    sqlite3.SQLITE_FULL: FULL,
    sqlite3.SQLITE_READONLY: READ_ONLY,
    sqlite3.SQLITE_IOERR: REFUSED,
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_NOTADB: DAMAGED,
    sqlite3.SQLITE_BUSY: LOCKED,
    sqlite3.SQLITE_LOCKED: LOCKED,
    sqlite3.SQLITE_CANTOPEN: NOT_THERE,
}
"""By the low byte of SQLite's result code: the rest of it says more than people need."""
POSTGRESQL: dict[str, Cause] = {
    "53100": FULL,
    "25006": READ_ONLY,
    "58030": REFUSED,
    "XX001": DAMAGED,
    "XX002": DAMAGED,
    "57P01": UNREACHABLE,
    "57P02": UNREACHABLE,
    "57P03": UNREACHABLE,
    "53": OVERLOADED,
    "08": UNREACHABLE,
}
"""By SQLSTATE, or by its class, which is the first two characters."""


def cause_of(error: BaseException) -> Cause:
    """What `error`, SQLAlchemy's or a driver's, means."""
    original = error.orig if isinstance(error, DBAPIError) and error.orig else error
    code = getattr(original, "sqlite_errorcode", None)
    if code is not None:
        return SQLITE.get(code & 0xFF, UNKNOWN)
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return UNREACHABLE
    state = getattr(original, "sqlstate", None)
    if state is not None:
        return POSTGRESQL.get(state) or POSTGRESQL.get(state[:2], UNKNOWN)
    if isinstance(error, OperationalError) and hasattr(original, "sqlstate"):
        return UNREACHABLE  # psycopg has no SQLSTATE for a connection that was never made, or broke
    return UNKNOWN
