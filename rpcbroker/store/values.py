"""Telemetry and attributes in the store. Of each key of telemetry the latest point is kept, and a ring of the last.

The ring is of blocks: points whose numbers follow each other share a row, to which text is appended without
its being read, for a row costs far more than a point. What is done again is appended again: readers see to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from msgspec import Raw
from msgspec.json import Decoder
from sqlalchemy import Connection
from twisted.internet.defer import Deferred

from rpcbroker.core import jsontext
from rpcbroker.core.errors import InvalidRequest
from rpcbroker.core.model import Attribute, Point, Scope, StoredSeries
from rpcbroker.core.ports import NumberedPoint
from rpcbroker.core.telemetry import newest
from rpcbroker.core.values import Value, json_of
from rpcbroker.store import tables as t
from rpcbroker.store.database import Database
from rpcbroker.store.queries import IDS_AT_ONCE, insert_rows, living, require, upsert

_A, _L, _B = t.attribute.c, t.telemetry_latest.c, t.telemetry_block.c

BLOCK = 16
"""Points in a block: enough that points which come together share rows, few enough that appending rewrites little."""

_OF_LATEST = "device_id", "key", "ts", "value", "posted"
_KEEP_LATEST = """
ON CONFLICT (device_id, key) DO UPDATE SET
    ts = CASE WHEN excluded.ts >= telemetry_latest.ts THEN excluded.ts ELSE telemetry_latest.ts END,
    value = CASE WHEN excluded.ts >= telemetry_latest.ts THEN excluded.value ELSE telemetry_latest.value END,
    posted = excluded.posted
"""
"""A key's latest point takes the place of the one that is there, unless that is later."""
_OF_BLOCK = "device_id", "key", "slot", "block", "points"
_APPEND = """
ON CONFLICT (device_id, key, slot) DO UPDATE SET
    points = CASE telemetry_block.block WHEN excluded.block THEN telemetry_block.points ELSE '' END || excluded.points,
    block = excluded.block
"""
"""To a block that is there is added; an older one in its slot makes room."""

_Stored = tuple[int, int, Raw]
_decode = Decoder(list[_Stored]).decode


