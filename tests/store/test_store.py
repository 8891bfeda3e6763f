"""One contract for all stores, and what only a database has to keep."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_twisted
from fakes import CUSTOMER, EPOCH_MS, OTHER_TENANT, TENANT, device, first_records, token
from sqlalchemy import create_engine, text
from twisted.internet import reactor
from twisted.internet.defer import gatherResults

from rpcbroker.core.errors import AlreadyExists, NotFound, Unavailable, VersionConflict
from rpcbroker.core.model import DeviceFilter, LastPresence, PageLink
from rpcbroker.core.ports import StoreError
from rpcbroker.store import schema, tables
from rpcbroker.store.database import ThreadedDatabase
from rpcbroker.store.memory import MemoryStore
from rpcbroker.store.sql import SqlStore, matching_query


def sql_store(url: str, *, max_queue: int = 10_000) -> SqlStore:
    database = ThreadedDatabase(url, call_from_thread=reactor.callFromThread, max_queue=max_queue)
    return SqlStore(database, cache_size=100)


def url_of(path: Path) -> str:
    return f"sqlite:///{path / 'store.sqlite'}"


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """A PostgreSQL of our own on a socket of its own; its URL."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL is not installed: apt-get install postgresql")
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    home = Path(tempfile.mkdtemp(prefix="pg-"))
    as_user: list[str] = []
    if os.getuid() == 0:
        shutil.chown(home, "nobody")
        as_user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    data = home / "data"
    initdb = [*as_user, str(binaries[-1] / "initdb"), "-D", str(data), "-U", "rpcbroker", "-A", "trust", "-N"]
    subprocess.run(initdb, check=True, capture_output=True, cwd=home)
    server = subprocess.Popen(
        [*as_user, str(binaries[-1] / "postgres"), "-D", str(data), "-k", str(home), "-h", "", "-F"],
        cwd=home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stderr is not None
    for line in server.stderr:
        if "ready to accept connections" in line:
            break
    yield f"postgresql+psycopg://rpcbroker@/postgres?host={home}"
    server.send_signal(signal.SIGINT)
    server.wait(10)
    server.stderr.close()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "memory":
        made: Any = MemoryStore()
    elif request.param == "sqlite":
        made = sql_store(url_of(tmp_path))
    else:
        url = request.getfixturevalue("postgresql")
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        engine.dispose()
        made = sql_store(url)
    made.open(first_records=first_records)
    yield made
    pytest_twisted.blockon(made.close())


@pytest_twisted.ensureDeferred
async def test_the_first_records_are_there(store: Any) -> None:
    user = await store.people.user_by_email("ADMIN@EXAMPLE.ORG")
    assert user == first_records()[1]
    assert await store.people.user(user.id) == user
    assert await store.people.user_by_email("nobody@example.org") is None
    assert await store.people.user(UUID(int=99)) is None


@pytest_twisted.ensureDeferred
async def test_a_device_is_found_again_in_every_way(store: Any) -> None:
    made = device(label="l", additional_info={"gateway": True, "n": [1, None]})
    await store.create_device(made, token(made))
    assert await store.device(made.id) == made
    assert await store.device(made.id) == made
    assert await store.device_by_name(TENANT, made.name) == made
    assert await store.device_by_name(OTHER_TENANT, made.name) is None
    assert await store.credentials(made.id) == token(made)
    assert await store.matching_credentials(["x", "TOKEN100"]) == ((token(made), made),)
    assert await store.matching_credentials(["x"]) == ()


@pytest_twisted.ensureDeferred
async def test_names_and_tokens_are_unique(store: Any) -> None:
    await store.create_device(device(1), token(device(1)))
    with pytest.raises(AlreadyExists, match="Device with such name already exists!"):
        await store.create_device(replace(device(2), name="device-1"), token(device(2)))
    with pytest.raises(AlreadyExists, match="Specified credentials are already registered!"):
        await store.create_device(device(3), token(device(3), "TOKEN1"))
    assert await store.device(UUID(int=3)) is None, "half a device"
    await store.create_device(device(4), token(device(4)))
    with pytest.raises(AlreadyExists):
        await store.update_device(replace(device(4), name="device-1", version=2))
    with pytest.raises(AlreadyExists):
        await store.update_credentials(replace(token(device(4)), credentials_id="TOKEN1", version=2))


@pytest_twisted.ensureDeferred
async def test_changes_are_seen_at_once_and_versions_are_checked(store: Any) -> None:
    await store.create_device(device(), token(device()))
    assert await store.device(device().id)
    assert await store.matching_credentials(["TOKEN100"])
    changed = replace(device(), label="new", version=2)
    await store.update_device(changed)
    assert await store.device(changed.id) == changed
    assert (await store.matching_credentials(["TOKEN100"]))[0][1] == changed
    with pytest.raises(VersionConflict):
        await store.update_device(replace(device(), label="other", version=2))
    with pytest.raises(NotFound):
        await store.update_device(replace(device(5), version=2))
    await store.update_credentials(replace(token(device()), credentials_id="NEW", version=2))
    assert await store.matching_credentials(["TOKEN100"]) == ()
    assert await store.matching_credentials(["NEW"])


@pytest_twisted.ensureDeferred
async def test_a_deleted_device_leaves_nothing(store: Any) -> None:
    await store.create_device(device(), token(device()))
    await store.save_presence([LastPresence(device_id=device().id, connected_time=1)])
    assert await store.delete_device(device().id) is True
    assert await store.delete_device(device().id) is False
    assert await store.device(device().id) is None
    assert await store.credentials(device().id) is None
    assert await store.matching_credentials(["TOKEN100"]) == ()
    assert await store.presence(device().id) is None


@pytest_twisted.ensureDeferred
async def test_presence_is_replaced_and_passes_over_what_is_gone(store: Any) -> None:
    await store.create_device(device(), token(device()))
    mine = LastPresence(device_id=device().id, connected_time=1, connected_cause="c", seen_time=2, seen_cause="s")
    await store.save_presence([mine, LastPresence(device_id=UUID(int=404))])
    assert await store.presence(device().id) == mine
    later = replace(mine, disconnected_time=5, disconnected_cause="gone")
    await store.save_presence([later])
    assert await store.presence(device().id) == later
    assert await store.presence(UUID(int=404)) is None


@pytest_twisted.ensureDeferred
async def test_lists(store: Any) -> None:
    for number in range(5):
        made = replace(
            device(200 + number, type="pump" if number % 2 else "valve"),
            name=f"D_{number}%",
            created_time=EPOCH_MS - number,
            customer_id=CUSTOMER if number < 2 else None,
        )
        await store.create_device(made, token(made))

    async def names(*customers: UUID, types: tuple[str, ...] = (), **link: Any) -> tuple[list[str], int]:
        wanted = DeviceFilter(tenant_id=TENANT, customer_ids=customers, types=types)
        page = await store.devices(wanted, PageLink(**{"page_size": 10} | link))
        return [item.device.name for item in page.items], page.total

    assert await names() == (["D_4%", "D_3%", "D_2%", "D_1%", "D_0%"], 5)
    assert await names(page_size=2, page=1, sort_property="name") == (["D_2%", "D_3%"], 5)
    assert await names(page_size=2, page=9) == ([], 5)
    assert await names(sort_property="name", descending=True, page_size=1) == (["D_4%"], 5)
    assert (await names(types=("pump",)))[1] == 2
    assert (await names(text_search="d_1"))[1] == 1
    assert (await names(text_search="%"))[1] == 5
    assert (await names(text_search="_%_"))[1] == 0, "wildcards are letters"
    assert (await names(CUSTOMER))[1] == 2
    page = await store.devices(DeviceFilter(tenant_id=OTHER_TENANT), PageLink(page_size=10))
    assert page.total == 0


@pytest_twisted.ensureDeferred
async def test_a_tenant_is_found_again_and_in_the_list(store: Any) -> None:
    tenant, _ = first_records()
    assert await store.people.tenant(tenant.id) == tenant
    changed = replace(tenant, title="Renamed", contact={"city": "Zwolle"}, version=2)
    await store.people.update_tenant(changed)
    assert await store.people.tenant(tenant.id) == changed
    assert (await store.people.tenants(PageLink(page_size=10, sort_property="title"))).items == (changed,)


# -- databases only


@pytest_twisted.ensureDeferred
async def test_what_was_kept_is_there_after_a_restart(tmp_path: Path) -> None:
    store = sql_store(url_of(tmp_path))
    assert store.open(first_records=first_records).first_start
    await gatherResults([store.reserve_wire_ids(8192), store.people.revoke_session("s", 5)])
    await store.close()
    again = sql_store(url_of(tmp_path))
    opened = again.open(first_records=lambda: pytest.fail("not empty"))
    assert (opened.first_start, opened.wire_ids_reserved, opened.revoked) == (False, 8192, {"s": 5})
    await again.close()
    with pytest.raises(Unavailable):
        await again.ping()


@pytest_twisted.ensureDeferred
async def test_many_writes_share_a_commit_and_a_bad_one_fails_alone(tmp_path: Path) -> None:
    store = sql_store(url_of(tmp_path))
    store.open(first_records=first_records)
    many = [device(1000 + n) for n in range(200)]
    await gatherResults([store.create_device(one, token(one)) for one in many])
    assert store.commits < 50
    outcomes: list[Any] = []
    for number in (1, 1000, 2):  # 1000 is taken
        one = replace(device(number + 5000), name=f"device-{number}")
        store.create_device(one, token(one)).addBoth(outcomes.append)
    await store.ping()
    await store.close()
    assert [getattr(outcome, "type", None) for outcome in outcomes] == [None, AlreadyExists, None]


@pytest_twisted.ensureDeferred
async def test_a_full_queue_refuses(tmp_path: Path) -> None:
    store = sql_store(url_of(tmp_path), max_queue=0)
    store.open(first_records=first_records)
    with pytest.raises(Unavailable):
        await store.reserve_wire_ids(1)
    await store.close()


@pytest_twisted.ensureDeferred
async def test_the_cache_never_holds_what_a_write_made_old(tmp_path: Path) -> None:
    store = sql_store(url_of(tmp_path))
    store.open(first_records=first_records)
    await store.create_device(device(), token(device()))
    version = 1
    for _ in range(50):
        version += 1
        racing = store.device(device().id)
        await store.update_device(replace(device(), version=version))
        await racing
        assert (await store.device(device().id)).version == version
    await store.close()


def test_a_row_is_there_after_kill_9(tmp_path: Path) -> None:
    program = f"""
import os, sys
sys.path[:0] = {sys.path!r}
from twisted.internet import reactor
from test_store import *
store = sql_store({url_of(tmp_path)!r})
store.open(first_records=first_records)
def made():
    store.create_device(device(), token(device())).addCallback(lambda _: os.kill(os.getpid(), 9))
reactor.callWhenRunning(made)
reactor.run()
"""
    where = {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run([sys.executable, "-c", program], check=False, env=os.environ | where, timeout=60)
    assert done.returncode == -9
    rows = sqlite3.connect(tmp_path / "store.sqlite").execute("SELECT name FROM device").fetchall()
    assert rows == [("device-100",)]


@pytest_twisted.ensureDeferred
async def test_files_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    store = sql_store(url_of(tmp_path))
    store.open(first_records=first_records)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    await store.close()
    assert "store.sqlite-wal" in modes
    assert set(modes.values()) == {0o600}


@pytest_twisted.ensureDeferred
async def test_a_login_is_an_index_search(tmp_path: Path) -> None:
    store = sql_store(url_of(tmp_path))
    store.open(first_records=first_records)
    await store.close()
    query = str(matching_query(["a", "b"]).compile(compile_kwargs={"literal_binds": True}))
    plan = sqlite3.connect(tmp_path / "store.sqlite").execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
    assert plan
    assert not [row for row in plan if "SCAN" in row[3]]


class TestSchema:
    def test_migrations_make_what_the_tables_say(self, tmp_path: Path) -> None:
        from alembic.autogenerate import compare_metadata
        from alembic.config import Config
        from alembic.migration import MigrationContext
        from alembic.script import ScriptDirectory

        config = Config()
        config.set_main_option("script_location", str(schema.MIGRATIONS))
        assert ScriptDirectory.from_config(config).get_current_head() == tables.SCHEMA_VERSION
        engine = create_engine(url_of(tmp_path))
        schema.ensure_schema(engine)
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, tables.metadata) == []
        engine.dispose()

    @pytest_twisted.ensureDeferred
    async def test_a_newer_schema_is_refused_and_left_alone(self, tmp_path: Path) -> None:
        await self._opened(tmp_path, "UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(StoreError, match=r"schema version 9999, newer than this program's \d+"):
            sql_store(url_of(tmp_path)).open(first_records=first_records)

    @pytest_twisted.ensureDeferred
    async def test_an_older_one_is_migrated_and_a_copy_is_kept(self, tmp_path: Path, monkeypatch: Any) -> None:
        await self._opened(tmp_path, "UPDATE alembic_version SET version_num = '0000'")
        migrated: list[Any] = []
        monkeypatch.setattr(schema, "migrate", migrated.append)
        engine = create_engine(url_of(tmp_path))
        schema.ensure_schema(engine)
        engine.dispose()
        assert len(migrated) == 1
        (copy,) = tmp_path.glob("store.sqlite.before-*")
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        assert sqlite3.connect(copy).execute("SELECT count(*) FROM user_account").fetchone() == (1,)

    async def _opened(self, tmp_path: Path, then: str) -> None:
        store = sql_store(url_of(tmp_path))
        store.open(first_records=first_records)
        await store.close()
        connection = sqlite3.connect(tmp_path / "store.sqlite")
        connection.execute(then)
        connection.commit()
        connection.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite:////nowhere/at/all.sqlite", "No such file or directory"),
        ("postgresql+psycopg://u@127.0.0.1:1/x", "refused"),
        ("nonsense", "Could not parse"),
        ("sqlite://", "needs a file"),
    ],
)
def test_a_store_that_cannot_be_opened_says_so_in_a_line(url: str, says: str) -> None:
    with pytest.raises(StoreError, match=says) as caught:
        sql_store(url).open(first_records=first_records)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_bytes(b"something else entirely" * 100)
    with pytest.raises(StoreError, match="not a database"):
        sql_store(url_of(tmp_path)).open(first_records=first_records)
