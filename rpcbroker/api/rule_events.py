"""What the nodes of rule chains recorded, over REST."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from rpcbroker.api import checks
from rpcbroker.core.errors import InvalidRequest, NotFound
from rpcbroker.core.model import Page, Principal
from rpcbroker.rules.debug import DebugEvent
from rpcbroker.rules.messages import SERVICE
from rpcbroker.rules.system import RuleSystem
from rpcbroker.schema.common import EntityId, Id, PageJSON, page_json
from rpcbroker.schema.rules import EventJSON, EventsQuery

SORTS = {"createdTime": "time", "ts": "time"}
NODE = "RULE_NODE"
TYPE = "DEBUG_RULE_NODE"
OTHER_TYPES = ("ERROR", "LC_EVENT", "STATS")
"""Other servers have those, too; here nothing is kept of them."""


class RuleEvents:
    """The handlers of `/api/events/RULE_NODE`."""

    def __init__(self, rules: RuleSystem) -> None:
        self._rules = rules

    async def page(
        self, principal: Principal, *, event_entity: str, rule_node_id: UUID, query: EventsQuery
    ) -> PageJSON[EventJSON]:
        """What a node recorded: the messages that came to it and left it, while its debugSettings said so."""
        return await self.of_type(
            principal, event_entity=event_entity, rule_node_id=rule_node_id, event_type=TYPE, query=query
        )

    async def of_type(
        self, principal: Principal, *, event_entity: str, rule_node_id: UUID, event_type: str, query: EventsQuery
    ) -> PageJSON[EventJSON]:
        """What a node recorded, of one type of events; only those of DEBUG_RULE_NODE are kept."""
        if event_entity != NODE:
            raise InvalidRequest(f"Events are kept of {NODE} only")
        if event_type not in {TYPE, *OTHER_TYPES}:
            raise InvalidRequest(f"Events are of the types {TYPE}, {', '.join(OTHER_TYPES)}")
        link = checks.page_link(query, SORTS)
        if not self._rules.chains.has_node(principal.tenant_id, rule_node_id):
            raise NotFound(f"Rule node with id [{rule_node_id}] is not found")
        found = [
            event
            for event in self._rules.debug.of_node(principal.tenant_id, rule_node_id)
            if event_type == TYPE
            and (query.start_time is None or event.time >= query.start_time)
            and (query.end_time is None or event.time <= query.end_time)
            and (not link.text_search or event.has(link.text_search))
        ]
        if link.descending:
            found.reverse()
        start = link.page * link.page_size
        page = Page(items=tuple(found[start : start + link.page_size]), total=len(found))
        return page_json(page, [_event_json(principal.tenant_id, event) for event in page.items], query)


def _event_json(tenant_id: UUID, event: DebugEvent) -> EventJSON:
    body: dict[str, Any] = {
        "server": SERVICE,
        "type": event.direction,
        "entityId": str(event.originator.id),
        "entityType": event.originator.kind,
        "msgId": str(event.message_id),
        "msgType": event.message_type,
        "dataType": "JSON",
        "relationType": event.label,
        "data": event.data,
        "metadata": event.metadata,
        "error": event.error,
    }
    return EventJSON(
        id=Id(event.id),
        tenant_id=EntityId("TENANT", tenant_id),
        type=TYPE,
        uid=str(event.id),
        entity_id=EntityId(NODE, event.node_id),
        created_time=event.time,
        body={name: value for name, value in body.items() if value is not None},
    )
