"""From nothing to a fleet, as an operator does it: the real commands against the real daemon."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator

import pytest
from daemon import EMAIL, PASSWORD, Daemon, wait_for
from operating import Operator

ROOT, BOSS, CLERK = "root@example.org", "boss@acme.example", "clerk@shop.example"


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    directory = tmp_path_factory.mktemp("broker")
    broker = Daemon(directory)
    yield Operator(directory, broker)
    broker.stop()
    assert "Traceback" not in broker.log.read_text()


def test_from_nothing_to_a_fleet_in_two_tenants(operator: Operator) -> None:
    state = str(operator.broker.state)
    operator.run("sysadmin", "add", ROOT, "--state-dir", state, "--password-stdin", text="root secret")
    assert ROOT in operator.gets("sysadmin", "list", "--state-dir", state)
    operator.log_in(ROOT, "root secret")
    operator.activate(operator.gets("tenant", "add", "ACME", BOSS), "boss secret")
    operator.run("device", "list", code=3)

    operator.log_in(BOSS, "boss secret")
    operator.run("customer", "add", "Shop")
    operator.activate(operator.gets("user", "add", CLERK, "--customer", "Shop"), "clerk secret")

    fleet = 'name;type;customer;gateway;description;token\nlamp;light;Shop;;"=it is; green";LAMP\ngw;;;true;;\nx;;Nobody;;;\n'
    (operator.directory / "fleet.csv").write_text(fleet)
    assert operator.results("fleet.csv", "--dry-run", code=1) == ["created", "created", "failed"]
    assert operator.results("fleet.csv", code=1) == ["created", "created", "failed"]
    assert operator.results("-", text=fleet, code=1) == ["unchanged", "unchanged", "failed"]

    operator.run("device", "export", "whole.csv", "--with-credentials")
    assert stat.S_IMODE((operator.directory / "whole.csv").stat().st_mode) == 0o600
    assert operator.results("whole.csv") == ["unchanged", "unchanged"]
    operator.run("device", "export", "fleet.json")
    before = operator.gets("device", "export")

    operator.log_in(EMAIL, PASSWORD)
    operator.run("customer", "add", "Shop")
    assert operator.results("fleet.json") == ["created", "created"]
    assert operator.results("fleet.json") == ["unchanged", "unchanged"]
    assert operator.gets("device", "export") == before

    operator.log_in(ROOT, "root secret")
    operator.run("tenant", "delete", "ACME", "--yes")
    operator.run("login", operator.broker.http, "-u", BOSS, "--password-stdin", text="boss secret", code=3)


def test_a_key_is_held_to_its_rules_and_revoked_at_once(operator: Operator) -> None:
    operator.log_in(EMAIL, PASSWORD)
    operator.run("device", "add", "board", "--token", "BOARD")
    key = operator.gets("key", "add", "cron", "--method", "get*", "--device", "board", "--expires", "1d")
    script = {"RPCBROKER_URL": operator.broker.http, "RPCBROKER_API_KEY": key, "XDG_CONFIG_HOME": "/nowhere"}
    with operator.simulator("board", "--gpio", "7"):
        assert operator.gets("call", "board", "getGpioStatus", **script) == '{"7":false}'
        refused = operator.run("call", "board", "setGpioStatus", "pin=7", "enabled=true", code=3, **script)
        assert refused.stderr == "Error: The API key may not call this method.\nHint: Its rule 'methods' allows get*.\n"
        operator.run("key", "revoke", "cron")
        operator.run("call", "board", "getGpioStatus", code=3, **script)

    def calls() -> list[tuple[str, str]]:
        entries = json.loads(operator.gets("audit", "--device", "board", "--action", "RPC_CALL", "--json"))
        return [(entry["actionStatus"], entry["actionData"]["apiKey"]) for entry in entries]

    wait_for(lambda: calls() == [("SUCCESS", "cron"), ("FAILURE", "cron")], "the entries of both calls")


def test_a_sysadmin_of_the_wrong_place_is_refused(operator: Operator) -> None:
    elsewhere = operator.directory / "elsewhere"
    said = operator.run("sysadmin", "add", ROOT, "--state-dir", str(elsewhere), "--password-stdin", text="x", code=1)
    assert "There is no store at" in said.stderr
    assert not os.path.exists(elsewhere)
