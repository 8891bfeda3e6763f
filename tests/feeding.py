"""The feed of any World, and watchers that write down what they are told."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from fakes import ADMIN, World

from rpcbroker.core.feed import Feed, FeedEvent, Watch
from rpcbroker.core.feed_settings import FeedSettings
from rpcbroker.core.feed_sources import FeedSources
from rpcbroker.core.model import Principal


def feed_of(world: World, **settings: Any) -> Feed:
    """With all its sources."""
    feed = Feed(world.broker, now_ms=world.now_ms, seconds=world.clock.seconds, settings=FeedSettings(**settings))
    FeedSources(world.broker, feed, now_ms=world.now_ms)
    return feed


def watch(feed: Feed, principal: Principal = ADMIN, **more: Any) -> list[FeedEvent]:
    """What this principal is told from now on."""
    told: list[FeedEvent] = []
    feed.watch(Watch(principal, told.append, **more))
    return told


def of_call(events: list[FeedEvent], rpc_id: UUID) -> list[dict[str, Any]]:
    """What was told of one call."""
    return [event.fields for event in events if event.fields.get("rpcId") == str(rpc_id)]


def topics(events: list[FeedEvent]) -> list[str]:
    """Without their beginning, and without ids."""
    return [".".join(part for part in event.topic.split(".")[1:] if len(part) != 36) for event in events]
