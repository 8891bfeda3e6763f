"""The store: is it whole, does this program know its schema, is there room."""

from __future__ import annotations

from shutil import disk_usage

from rpcbroker.cli.checks.subject import Subject, Verdicts, ok, problem, warning
from rpcbroker.cli.words import counted, size
from rpcbroker.store.backup import WORKSHOP, size_of
from rpcbroker.store.tables import SCHEMA_VERSION

FULL = 32 << 20
"""Bytes: the WAL grows to some megabytes before it is used again, and more while a backup runs."""
ROOM = 64 << 20
"""Bytes that must be free beyond a copy of the store, which a migration and a restore make."""


def store(subject: Subject) -> Verdicts:
    """What the broker would say at its start, without starting."""
    found, where = subject.examined, subject.store_name
    if found is None:
        yield warning(
            f"there is none at {where}; the first start makes it", "Is it the right place? --state-dir, --config"
        )
    elif found.error:
        yield problem(f"{where} cannot be read: {found.error}", _remedy(subject))
    elif found.damage:
        yield problem(f"{where} is damaged: {found.damage}", _remedy(subject))
    elif found.version is None:
        yield warning(
            f"{where} has no tables of ours; the next start makes them", "If it should have: rpcbroker restore FILE"
        )
    elif found.version > SCHEMA_VERSION:
        yield problem(
            f"{where} has schema version {found.version}, newer than this program's {SCHEMA_VERSION}",
            "Run the newer program, or restore a backup.",
        )
    elif found.version < SCHEMA_VERSION:
        yield warning(
            f"{where} has schema version {found.version}, older than this program's {SCHEMA_VERSION}",
            "The next start migrates it, and keeps a copy if it is SQLite.",
        )
    else:
        yield ok(f"{where}: {_measured(subject)}{counted(found.devices, 'device')}, schema version {found.version}")


def disk(subject: Subject) -> Verdicts:
    """Room for the store to grow, and for a copy of it."""
    if subject.store_file is None:
        yield ok("the store is on a server: not looked at")
        return
    directory = next(path for path in subject.store_file.parents if path.is_dir())
    free, needed = disk_usage(directory).free, size_of(subject.store_file) + ROOM
    if free < FULL:
        yield problem(f"{size(free)} are free at {directory}: the broker will soon be unable to write", "Make room.")
    elif free < needed:
        yield warning(
            f"{size(free)} are free at {directory}; a migration or a restore may need {size(needed)}", "Make room."
        )
    else:
        yield ok(f"{size(free)} are free at {directory}")
    for left in sorted(directory.glob(f"{WORKSHOP}*")):
        yield warning(f"{left} is half a copy of the store", f"If no backup or restore is running: rm -r {left}")


def _remedy(subject: Subject) -> str:
    if subject.store_file:
        return "Run this as the user of the broker; and if it is lost, rpcbroker restore FILE brings back a backup."
    return "Does the server run? Are the name and the password in [store] url right?"


def _measured(subject: Subject) -> str:
    return f"{size(size_of(subject.store_file))}, whole, " if subject.store_file else ""
