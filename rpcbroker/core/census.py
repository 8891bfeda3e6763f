"""What there is at one moment, counted by walking: nothing is kept for it on the path of a call."""

from __future__ import annotations

from collections import Counter

from rpcbroker.core.calls import CallState


class Census:
    """`connected` and `callable` devices by their link's protocol, `waiting` calls by their state."""

    __slots__ = ("callable", "connected", "waiting")

    def __init__(self) -> None:
        self.connected: Counter[str] = Counter()
        self.callable: Counter[str] = Counter()
        self.waiting: Counter[CallState] = Counter()
