"""One request for many devices: the handlers of `/api/rpc/bulk`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from uuid import UUID

import msgspec

from rpcbroker.api import checks
from rpcbroker.api.calls import parse_call
from rpcbroker.api.event_stream import Events
from rpcbroker.api.routes import Answer, Note
from rpcbroker.core import jsontext
from rpcbroker.core.audit import AuditTrail, recorded
from rpcbroker.core.bulk import Bulk, BulkEntry, BulkPlan, digest
from rpcbroker.core.bulks import BulkOrder, Bulks
from rpcbroker.core.calls import CallRequest
from rpcbroker.core.errors import InvalidRequest, Reason, Unavailable
from rpcbroker.core.model import PageLink, Principal
from rpcbroker.core.setting import parse_rate
from rpcbroker.schema.bulk import (
    BulkBody,
    BulkCallBody,
    BulkIdJSON,
    BulkJSON,
    BulkListQuery,
    BulkQuery,
    BulkWithResultsJSON,
    bulk_json,
    bulk_result_json,
    bulk_with_results_json,
    counts_json,
)
from rpcbroker.schema.common import MAX_TEXT, PageJSON, page_json
from rpcbroker.wire.events import Event


class BulkCalls:
    """For those who may see and call the devices; who sees a bulk is said in `core.bulk.visible_bulks`."""

    def __init__(self, bulks: Bulks, *, audit: AuditTrail, new_uuid: Callable[[], UUID]) -> None:
        self._bulks = bulks
        self._audit = audit
        self._new_uuid = new_uuid

    async def create(self, principal: Principal, *, body: BulkBody, note: Note) -> BulkIdJSON:
        """Call many devices, in this order and no faster than it says; answered as soon as that is kept.

        It goes on after a restart of the server; no device is called twice.
        """
        order = self._order(body)
        request = order.request
        note.about(order.bulk_id, request.method[:MAX_TEXT])
        note.data = {"oneWay": request.oneway, "method": request.method[:MAX_TEXT], "persistent": request.persistent}
        if self._audit.settings.payloads:
            note.data["params"] = recorded(jsontext.decode(request.params))
        bulk = await self._bulks.create(principal, order)
        note.data["devices"] = bulk.total
        return BulkIdJSON(bulk.id)

    def _order(self, body: BulkBody) -> BulkOrder:
        if sum(each is not None for each in (body.devices, body.type, body.customer_id)) != 1:
            raise InvalidRequest("Invalid request body: exactly one of devices, type and customerId must be given")
        bulk_id = self._new_uuid() if body.request_uuid is None else body.request_uuid
        content = {**msgspec.to_builtins(body), "requestUUID": None}
        return BulkOrder(
            bulk_id=bulk_id,
            content=digest(content),
            request=_request(body.request, bulk_id),
            plan=self._plan(body),
            devices=None if body.devices is None else tuple(body.devices),
            type_=None if body.type is None else checks.text("type", body.type),
            customer_id=body.customer_id,
            ignore_unknown=body.ignore_unknown,
        )

    def _plan(self, body: BulkBody) -> BulkPlan:
        settings, given = self._bulks.settings, body.concurrency
        if given is not None and not 1 <= given <= settings.max_concurrency:
            raise InvalidRequest(f"concurrency must be 1 to {settings.max_concurrency}")
        if body.abort_after_failures is not None and body.abort_after_failures < 1:
            raise InvalidRequest("abortAfterFailures must be 1 or more")
        try:
            rate = parse_rate(body.rate)
        except ValueError as error:
            raise InvalidRequest(f"rate {error}") from None
        return BulkPlan(
            concurrency=settings.concurrency if given is None else given,
            rate=rate,
            canary=body.canary,
            abort_after=body.abort_after_failures,
        )

    async def page(self, principal: Principal, *, query: BulkListQuery) -> PageJSON[BulkJSON]:
        """Requests for many devices, the newest first."""
        checks.part(query)
        link = PageLink(page_size=query.page_size, page=query.page, descending=True)
        page = await self._bulks.page(principal, link)
        return page_json(page, [bulk_json(bulk) for bulk in page.items], query)

    async def get(
        self, principal: Principal, *, bulk_id: UUID, query: BulkQuery, events: bool
    ) -> BulkWithResultsJSON | Answer:
        """How far a bulk is, and what became of each device.

        With `Accept: text/event-stream` the answer is an event `result` for each device that has ended, in that order,
        as soon as it does; then `done` with the counts, or `error` if the server stops before.
        """
        checks.part(query)
        bulk = await self._bulks.bulk(principal, bulk_id)
        if events:
            return Answer(self._events(bulk))
        link = PageLink(page_size=query.page_size, page=query.page)
        page = await self._bulks.entries(bulk, link, state=query.state)
        return bulk_with_results_json(
            bulk, page_json(page, [bulk_result_json(bulk, entry) for entry in page.items], query)
        )

    async def _events(self, bulk: Bulk) -> Events:
        """Raises Unavailable if this process stops before the bulk has ended."""
        async with aclosing(self._bulks.follow(bulk)) as following:
            async for each in following:
                if isinstance(each, BulkEntry):
                    yield Event("result", jsontext.encode(bulk_result_json(bulk, each)))
                elif each.ended_time is None:
                    raise Unavailable(
                        "The server is shutting down, and goes on with the bulk when it is back",
                        reason=Reason.SHUTTING_DOWN,
                    )
                else:
                    yield Event("done", jsontext.encode(counts_json(each)))

    async def abort(self, principal: Principal, *, bulk_id: UUID, note: Note) -> BulkJSON:
        """Call no more devices; calls that have begun go on to their end. One that has ended stays as it is."""
        bulk = await self._bulks.abort(principal, bulk_id)
        note.name = bulk.request.method[:MAX_TEXT]
        note.data = {"state": bulk.state}
        return bulk_json(bulk)


def _request(body: BulkCallBody, bulk_id: UUID) -> CallRequest:
    """Read as a single call's is; its id comes later."""
    if body.request_uuid is not msgspec.UNSET:
        raise InvalidRequest("Invalid request body: requestUUID belongs beside request, not into it")
    checks.plain("method", body.method)
    return parse_call(jsontext.encode(body), oneway=body.oneway, rpc_id=bulk_id)
