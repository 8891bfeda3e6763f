"""All kinds of nodes, by the names that exported chains have for them."""

from __future__ import annotations

from rpcbroker.rules.node import NodeType
from rpcbroker.rules.nodes import filters, rpc, standins

_ALL = (
    filters.TYPE_SWITCH,
    filters.TYPE_FILTER,
    rpc.REQUEST,
    rpc.REPLY,
    rpc.OWN_ANSWER,
)

NODE_TYPES: dict[str, NodeType] = {each.name: each for each in _ALL}
"""Any other name is refused."""
for _each in standins.ALL:
    NODE_TYPES.setdefault(_each.name, _each)
