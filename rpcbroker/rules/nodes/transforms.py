"""Nodes that put something else in the place of a message's data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from rpcbroker.core import jsontext
from rpcbroker.rules.errors import BadConfiguration, NodeFailed
from rpcbroker.rules.message import RuleMessage
from rpcbroker.rules.node import Node, NodeType, Out, Outcome, Place
from rpcbroker.rules.nodes.bodies import MAX_MESSAGES, body_of, several
from rpcbroker.rules.nodes.flow import NothingToConfigure, PassNode
from rpcbroker.rules.types import FAILURE, SUCCESS

_ALL = "$"


class PathConfiguration(msgspec.Struct, rename="camel"):
    """Where in the data: a JSONPath."""

    json_path: str = _ALL


class PathNode:
    """Goes on with what is at a JSONPath: a value, or an array where there may be several."""

    def __init__(self, path: Any, failed: type[Exception]) -> None:
        self._path = path
        self._failed = failed

    def __call__(self, message: RuleMessage) -> Outcome:
        body = body_of(message)
        try:
            found = self._path.find(body)
        except self._failed as error:
            raise NodeFailed(str(error)) from None
        return (Out(SUCCESS, replace(message, data=found)),)


def _path(configuration: PathConfiguration, place: Place) -> Node:
    if configuration.json_path == _ALL:
        return PassNode(NothingToConfigure(), place)
    from rpcbroker.rules.nodes.paths import Path, PathFailed, PathRefused  # the package behind it is large

    try:
        return PathNode(Path(configuration.json_path), PathFailed)
    except PathRefused as error:
        raise BadConfiguration(f"jsonPath {configuration.json_path[:100]!r}: {error}") from None


class SplitNode:
    """Makes a message of each element of an array."""

    def __init__(self, configuration: NothingToConfigure, place: Place) -> None:
        self._new_uuid = place.around.new_uuid

    def __call__(self, message: RuleMessage) -> Outcome:
        body = body_of(message)
        if type(body) is not list:
            raise NodeFailed("The message is not a JSON array")
        some = body[: MAX_MESSAGES + 1]
        return several([replace(message, data=jsontext.encode(each)) for each in some], self._new_uuid)


PATH = NodeType(
    name="org.thingsboard.rule.engine.transform.TbJsonPathNode",
    configuration=PathConfiguration,
    make=_path,
    labels=(SUCCESS, FAILURE),
)
SPLIT = NodeType(
    name="org.thingsboard.rule.engine.transform.TbSplitArrayMsgNode",
    configuration=NothingToConfigure,
    make=SplitNode,
    labels=(SUCCESS, FAILURE),
)
