"""Requests for many devices in the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection
from twisted.internet.defer import Deferred

from rpcbroker.core.bulk import (
    TRANSITIONS,
    Bulk,
    BulkEntry,
    BulkFilter,
    BulkPlan,
    BulkState,
    Change,
    EntryState,
    EntryStep,
    Target,
)
from rpcbroker.core.calls import CallRequest
from rpcbroker.core.errors import AlreadyExists
from rpcbroker.core.model import DeviceFilter, Page, PageLink
from rpcbroker.store import tables as t
from rpcbroker.store.database import Database
from rpcbroker.store.queries import IDS_AT_ONCE, device_conditions, exists, page, require, run
from rpcbroker.store.rows import one, values

_B, _D = t.bulk.c, t.bulk_device.c
_INSERT = "INSERT INTO bulk_device (bulk, number, device_id, device_name, state) VALUES (?, ?, ?, ?, ?)"
_CHANGE = "UPDATE bulk_device SET state = ?, reason = ?, ended = ?, response = ? WHERE bulk = ? AND number = ?"

LARGEST = 2**31 - 1
"""No number is larger, in any database."""


class SqlBulks:
    """`core.ports.KeptBulks` on a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def targets(
        self, wanted: DeviceFilter, ids: Sequence[UUID] | None, *, limit: int
    ) -> Deferred[list[tuple[UUID, str]]]:
        """See the port."""
        c = t.device.c
        query = sa.select(c.id, c.name).where(*device_conditions(wanted)).order_by(c.created_time, c.id).limit(limit)

        def work(connection: Connection) -> list[tuple[UUID, str]]:
            if ids is None:
                return [(row.id, row.name) for row in connection.execute(query)]
            found: list[tuple[UUID, str]] = []
            for start in range(0, len(ids), IDS_AT_ONCE):
                some = query.where(c.id.in_(ids[start : start + IDS_AT_ONCE]))
                found += [(row.id, row.name) for row in connection.execute(some)]
            return found[:limit]

        return self._database.read(work)

    def create(self, bulk: Bulk, devices: Sequence[tuple[UUID, str]]) -> Deferred[Bulk]:
        """See the port."""
        row = row_of(bulk)
        del row["sequence"]  # given by the database

        def work(connection: Connection) -> Bulk:
            require(connection, t.tenant, "Tenant", id=bulk.tenant_id)
            if exists(connection, sa.select(_B.id).where(_B.tenant_id == bulk.tenant_id, _B.id == bulk.id)):
                raise AlreadyExists("Such a bulk already exists!")
            sequence = connection.execute(sa.insert(t.bulk).returning(_B.sequence), row).scalar_one()
            waiting = EntryState.WAITING.value
            rows = [(sequence, number, id_.hex, name, waiting) for number, (id_, name) in enumerate(devices)]
            if rows:
                run(connection, _INSERT, rows)
            return _bulk_of({**row, "sequence": sequence})

        return self._database.write(work)

    def save(self, bulk: Bulk, changes: Sequence[Change], *, abort_from: int | None) -> Deferred[None]:
        """See the port."""
        return self._database.write(lambda connection: save_bulk(connection, bulk, changes, abort_from=abort_from))

    def bulk(self, tenant_id: UUID, bulk_id: UUID) -> Deferred[Bulk | None]:
        query = sa.select(t.bulk).where(_B.tenant_id == tenant_id, _B.id == bulk_id)
        return self._database.read(lambda connection: one(connection, query, bulk_of))

    def bulks(self, wanted: BulkFilter, link: PageLink) -> Deferred[Page[Bulk]]:
        given = values(wanted)
        query = sa.select(t.bulk).where(*(_B[name] == value for name, value in given.items() if value is not None))
        sort = _B[link.sort_property]
        return self._database.read(
            lambda connection: page(connection, query, link, sort=sort, id_=_B.sequence, make=bulk_of)
        )

    def entries(self, sequence: int, link: PageLink, *, state: EntryState | None) -> Deferred[list[BulkEntry]]:
        """See the port."""
        query = sa.select(t.bulk_device).where(_D.bulk == sequence).order_by(_D.number).limit(link.page_size)
        first = link.page * link.page_size
        if state is None:  # their numbers have no gaps
            query = query.where(_D.number >= min(first, LARGEST))
        else:
            query = query.where(_D.state == state.value).offset(first)
        return self._database.read(lambda connection: [entry_of(row) for row in connection.execute(query)])

    def ended(self, sequence: int, *, after: int, limit: int) -> Deferred[list[BulkEntry]]:
        """See the port."""
        query = sa.select(t.bulk_device).where(_D.bulk == sequence, _D.ended > after).order_by(_D.ended).limit(limit)
        return self._database.read(lambda connection: [entry_of(row) for row in connection.execute(query)])

    def in_state(self, sequence: int, state: EntryState, *, after: int, limit: int) -> Deferred[list[Target]]:
        """See the port."""
        query = (
            sa.select(_D.number, _D.device_id, _D.device_name)
            .where(_D.bulk == sequence, _D.number > after, _D.state == state.value)
            .order_by(_D.number)
            .limit(limit)
        )
        return self._database.read(lambda connection: [Target(*row) for row in connection.execute(query)])

    def progress(self, sequence: int, *, below: int) -> Deferred[tuple[int, int]]:
        """See the port."""
        mine = _D.bulk == sequence
        successful = mine, _D.number < below, _D.state == EntryState.SUCCESSFUL.value

        def work(connection: Connection) -> tuple[int, int]:
            last = connection.execute(sa.select(sa.func.max(_D.ended)).where(mine)).scalar()
            count = connection.execute(sa.select(sa.func.count()).where(*successful)).scalar_one()
            return last or 0, count

        return self._database.read(work)

    def forget_ended(self, before: int, *, limit: int) -> Deferred[int]:
        """See the port."""
        some = sa.select(_B.sequence).where(_B.ended_time < before).order_by(_B.ended_time).limit(limit)

        def work(connection: Connection) -> int:
            old = list(connection.execute(some).scalars())
            if old:
                connection.execute(sa.delete(t.bulk_device).where(_D.bulk.in_(old)))
                connection.execute(sa.delete(t.bulk).where(_B.sequence.in_(old)))
            return len(old)

        return self._database.write(work)


