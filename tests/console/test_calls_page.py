"""The console's calls: the table that follows them, and one call with its time line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

from accounts import user_of_customer
from answering_device import AnsweringDevice
from browser import Console, in_every_look
from daemon import PASSWORD, Daemon
from playwright.sync_api import Request, expect

from rpcbroker.core.errors import Reason
from rpcbroker.core.records import Mark

EVIL = "<img src=x onerror=alert(1)>'\"`"
PARTS = Path(__file__).parents[2] / "rpcbroker" / "console" / "parts"
ROUNDS = 'it\'s \\n "quoted" $HOME `id` \u00fc\u2028'


def call(broker: Daemon, device_id: str, method: str, params: Any = None, *, way: str = "twoway", **more: Any) -> str:
    """Make one, whatever comes of it; its id."""
    rpc_id = str(uuid4())
    body = {"method": method, "params": params, "requestUUID": rpc_id, **more}
    broker.ask("POST", f"/api/rpc/{way}/{device_id}", body)
    return rpc_id


def open_live(console: Console) -> None:
    """The table, when it hears of calls: it asks for them at first, and again when it listens. What is called after
    that was answered is in no answer: the row can only come from the feed."""
    asked: list[Request] = []

    def second(request: Request) -> bool:
        if "/api/rpc?" in request.url:
            asked.append(request)
        return len(asked) == 2

    expect(console.page.locator(".lamp.live")).to_be_visible()
    with console.page.expect_request(second) as again:
        console.open("#/calls")
    response = again.value.response()
    assert response is not None
    response.finished()


@in_every_look
def test_calls_are_shown_with_their_names_as_text(
    console: Console, broker: Daemon, device_id: str, device: AnsweringDevice
) -> None:
    call(broker, device_id, f"{EVIL}{console.look}", {"pin": 7})
    console.open("#/calls")
    shown = console.row(f"{EVIL}{console.look}").first
    expect(shown).to_contain_text("SUCCESSFUL")
    expect(shown).to_contain_text(" ms")
    assert console.page.locator("img").count() == 0
    console.check()


def test_a_call_that_is_made_appears_by_itself_and_the_table_can_be_held(
    console: Console, broker: Daemon, device_id: str, device: AnsweringDevice
) -> None:
    open_live(console)
    call(broker, device_id, "appears")
    expect(console.row("appears")).to_contain_text("SUCCESSFUL")
    console.page.get_by_label("Live").uncheck()
    call(broker, device_id, "is-held-back")
    call(broker, device_id, "is-held-back-too")
    expect(console.row("appears")).to_be_visible()
    expect(console.row("is-held-back")).to_have_count(0)
    console.page.get_by_label("Live").check()
    expect(console.row("is-held-back")).to_have_count(2)


def test_the_table_is_narrowed_by_device_method_and_state(
    console: Console, broker: Daemon, device_id: str, device: AnsweringDevice
) -> None:
    other = broker.add_device(f"other {EVIL}", "other")
    call(broker, device_id, "narrow")
    call(broker, device_id, "wide")
    call(broker, other, "narrow", timeout=50)
    page = console.open("#/calls").page
    page.get_by_label("Method").fill("narrow")
    expect(console.row("wide")).to_have_count(0)
    expect(console.row("narrow")).to_have_count(2)
    page.get_by_label("State").select_option("SUCCESSFUL")
    expect(console.row("narrow")).to_have_count(1)
    page.get_by_label("State").select_option("")
    expect(console.row("narrow")).to_have_count(2)
    page.get_by_label("Device").fill(f"other {EVIL}")
    expect(console.row("narrow")).to_have_count(1)
    expect(console.row("narrow")).to_contain_text("NEVER_CONNECTED")
    page.get_by_label("Device").fill("")
    expect(console.row("narrow")).to_have_count(2)


@in_every_look
def test_the_time_line_of_one_call_is_drawn_as_bars(
    console: Console, broker: Daemon, device_id: str, device: AnsweringDevice
) -> None:
    rpc_id = call(broker, device_id, EVIL, {"name": EVIL}, persistent=True, timeout=60_000)
    console.open(f"#/call/{rpc_id}")
    steps = console.page.get_by_role("list", name="Time line").get_by_role("listitem")
    expect(steps.filter(has_text="answered")).to_be_visible()
    expect(steps.first).to_contain_text("accepted")
    expect(steps.first).to_contain_text("0 ms")
    boxes = [bar.bounding_box() for bar in console.page.locator(".bars .bar").all()]
    lefts = [box["x"] for box in boxes if box]
    assert len(lefts) == len(boxes) == steps.count()
    assert lefts == sorted(lefts)
    assert lefts[-1] > lefts[0]
    expect(console.page.get_by_role("region", name="Params")).to_contain_text(EVIL.replace('"', '\\"'))
    console.check()


def test_a_call_that_waits_is_followed_to_its_end(console: Console, broker: Daemon) -> None:
    later = broker.add_device("later", "later-token")
    rpc_id = call(broker, later, "wake", {"a": 1}, persistent=True, timeout=60_000)
    console.open(f"#/call/{rpc_id}")
    status = console.page.get_by_role("definition").filter(has_text="QUEUED")
    expect(status).to_be_visible()
    device = AnsweringDevice(broker, "later-token")
    try:
        expect(console.page.get_by_role("list", name="Time line")).to_contain_text("answered")
        expect(console.page.get_by_role("region", name="Reply")).to_contain_text('"a": 1')
    finally:
        device.close()


def test_why_a_call_failed_and_what_to_do_is_told(console: Console, broker: Daemon) -> None:
    never = broker.add_device("never", "never-token")
    rpc_id = call(broker, never, "getValue", timeout=50)
    console.open(f"#/call/{rpc_id}")
    expect(console.page.locator("#main")).to_contain_text("NEVER_CONNECTED")
    expect(console.page.locator("#main")).to_contain_text("Check the device's access token")
    console.check()


def test_it_is_sent_again_only_after_asking_and_under_an_id_of_its_own(
    console: Console, broker: Daemon, device_id: str, device: AnsweringDevice
) -> None:
    open_live(console)
    rpc_id = call(broker, device_id, "again", {"n": 1})
    console.row("again").get_by_role("link", name="again").click()
    page = console.page
    expect(page.get_by_role("region", name="Params")).to_contain_text('"n": 1')  # the feed told it
    made = len(device.calls)
    page.get_by_role("button", name="Send again").click()
    dialog = page.get_by_role("dialog")
    console.check()
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_have_count(0)
    assert len(device.calls) == made
    page.get_by_role("button", name="Send again").click()
    expect(dialog.get_by_label("Params")).to_have_value(re.compile('"n": 1'))
    dialog.get_by_label("Params").fill("{")
    expect(dialog.get_by_role("button", name="Send")).to_be_disabled()
    dialog.get_by_label("Params").fill('{"n": 2}')
    dialog.get_by_role("button", name="Send").click()
    expect(page).not_to_have_url(re.compile(rpc_id))
    expect(page.get_by_role("region", name="Reply")).to_contain_text('"n": 2')
    assert [method for _, method in device.calls[made:]] == ["again"]


def test_a_call_is_cancelled_only_after_asking(console: Console, broker: Daemon) -> None:
    asleep = broker.add_device("asleep", "asleep-token")
    rpc_id = call(broker, asleep, "wake", persistent=True, timeout=60_000)
    page = console.open(f"#/call/{rpc_id}").page
    page.get_by_role("button", name="Cancel the call").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel", exact=True).click()
    expect(page.get_by_role("definition").filter(has_text="QUEUED")).to_be_visible()
    page.get_by_role("button", name="Cancel the call").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the call").click()
    expect(page.get_by_role("list", name="Time line")).to_contain_text("cancelled")
    expect(page.get_by_role("button", name="Cancel the call")).to_have_count(0)


def test_what_is_copied_of_a_call_can_be_pasted(
    console: Console, broker: Daemon, device_id: str, device: AnsweringDevice
) -> None:
    params = {"text": ROUNDS}
    rpc_id = call(broker, device_id, EVIL, params, persistent=True, timeout=60_000)
    page = console.open(f"#/call/{rpc_id}").page
    for name, run in (("curl", ["bash"]), ("Python", [sys.executable])):
        snippet = page.get_by_role("region", name=name, exact=True)
        snippet.get_by_role("button", name="Copy").click()
        expect(snippet.get_by_role("button", name="Copied")).to_be_visible()
        text = page.evaluate("navigator.clipboard.readText()")
        done = subprocess.run(
            run,
            input=text,
            env=os.environ | {"TOKEN": broker.token or ""},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        again = re.search(r'"rpcId":"([^"]+)"', done.stdout)
        assert again, done.stdout
        asked = broker.ask("GET", f"/api/rpc/persistent/{again[1]}")[1]["request"]["body"]
        assert asked["method"] == EVIL
        assert json.loads(asked["params"]) == params
    expect(page.get_by_role("region", name=re.compile("mosquitto"))).to_contain_text(f"-p {broker.mqtt_port}")


def test_a_customers_user_sees_the_calls_of_its_devices_and_no_others(
    visitor: Console, broker: Daemon, device_id: str, device: AnsweringDevice
) -> None:
    user_id = user_of_customer(broker, "rents@example.org")
    customer = broker.ask("GET", f"/api/user/{user_id}")[1]["customerId"]["id"]
    rented = broker.add_device("rented", "rented-token")
    assert broker.ask("POST", f"/api/customer/{customer}/device/{rented}")[0] == 200
    call(broker, rented, "before", persistent=True, timeout=60_000)
    call(broker, device_id, "not-yours")
    open_live(visitor.sign_in("rents@example.org", PASSWORD))
    call(broker, device_id, "not-yours")
    call(broker, rented, "meanwhile", persistent=True, timeout=60_000)
    expect(visitor.row("meanwhile")).to_contain_text("QUEUED")
    expect(visitor.row("before")).to_be_visible()
    expect(visitor.row("not-yours")).to_have_count(0)
    visitor.open(f"#/persistent?deviceId={rented}")
    expect(visitor.row("before").get_by_role("button", name="Details")).to_be_visible()
    expect(visitor.page.get_by_role("button", name="Delete")).to_have_count(0)
    visitor.open("#/bulk").page.get_by_role("button", name="Call many devices").click()
    choices = visitor.page.get_by_role("combobox", name="Devices").get_by_role("option")
    expect(choices).to_have_text(["all of a type", "all whose name contains a text"])


def test_each_reason_is_explained_and_each_step_has_its_colour() -> None:
    reasons = set(re.findall(r"^  ([A-Z_]+): \{$", (PARTS / "reasons.js").read_text(), re.MULTILINE))
    assert reasons == {reason.value for reason in Reason}
    kinds = set(re.findall(r'^  "?([a-z ]+)"?: "', (PARTS / "bars.js").read_text(), re.MULTILINE))
    assert kinds <= {mark.value for mark in Mark}