class SqlValues:
    """`core.ports.KeptValues` on a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- telemetry

    def series_counts(self, device_id: UUID) -> Deferred[dict[str, int]]:
        """See the port."""
        query = sa.select(_L.key, _L.posted).where(_L.device_id == device_id)
        return self._database.read(lambda connection: {row.key: row.posted for row in connection.execute(query)})

    def save_points(self, batch: Sequence[tuple[UUID, str, Sequence[NumberedPoint]]], *, window: int) -> Deferred[None]:
        """See the port."""
        slots = _slots(window)

        def work(connection: Connection) -> None:
            there = living(connection, t.device, {device_id for device_id, _, _ in batch})
            latest: list[tuple[Any, ...]] = []
            blocks: list[tuple[Any, ...]] = []
            for device_id, key, points in batch:
                id_, last = there.get(device_id), points[-1][0]
                if id_ is None:
                    continue
                _, ts, value = newest(points)
                latest.append((id_, key, ts, json_of(value), last))
                for block, some in groupby(_after(last - window, points), _block):
                    blocks.append((id_, key, block % slots, block, _text(some)))
            insert_rows(connection, t.telemetry_latest, _OF_LATEST, latest, on_conflict=_KEEP_LATEST)
            insert_rows(connection, t.telemetry_block, _OF_BLOCK, blocks, on_conflict=_APPEND)

        return self._database.write(work)

    def series(self, device_id: UUID, keys: Sequence[str], *, window: int) -> Deferred[dict[str, StoredSeries]]:
        """See the port."""
        latest = sa.select(_L.key, _L.posted, _L.ts, _L.value).where(_L.device_id == device_id)
        blocks = sa.select(_B.key, _B.points).where(_B.device_id == device_id)

        def work(connection: Connection) -> dict[str, StoredSeries]:
            rows = _of_keys(connection, latest, _L.key, keys)
            rings: dict[str, dict[int, Point]] = {row[0]: {} for row in rows}
            before = {key: posted - window for key, posted, _, _ in rows}
            for key, text in _of_keys(connection, blocks, _B.key, keys) if window else ():
                if key in rings:
                    rings[key] |= {n: Point(ts, value) for n, ts, value in _points(text) if n > before[key]}
            return {
                key: StoredSeries(latest=Point(ts, _raw(value)), points=tuple(sorted(rings[key].items())))
                for key, _, ts, value in rows
            }

        return self._database.read(work)

    def delete_series(
        self, device_id: UUID, keys: Sequence[str], *, start: int, end: int, keep_latest: bool, window: int
    ) -> Deferred[set[str]]:
        """See the port."""

        def work(connection: Connection) -> set[str]:
            gone = set()
            for key in dict.fromkeys(keys):
                mine = sa.and_(_L.device_id == device_id, _L.key == key)
                latest = connection.execute(sa.select(_L.ts, _L.posted).where(mine)).first()
                if latest is None:
                    gone.add(key)
                    continue
                left = _cut(connection, device_id, key, before=latest.posted - window, start=start, end=end)
                if keep_latest or not start <= latest.ts < end:
                    continue
                if left:
                    _, ts, value = newest(sorted(left, key=_number))
                    connection.execute(sa.update(t.telemetry_latest).where(mine).values(ts=ts, value=json_of(value)))
                else:
                    connection.execute(sa.delete(t.telemetry_latest).where(mine))
                    gone.add(key)
            return gone

        return self._database.write(work)

    # -- attributes

    def attributes(
        self, device_id: UUID, *, scopes: Sequence[Scope], keys: Sequence[str], after_writes: bool
    ) -> Deferred[tuple[Attribute, ...]]:
        """See the port."""
        query = sa.select(_A.scope, _A.key, _A.updated_time, _A.value).where(_A.device_id == device_id)
        if scopes:
            query = query.where(_A.scope.in_([scope.value for scope in scopes]))

        def work(connection: Connection) -> tuple[Attribute, ...]:
            rows = sorted(_of_keys(connection, query, _A.key, keys))
            return tuple(Attribute(Scope(scope), key, time, _raw(value)) for scope, key, time, value in rows)

        return self._database.write(work) if after_writes else self._database.read(work)

    def save_attributes(
        self,
        device_id: UUID,
        scope: Scope,
        values: Mapping[str, Value],
        *,
        now: int,
        most: int,
        only_changed: bool = False,
    ) -> Deferred[list[str]]:
        """See the port."""
        row = {"device_id": device_id, "scope": scope.value, "updated_time": now}
        rows = [row | {"key": key, "value": json_of(value)} for key, value in values.items()]
        known = _A.value if only_changed else sa.null()
        mine = sa.select(_A.key, known).where(_A.device_id == device_id, _A.scope == scope.value)

        def work(connection: Connection) -> list[str]:
            require(connection, t.device, "Device", id=device_id)
            there: dict[Any, Any] = {row[0]: row[1] for row in connection.execute(mine)}
            if len(there.keys() | values.keys()) > most:
                raise InvalidRequest(
                    f"The device has {len(there)} attributes in {scope.value}, and may have at most {most}",
                    hint="The limit is attributes.max_keys.",
                )
            written = [each for each in rows if each["value"] != there.get(each["key"])]
            upsert(connection, t.attribute, written, ("device_id", "scope", "key"))
            return [str(each["key"]) for each in written]

        return self._database.write(work)

    def delete_attributes(self, device_id: UUID, scope: Scope, keys: Sequence[str]) -> Deferred[list[str]]:
        """See the port."""
        statement = sa.delete(t.attribute).where(
            _A.device_id == device_id, _A.scope == scope.value, _A.key == sa.bindparam("k")
        )

        def work(connection: Connection) -> list[str]:
            return [key for key in dict.fromkeys(keys) if connection.execute(statement, {"k": key}).rowcount]

        return self._database.write(work)


# -- blocks


def _slots(window: int) -> int:
    """Rows of a key: as many as a window can touch, if it begins and ends within blocks.

    A power of two: then, when the setting changes, a block takes the place only of such as are beyond the
    smaller of the two windows.
    """
    return 1 << ((window + BLOCK - 2) // BLOCK).bit_length()


def _block(point: NumberedPoint) -> int:
    return point[0] // BLOCK


def _text(points: Iterable[NumberedPoint]) -> str:
    """`,[number,ts,value]` of each."""
    return "," + jsontext.encode(list(points))[1:-1].decode()


def _points(text: str) -> list[_Stored]:
    """What `_text` was made of. After a write that was done twice some stand there twice."""
    return _decode(f"[{text[1:]}]")


def _after(before: int, points: Sequence[NumberedPoint]) -> Sequence[NumberedPoint]:
    """Those with a higher number, if they are in order."""
    return points if points[0][0] > before else [point for point in points if point[0] > before]


def _cut(connection: Connection, device_id: UUID, key: str, *, before: int, start: int, end: int) -> list[_Stored]:
    """Remove a key's points up to the number `before`, and those of this time; what is left."""
    mine = sa.and_(_B.device_id == device_id, _B.key == key)
    left = []
    for slot, text in connection.execute(sa.select(_B.slot, _B.points).where(mine)).all():
        points = _points(text)
        kept = [point for point in points if point[0] > before and not start <= point[1] < end]
        left += kept
        this = sa.and_(mine, _B.slot == slot)
        if not kept:
            connection.execute(sa.delete(t.telemetry_block).where(this))
        elif len(kept) < len(points):
            connection.execute(sa.update(t.telemetry_block).where(this).values(points=_text(kept)))
    return left


def _of_keys(connection: Connection, query: sa.Select[Any], column: Any, keys: Sequence[str]) -> list[Any]:
    """What `query` finds of these keys; of all if none is named."""
    if not keys:
        return list(connection.execute(query))
    return [
        tuple(row)
        for start in range(0, len(keys), IDS_AT_ONCE)
        for row in connection.execute(query.where(column.in_(keys[start : start + IDS_AT_ONCE])))
    ]


_number = itemgetter(0)


def _raw(text: str) -> Raw:
    return Raw(text.encode())
