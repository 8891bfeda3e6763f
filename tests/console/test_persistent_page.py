"""The console's table of persistent calls: made, followed, narrowed, sorted, looked at, deleted."""

from __future__ import annotations

import pytest
from answering_device import AnsweringDevice
from browser import Console, in_every_look
from daemon import Daemon
from playwright.sync_api import expect

EVIL = "<img src=x onerror=alert(1)>"
COLUMNS = ["RPC id", "Message type", "Status", "Method", "Created ↓", "Expires", "Actions"]


@pytest.fixture(scope="module")
def sleeper(broker: Daemon) -> str:
    """A device that is not there."""
    return broker.add_device(f"sleeper {EVIL}", "sleeper-token")


def keep(broker: Daemon, device_id: str, method: str, way: str = "twoway") -> None:
    body = {
        "method": method,
        "params": {"p": EVIL},
        "persistent": True,
        "timeout": 600_000,
        "additionalInfo": {"n": EVIL},
    }
    status, answer = broker.ask("POST", f"/api/rpc/{way}/{device_id}", body)
    assert status == 200, answer


@in_every_look
def test_a_devices_calls_are_a_table_in_which_names_are_text(console: Console, broker: Daemon, sleeper: str) -> None:
    keep(broker, sleeper, f"{EVIL}{console.look}", "oneway")
    page = console.open("#/persistent").page
    page.get_by_label("Device").fill(f"sleeper {EVIL}")
    shown = console.row(f"{EVIL}{console.look}")
    expect(shown).to_contain_text("QUEUED")
    if console.look.width > 1000:
        assert page.get_by_role("columnheader").all_inner_texts() == COLUMNS
        expect(shown).to_contain_text("One-way")
    console.check()


def test_a_call_is_made_and_followed_to_its_end(console: Console, broker: Daemon) -> None:
    device_id = broker.add_device("follows", "follows-token")
    page = console.open(f"#/persistent?deviceId={device_id}").page
    expect(page.get_by_label("Device")).to_have_value("follows")
    page.get_by_role("button", name="New persistent call").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Method").fill("setGpio")
    dialog.get_by_label("Params").fill("{no JSON")
    expect(dialog.get_by_role("button", name="Call", exact=True)).to_be_disabled()
    dialog.get_by_label("Params").fill('{"pin": 7}')
    dialog.get_by_label("Timeout").fill("3600")
    dialog.get_by_label("Retries").fill("3")
    dialog.get_by_label("Additional info").fill('{"why": "a test"}')
    console.check()
    dialog.get_by_role("button", name="Call", exact=True).click()
    expect(console.row("setGpio")).to_contain_text("QUEUED")
    kept = broker.ask("GET", f"/api/rpc/persistent/device/{device_id}?pageSize=10&page=0")[1]["data"][0]
    assert (kept["request"]["retries"], kept["additionalInfo"]) == (3, {"why": "a test"})
    assert kept["expirationTime"] - kept["createdTime"] == 3_600_000
    device = AnsweringDevice(broker, "follows-token")
    try:
        expect(console.row("setGpio")).to_contain_text("SUCCESSFUL")
    finally:
        device.close()
    console.row("setGpio").get_by_role("button", name="Details").click()
    expect(dialog.get_by_role("region", name="Response")).to_contain_text('"pin": 7')
    expect(dialog.get_by_role("region", name="Additional info")).to_contain_text("a test")
    expect(dialog).to_contain_text("Retries: 3")
    console.check()


def test_it_is_narrowed_sorted_and_paged(console: Console, broker: Daemon) -> None:
    device_id = broker.add_device("many", "many-token")
    for number in range(21):
        keep(broker, device_id, f"number-{number:02}")
    page = console.open(f"#/persistent?deviceId={device_id}").page
    methods = page.get_by_role("row").get_by_role("link")
    expect(methods.first).to_have_text("number-20")
    page.get_by_role("button", name="Next").click()
    expect(methods).to_have_text(["number-00"])
    page.get_by_role("button", name="Created").click()
    expect(methods).to_have_text(["number-20"])
    page.get_by_label("Status").select_option("SUCCESSFUL")
    expect(page.get_by_text("There are none.")).to_be_visible()
    page.get_by_label("Status").select_option("QUEUED")
    expect(methods.first).to_have_text("number-00")


def test_one_is_deleted_only_after_asking(console: Console, broker: Daemon, sleeper: str) -> None:
    keep(broker, sleeper, "unwanted")
    page = console.open(f"#/persistent?deviceId={sleeper}").page
    console.row("unwanted").get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(console.row("unwanted")).to_be_visible()
    console.row("unwanted").get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(console.row("unwanted")).to_have_count(0)
