"""What was read lately, bounded, and never older than what was written."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import islice
from typing import Any

SHARE = 64
"""When it is full, one entry in so many makes room: a dict looks long for its first key, so it is asked seldom."""


class Cache:
    """The least recently used entries make room.

    A read that began before a write may end after it: such an answer must not be kept. So each
    write counts, and `put` takes the count of when the read began.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: dict[Hashable, Any] = {}
        self.writes = 0

    def get(self, key: Hashable) -> Any:
        """The entry, or None."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._entries[key] = entry
        return entry

    def put(self, key: Hashable, entry: Any, *, since: int) -> None:
        """Keep `entry`, unless something was written after `since`."""
        if since != self.writes or not self._size:
            return
        if len(self._entries) >= self._size:
            for oldest in tuple(islice(self._entries, max(1, self._size // SHARE))):
                del self._entries[oldest]
        self._entries[key] = entry

    def wrote(self, *keys: Hashable) -> None:
        """Something was written, or is about to be: forget these, and what is being read."""
        self.writes += 1
        for key in keys:
            self._entries.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self.writes += 1
        self._entries.clear()
