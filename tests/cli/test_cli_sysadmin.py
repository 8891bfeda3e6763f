"""System administrators, made in the store itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click.testing
import pytest
import pytest_twisted
from argon2 import PasswordHasher
from store_files import ask, execute
from twisted.internet import reactor

from rpcbroker.core.model import NULL_UUID
from rpcbroker.store.database import ThreadedDatabase
from rpcbroker.store.sql import SqlStore
from rpcbroker.store.tables import SCHEMA_VERSION

Run = Callable[..., click.testing.Result]
STORE = "rpcbroker.sqlite"


def nobody() -> Any:
    raise AssertionError("the store has users already")


@pytest.fixture
def running(state: Path) -> Iterator[SqlStore]:
    """A broker's own store, open."""
    database = ThreadedDatabase(f"sqlite:///{state / STORE}", call_from_thread=reactor.callFromThread, max_queue=10)  # type: ignore[attr-defined]
    store = SqlStore(database, cache_size=10)
    store.open(first_records=nobody)
    yield store
    pytest_twisted.blockon(store.close())


def add(
    run: Run, state: Path, email: str = "root@example.org", password: str = "root secret\n"
) -> click.testing.Result:
    return run("sysadmin", "add", email, "--state-dir", str(state), "--password-stdin", input=password)


@pytest_twisted.ensureDeferred
async def test_one_is_made_beside_a_running_broker_which_knows_it_at_once(
    run: Run, state: Path, running: SqlStore
) -> None:
    assert await running.people.user_by_email("root@example.org") is None
    result = add(run, state)
    assert (result.exit_code, result.stdout) == (0, "")
    user = await running.people.user_by_email("ROOT@example.org")
    assert (user.tenant_id, user.authority, user.enabled) == (NULL_UUID, "SYS_ADMIN", True)
    assert PasswordHasher().verify(user.password_hash, "root secret")


def test_who_is_connected_stays_connected(run: Run, state: Path, running: SqlStore) -> None:
    execute(state / STORE, "INSERT INTO presence (device_id, connected_time) SELECT id, 7 FROM device LIMIT 1")
    assert add(run, state).exit_code == 0
    assert ask(state / STORE, "SELECT connected_time, disconnected_time FROM presence") == [(7, None)]


def test_it_is_written_down_in_the_audit_log(run: Run, state: Path, running: SqlStore) -> None:
    add(run, state)
    rows = ask(state / STORE, "SELECT action, entity_name, user_name FROM audit")
    assert [(action, name) for action, name, _ in rows] == [("ADDED", "root@example.org")]
    assert rows[0][2].endswith(" on the broker's machine")


def test_the_password_is_asked_for_twice_and_not_shown(run: Run, state: Path, running: SqlStore) -> None:
    words = ("sysadmin", "add", "root@example.org", "--state-dir", str(state))
    assert "do not match" in run(*words, input="root secret\nanother\n").stderr
    result = run(*words, input="root secret\nroot secret\n")
    assert result.exit_code == 0
    assert "root secret" not in result.output


@pytest.mark.parametrize(
    ("email", "password", "says"),
    [
        ("admin@EXAMPLE.org", "root secret", "already exists!"),
        ("nobody", "root secret", "it must look like name@example.org"),
        ("root@example.org", "short", "a password must have 8 to 1024 characters."),
    ],
)
def test_what_cannot_be_is_said(run: Run, state: Path, running: SqlStore, email: str, password: str, says: str) -> None:
    before = ask(state / STORE, "SELECT count(*) FROM user_account")
    result = add(run, state, email, password)
    assert result.exit_code == 1
    assert says in result.stderr
    assert ask(state / STORE, "SELECT count(*) FROM user_account") == before


def test_they_are_listed(run: Run, state: Path, running: SqlStore) -> None:
    words = ("sysadmin", "list", "--state-dir", str(state))
    assert run(*words).stderr == "There is no system administrator. Add one: rpcbroker sysadmin add EMAIL\n"
    add(run, state)
    lines = run(*words).stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["EMAIL", "STATE"], ["root@example.org", "active"]]
    assert [each["email"] for each in json.loads(run(*words, "--json").stdout)] == ["root@example.org"]


def test_where_no_store_is_none_is_made_and_no_password_asked_for(run: Run, tmp_path: Path) -> None:
    result = run("sysadmin", "add", "root@example.org", "--state-dir", str(tmp_path / "elsewhere"))
    assert result.exit_code == 1
    assert f"Error: There is no store at {tmp_path / 'elsewhere' / STORE}.\nHint: " in result.stderr
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("version", "says"),
    [
        ("0001", f"has schema version 0001, older than this program's {SCHEMA_VERSION}: start the broker"),
        ("9999", f"has schema version 9999, newer than this program's {SCHEMA_VERSION}: use the newer program"),
    ],
)
def test_a_store_of_another_version_is_left_alone(run: Run, state: Path, version: str, says: str) -> None:
    execute(state / STORE, f"UPDATE alembic_version SET version_num = '{version}'")
    result = add(run, state)
    assert result.exit_code == 1
    assert says in result.stderr
    assert ask(state / STORE, "SELECT version_num FROM alembic_version") == [(version,)]


@pytest.mark.parametrize("content", [b"", b"this is no database at all, whatever its name says" * 100])
def test_what_is_no_store_is_said_to_be_none(run: Run, tmp_path: Path, content: bytes) -> None:
    (tmp_path / STORE).write_bytes(content)
    result = add(run, tmp_path)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.output


def test_the_place_is_that_of_twistd(run: Run, state: Path, running: SqlStore) -> None:
    result = run("sysadmin", "list", env={"STATE_DIRECTORY": str(state)})
    assert result.exit_code == 0


def test_the_configuration_may_name_another_store(run: Run, state: Path, running: SqlStore, tmp_path: Path) -> None:
    config = tmp_path / "rpcbroker.toml"
    config.write_text(f'[store]\nurl = "sqlite:///{state / STORE}"\n')
    assert run("sysadmin", "list", "--config", str(config), "--state-dir", "/nowhere").exit_code == 0
    config.write_text("[store]\nurl = 1\n")
    assert run("sysadmin", "list", "--config", str(config)).exit_code == 1
