"""How presence changed lately, inside transactions of the store."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

from rpcbroker.core.presence import MOST_CHANGES, PresenceChange
from rpcbroker.store import tables as t
from rpcbroker.store.rows import values

_C = t.presence_change.c
_OF = sa.bindparam("of", type_=_C.device_id.type)
_MINE = t.presence_change.alias()
_TOO_MANY = sa.delete(t.presence_change).where(
    _C.device_id == _OF,
    _C.sequence
    <= sa.select(_MINE.c.sequence)
    .where(_MINE.c.device_id == _OF)
    .order_by(_MINE.c.sequence.desc())
    .limit(1)
    .offset(MOST_CHANGES)
    .scalar_subquery(),
)
"""Of one device: a walk along the index to where they are too many, for all may come and go in the same second."""


def add_changes(connection: Connection, changes: Sequence[PresenceChange]) -> None:
    """Of devices that there are. Of each the newest MOST_CHANGES stay."""
    if not changes:
        return
    connection.execute(sa.insert(t.presence_change), [values(change) for change in changes])
    connection.execute(_TOO_MANY, [{"of": device_id} for device_id in {change.device_id for change in changes}])


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
