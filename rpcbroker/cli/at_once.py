"""Several requests at a time, their results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

AT_ONCE = 8
"""Requests that one command has on their way at most: enough to keep a broker's disk busy."""

T = TypeVar("T")
R = TypeVar("R")


async def in_order(items: AsyncIterable[T], work: Callable[[T], Coroutine[Any, Any, R]]) -> AsyncIterator[R]:
    """What `work` makes of each item, with AT_ONCE of them in work. Raises what `work` raises, and cancels the rest."""
    waiting: deque[Any] = deque()
    try:
        async for item in items:
            waiting.append(Deferred.fromCoroutine(work(item)))
            if len(waiting) == AT_ONCE:
                yield await waiting.popleft()
        while waiting:
            yield await waiting.popleft()
    finally:
        for each in waiting:
            each.addErrback(lambda _: None)
            each.cancel()
