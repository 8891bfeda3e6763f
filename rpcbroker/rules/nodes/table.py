"""All kinds of nodes, by the names that exported chains have for them."""

from __future__ import annotations

from rpcbroker.rules.node import NodeType
from rpcbroker.rules.nodes import (
    delay,
    enriching,
    filters,
    flow,
    generator,
    keys,
    originators,
    rest_reply,
    rpc,
    saving,
    scripts,
    transforms,
    web,
)

_ALL = (
    filters.TYPE_SWITCH,
    filters.TYPE_FILTER,
    filters.KIND_SWITCH,
    filters.KIND_FILTER,
    filters.PRESENCE,
    filters.RELATION,
    scripts.FILTER,
    scripts.SWITCH,
    scripts.TRANSFORM,
    scripts.LOG,
    originators.CHANGE,
    originators.DUPLICATE,
    keys.DELETE,
    keys.COPY,
    keys.RENAME,
    transforms.PATH,
    transforms.SPLIT,
    delay.DELAY,
    generator.GENERATOR,
    flow.RULE_CHAIN,
    flow.OUTPUT,
    flow.ACKNOWLEDGE,
    flow.CHECKPOINT,
    rpc.REQUEST,
    rpc.REPLY,
    rpc.OWN_ANSWER,
    saving.SAVE_TELEMETRY,
    saving.SAVE_ATTRIBUTES,
    enriching.GET_ATTRIBUTES,
    enriching.GET_TELEMETRY,
    rest_reply.REST_REPLY,
    web.CALL,
)

NODE_TYPES: dict[str, NodeType] = {each.name: each for each in _ALL}
"""Any other name is refused."""
