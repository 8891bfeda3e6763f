"""Relations between devices over REST: rule chains send messages along them."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from rpcbroker.api import checks
from rpcbroker.api.routes import Note
from rpcbroker.api.visible import Visible
from rpcbroker.core import access
from rpcbroker.core.errors import InvalidRequest, NotFound
from rpcbroker.core.model import PageLink, Principal, Relation
from rpcbroker.core.ports import Store
from rpcbroker.core.rules_settings import RulesSettings
from rpcbroker.schema.common import MAX_PAGE_SIZE
from rpcbroker.schema.ids import parse_uuid
from rpcbroker.schema.relations import (
    COMMON,
    RelationBody,
    RelationJSON,
    RelationQuery,
    RelationsQuery,
    relation_json,
)

DEVICE = "DEVICE"


class Relations:
    """The handlers of `/api/relation` and `/api/relations`."""

    def __init__(self, *, store: Store, visible: Visible, settings: RulesSettings) -> None:
        self.settings = settings
        """Read whenever a limit is needed: put others here, and they hold from then on."""
        self._store = store
        self._visible = visible

    async def save(self, principal: Principal, *, body: RelationBody, note: Note) -> None:
        """Relate one device to another, or say something else about how they are related."""
        _require_common(body.type_group)
        relation = Relation(
            tenant_id=principal.tenant_id,
            source=_device_id("from", body.source.entity_type, body.source.id),
            target=_device_id("to", body.target.entity_type, body.target.id),
            type=checks.text("Relation type", body.type),
            additional_info=checks.info(body.additional_info),
        )
        await self._look_at_both(principal, relation, note)
        await self._store.rules.relate(relation, most=self.settings.max_relations)

    async def delete(self, principal: Principal, *, query: RelationQuery, note: Note) -> None:
        """End a relation between two devices."""
        relation = _asked(principal, query)
        await self._look_at_both(principal, relation, note)
        if not await self._store.rules.unrelate(relation):
            raise _not_found()

    async def get(self, principal: Principal, *, query: RelationQuery) -> RelationJSON:
        """One relation between two devices."""
        asked = _asked(principal, query)
        await self._look_at_both(principal, asked)
        found = await self._store.rules.relations(
            principal.tenant_id, source=asked.source, target=asked.target, type_=asked.type
        )
        if not found:
            raise _not_found()
        return relation_json(found[0])

    async def find(self, principal: Principal, *, query: RelationsQuery) -> list[RelationJSON]:
        """All relations from one device, or to one; those of devices that are not there for who asks are left out."""
        _require_common(query.relation_type_group)
        source = _optional("from", query.from_type, query.from_id)
        target = _optional("to", query.to_type, query.to_id)
        if source is None and target is None:
            raise InvalidRequest("fromId and fromType must be given, or toId and toType")
        type_ = "" if query.relation_type is None else checks.text("relationType", query.relation_type)
        for end in (source, target):
            if end is not None:
                await self._visible.device(principal, end)
        found = await self._store.rules.relations(principal.tenant_id, source=source, target=target, type_=type_)
        there = await self._those_there(principal, {end for each in found for end in (each.source, each.target)})
        return [relation_json(each) for each in found if there is None or {each.source, each.target} <= there]

    async def _those_there(self, principal: Principal, ids: Iterable[UUID]) -> set[UUID] | None:
        """Those of these devices that exist for who asks; None is all."""
        if access.may_see_all(principal):
            return None
        wanted, there = list(ids), set[UUID]()
        for start in range(0, len(wanted), MAX_PAGE_SIZE):
            some = access.visible_devices(principal, ids=tuple(wanted[start : start + MAX_PAGE_SIZE]))
            if some is not None:
                page = await self._store.devices(some, PageLink(page_size=MAX_PAGE_SIZE))
                there |= {info.device.id for info in page.items}
        return there

    async def _look_at_both(self, principal: Principal, relation: Relation, note: Note | None = None) -> None:
        """Raises NotFound unless both devices exist for who asks."""
        source = await self._visible.device(principal, relation.source)
        target = await self._visible.device(principal, relation.target)
        if note is not None:
            note.about(source.id, source.name)
            note.data = {"to": str(target.id), "toName": target.name, "type": relation.type}


def _asked(principal: Principal, query: RelationQuery) -> Relation:
    _require_common(query.relation_type_group)
    return Relation(
        tenant_id=principal.tenant_id,
        source=_device_id("from", query.from_type, parse_uuid(query.from_id)),
        target=_device_id("to", query.to_type, parse_uuid(query.to_id)),
        type=checks.text("relationType", query.relation_type),
    )


def _optional(end: str, type_: str | None, id_: str | None) -> UUID | None:
    if id_ is None or type_ is None:
        if id_ is not None or type_ is not None:
            raise InvalidRequest(f"{end}Id and {end}Type go together")
        return None
    return _device_id(end, type_, parse_uuid(id_))


def _device_id(end: str, type_: str, id_: UUID) -> UUID:
    if type_ != DEVICE:
        raise InvalidRequest(f"Only a DEVICE is related to another one here; {end!r} is: {type_[:20]}")
    return id_


def _require_common(group: str | None) -> None:
    if group and group != COMMON:
        raise InvalidRequest(f"Only relations of the group {COMMON} are kept, not of: {group[:20]}")


def _not_found() -> NotFound:
    return NotFound("There is no such relation")
