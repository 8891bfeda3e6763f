"""A rule chain: an immutable graph, and what may be wrong with one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID, uuid5

import msgspec

from rpcbroker.core.errors import InvalidRequest
from rpcbroker.rules.errors import BadConfiguration
from rpcbroker.rules.format import ConnectionJSON, DebugSettingsJSON, MetadataJSON, NodeJSON
from rpcbroker.rules.node import NodeType
from rpcbroker.rules.ports import Script

ENTER_CHAIN = "org.thingsboard.rule.engine.flow.TbRuleChainInputNode"
MAX_NODES = 10_000
MAX_CONNECTIONS = 100_000
MAX_NAME = 255
SHOWN = 20
"""Faults of one chain that are told at a time."""


class ChainRefused(InvalidRequest):
    """A chain cannot be taken; the message says what is wrong with it, and `faults` each thing by itself."""

    faults: tuple[str, ...] = ()


def refused(faults: Sequence[str]) -> ChainRefused:
    """The error for a chain with these faults; its message tells the first ones."""
    more = f" ... and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    error = ChainRefused("The rule chain cannot be taken: " + "; ".join(faults[:SHOWN]) + more)
    error.faults = tuple(faults)
    return error


class RuleNode(NamedTuple):
    """One step, as it is configured. `configuration` is a value of `type.configuration`."""

    id: UUID | None
    name: str
    type: NodeType
    configuration: Any
    debug: DebugSettingsJSON

    @property
    def scripts(self) -> tuple[Script, ...]:
        return self.type.scripts(self.configuration)


Targets = Mapping[str, tuple[int, ...]]
"""Label -> the nodes that messages go to under it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A chain's nodes, and how they are connected. `first` is None of a chain that does nothing."""

    nodes: tuple[RuleNode, ...]
    targets: tuple[Targets, ...]
    first: int | None
    warnings: tuple[str, ...] = field(default=())


def graph_of(given: MetadataJSON, types: Mapping[str, NodeType]) -> Graph:
    """The graph that this JSON says. Raises ChainRefused, which names each node by its index and its name."""
    faults: list[str] = []
    with_chains = without_chain_connections(given)
    if len(with_chains.nodes) > MAX_NODES or len(with_chains.connections or ()) > MAX_CONNECTIONS:
        raise refused([f"A chain has at most {MAX_NODES:,} nodes and {MAX_CONNECTIONS:,} connections"])
    nodes = [_node(index, node, types, faults) for index, node in enumerate(with_chains.nodes)]
    targets = _targets(with_chains, faults)
    first = with_chains.first_node_index
    if first is not None and not 0 <= first < len(nodes):
        faults.append(f"firstNodeIndex {first} is no node's")
    if first is None and nodes:
        faults.append("firstNodeIndex is missing")
    made = [node for node in nodes if node is not None]
    if not faults:
        faults += _numbers(made)
        faults += _labels(made, targets)
        faults += _cycles(made, targets)
    if faults:
        raise refused(faults)
    return Graph(
        nodes=tuple(made), targets=tuple(targets), first=first, warnings=tuple(_unreachable(made, targets, first))
    )


def node_id_of(chain_id: UUID, index: int) -> UUID:
    """The id of a node that was given none, always the same."""
    return uuid5(chain_id, str(index))


def place(index: int, name: str) -> str:
    """How a node is called in what people read."""
    return f"node {index} {name[:MAX_NAME]!r}"


def without_chain_connections(given: MetadataJSON) -> MetadataJSON:
    """With nodes in the place of ruleChainConnections, as newer exports have them."""
    if not given.rule_chain_connections:
        return given
    nodes, connections = list(given.nodes), list(given.connections or ())
    for each in given.rule_chain_connections:
        target = each.target_rule_chain_id.id
        nodes.append(NodeJSON(ENTER_CHAIN, f"Rule chain {target}", configuration={"ruleChainId": target}))
        connections.append(ConnectionJSON(each.from_index, len(nodes) - 1, each.type))
    return msgspec.structs.replace(given, nodes=nodes, connections=connections, rule_chain_connections=None)


