"""The console's bulk calls: begun, followed to the end, aborted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from answering_device import AnsweringDevice
from browser import Console, in_every_look
from daemon import Daemon
from playwright.sync_api import expect

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def ids(broker: Daemon) -> list[str]:
    """Of three devices of one type."""
    made = []
    for number in range(3):
        device = {"name": f"pump-{number} {EVIL}", "type": f"pump {EVIL}"}
        status, answer = broker.ask("POST", f"/api/device?accessToken=pump-{number}", device)
        assert status == 200, answer
        made.append(answer["id"]["id"])
    return made


@pytest.fixture
def fleet(broker: Daemon, ids: list[str]) -> Iterator[list[str]]:
    """The same; two of the devices answer, and the third is never there."""
    devices = [AnsweringDevice(broker, f"pump-{number}") for number in range(2)]
    for device_id in ids[:2]:
        broker.wait_callable(device_id)
    yield ids
    for each in devices:
        each.close()


@in_every_look
def test_many_devices_are_called_and_their_ends_come_in(console: Console, fleet: list[str]) -> None:
    page = console.open("#/bulk").page
    page.get_by_role("button", name="Call many devices").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Type").select_option(f"pump {EVIL}")
    dialog.get_by_label("Method").fill(f"{EVIL}{console.look}")
    dialog.get_by_label("Params").fill('{"on": true}')
    dialog.get_by_label("Timeout").fill("500")
    dialog.get_by_label("Rate").fill("50:1")
    console.check()
    dialog.get_by_role("button", name="Call them").click()
    expect(page.get_by_role("heading", name=f"{EVIL}{console.look}, 3 devices")).to_be_visible()
    expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuetext", "2 successful, 1 failed")
    expect(page.get_by_role("row").filter(has_text="pump-2")).to_contain_text("NEVER_CONNECTED")
    expect(page.get_by_role("row").filter(has_text="pump-0")).to_contain_text("SUCCESSFUL")
    expect(page.get_by_role("status").filter(has_text="DONE")).to_be_visible()
    console.check()
    page.get_by_label("State").select_option("FAILED")
    expect(page.get_by_role("row").filter(has_text="pump-0")).to_have_count(0)
    page.get_by_role("link", name="All bulk calls").click()
    expect(page.get_by_role("row").filter(has_text=f"{EVIL}{console.look}")).to_contain_text("3 of 3")
    console.check()


def test_a_bulk_is_aborted_only_after_asking(console: Console, broker: Daemon, fleet: list[str]) -> None:
    body = {"devices": fleet, "rate": "1:60", "request": {"method": "slow", "timeout": 500}}
    status, made = broker.ask("POST", "/api/rpc/bulk", body)
    assert status == 200, made
    page = console.open(f"#/bulk?id={made['bulkId']}").page
    page.get_by_role("button", name="Abort").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("status").filter(has_text="RUNNING")).to_be_visible()
    page.get_by_role("button", name="Abort").click()
    page.get_by_role("dialog").get_by_role("button", name="Abort").click()
    expect(page.get_by_role("status").filter(has_text="ABORTED")).to_be_visible()
    expect(page.get_by_role("button", name="Abort")).to_have_count(0)


def test_a_bulk_that_somebody_else_begins_is_followed_in_the_list(
    console: Console, broker: Daemon, fleet: list[str]
) -> None:
    body = {"devices": fleet[:2], "rate": "1:2", "request": {"method": "elsewhere"}}
    status, made = broker.ask("POST", "/api/rpc/bulk", body)
    assert status == 200, made
    console.open("#/bulk")
    expect(console.page.get_by_role("row").filter(has_text="elsewhere")).to_contain_text("2 of 2")


def test_devices_are_chosen_by_a_text_in_their_names(console: Console, broker: Daemon, fleet: list[str]) -> None:
    page = console.open("#/bulk").page
    page.get_by_role("button", name="Call many devices").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Devices").select_option("name")
    dialog.get_by_label("Text in the name").fill("PUMP-1")
    dialog.get_by_label("Method").fill("one")
    dialog.get_by_label("Canaries").fill("1")
    dialog.get_by_role("button", name="Call them").click()
    expect(page.get_by_role("heading", name="one, 1 device")).to_be_visible()
    bulk = broker.ask("GET", "/api/rpc/bulk?pageSize=1")[1]["data"][0]
    results = broker.ask("GET", f"/api/rpc/bulk/{bulk['bulkId']}")[1]["results"]["data"]
    assert [result["deviceId"] for result in results] == [fleet[1]]
