"""Tenants, customers, users: the commands for those who look after them."""

from __future__ import annotations

import json
import shlex
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from fakes import result_of
from real_shell import RealShell
from rest import BASE, PASSWORD

from rpcbroker.cli.answers import Answer
from rpcbroker.core.model import NULL_UUID, Authority

ROOT = "root@example.org"


@pytest.fixture
def root(real: RealShell) -> RealShell:
    """As a system administrator."""
    real.rest.add_user(ROOT, Authority.SYS_ADMIN, tenant=NULL_UUID)
    return real.as_(real.user(ROOT))


@pytest.fixture
def admin(real: RealShell) -> RealShell:
    """As a tenant's administrator, with the customer Shop."""
    real.rest.add_customer("Shop")
    return real.as_admin()


def refuses(status: int, wanted: str) -> Any:
    """Answers of a broker that refuses one kind of request."""

    def before(method: str, path: str) -> Answer | None:
        body = {"status": status, "message": "Not now", "errorCode": 2, "timestamp": 1}
        return Answer(status, {}, msgspec.json.encode(body)) if f"{method} {path}".startswith(wanted) else None

    return before


# -- tenants


def test_a_tenant_is_made_with_an_administrator_who_can_log_in_after_activation(root: RealShell) -> None:
    link = root.says("tenant", "add", "ACME", "boss@acme.example").strip()
    assert link.startswith(f"{BASE}/api/noauth/activate?activateToken=")
    result = root.run("activate", link, "--password-stdin", input="boss secret\n")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "boss@acme.example has a password now. Next: rpcbroker login" in result.stderr
    assert root.can_log_in("boss@acme.example", "boss secret")
    boss = root.user("boss@acme.example")
    assert boss.authority is Authority.TENANT_ADMIN
    tenant = result_of(root.rest.store.people.tenant(boss.tenant_id))
    assert tenant is not None
    assert tenant.title == "ACME"


def test_a_tenant_whose_administrator_cannot_be_made_is_taken_back(root: RealShell) -> None:
    result = root.run("tenant", "add", "ACME", ROOT.upper())
    assert (result.exit_code, result.stdout) == (1, "")
    assert "already exists! The tenant ACME was taken back." in result.stderr
    assert "ACME" not in root.says("tenant", "list")


def test_what_is_there_after_two_failures_is_said(root: RealShell) -> None:
    root.rest.add_user("taken@example.org", Authority.SYS_ADMIN, tenant=NULL_UUID)
    root.before_request = refuses(503, "DELETE /api/tenant/")
    result = root.run("tenant", "add", "ACME", "taken@example.org")
    assert result.exit_code == 1
    assert "The tenant ACME is there, without an administrator: Not now." in result.stderr
    assert "Hint: rpcbroker user add EMAIL --tenant 'ACME', or rpcbroker tenant delete 'ACME'" in result.stderr
    root.before_request = lambda _method, _path: None
    assert root.says("user", "add", "boss@acme.example", "--tenant", "ACME").startswith(BASE)


def test_an_administrator_whose_link_cannot_be_had_is_said_to_be_there(root: RealShell) -> None:
    root.before_request = refuses(503, "GET /api/user/")
    result = root.run("tenant", "add", "ACME", "boss@acme.example")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "The user boss@acme.example is there, but its activation link could not be had: Not now." in result.stderr
    root.before_request = lambda _method, _path: None
    hint = result.stderr.splitlines()[-1].removeprefix("Hint: Try again: rpcbroker ")
    assert root.says(*shlex.split(hint)).startswith(BASE)


def test_tenants_are_listed_and_deleted_by_name(root: RealShell) -> None:
    root.says("tenant", "add", "ACME", "boss@acme.example")
    assert [line.split()[0] for line in root.says("tenant", "list").splitlines()] == ["NAME", "ACME", "Default"]
    assert [each["title"] for each in json.loads(root.says("tenant", "list", "--json"))] == ["ACME", "Default"]
    root.says("tenant", "delete", "ACME", "--yes")
    assert "ACME" not in root.says("tenant", "list")
    assert root.run("tenant", "delete", "ACME", "--yes").exit_code == 4


def test_a_tenant_is_not_for_its_own_administrators_to_make(admin: RealShell) -> None:
    assert admin.run("tenant", "add", "ACME", "boss@acme.example").exit_code == 3