def save_bulk(connection: Connection, bulk: Bulk, changes: Sequence[Change], *, abort_from: int | None) -> None:
    """See `core.ports.KeptBulks.save`."""
    status = {
        "state": bulk.state.value,
        "reason": bulk.reason,
        "ended_time": bulk.ended_time,
        "counts": dict(bulk.counts),
    }
    rows = [
        (
            change.state.value,
            change.reason,
            change.ended,
            None if change.response is None else change.response.decode(),
            bulk.sequence,
            change.number,
        )
        for change in changes
    ]
    if rows:
        run(connection, _CHANGE, rows)
    if abort_from is not None:
        aborted = TRANSITIONS[EntryState.WAITING, EntryStep.ABORTED]
        waiting = _D.bulk == bulk.sequence, _D.state == EntryState.WAITING.value
        connection.execute(
            sa.update(t.bulk_device).where(*waiting).values(state=aborted.value, ended=abort_from + _D.number)
        )
    connection.execute(sa.update(t.bulk).where(_B.sequence == bulk.sequence).values(status))


def running_bulks(connection: Connection) -> tuple[Bulk, ...]:
    """Those that have not ended, the oldest first."""
    query = sa.select(t.bulk).where(_B.ended_time.is_(None)).order_by(_B.sequence)
    return tuple(bulk_of(row) for row in connection.execute(query))


def row_of(bulk: Bulk) -> dict[str, Any]:
    """Of the table."""
    members = {name: msgspec.to_builtins(getattr(bulk, name)) for name in ("plan", "request", "state", "counts")}
    return values(bulk) | members


def bulk_of(row: Any) -> Bulk:
    """A row of the table."""
    return _bulk_of(dict(row._mapping))


def _bulk_of(row: dict[str, Any]) -> Bulk:
    types = {"plan": BulkPlan, "request": CallRequest, "state": BulkState, "counts": dict[EntryState, int]}
    return Bulk(**row | {name: msgspec.convert(row[name], type_) for name, type_ in types.items()})


def entry_of(row: Any) -> BulkEntry:
    """A row of the table."""
    response = None if row.response is None else row.response.encode()
    return BulkEntry(row.number, row.device_id, row.device_name, EntryState(row.state), row.reason, response, row.ended)
