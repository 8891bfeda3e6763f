"""The audit log in the store: written in batches, bounded by age and by number, read in pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection
from twisted.internet.defer import Deferred

from rpcbroker.core.model import AuditEntry, AuditFilter, Page, PageLink
from rpcbroker.store import tables as t
from rpcbroker.store.database import Database
from rpcbroker.store.queries import contains, page
from rpcbroker.store.rows import audit_entry_of

_C = t.audit.c


SLACK = 100
"""A tenant has at most one part in so many more entries than it may: they are not counted at each write."""


def _row(entry: AuditEntry) -> dict[str, Any]:
    row = msgspec.structs.asdict(entry)
    del row["sequence"]  # given by the database
    return row


class SqlAudit:
    """`core.ports.AuditLog` on a database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._since_cut: dict[UUID, int] = {}

    def append(self, entries: Sequence[AuditEntry], *, since: int, max_entries: int) -> Deferred[None]:
        """See the port."""
        counts = Counter(entry.tenant_id for entry in entries)
        to_cut = [tenant_id for tenant_id, count in counts.items() if self._has_grown(tenant_id, count, max_entries)]

        def work(connection: Connection) -> None:
            living = set(connection.execute(sa.select(t.tenant.c.id).where(t.tenant.c.id.in_(counts))).scalars())
            rows = [_row(entry) for entry in entries if entry.tenant_id in living]
            if rows:
                connection.execute(sa.insert(t.audit), rows)
            connection.execute(sa.delete(t.audit).where(_C.created_time < since))
            for tenant_id in to_cut:
                _cut(connection, tenant_id, max_entries)

        return self._database.write(work)

    def _has_grown(self, tenant_id: UUID, count: int, max_entries: int) -> bool:
        """Whether to look for entries beyond the number, which takes a walk over that number of them."""
        grown = self._since_cut.get(tenant_id, max_entries) + count
        has_grown = grown * SLACK >= max_entries
        self._since_cut[tenant_id] = 0 if has_grown else grown
        return has_grown

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


def _cut(connection: Connection, tenant_id: UUID, max_entries: int) -> None:
    """Forget a tenant's oldest entries beyond a number."""
    mine, place = _C.tenant_id == tenant_id, sa.tuple_(_C.created_time, _C.sequence)
    newest = sa.select(_C.created_time, _C.sequence).where(mine).order_by(_C.created_time.desc(), _C.sequence.desc())
    first_beyond = connection.execute(newest.offset(max_entries).limit(1)).first()
    if first_beyond is not None:
        connection.execute(sa.delete(t.audit).where(mine, place <= sa.tuple_(*first_beyond)))
