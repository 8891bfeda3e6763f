"""The audit log in the store: written in batches, bounded by age and by number, read in pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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


def _row(entry: AuditEntry) -> dict[str, Any]:
    row = msgspec.structs.asdict(entry)
    del row["sequence"]  # given by the database
    return row


class SqlAudit:
    """`core.ports.AuditLog` on a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, entries: Sequence[AuditEntry], *, since: int, max_entries: int) -> Deferred[None]:
        """See the port."""
        tenants = sorted({entry.tenant_id for entry in entries})

        def work(connection: Connection) -> None:
            connection.execute(sa.insert(t.audit), [_row(entry) for entry in entries])
            connection.execute(sa.delete(t.audit).where(_C.created_time < since))
            for tenant_id in tenants:
                mine = _C.tenant_id == tenant_id
                newest = sa.select(_C.sequence).where(mine).order_by(_C.sequence.desc())
                limit = connection.execute(newest.offset(max_entries).limit(1)).scalar()
                if limit is not None:
                    connection.execute(sa.delete(t.audit).where(mine, _C.sequence <= limit))

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
