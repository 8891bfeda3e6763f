"""Boards with widgets of a simulated device, and a widget as a person finds it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from browser import Console
from daemon import Daemon, wait_for
from playwright.sync_api import Locator, expect
from simulator import Simulator

TOGGLES = {"switch": "Value", "slide_toggle": "Value", "round_switch": "Value", "power_button": "State"}
NUMBERS = {"knob": "Value", "slider": "State", "stepper": "State"}
VALUED = TOGGLES | NUMBERS
"""Type -> what the names of its methods end with."""
_numbers = itertools.count(1)


class Stage:
    """A simulated device of its own, and boards for it."""

    def __init__(self, broker: Daemon) -> None:
        token = f"widgets-{next(_numbers)}"
        self._broker = broker
        self.device_id = broker.add_device(token, token)
        self.device = Simulator(broker, token, self.device_id)
        self._before: set[int] = set()

    def begin(self) -> None:
        """The device is there and as it was at first, and what it was asked before is no matter any more."""
        if not self.device.running:
            self.device.begin()
        self.device.tells_to_fail()
        for method in ("setValue", "setState"):
            self.device.call(method, 0)
        for pin in (7, 11, 12):
            self.device.call("setGpioStatus", {"pin": pin, "enabled": False})
        self.device.lines.clear()
        self._before = set(self._one_way())

    def board(self, *types: str, title: str = "Widgets", **settings: Any) -> str:
        """The id of a board with these widgets, each named like its type."""
        widgets = [
            {"id": type_, "type": type_, "title": type_, "settings": settings, "x": 0, "y": 6 * row, "w": 6, "h": 6}
            for row, type_ in enumerate(types)
        ]
        return self.save(title, widgets)

    def save(self, title: str, widgets: list[dict[str, Any]]) -> str:
        body = {
            "title": title,
            "deviceId": {"entityType": "DEVICE", "id": self.device_id},
            "content": {"widgets": widgets},
        }
        status, board = self._broker.ask("POST", "/api/boards", body)
        assert status == 200, board
        board_id: str = board["id"]["id"]
        return board_id

    def saved(self, board_id: str) -> dict[str, Any]:
        """The board as it is kept."""
        status, board = self._broker.ask("GET", f"/api/board/{board_id}")
        assert status == 200, board
        kept: dict[str, Any] = board
        return kept

    def requests(self) -> list[list[Any]]:
        """[way, method, params] of each call since it began, in the order in which the device saw them."""
        one_way = self._one_way()
        ways = ["oneway" if one_way[wire_id] else "twoway" for wire_id in sorted(one_way.keys() - self._before)]
        wait_for(lambda: len(self.device.calls()) == len(ways), f"{len(ways)} lines of calls")
        return [[way, method, params] for way, (method, params) in zip(ways, self.device.calls(), strict=True)]

    def _one_way(self) -> dict[int, bool]:
        """Of all calls to the device, by their wire ids."""
        status, calls = self._broker.ask("GET", f"/api/rpc?deviceId={self.device_id}&pageSize=1000")
        assert status == 200
        return {call["wireId"]: call["oneWay"] for call in calls["data"]}


@contextmanager
def stage_of(broker: Daemon) -> Iterator[Stage]:
    """Its device is gone afterwards."""
    stage = Stage(broker)
    yield stage
    if stage.device.running:
        stage.device.end()


class Widget:
    """One widget on the board that is open."""

    def __init__(self, console: Console, type_: str) -> None:
        self.box: Locator = console.page.locator(f'.tile[data-type="{type_}"] .widget')
        self.handle: Locator = self.box.locator('[role="switch"], [role="slider"], [role="spinbutton"], input').first

    def is_in(self, state: str) -> None:
        expect(self.box).to_have_attribute("data-state", state)

    def is_callable(self, callable_: bool) -> None:
        expect(self.box).to_have_attribute("data-callable", str(callable_).lower())
        expect(self.box.get_by_text("Offline")).to_be_visible(visible=not callable_)

    def says(self, text: str) -> None:
        expect(self.box).to_contain_text(text)

    def is_on(self, on: bool) -> None:
        expect(self.handle).to_have_attribute("aria-checked", str(on).lower())

    def types(self, line: str) -> None:
        """A line of a terminal, and waits until it may be typed in again."""
        self.box.get_by_role("textbox").fill(line)
        self.box.get_by_role("textbox").press("Enter")
        expect(self.box).to_have_attribute("data-state", "idle")


def opened(console: Console, stage: Stage, *types: str, **settings: Any) -> list[Widget]:
    """A board with widgets of these types."""
    console.open(f"#/board/{stage.board(*types, **settings)}")
    return [Widget(console, type_) for type_ in types]


def change(widget: Widget, type_: str) -> None:
    """As a person does it by keyboard."""
    key = {"knob": "End", "slider": "End", "stepper": "ArrowUp"}.get(type_, "Enter")
    widget.handle.press(key)
