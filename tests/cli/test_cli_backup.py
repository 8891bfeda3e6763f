"""`rpcbroker backup` and `rpcbroker restore` as people use them."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest
from fake_broker import Shell
from kept_calls import kept_call
from store_files import add_calls, ask, execute, make_store

from rpcbroker.core.calls import CallState
from rpcbroker.host.lock import lock

# -- backup


def test_backup_says_how_much_it_is_and_what_it_holds(shell: Shell, state: Path, tmp_path: Path) -> None:
    target = tmp_path / "b.sqlite"
    result = shell.run("backup", str(target), "--state-dir", str(state))
    assert (result.exit_code, result.stderr) == (0, "")
    said = rf"{target}: [0-9.]+ KiB, 3 devices, 1 user, schema version \d{{4}}\.\n"
    assert re.fullmatch(said, result.stdout), result.stdout
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_the_state_directory_is_found_as_twistd_finds_it(
    shell: Shell, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"STATE_DIRECTORY": str(state)}
    assert shell.run("backup", str(tmp_path / "1.sqlite"), env=environ).exit_code == 0
    monkeypatch.chdir(tmp_path)
    state.rename(tmp_path / "var")
    assert shell.run("backup", "2.sqlite").exit_code == 0
    assert (tmp_path / "1.sqlite").exists()
    assert (tmp_path / "2.sqlite").exists()


def test_the_configuration_may_name_another_store(shell: Shell, tmp_path: Path) -> None:
    store = make_store(tmp_path / "data" / "other.sqlite", devices=1)
    config = tmp_path / "c.toml"
    config.write_text(f'[store]\nurl = "sqlite:///{store}"\n')
    words = ("--config", str(config), "--state-dir", str(tmp_path / "none"))
    result = shell.run("backup", str(tmp_path / "b.sqlite"), *words)
    assert (result.exit_code, result.stderr) == (0, "")
    assert " 1 device, " in result.stdout
    assert not (tmp_path / "none").exists()


def test_an_existing_file_needs_force(shell: Shell, state: Path, tmp_path: Path) -> None:
    target = tmp_path / "b.sqlite"
    target.touch()
    result = shell.run("backup", str(target), "--state-dir", str(state))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: {target} exists already.\nHint: Name another file, or replace it: --force\n"
    assert shell.run("backup", str(target), "--state-dir", str(state), "--force").exit_code == 0
    assert ask(target, "SELECT count(*) FROM device") == [(3,)]


def test_no_store_there_is_told_with_what_to_name(shell: Shell, tmp_path: Path) -> None:
    result = shell.run("backup", str(tmp_path / "b.sqlite"), "--state-dir", str(tmp_path))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: there is no store at {tmp_path}/rpcbroker.sqlite.\nHint: Name the place")


@pytest.mark.parametrize(("command", "tool"), [("backup", "pg_dump"), ("restore", "pg_restore")])
def test_a_store_on_a_server_is_left_to_its_own_tools_and_its_password_is_not_shown(
    shell: Shell, tmp_path: Path, command: str, tool: str
) -> None:
    environ = {"RPCBROKER_STORE_URL": "postgresql+psycopg://user:geheim@host/db"}
    result = shell.run(command, str(tmp_path / "b"), "--state-dir", str(tmp_path), env=environ)
    assert result.exit_code == 1
    assert "Error: The store is a database on a server" in result.stderr
    assert f"{tool} " in result.stderr
    assert "geheim" not in result.output


@pytest.mark.parametrize("command", ["backup", "restore"])
@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"RPCBROKER_RPC_MIN_TIMEOUT": "5 parsecs"}, "RPCBROKER_RPC_MIN_TIMEOUT"),
        ({"RPCBROKER_STORE_URL": "nonsense"}, "[store] url: it is no SQLAlchemy URL"),
        ({"RPCBROKER_STORE_URL": "sqlite://"}, "[store] url: SQLite needs a file"),
    ],
)
def test_a_bad_configuration_is_a_sentence(
    shell: Shell, tmp_path: Path, command: str, environ: dict[str, str], says: str
) -> None:
    result = shell.run(command, str(tmp_path / "b"), "--state-dir", str(tmp_path), env=environ)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert says in result.stderr


# -- restore


def test_restore_tells_what_is_there_now_and_where_the_old_store_is(shell: Shell, state: Path, tmp_path: Path) -> None:
    backup = make_store(tmp_path / "b.sqlite", devices=1)
    result = shell.run("restore", str(backup), "--state-dir", str(state))
    assert (result.exit_code, result.stderr) == (0, "")
    store = state / "rpcbroker.sqlite"
    first, kept, ids = result.stdout.splitlines()
    assert re.fullmatch(rf"Restored {store} from {backup}: [0-9.]+ KiB, 1 device, 1 user, .*\.", first)
    assert ids == "The ids of calls go on above 1,008,192."
    path = Path(kept.removeprefix("The store that was there is kept: "))
    assert re.fullmatch(r"rpcbroker\.sqlite\.before-restore-\d{8}T\d{6}Z", path.name)
    assert ask(path, "SELECT count(*) FROM device") == [(3,)]
    assert ask(store, "SELECT count(*) FROM device") == [(1,)]


def test_restore_on_a_new_machine_makes_the_state_directory(shell: Shell, tmp_path: Path) -> None:
    backup = make_store(tmp_path / "b.sqlite", devices=1)
    result = shell.run("restore", str(backup), "--state-dir", str(tmp_path / "new" / "state"))
    assert (result.exit_code, result.stderr) == (0, "")
    assert "kept" not in result.stdout
    assert "Users log in again: the key that signs their tokens will be a new one." in result.stdout
    new = tmp_path / "new" / "state"
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in (new, *new.iterdir())} == {
        "state": 0o700,
        "lock": 0o600,
        "rpcbroker.sqlite": 0o600,
    }


def test_restore_refuses_while_a_broker_runs(shell: Shell, state: Path, tmp_path: Path) -> None:
    backup = make_store(tmp_path / "b.sqlite", devices=1)
    with lock(state):
        result = shell.run("restore", str(backup), "--state-dir", str(state))
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"A broker runs on it: state directory {state}: the process {os.getpid()} uses it." in result.stderr
    assert "Hint: Stop it first" in result.stderr
    assert ask(state / "rpcbroker.sqlite", "SELECT count(*) FROM device") == [(3,)]


def test_no_broker_starts_while_the_store_is_replaced(
    shell: Shell, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = make_store(tmp_path / "b.sqlite", devices=1)
    seen = []

    def look(*_: object, **__: object) -> None:
        seen.append(shell.run("restore", str(backup), "--state-dir", str(state)).stderr)

    monkeypatch.setattr("rpcbroker.store.restore.flush", look)
    assert shell.run("restore", str(backup), "--state-dir", str(state)).exit_code == 0
    assert len(seen) == 1
    assert "uses it" in seen[0]


def test_restore_of_what_is_no_backup_is_a_sentence(shell: Shell, state: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("x" * 5000)
    result = shell.run("restore", str(tmp_path / "text"), "--state-dir", str(state))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: cannot copy {tmp_path}/text: file is not a database.\n"


def test_a_lost_store_is_said_to_have_lost_log_outs(shell: Shell, state: Path, tmp_path: Path) -> None:
    backup = make_store(tmp_path / "b.sqlite", devices=1)
    (state / "rpcbroker.sqlite").write_text("x" * 5000)
    result = shell.run("restore", str(backup), "--state-dir", str(state))
    assert result.exit_code == 0
    assert result.stderr.startswith("Warning: there was no store that could be read")
    assert f"remove {state}/jwt-signing-key before" in result.stderr


def test_restore_tells_what_becomes_of_calls_and_leaves_a_store_that_fits_together(
    shell: Shell, state: Path, tmp_path: Path
) -> None:
    """They are made to last for ever: what has expired by the clock of this machine would be no trouble."""
    store = state / "rpcbroker.sqlite"
    for_ever = "UPDATE rpc SET expiration_time = 1 << 60, latest_time = 1 << 60"
    backup = add_calls(make_store(tmp_path / "b.sqlite"), *(kept_call(number) for number in range(1, 6)))
    there = kept_call(2), kept_call(3, CallState.DELETED, ended=True), kept_call(4, CallState.EXPIRED, ended=True)
    add_calls(store, *there, kept_call(6))
    execute(store, for_ever, "UPDATE rpc SET moments = '[[' WHERE wire_id = 2")
    execute(backup, for_ever)
    result = shell.run("restore", str(backup), "--state-dir", str(state))
    assert result.exit_code == 0
    assert result.stdout.splitlines()[3:] == [
        "Ended since the backup, and not made again: 2 calls.",
        "Deleted since the backup, and ended for that: 2 calls.",
        "Made since the backup, still waiting in the store that was there, and not taken over: 1 call.",
    ]
    assert result.stderr == (
        "Warning: waiting calls may reach devices twice, for what became of them since the backup is not known: 1 call.\n"
    )
    assert shell.run("check", "--state-dir", str(state)).exit_code == 0


def test_a_lost_store_is_said_to_have_lost_what_devices_answered(shell: Shell, state: Path, tmp_path: Path) -> None:
    backup = add_calls(make_store(tmp_path / "b.sqlite"), kept_call(1), kept_call(2))
    execute(backup, "UPDATE rpc SET expiration_time = 1 << 60, latest_time = 1 << 60")
    (state / "rpcbroker.sqlite").write_text("x" * 5000)
    result = shell.run("restore", str(backup), "--state-dir", str(state))
    assert result.exit_code == 0
    assert "Warning: waiting calls may reach devices twice" in result.stderr
    assert "is not known: 2 calls.\n" in result.stderr


def test_a_state_directory_that_cannot_be_is_a_sentence(shell: Shell, tmp_path: Path) -> None:
    backup = make_store(tmp_path / "b.sqlite", devices=1)
    result = shell.run("restore", str(backup), "--state-dir", str(backup / "x"))
    assert (result.exit_code, result.stderr) == (1, f"Error: state directory {backup}/x: Not a directory.\n")


def test_when_root_restores_all_it_makes_belongs_to_the_owner_of_the_directory(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {}
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("os.chown", lambda path, user, group: given.setdefault(path.name, (user, group)))
    backup = make_store(tmp_path / "b.sqlite", devices=1)
    result = shell.run("restore", str(backup), "--state-dir", str(tmp_path / "state"))
    assert result.exit_code == 0
    owner = (tmp_path / "state").stat()
    assert given == dict.fromkeys(("lock", "copy.sqlite"), (owner.st_uid, owner.st_gid))
