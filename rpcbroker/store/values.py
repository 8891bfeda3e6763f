"""Telemetry and attributes in the store. Of each key of telemetry the latest point is kept, and a ring of the last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from msgspec import Raw
from sqlalchemy import Connection
from twisted.internet.defer import Deferred

from rpcbroker.core.errors import InvalidRequest
from rpcbroker.core.model import Attribute, Point, Scope, StoredSeries
from rpcbroker.core.ports import NumberedPoint
from rpcbroker.core.values import Value, json_of
from rpcbroker.store import tables as t
from rpcbroker.store.database import Database
from rpcbroker.store.queries import IDS_AT_ONCE, insert, living_devices, require, upsert

_A, _L, _P = t.attribute.c, t.telemetry_latest.c, t.telemetry_point.c


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

        def work(connection: Connection) -> None:
            living = living_devices(connection, list({device_id for device_id, _, _ in batch}))
            latest, ring = [], []
            for device_id, key, points in batch:
                if device_id not in living:
                    continue
                row = {"device_id": device_id, "key": key}
                _, ts, value = max(points, key=_by_time)
                latest.append(row | {"ts": ts, "value": json_of(value), "posted": points[-1][0]})
                for number, ts, value in points[-window:] if window else ():
                    ring.append(row | {"slot": number % window, "number": number, "ts": ts, "value": json_of(value)})
            if latest:
                connection.execute(_keep_latest(connection), latest)
            upsert(connection, t.telemetry_point, ring, ("device_id", "key", "slot"))

        return self._database.write(work)

    def series(self, device_id: UUID, keys: Sequence[str], *, window: int) -> Deferred[dict[str, StoredSeries]]:
        """See the port."""

        def work(connection: Connection) -> dict[str, StoredSeries]:
            latest = sa.select(_L.key, _L.ts, _L.value).where(_L.device_id == device_id)
            found = {key: Point(ts, _raw(value)) for key, ts, value in _of_keys(connection, latest, _L.key, keys)}
            rings: dict[str, list[tuple[int, Point]]] = {key: [] for key in found}
            if window:
                points = sa.select(_P.key, _P.number, _P.ts, _P.value).where(_P.device_id == device_id)
                for key, number, ts, value in _of_keys(connection, points, _P.key, keys):
                    if key in rings:
                        rings[key].append((number, Point(ts, _raw(value))))
            return {
                key: StoredSeries(latest=found[key], points=tuple(sorted(ring, key=_number)[-window or None :]))
                for key, ring in rings.items()
            }

        return self._database.read(work)

    def delete_series(
        self, device_id: UUID, keys: Sequence[str], *, start: int, end: int, keep_latest: bool
    ) -> Deferred[set[str]]:
        """See the port."""

        def work(connection: Connection) -> set[str]:
            within = sa.delete(t.telemetry_point).where(
                _P.device_id == device_id, _P.key == sa.bindparam("k"), _P.ts >= start, _P.ts < end
            )
            gone = set()
            for key in dict.fromkeys(keys):
                connection.execute(within, {"k": key})
                if not keep_latest and _delete_latest(connection, device_id, key, start, end):
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
        self, device_id: UUID, scope: Scope, values: Mapping[str, Value], *, now: int, most: int
    ) -> Deferred[None]:
        """See the port."""
        row = {"device_id": device_id, "scope": scope.value, "updated_time": now}
        rows = [row | {"key": key, "value": json_of(value)} for key, value in values.items()]
        mine = sa.select(_A.key).where(_A.device_id == device_id, _A.scope == scope.value)

        def work(connection: Connection) -> None:
            require(connection, t.device, "Device", id=device_id)
            there = set(connection.execute(mine).scalars())
            if len(there | values.keys()) > most:
                raise InvalidRequest(
                    f"The device has {len(there)} attributes in {scope.value}, and may have at most {most}",
                    hint="The limit is attributes.max_keys.",
                )
            upsert(connection, t.attribute, rows, ("device_id", "scope", "key"))

        return self._database.write(work)

    def delete_attributes(self, device_id: UUID, scope: Scope, keys: Sequence[str]) -> Deferred[list[str]]:
        """See the port."""
        statement = sa.delete(t.attribute).where(
            _A.device_id == device_id, _A.scope == scope.value, _A.key == sa.bindparam("k")
        )

        def work(connection: Connection) -> list[str]:
            return [key for key in dict.fromkeys(keys) if connection.execute(statement, {"k": key}).rowcount]

        return self._database.write(work)


def _keep_latest(connection: Connection) -> Any:
    """Insert a key's latest point, or replace the one that is there unless that is later."""
    statement = insert(connection, t.telemetry_latest)
    new = statement.excluded
    later = new.ts >= _L.ts
    return statement.on_conflict_do_update(
        index_elements=("device_id", "key"),
        set_={
            "ts": sa.case((later, new.ts), else_=_L.ts),
            "value": sa.case((later, new.value), else_=_L.value),
            "posted": new.posted,
        },
    )


def _delete_latest(connection: Connection, device_id: UUID, key: str, start: int, end: int) -> bool:
    """Replace a key's latest point if it lies there; whether there is none to replace it."""
    mine = sa.and_(_L.device_id == device_id, _L.key == key)
    ts = connection.execute(sa.select(_L.ts).where(mine)).scalar()
    if ts is None or not start <= ts < end:
        return ts is None
    left = sa.select(_P.ts, _P.value).where(_P.device_id == device_id, _P.key == key)
    newest = connection.execute(left.order_by(_P.ts.desc(), _P.number.desc()).limit(1)).first()
    if newest is None:
        connection.execute(sa.delete(t.telemetry_latest).where(mine))
        return True
    connection.execute(sa.update(t.telemetry_latest).where(mine).values(ts=newest.ts, value=newest.value))
    return False


def _of_keys(connection: Connection, query: sa.Select[Any], column: Any, keys: Sequence[str]) -> list[Any]:
    """What `query` finds of these keys; of all if none is named."""
    if not keys:
        return list(connection.execute(query))
    return [
        tuple(row)
        for start in range(0, len(keys), IDS_AT_ONCE)
        for row in connection.execute(query.where(column.in_(keys[start : start + IDS_AT_ONCE])))
    ]


def _by_time(point: NumberedPoint) -> tuple[int, int]:
    return point[1], point[0]


def _number(point: tuple[int, Point]) -> int:
    return point[0]


def _raw(text: str) -> Raw:
    return Raw(text.encode())
