"""What several tables' queries have in common: pages, versions, replacing rows."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from rpcbroker.core.errors import NotFound, VersionConflict
from rpcbroker.core.model import DeviceFilter, Page, PageLink
from rpcbroker.store import tables as t

T = TypeVar("T")
IDS_AT_ONCE = 500
"""In one query: databases bound the parameters of a statement."""
ROWS_AT_ONCE = 100
"""In one INSERT: beyond that a row costs no less."""
_SPECIAL = re.compile("[/%_]")


def page(
    connection: Connection,
    query: sa.Select[Any],
    link: PageLink,
    *,
    sort: sa.Column[Any],
    id_: sa.Column[Any],
    make: Callable[[Any], T],
) -> Page[T]:
    """One part of what `query` finds; rows that sort alike are in the order of their ids, null comes first."""
    order = (sort.desc(), id_.desc()) if link.descending else (sort.asc(), id_.asc())
    if sort.nullable:
        order = (order[0].nulls_last() if link.descending else order[0].nulls_first(), order[1])
    part = query.order_by(*order).limit(link.page_size).offset(link.page * link.page_size)
    items = tuple(make(row) for row in connection.execute(part))
    if len(items) < link.page_size and (items or not link.page):  # the last part: to count them would be to look again
        return Page(items=items, total=link.page * link.page_size + len(items))
    total = connection.execute(sa.select(sa.func.count()).select_from(query.subquery())).scalar_one()
    return Page(items=items, total=total)


def contains(text: str, *columns: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Whether one of the columns has `text` in it, without regard to case; in SQLite of ASCII letters only.

    The database lowers both: where it knows less of letters than Python does, a name must still find itself.
    """
    lowered = sa.func.lower(_SPECIAL.sub(r"/\g<0>", text))
    return sa.or_(*(sa.func.lower(column).contains(lowered, escape="/") for column in columns))


def replace_version(connection: Connection, table: sa.Table, which: Any, row: dict[str, Any]) -> None:
    """Write `row`, whose `version` is the new one. Raises NotFound, VersionConflict."""
    stored = connection.execute(sa.select(table.c.version).where(which)).scalar()
    if stored is None:
        raise NotFound("It was deleted in the meantime")
    if stored != row["version"] - 1:
        raise VersionConflict(
            "Somebody else changed this in the meantime", hint=f"Its version is {stored}: read it again."
        )
    connection.execute(sa.update(table).where(which).values(row))


def upsert(connection: Connection, table: sa.Table, rows: Sequence[dict[str, Any]], key: tuple[str, ...]) -> None:
    """Insert the rows, and replace those that have the same key."""
    if not rows:
        return
    statement = insert(connection, table)
    others = {name: statement.excluded[name] for name in rows[0] if name not in key}
    connection.execute(statement.on_conflict_do_update(index_elements=key, set_=others), rows)


