"""Brings a database to the schema of this program, or says why not."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from rpcbroker.core.ports import StoreError
from rpcbroker.store.tables import SCHEMA_VERSION, metadata

MIGRATIONS = Path(__file__).parent / "migrations"


def ensure_schema(engine: Engine) -> None:
    """Make the tables in an empty SQLite file, and migrate what has another version; alembic is imported only for
    that. Raises StoreError.

    All or nothing: what goes wrong half-way leaves the database as it was. Of a SQLite file that is
    migrated, a copy is kept beside it.
    """
    with engine.connect() as connection:
        version = stored_version(connection)
        new_file = engine.dialect.name == "sqlite" and not inspect(connection).get_table_names()
    if version == SCHEMA_VERSION:
        return
    if version is not None and version > SCHEMA_VERSION:
        raise StoreError(
            f"the store has schema version {version}, newer than this program's {SCHEMA_VERSION}: "
            "run the newer program, or restore a backup"
        )
    path = engine.url.database if engine.dialect.name == "sqlite" else None
    if version is not None and path:
        keep_copy(Path(path), version)
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            _begin(connection)
        if new_file:
            create(connection)
        else:
            migrate(connection)


def _begin(connection: Connection) -> None:
    """A transaction for statements that make tables too, before which Python's driver begins none by itself."""
    connection.detach()  # from the pool: its other connections are as they were
    connection.connection.dbapi_connection.isolation_level = None  # type: ignore[union-attr]
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def stored_version(connection: Connection) -> str | None:
    """The version that the database says it has; None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def keep_copy(path: Path, version: str) -> Path:
    """A whole and consistent copy of a SQLite file, 0600."""
    copy = path.with_name(f"{path.name}.before-{SCHEMA_VERSION}-was-{version}")
    copy.unlink(missing_ok=True)
    os.close(os.open(copy, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600))
    source, target = sqlite3.connect(path), sqlite3.connect(copy)
    try:
        source.backup(target)
    finally:
        source.close()
        target.close()
    return copy


def create(connection: Connection) -> None:
    """What all migrations make of an empty SQLite file, in a seventh of the time and without 12 MB of alembic.

    Not of PostgreSQL: the tables do not have the conditions of its indexes, for to name them loads its dialect.
    """
    metadata.create_all(connection, checkfirst=False)
    # Made and read by alembic: alembic.ddl.impl.DefaultImpl.version_table_impl.
    connection.execute(
        text(
            "CREATE TABLE alembic_version "
            "(version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
        )
    )
    connection.execute(text("INSERT INTO alembic_version VALUES (:version)"), {"version": SCHEMA_VERSION})


def migrate(connection: Connection) -> None:
    """Run what alembic has for this database."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
