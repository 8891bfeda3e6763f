"""API keys: made and revoked by commands, and used by commands in the place of a login."""

from __future__ import annotations

import json
import time
from typing import Any
from uuid import UUID

import pytest
from real_shell import RealShell
from rest import BASE

from rpcbroker.core.model import Authority


@pytest.fixture
def admin(real: RealShell) -> RealShell:
    return real.as_admin()


def listed(shell: RealShell, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(shell.says("key", "list", "--json", *words))
    return found


def with_key(key: str) -> dict[str, str]:
    return {"RPCBROKER_URL": BASE, "RPCBROKER_API_KEY": key}


def test_the_key_alone_is_on_stdout_and_by_default_it_may_call(admin: RealShell) -> None:
    result = admin.run("key", "add", "cron")
    assert result.stdout.startswith("rpcb_")
    assert len(result.stdout.splitlines()) == 1
    assert "Made the key 'cron', call." in result.stderr
    key = listed(admin)[0]
    assert key["scope"] == {
        "access": "CALL",
        "methods": [],
        "oneway": True,
        "twoway": True,
        "deviceIds": [],
        "deviceTypes": [],
        "customerId": None,
    }
    assert (key["expirationTime"], "value" in key) == (0, False)


def test_every_rule_of_a_key_can_be_given(admin: RealShell) -> None:
    customer = admin.rest.add_customer("Shop")
    words = ("--method", "get*", "--method", "is*", "--twoway-only", "--type", "default", "--customer", "Shop")
    before = time.time()
    admin.says("key", "add", "k", "--access", "READ", *words, "--device", "device-100", "--expires", "30d")
    key = listed(admin)[0]
    assert key["scope"] == {
        "access": "READ",
        "methods": ["get*", "is*"],
        "oneway": False,
        "twoway": True,
        "deviceIds": [str(admin.rest.device.id)],
        "deviceTypes": ["default"],
        "customerId": {"entityType": "CUSTOMER", "id": str(customer.id)},
    }
    assert before <= key["expirationTime"] / 1000 - 30 * 86_400 <= time.time() + 1
    shown = "read; methods get*,is*; two-way only; 1 device; types default; devices of one customer"
    assert shown in admin.says("key", "list")


def test_a_key_that_may_call_nothing_is_a_usage_error(admin: RealShell) -> None:
    result = admin.run("key", "add", "k", "--oneway-only", "--twoway-only")
    assert (result.exit_code, admin.requests) == (2, [])


def test_an_administrator_makes_and_handles_keys_of_a_customers_user(admin: RealShell) -> None:
    customer = admin.rest.add_customer("Shop")
    admin.rest.add_user("ada@shop.example", Authority.CUSTOMER_USER, customer=customer.id)
    admin.says("key", "add", "hers", "--user", "ada@shop.example")
    admin.says("key", "add", "mine")
    assert [each["description"] for each in listed(admin)] == ["mine"]
    assert [each["description"] for each in listed(admin, "--user", "ada@shop.example")] == ["hers"]
    lines = [line.split()[:2] for line in admin.says("key", "list", "--all").splitlines()[1:]]
    assert lines == [["mine", "Admin@example.org"], ["hers", "ada@shop.example"]]
    assert admin.run("key", "revoke", "hers").exit_code == 4
    admin.says("key", "revoke", "hers", "--user", "ada@shop.example")
    assert listed(admin, "--user", "ada@shop.example") == []


def test_a_key_is_disabled_enabled_and_revoked_at_once(admin: RealShell) -> None:
    environ = with_key(admin.says("key", "add", "cron").strip())
    for command, exit_code in (("disable", 3), ("enable", 0), ("revoke", 3)):
        admin.says("key", command, "cron")
        assert admin.run("device", "list", env=environ).exit_code == exit_code, command


def test_two_keys_of_one_description_are_told_apart_by_their_ids(admin: RealShell) -> None:
    for _ in range(2):
        admin.says("key", "add", "cron")
    result = admin.run("key", "revoke", "cron")
    assert result.exit_code == 1
    ids = {each["id"]["id"] for each in listed(admin)}
    assert {word.rstrip(",") for word in result.stderr.split() if word.count("-") == 4} == ids
    admin.says("key", "revoke", ids.pop())
    assert [each["id"]["id"] for each in listed(admin)] == list(ids)


def test_an_unknown_key_is_exit_code_4(admin: RealShell) -> None:
    assert admin.run("key", "revoke", "nothing").exit_code == 4
    assert admin.run("key", "revoke", str(UUID(int=7))).exit_code == 4


# -- in the place of a login


def test_with_a_key_no_login_is_needed_and_nothing_is_kept(real: RealShell) -> None:
    environ = with_key(real.as_admin().says("key", "add", "cron").strip())
    real.login_file.unlink()
    assert "device-100" in real.says("device", "list", env=environ)
    assert not real.login_file.exists()


def test_a_key_goes_before_a_login(admin: RealShell) -> None:
    assert admin.run("device", "list", env=with_key("rpcb_wrong")).stderr == "Error: Invalid API key.\n"
    assert [path for _, path, _ in admin.requests] == [admin.requests[0][1]], "it is not tried again, nor renewed"


def test_the_rule_that_forbids_is_named_and_the_exit_code_is_3(admin: RealShell) -> None:
    environ = with_key(admin.says("key", "add", "cron", "--method", "get*").strip())
    result = admin.run("call", "device-100", "setValue", "1", env=environ)
    assert result.exit_code == 3
    assert result.stderr == "Error: The API key may not call this method.\nHint: Its rule 'methods' allows get*.\n"


def test_a_key_without_a_url_is_sent_nowhere(admin: RealShell) -> None:
    result = admin.run("device", "list", env={"RPCBROKER_API_KEY": "rpcb_x"})
    assert (result.exit_code, admin.requests) == (2, [])
    assert "RPCBROKER_URL" in result.stderr


@pytest.mark.parametrize("words", [("token",), ("user", "password", "--password-stdin")])
def test_what_only_a_login_can_do_says_so(admin: RealShell, words: tuple[str, ...]) -> None:
    environ = with_key(admin.says("key", "add", "cron").strip())
    result = admin.run(*words, env=environ, input="a password\nanother one\n")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "RPCBROKER_API_KEY" in result.stderr
