"""Presence, and how it changed lately, inside transactions of the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

from rpcbroker.core.model import LastPresence
from rpcbroker.core.presence import MOST_CHANGES, PresenceChange
from rpcbroker.store import tables as t
from rpcbroker.store.queries import IDS_AT_ONCE, insert_rows, living, run, upsert
from rpcbroker.store.rows import values

T = TypeVar("T")

_C = t.presence_change.c
_COLUMNS = "device_id", "time", "connected", "callable", "cause"
_TOO_MANY = f"""\
DELETE FROM presence_change WHERE device_id = ? AND sequence <= (
SELECT sequence FROM presence_change WHERE device_id = ? ORDER BY sequence DESC LIMIT 1 OFFSET {MOST_CHANGES})"""  # noqa: S608
"""Of one device: a walk along the index to where they are too many, for all may come and go in the same second."""


def keep(connection: Connection, presences: Sequence[LastPresence], changes: Sequence[PresenceChange]) -> None:
    """Write them, but for devices that are gone.

    Some at a time: all devices may have come in the same second, and rows take more memory than what they are made of.
    """
    for some in _parts(presences):
        there = living(connection, t.device, {each.device_id for each in some})
        upsert(connection, t.presence, [values(each) for each in some if each.device_id in there], ("device_id",))
    for part in _parts(changes):
        there = living(connection, t.device, {each.device_id for each in part})
        add_changes(connection, [each for each in part if each.device_id in there])


def _parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + IDS_AT_ONCE] for start in range(0, len(items), IDS_AT_ONCE))


def add_changes(connection: Connection, changes: Sequence[PresenceChange]) -> None:
    """Of devices that there are. Of each the newest MOST_CHANGES stay."""
    if not changes:
        return
    rows = [(each.device_id.hex, each.time, each.connected, each.callable, each.cause) for each in changes]
    insert_rows(connection, t.presence_change, _COLUMNS, rows)
    run(connection, _TOO_MANY, [(device_id, device_id) for device_id in {row[0] for row in rows}])


def forget_changes(connection: Connection, before: int) -> None:
    """Delete what is older, but for each device's newest, which says how it was at that time."""
    old = _C.time < before
    newest = sa.select(sa.func.max(_C.sequence)).where(old).group_by(_C.device_id)
    connection.execute(sa.delete(t.presence_change).where(old, _C.sequence.not_in(newest)))


def changes_since(connection: Connection, device_id: UUID, since: int) -> list[PresenceChange]:
    """The oldest first, led by the one before that time if it is known."""
    mine = sa.select(t.presence_change).where(_C.device_id == device_id)
    later = connection.execute(mine.where(_C.time >= since).order_by(_C.sequence)).all()
    before = connection.execute(mine.where(_C.time < since).order_by(_C.sequence.desc()).limit(1)).all()
    return [
        PresenceChange(
            device_id=row.device_id, time=row.time, connected=row.connected, callable=row.callable, cause=row.cause
        )
        for row in (*before, *later)
    ]
