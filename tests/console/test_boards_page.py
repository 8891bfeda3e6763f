"""Boards: made, arranged, shared, and kept."""

from __future__ import annotations

from typing import Any

import pytest
from browser import Console, Look, in_every_look
from daemon import Daemon
from playwright.sync_api import Locator, expect
from widgets import Stage, Widget


def edit(console: Console, board_id: str) -> None:
    console.open(f"#/board/{board_id}")
    console.page.get_by_role("button", name="Edit").click()


def save(console: Console) -> None:
    console.page.get_by_role("button", name="Save", exact=True).click()
    expect(console.page.get_by_role("button", name="Edit")).to_be_visible()


def handle(console: Console, title: str) -> Locator:
    return console.page.get_by_role("button", name=f"Move {title}", exact=True)


def places(board: dict[str, Any]) -> dict[str, tuple[int, int, int, int]]:
    return {each["id"]: (each["x"], each["y"], each["w"], each["h"]) for each in board["content"]["widgets"]}


@in_every_look
@pytest.mark.screenshots
def test_a_board_of_a_device_begins_at_the_page_of_the_device(console: Console, broker: Daemon, look: Look) -> None:
    name = f"mine {look}"
    device_id = broker.add_device(name, f"token-of-{look}")
    console.open(f"#/device/{device_id}")
    console.page.get_by_role("link", name="Its board").click()
    expect(console.page.get_by_label("Title")).to_have_value(name)
    console.page.get_by_label("Add a widget").select_option("Knob")
    console.check()
    console.screenshot("board-edited")
    save(console)
    console.check()
    expect(console.page.get_by_role("slider", name="Knob")).to_be_visible()
    console.open(f"#/device/{device_id}")
    console.page.get_by_role("link", name="Its board").click()
    expect(console.page.get_by_role("slider", name="Knob")).to_be_visible()
    status, page = broker.ask("GET", f"/api/boards?deviceId={device_id}&pageSize=10&page=0")
    assert (status, [each["title"] for each in page["data"]]) == (200, [name])


@in_every_look
def test_boards_are_listed_found_and_deleted(console: Console, stage: Stage, look: Look) -> None:
    title = f"<script>alert({look.width})</script> {look}"
    stage.board("led", title=title)
    console.open("#/boards")
    console.page.get_by_label("Search").fill(title)
    expect(console.page.get_by_role("link", name=title)).to_be_visible()
    console.check()
    console.page.get_by_role("button", name=f"Delete {title}").click()
    console.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(console.page.get_by_text("There are no boards yet.")).to_be_visible()


PLAY_ROOM = {
    "switch": ("Lamp in the hall", 0, 0, 3, 3),
    "knob": ("Heating", 3, 0, 3, 4),
    "led": ("Lamp", 6, 0, 2, 3),
    "power_button": ("Pump", 8, 0, 3, 4),
    "slider": ("Blinds", 0, 4, 5, 3),
    "gpio_control": ("Relays", 0, 7, 5, 4),
    "shell": ("Shell", 5, 4, 7, 7),
}


@in_every_look
@pytest.mark.screenshots
def test_a_board_shows_what_its_device_says_in_all_its_widgets(console: Console, stage: Stage, look: Look) -> None:
    more: dict[str, dict[str, Any]] = {
        "knob": {"key": "", "unit": "°C", "initial": 21, "getMethod": "getState", "most": 40},
        "slider": {"unit": "%", "key": ""},
        "gpio_control": {
            "pins": [{"pin": 7, "label": "Fan"}, {"pin": 11, "label": "Door"}, {"pin": 12, "label": "Siren"}]
        },
    }
    widgets = [
        {"id": type_, "type": type_, "title": title, "settings": more.get(type_, {}), "x": x, "y": y, "w": w, "h": h}
        for type_, (title, x, y, w, h) in PLAY_ROOM.items()
    ]
    stage.device.call("setValue", True)
    stage.device.call("setState", 24)
    stage.device.call("setGpioStatus", {"pin": 11, "enabled": True})
    console.open(f"#/board/{stage.save('The hall', widgets)}")
    for type_ in PLAY_ROOM.keys() - {"shell"}:
        Widget(console, type_).is_in("confirmed")
    shell = Widget(console, "shell")
    shell.says("/$")
    shell.types("help")
    console.check()
    console.page.evaluate("scrollTo(0, 0)")
    console.screenshot("board")


def test_widgets_are_moved_and_sized_by_keyboard_and_each_step_is_told(console: Console, stage: Stage) -> None:
    board_id = stage.board("led", "button")
    edit(console, board_id)
    handle(console, "led").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "Shift+ArrowLeft", "Shift+ArrowUp"):
        console.page.keyboard.press(key)
    expect(console.page.get_by_role("status").filter(has_text="led: 5 wide, 5 high")).to_be_attached()
    expect(handle(console, "led")).to_be_focused()
    save(console)
    assert places(stage.saved(board_id)) == {"led": (2, 1, 5, 5), "button": (0, 7, 6, 6)}


