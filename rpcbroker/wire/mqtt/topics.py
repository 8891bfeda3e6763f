"""What topic names and topic filters may look like, and which fits which (MQTT 4.7, 4.8.2)."""

from __future__ import annotations

import re

from rpcbroker.wire.errors import WireError

TOPIC_FILTER_INVALID = 0x8F
SHARE = "$share/"
_SHARED = re.compile(r"\$share/([^/+#]+)/(.+)", re.DOTALL)


def check_topic(name: str) -> str:
    """The name of a PUBLISH; what no string may have was refused already.

    The code is that of a malformed packet: 0x90 is for names that are well formed (3.14.2.1).
    """
    if not name:
        raise WireError("an empty topic name")  # MQTT-4.7.3-1
    return check_no_wildcard(name)


def check_no_wildcard(name: str) -> str:
    """A topic name, or nothing where an alias stands for it."""
    if "+" in name or "#" in name:
        raise WireError("a wildcard in a topic name")  # MQTT-3.3.2-2
    return name


def check_filter(text: str) -> str:
    """The filter of a SUBSCRIBE or UNSUBSCRIBE."""
    if not text:
        raise WireError("an empty topic filter")  # MQTT-4.7.3-1
    if "#" in text and not (text.index("#") == len(text) - 1 and text in ("#", text[:-2] + "/#")):
        raise WireError("'#' must be the last level, alone", TOPIC_FILTER_INVALID)  # MQTT-4.7.1-1
    if "+" in text and any("+" in level and level != "+" for level in text.split("/")):
        raise WireError("'+' must be a level alone", TOPIC_FILTER_INVALID)  # MQTT-4.7.1-2
    return text


def shared(topic_filter: str) -> tuple[str, str] | None:
    """The share name and the filter in `$share/{name}/{filter}`; None if it is no shared subscription.

    WireError 0x8F if the name or the filter is not there, or the name has a wildcard (4.8.2).
    """
    if not topic_filter.startswith(SHARE):
        return None
    found = _SHARED.fullmatch(topic_filter)
    if found is None:
        raise WireError("no share name, or no filter after it", TOPIC_FILTER_INVALID)  # MQTT-4.8.2-1, -2
    return found[1], check_filter(found[2])


def is_shared(topic_filter: str) -> bool:
    """Whether `shared` finds a name and a filter in it."""
    return _SHARED.fullmatch(topic_filter) is not None


def matches(topic_filter: str, topic: str) -> bool:
    """Whether this filter matches this topic name."""
    return covers(topic_filter, topic)  # a topic name is a filter without wildcards


def covers(allowed: str, wanted: str) -> bool:
    """Whether `allowed` matches every topic that the filter `wanted` matches."""
    if allowed.startswith("$") != wanted.startswith("$"):
        return False  # MQTT-4.7.2-1; and what begins with a wildcard or a name matches no '$' topic
    mine, endless = _levels(allowed)
    theirs, endless_too = _levels(wanted)
    if len(mine) > len(theirs) or (not endless and (endless_too or len(mine) < len(theirs))):
        return False
    return all(level in ("+", other) for level, other in zip(mine, theirs, strict=False))


def _levels(topic_filter: str) -> tuple[list[str], bool]:
    """The levels before '#', and whether there is one. No topic has less than one level: '#' says what '+/#' does."""
    levels = topic_filter.split("/")
    if levels[-1] != "#":
        return levels, False
    return levels[:-1] or ["+"], True
