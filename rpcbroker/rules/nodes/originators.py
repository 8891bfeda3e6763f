"""Nodes that make a message be about something else: a related device, the gateway, the tenant."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from enum import StrEnum
from uuid import UUID

import msgspec
from twisted.internet.defer import Deferred

from rpcbroker.core.children import LAST_GATEWAY
from rpcbroker.core.model import Device
from rpcbroker.rules.errors import NodeFailed
from rpcbroker.rules.message import CUSTOMER, DEVICE, TENANT, Originator, RuleMessage
from rpcbroker.rules.node import NodeType, Out, Outcome, Place
from rpcbroker.rules.nodes.bodies import several
from rpcbroker.rules.ports import MAX_RELATED, Direction, Estate
from rpcbroker.rules.templates import Template
from rpcbroker.rules.types import FAILURE, SUCCESS

TOO_MANY_RELATED = f"More than {MAX_RELATED:,} devices are related so"
MAX_LEVELS = 20
"""Relations, one behind the other, that are followed where a chain names no limit."""


class RelationFilter(msgspec.Struct, rename="camel"):
    """Which relations count: those of a type, any if it is blank, to things of these kinds, any if there are none."""

    relation_type: str | None = None
    entity_types: list[str] = []

    def __post_init__(self) -> None:
        if self.entity_types and DEVICE not in self.entity_types:
            raise ValueError("entityTypes: only relations to DEVICE are known here")


class RelationsQuery(msgspec.Struct, rename="camel"):
    """Which devices are meant, seen from the message's. `maxLevel` 0 is no limit."""

    direction: Direction = Direction.FROM
    max_level: int = 1
    filters: list[RelationFilter] = []
    fetch_last_level_only: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.max_level <= MAX_LEVELS:
            raise ValueError(f"maxLevel is 0 to {MAX_LEVELS}")
        if self.fetch_last_level_only and not self.max_level:
            raise ValueError("fetchLastLevelOnly needs a maxLevel")


async def related(estate: Estate, query: RelationsQuery, originator: Originator) -> list[Originator]:
    """Those, nearest first; each once. Raises NodeFailed when there are none, or too many to tell all."""
    if not originator.is_device:
        raise NodeFailed("Only devices have relations, and the message is about none")
    found: dict[UUID, None] = {}
    for each in query.filters or [RelationFilter()]:
        type_, levels = each.relation_type or "", query.max_level or MAX_LEVELS
        some = await estate.related(originator.id, query.direction, type_, levels=levels)
        if len(some) > MAX_RELATED:
            raise NodeFailed(TOO_MANY_RELATED)
        if query.fetch_last_level_only and levels > 1:
            nearer = set(await estate.related(originator.id, query.direction, type_, levels=levels - 1))
            some = [device_id for device_id in some if device_id not in nearer]
        found |= dict.fromkeys(some)
    if not found:
        raise NodeFailed("There is no device that is related so")
    return [Originator(DEVICE, device_id) for device_id in found]


class Source(StrEnum):
    """What a message will be about."""

    CUSTOMER = "CUSTOMER"
    TENANT = "TENANT"
    RELATED = "RELATED"
    ENTITY = "ENTITY"
    GATEWAY = "GATEWAY"
    """That by which the device was connected last. ThingsBoard has no such."""


class ChangeConfiguration(msgspec.Struct, rename="camel"):
    """`relationsQuery` is for RELATED, the others for ENTITY."""

    originator_source: Source
    relations_query: RelationsQuery | None = None
    entity_type: str | None = None
    entity_name_pattern: str | None = None

    def __post_init__(self) -> None:
        if self.originator_source is Source.RELATED and self.relations_query is None:
            raise ValueError("there is no relationsQuery")
        if self.originator_source is Source.ENTITY:
            if self.entity_type != DEVICE:
                raise ValueError(f"entityType is {self.entity_type!r}: only DEVICE is known here")
            if not self.entity_name_pattern:
                raise ValueError("there is no entityNamePattern")


class ChangeNode:
    """Makes the message be about something else."""

    def __init__(self, configuration: ChangeConfiguration, place: Place) -> None:
        self._around = place.around
        self._estate = place.around.estate
        self._query = configuration.relations_query or RelationsQuery()
        self._name = Template(configuration.entity_name_pattern or "")
        finders: dict[Source, Callable[[RuleMessage], Awaitable[Originator]]] = {
            Source.CUSTOMER: self._customer,
            Source.TENANT: self._tenant,
            Source.RELATED: self._related,
            Source.ENTITY: self._named,
            Source.GATEWAY: self._gateway,
        }
        self._find = finders[configuration.originator_source]

    def __call__(self, message: RuleMessage) -> Deferred[Outcome]:
        return Deferred.fromCoroutine(self._change(message))

    async def _change(self, message: RuleMessage) -> Outcome:
        return (Out(SUCCESS, replace(message, originator=await self._find(message))),)

    async def _customer(self, message: RuleMessage) -> Originator:
        device = await self._device(message)
        if device.customer_id is None:
            raise NodeFailed("The device belongs to no customer")
        return Originator(CUSTOMER, device.customer_id)

    async def _tenant(self, message: RuleMessage) -> Originator:
        return Originator(TENANT, self._around.tenant_id)

    async def _related(self, message: RuleMessage) -> Originator:
        return (await related(self._estate, self._query, message.originator))[0]

    async def _named(self, message: RuleMessage) -> Originator:
        name = self._name.fill(message)
        device = await self._estate.device_named(name)
        if device is None:
            raise NodeFailed(f"There is no device {name[:100]!r}")
        return Originator(DEVICE, device.id)

    async def _gateway(self, message: RuleMessage) -> Originator:
        info = (await self._device(message)).additional_info
        try:
            gateway_id = UUID(info[LAST_GATEWAY])
        except (KeyError, TypeError, ValueError, AttributeError):
            raise NodeFailed("The device was never connected by a gateway") from None
        if await self._estate.device(gateway_id) is None:
            raise NodeFailed("There is no gateway any more by which the device was connected")
        return Originator(DEVICE, gateway_id)

    async def _device(self, message: RuleMessage) -> Device:
        device = await self._estate.device(message.originator.id) if message.originator.is_device else None
        if device is None:
            raise NodeFailed("The message is about no device")
        return device


class DuplicateConfiguration(msgspec.Struct, rename="camel"):
    """To which devices."""

    relations_query: RelationsQuery


class DuplicateNode:
    """Makes as many messages of one as there are related devices, each about one of them."""

    def __init__(self, configuration: DuplicateConfiguration, place: Place) -> None:
        self._around = place.around
        self._query = configuration.relations_query

    def __call__(self, message: RuleMessage) -> Deferred[Outcome]:
        return Deferred.fromCoroutine(self._duplicate(message))

    async def _duplicate(self, message: RuleMessage) -> Outcome:
        found = await related(self._around.estate, self._query, message.originator)
        return several([replace(message, originator=each) for each in found], self._around.new_uuid)


CHANGE = NodeType(
    name="org.thingsboard.rule.engine.transform.TbChangeOriginatorNode",
    configuration=ChangeConfiguration,
    make=ChangeNode,
    labels=(SUCCESS, FAILURE),
)
DUPLICATE = NodeType(
    name="org.thingsboard.rule.engine.transform.TbDuplicateMsgToRelatedNode",
    configuration=DuplicateConfiguration,
    make=DuplicateNode,
    labels=(SUCCESS, FAILURE),
)
