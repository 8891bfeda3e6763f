"""What all sessions of devices share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from twisted.internet.defer import Deferred

from rpcbroker.core.calls import Call
from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.events import EventBus
from rpcbroker.core.pending import PendingCall
from rpcbroker.core.records import KeptCall
from rpcbroker.core.settings import RpcSettings
from rpcbroker.core.wire_ids import WireIds


class Persistence(Protocol):
    """What a session asks of the store of persistent calls."""

    def waiting(self, device_id: UUID) -> int:
        """How many calls of the device have not ended."""

    def reached(self, device_id: UUID) -> int:
        """The wire id up to which all calls of the device that have not ended are in memory."""

    def refill(self, device_id: UUID) -> None:
        """Bring those that are due into memory, if there is room: `session.admit` is called for each."""

    def load(self, device_id: UUID, wire_id: int) -> Deferred[PendingCall | None]:
        """The one of that wire id, which is in memory then; None if there is none that waits.

        One beyond `reached` has to leave memory in the same turn, unless it ends: its turn comes later.
        """

    def shelved(self, call: Call) -> None:
        """It was put out of memory, and has not ended."""

    def advance(self, kept: KeptCall) -> None:
        """See KeptCalls."""

    def end(self, kept: KeptCall) -> Deferred[bool]:
        """See KeptCalls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all sessions share.

    `now_ms` is the wall clock in epoch ms, `seconds` the clock of the deadlines; `settings` are asked
    for at each call, for they may change.
    """

    now_ms: Callable[[], int]
    seconds: Callable[[], float]
    deadlines: Deadlines
    wire_ids: WireIds
    events: EventBus
    settings: Callable[[], RpcSettings]
    persistence: Persistence
