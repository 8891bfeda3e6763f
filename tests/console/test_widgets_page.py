"""Each widget at a simulated device: what it shows, and what it makes of failures."""

from __future__ import annotations

from typing import Any

import pytest
from browser import Console, Look, in_every_look
from daemon import Daemon
from playwright.sync_api import expect
from widgets import NUMBERS, TOGGLES, VALUED, Stage, Widget, change, opened

COMPONENTS = (*VALUED, "led", "button", "gpio_control", "gpio_panel", "terminal", "shell", "persistent_table")
SLOW = {"timeout": 300}
"""Settings with which what is not answered has failed soon."""


# -- what they show


@in_every_look
def test_toggles_show_what_is_confirmed_and_revert_when_it_fails(console: Console, stage: Stage, look: Look) -> None:
    widgets = dict(zip(TOGGLES, opened(console, stage, *TOGGLES, twoway=True), strict=True))
    for type_, widget in widgets.items():
        widget.is_in("confirmed")
        of_same_value = [widgets[other] for other in TOGGLES if TOGGLES[other] == TOGGLES[type_]]
        stage.device.call(f"set{TOGGLES[type_]}", False)
        for each in of_same_value:
            each.is_on(False)
        change(widget, type_)
        for each in of_same_value:
            each.is_on(True)
        widget.is_in("confirmed")
        stage.device.tells_to_fail(f"set{TOGGLES[type_]}")
        change(widget, type_)
        widget.is_in("failed")
        widget.is_on(True)
        widget.says(f"The device says: set{TOGGLES[type_]} fails, as it was told to")
        stage.device.tells_to_fail()
    console.check()


@in_every_look
def test_numbers_show_what_is_confirmed_and_revert_when_it_fails(console: Console, stage: Stage, look: Look) -> None:
    widgets = dict(zip(NUMBERS, opened(console, stage, *NUMBERS, twoway=True), strict=True))
    for type_, widget in widgets.items():
        of_same_value = [widgets[other] for other in NUMBERS if NUMBERS[other] == NUMBERS[type_]]
        stage.device.call(f"set{NUMBERS[type_]}", 40)
        for each in of_same_value:
            shows(each, 40)
        widget.handle.press("ArrowDown")
        for each in of_same_value:
            shows(each, 39)
        widget.is_in("confirmed")
        stage.device.tells_to_fail(f"set{NUMBERS[type_]}")
        widget.handle.press("ArrowDown")
        widget.is_in("failed")
        shows(widget, 39)
        stage.device.tells_to_fail()
    console.check()


def shows(widget: Widget, value: float) -> None:
    expect(widget.handle).to_have_attribute("aria-valuetext", str(value))


def test_a_change_that_is_not_replied_to_is_read_again_and_reverts_if_it_was_not_done(
    console: Console, stage: Stage
) -> None:
    widgets = all_valued(console, stage)
    stage.device.tells_to_fail("setValue", "setState")
    for type_, widget in widgets.items():
        before = said_by(widget, type_)
        change(widget, type_)
        widget.is_in("failed")
        widget.says("The device has not done it")
        assert said_by(widget, type_) == before


def test_a_reading_that_fails_leaves_the_value_unknown(console: Console, stage: Stage) -> None:
    stage.device.tells_to_fail("getValue", "getState")
    for widget in opened(console, stage, *VALUED):
        widget.is_in("failed")
        widget.says("unknown")


def test_what_the_device_tells_is_followed_and_nothing_is_asked_for_it(console: Console, stage: Stage) -> None:
    widgets = all_valued(console, stage)
    asked = len(stage.device.calls())
    stage.device.call("setValue", 60)
    stage.device.call("setState", 60)
    for type_, widget in widgets.items():
        follows(widget, type_, 60)
        widget.is_in("confirmed")
    assert len(stage.device.calls()) == asked + 2


def test_an_attribute_is_followed_too(console: Console, stage: Stage, broker: Daemon) -> None:
    widgets = all_valued(console, stage, key="level")
    status, _ = broker.ask("POST", f"/api/plugins/telemetry/{stage.device_id}/SHARED_SCOPE", {"level": 70})
    assert status == 200
    for type_, widget in widgets.items():
        follows(widget, type_, 70)


