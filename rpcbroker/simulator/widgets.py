"""A board that answers all that the widgets of a dashboard send. See docs/widgets.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rpcbroker.simulator.gpio import DEFAULT_PINS, GpioBoard
from rpcbroker.simulator.shell import FakeShell

MAX_FAILING = 100
"""Methods that may be told to fail."""


class WidgetBoard:
    """A GPIO board with a state and a shell beside its value, which reports all of them whenever they change.

    `fail` with params like `["setValue"]` makes calls of these methods, and of no others, fail from then on: so one
    sees what a widget makes of it.
    """

    def __init__(self, pins: Iterable[int] = DEFAULT_PINS, *, seconds: Callable[[], float]) -> None:
        """`seconds`: the time, for commands of the shell that take some."""
        self._gpio = GpioBoard(pins)
        self._gpio.value = 0  # off to a switch, and a number to a knob
        self._shell = shell = FakeShell(seconds)
        self._state: Any = 0
        self._failing: frozenset[str] = frozenset()
        self._methods: dict[str, Callable[[Any], Any]] = {
            "checkStatus": lambda _params: True,
            "getState": lambda _params: self._state,
            "setState": self._set_state,
            "rpcCommand": lambda params: {"ok": True, "params": params},
            "getTermInfo": lambda _params: shell.info(),
            "sendCommand": shell.send,
            "getCommandStatus": lambda _params: shell.status(),
            "terminateCommand": lambda _params: shell.terminate(),
            "fail": self._fail,
        }

    def answer(self, method: str, params: Any) -> Any:
        """The reply to a call, any JSON value or Lengthy. Never raises: what goes wrong is an `error` member."""
        if method in self._failing:
            return {"error": f"{method} fails, as it was told to"}
        known = self._methods.get(method)
        return known(params) if known else self._gpio.answer(method, params)

    def values(self) -> dict[str, Any]:
        """`value`, `state`, and each pin by its number."""
        pins = {str(pin): on for pin, on in self._gpio.pins.items()}
        values = {"value": self._gpio.value, "state": self._state, **pins}
        return {key: value for key, value in values.items() if value is not None}

    def _set_state(self, params: Any) -> Any:
        self._state = params
        return params

    def _fail(self, params: Any) -> Any:
        if (
            not isinstance(params, list)
            or len(params) > MAX_FAILING
            or not all(isinstance(each, str) for each in params)
        ):
            return {"error": 'params must be like ["setValue"], or [] to heal'}
        self._failing = frozenset(params) - {"fail"}
        return sorted(self._failing)
