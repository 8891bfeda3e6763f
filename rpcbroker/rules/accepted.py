"""Whether a chain can be taken: its graph, its scripts, and that its nodes can be made."""

from __future__ import annotations

from rpcbroker.rules.chain import Graph, graph_of, place, refused
from rpcbroker.rules.errors import BadConfiguration
from rpcbroker.rules.format import MetadataJSON
from rpcbroker.rules.node import Place
from rpcbroker.rules.nodes.table import NODE_TYPES
from rpcbroker.rules.ports import RuleSurroundings, ScriptRefused, Scripts


async def accepted(given: MetadataJSON, scripts: Scripts, around: RuleSurroundings) -> Graph:
    """The graph that this JSON says. Raises ChainRefused, which names each node by its index and its name.

    Scripts, and what nodes can only tell when they are made, are looked at when all else is well.
    """
    graph = graph_of(given, NODE_TYPES)
    faults = []
    for index, node in enumerate(graph.nodes):
        where = place(index, node.name)
        for script in node.scripts:
            try:
                await scripts.check(script)
            except ScriptRefused as error:
                faults.append(f"{where}: its script: {error}")
        try:
            node.type.make(node.configuration, Place(id=node.id or around.new_uuid(), name=node.name, around=around))
        except BadConfiguration as error:
            faults.append(f"{where}: configuration: {error}")
    if faults:
        raise refused(faults)
    return graph
