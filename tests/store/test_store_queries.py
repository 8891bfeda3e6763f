"""One contract for all stores: statements that pass SQLAlchemy by."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest_twisted
from fakes import OTHER_TENANT, TENANT
from sqlalchemy.exc import DBAPIError, IntegrityError

from rpcbroker.store import tables as t
from rpcbroker.store.queries import living, run, run_each

INSERT = "INSERT INTO counter (name, value) VALUES (?, ?)"
UPDATE = "UPDATE counter SET value = ? WHERE name = ?"


def counters(connection: Any) -> list[tuple[str, int]]:
    return [tuple(row) for row in run(connection, "SELECT name, value FROM counter WHERE value < 9 ORDER BY name")]


@pytest_twisted.ensureDeferred
async def test_each_row_is_told_what_became_of_it_and_a_bad_one_leaves_nothing(store: Any) -> None:
    rows: list[tuple[str, Any]] = [("a", 1), ("b", 2), ("a", 3), ("c", 1 << 70), ("d", 4)]
    found = await store._database.write(lambda connection: run_each(connection, INSERT, rows))
    assert [found[n] for n in (0, 1, 4)] == [1, 1, 1]
    assert isinstance(found[2], IntegrityError)
    assert isinstance(found[3], Exception)
    assert await store._database.read(counters) == [("a", 1), ("b", 2), ("d", 4)]


@pytest_twisted.ensureDeferred
async def test_each_row_is_told_how_many_it_changed(store: Any) -> None:
    def work(connection: Any) -> list[int | Exception]:
        run(connection, INSERT, [("a", 1), ("b", 2)])
        return run_each(connection, UPDATE, [(5, "a"), (6, "nowhere"), (7, "b")])

    assert await store._database.write(work) == [1, 0, 1]
    assert await store._database.read(counters) == [("a", 5), ("b", 7)]


@pytest_twisted.ensureDeferred
async def test_what_no_row_is_to_blame_for_is_raised(store: Any) -> None:
    def work(connection: Any) -> str:
        try:
            run_each(connection, "INSERT INTO nowhere VALUES (?)", [(1,)])
        except DBAPIError as error:
            connection.rollback()
            return str(error)
        return "nothing"

    assert "nowhere" in await store._database.write(work)


@pytest_twisted.ensureDeferred
async def test_those_of_a_table_that_there_are(store: Any) -> None:
    def work(connection: Any) -> list[UUID]:
        there = living(connection, t.tenant, [TENANT, OTHER_TENANT])
        assert run(connection, "SELECT title FROM tenant WHERE id = ?", (there[TENANT],)).fetchone()
        return list(there)

    assert await store._database.read(work) == [TENANT]