@pytest.mark.parametrize("source", ["timeseries", "attribute"])
def test_the_first_value_may_be_what_the_broker_knows(
    console: Console, stage: Stage, broker: Daemon, source: str
) -> None:
    attributes = f"/api/plugins/telemetry/{stage.device_id}/SERVER_SCOPE"
    assert broker.ask("POST", attributes, {"value": 60, "state": 60})[0] == 200
    stage.device.call("setValue", 60)
    stage.device.call("setState", 60)
    asked = len(stage.device.calls())
    for type_, widget in all_valued(console, stage, source=source).items():
        follows(widget, type_, 60)
    assert len(stage.device.calls()) == asked


def all_valued(console: Console, stage: Stage, **settings: Any) -> dict[str, Widget]:
    """All that hold a value, on one board, when they have been told it."""
    widgets = dict(zip(VALUED, opened(console, stage, *VALUED, **settings), strict=True))
    for widget in widgets.values():
        widget.is_in("confirmed")
    return widgets


def said_by(widget: Widget, type_: str) -> str | None:
    return widget.handle.get_attribute("aria-checked" if type_ in TOGGLES else "aria-valuetext")


def follows(widget: Widget, type_: str, value: float) -> None:
    """Any number but 0 is on to a toggle."""
    if type_ in TOGGLES:
        widget.is_on(True)
    else:
        shows(widget, value)


@in_every_look
def test_offline_is_said_a_change_fails_then_and_when_it_is_back_it_is_asked_again(
    console: Console, stage: Stage, look: Look
) -> None:
    widgets = opened(console, stage, *VALUED, "led", "gpio_control", "shell", **SLOW)
    for widget in widgets:
        widget.is_callable(True)
    widgets[0].is_in("confirmed")
    stage.device.end()
    for widget in widgets:
        widget.is_callable(False)
    console.check()
    with console.expecting("504"):
        change(widgets[0], "switch")
        widgets[0].is_in("failed")
        widgets[0].is_on(False)
        widgets[0].says("Request timeout")
    stage.device.lines.clear()
    stage.device.begin()
    for widget in widgets:
        widget.is_callable(True)
    widgets[0].is_in("confirmed")
    assert [method for method, _ in stage.device.calls()].count("getValue") == 4


def test_the_last_wish_follows_when_there_are_many_while_one_is_under_way(console: Console, stage: Stage) -> None:
    (knob,) = opened(console, stage, "knob")
    knob.is_in("confirmed")
    for key in ("Home", "ArrowUp", "ArrowUp", "ArrowUp", "End"):
        knob.handle.press(key, delay=0)
    shows(knob, 100)
    knob.is_in("confirmed")
    changes = [params for method, params in stage.device.calls() if method == "setValue"]
    assert changes[-1] == 100
    assert stage.device.call("getValue") == 100


def test_a_knob_is_turned_by_dragging_it(console: Console, stage: Stage) -> None:
    (knob,) = opened(console, stage, "knob")
    knob.is_in("confirmed")
    box = knob.handle.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    console.page.mouse.move(x - 40, y)
    console.page.mouse.down()
    console.page.mouse.move(x, y - 40, steps=5)
    console.page.mouse.up()
    shows(knob, 50)
    knob.is_in("confirmed")
    assert stage.device.call("getValue") == 50


# -- those that hold no value


def test_a_led_follows_the_value_once_the_device_is_well(console: Console, stage: Stage) -> None:
    (led,) = opened(console, stage, "led")
    led.is_in("confirmed")
    expect(led.box.get_by_role("img", name="led: off")).to_be_visible()
    stage.device.call("setValue", True)
    expect(led.box.get_by_role("img", name="led: on")).to_be_visible()


def test_a_led_says_when_the_device_is_not_well(console: Console, stage: Stage) -> None:
    stage.device.tells_to_fail("checkStatus")
    (led,) = opened(console, stage, "led")
    led.is_in("failed")
    led.says("checkStatus fails")
    expect(led.box.get_by_role("img", name="led: unknown")).to_be_visible()


