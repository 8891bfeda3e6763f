"""Events of the feed as lines for people: aligned columns, coloured by how things went."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from rich.cells import set_cell_size
from rich.text import Text

from rpcbroker.cli.listing import printable
from rpcbroker.core.calls import CallState

STYLES = {
    CallState.SUCCESSFUL: "green",
    CallState.TIMEOUT: "yellow",
    CallState.EXPIRED: "red",
    CallState.FAILED: "red",
    CallState.DELETED: "yellow",
}
"""Of calls, by their states; of others that go on, none."""
WORDS = {
    "connected": "green",
    "disconnected": "yellow",
    "callable": "green",
    "not_callable": "yellow",
    "near_miss": "magenta",
    "asked": "cyan",
}
"""What may happen to a device."""

TIME, WHAT, MS = 12, 14, 10
"""Columns of the screen that those take which are always as wide."""
LEAST, MOST = 8, 24
"""The same of the names of devices and methods, for which there is more room or less."""


class Line(NamedTuple):
    """What is told of one event. `ms` is None where nothing was measured."""

    ts: int
    device: str
    method: str
    what: str
    ms: int | None
    more: str
    style: str


def line_of(name: str, data: Mapping[str, Any]) -> Line:
    """An event of the feed, of whichever family. What is missing in it, or not known here, is left blank."""
    family = _FAMILIES.get(name, _other)
    return family(data, str(data.get("topic", "")).rpartition(".")[2])


def drawn(line: Line, width: int) -> Text:
    """For a screen of `width` columns, in one line."""
    names = max(LEAST, min(MOST, (width - TIME - WHAT - MS - 10) // 3))
    time = datetime.fromtimestamp(line.ts / 1000).strftime("%H:%M:%S.%f")[:TIME]
    ms = "" if line.ms is None else f"{line.ms:,} ms"
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{time}  ", "dim")
    text.append(f"{_fitted(line.device, names)}  {_fitted(line.method, names)}  ")
    text.append(f"{_fitted(line.what, WHAT)}  ", line.style)
    text.append(f"{ms:>{MS}}  ", "dim")
    text.append(printable(line.more))
    text.rstrip()
    text.truncate(width, overflow="ellipsis")
    return text


def _fitted(text: str, width: int) -> str:
    """So many columns of the screen; a letter may take two of them."""
    text = printable(text)
    fitted = set_cell_size(text, width)
    return fitted if fitted.rstrip() == text.rstrip() else set_cell_size(text, width - 1) + "…"


def _call(data: Mapping[str, Any], _: str) -> Line:
    payload = next((_json(data[name]) for name in ("params", "progress", "reply") if name in data), "")
    more = (data.get("reason"), "one-way" if data.get("oneway") and not data.get("ended") else None, payload)
    return _line(
        data,
        device=data.get("deviceName") or data.get("deviceId"),
        what=data.get("step"),
        ms=data.get("ms"),
        more=" ".join(filter(None, more)),
        style=STYLES.get(data.get("state", ""), "") if data.get("ended") else "",
    )


def _device(data: Mapping[str, Any], word: str) -> Line:
    more = " ".join(filter(None, (data.get("miss"), data.get("detail"), data.get("cause"), data.get("reason"))))
    return _line(
        data,
        device=data.get("deviceName") or data.get("deviceId"),
        what=word.replace("_", " "),
        more=more,
        style=WORDS.get(word, ""),
    )


def _bulk(data: Mapping[str, Any], bulk_id: str) -> Line:
    counts = ", ".join(f"{count:,} {state}" for state, count in data.get("counts", {}).items() if count)
    more = " ".join(filter(None, (data.get("reason"), counts)))
    return _line(data, device=f"bulk {bulk_id}", what=str(data.get("state", "")).lower(), more=more)


def _rule(data: Mapping[str, Any], _: str) -> Line:
    more = (data.get("messageType"), data.get("label"), data.get("error"))
    return _line(
        data,
        device=data.get("chainName"),
        method=data.get("nodeName"),
        what=str(data.get("direction", "")).lower(),
        more=" ".join(filter(None, more)),
        style="red" if data.get("error") else "",
    )


def _other(data: Mapping[str, Any], _: str) -> Line:
    return _line(data, device=None, what=None, more=_json(dict(data)))


def _line(data: Mapping[str, Any], *, device: Any, what: Any, more: str, style: str = "", **others: Any) -> Line:
    members: dict[str, Any] = {"ms": None, "method": data.get("method")} | others
    return Line(
        ts=data.get("ts", 0),
        device=str(device or ""),
        method=str(members["method"] or ""),
        what=str(what or ""),
        ms=members["ms"],
        more=more,
        style=style,
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


_FAMILIES: dict[str, Callable[[Mapping[str, Any], str], Line]] = {
    "call": _call,
    "device": _device,
    "bulk": _bulk,
    "rule": _rule,
}
