"""The pages that the docs have pictures of, with a fleet as somebody may have one: each can be used by all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from answering_device import AnsweringDevice
from browser import NIGHT, WIDE, Console
from daemon import Daemon
from playwright.sync_api import expect

DOOR = Path(__file__).parents[2] / "conf" / "chains" / "door-access.json"
PUMPS = 12
THERE = 10

pytestmark = [pytest.mark.screenshots, pytest.mark.parametrize("look", [WIDE, NIGHT], ids=str)]


@pytest.fixture(scope="module")
def ids(broker: Daemon) -> list[str]:
    made = []
    for number in range(PUMPS):
        body = {"name": f"pump-{number:02}", "type": "pump"}
        made.append(posted(broker, f"/api/device?accessToken=pump-{number:02}", body)["id"]["id"])
    return made


@pytest.fixture
def pumps(broker: Daemon, ids: list[str]) -> Iterator[list[str]]:
    """Their ids; two of them are not there."""
    devices = [AnsweringDevice(broker, f"pump-{number:02}") for number in range(THERE)]
    for device_id in ids[:THERE]:
        broker.wait_callable(device_id)
    yield ids
    for each in devices:
        each.close()


def posted(broker: Daemon, path: str, body: Any) -> Any:
    status, answer = broker.ask("POST", path, body)
    assert status == 200, answer
    return answer


def test_calls_and_one_of_them(console: Console, broker: Daemon, pumps: list[str]) -> None:
    for device_id in pumps[:4]:
        posted(broker, f"/api/rpc/twoway/{device_id}", {"method": "getState", "params": None})
        posted(broker, f"/api/rpc/oneway/{device_id}", {"method": "setValue", "params": True})
    broker.ask("POST", f"/api/rpc/twoway/{pumps[-1]}", {"method": "getState", "timeout": 200})
    body = {"method": "setGpioStatus", "params": {"pin": 7, "enabled": True}, "persistent": True}
    kept = posted(broker, f"/api/rpc/twoway/{pumps[0]}", body)["rpcId"]
    page = console.open("#/calls").page
    expect(page.get_by_role("row").filter(has_text="setGpioStatus").first).to_contain_text("SUCCESSFUL")
    console.check()
    console.screenshot("calls")
    console.open(f"#/call/{kept}")
    expect(page.get_by_role("region", name="curl")).to_be_visible()
    console.check()
    console.screenshot("call")


def test_persistent_calls(console: Console, broker: Daemon, pumps: list[str]) -> None:
    for number in range(3):
        body = {"method": "updateFirmware", "params": {"to": f"1.{number}"}, "persistent": True, "timeout": 10**7}
        posted(broker, f"/api/rpc/twoway/{pumps[-1]}", body)
    console.open(f"#/persistent?deviceId={pumps[-1]}")
    expect(console.page.get_by_role("row").filter(has_text="updateFirmware").first).to_contain_text("QUEUED")
    expect(console.page.get_by_label("Device")).to_have_value(f"pump-{PUMPS - 1}")
    console.check()
    console.screenshot("persistent")


def test_a_bulk_call(console: Console, broker: Daemon, pumps: list[str]) -> None:
    body = {"type": "pump", "request": {"method": "selfTest", "timeout": 300}}
    bulk_id = posted(broker, "/api/rpc/bulk", body)["bulkId"]
    console.open(f"#/bulk?id={bulk_id}")
    said = f"{THERE} successful, {PUMPS - THERE} failed"
    expect(console.page.get_by_role("progressbar")).to_have_attribute("aria-valuetext", said)
    console.check()
    console.screenshot("bulk")


def test_a_rule_chain(console: Console, broker: Daemon) -> None:
    file = json.loads(DOOR.read_text())
    chain_id = posted(broker, "/api/ruleChains/import?overwrite=true", file)[0]["ruleChainId"]["id"]
    page = console.open(f"#/chain/{chain_id}").page
    page.get_by_label("Message", exact=True).select_option("ask")
    page.get_by_label("Method").fill("requestAccess")
    page.get_by_label("Params").fill('{"door": 3, "badge": "0815"}')
    page.get_by_role("button", name="Test", exact=True).click()
    expect(page.get_by_role("list", name="Path of the message")).to_be_visible()
    expect(page.locator(".graph .node.lit").first).to_be_visible()
    console.check()
    page.evaluate("scrollTo(0, 0)")
    console.screenshot("chain")


def test_users_and_keys(console: Console, broker: Daemon) -> None:
    name = f"night-shift-{console.look.width}@example.org"
    posted(broker, "/api/user?sendActivationMail=false", {"email": name, "authority": "TENANT_ADMIN"})
    scope = {"access": "CALL", "methods": ["get*", "setGpioStatus"], "deviceTypes": ["pump"]}
    posted(broker, "/api/apiKey", {"description": "the dashboard in the hall", "scope": scope})
    page = console.open("#/people").page
    expect(page.get_by_role("row").filter(has_text=name)).to_contain_text("invited")
    console.check()
    console.screenshot("people")
    console.open("#/people?tab=keys")
    expect(page.get_by_role("row").filter(has_text="the dashboard in the hall").first).to_contain_text("on")
    console.check()
    console.screenshot("keys")
