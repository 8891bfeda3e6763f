"""The ring of a key's last points is kept in blocks, and is read as if it were a plain list."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from fakes import device, first_records, result_of, token
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from stores import url_for

from rpcbroker.core.model import Point
from rpcbroker.store.database import engine_of
from rpcbroker.store.direct import DirectDatabase
from rpcbroker.store.memory import MemoryStore
from rpcbroker.store.schema import ensure_schema
from rpcbroker.store.sql import SqlStore
from rpcbroker.store.tables import telemetry_block
from rpcbroker.store.values import BLOCK

ONE = UUID(int=100)
SIZES = st.integers(1, 3 * BLOCK) | st.sampled_from([1, BLOCK - 1, BLOCK, BLOCK + 1])
WINDOWS = st.integers(0, 6 * BLOCK) | st.sampled_from([1, 2, BLOCK, BLOCK + 1, BLOCK + 2, 100])
_keys = count(1)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def values(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Of a store with one device, and without threads: Deferreds have fired."""
    store: Any = MemoryStore()
    if request.param != "memory":
        url = url_for(request, tmp_path)
        engine = engine_of(url)
        ensure_schema(engine)
        engine.dispose()
        store = SqlStore(DirectDatabase(url), cache_size=100)
    store.open(first_records=first_records)
    result_of(store.create_device(device(100), token(device(100))))
    yield store.values
    result_of(store.close())


class Key:
    """A key of the device that has nothing yet, and what is posted to it."""

    def __init__(self, values: Any) -> None:
        self.name = f"k{next(_keys)}"
        self.values = values
        self.posted: list[tuple[int, int, int]] = []

    def save(self, size: int, *, window: int, since: int = 0) -> None:
        """So many new points, and with them again those of the last `since`; times are in no order."""
        for number in range(len(self.posted) + 1, len(self.posted) + 1 + size):
            self.posted.append((number, number * 7 % 23, number))
        self.write(self.posted[-size - since :], window=window)

    def write(self, points: Any, *, window: int) -> None:
        result_of(self.values.save_points([(ONE, self.name, points)], window=window))

    def delete(self, start: int, end: int, *, keep_latest: bool, window: int) -> bool:
        """Whether nothing is left."""
        deleted = self.values.delete_series(
            ONE, [self.name], start=start, end=end, keep_latest=keep_latest, window=window
        )
        return bool(result_of(deleted))

    def read(self, *, window: int) -> list[tuple[int, int, int]]:
        found = result_of(self.values.series(ONE, [self.name], window=window))
        points = found[self.name].points if found else ()
        return [(number, point.ts, int(bytes(point.value))) for number, point in points]

    def latest(self) -> tuple[int, int] | None:
        found = result_of(self.values.series(ONE, [self.name], window=0))
        return (found[self.name].latest.ts, int(bytes(found[self.name].latest.value))) if found else None

    def rows(self) -> int:
        query = sa.select(sa.func.count()).where(telemetry_block.c.key == self.name)
        counted: int = result_of(self.values._database.read(lambda c: c.execute(query).scalar()))
        return counted


def last(points: list[Any], window: int) -> list[Any]:
    return points[-window:] if window else []


def test_the_last_points_are_read_however_they_came(values: Any) -> None:
    @settings(deadline=None, max_examples=40)
    @given(WINDOWS, st.lists(st.tuples(SIZES, st.integers(0, BLOCK)), min_size=1, max_size=12))
    def check(window: int, flushes: list[tuple[int, int]]) -> None:
        key = Key(values)
        for size, again in flushes:
            key.save(size, window=window, since=again)
            assert key.read(window=window) == last(key.posted, window)
        assert key.rows() * BLOCK <= 2 * (window + 2 * BLOCK)

    check()


def test_a_window_that_changes_loses_nothing_that_the_smallest_one_since_would_keep(values: Any) -> None:
    @settings(deadline=None, max_examples=40)
    @given(st.lists(st.tuples(SIZES, WINDOWS), min_size=1, max_size=12))
    def check(flushes: list[tuple[int, int]]) -> None:
        key = Key(values)
        smallest: list[int] = []
        for size, window in flushes:
            key.save(size, window=window)
            smallest = [min(each, window) for each in smallest] + [window] * size
            wanted = {key.posted[-n] for n in range(1, len(smallest) + 1) if n <= smallest[-n]}
            found = key.read(window=window)
            assert wanted <= set(found) <= set(last(key.posted, window))
            assert found == sorted(set(found))

    check()


