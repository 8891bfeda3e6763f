"""`rpcbroker doctor`: each check says what is good, and each is made to fail once."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from examined import FREE, NOW, OK, PROBLEM, WARNING, said, subject_of
from fake_broker import Shell
from fakes import EPOCH_MS
from store_files import ask, execute, make_store

from rpcbroker.cli.checks import clock, files, limits, machine, stored
from rpcbroker.cli.checks.subject import Level, Subject, Verdicts
from rpcbroker.cli.checks.table import CHECKS, look, run
from rpcbroker.config import load
from rpcbroker.core.settings import Settings
from rpcbroker.store.examine import Examined
from rpcbroker.store.tables import SCHEMA_VERSION

# -- the command


def test_a_broker_that_is_well_has_no_problem(shell: Shell, state: Path) -> None:
    environ = {"RPCBROKER_HTTP_LISTEN": FREE, "RPCBROKER_MQTT_LISTEN": FREE, "RPCBROKER_COAP_LISTEN": ""}
    result = shell.run("doctor", "--state-dir", str(state), env=environ)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    good = {re.split(r" {2,}", line)[1] for line in lines if line.startswith("ok ")}
    assert good >= {"configuration", "state directory", "signing key", "store", "process", "ports"}
    assert not [line for line in lines if line.startswith("problem")]
    assert lines[-1].startswith("0 problems, ")


def test_a_problem_is_exit_code_1_and_comes_with_a_hint(shell: Shell, state: Path) -> None:
    (state / "jwt-signing-key").chmod(0o644)
    result = shell.run("doctor", "--state-dir", str(state), env={"RPCBROKER_MQTT_LISTEN": "tcp:0"})
    assert result.exit_code == 1
    assert f"others may open {state}/jwt-signing-key, which holds secrets\n" in result.stdout
    assert f"-> chmod 600 {state}/jwt-signing-key\n" in result.stdout


def test_json_has_every_check_once_at_least(shell: Shell, state: Path) -> None:
    environ = {"RPCBROKER_HTTP_LISTEN": "tcp:x", "RPCBROKER_MQTT_LISTEN": FREE, "RPCBROKER_COAP_LISTEN": ""}
    result = shell.run("doctor", "--json", "--state-dir", str(state), env=environ)
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["problems"] == 1
    assert {check["check"] for check in answer["checks"]} == set(CHECKS) - {"certificates"}
    assert {frozenset(check) for check in answer["checks"]} == {frozenset({"check", "level", "text", "hint"})}


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"RPCBROKER_RPC_MIN_TIMEOUT": "5 parsecs"}, "RPCBROKER_RPC_MIN_TIMEOUT"),
        ({"RPCBROKER_STORE_URL": "nonsense"}, "[store] url: it is no SQLAlchemy URL"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_the_one_thing_that_is_told(
    shell: Shell, state: Path, environ: dict[str, str], says: str
) -> None:
    result = shell.run("doctor", "--state-dir", str(state), env=environ)
    assert result.exit_code == 1
    line, hint, sum_ = result.stdout.splitlines()
    assert line.startswith("problem  configuration  ")
    assert says in line
    assert "All else depends on it" in hint
    assert sum_ == "1 problem, 0 warnings"


def test_no_secret_is_ever_printed(shell: Shell, state: Path) -> None:
    (state / "initial-admin-password").write_text("geheim\n")
    (state / "jwt-signing-key").write_text("geheim!")
    environ = {"RPCBROKER_STORE_URL": "postgresql+psycopg://u:geheim@127.0.0.1:1/x", "RPCBROKER_PASSWORD": "geheim"}
    for words in ([], ["--json"]):
        result = shell.run("doctor", *words, "--state-dir", str(state), env=environ)
        assert result.exit_code == 1
        assert "geheim" not in result.output
        assert "postgresql+psycopg://u:***@127.0.0.1:1/x cannot be read" in result.output


def test_nothing_is_changed(shell: Shell, state: Path) -> None:
    before = {path.name: path.read_bytes() for path in state.iterdir()}
    shell.run("doctor", "--state-dir", str(state))
    assert {path.name: path.read_bytes() for path in state.iterdir()} == before


def test_a_check_that_fails_says_so_and_the_others_go_on(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_: Subject) -> Verdicts:
        raise PermissionError(13, "Permission denied", "/some/file")
        yield

    monkeypatch.setitem(CHECKS, "store", failing)
    found = dict(run(subject_of(state)))
    assert found["store"].text == "cannot be checked: /some/file: Permission denied"
    assert found["store"].level is PROBLEM
    assert set(found) == set(CHECKS)


# -- configuration, state directory, signing key


def test_warnings_of_the_configuration_are_told(state: Path) -> None:
    said(files.configuration(subject_of(state)), (OK, "can be used"))
    subject = subject_of(state, environ={"RPCBROKER_RPC_MIN_TIMOUT": "3"})
    said(files.configuration(subject), (WARNING, "RPCBROKER_RPC_MIN_TIMOUT sets nothing"))


def test_a_state_directory(state: Path, tmp_path: Path) -> None:
    said(files.state_directory(subject_of(state)), (OK, "its secrets are its owner's alone"))
    said(files.state_directory(subject_of(tmp_path / "none")), (WARNING, "is not there"))
    (tmp_path / "file").touch()
    said(files.state_directory(subject_of(tmp_path / "file")), (PROBLEM, "is no directory"))


def test_a_state_directory_that_cannot_be_written_to(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    said(files.state_directory(subject_of(state)), (PROBLEM, "may not write there"))


@pytest.mark.parametrize(
    "name", ["jwt-signing-key", "initial-admin-password", "rpcbroker.sqlite", "rpcbroker.sqlite.before-0002-was-0001"]
)
def test_secrets_that_others_can_open(state: Path, name: str) -> None:
    (state / name).touch()
    (state / name).chmod(0o640)
    (found,) = said(files.state_directory(subject_of(state)), (PROBLEM, f"{name}, which holds secrets"))
    assert found.hint == f"chmod 600 {state / name}"


def test_a_state_directory_that_others_can_write_to(state: Path) -> None:
    state.chmod(0o770)
    said(files.state_directory(subject_of(state)), (PROBLEM, f"others may write to {state}"))


def test_a_secret_of_another_owner(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject, real = subject_of(state), Path.stat

    def stat(path: Path, **more: Any) -> os.stat_result:
        status = list(real(path, **more))
        status[4] += path.name == "rpcbroker.sqlite"
        return os.stat_result(status)

    monkeypatch.setattr(Path, "stat", stat)
    said(files.state_directory(subject), (PROBLEM, "have different owners"))


@pytest.mark.parametrize(
    ("text", "level", "says"),
    [
        ("ab" * 64, OK, "it has 64 bytes"),
        ("ab" * 63, PROBLEM, "has 63 bytes, 64 are needed"),
        ("no key", PROBLEM, "is no key"),
        ("\ufffd", PROBLEM, "is no key"),
        (None, WARNING, "there is none"),
    ],
)
def test_the_signing_key(state: Path, text: str | None, level: Level, says: str) -> None:
    path = state / "jwt-signing-key"
    path.unlink() if text is None else path.write_text(text)
    said(files.signing_key(subject_of(state)), (level, says))


def test_no_signing_key_before_the_first_start(tmp_path: Path) -> None:
    said(files.signing_key(subject_of(tmp_path)), (OK, "the first start makes one"))


def test_a_signing_key_that_cannot_be_read(state: Path) -> None:
    (state / "jwt-signing-key").unlink()
    (state / "jwt-signing-key").mkdir()
    said(files.signing_key(subject_of(state)), (PROBLEM, "cannot be read"))


# -- store and disk


def test_a_store_that_is_whole(state: Path) -> None:
    said(stored.store(subject_of(state)), (OK, f"KiB, whole, 3 devices, schema version {SCHEMA_VERSION}"))


@pytest.mark.parametrize(
    ("version", "level", "says"), [("9999", PROBLEM, "newer than this"), ("0000", WARNING, "older than this")]
)
def test_a_store_of_another_version(state: Path, version: str, level: Level, says: str) -> None:
    execute(state / "rpcbroker.sqlite", f"UPDATE alembic_version SET version_num = '{version}'")
    said(stored.store(subject_of(state)), (level, says))


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    said(stored.store(subject_of(tmp_path)), (WARNING, "the first start makes it"))


def test_a_store_that_is_empty(tmp_path: Path) -> None:
    (tmp_path / "rpcbroker.sqlite").touch()
    said(stored.store(subject_of(tmp_path)), (WARNING, "has no tables of ours"))


def test_a_store_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "rpcbroker.sqlite").write_text("x" * 5000)
    said(stored.store(subject_of(tmp_path)), (PROBLEM, "cannot be read: file is not a database"))


def test_a_store_that_is_damaged(tmp_path: Path) -> None:
    store = make_store(tmp_path / "rpcbroker.sqlite", devices=200)
    (root,) = ask(store, "SELECT rootpage FROM sqlite_schema WHERE name = 'ix_device_created'")[0]
    with store.open("r+b") as file:
        file.seek((root - 1) * 4096 + 3)
        file.write(b"\x7f\x00")
    said(stored.store(subject_of(tmp_path)), (PROBLEM, "is damaged: "))


def test_a_server_that_cannot_be_reached(tmp_path: Path) -> None:
    subject = subject_of(tmp_path, environ={"RPCBROKER_STORE_URL": "postgresql+psycopg://u@127.0.0.1:1/x"})
    (found,) = said(stored.store(subject), (PROBLEM, "refused"))
    assert found.hint is not None
    assert "password" in found.hint
    said(stored.disk(subject), (OK, "on a server"))


@pytest.mark.parametrize(
    ("free", "level"), [(stored.FULL - 1, PROBLEM), (stored.FULL, WARNING), (stored.ROOM, WARNING), (1 << 40, OK)]
)
def test_room_on_the_disk(state: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: Level) -> None:
    class Usage:
        def __init__(self) -> None:
            self.free = free

    monkeypatch.setattr(stored, "disk_usage", lambda _path: Usage())
    said(stored.disk(subject_of(state)), (level, "are free at"))


def test_half_a_copy_that_was_left(state: Path) -> None:
    (state / ".rpcbroker-x").mkdir()
    said(stored.disk(subject_of(state)), (OK, "are free"), (WARNING, ".rpcbroker-x is half a copy"))


def test_room_where_nothing_is_yet(tmp_path: Path) -> None:
    said(stored.disk(subject_of(tmp_path / "not" / "yet")), (OK, f"are free at {tmp_path}"))


# -- clock, limits


@pytest.mark.parametrize(
    ("now", "newest_ms", "synchronised", "level", "says"),
    [
        (NOW, 0, True, OK, "and is synchronised"),
        (NOW, 0, None, OK, "is not known"),
        (NOW, 0, False, WARNING, "nothing keeps it synchronised"),
        (0.0, 0, True, PROBLEM, "it says 1970-01-01 00:00:00 UTC, which is before"),
        (NOW, int(NOW + clock.SLACK + 1) * 1000, True, PROBLEM, "but the store has a record of"),
        (NOW, int(NOW + clock.SLACK - 1) * 1000, True, OK, "and is synchronised"),
    ],
)
def test_the_clock(state: Path, now: float, newest_ms: int, synchronised: bool | None, level: Level, says: str) -> None:
    subject = replace(
        subject_of(state), now=now, synchronised=synchronised, examined=Examined(version="0001", newest=newest_ms)
    )
    said(clock.clock(subject), (level, says))


def test_the_newest_record_of_a_store_may_be_a_presence(state: Path) -> None:
    examined = subject_of(state).examined
    assert examined is not None
    assert examined.newest == EPOCH_MS
    store = state / "rpcbroker.sqlite"
    execute(store, f"INSERT INTO presence (device_id, seen_time) SELECT id, {EPOCH_MS + 5} FROM device LIMIT 1")
    examined = subject_of(state).examined
    assert examined is not None
    assert examined.newest == EPOCH_MS + 5


@pytest.mark.parametrize(("limit", "level"), [(102, PROBLEM), (103, WARNING), (10_102, WARNING), (10_103, OK)])
def test_open_files(state: Path, limit: int, level: Level) -> None:
    subject = replace(subject_of(state), open_files=limit)
    said(limits.open_files(subject), (level, f"may open {limit:,}; 3 devices, 10,000 HTTP connections"))


def test_the_limit_of_a_broker_that_runs_is_its_own(state: Path, tmp_path: Path) -> None:
    assert machine.open_files(str(os.getpid())) == machine.open_files(None)
    assert "the broker may open" in next(limits.open_files(replace(subject_of(state), holder="1"))).text


@pytest.mark.parametrize(
    ("free", "holder", "level"),
    [(None, None, OK), (1 << 40, None, OK), (limits.AT_REST, None, WARNING), (limits.AT_REST, "1", OK)],
)
def test_memory(state: Path, free: int | None, holder: str | None, level: Level) -> None:
    said(limits.memory(replace(subject_of(state), memory=free, holder=holder)), (level, "free"))


def test_this_machine_tells_what_it_has() -> None:
    assert machine.synchronised() in (True, False, None)
    assert machine.open_files("no such process") > 0
    free = machine.memory()
    assert free is None or free > 1 << 20


def test_settings_are_the_defaults_where_nothing_is_said(state: Path) -> None:
    assert look(load(None, {}), state, now=NOW).settings == Settings()
