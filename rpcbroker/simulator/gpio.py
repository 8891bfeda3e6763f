"""A GPIO board: what it answers to each method. No network, no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rpcbroker.simulator.device import Lengthy

DEFAULT_PINS = (7, 11, 12, 13, 15, 16, 18, 22, 29)
"""The pins that the usual dashboards show for a Raspberry Pi."""


MAX_COUNT = 3_600
"""Seconds that the board counts down at most."""


class GpioBoard:
    """Pins that are on or off, one value, and a timer. `answer` never raises: what goes wrong is an `error` member."""

    def __init__(self, pins: Iterable[int] = DEFAULT_PINS) -> None:
        self.pins = dict.fromkeys(pins, False)
        self.value: Any = False
        self._methods: dict[str, Callable[[Any], Any]] = {
            "getGpioStatus": lambda _params: self._status(),
            "setGpioStatus": self._set_pin,
            "getValue": lambda _params: self.value,
            "setValue": self._set_value,
            "echo": lambda params: params,
            "countDown": _count_down,
        }

    def answer(self, method: str, params: Any) -> Any:
        """The reply to a call, any JSON value."""
        known = self._methods.get(method)
        return known(params) if known else {"error": f"unknown method '{method}'"}

    def values(self) -> dict[str, Any]:
        """It reports nothing."""
        return {}

    def _status(self) -> dict[str, bool]:
        return {str(pin): on for pin, on in self.pins.items()}

    def _set_pin(self, params: Any) -> Any:
        pin, enabled = (params.get("pin"), params.get("enabled")) if isinstance(params, dict) else (None, None)
        if isinstance(pin, bool) or not isinstance(pin, int) or not isinstance(enabled, bool):
            return {"error": 'params must be like {"pin": 7, "enabled": true}'}
        if pin not in self.pins:
            return {"error": f"there is no pin {pin}; there are {', '.join(map(str, self.pins))}"}
        self.pins[pin] = enabled
        return self._status()

    def _set_value(self, params: Any) -> Any:
        self.value = params
        return params


def _count_down(params: Any) -> Any:
    seconds = params.get("seconds") if isinstance(params, dict) else None
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 1 <= seconds <= MAX_COUNT:
        return {"error": f'params must be like {{"seconds": 3}}, from 1 to {MAX_COUNT}'}
    return Lengthy(1.0, tuple({"left": left} for left in range(seconds - 1, 0, -1)), {"left": 0})
