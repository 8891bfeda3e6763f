"""What topic names and topic filters may look like (MQTT 4.7)."""

from __future__ import annotations

from rpcbroker.wire.errors import WireError

TOPIC_FILTER_INVALID = 0x8F
TOPIC_NAME_INVALID = 0x90


def check_topic(name: str) -> str:
    """The name of a PUBLISH; U+0000 and over-long ones were refused as strings already."""
    if not name:
        raise WireError("an empty topic name", TOPIC_NAME_INVALID)  # MQTT-4.7.3-1
    if "+" in name or "#" in name:
        raise WireError("a wildcard in a topic name", TOPIC_NAME_INVALID)  # MQTT-3.3.2-2
    return name


def check_filter(text: str) -> str:
    """The filter of a SUBSCRIBE or UNSUBSCRIBE."""
    if not text:
        raise WireError("an empty topic filter", TOPIC_FILTER_INVALID)  # MQTT-4.7.3-1
    if "#" in text and not (text.index("#") == len(text) - 1 and text in ("#", text[:-2] + "/#")):
        raise WireError("'#' must be the last level, alone", TOPIC_FILTER_INVALID)  # MQTT-4.7.1-1
    if "+" in text and any("+" in level and level != "+" for level in text.split("/")):
        raise WireError("'+' must be a level alone", TOPIC_FILTER_INVALID)  # MQTT-4.7.1-2
    return text
