"""Topics and filters over few levels, and the slow matcher that the fast ones are compared with."""

from __future__ import annotations

import itertools

from hypothesis import strategies as st

LEVELS = ["a", "b", "", "$"]

TOPICS = ["/".join(levels) for size in (1, 2, 3) for levels in itertools.product(LEVELS, repeat=size)]
"""Every topic of up to three levels; also the empty one, which is no topic name, but nothing here depends on that."""

FILTERS = [
    "/".join([*levels, *end])
    for size in (0, 1, 2)
    for levels in itertools.product(["a", "", "$", "+"], repeat=size)
    for end in ([], ["#"])
]
FILTERS = [text for text in FILTERS if text]
"""Every filter of up to two levels, and of three that ends in '#'."""

topics = st.sampled_from(TOPICS)
filters = st.sampled_from(FILTERS)


def fits(topic_filter: str, topic: str) -> bool:
    """Clause by clause (MQTT 4.7), without a thought of speed."""
    if topic.startswith("$") and topic_filter[0] in "+#":
        return False
    return _fit(topic_filter.split("/"), topic.split("/"))


def _fit(pattern: list[str], levels: list[str]) -> bool:
    if pattern == ["#"]:
        return True
    if not pattern or not levels:
        return pattern == levels
    return pattern[0] in ("+", levels[0]) and _fit(pattern[1:], levels[1:])
