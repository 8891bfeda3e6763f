"""The schema: what the migrations make of an empty database, and of one that is in use."""

from __future__ import annotations

import re
import sqlite3
import stat
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_twisted
from fakes import CUSTOMER, EPOCH_MS, OTHER_TENANT, TENANT, device, first_records, known_device, token
from kept_calls import kept_call
from sqlalchemy import Connection, Engine, create_engine, inspect, text
from stores import sql_store, url_of

from rpcbroker.core.children import CREATED
from rpcbroker.core.model import AuditFilter, DeviceFilter, LastPresence, PageLink, Tenant
from rpcbroker.core.ports import StoreError
from rpcbroker.store import schema, tables
from rpcbroker.store.invariants import verify


def upgrade(connection: Connection, revision: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def insert(connection: Connection, table: str, **row: Any) -> None:
    names = ", ".join(row)
    places = ", ".join(f":{name}" for name in row)
    connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({places})"), row)


def fill_0001(connection: Connection) -> None:
    """What a broker of the first schema has written."""

    user, one, credentials = first_records()[1], device(), token(device())
    insert(connection, "tenant", id=TENANT.hex, name="Default", created_time=5)
    insert(
        connection,
        "user_account",
        id=user.id.hex,
        tenant_id=TENANT.hex,
        email=user.email,
        email_key=user.email.lower(),
        authority="TENANT_ADMIN",
        password_hash="hash",
        enabled=True,
        created_time=EPOCH_MS,
        additional_info="null",
        version=1,
    )
    insert(
        connection,
        "device",
        id=one.id.hex,
        tenant_id=TENANT.hex,
        name=one.name,
        type="default",
        created_time=EPOCH_MS,
        additional_info='{"gateway": true}',
        version=1,
    )
    insert(
        connection,
        "credentials",
        id=credentials.id.hex,
        device_id=one.id.hex,
        type="ACCESS_TOKEN",
        credentials_id="TOKEN100",
        created_time=EPOCH_MS,
        version=1,
    )
    insert(connection, "presence", device_id=one.id.hex, connected_time=7, connected_cause="c")
    insert(connection, "revoked_session", session_id="s", until=9)
    insert(connection, "counter", name="wire_ids", value=8192)


def fill_0004(connection: Connection) -> None:
    """What a broker of the fourth schema has added to that."""
    user, one = first_records()[1], device()
    key = UUID(int=901)
    insert(
        connection,
        "customer",
        id=CUSTOMER.hex,
        tenant_id=TENANT.hex,
        title="C",
        created_time=EPOCH_MS,
        contact="{}",
        version=1,
    )
    insert(
        connection,
        "api_key",
        id=UUID(int=900).hex,
        tenant_id=TENANT.hex,
        user_id=user.id.hex,
        description="d",
        digest="digest",
        hint="hi",
        scope="{}",
        enabled=True,
        expiration_time=0,
        created_time=EPOCH_MS,
    )
    insert(
        connection, "attribute", device_id=one.id.hex, scope="SERVER_SCOPE", key="k", updated_time=EPOCH_MS, value="[1]"
    )
    insert(connection, "telemetry_latest", device_id=one.id.hex, key="t", ts=EPOCH_MS, value="21.5", posted=1)
    insert(
        connection,
        "telemetry_block",
        device_id=one.id.hex,
        key="t",
        slot=0,
        block=0,
        points=f",[0,{EPOCH_MS},21.5]",
    )
    insert(
        connection,
        "provision_key",
        id=key.hex,
        tenant_id=TENANT.hex,
        customer_id=CUSTOMER.hex,
        key="pk",
        digest="digest",
        device_type="default",
        strategy="ALLOW_CREATE_NEW_DEVICES",
        enabled=True,
        created_time=EPOCH_MS,
        uses=1,
    )
    insert(connection, "provisioned", device_id=one.id.hex, key_id=key.hex, time=EPOCH_MS)
    insert(connection, "claim", device_id=one.id.hex, digest="digest", until_time=EPOCH_MS)
    insert(connection, "revoked_user", user_id=user.id.hex, time=EPOCH_MS)
    insert(
        connection,
        "audit",
        created_time=EPOCH_MS,
        tenant_id=TENANT.hex,
        entity_type="DEVICE",
        entity_id=one.id.hex,
        user_id=user.id.hex,
        user_name="n",
        action="ADDED",
        failure="",
    )


@pytest.fixture
def engine(url: str) -> Any:
    made = create_engine(url)
    yield made
    made.dispose()


@pytest.fixture
def in_use(engine: Engine) -> Engine:
    """A database of the first schema, with data."""
    with engine.begin() as connection:
        upgrade(connection, "0001")
    with engine.begin() as connection:
        fill_0001(connection)
    return engine


def test_they_make_what_the_tables_say(engine: Engine) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == tables.SCHEMA_VERSION
    with engine.begin() as connection:
        schema.migrate(connection)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []


def shape(connection: Connection) -> dict[str, Any]:
    """All that SQLite says of its tables, whatever the order in which their columns and constraints were made."""
    inspector = inspect(connection)
    said: dict[str, Any] = {}
    for name in inspector.get_table_names():
        parts = {
            "columns": [each | {"type": str(each["type"])} for each in inspector.get_columns(name)],
            "key": [inspector.get_pk_constraint(name)],
            "foreign keys": inspector.get_foreign_keys(name),
            "unique": inspector.get_unique_constraints(name),
            "checks": inspector.get_check_constraints(name),
            "indexes": [each | {"dialect_options": None} for each in inspector.get_indexes(name)],
        }
        said[name] = {part: sorted(map(repr, found)) for part, found in parts.items()}
    for name, sql in connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")):
        # AUTOINCREMENT, the conditions of indexes and the like.
        said[f"words of {name}"] = sorted(re.findall(r"\w+|[^\w\s]", sql))
    return said


def test_an_empty_file_is_made_what_the_migrations_make_of_it(tmp_path: Path) -> None:
    migrated, made = (create_engine(f"sqlite:///{tmp_path / name}") for name in ("migrated", "made"))
    with migrated.begin() as connection:
        schema.migrate(connection)
        wanted, version = shape(connection), schema.stored_version(connection)
    schema.ensure_schema(made)
    with made.connect() as connection:
        found = shape(connection)
        assert {name: each for name, each in found.items() if each != wanted.get(name)} == {}
        assert (found.keys(), schema.stored_version(connection)) == (wanted.keys(), version)
    assert {name for name, rows in all_rows(made).items() if rows} == {"alembic_version"}
    for engine in (migrated, made):
        engine.dispose()


@pytest_twisted.ensureDeferred
async def test_nothing_is_lost_on_the_way_from_the_first_schema(in_use: Engine, url: str) -> None:
    store = sql_store(url)
    opened = store.open(first_records=lambda: pytest.fail("it is in use"))
    user = first_records()[1]
    one = device(additional_info={"gateway": True})
    assert (opened.first_start, opened.wire_ids_reserved, opened.revoked) == (False, 8192, {"s": 9})
    assert (opened.revoked_users, opened.api_keys) == ({}, ())
    assert await store.people.tenant(TENANT) == Tenant(id=TENANT, title="Default", created_time=5)
    assert await store.people.user_by_email("admin@EXAMPLE.org") == user
    assert await store.device(one.id) == one
    presence = LastPresence(
        device_id=one.id,
        connected_time=7,
        connected_cause="c",
        disconnected_time=7,
        disconnected_cause="the server restarted",
    )
    assert await store.matching_credentials(["TOKEN100"]) == (known_device(token(one), one, presence),)
    assert await store.presence(one.id) == presence
    assert (await store.devices(DeviceFilter(tenant_id=TENANT), PageLink(page_size=9))).total == 1
    assert (await store.people.customers(TENANT, PageLink(page_size=9))).total == 0
    assert (await store.audit.entries(AuditFilter(tenant_id=TENANT), PageLink(page_size=9))).total == 0
    await store.close()


@pytest_twisted.ensureDeferred
async def test_a_store_of_before_calls_were_kept_keeps_all_it_has_and_then_calls_too(in_use: Engine, url: str) -> None:
    with in_use.begin() as connection:
        upgrade(connection, "0004")
    with in_use.begin() as connection:
        fill_0004(connection)
    before = all_rows(in_use)
    assert all(before.values()), "every table has something to lose"
    del before["alembic_version"]
    schema.ensure_schema(in_use)
    after = all_rows(in_use)
    assert {name: after[name] for name in before} == before
    new = ["board", "bulk", "bulk_device", "presence_change", "relation", "rpc", "rule_chain"]
    assert [name for name in after if not after[name]] == new
    with in_use.connect() as connection:
        assert [each for each in verify(connection, now=EPOCH_MS, running=True) if each.broken] == []
    store = sql_store(url)
    opened = store.open(first_records=lambda: pytest.fail("it is in use"))
    assert (opened.waiting_calls, opened.next_due, opened.running_bulks) == ({}, None, ())
    kept = kept_call(1)
    await store.calls.insert(kept)
    assert await store.calls.waiting(device().id, after=0, limit=9) == [kept]
    assert await store.delete_device(device().id)
    assert await store.calls.call(TENANT, kept.call.rpc_id) is None
    await store.close()


@pytest_twisted.ensureDeferred
async def test_of_a_sqlite_file_a_copy_of_before_is_kept(tmp_path: Path) -> None:
    engine = create_engine(url_of(tmp_path))
    with engine.begin() as connection:
        upgrade(connection, "0001")
    with engine.begin() as connection:
        fill_0001(connection)
    schema.ensure_schema(engine)
    engine.dispose()
    (copy,) = tmp_path.glob("store.sqlite.before-*")
    assert copy.name == f"store.sqlite.before-{tables.SCHEMA_VERSION}-was-0001"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    kept = sqlite3.connect(copy)
    assert kept.execute("SELECT version_num FROM alembic_version").fetchone() == ("0001",)
    assert kept.execute("SELECT name FROM tenant").fetchall() == [("Default",)]
    assert kept.execute("SELECT name FROM device").fetchall() == [("device-100",)]
    kept.close()


def test_one_that_fails_half_way_leaves_everything_as_it_was(in_use: Engine) -> None:
    with in_use.begin() as connection:
        connection.execute(text("CREATE TABLE audit (in_the_way INTEGER)"))
    before = all_rows(in_use)
    for _ in range(2):
        with pytest.raises(Exception, match="already exists"):
            schema.ensure_schema(in_use)
        assert all_rows(in_use) == before
    with in_use.begin() as connection:
        connection.execute(text("DROP TABLE audit"))
    schema.ensure_schema(in_use)
    with in_use.connect() as connection:
        assert schema.stored_version(connection) == tables.SCHEMA_VERSION


def all_rows(engine: Engine) -> dict[str, Any]:
    with engine.connect() as connection:
        names = sorted(inspect(connection).get_table_names())
        return {
            name: [tuple(row._mapping.items()) for row in connection.execute(text(f"SELECT * FROM {name}"))]
            for name in names
        }


@pytest_twisted.ensureDeferred
async def test_children_of_before_relations_were_kept_get_those_to_their_gateways(in_use: Engine, url: str) -> None:
    gateway, foreign = device().id, UUID(int=600)
    infos = {
        601: f'{{"lastConnectedGateway": "{gateway}", "floor": 3}}',
        602: f'{{"lastConnectedGateway": "{foreign}"}}',
        603: f'{{"lastConnectedGateway": "{UUID(int=604)}"}}',
        605: '{"lastConnectedGateway": "the one in the cellar"}',
        606: '{"lastConnectedGateway": 7}',
        607: '["lastConnectedGateway"]',
        608: "null",
        609: f'{{"lastConnectedGateway": "{UUID(int=609)}"}}',
        610: f'{{"lastConnectedGateway": "{gateway}"}}',
    }
    with in_use.begin() as connection:
        upgrade(connection, "0006")
    with in_use.begin() as connection:
        insert(connection, "tenant", id=OTHER_TENANT.hex, title="other", created_time=5, contact="{}", version=1)
        for number, info in {**infos, 600: "{}"}.items():
            insert(
                connection,
                "device",
                id=UUID(int=number).hex,
                tenant_id=(OTHER_TENANT if number == foreign.int else TENANT).hex,
                name=f"d{number}",
                type="default",
                created_time=EPOCH_MS,
                additional_info=info,
                version=1,
            )
    store = sql_store(url)
    store.open(first_records=lambda: pytest.fail("it is in use"))
    found = await store.rules.relations(TENANT)
    assert [(each.source, each.target.int, each.type, each.additional_info) for each in found] == [
        (gateway, 601, CREATED, None),
        (gateway, 610, CREATED, None),
    ]
    assert await store.rules.relations(OTHER_TENANT) == []
    await store.close()


@pytest_twisted.ensureDeferred
async def test_a_newer_schema_is_refused_and_left_alone(url: str, engine: Engine) -> None:
    schema.ensure_schema(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    before = all_rows(engine)
    with pytest.raises(StoreError, match=r"schema version 9999, newer than this program's \d+"):
        sql_store(url).open(first_records=first_records)
    assert all_rows(engine) == before
