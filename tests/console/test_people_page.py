"""The console's users, customers, API keys and tenants."""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from accounts import activated
from browser import Console, in_every_look
from daemon import EMAIL, PASSWORD, Daemon
from playwright.sync_api import expect

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def system_administrator(broker: Daemon) -> str:
    """The e-mail of one; the password is PASSWORD."""
    command = [sys.executable, "-m", "rpcbroker", "sysadmin", "add", "root@example.org"]
    more = ["--state-dir", str(broker.state), "--password-stdin"]
    subprocess.run([*command, *more], input=PASSWORD, text=True, check=True, timeout=60)
    return "root@example.org"


@in_every_look
def test_a_user_is_made_with_a_link_that_is_shown_to_copy(console: Console, broker: Daemon) -> None:
    email = f"<b>{console.look}</b>@example.org"
    page = console.open("#/people").page
    expect(console.row(EMAIL)).to_contain_text("you")
    page.get_by_role("button", name="New user").click()
    dialog = page.get_by_role("dialog")
    console.check()
    dialog.get_by_label("E-mail").fill(f"{console.look}@example.org")
    dialog.get_by_label("First name").fill(EVIL)
    dialog.get_by_role("button", name="Create").click()
    dialog.get_by_role("button", name="Copy the link").click()
    expect(dialog.get_by_role("button", name="Copied")).to_be_visible()
    link = page.evaluate("navigator.clipboard.readText()")
    assert link.startswith(broker.http)
    with urllib.request.urlopen(link, timeout=10) as answer:
        assert answer.status == 200
    console.check()
    dialog.get_by_role("button", name="Close").click()
    expect(console.row(f"{console.look}@example.org")).to_contain_text("invited")
    made = broker.ask("POST", "/api/user?sendActivationMail=false", {"email": email, "authority": "TENANT_ADMIN"})
    assert made[0] == 200
    page.get_by_label("Search").fill("<b>")
    expect(console.row(email)).to_be_visible()
    console.check()


def test_a_user_is_kept_out_let_in_again_and_deleted(console: Console, broker: Daemon) -> None:
    body = {"email": "in-and-out@example.org", "authority": "TENANT_ADMIN"}
    user = broker.ask("POST", "/api/user?sendActivationMail=false", body)[1]
    activated(broker, user["id"]["id"])
    page = console.open("#/people").page
    mine = console.row("in-and-out@example.org")
    expect(mine).to_contain_text("active")
    mine.get_by_role("button", name="Disable").click()
    page.get_by_role("dialog").get_by_role("button", name="Disable").click()
    expect(mine).to_contain_text("disabled")
    login = {"username": "in-and-out@example.org", "password": PASSWORD}
    assert broker.ask("POST", "/api/auth/login", login)[0] == 401
    mine.get_by_role("button", name="Enable").click()
    expect(mine).to_contain_text("active")
    assert broker.ask("POST", "/api/auth/login", login)[0] == 200
    mine.get_by_role("button", name="Reset password").click()
    page.get_by_role("dialog").get_by_role("button", name="Reset").click()
    expect(page.get_by_role("dialog")).to_contain_text("activateToken")
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    expect(mine).to_contain_text("invited")
    mine.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(mine).to_be_visible()
    mine.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(mine).to_have_count(0)


