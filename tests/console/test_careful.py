"""The console when things go unlike they should: users who change, dialogs that are closed oddly, crafted addresses,
clocks that are wrong, and focus, which is never lost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from accounts import user_of_customer
from browser import WIDE, Console
from daemon import Daemon
from playwright.sync_api import Browser, Request, Route, expect
from test_shell import LIVE


def asked(console: Console, part: str, method: str = "GET") -> list[str]:
    """The requests from now on with this in their URL."""
    found: list[str] = []

    def note(request: Request) -> None:
        if part in request.url and request.method == method:
            found.append(request.url)

    console.page.on("request", note)
    return found


def focused(console: Console) -> str:
    """What has the focus, in a word."""
    word: str = console.page.evaluate(
        "(({tagName, ariaLabel, textContent}) => tagName === 'BODY' ? '' : ariaLabel ?? textContent)"
        "(document.activeElement)"
    )
    return word


# -- one user after another


def test_what_one_user_was_asked_another_does_not_answer(visitor: Console, broker: Daemon) -> None:
    broker.add_device("stays", "token-of-stays")
    page = visitor.sign_in().open("#/devices").page
    page.get_by_role("button", name="Delete stays").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    deleted = asked(visitor, "/api/device/", "DELETE")
    page.evaluate("import('/console/session.js').then(({signOut}) => signOut())")
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    expect(page.get_by_role("dialog")).to_have_count(0)
    visitor.sign_in()
    expect(page.get_by_role("link", name="stays")).to_be_visible()
    assert deleted == []


def test_what_one_user_asked_is_not_asked_again_in_the_name_of_the_next(visitor: Console, broker: Daemon) -> None:
    user_of_customer(broker, "next@example.org")
    page = visitor.sign_in().page
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/api/held", hold)
    with page.expect_request("**/api/held"):
        page.evaluate(
            "import('/console/session.js').then(({request}) => { window.answer = request('POST', '/api/held')"
            ".then(() => 'answered', ({status}) => status); })"
        )
    visitor.sign_out()
    visitor.sign_in("next@example.org")
    asked_again = asked(visitor, "/api/held", "POST")
    with visitor.expecting("401"):
        held[0].fulfill(status=401, body="{}")
        assert page.evaluate("window.answer") == 401
    assert asked_again == []


def test_signed_out_nothing_is_asked(visitor: Console) -> None:
    page = visitor.sign_in().page
    visitor.sign_out()
    requests = asked(visitor, "/api/")
    assert (
        page.evaluate(
            "import('/console/session.js').then(({request}) => request('GET', '/api/rpc'))"
            ".then(() => 'answered', ({status}) => status)"
        )
        == 401
    )
    assert requests == []


def test_who_signs_out_while_the_feed_is_being_connected_leaves_nothing(visitor: Console) -> None:
    page = visitor.sign_in().page
    page.evaluate("import('/console/session.js').then(({signOut}) => signOut())")
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    visitor.sign_in()
    expect(page.get_by_text(LIVE, exact=True)).to_be_visible()


def test_who_wants_payloads_of_a_topic_that_is_just_being_left_gets_them_at_once(
    console: Console, device_id: str
) -> None:
    expect(console.page.get_by_text(LIVE, exact=True)).to_be_visible()
    begun = console.page.evaluate(
        """async (topics) => {
            const { watch } = await import("/console/feed.js");
            const begins = (topic) => new Promise((resolve) => {
                const end = watch(topic, () => {}, { onGap: () => resolve(end) });
            });
            const end = await begins(topics[0]);
            end();
            for (let turn = 0; turn < 20; turn++) await null; // the broker has been asked to end it, and has not yet
            let begun = 0;
            watch(topics[0], () => {}, { payloads: true, onGap: () => begun++ });
            for (const topic of topics.slice(1)) await begins(topic); // what would be asked for again is there by then
            return begun;
        }""",
        [f"rpcbroker.call.{device_id}.{state}" for state in ("queued", "sent", "delivered", "failed", "expired")],
    )
    assert begun == 1


def test_a_token_that_lasts_for_months_is_not_replaced_all_the_time(chromium: Browser, tmp_path: Path) -> None:
    broker = Daemon(tmp_path, RPCBROKER_AUTH_TOKEN_LIFETIME="8000000s", RPCBROKER_AUTH_REFRESH_LIFETIME="9000000s")
    console = Console(chromium, broker.http, WIDE)
    replaced = asked(console, "/api/auth/token", "POST")
    console.sign_in().open("#/devices")
    expect(console.page.get_by_text("There is no device yet.")).to_be_visible()
    console.page.wait_for_timeout(500)
    assert replaced == []
    console.close()
    broker.stop()


# -- crafted addresses


@pytest.mark.parametrize(
    "route", ["#/device/{}", "#/persistent?deviceId={}", "#/bulk?id={}", "#/call/{}", "#/chain/{}"]
)
def test_an_address_leads_to_no_other_path_of_the_api(console: Console, route: str) -> None:
    strayed = asked(console, "/api/auth/user")
    with console.expecting("40[04]"):
        console.open(route.format("..%2F..%2F..%2F..%2F..%2Fapi%2Fauth%2Fuser%3F"))
        expect(console.page.get_by_role("alert").first).to_be_visible()
    assert strayed == []


# -- dialogs and focus


def test_dialogs_in_dialogs_are_closed_by_escape_and_can_be_opened_again(console: Console, broker: Daemon) -> None:
    assert broker.ask("POST", "/api/customer", {"title": "Nested"})[0] == 200
    page = console.open("#/people?tab=customers").page
    users = page.get_by_role("row").filter(has_text="Nested").get_by_role("button", name="Users")
    for _ in range(2):
        users.focus()
        page.keyboard.press("Enter")
        outer = page.get_by_role("dialog", name="Users of Nested")
        outer.get_by_role("button", name="New user").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog", name="New user")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog", name="New user")).to_have_count(0)
        expect(outer.get_by_role("button", name="New user")).to_be_focused()
        page.keyboard.press("Escape")
        expect(outer).to_have_count(0)
        expect(users).to_be_focused()


def test_the_focus_of_a_row_that_is_deleted_goes_to_the_table(console: Console, broker: Daemon) -> None:
    broker.add_device("goes", "token-of-goes")
    page = console.open("#/devices").page
    page.get_by_role("button", name="Delete goes").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("tr", has_text="goes")).to_have_count(0)
    assert focused(console) == "Devices"


def test_where_browsers_have_no_clipboard_it_is_copied_in_dialogs_too(visitor: Console, broker: Daemon) -> None:
    visitor.page.add_init_script(
        "window.clipboard = navigator.clipboard;"
        "Object.defineProperty(navigator, 'clipboard', {value: undefined, configurable: true})"
    )
    broker.add_device("copied", "token-to-copy")
    page = visitor.sign_in().open("#/devices").page
    page.get_by_role("button", name="Credentials of copied").click()
    page.get_by_role("button", name="Show credentials").click()
    copy = page.get_by_role("dialog").get_by_role("button", name="Copy").first
    copy.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("window.clipboard.readText()") == "token-to-copy"
    assert focused(visitor) == "Copied"


# -- what is kept for days


def test_of_traffic_minutes_are_kept_also_while_nobody_looks_and_clocks_are_wrong(
    visitor: Console, broker: Daemon, device_id: str
) -> None:
    visitor.page.add_init_script(
        "const now = Date.now; window.later = 5_000_000; Date.now = () => now() + window.later;"
        "Object.defineProperty(document, 'hidden', {get: () => window.unseen ?? false});"
        "window.bins = new Set(); const {set} = Map.prototype;"
        "Map.prototype.set = function (key, value) {"
        "  if (value?.reasons) window.bins.add(this); return set.call(this, key, value); }"
    )
    page = visitor.sign_in().page
    expect(page.get_by_text(LIVE, exact=True)).to_be_visible()

    def fail() -> None:
        broker.ask("POST", f"/api/rpc/twoway/{device_id}", {"method": "nobody hears", "timeout": 10})

    fail()
    expect(page.get_by_text("1 calls ended, 1 of them without success")).to_be_visible()
    page.evaluate("window.unseen = true")
    for _ in range(3):
        page.evaluate("window.later += 400_000")
        fail()
        time.sleep(0.5)  # until it is told
    assert page.evaluate("[...window.bins].map(({size}) => size)") == [1]


def test_of_a_call_that_goes_on_for_ever_the_last_steps_are_kept(console: Console, device_id: str) -> None:
    kept = console.page.evaluate(
        """async (deviceId) => {
            const made = await import("/console/calls_made.js");
            await made.make(deviceId, {method: "never", params: null, oneway: false, timeout: 10, persistent: false});
            const [{rpcId}] = made.madeTo(deviceId);
            for (let ms = 0; ms < 1_000; ms++) made.heardOf({rpcId, step: "progress", state: "DELIVERED", ms});
            return made.madeTo(deviceId)[0].steps.map(({ms}) => ms);
        }""",
        device_id,
    )
    assert kept == list(range(900, 1_000))
