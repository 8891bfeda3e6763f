"""What became of calls, persistent and not: the handlers of `/api/rpc`, `/api/rpc/{id}` and its time line."""

from __future__ import annotations

from uuid import UUID

from rpcbroker.api import checks
from rpcbroker.api.routes import Note
from rpcbroker.core.ledger import Ledger, Wanted
from rpcbroker.core.model import Principal
from rpcbroker.schema.calls import (
    CallRecordJSON,
    CallsQuery,
    CancellationJSON,
    TimelineJSON,
    call_record_json,
    cancellation_json,
    timeline_json,
)
from rpcbroker.schema.common import PageJSON, page_json


class CallRecords:
    """For those who may see the devices. API keys may cancel what they may call."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def page(self, principal: Principal, *, query: CallsQuery) -> PageJSON[CallRecordJSON]:
        """Calls, the newest first: persistent ones, and the last ones of the others.

        Only the newest 10,000 can be looked at.
        """
        checks.part(query)
        wanted = Wanted(
            device_id=query.device_id,
            state=query.state,
            method=checks.plain("method", query.method),
            since=query.since,
        )
        page = await self._ledger.page(principal, wanted, page_size=query.page_size, page=query.page)
        return page_json(page, [call_record_json(told.record, told.device_name) for told in page.items], query)

    async def timeline(self, principal: Principal, *, rpc_id: UUID) -> TimelineJSON:
        """What happened to a call, step by step."""
        told = await self._ledger.find(principal, rpc_id)
        return timeline_json(told.record, told.device_name)

    async def cancel(self, principal: Principal, *, rpc_id: UUID, note: Note) -> CancellationJSON:
        """Cancel a call: one that was not sent never is, and a device that wants to know is told.

        `cancelled` is false if it had ended.
        """
        told, cancellation = await self._ledger.cancel(principal, rpc_id)
        note.name = told.record.method
        note.data = {"deviceId": str(told.record.device_id), "cancelled": cancellation.cancelled}
        return cancellation_json(cancellation)
