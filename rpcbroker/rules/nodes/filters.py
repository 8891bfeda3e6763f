"""Nodes that send messages on under one label or another."""

from __future__ import annotations

import msgspec

from rpcbroker.rules.message import RuleMessage
from rpcbroker.rules.node import NodeType, Out, Outcome, Place
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
