"""What devices nearly got right: kept for each device, so that whoever wonders why it does not work is told.

A near miss is a fact about one device, with a `detail`: half a sentence that goes on after "it", such as
"has subscribed to 'x', which begins with a slash". It never holds a payload, a password or a token.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from rpcbroker.core.errors import Reason

MAX_DETAIL = 240
"""Characters of a detail that are kept: a sentence, not a document."""


class NearMiss(StrEnum):
    """What it was. Stable words of the interface: never rename one."""

    LEADING_SLASH = "LEADING_SLASH"
    """A topic or filter that would be right without the slash at its beginning."""
    WRONG_PREFIX = "WRONG_PREFIX"
    """An unknown topic or filter that resembles a known one."""
    UNKNOWN_TOPIC = "UNKNOWN_TOPIC"
    UNKNOWN_FILTER = "UNKNOWN_FILTER"
    QOS_2_SUBSCRIPTION = "QOS_2_SUBSCRIPTION"
    """QoS 2 was asked for, and 1 was granted."""
    CONNECTION_FLAPPING = "CONNECTION_FLAPPING"
    """Two clients with the same credentials replace each other."""
    CLIENT_ID_SHARED = "CLIENT_ID_SHARED"
    """Another device of the tenant uses the same MQTT client id."""
    UNKNOWN_REPLY = "UNKNOWN_REPLY"
    """A reply to a call that does not wait."""
    BAD_PAYLOAD = "BAD_PAYLOAD"
    OVERSIZED_PACKET = "OVERSIZED_PACKET"
    """The device sent more than it may."""
    OVERSIZED_DOWNLINK = "OVERSIZED_DOWNLINK"
    """What was for the device is larger than it takes."""
    RATE_LIMITED = "RATE_LIMITED"
    QUEUE_OVERFLOW = "QUEUE_OVERFLOW"
    """More waited for the device than may."""
    NO_HANDLER = "NO_HANDLER"
    """A question whose method nobody answers."""


_M = NearMiss

HINTS: dict[NearMiss, str] = {
    _M.LEADING_SLASH: "Take the slash away: topics here begin with v1 or v2.",
    _M.WRONG_PREFIX: "Compare the topic with the one that is meant, letter by letter.",
    _M.UNKNOWN_TOPIC: "Nothing happens to what is published there; the documentation lists topics and paths.",
    _M.UNKNOWN_FILTER: "Nothing comes from there; calls come to who subscribes to v1/devices/me/rpc/request/+, or "
    "observes /api/v1/{token}/rpc.",
    _M.QOS_2_SUBSCRIPTION: "QoS 1 was granted: a device that insists on QoS 2 must be told to ask for 1.",
    _M.CONNECTION_FLAPPING: "Look for a second client with the same credentials: a copied image, a forgotten test. "
    "Give each device its own.",
    _M.CLIENT_ID_SHARED: "Give each device a client id of its own: the same one means the same MQTT session.",
    _M.UNKNOWN_REPLY: "Reply once, in time, and only to two-way calls; or give the call a longer timeout.",
    _M.BAD_PAYLOAD: "The payload must be JSON of the form that the topic asks for.",
    _M.OVERSIZED_PACKET: "Send less at once, or raise mqtt.max_packet_size.",
    _M.OVERSIZED_DOWNLINK: "Let the device announce a larger Maximum Packet Size, or send it less.",
    _M.RATE_LIMITED: "The device sends more often than its limits allow.",
    _M.NO_HANDLER: "Answer the method in a rule chain, or let the device ask another one: getMethods tells those that "
    "the broker answers itself.",
    _M.QUEUE_OVERFLOW: "The device is too slow, or too long away, for what it is sent.",
}
"""What to do about it."""

_TOPICS = frozenset({_M.LEADING_SLASH, _M.WRONG_PREFIX, _M.UNKNOWN_TOPIC})
_FILTERS = frozenset({_M.LEADING_SLASH, _M.WRONG_PREFIX, _M.UNKNOWN_FILTER, _M.QOS_2_SUBSCRIPTION})
_REPLACED = frozenset({_M.CONNECTION_FLAPPING, _M.CLIENT_ID_SHARED})
_ENDED = frozenset({_M.BAD_PAYLOAD, _M.OVERSIZED_PACKET, _M.RATE_LIMITED})

RELEVANT: dict[Reason, frozenset[NearMiss]] = {
    Reason.NEVER_CONNECTED: _TOPICS | _FILTERS | _ENDED,
    Reason.NO_SUBSCRIPTION: _FILTERS | _REPLACED | {_M.NO_HANDLER},  # some ask first, and wait for the answer
    Reason.DISCONNECTED: _TOPICS | _FILTERS | _REPLACED | _ENDED,
    Reason.NO_REPLY: _TOPICS | _REPLACED | _ENDED | {_M.UNKNOWN_REPLY},
    Reason.NO_ACK: _REPLACED | _ENDED | {_M.OVERSIZED_DOWNLINK, _M.QUEUE_OVERFLOW},
    Reason.QUEUE_FULL: _TOPICS | _REPLACED | _ENDED | {_M.UNKNOWN_FILTER, _M.UNKNOWN_REPLY},
}
"""Which near misses may explain that a call failed for this reason."""


class Missed:
    """How often something was missed; times are epoch ms, `detail` is that of the last time."""

    __slots__ = ("count", "detail", "first_time", "last_time")

    def __init__(self, now: int) -> None:
        self.count = 0
        self.first_time = self.last_time = now
        self.detail = ""


class Diagnostics:
    """The near misses of one device, one entry a kind."""

    __slots__ = ("_missed",)

    def __init__(self) -> None:
        self._missed: dict[NearMiss, Missed] = {}

    def __iter__(self) -> Iterator[tuple[NearMiss, Missed]]:
        """The kinds that there are, the one that was noted last comes first."""
        return iter(sorted(self._missed.items(), key=lambda item: item[1].last_time, reverse=True))

    def note(self, miss: NearMiss, detail: str, now: int) -> bool:
        """Count one more at `now`, epoch ms. True if it is the first of its kind."""
        missed = self._missed.get(miss)
        if missed is None:
            missed = self._missed[miss] = Missed(now)
        missed.count += 1
        missed.last_time = now
        missed.detail = printable(detail)
        return missed.count == 1

    def count(self, miss: NearMiss) -> int:
        """How many of this kind."""
        missed = self._missed.get(miss)
        return missed.count if missed else 0

    def newest(self, kinds: frozenset[NearMiss], since: int) -> Missed | None:
        """The newest one of these kinds that is not older than `since`, epoch ms."""
        for miss, missed in self:
            if miss in kinds and missed.last_time >= since:
                return missed
        return None


def printable(text: str, most: int = MAX_DETAIL) -> str:
    """`text` on one line, of at most `most` characters."""
    if len(text) > most:
        text = text[: most - 3] + "..."
    return text if text.isprintable() else "".join(char if char.isprintable() else "?" for char in text)
