"""What all sessions of the router share, and what it says of itself in WELCOME."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.feed_settings import FeedSettings, WampSettings
from rpcbroker.feed.messages import Received
from rpcbroker.feed.meta import Meta
from rpcbroker.feed.ports import Procedures, Rights, Watching
from rpcbroker.feed.realm import Realms

FEATURES = {
    "broker": {
        "pattern_based_subscription": True,
        "publisher_exclusion": True,
        "publisher_identification": True,
        "session_meta_api": True,
    },
    "dealer": {
        "progressive_call_results": True,
        "call_canceling": True,
        "call_timeout": True,
        "caller_identification": True,
        "shared_registration": True,
        "session_meta_api": True,
    },
}
"""https://wamp-proto.org/spec.html, "Feature Announcement"."""


@dataclass(slots=True, kw_only=True)
class Surroundings:
    """What all sessions share. `parse` makes Received of a list, or raises Violation."""

    parse: Callable[[list[Any]], Received]
    rights: Rights
    watching: Watching
    procedures: Procedures
    meta: Meta
    realms: Realms
    settings: Callable[[], WampSettings]
    feed: Callable[[], FeedSettings]
    deadlines: Deadlines
    seconds: Callable[[], float]
    new_id: Callable[[], int]