def insert(connection: Connection, table: sa.Table) -> Any:
    """The database's own INSERT, which may say what to do on a conflict."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)
    from sqlalchemy.dialects import sqlite

    return sqlite.insert(table)


def living(connection: Connection, table: sa.Table, ids: Iterable[UUID]) -> dict[UUID, Any]:
    """Those of these that there are, and how the driver spells their ids: for what `run` is given."""
    bind = table.c.id.type.dialect_impl(connection.dialect).bind_processor(connection.dialect)
    spelled = {bind(id_) if bind else id_: id_ for id_ in ids}
    asked, there = list(spelled), {}
    for start in range(0, len(asked), IDS_AT_ONCE):
        some = tuple(asked[start : start + IDS_AT_ONCE])
        places = ", ".join("?" * len(some))
        for (found,) in run(connection, f"SELECT id FROM {table.name} WHERE id IN ({places})", some):  # noqa: S608
            there[spelled[found]] = found
    return there


def require(connection: Connection, table: sa.Table, what: str, **members: Any) -> None:
    """Raises NotFound if no row has these members; `what` is missing then."""
    if not exists(connection, sa.select(table.c.id).filter_by(**members)):
        raise NotFound(f"{what} with id [{members['id']}] is not found")


def exists(connection: Connection, query: sa.Select[Any]) -> bool:
    """Whether `query` finds anything."""
    return connection.execute(query.limit(1)).first() is not None


def run(connection: Connection, statement: str, parameters: Any = ()) -> Any:
    """As the driver does it: for points, calls and the audit log, of which there are many.

    With SQLite it passes SQLAlchemy by, whose share is ten times the driver's: a batch of few rows is mostly that.
    `statement` has `?` where a parameter goes. `parameters`: a tuple, or a list of tuples for each of which it is done.
    What is returned has `rowcount` and `fetchone`, and is iterated for rows. Raises what SQLAlchemy would.
    """
    if connection.dialect.name == "postgresql":
        return connection.exec_driver_sql(statement.replace("?", "%s"), parameters)
    cursor: Any = connection.connection.cursor()
    try:
        return (cursor.executemany if isinstance(parameters, list) else cursor.execute)(statement, parameters)
    except sqlite3.Error as error:
        raise DBAPIError.instance(statement, parameters, error, sqlite3.Error) from error


def run_each(connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> list[int | Exception]:
    """What became of each: how many rows of the table it changed, or why it was refused; of those nothing stays.

    What no row is to blame for is raised. In SQLite a statement that fails undoes itself alone, and to ask for each is
    cheap. PostgreSQL does all at once, and if not each changed one row, each half by itself.
    """
    if connection.dialect.name != "postgresql":
        return [_outcome(connection, statement, row) for row in rows]
    savepoint = connection.begin_nested()
    found = _outcome(connection, statement, list(rows))
    if found == len(rows):
        savepoint.commit()
        return [1] * len(rows)
    savepoint.rollback()
    if len(rows) == 1:
        return [found]
    half = len(rows) // 2
    return run_each(connection, statement, rows[:half]) + run_each(connection, statement, rows[half:])


def _outcome(connection: Connection, statement: str, parameters: Any) -> int | Exception:
    try:
        return int(run(connection, statement, parameters).rowcount)
    except (IntegrityError, DataError, OverflowError) as error:
        return error


def insert_rows(
    connection: Connection,
    table: sa.Table,
    columns: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    *,
    on_conflict: str = "",
) -> None:
    """Insert many rows, each with what `columns` get as the driver takes it; `on_conflict` is the clause, if any.

    Many rows are one statement, for which SQLite's driver lets go of the interpreter once: row by row it takes it
    back as often, from the reactor.
    """
    places = f"({', '.join('?' * len(columns))})"
    head = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES "  # noqa: S608 - names of ours
    whole = len(rows) - len(rows) % ROWS_AT_ONCE
    many = head + ", ".join([places] * ROWS_AT_ONCE) + on_conflict
    for start in range(0, whole, ROWS_AT_ONCE):
        run(connection, many, tuple(chain.from_iterable(rows[start : start + ROWS_AT_ONCE])))
    if whole < len(rows):
        run(connection, head + places + on_conflict, list(rows[whole:]))


CONNECTED = sa.and_(t.presence.c.connected_time.is_not(None), t.presence.c.disconnected_time.is_(None))
"""Of a device, joined with its presence: whether it is connected."""


def device_conditions(wanted: DeviceFilter) -> list[sa.ColumnElement[bool]]:
    """What must hold of a device; presence has to be joined if `connected` is asked for."""
    conditions = [t.device.c.tenant_id == wanted.tenant_id]
    for column, allowed in (
        (t.device.c.customer_id, wanted.customer_ids),
        (t.device.c.type, wanted.types),
        (t.device.c.id, wanted.ids),
    ):
        if allowed:
            conditions.append(column.in_(allowed))
    if wanted.connected is not None:
        conditions.append(CONNECTED if wanted.connected else sa.not_(sa.func.coalesce(CONNECTED, False)))
    return conditions
