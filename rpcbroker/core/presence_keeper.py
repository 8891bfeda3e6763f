"""Writes presence down, so that after a restart the broker still knows who was there, and when."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.events import EventBus, PresenceChanged
from rpcbroker.core.feed_settings import FeedSettings
from rpcbroker.core.ports import Store
from rpcbroker.core.presence import MOST_CHANGES, Presence, PresenceChange

INTERVAL = 1.0
"""Seconds that changes are gathered before they are written in one go."""
SWEEP_MS = 600_000
"""Milliseconds from when old changes are forgotten to when that is done again, if there is anything to write."""


class PresenceKeeper:
    """Gathers changes of presence, and writes them and each device's newest state, at most once an INTERVAL."""

    _log = Logger()

    def __init__(
        self,
        store: Store,
        deadlines: Deadlines,
        events: EventBus,
        *,
        settings: FeedSettings,
        now_ms: Callable[[], int],
    ) -> None:
        self.settings = settings
        """Read whenever it is needed: put others here, and they hold from then on."""
        self._store = store
        self._deadlines = deadlines
        self._now_ms = now_ms
        self._newest: dict[UUID, Presence] = {}
        self._changes: dict[UUID, list[PresenceChange]] = {}
        self._swept = 0
        events.listen(PresenceChanged, self._note)

    def _note(self, event: PresenceChanged) -> None:
        if not self._newest:
            self._deadlines.after(INTERVAL, lambda _: self.flush(), None)
        self._newest[event.device.id] = event.presence
        if self.settings.presence_history and (event.connected is not None or event.callable is not None):
            changes = self._changes.setdefault(event.device.id, [])
            changes.append(_change(event, self._now_ms()))
            del changes[:-MOST_CHANGES]

    def flush(self) -> Deferred[None]:
        """Write what has changed; fires when it is kept, and also when it could not be."""
        newest, self._newest = self._newest, {}
        changes, self._changes = self._changes, {}
        if not newest:
            return succeed(None)
        records = [presence.record(device_id) for device_id, presence in newest.items()]
        in_order = [change for of_device in changes.values() for change in of_device]
        return self._store.save_presence(records, in_order, forget=self._forget()).addErrback(self._lost, len(records))

    def _forget(self) -> int | None:
        """Before which time changes are to be forgotten now, if at all."""
        now = self._now_ms()
        if now - self._swept < SWEEP_MS:
            return None
        self._swept = now
        return now - int(self.settings.presence_history * 1000)

    def _lost(self, failure: Failure, count: int) -> None:
        self._log.warn("presence of {count} devices could not be kept: {error}", count=count, error=failure.value)


def _change(event: PresenceChanged, now: int) -> PresenceChange:
    presence = event.presence
    fact = presence.callable if event.connected is None else presence.connected
    return PresenceChange(
        device_id=event.device.id,
        time=now if fact.time is None else fact.time,
        connected=presence.connected.value,
        callable=presence.callable.value,
        cause=fact.cause,
    )
