"""Which topic a device meant that used one that is none of the contract's."""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from functools import lru_cache
from typing import NamedTuple

from rpcbroker.core.near_misses import NearMiss, printable
from rpcbroker.transports import dialect

FILTERS = tuple(sorted(dialect.GRANTED_FILTERS, key=lambda known: (known != dialect.RPC_REQUEST_FILTER, known)))
"""What a device subscribes to; what matters most comes first."""

MAX_SHOWN = 80
"""Characters of a device's topic that are shown."""
MAX_COMPARED = 200
"""Characters of a topic that may still resemble one of ours: comparing costs the square of the length."""
LIKENESS = 0.75
"""How alike two topics must be, from 0 to 1, to be taken for one another."""
MAX_REMEMBERED = 512
"""Topics whose answers are remembered: a device repeats its mistake with every message."""
_LONG = 12
"""Characters of a level that may be a secret: shorter ones are none that anybody should use."""

_RIGHT_TOPIC = re.compile("|".join(re.escape(known).replace(r"\{id\}", "-?[0-9]{1,10}") for known in dialect.UPLINKS))
_KNOWN_LEVELS = frozenset(level for topic in (*FILTERS, *dialect.UPLINKS) for level in topic.split("/"))


class Near(NamedTuple):
    """The kind of miss, and half a sentence that goes on after "it": what was done, what is wrong, what is right."""

    miss: NearMiss
    detail: str


@lru_cache(MAX_REMEMBERED)
def nearest(topic: str, *, subscribing: bool) -> Near:
    """What is wrong with a topic, or when `subscribing` a filter, that a device cannot use, and which one it meant."""
    did = f"has {'subscribed' if subscribing else 'published'} to {shown(topic)!r}"
    unknown = NearMiss.UNKNOWN_FILTER if subscribing else NearMiss.UNKNOWN_TOPIC
    if len(topic) <= MAX_COMPARED:
        right, wrong_way = (_right_filter, _right_topic) if subscribing else (_right_topic, _right_filter)
        fixed, faults = topic, []
        for fault, repair in _REPAIRS:
            repaired = repair(fixed)
            if repaired != fixed:
                fixed = repaired
                faults.append(fault)
            if faults and (meant := right(fixed)):
                miss = NearMiss.LEADING_SLASH if faults == [_SLASH] else NearMiss.WRONG_PREFIX
                return Near(miss, f"{did}, which {' and '.join(faults)}: {meant} is right")
        for fault, find in _FILTER_GUESSES if subscribing else _TOPIC_GUESSES:
            if meant := find(fixed):
                return Near(NearMiss.WRONG_PREFIX, f"{did}, which {fault}: {meant} is right")
        if wrong_way(fixed):
            return Near(unknown, f"{did}, which devices only {'publish' if subscribing else 'subscribe'} to")
        found = get_close_matches(fixed, FILTERS if subscribing else dialect.UPLINKS, 1, LIKENESS)
        if found:
            return Near(NearMiss.WRONG_PREFIX, f"{did}, which resembles {found[0]}")
    return Near(unknown, f"{did}, which is none of the topics that devices have here")


# -- faults that can be taken away, one after the other

_SLASH = "begins with a slash"
_ANY_DEVICE = re.compile(r"v1/devices?/[^/]+(?=/)")
_REPAIRS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("has blanks around it", str.strip),
    (_SLASH, lambda topic: topic.lstrip("/")),
    ("ends with a slash", lambda topic: topic.rstrip("/")),
    ("has an empty level", lambda topic: re.sub("/{2,}", "/", topic)),
    ("does not begin with v1/devices/me", lambda topic: _ANY_DEVICE.sub("v1/devices/me", topic, count=1)),
    ("has capital letters", str.lower),
)


def _right_filter(text: str) -> str | None:
    return text if dialect.is_granted(text) else None


def _right_topic(text: str) -> str | None:
    return text if _RIGHT_TOPIC.fullmatch(text) else None


# -- what else may have been meant


def _with_plus(text: str) -> str | None:
    return _right_filter(f"{text}/+")


def _for_all_ids(text: str) -> str | None:
    before, slash, number = text.rpartition("/")
    return _right_filter(f"{before}/+") if slash and number.isdecimal() else None


def _narrower(text: str) -> str | None:
    if not text.endswith("#"):
        return None
    beginning = text[:-1]
    return next((known for known in FILTERS if known.startswith(beginning)), None)


def _with_id(text: str) -> str | None:
    topic = f"{text}/{{id}}"
    return topic if topic in dialect.UPLINKS else None


_FILTER_GUESSES: tuple[tuple[str, Callable[[str], str | None]], ...] = (
    ("lacks /+ at its end", _with_plus),
    ("is for one id only", _for_all_ids),
    ("takes more than a device may have", _narrower),
)
_TOPIC_GUESSES: tuple[tuple[str, Callable[[str], str | None]], ...] = (("lacks the id at its end", _with_id),)


# -- what is shown of it


def shown(topic: str) -> str:
    """A topic, or a path, without what may be a token: people write it where `me` should be, and elsewhere."""
    topic = topic[: MAX_COMPARED + 1]
    levels = topic.split("/")
    start = next((place for place, level in enumerate(levels) if level), 0)
    place = start + 2
    if [level.lower() for level in levels[start:place]] in (["v1", "devices"], ["v1", "device"], ["api", "v1"]):
        levels[place:] = [_masked(level, 1 if n == 0 else _LONG) for n, level in enumerate(levels[place:])]
    else:
        levels = [_masked(level, _LONG) for level in levels]
    return printable("/".join(levels), MAX_SHOWN)


def _masked(level: str, from_length: int) -> str:
    known = level.strip().lower() in _KNOWN_LEVELS or level in ("+", "#")
    return "..." if len(level) >= from_length and not known else level
