"""Counts between bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcbroker.core.histogram import Histogram

BOUNDS = (0.1, 1.0, 10.0)


@pytest.mark.parametrize(
    ("value", "counts"),
    [(0, [1, 0, 0, 0]), (0.1, [1, 0, 0, 0]), (0.11, [0, 1, 0, 0]), (10, [0, 0, 1, 0]), (11, [0, 0, 0, 1])],
)
def test_a_bound_belongs_to_what_is_below_it(value: float, counts: list[int]) -> None:
    histogram = Histogram(BOUNDS)
    histogram.observe(value)
    assert histogram.counts == counts


@given(st.lists(st.floats(0, 100)))
def test_everything_is_counted_once_and_summed(values: list[float]) -> None:
    histogram = Histogram(BOUNDS)
    for value in values:
        histogram.observe(value)
    assert sum(histogram.counts) == len(values)
    assert sum(histogram.counts[:2]) == len([value for value in values if value <= 1])
    assert histogram.total == pytest.approx(sum(values))
