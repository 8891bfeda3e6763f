"""What a GPIO board answers."""

from __future__ import annotations

from typing import Any

import pytest

from rpcbroker.simulator.device import Lengthy
from rpcbroker.simulator.gpio import DEFAULT_PINS, MAX_COUNT, GpioBoard


def test_pins_are_off_at_first() -> None:
    assert GpioBoard((7, 11)).answer("getGpioStatus", None) == {"7": False, "11": False}
    assert list(GpioBoard().answer("getGpioStatus", "{}")) == [str(pin) for pin in DEFAULT_PINS]


def test_setting_a_pin_is_answered_with_the_status_of_all() -> None:
    board = GpioBoard((7, 11))
    assert board.answer("setGpioStatus", {"pin": 7, "enabled": True}) == {"7": True, "11": False}
    assert board.answer("setGpioStatus", {"pin": 11, "enabled": True}) == {"7": True, "11": True}
    assert board.answer("setGpioStatus", {"pin": 7, "enabled": False}) == {"7": False, "11": True}
    assert board.answer("getGpioStatus", None) == {"7": False, "11": True}


@pytest.mark.parametrize(
    "params",
    [None, 7, "x", [], {}, {"pin": "7", "enabled": True}, {"pin": True, "enabled": True}, {"pin": 7, "enabled": 1}],
)
def test_bad_params_are_an_error_and_change_nothing(params: Any) -> None:
    board = GpioBoard((1, 7))
    assert "params must be" in board.answer("setGpioStatus", params)["error"]
    assert board.pins == {1: False, 7: False}


def test_a_pin_that_is_not_there_is_an_error() -> None:
    answer = GpioBoard((7, 11)).answer("setGpioStatus", {"pin": 8, "enabled": True})
    assert answer == {"error": "there is no pin 8; there are 7, 11"}


@pytest.mark.parametrize("value", [True, 42, "text", None, {"a": [1]}])
def test_the_value_is_kept_as_it_is(value: Any) -> None:
    board = GpioBoard()
    assert board.answer("setValue", value) == value
    assert board.answer("getValue", None) == value


def test_the_value_is_false_at_first() -> None:
    assert GpioBoard().answer("getValue", None) is False


@pytest.mark.parametrize("params", [None, "x", 1.5, [1, {"a": None}]])
def test_echo_returns_params(params: Any) -> None:
    assert GpioBoard().answer("echo", params) == params


def test_an_unknown_method_is_an_error_that_names_it() -> None:
    assert GpioBoard().answer("fly", {}) == {"error": "unknown method 'fly'"}


def test_counting_down_takes_its_time_and_tells_how_much_is_left() -> None:
    board = GpioBoard()
    assert board.answer("countDown", {"seconds": 3}) == Lengthy(1.0, ({"left": 2}, {"left": 1}), {"left": 0})
    assert board.answer("countDown", {"seconds": 1}) == Lengthy(1.0, (), {"left": 0})


@pytest.mark.parametrize("seconds", [None, 0, -1, True, "3", 1.5, MAX_COUNT + 1])
def test_but_not_for_ever(seconds: Any) -> None:
    assert "params must be" in GpioBoard().answer("countDown", {"seconds": seconds})["error"]
    assert "params must be" in GpioBoard().answer("countDown", seconds)["error"]
