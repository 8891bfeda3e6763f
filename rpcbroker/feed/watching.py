"""Sessions that watch the feed: subscriptions to `rpcbroker.*`, exact or patterns, as watches of the core's feed.

A subscription is accepted also where nothing can be seen: a device that belongs to somebody else, and one that does not
exist, are the same silence. What can never be published is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from rpcbroker.core import access
from rpcbroker.core.errors import InvalidRequest
from rpcbroker.core.feed import ROOT, Feed, FeedEvent, Watch
from rpcbroker.core.feed_sources import TOPICS
from rpcbroker.feed import uris
from rpcbroker.feed.ports import Joined

_VALUES = f"{ROOT}values"


class Watching:
    """All subscriptions of all sessions; as ports.Watching."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._ends: dict[tuple[Joined, int], Callable[[], None]] = {}
        self._held: dict[Joined, set[int]] = {}

    def subscribe(self, session: Joined, subscription: int, topic: str, match: str, *, payloads: bool) -> None:
        """Raises InvalidRequest for a topic that never is published; PermissionDenied, TooManyRequests."""
        access.require_not_sys_admin(session.principal)
        if match == uris.EXACT:
            _require_topic(topic)
        watched = _Subscription(session, subscription, match, payloads=payloads)
        watch = Watch(
            session.principal,
            watched.deliver,
            device_id=device_of(topic, match),
            values=names_values(topic, match),
            wants=fitting(topic, match),
            owner=session,
        )
        self._ends[session, subscription] = self._feed.watch(watch)
        self._held.setdefault(session, set()).add(subscription)

    def unsubscribe(self, session: Joined, subscription: int) -> None:
        """No more of that."""
        end = self._ends.pop((session, subscription), None)
        if end is None:
            return
        end()
        held = self._held[session]
        held.discard(subscription)
        if not held:
            del self._held[session]

    def left(self, session: Joined) -> None:
        """All of its subscriptions end."""
        for subscription in self._held.pop(session, ()):
            self._ends.pop((session, subscription))()


class _Subscription:
    """One of one session. `n` counts what it was to be told, sent or dropped."""

    __slots__ = ("_id", "_payloads", "_session", "_tells_topic", "n")

    def __init__(self, session: Joined, subscription: int, match: str, *, payloads: bool) -> None:
        self._session = session
        self._id = subscription
        self._tells_topic = match != uris.EXACT
        self._payloads = payloads
        self.n = 0

    def deliver(self, event: FeedEvent) -> None:
        self.n += 1
        session = self._session
        payloads = self._payloads and bool(event.payloads) and event.payloads_may_be_seen(session.principal)
        serializer = session.connection.serializer
        members = event.encoded(serializer.name, payloads, serializer.encode_members)
        topic = event.topic if self._tells_topic else None
        count = len(event.fields) + (len(event.payloads) if payloads else 0)
        session.send_later(serializer.event(self._id, event.seq, topic, n=self.n, members=members, count=count))


def device_of(topic: str, match: str) -> UUID | None:
    """The device that all events of this subscription are about; None if there may be several, or none."""
    components = topic.split(".")
    if len(components) < 3 or (match == uris.WILDCARD and len(components) != 4):
        return None  # bulks and chains have ids, too, and topics of three components
    family, text = components[1], components[2]
    if not (TOPICS.get(family) or (match == uris.WILDCARD and not family)):
        return None
    return UUID(text) if _is_id(text) else None  # it may be the beginning of an id, or any


def names_values(topic: str, match: str) -> bool:
    """Telemetry and attributes are many: only who names them gets them, and nothing else by the same subscription."""
    return f"{topic}.".startswith(f"{_VALUES}.") or (match == uris.WILDCARD and topic.split(".")[1:2] == ["values"])


def fitting(topic: str, match: str) -> Callable[[FeedEvent], bool]:
    """Whether an event fits. https://wamp-proto.org/spec.html, "Pattern-based Subscriptions"."""
    if match == uris.EXACT:
        return lambda event: event.topic == topic
    if match == uris.PREFIX:
        return lambda event: event.topic.startswith(topic)
    components = topic.split(".")
    given = [(place, component) for place, component in enumerate(components) if component]

    def fits(event: FeedEvent) -> bool:
        there = event.components
        return len(there) == len(components) and all(there[place] == component for place, component in given)

    return fits


def _require_topic(topic: str) -> None:
    """Raises InvalidRequest: who misspells a topic would wait for ever."""
    components = topic.split(".")
    _, family, text = (*components, "", "")[:3]
    word = components[3:]
    words = TOPICS.get(family)
    if words is None:
        raise InvalidRequest(f"There is no topic {topic}", hint=f"After {ROOT} comes one of {', '.join(TOPICS)}.")
    if not _is_id(text):
        raise InvalidRequest(f"There is no topic {topic}", hint=f"After {ROOT}{family}. comes an id, in lower case.")
    if len(word) != bool(words) or not set(word) <= set(words):
        hint = f"After the id comes one of {', '.join(words)}." if words else "Nothing comes after the id."
        raise InvalidRequest(f"There is no topic {topic}", hint=hint)


def _is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
