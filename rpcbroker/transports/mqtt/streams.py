"""Retained messages on their way to one client: which is next, and how many go out in one turn of the reactor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rpcbroker.core.deadlines import Deadline
from rpcbroker.wire.mqtt.outbox import Delivery

STREAMED_AT_ONCE = 100
"""Retained messages that one client is given in one turn of the reactor."""

STREAMED_SIZE_AT_ONCE = 256 * 1024
"""Their bytes, about; the message that reaches this is the turn's last.

What one read leads to goes out in one write, however many SUBSCRIBEs it has: a client that takes no more is not
heard of before.
"""


class Streams:
    """One stream for each SUBSCRIBE and filter, one after the other."""

    __slots__ = ("_begun", "_left", "_size_left", "_waiting", "turn")

    def __init__(self) -> None:
        self._begun: tuple[str, Iterator[Delivery]] | None = None
        self._waiting: dict[str, Iterator[Delivery]] = {}
        self.turn: Deadline | None = None
        """When more may go out; None as long as nothing went out in this turn."""
        self.renew()

    @property
    def finished(self) -> bool:
        return self._begun is None and not self._waiting

    def add(self, topic_filter: str, deliveries: Iterator[Delivery]) -> None:
        """Let it wait, in the place of what waits for the same filter and has not begun.

        So there are never many more than a client may have filters, however often it subscribes.
        """
        self._waiting[topic_filter] = deliveries

    def discard(self, topic_filters: Iterable[str]) -> None:
        """The client does not listen to these any more."""
        for topic_filter in topic_filters:
            self._waiting.pop(topic_filter, None)
            if self._begun is not None and self._begun[0] == topic_filter:
                self._begun = None

    def take(self) -> Delivery | None:
        """The next one; None if there is none, or none in this turn."""
        while self._left > 0 and self._size_left > 0:
            if self._begun is None:
                if not self._waiting:
                    return None
                topic_filter = next(iter(self._waiting))
                self._begun = topic_filter, self._waiting.pop(topic_filter)
            delivery = next(self._begun[1], None)
            if delivery is not None:
                self._left -= 1
                self._size_left -= delivery.message.size
                return delivery
            self._begun = None
        return None

    def renew(self) -> None:
        """A turn begins."""
        self.turn = None
        self._left = STREAMED_AT_ONCE
        self._size_left = STREAMED_SIZE_AT_ONCE

    def stop(self) -> None:
        """There is nobody to give them to any more."""
        if self.turn is not None:
            self.turn.cancel()
            self.turn = None
