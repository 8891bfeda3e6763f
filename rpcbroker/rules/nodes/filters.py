"""Nodes that send messages on under one label or another."""

from __future__ import annotations

from uuid import UUID

import msgspec
from twisted.internet.defer import Deferred

from rpcbroker.rules.errors import NodeFailed
from rpcbroker.rules.message import CUSTOMER, DEVICE, RULE_NODE, TENANT, RuleMessage
from rpcbroker.rules.node import NodeType, Out, Outcome, Place
from rpcbroker.rules.nodes.bodies import object_of
from rpcbroker.rules.nodes.flow import NothingToConfigure
from rpcbroker.rules.nodes.originators import TOO_MANY_RELATED
from rpcbroker.rules.ports import MAX_RELATED, Direction
from rpcbroker.rules.types import ATTRIBUTES, FAILURE, FALSE, LABELS, OTHER, QUESTION, TELEMETRY, TRUE


class TypeSwitchConfiguration(msgspec.Struct):
    """There is nothing to configure."""

    version: int = 0


class TypeSwitchNode:
    """Sends each type of messages on under a label of its own."""

    def __init__(self, configuration: TypeSwitchConfiguration, place: Place) -> None:
        pass

    def __call__(self, message: RuleMessage) -> Outcome:
        return (Out(LABELS.get(message.type, OTHER), message),)

    def foresee(self, type_: str) -> tuple[str, ...]:
        return (LABELS.get(type_, OTHER),)


class TypeFilterConfiguration(msgspec.Struct, rename="camel"):
    """Which types are let through."""

    message_types: list[str] = msgspec.field(default_factory=lambda: [ATTRIBUTES, TELEMETRY, QUESTION])


class TypeFilterNode:
    """Tells messages of some types from all others."""

    def __init__(self, configuration: TypeFilterConfiguration, place: Place) -> None:
        self._types = frozenset(configuration.message_types)

    def __call__(self, message: RuleMessage) -> Outcome:
        return (Out(self.foresee(message.type)[0], message),)

    def foresee(self, type_: str) -> tuple[str, ...]:
        return (TRUE if type_ in self._types else FALSE,)


class KindSwitchNode:
    """Sends messages on under the name of what they are about."""

    def __init__(self, configuration: NothingToConfigure, place: Place) -> None:
        pass

    def __call__(self, message: RuleMessage) -> Outcome:
        kind = message.originator.kind
        return (Out(_KIND_LABELS.get(kind, kind), message),)


_KIND_LABELS = {DEVICE: "Device", CUSTOMER: "Customer", TENANT: "Tenant", RULE_NODE: "Rule node"}


class KindFilterConfiguration(msgspec.Struct, rename="camel"):
    """Which messages are let through: those about these kinds of things."""

    originator_types: list[str] = msgspec.field(default_factory=lambda: [DEVICE])


class KindFilterNode:
    """Tells messages about some kinds of things from all others."""

    def __init__(self, configuration: KindFilterConfiguration, place: Place) -> None:
        self._kinds = frozenset(configuration.originator_types)

    def __call__(self, message: RuleMessage) -> Outcome:
        return (Out(TRUE if message.originator.kind in self._kinds else FALSE, message),)


class PresenceConfiguration(msgspec.Struct, rename="camel"):
    """Which members of data and metadata must be there: all of them, or at least one."""

    message_names: list[str] = []
    metadata_names: list[str] = []
    check_all_keys: bool = True


class PresenceNode:
    """Tells messages that have some members from those that have not."""

    def __init__(self, configuration: PresenceConfiguration, place: Place) -> None:
        self._data, self._metadata = configuration.message_names, configuration.metadata_names
        self._enough = all if configuration.check_all_keys else any

    def __call__(self, message: RuleMessage) -> Outcome:
        body = object_of(message)
        there = [key in body for key in self._data] + [key in message.metadata for key in self._metadata]
        return (Out(TRUE if self._enough(there) else FALSE, message),)


class RelationConfiguration(msgspec.Struct, rename="camel"):
    """Which relation: `direction` FROM is one that leads to the message's device, TO one that leads from it."""

    relation_type: str
    direction: Direction = Direction.FROM
    check_for_single_entity: bool = False
    entity_type: str | None = None
    entity_id: str | None = None

    def __post_init__(self) -> None:
        if not self.check_for_single_entity:
            return
        if self.entity_type != DEVICE:
            raise ValueError(f"entityType is {self.entity_type!r}: only DEVICE is known here")
        try:
            UUID(self.entity_id or "")
        except ValueError:
            raise ValueError("entityId is no UUID") from None


class RelationNode:
    """Tells messages about devices that have a relation, or one to a certain device, from all others."""

    def __init__(self, configuration: RelationConfiguration, place: Place) -> None:
        self._estate = place.around.estate
        self._type = configuration.relation_type
        self._direction = Direction.TO if configuration.direction is Direction.FROM else Direction.FROM
        self._other = UUID(configuration.entity_id or "") if configuration.check_for_single_entity else None

    def __call__(self, message: RuleMessage) -> Deferred[Outcome]:
        return Deferred.fromCoroutine(self._check(message))

    async def _check(self, message: RuleMessage) -> Outcome:
        originator = message.originator
        found: list[UUID] = []
        if originator.is_device:
            found = await self._estate.related(originator.id, self._direction, self._type, levels=1)
        there = bool(found) if self._other is None else self._other in found
        if not there and len(found) > MAX_RELATED:  # it may be one of those that were not looked at
            raise NodeFailed(TOO_MANY_RELATED)
        return (Out(TRUE if there else FALSE, message),)


TYPE_SWITCH = NodeType(
    name="org.thingsboard.rule.engine.filter.TbMsgTypeSwitchNode",
    configuration=TypeSwitchConfiguration,
    make=TypeSwitchNode,
    labels=None,
)
TYPE_FILTER = NodeType(
    name="org.thingsboard.rule.engine.filter.TbMsgTypeFilterNode",
    configuration=TypeFilterConfiguration,
    make=TypeFilterNode,
    labels=(TRUE, FALSE, FAILURE),
)
KIND_SWITCH = NodeType(
    name="org.thingsboard.rule.engine.filter.TbOriginatorTypeSwitchNode",
    configuration=NothingToConfigure,
    make=KindSwitchNode,
    labels=None,
)
KIND_FILTER = NodeType(
    name="org.thingsboard.rule.engine.filter.TbOriginatorTypeFilterNode",
    configuration=KindFilterConfiguration,
    make=KindFilterNode,
    labels=(TRUE, FALSE, FAILURE),
)
PRESENCE = NodeType(
    name="org.thingsboard.rule.engine.filter.TbCheckMessageNode",
    configuration=PresenceConfiguration,
    make=PresenceNode,
    labels=(TRUE, FALSE, FAILURE),
)
RELATION = NodeType(
    name="org.thingsboard.rule.engine.filter.TbCheckRelationNode",
    configuration=RelationConfiguration,
    make=RelationNode,
    labels=(TRUE, FALSE, FAILURE),
)
