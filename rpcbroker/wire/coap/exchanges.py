"""What makes datagrams reliable (RFC 7252 4.2, 4.5, 4.8): sending again, and knowing what came again."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The transmission parameters, in seconds (RFC 7252 4.8), and what follows from them (4.8.2)."""

    ack_timeout: float = 2.0
    """How long an acknowledgement is waited for the first time, at least."""
    ack_random_factor: float = 1.5
    """The first wait is at most so many times as long."""
    max_retransmit: int = 4
    """How often a message is sent again."""
    max_latency: float = 100.0
    """How long a datagram may be on its way."""

    @property
    def max_transmit_span(self) -> float:
        """From the first transmission of a message to its last."""
        return self.ack_timeout * (2**self.max_retransmit - 1) * self.ack_random_factor

    @property
    def max_transmit_wait(self) -> float:
        """From the first transmission to the end of all waiting for an acknowledgement."""
        return self.ack_timeout * (2 ** (self.max_retransmit + 1) - 1) * self.ack_random_factor

    @property
    def max_rtt(self) -> float:
        """There and back; ack_timeout stands for the time that it takes to answer."""
        return 2 * self.max_latency + self.ack_timeout

    @property
    def exchange_lifetime(self) -> float:
        """How long the message id of a confirmable message means the same message."""
        return self.max_transmit_span + self.max_rtt

    @property
    def non_lifetime(self) -> float:
        """The same, of a non-confirmable one."""
        return self.max_transmit_span + self.max_latency


class Retransmission:
    """One confirmable message that is on its way (RFC 7252 4.2)."""

    __slots__ = ("_left", "_timing", "_wait")

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._left = timing.max_retransmit
        self._wait = 0.0

    def first(self, rng: Random) -> float:
        """It is sent: how many seconds to wait for an acknowledgement."""
        timing = self._timing
        self._wait = rng.uniform(timing.ack_timeout, timing.ack_timeout * timing.ack_random_factor)
        return self._wait

    def next(self) -> float | None:
        """The wait is over: send it again, and wait for so many seconds. None: give up."""
        if self._left == 0:
            return None
        self._left -= 1
        self._wait *= 2
        return self._wait


class Recent:
    """The messages of one peer that came lately, so that each is obeyed once (RFC 7252 4.5).

    At most `limit` of them, and `max_bytes` of answers, are remembered; the oldest ones are forgotten first.
    """

    __slots__ = ("_bytes", "_known", "limit", "max_bytes")

    def __init__(self, limit: int = 64, max_bytes: int = 16_384) -> None:
        self.limit = limit
        self.max_bytes = max_bytes
        self._known: dict[int, tuple[float, bytes]] = {}
        """message id -> until when it means that message, and what was answered; oldest first"""
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._known)

    def seen(self, message_id: int, now: float, lifetime: float) -> bytes | None:
        """None: it is new, and known from now on, for `lifetime` seconds. Else what it was answered, to be sent again.

        That is empty while it is worked on, and if it is not answered at all.
        """
        known = self._known
        before = known.get(message_id)
        if before is not None:
            if now < before[0]:
                return before[1]
            self._forget(message_id)  # the id is used for another message now (RFC 7252 4.4)
        while known:
            oldest = next(iter(known))
            if len(known) < self.limit and now < known[oldest][0]:
                break
            self._forget(oldest)
        known[message_id] = (now + lifetime, b"")
        return None

    def answered(self, message_id: int, answer: bytes) -> None:
        """What to say if the message comes again: these bytes, as they were sent."""
        known = self._known
        before = known.get(message_id)
        if before is None:
            return
        known[message_id] = (before[0], answer)
        self._bytes += len(answer) - len(before[1])
        while self._bytes > self.max_bytes:
            self._forget(next(iter(known)))

    def forget(self, message_id: int) -> None:
        """If it comes again it is new. Harmless if it is not known."""
        if message_id in self._known:
            self._forget(message_id)

    def _forget(self, message_id: int) -> None:
        self._bytes -= len(self._known.pop(message_id)[1])
