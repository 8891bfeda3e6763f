"""`rpcbroker check`: what it prints, and that it changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import sqlalchemy as sa
from fake_broker import Shell
from kept_calls import EVERY_KIND, rpc_id
from sqlalchemy.pool import NullPool
from store_files import execute

from rpcbroker.host.lock import lock
from rpcbroker.store.call_writes import insert_row, write_calls
from rpcbroker.store.invariants import INVARIANTS


def fill(state: Path) -> Path:
    """Calls of every kind, made by a broker of long ago."""
    file = state / "rpcbroker.sqlite"
    engine = sa.create_engine(f"sqlite:///{file}", poolclass=NullPool)
    with engine.begin() as connection:
        errors, _ = write_calls(connection, [insert_row(kept) for kept in EVERY_KIND], [], [])
    assert errors == [None] * len(EVERY_KIND)
    return file


def test_a_store_that_is_well_is_a_line_for_each_invariant_and_stays_as_it_is(shell: Shell, state: Path) -> None:
    fill(state)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in state.iterdir()}
    result = shell.run("check", "--state-dir", str(state))
    assert (result.exit_code, result.stderr) == (0, "")
    *lines, last = result.stdout.splitlines()
    assert len(lines) == len(INVARIANTS)
    for line, invariant in zip(lines, INVARIANTS, strict=True):
        assert invariant.name in line
        assert invariant.sentence in line
        assert line.startswith("-     " if invariant.while_running else "ok    ")
    assert last == "10 calls, 3 devices: nothing broken"
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in state.iterdir()} == before


def test_what_is_broken_is_told_by_its_ids_and_is_exit_code_1(shell: Shell, state: Path) -> None:
    execute(fill(state), "UPDATE rpc SET params = 'x' WHERE wire_id IN (1, 2)")
    result = shell.run("check", "--state-dir", str(state))
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    (at,) = [n for n, line in enumerate(lines) if line.startswith("BROKEN")]
    assert " ".join(lines[at].split()) == "BROKEN params 2 the params of a call are JSON"
    assert {line.strip() for line in lines[at + 1 : at + 3]} == {str(rpc_id(1)), str(rpc_id(2))}
    assert lines[-1] == "10 calls, 3 devices: 1 broken"


def test_of_many_the_first_are_told(shell: Shell, state: Path) -> None:
    copies = [
        statement
        for number in range(12)
        for statement in (
            f"UPDATE copy SET id = '{number:032x}', wire_id = {number + 50}, params = 'x'",
            "INSERT INTO rpc SELECT * FROM copy",
        )
    ]
    execute(fill(state), "CREATE TEMPORARY TABLE copy AS SELECT * FROM rpc WHERE wire_id = 6", *copies)
    result = shell.run("check", "--state-dir", str(state))
    assert result.exit_code == 1
    assert "and 2 more" in result.stdout


def test_json_has_every_invariant(shell: Shell, state: Path) -> None:
    execute(fill(state), "UPDATE rpc SET omitted = -1 WHERE wire_id = 3")
    result = shell.run("check", "--json", "--state-dir", str(state))
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert (answer["broken"], answer["calls"], answer["devices"]) == (1, 10, 3)
    told = {each["name"]: (each["broken"], each["examples"]) for each in answer["invariants"]}
    assert [each["sentence"] for each in answer["invariants"]] == [each.sentence for each in INVARIANTS]
    assert told.pop("counts") == (1, [str(rpc_id(3))])
    assert told.pop("nothing overdue") == (None, [])
    assert set(map(repr, told.values())) == {"(0, [])"}


def test_beside_a_broker_that_runs_what_is_overdue_is_looked_at_too(shell: Shell, state: Path) -> None:
    fill(state)
    with lock(state):
        result = shell.run("check", "--state-dir", str(state))
    assert result.exit_code == 1
    assert "5  no call is overdue by more than a minute while a broker runs\n" in result.stdout


def test_a_store_that_cannot_be_verified_is_one_sentence(shell: Shell, state: Path) -> None:
    file = state / "rpcbroker.sqlite"
    execute(file, "UPDATE alembic_version SET version_num = '0001'")
    older = shell.run("check", "--state-dir", str(state))
    assert (older.exit_code, older.stdout) == (1, "")
    assert older.stderr.startswith("Error: the store has schema version 0001, older than this program's ")
    file.write_bytes(b"no database" * 1000)
    damaged = shell.run("check", "--state-dir", str(state))
    assert (damaged.exit_code, damaged.stdout) == (1, "")
    assert damaged.stderr == (
        f"Error: store {file}: file is not a database: put a backup in its place: rpcbroker restore FILE.\n"
    )
    file.unlink()
    gone = shell.run("check", "--state-dir", str(state))
    assert (gone.exit_code, gone.stderr) == (1, f"Error: there is no store at {file}.\n")
    assert not file.exists()
    away = shell.run(
        "check", "--state-dir", str(state), env={"RPCBROKER_STORE_URL": "postgresql+psycopg://u:geheim@127.0.0.1:1/x"}
    )
    assert away.exit_code == 1
    assert "refused" in away.stderr
    assert "geheim" not in away.stderr
