"""The console's page of one device: called, and seen in all that it says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from answering_device import AnsweringDevice
from browser import TOKEN, Console, in_every_look
from daemon import Daemon
from plain_device import Device
from playwright.sync_api import Locator, expect

from rpcbroker.wire.mqtt import packets as p

EVIL = "<img src=x onerror=alert(1)>"


def form(console: Console) -> Locator:
    return console.page.get_by_role("region", name="Call this device")


def made(console: Console, method: str) -> Locator:
    """The newest call with this method in the list below the form."""
    return console.page.get_by_role("region", name="Calls made here").locator("li.call").filter(has_text=method).first


def call(console: Console, method: str, params: object = None, *, timeout: int | None = None) -> Locator:
    """Fill in the form, and press its button."""
    form(console).get_by_label("Method").fill(method)
    form(console).get_by_label("Params").fill("" if params is None else json.dumps(params))
    form(console).get_by_label("Timeout").fill("" if timeout is None else str(timeout))
    form(console).get_by_role("button", name="Call").click()
    return made(console, method)


def opened(console: Console, device_id: str) -> Console:
    console.open(f"#/device/{device_id}")
    expect(form(console)).to_be_visible()
    expect(console.page.get_by_text("Live", exact=True)).to_be_visible()
    return console


@pytest.fixture
def silent(broker: Daemon, device_id: str) -> Iterator[Device]:
    """The device is there and takes calls, and answers by itself to nothing."""
    device = Device(broker, TOKEN)
    broker.wait_callable(device_id)
    yield device
    device.socket.close()


def next_call(device: Device) -> tuple[str, p.Publish]:
    """The wire id of what it is asked next, which it acknowledges."""
    while True:
        packet = device.read()
        assert packet is not None
        if isinstance(packet, p.Publish):
            if packet.packet_id is not None:
                device.send(p.PubAck(packet.packet_id))
            return packet.topic.rpartition("/")[2], packet


@in_every_look
@pytest.mark.screenshots
def test_a_call_is_made_and_its_steps_and_reply_are_shown(
    console: Console, broker: Daemon, device_id: str, device: AnsweringDevice
) -> None:
    assert broker.ask("POST", f"/api/v1/{TOKEN}/telemetry", {"temperature": 21.5, "mode": "eco"})[0] == 200
    assert broker.ask("POST", f"/api/v1/{TOKEN}/attributes", {"firmware": "1.2.0"})[0] == 200
    opened(console, device_id)
    entry = call(console, "setGpioStatus", {"pin": 7, "enabled": True})
    expect(entry).to_contain_text("done")
    expect(entry.get_by_role("region", name="Reply")).to_contain_text('"enabled": true')
    expect(entry.get_by_role("list", name="Steps")).to_contain_text(re.compile("accepted.*sent.*answered"))
    expect(console.page.get_by_role("region", name="Presence")).to_contain_text("can take calls")
    console.check()
    console.screenshot("device")
    entry.get_by_role("link", name="Time line").click()
    expect(console.page.get_by_role("heading", name="setGpioStatus")).to_be_visible()
    console.page.go_back()
    expect(made(console, "setGpioStatus")).to_contain_text("done")


@in_every_look
def test_whatever_a_device_is_called_and_says_is_shown_as_text(console: Console, broker: Daemon) -> None:
    name, token = f"{EVIL} {console.look} {'W' * 200}", f"evil-{console.look}"
    device_id = broker.add_device(name, token)
    assert broker.ask("POST", f"/api/v1/{token}/telemetry", {EVIL: EVIL, "W" * 200: "W" * 400})[0] == 200
    device = AnsweringDevice(broker, token)
    broker.wait_callable(device_id)
    opened(console, device_id)
    expect(console.page.get_by_role("heading", name=name)).to_be_visible()
    entry = call(console, f"{EVIL}{'W' * 200}", {EVIL: "W" * 400})
    expect(entry.get_by_role("region", name="Reply")).to_contain_text(EVIL)
    console.check()
    device.close()


def test_params_are_checked_while_they_are_typed(console: Console, device_id: str) -> None:
    opened(console, device_id)
    params, button = form(console).get_by_label("Params"), form(console).get_by_role("button", name="Call")
    for wrong in ("{", "{'a': 1}", "[1,]", "nul"):
        params.fill(wrong)
        expect(form(console).get_by_text("No JSON")).to_be_visible()
        expect(params).to_have_attribute("aria-invalid", "true")
        expect(button).to_be_disabled()
    params.fill('{"a": [9007199254740993]}')
    expect(form(console).get_by_text("9007199254740993 has more digits")).to_be_visible()
    expect(button).to_be_disabled()
    for right in ('{"a": [1, 2]}', "9007199254740991", "1e300", "null", '"text"', ""):
        params.fill(right)
        expect(params).not_to_have_attribute("aria-invalid", "true")
        expect(button).to_be_enabled()
    form(console).get_by_label("Timeout").fill("-5")
    expect(button).to_be_disabled()


def test_numbers_stay_what_was_typed(console: Console, broker: Daemon, device_id: str, silent: Device) -> None:
    opened(console, device_id)
    entry = call(console, "numbers", [0, -1, 1.5, 1e300, 9007199254740991])
    wire_id, packet = next_call(silent)
    assert json.loads(packet.payload)["params"] == [0, -1, 1.5, 1e300, 9007199254740991]
    silent.send(p.Publish(f"v1/devices/me/rpc/response/{wire_id}", b'{"error": "no such pin"}'))
    expect(entry).to_contain_text("the device says error")


def test_why_a_call_failed_and_what_to_do_is_told(console: Console, broker: Daemon) -> None:
    opened(console, broker.add_device("never here", "never-here"))
    entry = call(console, "getValue", timeout=1_000)
    expect(entry).to_contain_text("NEVER_CONNECTED")
    expect(entry).to_contain_text("failed")
    expect(console.page.get_by_role("region", name="Presence")).to_contain_text("never connected")


def test_a_call_that_waits_is_cancelled_and_what_became_of_it_is_told(
    console: Console, device_id: str, silent: Device
) -> None:
    opened(console, device_id)
    entry = call(console, "slow", timeout=60_000)
    next_call(silent)
    expect(entry.get_by_role("list", name="Steps")).to_contain_text("acknowledged")
    expect(entry).to_contain_text("running")
    entry.get_by_role("button", name="Cancel slow").click()
    expect(entry).to_contain_text("CANCELLED")
    expect(entry.get_by_role("button", name="Cancel slow")).to_have_count(0)


def test_one_way_and_persistent_calls_are_followed_to_their_ends(
    console: Console, broker: Daemon, device_id: str, silent: Device
) -> None:
    opened(console, device_id)
    form(console).get_by_label("Kind").select_option("oneway")
    entry = call(console, "blink", 3)
    assert json.loads(next_call(silent)[1].payload) == {"method": "blink", "params": 3}
    expect(entry).to_contain_text("done")
    expect(entry).to_contain_text("one-way")
    form(console).get_by_label("Kind").select_option("twoway")
    form(console).get_by_label("Persistent").check()
    kept = call(console, "keep", {"a": 1})
    wire_id, _ = next_call(silent)
    expect(kept).to_contain_text("running")
    silent.send(p.Publish(f"v1/devices/me/rpc/response/{wire_id}", b'{"kept": true}'))
    expect(kept.get_by_role("region", name="Reply")).to_contain_text('"kept": true')
    expect(kept).to_contain_text("done")


def test_a_call_is_made_again_only_after_asking_or_goes_back_into_the_form(
    console: Console, device_id: str, device: AnsweringDevice
) -> None:
    opened(console, device_id)
    call(console, "again", {"a": 1})
    expect(made(console, "again")).to_contain_text("done")
    entries = console.page.get_by_role("region", name="Calls made here").locator("li.call")
    before = len(device.calls)
    made(console, "again").get_by_role("button", name="Call again again").click()
    console.page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(entries).to_have_count(1)
    made(console, "again").get_by_role("button", name="Call again again").click()
    console.page.get_by_role("dialog").get_by_role("button", name="Call again").click()
    expect(entries).to_have_count(2)
    expect(entries.first).to_contain_text("done")
    assert len(device.calls) == before + 1
    form(console).get_by_label("Method").fill("something else")
    entries.first.get_by_role("button", name="Put again into the form").click()
    expect(form(console).get_by_label("Method")).to_have_value("again")
    assert json.loads(form(console).get_by_label("Params").input_value()) == {"a": 1}


def test_of_many_calls_the_last_fifty_are_kept_until_one_signs_out(
    console: Console, device_id: str, device: AnsweringDevice
) -> None:
    opened(console, device_id)
    for at in range(52):
        call(console, f"m{at}-")
    entries = console.page.get_by_role("region", name="Calls made here").locator("li.call")
    expect(entries).to_have_count(50)
    expect(entries.last).to_contain_text("m2-")
    console.sign_out()
    console.sign_in()
    opened(console, device_id)
    expect(console.page.get_by_text("Nothing yet.")).to_be_visible()


def test_values_appear_as_the_device_sends_them(console: Console, broker: Daemon) -> None:
    device_id, page = broker.add_device("meter", "the-meter"), console.page
    opened(console, device_id)
    telemetry = page.get_by_role("region", name="Latest telemetry").first
    expect(telemetry).to_contain_text("None.")
    assert broker.ask("POST", "/api/v1/the-meter/telemetry", {"power": 7, "text": EVIL})[0] == 200
    expect(telemetry.get_by_role("row").filter(has_text="power")).to_contain_text("7")
    expect(telemetry.get_by_role("row").filter(has_text="text")).to_contain_text(json.dumps(EVIL))
    older = {"ts": 1_000, "values": {"power": 1, "once": True}}
    assert broker.ask("POST", "/api/v1/the-meter/telemetry", older)[0] == 200
    expect(telemetry.get_by_role("row").filter(has_text="once")).to_contain_text("true")
    expect(telemetry.get_by_role("row").filter(has_text="power")).to_contain_text("7")
    shared = page.get_by_role("region", name="Attributes that it is told").first
    path = f"/api/plugins/telemetry/DEVICE/{device_id}"
    assert broker.ask("POST", f"{path}/attributes/SHARED_SCOPE", {"interval": 60})[0] == 200
    expect(shared).to_contain_text("interval")
    assert broker.ask("DELETE", f"{path}/SHARED_SCOPE?keys=interval")[0] == 200
    expect(shared).to_contain_text("None.")


def test_presence_its_last_day_and_near_misses_are_told_as_they_change(console: Console, broker: Daemon) -> None:
    device_id = broker.add_device("comes and goes", "comes-and-goes")
    opened(console, device_id)
    presence = console.page.get_by_role("region", name="Presence")
    expect(presence).to_contain_text("not connected")
    device = Device(broker, "comes-and-goes")
    expect(presence).to_contain_text("can take calls")
    expect(presence.get_by_role("img", name=re.compile("The last day: callable for"))).to_be_visible()
    device.send(p.Publish("v1/device/me/telemetry", b"{}"))
    expect(presence).to_contain_text("What it nearly got right")
    expect(presence).to_contain_text("v1/device/me/telemetry")
    device.socket.close()
    expect(presence).to_contain_text("not connected")
    presence.get_by_text("Changes").click()
    expect(presence.locator("ul.changes li").first).to_contain_text("not connected")
    expect(presence.locator("ul.changes")).to_contain_text("callable")


def test_a_device_that_is_gone_is_told_so(console: Console, broker: Daemon) -> None:
    device_id = broker.add_device("gone", "gone")
    broker.ask("DELETE", f"/api/device/{device_id}")
    expect(console.page.get_by_text("Live", exact=True)).to_be_visible()
    with console.expecting("404"):
        console.open(f"#/device/{device_id}")
        expect(console.page.get_by_role("alert")).to_contain_text("not found")