@in_every_look
@pytest.mark.parametrize("layout", ["basic", "raspberry"])
def test_pins_are_switched_and_shown_as_the_device_says_they_are(
    console: Console, stage: Stage, look: Look, layout: str
) -> None:
    control, panel = opened(console, stage, "gpio_control", "gpio_panel", layout=layout)
    control.is_in("confirmed")
    pin = control.box.get_by_role("switch", name="Pin 11,")
    pin.click()
    expect(pin).to_have_attribute("aria-checked", "true")
    expect(panel.box.get_by_role("img", name="Pin 11,")).to_have_accessible_name("Pin 11, " + _gpio(layout) + ", on")
    stage.device.call("setGpioStatus", {"pin": 7, "enabled": True})
    expect(control.box.get_by_role("switch", name="Pin 7,")).to_have_attribute("aria-checked", "true")
    stage.device.tells_to_fail("setGpioStatus")
    pin.click()
    expect(pin).to_have_attribute("data-state", "failed")
    expect(pin).to_have_attribute("aria-checked", "true")
    control.says("The device says: setGpioStatus fails")
    console.check()


def _gpio(layout: str) -> str:
    return "GPIO 17" if layout == "raspberry" else "GPIO 11"


def test_a_button_shows_the_reply_or_why_there_is_none(console: Console, stage: Stage) -> None:
    (button,) = opened(console, stage, "button", oneway=False, params={"a": 1}, label="<b>Go</b>")
    button.box.get_by_role("button", name="<b>Go</b>").click()
    button.is_in("confirmed")
    button.says('{"ok":true,"params":{"a":1}}')
    stage.device.tells_to_fail("rpcCommand")
    button.box.get_by_role("button").click()
    button.is_in("failed")
    button.says("The device says: rpcCommand fails")


def test_a_persistent_change_waits_for_a_device_that_is_away(console: Console, stage: Stage) -> None:
    (switch,) = opened(console, stage, "switch", persistent=True, twoway=True, timeout=60_000)
    switch.is_in("confirmed")
    stage.device.end()
    switch.is_callable(False)
    change(switch, "switch")
    switch.is_in("pending")
    stage.device.begin()
    switch.is_in("confirmed")
    switch.is_on(True)


def test_a_terminal_shows_replies_and_failures_and_remembers_what_was_typed(console: Console, stage: Stage) -> None:
    (terminal,) = opened(console, stage, "terminal")
    log = terminal.box.get_by_role("log")
    terminal.types('echo {"text": "<img src=x onerror=alert(1)>"}')
    expect(log).to_contain_text('"text": "<img src=x onerror=alert(1)>"')
    terminal.types("fly")
    expect(log).to_contain_text("unknown method 'fly'")
    box = terminal.box.get_by_role("textbox")
    box.press("ArrowUp")
    box.press("ArrowUp")
    expect(box).to_have_value('echo {"text": "<img src=x onerror=alert(1)>"}')
    box.press("ArrowDown")
    box.press("ArrowDown")
    expect(box).to_have_value("")
    terminal.types("clear")
    expect(log).to_be_empty()


@in_every_look
def test_a_shell_runs_commands_and_ends_them(console: Console, stage: Stage, look: Look) -> None:
    (shell,) = opened(console, stage, "shell")
    shell.says("/$")
    shell.types("cat /etc/motd")
    shell.says("Nothing here is real: type help.")
    shell.types("nonsense")
    shell.says("nonsense: there is no such command")
    box = shell.box.get_by_role("textbox")
    box.fill("count 60")
    box.press("Enter")
    shell.says("1\n")
    box.press("Control+c")
    shell.says("terminated")
    shell.is_in("idle")
    console.check()


def test_a_widget_without_a_device_says_so(console: Console, stage: Stage, broker: Daemon) -> None:
    widgets = [{"id": type_, "type": type_, "w": 6, "h": 6, "y": 6 * row} for row, type_ in enumerate(COMPONENTS)]
    status, board = broker.ask("POST", "/api/boards", {"title": "nobody's", "content": {"widgets": widgets}})
    assert status == 200, board
    console.open(f"#/board/{board['id']['id']}")
    expect(console.page.get_by_text("Target device is not set!")).to_have_count(len(COMPONENTS))
    assert stage.device.calls() == []
