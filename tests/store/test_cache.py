"""What was read lately: who makes room, and what must not be kept."""

from __future__ import annotations

import pytest

from rpcbroker.store.cache import SHARE, Cache


def filled(size: int) -> Cache:
    cache = Cache(size)
    for key in range(size):
        cache.put(key, str(key), since=cache.writes)
    return cache


@pytest.mark.parametrize("size", [1, 3, SHARE, 10 * SHARE])
def test_those_that_were_used_least_recently_make_room_and_it_is_never_too_full(size: int) -> None:
    cache = filled(size)
    kept = range(size // 2)
    for key in kept:
        assert cache.get(key) == str(key)
    for key in range(size, size + size // 4 + 1):
        cache.put(key, str(key), since=cache.writes)
        assert cache.get(key) == str(key)
    assert all(cache.get(key) for key in kept)
    assert sum(cache.get(key) is not None for key in range(2 * size)) <= size


def test_one_in_so_many_makes_room_at_once() -> None:
    cache = filled(3 * SHARE)
    cache.put("new", "it", since=cache.writes)
    assert [key for key in range(3 * SHARE) if cache.get(key) is None] == [0, 1, 2]


def test_what_was_read_before_a_write_is_not_kept() -> None:
    cache = Cache(10)
    before = cache.writes
    cache.wrote("other")
    cache.put("key", "old", since=before)
    assert cache.get("key") is None


def test_a_cache_for_nothing_keeps_nothing() -> None:
    cache = Cache(0)
    cache.put("key", "it", since=cache.writes)
    assert cache.get("key") is None
