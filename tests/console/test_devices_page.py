"""The console's list of devices: found, made, deleted; and lines to paste that really work."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import pytest
from answering_device import AnsweringDevice
from browser import TOKEN, Console, in_every_look
from daemon import Daemon
from foreign import program
from playwright.sync_api import Locator, expect

EVIL = "<img src=x onerror=alert(1)>"


def search(console: Console, text: str) -> Locator:
    """Type it; the rows below the head."""
    console.page.get_by_label("Search").fill(text)
    return console.page.get_by_role("table").locator("tbody tr")


@in_every_look
@pytest.mark.screenshots
def test_devices_are_listed_with_what_they_can_do_now(
    console: Console, broker: Daemon, device: AnsweringDevice
) -> None:
    evil = broker.add_device(f"{EVIL} {console.look}", f"evil-{console.look}")
    long = broker.add_device(f"{console.look}-".ljust(255, "W"), f"long-{console.look}")
    console.open("#/devices")
    expect(console.row(f"{EVIL} {console.look}")).to_contain_text("not connected")
    expect(console.row("hall").get_by_text("callable", exact=True)).to_be_visible()
    console.check()
    for device_id in (evil, long):
        assert broker.ask("DELETE", f"/api/device/{device_id}")[0] == 200
    console.page.reload()
    console.sign_in()
    expect(console.row("hall").get_by_text("callable", exact=True)).to_be_visible()
    console.screenshot("devices")


def test_a_device_that_comes_and_goes_is_seen_doing_so(console: Console, broker: Daemon, device_id: str) -> None:
    console.open("#/devices")
    expect(console.row("hall")).to_contain_text("not callable")
    expect(console.page.get_by_text("Live", exact=True)).to_be_visible()
    console.page.evaluate("window.marked = document.querySelector('table')")
    device = AnsweringDevice(broker, TOKEN)
    expect(console.row("hall")).not_to_contain_text("not callable")
    device.close()
    expect(console.row("hall")).to_contain_text("not callable")
    assert console.page.evaluate("window.marked.isConnected")


@in_every_look
@pytest.mark.screenshots
def test_a_device_is_made_and_its_secret_is_shown_only_when_it_is_asked_for(console: Console, broker: Daemon) -> None:
    page, name, token = console.open("#/devices").page, "garden gate", "kept-in-the-gate"
    page.get_by_role("button", name="New device").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill(name)
    dialog.get_by_label("Label").fill(EVIL)
    dialog.get_by_label("Access token").fill(token)
    console.check()
    dialog.get_by_role("button", name="Make").click()
    expect(dialog.get_by_role("heading", name=f"Credentials of {name}")).to_be_visible()
    assert token not in page.content()
    dialog.get_by_role("button", name="Show credentials").click()
    expect(dialog.get_by_text(token, exact=True)).to_be_visible()
    expect(dialog.get_by_role("region", name="Be the device, in Python")).to_contain_text(f", {broker.mqtt_port})")
    console.check()
    console.screenshot("credentials")
    dialog.get_by_role("button", name="Hide").click()
    expect(dialog.get_by_role("button", name="Show credentials")).to_be_visible()
    assert token not in page.content()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(console.row(name)).to_contain_text(EVIL)
    made = broker.ask("GET", f"/api/tenant/devices?deviceName={quote(name)}")[1]
    assert broker.ask("DELETE", f"/api/device/{made['id']['id']}")[0] == 200


def test_what_the_broker_does_not_take_is_told_in_the_form(console: Console, device_id: str) -> None:
    page = console.open("#/devices").page
    page.get_by_role("button", name="New device").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("hall")
    with console.expecting("400"):
        dialog.get_by_role("button", name="Make").click()
        expect(dialog.get_by_role("alert")).to_contain_text("already exists")
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_have_count(0)


def test_a_device_is_deleted_only_after_asking(console: Console, broker: Daemon) -> None:
    device_id = broker.add_device("short-lived", "short-lived")
    page = console.open("#/devices").page
    page.get_by_role("button", name="Delete short-lived").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert broker.ask("GET", f"/api/device/{device_id}")[0] == 200
    page.get_by_role("button", name="Delete short-lived").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(console.row("short-lived")).to_have_count(0)
    assert broker.ask("GET", f"/api/device/{device_id}")[0] == 404


def test_many_devices_are_searched_sorted_and_turned_over(console: Console, broker: Daemon) -> None:
    for at in range(25):
        broker.add_device(f"meter {at:02}", f"meter-{at:02}")
    page = console.open("#/devices").page
    rows = search(console, "meter")
    expect(page.get_by_text("1 of 2")).to_be_visible()
    expect(rows).to_have_count(20)
    page.get_by_role("button", name="Name").click()
    expect(rows.first).to_contain_text("meter 00")
    page.get_by_role("button", name="Next").click()
    expect(rows).to_have_count(5)
    expect(rows.last).to_contain_text("meter 24")
    expect(page.get_by_role("button", name="Next")).to_be_disabled()
    rows = search(console, "meter 07")
    expect(rows).to_have_count(1)
    search(console, "nothing is called so")
    expect(page.get_by_text("No device is called so.")).to_be_visible()


@contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_lines_to_paste_do_what_they_say(console: Console, broker: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    token = 'it\'s a "token" of $HOME'
    made = broker.ask(
        "POST", "/api/device-with-credentials", {"device": {"name": "pasted"}, "credentials": {"credentialsId": token}}
    )
    device_id = made[1]["id"]["id"]
    for name in ("mosquitto_sub", "mosquitto_pub", "curl"):
        program(name)
    page = console.open(f"#/device/{device_id}").page
    page.get_by_role("button", name="Show credentials").click()

    def line(title: str) -> str:
        return page.get_by_role("region", name=title).locator("pre").inner_text()

    def call(way: str = "twoway") -> tuple[int, object]:
        return broker.ask("POST", f"/api/rpc/{way}/{device_id}", {"method": "blink", "params": 3})

    with running(["sh", "-c", f"exec {line('Watch its calls, with mosquitto')}"]) as watching:
        broker.wait_callable(device_id)
        assert call("oneway")[0] == 200
        assert watching.stdout is not None
        assert '"blink"' in watching.stdout.readline()
    with running([sys.executable, "-uc", line("Be the device, in Python")]):
        broker.wait_callable(device_id)
        assert call() == (200, {"you said": 3})
        monkeypatch.setenv("TOKEN", broker.token or "")
        called = subprocess.run(
            ["sh", "-c", line("Call it, with curl")], capture_output=True, text=True, timeout=30, check=True
        )
        assert json.loads(called.stdout) == {"you said": {"hello": "device"}}
    subprocess.run(["sh", "-c", line("Send telemetry, with mosquitto")], timeout=30, check=True)
    expect(page.get_by_role("region", name="Latest telemetry").first).to_contain_text("21.5")
    with running(["sh", "-c", f"exec {line('Wait for one call, with curl')}"]) as waiting:
        broker.wait_callable(device_id)
        assert call("oneway")[0] == 200
        assert '"blink"' in waiting.communicate(timeout=30)[0]
    expect(page.get_by_role("region", name="Observe its calls for an hour, with coap-client")).to_contain_text(
        "coap://127.0.0.1:"
    )


def test_a_new_access_token_is_made_only_after_asking(console: Console, broker: Daemon) -> None:
    device_id = broker.add_device("rekeyed", "the-old-token")
    page = console.open(f"#/device/{device_id}").page
    page.get_by_role("button", name="Show credentials").click()
    expect(page.get_by_text("the-old-token", exact=True)).to_be_visible()
    page.get_by_role("button", name="New access token").click()
    page.get_by_role("dialog").get_by_role("button", name="Make a new token").click()
    expect(page.get_by_text("the-old-token", exact=True)).to_have_count(0)
    token = broker.ask("GET", f"/api/device/{device_id}/credentials")[1]["credentialsId"]
    assert token != "the-old-token"
    expect(page.get_by_text(token, exact=True)).to_be_visible()
