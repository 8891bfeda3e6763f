"""A GPIO board: what it answers to each method. No network, no time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rpcbroker import __version__

DEFAULT_PINS = (7, 11, 12, 13, 15, 16, 18, 22, 29)
"""The pins that the usual dashboards show for a Raspberry Pi."""


class GpioBoard:
    """Pins that are on or off, and one value. `answer` never raises: what goes wrong is an `error` member."""

    def __init__(self, pins: Iterable[int] = DEFAULT_PINS) -> None:
        self.pins = dict.fromkeys(pins, False)
        self.value: Any = False
        self._methods: dict[str, Callable[[Any], Any]] = {
            "getGpioStatus": lambda _params: self._status(),
            "setGpioStatus": self._set_pin,
            "getValue": lambda _params: self.value,
            "setValue": self._set_value,
            "echo": lambda params: params,
            "getTermInfo": lambda _params: {
                "platform": "rpcbroker simulator",
                "release": __version__,
                "cwd": "/",
            },
        }

    def answer(self, method: str, params: Any) -> Any:
        """The reply to a call, any JSON value."""
        known = self._methods.get(method)
        return known(params) if known else {"error": f"unknown method '{method}'"}

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
