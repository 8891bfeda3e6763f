"""A chain whose nodes are made: what the engine runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from twisted.logger import Logger

from rpcbroker.rules.chain import Graph, RuleNode, Targets, node_id_of
from rpcbroker.rules.errors import BadConfiguration
from rpcbroker.rules.format import DebugSettingsJSON
from rpcbroker.rules.node import Node, Out, Place
from rpcbroker.rules.ports import RuleSurroundings

_log = Logger()


class ActiveNode:
    """One node that is made, with those behind it."""

    __slots__ = ("acknowledges", "act", "debug", "id", "index", "name", "recorded", "takes_time", "targets", "type")

    def __init__(self, index: int, node: RuleNode, act: Node, node_id: UUID, targets: Targets) -> None:
        self.index = index
        self.id = node_id
        self.name = node.name
        self.type = node.type.name
        self.act = act
        self.takes_time = node.type.takes_time
        self.acknowledges = node.type.takes_time or node.type.acknowledges
        self.targets = targets
        self.debug: DebugSettingsJSON = node.debug
        self.recorded = node.debug.failures_enabled or node.debug.all_enabled or node.debug.all_enabled_until > 0
        """Whether anything of what passes it may have to be recorded: this is asked for each message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveChain:
    """A chain of one tenant that messages can pass."""

    id: UUID
    tenant_id: UUID
    name: str
    nodes: tuple[ActiveNode, ...]
    first: int | None

    def start(self, emit: Callable[[ActiveChain, ActiveNode, Out], None]) -> None:
        """Nodes that do something by themselves begin; what they make goes to `emit`."""
        for node in self.nodes:
            start = getattr(node.act, "start", None)
            if start is not None:
                self._let(start, lambda out, node=node: emit(self, node, out))

    def stop(self) -> None:
        """They end, and let go of what they hold back."""
        for node in self.nodes:
            stop = getattr(node.act, "stop", None)
            if stop is not None:
                self._let(stop)

    def _let(self, begin_or_end: Callable[..., object], *given: object) -> None:
        """What one node raises leaves the others, and other chains, as they should be."""
        try:
            begin_or_end(*given)
        except Exception:
            _log.failure("a node of rule chain {chain} met a bug", chain=self.name)


def activate(
    graph: Graph,
    *,
    chain_id: UUID,
    name: str,
    around: RuleSurroundings,
) -> ActiveChain:
    """The chain of this graph. Raises BadConfiguration, which names the node."""
    nodes = []
    for index, node in enumerate(graph.nodes):
        node_id = node.id or node_id_of(chain_id, index)
        try:
            act = node.type.make(node.configuration, Place(id=node_id, name=node.name, around=around))
        except BadConfiguration as error:
            raise BadConfiguration(f"node {index} {node.name!r}: configuration: {error}") from None
        nodes.append(ActiveNode(index, node, act, node_id, graph.targets[index]))
    return ActiveChain(id=chain_id, tenant_id=around.tenant_id, name=name, nodes=tuple(nodes), first=graph.first)
