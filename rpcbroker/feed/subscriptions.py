"""The broker of one realm: who subscribed to what, and what is published to them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

from rpcbroker.feed import messages, uris
from rpcbroker.feed.errors import refused
from rpcbroker.feed.member import Member
from rpcbroker.feed.ports import Payload, Serializer


class Subscription:
    """A topic or a pattern, and those who want what fits it. `own` tells apart what else would be one subscription."""

    __slots__ = ("id", "match", "members", "own", "topic")

    def __init__(self, subscription_id: int, topic: str, match: str, own: Hashable) -> None:
        self.id = subscription_id
        self.topic = topic
        self.match = match
        self.own = own
        self.members: dict[Member, None] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """One event on its way. `details` are those of EVENT."""

    id: int
    topic: str
    payload: Payload
    details: dict[str, Any]
    skip: Member | None = None
    """Who shall not get it: its publisher."""


class Subscriptions:
    """All of a realm."""

    def __init__(self) -> None:
        self._ids = count(1)
        self._held: dict[Member, dict[int, Subscription]] = {}
        self._places: dict[Hashable, dict[Hashable, Subscription]] = {}
        """Where those are that an event looks for, see `_place`."""
        self._lengths: dict[Any, int] = {}
        """How many places there are for prefixes of each length."""
        self._shapes: dict[Any, int] = {}
        """The same for wildcards: how many components there are, and which of them are given."""

    def held(self, member: Member) -> int:
        """How many this member has."""
        return len(self._held.get(member, ()))

    def find(self, member: Member, topic: str, match: str, own: Hashable) -> Subscription | None:
        """What it has subscribed to already."""
        subscription = self._places.get(_place(topic, match), {}).get(own)
        return subscription if subscription is not None and member in subscription.members else None

    def subscribe(self, member: Member, topic: str, match: str, own: Hashable) -> Subscription:
        """All who want the same share one subscription, unless `own` differs."""
        place = _place(topic, match)
        at_place = self._places.get(place)
        if at_place is None:
            at_place = self._places[place] = {}
            self._count(topic, match, 1)
        subscription = at_place.get(own)
        if subscription is None:
            subscription = at_place[own] = Subscription(next(self._ids), topic, match, own)
        subscription.members[member] = None
        self._held.setdefault(member, {})[subscription.id] = subscription
        return subscription

    def unsubscribe(self, member: Member, subscription_id: int) -> Subscription:
        """Raises Refused if it has no such subscription."""
        subscription = self._held.get(member, {}).pop(subscription_id, None)
        if subscription is None:
            raise refused("wamp.error.no_such_subscription", "This session has no subscription of this id")
        self._end(subscription, member)
        return subscription

    def leave(self, member: Member) -> None:
        """All of its subscriptions end."""
        for subscription in self._held.pop(member, {}).values():
            self._end(subscription, member)

    def publish(self, publication: Publication) -> None:
        """Arguments are encoded once for all members, and the rest once for all who want it in the same words."""
        arguments: dict[str, bytes | None] = {}
        for subscription in tuple(self._fitting(publication.topic)):
            details = publication.details
            if subscription.match != uris.EXACT:
                details = details | {"topic": publication.topic}
            begin = messages.event(subscription.id, publication.id, details)
            encoded: dict[str, bytes | None] = {}
            for member in tuple(subscription.members):
                if member is publication.skip:
                    continue
                serializer = member.connection.serializer
                name = serializer.name
                if name not in encoded:
                    if name not in arguments:
                        arguments[name] = _arguments(publication, serializer)
                    end = arguments[name]
                    encoded[name] = None if end is None else _event(begin, end, serializer)
                message = encoded[name]
                if message is None:
                    member.dropped += 1  # what one encoding can say and another cannot
                else:
                    member.send_later(message)

    def _fitting(self, topic: str) -> Iterator[Subscription]:
        yield from self._places.get(_place(topic, uris.EXACT), {}).values()
        for length in tuple(self._lengths):
            if length <= len(topic):
                yield from self._places.get(_place(topic[:length], uris.PREFIX), {}).values()
        components = topic.split(".")
        for size, given in tuple(self._shapes):
            if size == len(components):
                place = uris.WILDCARD, size, given, tuple(components[index] for index in given)
                yield from self._places.get(place, {}).values()

    def _end(self, subscription: Subscription, member: Member) -> None:
        del subscription.members[member]
        if subscription.members:
            return
        place = _place(subscription.topic, subscription.match)
        del self._places[place][subscription.own]
        if not self._places[place]:
            del self._places[place]
            self._count(subscription.topic, subscription.match, -1)

    def _count(self, topic: str, match: str, change: int) -> None:
        if match == uris.EXACT:
            return
        counter, key = (self._lengths, len(topic)) if match == uris.PREFIX else (self._shapes, _shape(topic))
        counter[key] = counter.get(key, 0) + change
        if not counter[key]:
            del counter[key]


def _arguments(publication: Publication, serializer: Serializer) -> bytes | None:
    """Empty if there are none; None if they cannot be said in this encoding."""
    arguments = messages.arguments(publication.payload)
    try:
        return serializer.encode(arguments) if arguments else b""
    except ValueError:
        return None


def _event(begin: list[Any], arguments: bytes, serializer: Serializer) -> bytes:
    encoded = serializer.encode(begin)
    return serializer.joined(encoded, arguments) if arguments else encoded


def _place(topic: str, match: str) -> Hashable:
    """Wildcards are found by what is given in them, and where."""
    if match == uris.WILDCARD:
        size, given = _shape(topic)
        components = topic.split(".")
        return match, size, given, tuple(components[index] for index in given)
    return match, topic


def _shape(pattern: str) -> tuple[int, tuple[int, ...]]:
    components = pattern.split(".")
    return len(components), tuple(index for index, component in enumerate(components) if component)
