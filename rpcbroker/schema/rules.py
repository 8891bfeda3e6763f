"""What is asked and answered about rule chains beside the chains themselves."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rpcbroker.schema.common import EntityId, EpochMs, Id, Line, PageQuery, Plain, Text


class RuleChainsQuery(PageQuery, kw_only=True):
    """Which part of the list of rule chains."""

    type: Annotated[str, Meta(description="CORE; others are not kept here")] = "CORE"


class ExportQuery(msgspec.Struct, kw_only=True):
    """How much is exported."""

    limit: Annotated[int, Meta(description="chains at most", extra_json_schema={"minimum": 1})] = 1_000


class ImportQuery(msgspec.Struct, kw_only=True):
    """How chains are imported."""

    overwrite: Annotated[bool, Meta(description="chains replace those of the same name; else they are new ones")] = (
        False
    )


class ImportResultJSON(msgspec.Struct, rename="camel"):
    """One chain that was imported."""

    tenant_id: EntityId
    rule_chain_id: EntityId
    rule_chain_name: str
    updated: Annotated[bool, Meta(description="it has replaced one that was there")]
    error: str | None = None
    warnings: list[str] = []


class DefaultChainBody(msgspec.Struct, kw_only=True):
    """A new chain like the default one."""

    name: Text


class ScriptTestQuery(msgspec.Struct, rename="camel", kw_only=True):
    """In which language the script is."""

    script_lang: Annotated[Literal["JS", "TBEL"], Meta(description="the script's language")] = "JS"


class ScriptTestBody(msgspec.Struct, rename="camel", kw_only=True):
    """A script, what it is for, and the message that it gets."""

    script: str
    script_type: Annotated[
        Literal["update", "generate", "filter", "switch", "json", "string"],
        Meta(
            description="update and generate give messages, filter true or false, switch labels, json any JSON, "
            "string a text"
        ),
    ]
    arg_names: Annotated[
        list[Annotated[str, Meta(pattern="^[A-Za-z_$][A-Za-z0-9_$]{0,99}$")]],
        Meta(description="its arguments: the message's data, metadata and type", min_length=3, max_length=3),
    ] = msgspec.field(default_factory=lambda: ["msg", "metadata", "msgType"])
    msg: Annotated[str, Meta(description="the data of the message: JSON text")] = "{}"
    metadata: dict[str, str] = {}
    msg_type: Line = "POST_TELEMETRY_REQUEST"


class ScriptOutputJSON(msgspec.Struct):
    """What a script gave, or why it failed."""

    output: Annotated[str, Meta(description="JSON text, or what a script of type string gave")]
    error: Annotated[str, Meta(description="empty if it did not fail")]


class EventsQuery(PageQuery, kw_only=True):
    """Which events of a node; the newest come first unless the order says otherwise."""

    tenant_id: Annotated[Plain | None, Meta(description="is not looked at: there are one's own events only")] = None
    start_time: Annotated[EpochMs | None, Meta(description="not before this")] = None
    end_time: Annotated[EpochMs | None, Meta(description="not after this")] = None
    sort_order: Annotated[
        str,
        Meta(
            description="ASC or DESC, in upper or lower case",
            extra_json_schema={"pattern": "^([aA][sS][cC]|[dD][eE][sS][cC])$"},
        ),
    ] = "DESC"


class EventJSON(msgspec.Struct, rename="camel"):
    """A message that came to a node, or left it: `body.type` is IN or OUT."""

    id: Id
    tenant_id: EntityId
    type: str
    uid: str
    entity_id: EntityId
    created_time: EpochMs
    body: dict[str, Any]
