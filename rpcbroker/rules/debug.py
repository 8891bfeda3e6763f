"""What nodes with debugSettings recorded: the last of it, of each tenant, in memory."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

from rpcbroker.core import jsontext
from rpcbroker.core.events import EventBus, MessageRecorded
from rpcbroker.core.rules_settings import RulesSettings
from rpcbroker.rules.engine import Arrived, Passed
from rpcbroker.rules.message import Originator, RuleMessage
from rpcbroker.rules.types import FAILURE

MAX_TEXT = 4 << 10
"""Bytes of a message's data, of its metadata, and of an error, that are kept; the rest is cut off."""
MAX_WORD = 255
"""Characters of a message's type, and of a label, that are kept: scripts make both."""
MAX_BYTES = 4 << 20
"""About what is kept of one tenant takes, beside the limit on its number."""
_OVERHEAD = 600
"""Bytes of an event beside its texts."""


class DebugEvent(NamedTuple):
    """A message came to a node (`direction` IN), or left it (OUT). `time` is epoch ms."""

    id: UUID
    time: int
    node_id: UUID
    direction: str
    message_id: UUID
    message_type: str
    originator: Originator
    label: str | None
    data: str
    metadata: str
    error: str | None

    @property
    def size(self) -> int:
        return _OVERHEAD + len(self.data) + len(self.metadata) + len(self.error or "")

    def has(self, text: str) -> bool:
        """Whether it has this text somewhere, in upper or lower case."""
        shown = (self.message_type, self.label or "", self.data, self.metadata, self.error or "")
        return any(text.lower() in each.lower() for each in shown)


class _Recorded:
    """Of one tenant, the oldest first."""

    __slots__ = ("events", "size")

    def __init__(self) -> None:
        self.events: deque[DebugEvent] = deque()
        self.size = 0

    def add(self, event: DebugEvent, most: int) -> None:
        self.events.append(event)
        self.size += event.size
        while len(self.events) > most or self.size > MAX_BYTES:
            self.size -= self.events.popleft().size


class DebugEvents:
    """All of them. A node that records failures has what leaves it under Failure, one that records all the rest too."""

    def __init__(
        self,
        settings: Callable[[], RulesSettings],
        *,
        events: EventBus,
        now_ms: Callable[[], int],
        new_uuid: Callable[[], UUID],
    ) -> None:
        self._settings = settings
        self._bus = events
        self._now_ms = now_ms
        self._new_uuid = new_uuid
        self._tenants: defaultdict[UUID, _Recorded] = defaultdict(_Recorded)

    def arrived(self, arrived: Arrived) -> None:
        """A message comes to a node."""
        if arrived.node.debug.records_all(self._now_ms()):
            self._add(arrived, arrived.message, "IN", arrived.label)

    def passed(self, passed: Passed) -> None:
        """A message left a node, or ended in it."""
        debug, label = passed.node.debug, passed.label
        failed = debug.failures_enabled and label == FAILURE
        if label is not None and (failed or debug.records_all(self._now_ms())):
            self._add(passed, passed.went, "OUT", label, passed.text)

    def of_node(self, tenant_id: UUID, node_id: UUID) -> list[DebugEvent]:
        """What is there of one node, the oldest first."""
        recorded = self._tenants.get(tenant_id)
        return [event for event in recorded.events if event.node_id == node_id] if recorded else []

    def forget_tenant(self, tenant_id: UUID) -> None:
        """The tenant was deleted."""
        self._tenants.pop(tenant_id, None)

    def _add(
        self, at: Arrived | Passed, message: RuleMessage, direction: str, label: str | None, error: str | None = None
    ) -> None:
        event = DebugEvent(
            id=self._new_uuid(),
            time=self._now_ms(),
            node_id=at.node.id,
            direction=direction,
            message_id=message.id,
            message_type=message.type[:MAX_WORD],
            originator=message.originator,
            label=None if label is None else label[:MAX_WORD],
            data=_cut(message.data),
            metadata=_cut(jsontext.encode(message.metadata)),
            error=None if error is None else _cut(error.encode()),
        )
        self._tenants[at.chain.tenant_id].add(event, self._settings().debug_events)
        self._bus.emit(
            MessageRecorded,
            at.chain.tenant_id,
            (at.chain.id, at.chain.name),
            (at.node.id, at.node.name),
            direction,
            event.message_id,
            event.message_type,
            event.originator,
            event.label,
            event.error,
            event.data,
            event.metadata,
        )


def _cut(text: bytes) -> str:
    shown = text[:MAX_TEXT].decode(errors="replace")
    left = len(text) - MAX_TEXT
    return f"{shown}...[truncated {left} bytes]" if left > 0 else shown
