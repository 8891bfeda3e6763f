"""What a node is to the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import msgspec
from twisted.internet.defer import Deferred

from rpcbroker.rules.message import RuleMessage
from rpcbroker.rules.ports import RuleSurroundings, Script


class Out(NamedTuple):
    """A message goes on under a label."""

    label: str
    message: RuleMessage


class Enter(NamedTuple):
    """A message goes on at the first node of another chain of the tenant."""

    chain_id: UUID | None
    """None is the root chain."""
    message: RuleMessage


class Leave(NamedTuple):
    """A message goes back to where its chain was entered, and on from there under a label."""

    label: str
    message: RuleMessage


Outcome = tuple[Out | Enter | Leave, ...]


class Node(Protocol):
    """One node that is made: what it does to a message. Nodes are shared by all messages, and keep nothing of one."""

    def __call__(self, message: RuleMessage) -> Outcome | Deferred[Outcome]:
        """What goes on. Raises NodeFailed, or fails with it: then the message goes on under Failure."""


class Foreseeing(Protocol):
    """A node without effects that leaves messages as they are, and whose labels follow from their type."""

    def foresee(self, type_: str) -> tuple[str, ...]: ...


class Living(Protocol):
    """A node that does something by itself while its chain is there."""

    def start(self, emit: Callable[[Out], None]) -> None:
        """Messages of its own go to `emit`."""

    def stop(self) -> None:
        """End; what it holds back is let go."""


class Effect(StrEnum):
    """What the broker does as well by itself, where nothing stands behind the node: see `direct`."""

    CALL = "call"
    TELEMETRY = "telemetry"
    ATTRIBUTES = "attributes"


class Effective(Protocol):
    """A node that does just this to what comes straight from a device or a caller."""

    effect: Effect | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a node is made."""

    id: UUID
    name: str
    around: RuleSurroundings


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeType:
    """A kind of nodes, by the name that exported chains have for it.

    `configuration` is how it is configured; `make` makes one of it, or raises BadConfiguration. `labels` are those
    under which its messages may go on, None is any. `takes_time`: a cycle may go through it, and what comes in is
    acknowledged at once; `acknowledges`: only the latter. `begins`: it makes messages by itself. `scripts` are those
    that have to be accepted before the chain is. `most`: as many of the kind a chain may have.
    """

    name: str
    configuration: type[msgspec.Struct]
    make: Callable[[Any, Place], Node]
    labels: tuple[str, ...] | None
    takes_time: bool = False
    acknowledges: bool = False
    begins: bool = False
    scripts: Callable[[Any], tuple[Script, ...]] = lambda _: ()
    most: int | None = None
