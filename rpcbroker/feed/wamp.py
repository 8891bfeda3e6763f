"""WAMP, put together: the router, and what of the broker it gives to sessions."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from rpcbroker.core.audit import AuditTrail
from rpcbroker.core.broker import Broker
from rpcbroker.core.feed import Feed
from rpcbroker.core.ports import Store
from rpcbroker.core.settings import Settings
from rpcbroker.core.snapshot import Snapshot
from rpcbroker.feed.answering import Answering
from rpcbroker.feed.ports import Rights
from rpcbroker.feed.procedures import Procedures
from rpcbroker.feed.router import Router
from rpcbroker.feed.watching import Watching


class Wamp:
    """`router` takes connections. Applications answer questions of devices from now on."""

    def __init__(
        self,
        *,
        settings: Settings,
        broker: Broker,
        store: Store,
        feed: Feed,
        trail: AuditTrail,
        rights: Rights,
        now_ms: Callable[[], int],
        seconds: Callable[[], float],
        new_uuid: Callable[[], UUID],
        new_id: Callable[[], int],
    ) -> None:
        """`new_id` gives a random number from 1 to 2^53."""
        self._settings = settings
        self.procedures = Procedures(
            broker=broker,
            store=store,
            trail=trail,
            snapshot=Snapshot(broker, feed, now_ms=now_ms),
            new_uuid=new_uuid,
            seconds=seconds,
        )
        self.router = Router(
            watching=Watching(feed),
            procedures=self.procedures,
            rights=rights,
            settings=settings.wamp,
            feed=settings.feed,
            deadlines=broker.deadlines,
            seconds=seconds,
            new_id=new_id,
        )
        broker.own_answers.applications = Answering(
            self.router, broker.deadlines, lambda: self._settings.rules.question_timeout
        )

    def reconfigure(self, settings: Settings) -> None:
        """Other settings hold from now on."""
        self._settings = settings
        self.router.settings = settings.wamp
        self.router.feed = settings.feed

    def stop(self) -> None:
        """All sessions are told that the broker stops, and end."""
        self.router.stop()
