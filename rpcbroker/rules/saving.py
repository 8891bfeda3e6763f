"""What a graph becomes when it is kept: its nodes have ids, and recording ends by itself; and where it leads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from uuid import UUID

import msgspec

from rpcbroker.core.model import StoredChain
from rpcbroker.rules.chain import ENTER_CHAIN, node_id_of, without_chain_connections
from rpcbroker.rules.format import DebugSettingsJSON, MetadataJSON, NodeJSON, RefJSON, read_graph

RECORD_ALL = 15 * 60_000
"""Milliseconds for which a node records all after that was saved, at most."""
NODE = "RULE_NODE"


def kept_graph(chain: StoredChain) -> MetadataJSON:
    """The graph of a chain, in which every node has an id."""
    graph = read_graph(chain.graph)
    nodes = [
        node if node.id else msgspec.structs.replace(node, id=RefJSON(str(node_id_of(chain.id, index)), NODE))
        for index, node in enumerate(graph.nodes)
    ]
    return msgspec.structs.replace(graph, nodes=nodes)


def graph_to_keep(
    given: MetadataJSON, *, before: MetadataJSON | None, now: int, new_uuid: Callable[[], UUID]
) -> MetadataJSON:
    """`given` as the next version of `before`, whose nodes keep their ids; all others get new ones.

    `now` is epoch ms. What says which chain and version it was is left out.
    """
    known = {node.id.id for node in before.nodes if node.id} if before else set()

    def node_of(node: NodeJSON) -> NodeJSON:
        node_id = "" if node.id is None else node.id.id.lower()
        if node_id in known:
            known.discard(node_id)  # a copy is another node
        else:
            node_id = str(new_uuid())
        debug = _debug_settings(node, now)
        return msgspec.structs.replace(node, id=RefJSON(node_id, NODE), debug_settings=debug, debug_mode=False)

    graph = without_chain_connections(given)
    nodes = [node_of(node) for node in graph.nodes]
    return msgspec.structs.replace(graph, nodes=nodes, rule_chain_id=None, version=None)


def _debug_settings(node: NodeJSON, now: int) -> DebugSettingsJSON | None:
    given = node.debug_settings
    if given is None:
        return DebugSettingsJSON(failures_enabled=True, all_enabled_until=now + RECORD_ALL) if node.debug_mode else None
    until = now + RECORD_ALL
    if not given.all_enabled:
        until = min(until, given.all_enabled_until)
    return DebugSettingsJSON(failures_enabled=given.failures_enabled, all_enabled_until=until)


def with_chains_moved(given: MetadataJSON, moved: Mapping[str, UUID]) -> MetadataJSON:
    """`given`, in which nodes that enter one of these chains, by its old id, enter it under its new one."""

    def node_of(node: NodeJSON) -> NodeJSON:
        old = (node.configuration or {}).get("ruleChainId")
        if node.type != ENTER_CHAIN or not isinstance(old, str) or old.lower() not in moved:
            return node
        configuration = {**(node.configuration or {}), "ruleChainId": str(moved[old.lower()])}
        return msgspec.structs.replace(node, configuration=configuration)

    graph = without_chain_connections(given)
    return msgspec.structs.replace(graph, nodes=[node_of(node) for node in graph.nodes])


def entered(graph: MetadataJSON) -> list[str | None]:
    """The ids of the chains that messages enter from this one; None is the root chain."""
    older = [each.target_rule_chain_id.id for each in graph.rule_chain_connections or ()]
    return [*older, *(_entered(node) for node in graph.nodes if node.type == ENTER_CHAIN)]


def _entered(node: NodeJSON) -> str | None:
    configuration = node.configuration or {}
    if configuration.get("forwardMsgToDefaultRuleChain") is True:
        return None
    return str(configuration.get("ruleChainId"))
