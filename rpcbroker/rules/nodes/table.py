"""All kinds of nodes, by the names that exported chains have for them."""

from __future__ import annotations

from rpcbroker.rules.node import NodeType
from rpcbroker.rules.nodes import enriching, filters, rest_reply, rpc, saving

_ALL = (
    filters.TYPE_SWITCH,
    filters.TYPE_FILTER,
    rpc.REQUEST,
    rpc.REPLY,
    rpc.OWN_ANSWER,
    saving.SAVE_TELEMETRY,
    saving.SAVE_ATTRIBUTES,
    enriching.GET_ATTRIBUTES,
    enriching.GET_TELEMETRY,
    rest_reply.REST_REPLY,
)

NODE_TYPES: dict[str, NodeType] = {each.name: each for each in _ALL}
"""Any other name is refused."""
