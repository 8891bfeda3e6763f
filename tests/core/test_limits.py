"""Token buckets, on a clock."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from rpcbroker.core import limits
from rpcbroker.core.limits import RateLimit
from rpcbroker.core.setting import Rate


def make(*pairs: tuple[int, float]) -> tuple[RateLimit, Clock]:
    clock = Clock()
    return RateLimit(Rate(tuple(pairs)), clock.seconds), clock


def test_without_a_rate_everything_may() -> None:
    limit, _ = make()
    assert not any(limit.take("a") for _ in range(1000))


def test_a_full_bucket_may_be_spent_at_once_and_fills_again() -> None:
    limit, clock = make((2, 1.0))
    assert [limit.take("a") for _ in range(3)] == [0.0, 0.0, 0.5]
    clock.advance(0.5)
    assert limit.take("a") == 0.0
    assert limit.take("a") == 0.5


def test_keys_do_not_share() -> None:
    limit, _ = make((1, 60.0))
    assert limit.take("a") == 0.0
    assert limit.take("b") == 0.0
    assert limit.take("a") > 0


def test_all_pairs_must_allow_and_a_refusal_costs_nothing() -> None:
    limit, clock = make((10, 1.0), (12, 60.0))
    assert [limit.take("a") for _ in range(10)] == [0.0] * 10
    assert limit.take("a") == 0.1
    clock.advance(1.0)
    assert [limit.take("a") for _ in range(3)][:2] == [0.0, 0.0]
    assert limit.take("a") > 1.0  # the second bucket is empty, the first is not


def test_a_new_rate_holds_at_once() -> None:
    limit, _ = make((1, 60.0))
    limit.take("a")
    limit.rate = Rate(((5, 1.0), (9, 9.0)))
    assert limit.take("a") == 0.0


def test_the_number_of_keys_is_bounded() -> None:
    limit, _ = make((1, 60.0))
    for number in range(limits.MAX_KEYS + 5):
        limit.take(number)
    assert len(limit._buckets) == limits.MAX_KEYS


@given(st.lists(st.floats(min_value=0, max_value=3), max_size=60), st.integers(1, 5), st.integers(1, 5))
def test_never_more_than_the_count_and_what_has_filled_up(waits: list[float], count: int, seconds: int) -> None:
    limit, clock = make((count, float(seconds)))
    taken = 0
    for wait in waits:
        clock.advance(wait)
        taken += limit.take("a") == 0.0
        assert taken <= count + clock.seconds() * count / seconds + 1e-6


def test_an_amount_is_taken_whole_or_not_at_all() -> None:
    limit, clock = make((10, 1.0))
    assert limit.take("a", 8) == 0.0
    assert limit.take("a", 8) == pytest.approx(0.6)
    assert limit.take("a", 2) == 0.0
    clock.advance(1.0)
    assert limit.take("a", 10) == 0.0


def test_more_than_a_bucket_holds_may_never_be_had() -> None:
    limit, clock = make((10, 1.0), (100, 2.0))
    assert limit.take("a", 11) == math.inf
    clock.advance(1000)
    assert limit.take("a", 11) == math.inf
    assert limit.take("a", 10) == 0.0


def test_what_is_given_back_was_not_taken() -> None:
    limit, _ = make((10, 1.0), (11, 60.0))
    for _ in range(5):
        assert limit.take("a", 10) == 0.0
        limit.give_back("a", 10)
    assert limit.take("a", 10) == 0.0
    assert limit.take("a") > 0
    limit.give_back("b", 5)
    assert limit.take("b", 11) == math.inf, "nobody had taken it"


def test_the_one_unused_for_longest_is_forgotten_and_one_that_is_there_pushes_out_nobody() -> None:
    clock = Clock()
    limit = RateLimit(Rate(((1, 60.0),)), clock.seconds, max_keys=2)
    limit.take("a"), limit.take("b")
    assert limit.take("a") > 0
    limit.take("c")
    assert limit.take("a") > 0
    assert limit.take("b") == 0.0
