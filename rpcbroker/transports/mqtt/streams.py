"""Retained messages on their way to one client: which is next, and how much is done for that in one turn."""

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

STEPS_AT_ONCE = 2_500
"""Steps in which they are looked for, for one client in one turn; they take about a millisecond.

A filter may look at all topics and match none.
"""


class Streams:
    """One stream for each SUBSCRIBE and filter, one after the other; a number in it counts steps that found none."""

    __slots__ = ("_begun", "_left", "_size_left", "_steps_left", "_waiting", "turn")

    def __init__(self) -> None:
        self._begun: tuple[str, Iterator[Delivery | int]] | None = None
        self._waiting: dict[str, Iterator[Delivery | int]] = {}
        self.turn: Deadline | None = None
        """When the next turn begins; None as long as nothing was done in this one."""
        self.renew()

    @property
    def finished(self) -> bool:
        return self._begun is None and not self._waiting

    def add(self, topic_filter: str, deliveries: Iterator[Delivery | int]) -> None:
        """Let it wait, in the place of what there is for the same filter, of which it brings all.

        So there are never more than a client may have filters, however often it subscribes.
        """
        if self._begun is not None and self._begun[0] == topic_filter:
            self._begun = None
        self._waiting[topic_filter] = deliveries

    def discard(self, topic_filters: Iterable[str]) -> None:
        """The client does not listen to these any more."""
        for topic_filter in topic_filters:
            self._waiting.pop(topic_filter, None)
            if self._begun is not None and self._begun[0] == topic_filter:
                self._begun = None

    def renew(self) -> None:
        """A turn begins."""
        self.turn = None
        self._left = STREAMED_AT_ONCE
        self._size_left = STREAMED_SIZE_AT_ONCE
        self._steps_left = STEPS_AT_ONCE

    def take(self) -> Delivery | None:
        """The next one; None if there is none, or none in this turn."""
        while self._left > 0 and self._size_left > 0 and self._steps_left > 0:
            if self._begun is None:
                if not self._waiting:
                    return None
                topic_filter = next(iter(self._waiting))
                self._begun = topic_filter, self._waiting.pop(topic_filter)
            delivery = self._look(self._begun[1])
            if delivery is not None:
                self._left -= 1
                self._size_left -= delivery.message.size
                return delivery
        return None

    def _look(self, deliveries: Iterator[Delivery | int]) -> Delivery | None:
        """The next one of what has begun; None if that has ended, or the steps of this turn are done."""
        left = self._steps_left
        for found in deliveries:
            if not isinstance(found, int):
                self._steps_left = left - 1
                return found
            left -= found
            if left <= 0:
                break
        else:
            left -= 1
            self._begun = None
        self._steps_left = left
        return None

    def stop(self) -> None:
        """There is nobody to give them to any more."""
        if self.turn is not None:
            self.turn.cancel()
            self.turn = None
