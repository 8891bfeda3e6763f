"""The record of who did what: gathered, and written many at a time, within a second."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpcbroker.core import jsontext
from rpcbroker.core.calls import CallRequest
from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.errors import BrokerError
from rpcbroker.core.model import AuditEntry, Principal
from rpcbroker.core.ports import AuditLog
from rpcbroker.core.settings import AuditSettings

INTERVAL = 1.0
"""Seconds that entries are gathered, at most, before they are written."""
BATCH = 500
"""Entries that are written without waiting longer: the work of a busy second is spread over it."""
MAX_WAITING = 50_000
"""Entries that may wait for a slow store; further ones are counted and lost, so that memory is not."""
MAX_FAILURE = 1_000
"""Characters that are kept of why something failed: it may repeat what was sent."""
MAX_RECORDED = 4 << 10
"""Bytes of JSON that are recorded as they are."""
MAX_METHOD = 255
"""Characters of a method that are recorded."""
CALL = "RPC_CALL"
"""The action that the settings may leave out."""


def recorded(value: Any) -> Any:
    """What the log takes of something that may be large: itself, or its size."""
    size = len(jsontext.encode(value))
    return value if size <= MAX_RECORDED else f"{size} bytes"


class AuditTrail:
    """Takes entries at once, keeps them within a second."""

    _log = Logger()

    def __init__(
        self,
        log: AuditLog,
        *,
        settings: AuditSettings,
        deadlines: Deadlines,
        now_ms: Callable[[], int],
    ) -> None:
        self.settings = settings
        self._audit = log
        self._deadlines = deadlines
        self._now_ms = now_ms
        self._waiting: list[AuditEntry] = []
        self._unwritten = 0
        self._scheduled = False
        self.lost = 0

    def note(
        self,
        principal: Principal,
        action: str,
        entity: tuple[str, UUID],
        *,
        name: str | None,
        data: Any = None,
        failure: str = "",
    ) -> None:
        """`principal` did `action` to `entity` (its type and id, and its name); `failure` is empty if it worked."""
        if self._unwritten >= MAX_WAITING:
            self._lose(1)
            return
        self._unwritten += 1
        entry = AuditEntry(
            created_time=self._now_ms(),
            tenant_id=principal.tenant_id,
            customer_id=principal.customer_id,
            entity_type=entity[0],
            entity_id=entity[1],
            entity_name=name,
            user_id=principal.user_id,
            user_name=principal.email,
            action=action,
            data=data,
            failure=failure and failure[:MAX_FAILURE].replace("\x00", "\ufffd"),  # which a database cannot keep
        )
        self._waiting.append(entry)
        if len(self._waiting) >= BATCH:
            self.flush()
        elif not self._scheduled:
            self._scheduled = True
            self._deadlines.after(INTERVAL, self._due, None)

    def done(
        self,
        principal: Principal,
        action: str,
        entity: tuple[str, UUID],
        *,
        name: str | None,
        data: Mapping[str, Any] | None,
        error: BrokerError | None,
        seconds: float,
    ) -> None:
        """As `note`, of a request that took `seconds`, and failed with `error` if that is one."""
        if action == CALL and not self.settings.calls:
            return
        data = dict(data or {})
        if principal.key_name is not None:
            data["apiKey"] = principal.key_name
        data["durationMs"] = int(seconds * 10_000 + 0.5) / 10  # round() takes five times as long
        failure = ""
        if error is not None:
            failure = f"{error.reason}: {error.message}" if error.reason else error.message
        self.note(principal, action, entity, name=name, data=data, failure=failure)

    def of_call(self, request: CallRequest, rpc_id: UUID) -> dict[str, Any]:
        """What an entry says of a call beside its device: `params` only if the settings say so."""
        data: dict[str, Any] = {"rpcId": rpc_id, "oneWay": request.oneway, "method": request.method[:MAX_METHOD]}
        if request.persistent:
            data["persistent"] = True
        if self.settings.payloads:
            data["params"] = recorded(jsontext.decode(request.params))
        return data

    def _due(self, _: None) -> None:
        self._scheduled = False
        self.flush()

    def flush(self) -> Deferred[None]:
        """Write what has gathered; fires when it is kept, and also when it could not be."""
        entries, self._waiting = self._waiting, []
        if not entries:
            return succeed(None)
        since = self._now_ms() - int(self.settings.max_age * 1000)
        written = self._audit.append(entries, since=since, max_entries=self.settings.max_entries)
        return written.addErrback(self._not_written, len(entries)).addCallback(self._written, len(entries))

    def _written(self, _: None, count: int) -> None:
        self._unwritten -= count

    def _not_written(self, failure: Failure, count: int) -> None:
        self._log.error("the store did not take the audit log: {error}", error=failure.value)
        self._lose(count)

    def _lose(self, count: int) -> None:
        if not self.lost:
            self._log.error("entries of the audit log are lost: the store does not keep up")
        self.lost += count
