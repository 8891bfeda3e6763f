"""The audit log on the command line."""

from __future__ import annotations

import json

import pytest
from fakes import result_of
from real_shell import RealShell


@pytest.fixture
def admin(real: RealShell) -> RealShell:
    """After a device was made, and called in vain."""
    real.as_admin().says("device", "add", "lamp")
    assert real.run("call", "lamp", "getValue", "--connect-timeout", "0").exit_code == 5
    result_of(real.rest.rest.flush())
    return real


def actions(text: str) -> list[str]:
    return [each["actionType"] for each in json.loads(text)]


def test_the_newest_is_the_last_line_and_failures_say_why(admin: RealShell) -> None:
    lines = admin.says("audit").splitlines()
    assert lines[0].split() == ["TIME", "(UTC)", "USER", "ACTION", "WHAT", "RESULT", "DETAILS"]
    assert lines[1].split()[2:6] == ["Admin@example.org", "ADDED", "device", "lamp"]
    assert lines[-1].split()[2:6] == ["Admin@example.org", "RPC_CALL", "device", "lamp"]
    assert "NEVER_CONNECTED: The device has never connected" in lines[-1]
    assert "oneWay=false method=getValue" in lines[-1]
    assert not [line for line in lines if line.endswith(" ")]


def test_entries_are_chosen_by_device_user_and_action(admin: RealShell) -> None:
    assert actions(admin.says("audit", "--json", "--device", "lamp")) == ["ADDED", "CREDENTIALS_READ", "RPC_CALL"]
    assert actions(admin.says("audit", "--json", "--action", "rpc_call", "--action", "ADDED")) == ["ADDED", "RPC_CALL"]
    assert actions(admin.says("audit", "--json", "--user", "admin@example.org", "--action", "LOGIN")) == []
    assert admin.run("audit", "--device", "device-100").stderr == "There is nothing of that kind in the audit log.\n"


def test_only_so_many_are_shown_and_that_there_are_more_is_said(admin: RealShell) -> None:
    result = admin.run("audit", "--last", "1")
    assert len(result.stdout.splitlines()) == 2
    assert "RPC_CALL" in result.stdout
    assert result.stderr == "These are the newest 1 of 3; --last N shows more.\n"


def test_looking_back_is_counted_from_now(admin: RealShell) -> None:
    assert actions(admin.says("audit", "--json", "--since", "36500d")) == ["ADDED", "CREDENTIALS_READ", "RPC_CALL"]
    assert actions(admin.says("audit", "--json", "--since", "1h")) == [], "the test's clock stands in 2023"


def test_one_thing_is_asked_at_a_time(admin: RealShell) -> None:
    assert admin.run("audit", "--device", "lamp", "--user", "x").exit_code == 2
