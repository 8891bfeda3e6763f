"""The audit log in the store: written in batches, bounded by age and by number, read in pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from twisted.internet.defer import Deferred

from rpcbroker.core import jsontext
from rpcbroker.core.model import AuditEntry, AuditFilter, Page, PageLink
from rpcbroker.store import tables as t
from rpcbroker.store.database import Database
from rpcbroker.store.queries import contains, insert_rows, living, page, run
from rpcbroker.store.rows import audit_entry_of

_C = t.audit.c
_COLUMNS = [column.name for column in t.audit.c if column is not _C.sequence]
_NEWEST = "SELECT max(sequence) FROM audit"
_MINE = "SELECT count(*) FROM audit WHERE tenant_id = ?"
_FORGET_OLDER = "DELETE FROM audit WHERE created_time < ?"
_FORGET_OLDEST = """
DELETE FROM audit WHERE sequence IN (
    SELECT sequence FROM audit WHERE tenant_id = ? ORDER BY created_time, sequence LIMIT ?)
"""

SLACK = 100
"""A tenant has at most one part in so many more entries than it may: they are not removed at each write."""

_Row = tuple[Any, ...]


def _row(entry: AuditEntry, tenant_id: Any) -> _Row:
    """What `_COLUMNS` get. `tenant_id` is as the driver spells it."""
    customer_id = entry.customer_id
    return (
        entry.created_time,
        tenant_id,
        None if customer_id is None else customer_id.hex,
        entry.entity_type,
        entry.entity_id.hex,
        entry.entity_name,
        entry.user_id.hex,
        entry.user_name,
        entry.action,
        jsontext.encode(entry.data).decode(),
        entry.failure,
    )


class SqlAudit:
    """`core.ports.AuditLog` on a database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counts = _Counts()

    def append(self, entries: Sequence[AuditEntry], *, since: int, max_entries: int) -> Deferred[None]:
        """See the port."""

        def work(connection: Connection) -> None:
            of: dict[UUID, list[AuditEntry]] = {}
            for entry in entries:
                of.setdefault(entry.tenant_id, []).append(entry)
            there = living(connection, t.tenant, of)
            rows = [_row(entry, spelled) for tenant_id, spelled in there.items() for entry in of[tenant_id]]
            self._counts.begin(connection)
            insert_rows(connection, t.audit, _COLUMNS, rows)
            if run(connection, _FORGET_OLDER, (since,)).rowcount:
                self._counts.forget()
            for tenant_id, spelled in there.items():
                self._counts.add(connection, spelled, len(of[tenant_id]), max_entries=max_entries)
            self._counts.end(connection)

        return self._database.write(work)

    def entries(self, wanted: AuditFilter, link: PageLink) -> Deferred[Page[AuditEntry]]:
        """See the port."""
        conditions = [_C.tenant_id == wanted.tenant_id]
        if wanted.customer_id is not None:
            conditions.append(_C.customer_id == wanted.customer_id)
        if wanted.user_id is not None:
            conditions.append(_C.user_id == wanted.user_id)
        if wanted.entity is not None:
            entity_type, entity_id = wanted.entity
            conditions += [_C.entity_type == entity_type, _C.entity_id == entity_id]
        if wanted.actions:
            conditions.append(_C.action.in_(wanted.actions))
        if wanted.start_time is not None:
            conditions.append(_C.created_time >= wanted.start_time)
        if wanted.end_time is not None:
            conditions.append(_C.created_time <= wanted.end_time)
        if link.text_search is not None:
            conditions.append(contains(link.text_search, _C.entity_name, _C.user_name, _C.action))
        query = sa.select(t.audit).where(*conditions)
        sort = _C[link.sort_property]

        def work(connection: Connection) -> Page[AuditEntry]:
            return page(connection, query, link, sort=sort, id_=_C.sequence, make=audit_entry_of)

        return self._database.read(work)


_UNKNOWN = -1
"""In the place of an entry's number: none has it."""


class _Counts:
    """How many entries each tenant has, for to count them is to walk over all of them.

    They are good as long as the newest entry is the one after which they were counted: after a transaction that
    failed, or when another process has written, they are counted again. For the writer's thread only.
    """

    def __init__(self) -> None:
        self._newest: int | None = _UNKNOWN
        self._of: dict[Any, int] = {}

    def begin(self, connection: Connection) -> None:
        """Before anything is written in this transaction."""
        if self._newest != _newest(connection):
            self.forget()
        self._newest = _UNKNOWN  # if this does not come to its end

    def forget(self) -> None:
        """Entries have gone."""
        self._of.clear()

    def add(self, connection: Connection, tenant_id: Any, count: int, *, max_entries: int) -> None:
        """So many were inserted: the oldest that are too many go, once they are worth a statement."""
        counted = self._of.get(tenant_id)
        now = run(connection, _MINE, (tenant_id,)).fetchone()[0] if counted is None else counted + count
        beyond = now - max_entries
        if beyond > 0 and beyond * SLACK >= max_entries:
            run(connection, _FORGET_OLDEST, (tenant_id, beyond))
            now = max_entries
        self._of[tenant_id] = now

    def end(self, connection: Connection) -> None:
        """After all is written."""
        self._newest = _newest(connection)


def _newest(connection: Connection) -> int | None:
    found: int | None = run(connection, _NEWEST).fetchone()[0]
    return found
