"""Writes presence down, so that after a restart the broker still knows who was there, and when."""

from __future__ import annotations

from uuid import UUID

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.events import EventBus, PresenceChanged
from rpcbroker.core.ports import Store
from rpcbroker.core.presence import Presence

INTERVAL = 1.0
"""Seconds that changes are gathered before they are written in one go."""


class PresenceKeeper:
    """Gathers changes of presence and writes each device's newest state at most once an INTERVAL."""

    _log = Logger()

    def __init__(self, store: Store, deadlines: Deadlines, events: EventBus) -> None:
        self._store = store
        self._deadlines = deadlines
        self._changed: dict[UUID, Presence] = {}
        events.listen(PresenceChanged, self._note)

    def _note(self, event: PresenceChanged) -> None:
        if not self._changed:
            self._deadlines.after(INTERVAL, lambda _: self.flush(), None)
        self._changed[event.device.id] = event.presence

    def flush(self) -> Deferred[None]:
        """Write what has changed; fires when it is kept, and also when it could not be."""
        changed, self._changed = self._changed, {}
        if not changed:
            return succeed(None)
        records = [presence.record(device_id) for device_id, presence in changed.items()]
        return self._store.save_presence(records).addErrback(self._lost, len(records))

    def _lost(self, failure: Failure, count: int) -> None:
        self._log.warn("presence of {count} devices could not be kept: {error}", count=count, error=failure.value)