@in_every_look
def test_a_customer_is_made_and_given_a_device_and_a_user(console: Console, broker: Daemon) -> None:
    title = f"{EVIL} {console.look}"
    device_id = broker.add_device(f"rented {console.look}", f"rented-{console.look}")
    page = console.open("#/people?tab=customers").page
    page.get_by_role("button", name="New customer").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Title").fill(title)
    dialog.get_by_role("button", name="Create").click()
    console.row(title).get_by_role("button", name="Devices").click()
    dialog.get_by_label("Device to assign").fill(f"rented {console.look}")
    dialog.get_by_role("button", name="Assign").click()
    expect(dialog.get_by_role("link", name=f"rented {console.look}")).to_be_visible()
    device = broker.ask("GET", f"/api/device/info/{device_id}")[1]
    assert device["customerTitle"] == title
    console.check()
    dialog.get_by_role("button", name=f"Take away rented {console.look}").click()
    expect(dialog.get_by_role("link", name=f"rented {console.look}")).to_have_count(0)
    dialog.get_by_role("button", name="Close").click()
    console.row(title).get_by_role("button", name="Users").click()
    dialog.get_by_role("button", name="New user").click()
    inner = page.get_by_role("dialog", name="New user")
    inner.get_by_label("E-mail").fill(f"tenant-of-{console.look}@example.org")
    inner.get_by_role("button", name="Create").click()
    link = page.get_by_role("dialog", name="Activation link")
    expect(link).to_contain_text("activateToken")
    console.check()
    link.get_by_role("button", name="Close").click()
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)
    console.check()


def test_a_customer_is_deleted_only_after_asking(console: Console, broker: Daemon) -> None:
    assert broker.ask("POST", "/api/customer", {"title": "unwanted"})[0] == 200
    console.open("#/people?tab=customers").delete(console.row("unwanted"))


@in_every_look
def test_a_key_is_shown_once_works_and_is_revoked(console: Console, broker: Daemon) -> None:
    name = f"{EVIL} {console.look}"
    page = console.open("#/people?tab=keys").page
    page.get_by_role("button", name="New key").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Description").fill(name)
    dialog.get_by_label("Access").select_option("CALL")
    dialog.get_by_label("Methods").fill("get*, setGpio")
    dialog.get_by_label("One-way calls").uncheck()
    console.check()
    dialog.get_by_role("button", name="Create").click()
    dialog.get_by_role("button", name="Copy the key").click()
    expect(dialog.get_by_role("button", name="Copied")).to_be_visible()
    key = page.evaluate("navigator.clipboard.readText()")
    assert devices_with(broker, key) == 200
    dialog.get_by_role("button", name="Close").click()
    expect(console.row(name)).to_contain_text("methods get*, setGpio; two-way only")
    assert key not in page.content()
    console.check()
    console.row(name).get_by_role("button", name="Switch off").click()
    expect(console.row(name).get_by_role("button", name="Switch on")).to_be_visible()
    assert devices_with(broker, key) == 401
    console.row(name).get_by_role("button", name="Revoke").click()
    dialog.get_by_role("button", name="Revoke").click()
    expect(console.row(name)).to_have_count(0)


def devices_with(broker: Daemon, key: str) -> int:
    """The status of a request that shows this key."""
    request = urllib.request.Request(
        f"{broker.http}/api/deviceInfos/all?pageSize=1&page=0", headers={"X-Authorization": f"ApiKey {key}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@in_every_look
def test_system_administrators_handle_tenants(visitor: Console, broker: Daemon, system_administrator: str) -> None:
    title = f"{EVIL} {visitor.look}"
    page = visitor.sign_in(system_administrator, PASSWORD).open("#/people").page
    page.get_by_role("button", name="New tenant").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Title").fill(title)
    dialog.get_by_role("button", name="Create").click()
    visitor.row(title).get_by_role("button", name="Administrators").click()
    dialog.get_by_role("button", name="New user").click()
    inner = page.get_by_role("dialog", name="New user")
    inner.get_by_label("E-mail").fill(f"their-admin-{visitor.look}@example.org")
    inner.get_by_role("button", name="Create").click()
    expect(page.get_by_role("dialog", name="Activation link")).to_contain_text("activateToken")
    visitor.check()
    page.get_by_role("dialog", name="Activation link").get_by_role("button", name="Close").click()
    dialog.get_by_role("button", name="Close").click()
    visitor.row(title).get_by_role("button", name="Delete").click()
    dialog.get_by_role("button", name="Delete the tenant").click()
    expect(visitor.row(title)).to_have_count(0)
    page.get_by_role("link", name="Users", exact=True).click()
    expect(visitor.row(system_administrator)).to_contain_text("you")
    visitor.check()
