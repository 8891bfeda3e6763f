"""Persistent calls: the handlers of `/api/rpc/persistent`, as the wire has always had them."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from rpcbroker.api import checks
from rpcbroker.api.routes import Note
from rpcbroker.core.calls import CallState
from rpcbroker.core.ledger import Ledger
from rpcbroker.core.model import Principal
from rpcbroker.schema.calls import RpcJSON, RpcListQuery, rpc_json
from rpcbroker.schema.common import MAX_TEXT, PageJSON, page_json

SORTS = {
    "createdTime": "created_time",
    "expirationTime": "expiration_time",
    "request": "request",
    "response": "response",
}


class PersistentCalls:
    """Those who may see a device may read its calls; administrators may delete them."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def get(self, principal: Principal, *, rpc_id: UUID) -> RpcJSON:
        """A persistent call, with its state and the reply."""
        return rpc_json(await self._ledger.kept(principal, rpc_id))

    async def page(self, principal: Principal, *, device_id: UUID, query: RpcListQuery) -> PageJSON[RpcJSON]:
        """The persistent calls of a device."""
        link = replace(checks.page_link(query, SORTS), text_search=None)
        state = CallState(query.rpc_status) if query.rpc_status else None
        page = await self._ledger.of_device(principal, device_id, link, state=state)
        return page_json(page, [rpc_json(kept) for kept in page.items], query)

    async def delete(self, principal: Principal, *, rpc_id: UUID, note: Note) -> None:
        """Cancel a persistent call, if it goes on, and forget it."""
        kept = await self._ledger.delete(principal, rpc_id)
        note.name = kept.record.method
        note.data = {"deviceId": str(kept.call.device_id), "method": kept.call.method[:MAX_TEXT]}
