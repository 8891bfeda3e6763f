"""How a storm becomes a few lines."""

from __future__ import annotations

from typing import Any

from twisted.logger import LogLevel, formatEvent

from rpcbroker.host.repeats import MAX_KINDS, Repeats

MOST = 3


def event(when: float, template: str = "lost {peer}", level: Any = LogLevel.warn, **more: Any) -> dict[str, Any]:
    return {
        "log_time": when,
        "log_level": level,
        "log_namespace": "here",
        "log_format": template,
        "peer": when,
        "count": 7,
    } | more


def said(events: list[dict[str, Any]]) -> list[str]:
    return [formatEvent(one) for one in events]


def test_the_first_ones_pass_and_the_others_are_summed_up_at_the_next_event_after_the_minute() -> None:
    repeats = Repeats()
    passed = [said(repeats.passed(event(float(when)), MOST)) for when in range(50)]
    assert passed == [["lost 0.0"], ["lost 1.0"], ["lost 2.0"], *[[]] * 47]
    assert said(repeats.passed(event(60.0), MOST)) == ["... 47 more of these in 60 s: lost {peer}", "lost 60.0"]


def test_or_when_somebody_looks_after_the_minute() -> None:
    repeats = Repeats()
    for _ in range(1_237):
        repeats.passed(event(10.0), MOST)
    assert repeats.sums(69.0) == []
    (total,) = repeats.sums(70.0)
    assert formatEvent(total) == "... 1,234 more of these in 60 s: lost {peer}"
    assert (total["log_level"], total["log_namespace"], total["log_time"]) == (LogLevel.warn, "here", 70.0)
    assert repeats.sums(200.0) == []


def test_at_the_end_all_are_summed_up() -> None:
    repeats = Repeats()
    for _ in range(5):
        repeats.passed(event(10.0), MOST)
    assert said(repeats.sums(12.0, of_all=True)) == ["... 2 more of these in 2 s: lost {peer}"]
    assert said(repeats.passed(event(12.0), MOST)) == ["lost 12.0"]


def test_a_quiet_kind_leaves_no_sum() -> None:
    repeats = Repeats()
    for when in range(MOST):
        repeats.passed(event(float(when)), MOST)
    assert repeats.sums(100.0) == []


def test_level_namespace_and_template_tell_kinds_apart() -> None:
    repeats = Repeats()
    others = [
        event(0.0),
        event(0.0, level=LogLevel.critical),
        event(0.0, template="other"),
        event(0.0, log_namespace="there"),
        event(0.0, log_namespace=None, log_format=None),
    ]
    for one in others:
        assert repeats.passed(one, 1) == [one]
        assert repeats.passed(one, 1) == []


def test_where_the_template_has_no_words_the_text_tells_apart() -> None:
    repeats = Repeats()
    assert said(repeats.passed(event(0.0, "{peer}", peer="one"), 1)) == ["one"]
    assert said(repeats.passed(event(0.0, "{peer}", peer="two"), 1)) == ["two"]
    assert said(repeats.passed(event(0.0, "{peer}", peer="two"), 1)) == []


def test_a_template_that_is_none_is_no_trouble() -> None:
    assert len(Repeats().passed(event(0.0, "{broken"), 1)) == 1


def test_a_clock_that_was_set_back_withholds_nothing_for_ever() -> None:
    repeats = Repeats()
    for _ in range(10):
        repeats.passed(event(1e9), MOST)
    assert said(repeats.passed(event(5.0), MOST))[-1] == "lost 5.0"


def test_kinds_are_bounded_and_the_one_that_is_forgotten_is_summed_up() -> None:
    repeats = Repeats()
    for _ in range(MOST + 2):
        repeats.passed(event(0.0), MOST)
    sums = [one for number in range(MAX_KINDS) for one in repeats.passed(event(1.0, f"kind {number}"), MOST)]
    assert "... 2 more of these in 1 s: lost {peer}" in said(sums)
    assert len(repeats._windows) == MAX_KINDS
