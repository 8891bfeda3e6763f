"""Nodes of the default chain in the place of those that are not there yet; this file goes when they come."""

from __future__ import annotations

from typing import Any

import msgspec

from rpcbroker.rules.message import RuleMessage
from rpcbroker.rules.node import Effect, Node, NodeType, Out, Outcome, Place
from rpcbroker.rules.types import FAILURE, SUCCESS


class AnyConfiguration(msgspec.Struct):
    """Nothing is looked at."""


def _passing(effect_: Effect | None) -> Any:
    class Passing:
        effect = effect_

        def __init__(self, configuration: AnyConfiguration, place: Place) -> None:
            pass

        def __call__(self, message: RuleMessage) -> Outcome:
            return (Out(SUCCESS, message),)

    def make(configuration: AnyConfiguration, place: Place) -> Node:
        return Passing(configuration, place)

    return make


_RULES = "org.thingsboard.rule.engine"
ALL = [
    NodeType(name=f"{_RULES}.{name}", configuration=AnyConfiguration, make=_passing(effect), labels=(SUCCESS, FAILURE))
    for name, effect in (
        ("telemetry.TbMsgTimeseriesNode", Effect.TELEMETRY),
        ("telemetry.TbMsgAttributesNode", Effect.ATTRIBUTES),
    )
]
