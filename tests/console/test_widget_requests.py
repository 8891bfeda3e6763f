"""What each widget asks of a device: what ThingsBoard's asks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import Console
from playwright.sync_api import expect
from widgets import VALUED, Stage, Widget, change, opened

REQUESTS: dict[str, list[list[Any]]] = json.loads((Path(__file__).parent / "widget_requests.json").read_text())[
    "widgets"
]


def use_terminal(widget: Widget) -> None:
    for line in ("setValue 5", 'echo {"a": [1]}', "echo not JSON", "getValue"):
        widget.types(line)


def use_shell(widget: Widget) -> None:
    widget.types("cd /etc")
    widget.says("/etc$")
    box = widget.box.get_by_role("textbox")
    box.fill("count 100")
    box.press("Enter")
    widget.box.get_by_role("button", name="Terminate").click()
    widget.says("terminated")
    widget.types("exit")
    expect(widget.box.get_by_role("button", name="Connect")).to_be_visible()


def use_pins(widget: Widget) -> None:
    widget.box.get_by_role("switch", name="Pin 11,").click()


def use_table(widget: Widget) -> None:
    widget.box.get_by_role("button", name="New persistent call").click()
    dialog = widget.box.page.get_by_role("dialog")
    dialog.get_by_label("Method").fill("setValue")
    dialog.get_by_label("Params").fill("7")
    dialog.get_by_label("One-way").check()
    dialog.get_by_role("button", name="Call", exact=True).click()
    widget.says("DELIVERED")


def press(widget: Widget) -> None:
    widget.box.get_by_role("button").click()


USED: dict[str, Callable[[Widget], None]] = {
    "terminal": use_terminal,
    "shell": use_shell,
    "gpio_control": use_pins,
    "persistent_table": use_table,
    "button": press,
    "led": lambda _: None,
    "gpio_panel": lambda _: None,
}
ENDS = {"button": "sent", **dict.fromkeys(("gpio_panel", "terminal", "shell", "persistent_table"), "idle")}
"""The state in which a widget is when all is done."""


@pytest.mark.parametrize("type_", REQUESTS)
def test_it_asks_what_the_widget_of_thingsboard_asks(console: Console, stage: Stage, type_: str) -> None:
    (widget,) = opened(console, stage, type_)
    widget.is_in({"button": "idle"}.get(type_, ENDS.get(type_, "confirmed")))
    if type_ == "shell":
        widget.says("/$")
    if type_ in USED:
        USED[type_](widget)
    else:
        change(widget, type_)
        expect(widget.box.get_by_text("Pending")).to_have_count(0)
    widget.is_in(ENDS.get(type_, "confirmed"))
    told = _without_repeats(stage.requests())
    pushed = type_ in VALUED and told == REQUESTS[type_][:2]  # the device told its new value before it was asked
    assert pushed or told == REQUESTS[type_]


def _without_repeats(requests: list[list[Any]]) -> list[list[Any]]:
    """A shell asks again and again what a command has written; how often depends on the clock."""
    again = ["twoway", "getCommandStatus", None]
    return [each for at, each in enumerate(requests) if each != again or requests[at - 1] != again]
