"""Rate limits: token buckets that fill up continuously, one set of them for each key."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import NamedTuple

from rpcbroker.core.setting import Rate

MAX_KEYS = 10_000
"""Keys whose buckets are remembered; the one unused for longest is forgotten first, and begins full again."""


class _Buckets(NamedTuple):
    rate: Rate
    tokens: tuple[float, ...]
    filled: float


class RateLimit:
    """How often something may happen for each key: a tenant, a user, a device, an address.

    Of a rate such as `200:1,6000:60` every pair has a bucket of its own, and all must allow: a
    refusal takes a token from none of them.
    """

    def __init__(self, rate: Rate, seconds: Callable[[], float], *, max_keys: int = MAX_KEYS) -> None:
        self.rate = rate
        """May be replaced at any time; buckets then begin full again."""
        self._seconds = seconds
        self._max_keys = max_keys
        self._buckets: OrderedDict[Hashable, _Buckets] = OrderedDict()  # a dict looks long for its first key

    def take(self, key: Hashable, amount: int = 1) -> float:
        """So many more for `key`, all or none: 0.0 if they may, else the seconds until they might.

        Infinity if they never may, being more than a whole bucket holds.
        """
        return self._ask(key, amount=amount, takes=amount) if self.rate else 0.0

    def wait(self, key: Hashable) -> float:
        """The same for one, without taking it."""
        return self._ask(key, amount=1, takes=0)

    def _ask(self, key: Hashable, *, amount: int, takes: int) -> float:
        rate = self.rate
        if not rate:
            return 0.0
        now = self._seconds()
        buckets = self._buckets.get(key)
        if buckets is None and len(self._buckets) >= self._max_keys:
            self._buckets.popitem(last=False)
        if buckets is None or buckets.rate != rate:
            tokens = [float(count) for count, _ in rate]
        else:
            passed = now - buckets.filled
            tokens = [
                min(float(count), left + passed * count / seconds)
                for left, (count, seconds) in zip(buckets.tokens, rate, strict=True)
            ]
        wait = 0.0
        for left, (count, seconds) in zip(tokens, rate, strict=True):
            if left < amount:
                wait = max(wait, (amount - left) * seconds / count if amount <= count else math.inf)
        if not wait:
            tokens = [left - takes for left in tokens]
        self._buckets[key] = _Buckets(rate, tuple(tokens), now)
        self._buckets.move_to_end(key)
        return wait

    def give_back(self, key: Hashable, amount: int = 1) -> None:
        """What was taken just now shall count as not taken."""
        buckets = self._buckets.get(key)
        if buckets is not None:
            self._buckets[key] = buckets._replace(tokens=tuple(left + amount for left in buckets.tokens))
