"""Topic names and filters: what they may look like, and which fits which."""

from __future__ import annotations

import pytest
from hypothesis import given
from wire.naive import FILTERS, TOPICS, filters, fits, topics

from rpcbroker.wire.errors import WireError
from rpcbroker.wire.mqtt.topics import check_filter, covers, matches, shared


@given(filters, topics)
def test_a_filter_matches_as_the_standard_says(topic_filter: str, topic: str) -> None:
    assert matches(topic_filter, topic) is fits(topic_filter, topic)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("sport/tennis/player1/#", "sport/tennis/player1", True),  # the examples of 4.7.1 and 4.7.2
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("sport/#", "sport", True),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("#", "$SYS/monitor", False),
        ("+/monitor/Clients", "$SYS/monitor/Clients", False),
        ("$SYS/#", "$SYS", True),
        ("$SYS/monitor/+", "$SYS/monitor/Clients", True),
        ("a", "A", False),  # 4.7.3
        ("a/", "a", False),
        ("+/#", "a", True),
    ],
)
def test_matching_by_example(topic_filter: str, topic: str, expected: bool) -> None:
    assert fits(topic_filter, topic) is expected
    assert matches(topic_filter, topic) is expected


MATCHED = {text: frozenset(topic for topic in TOPICS if fits(text, topic)) for text in FILTERS}


@pytest.mark.parametrize("allowed", FILTERS)
def test_a_filter_covers_what_matches_nothing_else(allowed: str) -> None:
    # A name that no filter has, and one level more than a filter has, are among TOPICS, so they stand for all.
    for wanted, matched in MATCHED.items():
        assert covers(allowed, wanted) is (matched <= MATCHED[allowed]), wanted


def test_the_longest_filters_there_can_be_are_compared() -> None:
    assert covers("+/" * 32_767 + "#", "/" * 32_767)
    assert not covers("+/" * 32_766 + "+", "/" * 32_767)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$share/g/a", ("g", "a")),
        ("$share/g/a/+/#", ("g", "a/+/#")),
        ("$share/g//", ("g", "/")),
        ("$share/g/#", ("g", "#")),
        ("$share/g/$SYS/a", ("g", "$SYS/a")),
        ("$shared/g/a", None),
        ("$SHARE/g/a", None),
        ("/$share/g/a", None),
        ("a", None),
    ],
)
def test_shared_subscriptions_are_told_from_others(text: str, expected: tuple[str, str] | None) -> None:
    assert shared(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "$share/",
        "$share//x",
        "$share/g",
        "$share/g/",
        "$share/g+/x",
        "$share/+/x",
        "$share/#/x",
        "$share/#",
        "$share/g/a#",
        "$share/g/#/a",
    ],
)
def test_bad_shared_subscriptions_are_refused(text: str) -> None:
    with pytest.raises(WireError) as caught:
        shared(text)
    assert caught.value.code == 0x8F


@pytest.mark.parametrize("text", ["#", "+", "/", "a", "+/+/#", "/#", "$share/g/a", "a b/\U0001f600", "x" * 65_535])
def test_filters_that_are_fine(text: str) -> None:
    assert check_filter(text) == text