@pytest.mark.parametrize(
    "words",
    [("tenant", "delete", "x"), ("customer", "delete", "x"), ("user", "delete", "x"), ("device", "delete", "x")],
)
def test_nothing_is_deleted_without_a_yes(real: RealShell, words: tuple[str, ...]) -> None:
    result = real.as_admin().run(*words)
    assert (result.exit_code, real.requests) == (2, [])
    assert "Hint: Add --yes" in result.stderr


@pytest.mark.parametrize(("answer", "exit_code"), [("y\n", 4), ("n\n", 1), ("\n", 1)])
def test_who_is_there_is_asked(real: RealShell, monkeypatch: pytest.MonkeyPatch, answer: str, exit_code: int) -> None:
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: self.name == "<stdin>", raising=False)
    assert real.as_admin().run("customer", "delete", "Nobody", input=answer).exit_code == exit_code


# -- customers


def test_customers_are_made_listed_and_deleted(admin: RealShell) -> None:
    assert admin.run("customer", "add", "Bakery").exit_code == 0
    assert [line.split()[0] for line in admin.says("customer", "list").splitlines()] == ["TITLE", "Bakery", "Shop"]
    admin.says("customer", "delete", "Bakery", "-y")
    assert [each["title"] for each in json.loads(admin.says("customer", "list", "--json"))] == ["Shop"]


def test_a_title_that_is_taken_and_one_that_is_not_there(admin: RealShell) -> None:
    assert "already exists" in admin.run("customer", "add", "Shop").stderr
    result = admin.run("customer", "delete", "Butcher", "--yes")
    assert (result.exit_code, result.stderr.splitlines()[0]) == (4, "Error: There is no customer titled 'Butcher'.")


# -- users


def test_a_customers_user_is_made_with_a_name(admin: RealShell) -> None:
    words = ("--customer", "Shop", "--first-name", "Ada", "--last-name", "L", "--phone", "1")
    token = parse_qs(urlsplit(admin.says("user", "add", "ada@shop.example", *words).strip()).query)["activateToken"][0]
    ada = admin.user("ada@shop.example")
    assert (ada.authority, ada.first_name, ada.last_name, ada.phone) == (Authority.CUSTOMER_USER, "Ada", "L", "1")
    assert admin.run("activate", token, "--password-stdin", input="ada's secret").exit_code == 0, "the token alone"
    assert admin.can_log_in("ada@shop.example", "ada's secret")


def test_the_activation_logs_nobody_in_and_leaves_no_session(admin: RealShell) -> None:
    link = admin.says("user", "add", "ada@shop.example", "--admin").strip()
    admin.run("activate", link, "--password-stdin", input="ada's secret")
    assert ("POST", "/api/auth/logout", 200) in admin.requests
    assert json.loads(admin.says("user", "list", "--json")), "still the administrator"


@pytest.mark.parametrize(
    "link", [f"{BASE}/api/noauth/activate", f"{BASE}/?activateToken=x", "ftp://x/api/noauth/activate?activateToken=x"]
)
def test_what_is_no_activation_link_is_not_sent_anywhere(admin: RealShell, link: str) -> None:
    result = admin.run("activate", link, "--password-stdin", input="secret secret")
    assert (result.exit_code, admin.requests) == (2, [])


def test_a_token_alone_needs_a_broker_that_is_known(real: RealShell) -> None:
    result = real.run("activate", "token", "--password-stdin", input="secret secret")
    assert (result.exit_code, real.requests) == (2, [])
    assert "Hint: Give the whole link, or set RPCBROKER_URL." in result.stderr


def test_a_link_that_was_used_is_an_error(admin: RealShell) -> None:
    link = admin.says("user", "add", "ada@shop.example", "--admin").strip()
    for exit_code in (0, 1):
        assert admin.run("activate", link, "--password-stdin", input="ada's secret").exit_code == exit_code


@pytest.mark.parametrize("words", [(), ("--admin", "--customer", "Shop"), ("--admin", "--tenant", "x")])
def test_what_a_user_is_to_be_is_said_once(admin: RealShell, words: tuple[str, ...]) -> None:
    result = admin.run("user", "add", "ada@shop.example", *words)
    assert (result.exit_code, admin.requests) == (2, [])


