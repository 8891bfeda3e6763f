"""The shell around the pages: who may see which, light and dark, and a broker or a session that goes away."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from accounts import user_of_customer
from browser import WIDE, Console, in_every_look
from daemon import EMAIL, PASSWORD, Daemon
from playwright.sync_api import Browser, Page, expect

LIVE = "Live"
LOST = "connection to the broker is lost"


def pages_of(page: Page) -> list[str]:
    """What the navigation offers."""
    return page.get_by_role("navigation", name="Pages", exact=True).get_by_role("link").all_text_contents()


def marked(page: Page) -> None:
    """So that `is_the_same` can tell whether it was loaded again."""
    page.evaluate("window.marked = true")


def is_the_same(page: Page) -> bool:
    return bool(page.evaluate("window.marked === true"))


# -- who sees what


def test_an_administrator_is_offered_all_pages_and_is_told_that_they_are_live(console: Console) -> None:
    expect(console.page.get_by_text(LIVE, exact=True)).to_be_visible()
    assert pages_of(console.page) == [
        *("Overview", "Devices", "Boards", "Calls", "Persistent calls", "Bulk calls"),
        *("Rule chains", "Users and customers"),
    ]


def test_a_customers_user_is_offered_no_pages_of_administrators(visitor: Console, broker: Daemon) -> None:
    user_of_customer(broker, "tenant@example.org")
    visitor.sign_in("tenant@example.org")
    offered = pages_of(visitor.page)
    assert "Devices" in offered
    assert not {"Rule chains", "Users and customers"} & set(offered)
    visitor.open("#/devices")
    expect(visitor.page.get_by_text("There is no device yet.")).to_be_visible()
    expect(visitor.page.get_by_role("button", name="New device")).to_have_count(0)
    visitor.open("#/chains")
    expect(visitor.page.get_by_role("heading", name="There is no such page")).to_be_visible()


def test_a_system_administrator_is_offered_people_only_and_no_feed(visitor: Console, broker: Daemon) -> None:
    command = [sys.executable, "-m", "rpcbroker", "sysadmin", "add", "root@example.org"]
    more = ["--state-dir", str(broker.state), "--password-stdin"]
    subprocess.run([*command, *more], input=PASSWORD, text=True, check=True, timeout=60)
    sockets: list[str] = []
    visitor.page.on("websocket", lambda socket: sockets.append(socket.url))
    visitor.sign_in("root@example.org")
    assert pages_of(visitor.page) == ["Users and customers"]
    expect(visitor.page.get_by_role("heading", level=1)).to_have_text(re.compile("Users|Tenants"))
    expect(visitor.page.get_by_text(LIVE, exact=True)).to_have_count(0)
    visitor.page.wait_for_load_state("networkidle")
    assert sockets == []


@in_every_look
def test_an_address_that_means_nothing_is_told_so(console: Console) -> None:
    console.open("#/<img src=x onerror=alert(1)>")
    expect(console.page.get_by_role("heading", name="There is no such page")).to_be_visible()
    console.check()


# -- keyboard, light and dark


def test_by_keyboard_one_gets_past_the_navigation(console: Console) -> None:
    skip = console.page.get_by_role("link", name="To the content")
    skip.focus()
    skip.press("Enter")
    assert console.page.evaluate("document.activeElement.id") == "main"


def test_dark_is_kept_by_the_browser_and_nothing_else_is(console: Console) -> None:
    theme = console.page.get_by_label("Light or dark")
    background = "getComputedStyle(document.body).backgroundColor"
    light = console.page.evaluate(background)
    theme.select_option("dark")
    dark = console.page.evaluate(background)
    assert dark != light
    console.page.reload()
    expect(console.page.get_by_label("Light or dark")).to_have_value("dark")
    assert console.page.evaluate(background) == dark
    assert console.page.evaluate("Object.keys(localStorage)") == ["rpcbroker.theme"]


# -- a broker that goes away


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Daemon]:
    """For a test that stops it."""
    daemon = Daemon(tmp_path, RPCBROKER_AUTH_TOKEN_LIFETIME="6s").login()
    yield daemon
    daemon.stop()


def test_when_the_broker_starts_again_the_page_goes_on_without_being_loaded_again(
    chromium: Browser, tmp_path: Path
) -> None:
    first = Daemon(tmp_path).login()
    port = first.http.rpartition(":")[2]
    console = Console(chromium, first.http, WIDE).sign_in()
    page = console.open("#/devices").page
    expect(page.get_by_text("There is no device yet.")).to_be_visible()
    marked(page)
    with console.expecting("ERR_CONNECTION_REFUSED"):
        first.stop()
        expect(page.get_by_role("status").filter(has_text=LOST)).to_be_visible()
        expect(page.get_by_text("Not live")).to_be_visible()
        second = Daemon(tmp_path, RPCBROKER_HTTP_LISTEN=f"tcp:{port}:interface=127.0.0.1").login()
        second.add_device("made meanwhile", "a-token-of-its-own")
        expect(page.get_by_text(LIVE, exact=True)).to_be_visible()
    expect(page.get_by_text(LOST)).to_have_count(0)
    expect(page.get_by_role("link", name="made meanwhile")).to_be_visible()
    assert is_the_same(page)
    console.close()
    second.stop()


def test_the_feed_is_found_where_it_is_and_where_there_is_none_that_is_told(chromium: Browser, tmp_path: Path) -> None:
    for path, said in (("/elsewhere", LIVE), ("", "This broker has no feed")):
        directory = tmp_path / f"at{len(path)}"
        directory.mkdir()
        broker = Daemon(directory, RPCBROKER_WAMP_WEBSOCKET_PATH=path)
        console = Console(chromium, broker.http, WIDE).sign_in()
        expect(console.page.get_by_text(said)).to_be_visible()
        console.open("#/devices")
        expect(console.page.get_by_text("There is no device yet.")).to_be_visible()
        console.close()
        broker.stop()


def test_tokens_are_replaced_before_they_end_and_the_feed_goes_on(chromium: Browser, own_broker: Daemon) -> None:
    console = Console(chromium, own_broker.http, WIDE)
    sockets: list[str] = []
    console.page.on("websocket", lambda socket: sockets.append(socket.url))
    page = console.sign_in().open("#/devices").page
    expect(page.get_by_text(LIVE, exact=True)).to_be_visible()
    end = time.monotonic() + 9  # longer than the first token is good
    while time.monotonic() < end:
        with page.expect_response("**/api/auth/token") as answered:
            pass
        assert answered.value.status == 200
    own_broker.login().add_device("seen live", "another-token")
    assert len(sockets) == 1
    page.get_by_label("Search").fill("seen")
    expect(page.get_by_role("link", name="seen live")).to_be_visible()
    expect(page.get_by_text(LIVE, exact=True)).to_be_visible()
    console.close()


def test_a_session_that_an_administrator_ends_is_told_and_one_signs_in_again(visitor: Console, broker: Daemon) -> None:
    user_id = user_of_customer(broker, "leaves@example.org")
    page = visitor.sign_in("leaves@example.org").open("#/devices").page
    expect(page.get_by_text("There is no device yet.")).to_be_visible()
    path = f"/api/user/{user_id}/userCredentialsEnabled?userCredentialsEnabled="
    with visitor.expecting("401"):
        assert broker.ask("POST", f"{path}false")[0] == 200
        page.get_by_label("Search").fill("anything")
        expect(page.get_by_text("Your session has ended")).to_be_visible()
    assert broker.ask("POST", f"{path}true")[0] == 200
    visitor.sign_in("leaves@example.org")
    expect(page.get_by_text(re.compile("There is no device"))).to_be_visible()


def test_who_failed_too_often_is_told_to_wait(visitor: Console) -> None:
    with visitor.expecting("401|429"):
        for _ in range(8):
            visitor.fill_in("nobody@" + EMAIL.partition("@")[2], "wrong password")
            expect(visitor.page.get_by_role("button", name="Sign in")).to_be_enabled()
        expect(visitor.page.get_by_role("alert")).to_contain_text(re.compile("attempts|wait|again", re.IGNORECASE))
