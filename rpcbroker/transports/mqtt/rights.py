"""What a client may do with free topics."""

from __future__ import annotations

from typing import Any, NamedTuple

from rpcbroker.transports import dialect
from rpcbroker.wire.errors import WireError
from rpcbroker.wire.mqtt import topics


class Rights(NamedTuple):
    """Filters: None is everything, an empty tuple is nothing. What matches one of `denied` is never received."""

    publish: tuple[str, ...] | None = None
    subscribe: tuple[str, ...] | None = None
    denied: tuple[str, ...] = ()

    def may_publish(self, topic: str) -> bool:
        return self.publish is None or any(topics.matches(each, topic) for each in self.publish)

    def may_subscribe(self, topic_filter: str) -> bool:
        """Whether all that `topic_filter` matches is allowed; of a shared one the filter in it counts."""
        share = topics.shared(topic_filter)
        wanted = share[1] if share else topic_filter
        if wanted.startswith(dialect.RESERVED) or any(topics.covers(each, wanted) for each in self.denied):
            return False
        return self.subscribe is None or any(topics.covers(each, wanted) for each in self.subscribe)

    def may_receive(self, topic: str) -> bool:
        return not any(topics.matches(each, topic) for each in self.denied)


EVERYTHING = Rights()
NOTHING = Rights(publish=(), subscribe=())


def rights_of(given: Any) -> Rights:
    """Those that a device's `additionalInfo.pubsub` gives: `{"publish": [filters], "subscribe": [filters]}`.

    What is left out is everything, and what cannot be read is nothing.
    """
    if given is None:
        return EVERYTHING
    if not isinstance(given, dict):
        return NOTHING
    return Rights(publish=_filters(given.get("publish")), subscribe=_filters(given.get("subscribe")))


def _filters(given: Any) -> tuple[str, ...] | None:
    if given is None:
        return None
    return tuple(each for each in given if _is_filter(each)) if isinstance(given, list) else ()


def _is_filter(text: Any) -> bool:
    try:
        return isinstance(text, str) and bool(topics.check_filter(text))
    except WireError:
        return False