def test_the_list_of_users_has_their_customers_and_states(admin: RealShell) -> None:
    admin.says("user", "add", "ada@shop.example", "--customer", "Shop", "--first-name", "Ada")
    admin.rest.add_user("bob@example.org", Authority.TENANT_ADMIN)
    admin.says("user", "disable", "BOB@example.org")
    assert [line.split()[:-1] for line in admin.says("user", "list").splitlines()[1:]] == [
        ["Admin@example.org", "TENANT_ADMIN", "-", "-", "active"],
        ["ada@shop.example", "CUSTOMER_USER", "Shop", "Ada", "not", "activated"],
        ["bob@example.org", "TENANT_ADMIN", "-", "-", "disabled"],
    ]
    listed = json.loads(admin.says("user", "list", "--customer", "Shop", "--json"))
    assert [each["email"] for each in listed] == ["ada@shop.example"]


def test_a_disabled_user_is_kept_out_until_enabled(admin: RealShell) -> None:
    admin.rest.add_user("bob@example.org", Authority.TENANT_ADMIN)
    admin.says("user", "disable", "bob@example.org")
    assert not admin.can_log_in("bob@example.org")
    admin.as_admin().says("user", "enable", "bob@example.org")
    assert admin.can_log_in("bob@example.org")


def test_a_reset_password_is_gone_and_a_new_link_is_printed(admin: RealShell) -> None:
    admin.rest.add_user("bob@example.org", Authority.TENANT_ADMIN)
    link = admin.says("user", "reset-password", "bob@example.org").strip()
    assert not admin.can_log_in("bob@example.org")
    assert admin.as_admin().says("user", "link", "bob@example.org").strip() == link
    admin.run("activate", link, "--password-stdin", input="bob's new one")
    assert admin.can_log_in("bob@example.org", "bob's new one")


def test_who_is_activated_needs_no_link(admin: RealShell) -> None:
    admin.rest.add_user("bob@example.org", Authority.TENANT_ADMIN)
    result = admin.run("user", "link", "bob@example.org")
    assert (result.exit_code, result.stderr) == (1, "Error: User is already activated!\n")


def test_a_user_is_deleted_but_nobody_deletes_oneself(admin: RealShell) -> None:
    admin.rest.add_user("bob@example.org", Authority.TENANT_ADMIN)
    admin.says("user", "delete", "bob@example.org", "--yes")
    assert admin.run("user", "delete", "bob@example.org", "--yes").exit_code == 4
    assert admin.run("user", "delete", "admin@example.org", "--yes").exit_code == 1


def test_a_system_administrator_handles_tenants_administrators(root: RealShell) -> None:
    root.says("user", "disable", "admin@example.org", "--tenant", "Default")
    assert not root.user("admin@example.org").enabled
    assert "disabled" in root.says("user", "list", "--tenant", "Default")
    assert root.run("user", "enable", "admin@example.org").exit_code == 4, "none of the system administrators"


def test_an_email_is_not_taken_for_one_that_it_is_part_of(admin: RealShell) -> None:
    admin.rest.add_user("bob@example.org.uk", Authority.TENANT_ADMIN)
    assert admin.run("user", "delete", "bob@example.org", "--yes").exit_code == 4


# -- one's own password


def test_a_changed_password_ends_other_sessions_and_this_one_goes_on(admin: RealShell) -> None:
    other = admin.rest.pair().token
    result = admin.run("user", "password", "--password-stdin", input=f"{PASSWORD}\nnew password\n")
    assert result.exit_code == 0, result.output
    assert admin.run("user", "list").exit_code == 0
    assert admin.requests == [admin.requests[0]], "with the new token, at once"
    assert result_of_status(admin, other) == 401
    assert admin.can_log_in("admin@example.org", "new password")


def test_a_wrong_password_changes_nothing(admin: RealShell) -> None:
    result = admin.run("user", "password", "--password-stdin", input="wrong\nnew password\n")
    assert (result.exit_code, result.stderr) == (1, "Error: Current password doesn't match!\n")
    assert admin.can_log_in("admin@example.org")


def test_passwords_are_asked_for_and_a_new_one_twice(admin: RealShell) -> None:
    typed = f"{PASSWORD}\nnew password\nmistyped\nnew password\nnew password\n"
    result = admin.run("user", "password", input=typed)
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "new password\n" not in result.stderr
    assert admin.can_log_in("admin@example.org", "new password")


def test_an_empty_password_on_stdin_is_a_usage_error(admin: RealShell) -> None:
    result = admin.run("user", "password", "--password-stdin", input=f"{PASSWORD}\n")
    assert (result.exit_code, admin.requests) == (2, [])


def result_of_status(shell: RealShell, token: str) -> int:
    from twisted.internet.defer import Deferred

    status: int = result_of(Deferred.fromCoroutine(shell.rest.ask("GET", "/api/auth/user", token=token)))[0]
    return status