def test_they_are_dragged_and_make_room_for_one_another(console: Console, stage: Stage) -> None:
    board_id = stage.board("led", "button")
    edit(console, board_id)
    grip, room = handle(console, "button"), console.page.locator(".board")
    box, width = grip.bounding_box(), room.evaluate("node => (node.clientWidth + 10) / 12")
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    console.page.mouse.move(x, y)
    console.page.mouse.down()
    console.page.mouse.move(x + 3 * width, y - 6 * 58, steps=8)
    console.page.mouse.up()
    save(console)
    assert places(stage.saved(board_id)) == {"led": (0, 6, 6, 6), "button": (3, 0, 6, 6)}


def test_settings_are_checked_while_they_are_applied_and_used_from_then_on(console: Console, stage: Stage) -> None:
    board_id = stage.board("knob")
    edit(console, board_id)
    console.page.get_by_role("button", name="Settings of knob").click()
    form = console.page.get_by_role("dialog")
    form.get_by_label("Highest value").fill("many")
    form.get_by_label("Title").fill('"><b>Heat</b>')
    form.get_by_role("button", name="Apply").click()
    expect(form.get_by_text("This must be a number.")).to_be_visible()
    console.check()
    form.get_by_label("Highest value").fill("30")
    form.get_by_label("Unit").fill("°C")
    form.get_by_role("button", name="Apply").click()
    save(console)
    knob = console.page.get_by_role("slider", name='"><b>Heat</b>')
    expect(knob).to_have_attribute("aria-valuemax", "30")
    knob.press("End")
    expect(knob).to_have_attribute("aria-valuetext", "30 °C")
    (widget,) = stage.saved(board_id)["content"]["widgets"]
    assert (widget["settings"]["most"], widget["settings"]["unit"]) == (30, "°C")


def test_a_widget_may_be_of_another_device_than_its_board(console: Console, stage: Stage, broker: Daemon) -> None:
    other = broker.add_device("another <i>one</i>", "token-of-another")
    board_id = stage.save(
        "two devices", [{"id": "led", "type": "led", "deviceId": other, "w": 4, "h": 4, "settings": {}}]
    )
    console.open(f"#/board/{board_id}")
    expect(console.page.get_by_role("heading", name="LED indicator · another <i>one</i>")).to_be_visible()
    expect(console.page.get_by_text("Offline")).to_be_visible()


@pytest.mark.parametrize("mine", [True, False])
def test_who_saves_what_somebody_else_has_changed_is_asked_what_to_do(
    console: Console, stage: Stage, broker: Daemon, mine: bool
) -> None:
    board_id = stage.board("led", title="ours")
    edit(console, board_id)
    console.page.get_by_label("Title").fill("mine")
    theirs = {"title": "theirs", "version": stage.saved(board_id)["version"], "content": {"widgets": []}}
    assert broker.ask("PUT", f"/api/board/{board_id}", theirs)[0] == 200
    with console.expecting("409"):
        console.page.get_by_role("button", name="Save", exact=True).click()
        dialog = console.page.get_by_role("dialog")
        expect(dialog).to_contain_text("Somebody else has changed this board")
    console.check()
    dialog.get_by_role("button", name="Save mine" if mine else "Leave theirs").click()
    expect(console.page.get_by_role("button", name="Edit")).to_be_visible()
    expect(console.page.get_by_role("heading", level=1)).to_have_text("mine" if mine else "theirs")
    assert stage.saved(board_id)["title"] == ("mine" if mine else "theirs")


def test_what_no_console_made_is_shown_as_far_as_it_can_be(console: Console, stage: Stage) -> None:
    odd = [
        {
            "id": "a",
            "type": "<img src=x onerror=alert(1)>",
            "title": "<svg onload=alert(2)>",
            "x": 9999,
            "w": 99,
            "h": 99,
        },
        {
            "id": "b",
            "type": "knob",
            "title": "knob",
            "settings": {"most": "x", "step": -1, "getMethod": 7},
            "w": 3,
            "h": 4,
        },
        {"id": "d", "type": "gpio_panel", "title": "pins", "settings": {"pins": [None], "layout": 7}},
        {"id": "c", "type": "constructor", "title": "", "settings": {"__proto__": {"x": 1}}},
    ]
    console.open(f"#/board/{stage.save('odd', odd)}")
    expect(console.page.get_by_text("This console knows no widget")).to_have_count(2)
    expect(console.page.get_by_role("slider", name="knob")).to_have_attribute("aria-valuemax", "100")
    console.check()
    console.page.get_by_role("button", name="Edit").click()
    expect(handle(console, "<svg onload=alert(2)>")).to_be_visible()
    save(console)


def test_removed_widgets_are_gone_and_cancelled_changes_are_as_if_they_were_not(console: Console, stage: Stage) -> None:
    board_id = stage.board("led", "button")
    edit(console, board_id)
    console.page.get_by_role("button", name="Remove led").click()
    console.page.get_by_role("button", name="Cancel").click()
    expect(console.page.locator(".tile")).to_have_count(2)
    console.page.get_by_role("button", name="Edit").click()
    console.page.get_by_role("button", name="Remove led").click()
    save(console)
    assert list(places(stage.saved(board_id))) == ["button"]