DELETIONS = st.tuples(st.integers(0, 23), st.integers(0, 23), st.booleans())


def test_what_is_deleted_is_gone_and_nothing_else(values: Any) -> None:
    @settings(deadline=None, max_examples=40)
    @given(WINDOWS, st.lists(SIZES | DELETIONS, min_size=1, max_size=12))
    def check(window: int, steps: list[Any]) -> None:
        key = Key(values)
        left: list[tuple[int, int, int]] = []
        latest: tuple[int, int] | None = None
        for step in steps:
            if isinstance(step, int):
                key.save(step, window=window)
                left = [*left, *key.posted[-step:]]
                new = max(point[1:] for point in key.posted[-step:])
                latest = new if latest is None else max(latest, new)
            else:
                start, end, keep_latest = step
                gone = key.delete(start, end, keep_latest=keep_latest, window=window)
                left = [point for point in left if not start <= point[1] < end]
                if latest and not keep_latest and start <= latest[0] < end:
                    latest = max((point[1:] for point in left), default=None)
                assert gone == (latest is None)
                if gone:
                    key.posted, left = [], []
            left = [point for point in left if point[0] > len(key.posted) - window]
            assert key.read(window=window) == left
            assert key.latest() == latest

    check()


def test_of_a_number_that_was_written_twice_the_later_counts(values: Any) -> None:
    key = Key(values)
    key.write([(1, 5, 1), (2, 6, 2)], window=10)
    key.write([(2, 7, 3), (3, 8, 4)], window=10)
    assert key.read(window=10) == [(1, 5, 1), (2, 7, 3), (3, 8, 4)]


def test_an_old_point_that_is_posted_with_the_last_ones_takes_no_newer_ones_place(values: Any) -> None:
    key = Key(values)
    key.save(20 * BLOCK, window=100)
    key.write([(8 * BLOCK, 99, 8 * BLOCK), (20 * BLOCK + 1, 5, 1)], window=100)
    assert key.read(window=100) == [*key.posted[-99:], (20 * BLOCK + 1, 5, 1)]
    assert key.latest() == (99, 8 * BLOCK)


@pytest.mark.parametrize("text", ['",["', "]]", "\\", "[1,2,3]", "\x00", "ä😀"])
def test_no_text_is_taken_for_the_end_of_a_point(values: Any, text: str) -> None:
    for first in (1, 3):
        points = [(first, 5, text), (first + 1, 6, Raw(b'[{"a":"]["},[]]'))]
        result_of(values.save_points([(ONE, text.replace("\x00", ""), points)], window=9))
    found = result_of(values.series(ONE, (), window=9))
    ((_, series),) = found.items()
    assert series.points[3] == (4, Point(6, Raw(b'[{"a":"]["},[]]')))
    assert [number for number, _ in series.points] == [1, 2, 3, 4]


def test_an_older_block_makes_room(values: Any) -> None:
    key = Key(values)
    for _ in range(20):
        key.save(BLOCK, window=2)
    query = sa.select(telemetry_block.c.points).where(telemetry_block.c.key == key.name)
    stored = result_of(values._database.read(lambda c: c.execute(query).scalars().all()))
    assert sum(text.count("[") for text in stored) <= 2 * BLOCK


def test_what_is_beyond_the_window_comes_not_back_when_the_rest_is_deleted(values: Any) -> None:
    key = Key(values)
    key.write([(number, number, number) for number in range(1, 6)], window=2)
    key.write([(6, 6, 6)], window=2)
    assert key.delete(5, 7, keep_latest=False, window=2)
    assert key.latest() is None
    assert key.rows() == 0


def test_of_those_of_one_time_that_are_left_the_last_posted_is_the_latest(values: Any) -> None:
    key = Key(values)
    for number in range(1, 5 * BLOCK):
        key.write([(number, 5, number)], window=2 * BLOCK)
    key.write([(5 * BLOCK, 9, 0)], window=2 * BLOCK)
    assert not key.delete(9, 10, keep_latest=False, window=2 * BLOCK)
    assert key.latest() == (5, 5 * BLOCK - 1)
