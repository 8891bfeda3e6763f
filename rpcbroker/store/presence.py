"""How presence changed lately, inside transactions of the store."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

from rpcbroker.core.presence import MOST_CHANGES, PresenceChange
from rpcbroker.store import tables as t
from rpcbroker.store.queries import IDS_AT_ONCE
from rpcbroker.store.rows import values

_C = t.presence_change.c


def add_changes(connection: Connection, changes: Sequence[PresenceChange]) -> None:
    """Of devices that there are. Of each the newest MOST_CHANGES stay."""
    if not changes:
        return
    connection.execute(sa.insert(t.presence_change), [values(change) for change in changes])
    ids = list({change.device_id for change in changes})
    for start in range(0, len(ids), IDS_AT_ONCE):
        newest_first = sa.func.row_number().over(partition_by=_C.device_id, order_by=_C.sequence.desc())
        some = sa.select(_C.sequence, newest_first.label("number")).where(
            _C.device_id.in_(ids[start : start + IDS_AT_ONCE])
        )
        numbered = some.subquery()
        too_many = sa.select(numbered.c.sequence).where(numbered.c.number > MOST_CHANGES)
        connection.execute(sa.delete(t.presence_change).where(_C.sequence.in_(too_many)))


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