def _node(index: int, given: NodeJSON, types: Mapping[str, NodeType], faults: list[str]) -> RuleNode | None:
    where = place(index, given.name)
    if not given.name.strip() or len(given.name) > MAX_NAME:
        faults.append(f"{where}: a name has 1 to {MAX_NAME} characters")
    kind = types.get(given.type)
    if kind is None:
        faults.append(f"{where}: the type {given.type[:MAX_NAME]!r} is not known here")
        return None
    try:
        configuration = msgspec.convert(given.configuration or {}, kind.configuration)
    except msgspec.ValidationError as error:
        faults.append(f"{where}: configuration: {error}")
        return None
    except BadConfiguration as error:
        faults.append(f"{where}: configuration: {error}")
        return None
    debug = given.debug_settings or DebugSettingsJSON(all_enabled=bool(given.debug_mode))
    try:
        node_id = None if given.id is None else UUID(given.id.id)
    except ValueError:
        faults.append(f"{where}: its id is no UUID")
        return None
    return RuleNode(node_id, given.name, kind, configuration, debug)


def _targets(given: MetadataJSON, faults: list[str]) -> list[dict[str, tuple[int, ...]]]:
    count = len(given.nodes)
    targets: list[dict[str, dict[int, None]]] = [{} for _ in range(count)]
    for number, each in enumerate(given.connections or ()):
        ends = [end for end in (each.from_index, each.to_index) if not 0 <= end < count]
        if ends:
            faults.append(f"connection {number}: there is no node {ends[0]}")
            continue
        targets[each.from_index].setdefault(each.type, {})[each.to_index] = None
    return [{label: tuple(ends) for label, ends in mine.items()} for mine in targets]


def _numbers(nodes: list[RuleNode]) -> list[str]:
    """Kinds of which there are too many."""
    counts = Counter((node.type.name, node.type.most) for node in nodes)
    return [
        f"it has {count:,} nodes of the type {name}, and may have {most}"
        for (name, most), count in counts.items()
        if most is not None and count > most
    ]


def _labels(nodes: list[RuleNode], targets: list[dict[str, tuple[int, ...]]]) -> list[str]:
    """Connections under labels that never come are refused: they are mistyped."""
    faults = []
    for index, (node, mine) in enumerate(zip(nodes, targets, strict=True)):
        known = node.type.labels
        if known is not None:
            only = f"only under {', '.join(known)}" if known else "nor under anything else"
            faults += [
                f"{place(index, node.name)}: nothing leaves it under {label[:MAX_NAME]!r}, {only}"
                for label in mine
                if label not in known
            ]
    return faults


def _cycles(nodes: list[RuleNode], targets: list[dict[str, tuple[int, ...]]]) -> list[str]:
    """Cycles in which no node takes time: what remains when nodes without open predecessors are taken away."""
    following = [
        () if node.type.takes_time else {to for some in mine.values() for to in some}
        for node, mine in zip(nodes, targets, strict=True)
    ]
    open_ = [0] * len(nodes)
    for some in following:
        for to in some:
            open_[to] += 1
    ready = [index for index, count in enumerate(open_) if not count]
    left = set(range(len(nodes)))
    while ready:
        index = ready.pop()
        left.discard(index)
        for to in following[index]:
            open_[to] -= 1
            if not open_[to]:
                ready.append(to)
    if not left:
        return []
    # Each that is left has one before it that is left, too: who goes back is in a cycle when a node comes again.
    before = {to: index for index in left for to in following[index]}
    index, seen = min(left), set()
    while index not in seen:
        seen.add(index)
        index = before[index]
    return [f"{place(index, nodes[index].name)}: it is in a cycle without a node that takes time"]


def _unreachable(nodes: list[RuleNode], targets: list[dict[str, tuple[int, ...]]], first: int | None) -> list[str]:
    seen = set()
    todo = [index for index, node in enumerate(nodes) if index == first or node.type.begins]
    while todo:
        index = todo.pop()
        if index not in seen:
            seen.add(index)
            todo += [to for some in targets[index].values() for to in some]
    return [
        f"{place(index, node.name)}: no message gets there" for index, node in enumerate(nodes) if index not in seen
    ]
