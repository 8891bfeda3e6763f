"""A log that stays short: of events that are alike so many in a minute are passed on, the rest is counted."""

from __future__ import annotations

from dataclasses import dataclass
from string import Formatter
from typing import Any

from twisted.logger import formatEvent

WINDOW = 60.0
"""Seconds that events of one kind are counted together."""
MAX_KINDS = 1_000
"""Kinds that are remembered; with one more the oldest is summed up early, and begins anew."""
MAX_TEXT = 200
"""Characters by which events are told apart that have no words in their template."""

Event = dict[str, Any]
Kind = tuple[str, Any, str]
"""Namespace, level, template."""


@dataclass(slots=True)
class _Window:
    began: float
    passed: int = 0
    withheld: int = 0


class Repeats:
    """Counts events by their kind. Times are those of the events, epoch seconds."""

    def __init__(self) -> None:
        self._windows: dict[Kind, _Window] = {}

    def passed(self, event: Event, most: int) -> list[Event]:
        """What to log now that `event` happened.

        The event, unless `most` of its kind were logged in this minute; before it the sums of what was
        withheld in minutes that are over with it.
        """
        now = event["log_time"]
        kind = _kind(event)
        window = self._windows.get(kind)
        sums: list[Event] = []
        if window is not None and _is_over(window, now):
            sums = self._end(kind, now)
            window = None
        if window is None:
            while len(self._windows) >= MAX_KINDS:
                sums += self._end(next(iter(self._windows)), now)
            window = self._windows[kind] = _Window(now)
        if window.passed >= most:
            window.withheld += 1
            return sums
        window.passed += 1
        return [*sums, event]

    def sums(self, now: float, *, of_all: bool = False) -> list[Event]:
        """What was withheld in minutes that are over, or in all, one event for each kind."""
        kinds = [kind for kind, window in tuple(self._windows.items()) if of_all or _is_over(window, now)]
        return [event for kind in kinds for event in self._end(kind, now)]

    def _end(self, kind: Kind, now: float) -> list[Event]:
        window = self._windows.pop(kind, None)
        if window is None or not window.withheld:
            return []
        namespace, level, template = kind
        event = {
            "log_time": now,
            "log_level": level,
            "log_namespace": namespace,
            "log_format": "... {count:,} more of these in {seconds} s: {template}",
            "count": window.withheld,
            "seconds": round(min(WINDOW, max(1.0, now - window.began))),
            "template": template,
        }
        return [event]


def _is_over(window: _Window, now: float) -> bool:
    """Also when the clock was set back."""
    return not 0 <= now - window.began < WINDOW


def _kind(event: Event) -> Kind:
    """By template, or by text where the template has no words: "{error}" may say anything."""
    template = str(event.get("log_format") or "")
    try:
        worded = any(text.strip() for text, *_ in Formatter().parse(template))
    except ValueError:
        worded = True
    if not worded:
        template = formatEvent(event)[:MAX_TEXT]
    return event.get("log_namespace") or "-", event.get("log_level"), template
