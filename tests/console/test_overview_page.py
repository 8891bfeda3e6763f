"""The console's overview: how many devices are there, how their calls go."""

from __future__ import annotations

import re

import pytest
from answering_device import AnsweringDevice
from browser import TOKEN, Console, in_every_look
from daemon import Daemon
from playwright.sync_api import Locator, expect

CALLS = 30


def number(console: Console, term: str) -> Locator:
    """The one that stands below this term."""
    return console.page.locator("dl.numbers > div").filter(has_text=term).locator("dd")


@in_every_look
@pytest.mark.screenshots
def test_calls_and_their_errors_are_seen_as_they_happen(
    console: Console, broker: Daemon, device_id: str, device: AnsweringDevice
) -> None:
    page = console.page
    away = broker.add_device(f"away {console.look}", f"away-{console.look}")
    expect(page.get_by_text("No two-way call was answered.")).to_be_visible()
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    for at in range(CALLS):
        assert broker.ask("POST", f"/api/rpc/twoway/{device_id}", {"method": "getValue", "params": at})[0] == 200
    assert broker.ask("POST", f"/api/rpc/twoway/{away}", {"method": "getValue", "connectTimeout": 0})[0] == 504
    expect(page.get_by_text(f"{CALLS + 1} calls ended, 1 of them without success")).to_be_visible()
    errors = page.get_by_role("table", name="Calls without success by reason")
    expect(errors.get_by_role("row")).to_have_text(re.compile("NEVER_CONNECTED *1"))
    counts = page.get_by_role("table", name="Two-way calls by latency").get_by_role("row").locator("td.number")
    assert sum(map(int, counts.all_text_contents())) == CALLS
    latency = page.get_by_role("img", name=re.compile("Latency"))
    expect(latency).to_have_attribute("aria-label", re.compile(r"half within .*ms, 99 % within"))
    console.check()
    console.screenshot("overview")


def test_devices_are_counted_as_they_come_and_go(console: Console, broker: Daemon, device_id: str) -> None:
    all_devices = broker.ask("GET", "/api/tenant/devices?pageSize=1")[1]["totalElements"]
    expect(number(console, "in all")).to_have_text(str(all_devices))
    expect(number(console, "callable")).to_have_text("0")
    device = AnsweringDevice(broker, TOKEN)
    expect(number(console, "callable")).to_have_text("1")
    expect(number(console, "connected")).to_have_text("1")
    device.close()
    expect(number(console, "callable")).to_have_text("0")
    expect(number(console, "connected")).to_have_text("0")


def test_what_was_seen_is_kept_while_another_page_is_shown(
    console: Console, broker: Daemon, device_id: str, device: AnsweringDevice
) -> None:
    expect(console.page.get_by_text("Live", exact=True)).to_be_visible()
    expect(number(console, "callable")).to_have_text("1")
    assert broker.ask("POST", f"/api/rpc/twoway/{device_id}", {"method": "getValue"})[0] == 200
    expect(console.page.get_by_text("1 calls ended")).to_be_visible()
    console.open("#/devices")
    expect(console.page.get_by_role("link", name="hall")).to_be_visible()
    console.open("#/overview")
    expect(console.page.get_by_text("1 calls ended")).to_be_visible()
