"""Rule chains as they are exported, imported and sent over REST: ThingsBoard's JSON."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from rpcbroker.core import jsontext

Whole = Annotated[int, Meta(ge=-(2**53), le=2**53)]
"""A number that every JSON parser has exactly."""


class RefJSON(msgspec.Struct, rename="camel"):
    """An id, and of what."""

    id: str
    entity_type: str


class DebugSettingsJSON(msgspec.Struct, rename="camel"):
    """What a node records: failures, or all that it gets and gives, for ever or until `allEnabledUntil` (epoch ms)."""

    failures_enabled: bool = False
    all_enabled: bool = False
    all_enabled_until: Whole = 0

    def records_all(self, now: int) -> bool:
        """Whether all that passes is recorded at that time (epoch ms)."""
        return self.all_enabled or self.all_enabled_until > now


class NodeJSON(msgspec.Struct, rename="camel"):
    """One node. Older exports have `debugMode` in place of `debugSettings`."""

    type: str
    name: str
    id: RefJSON | None = None
    debug_settings: DebugSettingsJSON | None = None
    debug_mode: bool | None = False
    singleton_mode: bool | None = False
    queue_name: str | None = None
    configuration_version: Whole | None = 0
    configuration: dict[str, Any] | None = None
    additional_info: Any = None


class ConnectionJSON(msgspec.Struct, rename="camel"):
    """Messages that leave node `fromIndex` under the label `type` go to node `toIndex`."""

    from_index: Whole
    to_index: Whole
    type: str


class ChainConnectionJSON(msgspec.Struct, rename="camel"):
    """Of older exports: messages go on in another chain."""

    from_index: Whole
    target_rule_chain_id: RefJSON
    type: str
    additional_info: Any = None


class MetadataJSON(msgspec.Struct, rename="camel"):
    """The graph of a chain."""

    nodes: list[NodeJSON] = []
    connections: list[ConnectionJSON] | None = None
    rule_chain_connections: list[ChainConnectionJSON] | None = None
    first_node_index: Whole | None = None
    rule_chain_id: RefJSON | None = None
    version: Whole | None = None
    notes: list[Any] | None = None


class ChainJSON(msgspec.Struct, rename="camel"):
    """What a chain is beside its graph."""

    name: Annotated[str, Meta(extra_json_schema={"maxLength": 255, "pattern": "^[^\\u0000]*[^\\s\\u0000][^\\u0000]*$"})]
    id: RefJSON | None = None
    tenant_id: RefJSON | None = None
    created_time: Whole | None = 0
    type: Annotated[str, Meta(extra_json_schema={"enum": ["CORE"]})] = "CORE"
    first_rule_node_id: RefJSON | None = None
    root: bool | None = False
    debug_mode: bool | None = False
    configuration: Any = None
    additional_info: Any = None
    version: Whole | None = None


class SavedMetadataJSON(MetadataJSON, rename="camel"):
    """The graph of a chain as it is kept now. `warnings` says what in it is likely to be a mistake."""

    warnings: list[str] | msgspec.UnsetType = msgspec.UNSET


class ChainFile(msgspec.Struct, rename="camel"):
    """One exported chain."""

    rule_chain: ChainJSON
    metadata: MetadataJSON


class ChainsFile(msgspec.Struct, rename="camel"):
    """All chains of a tenant, exported together."""

    rule_chains: list[ChainJSON]
    metadata: list[MetadataJSON]


class ChainsBody(msgspec.Struct, rename="camel"):
    """What is imported: `ruleChains`, and `metadata` as a list, or one `ruleChain` and its `metadata`."""

    metadata: list[MetadataJSON] | MetadataJSON
    rule_chains: list[ChainJSON] | None = None
    rule_chain: ChainJSON | None = None


def read_graph(text: bytes) -> MetadataJSON:
    """A graph as the store keeps it, or as a caller sends it. Raises jsontext.BadJSON."""
    graph: MetadataJSON = jsontext.decode_as(MetadataJSON, text)
    return graph
