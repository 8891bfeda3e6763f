"""Relations between devices."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rpcbroker.core.model import Relation
from rpcbroker.schema.common import EntityId, Info, Plain, Text

COMMON = "COMMON"
"""The one group of relations that is kept."""

EntityType = Annotated[str, Meta(description="only devices are related", extra_json_schema={"enum": ["DEVICE"]})]
Group = Annotated[
    str | None, Meta(description="of no meaning: there is one group", extra_json_schema={"enum": [COMMON, None]})
]
EntityUuid = Annotated[Plain, Meta(extra_json_schema={"format": "uuid"})]
RelationType = Annotated[Text, Meta(description="the user's word for how they are related", examples=["Contains"])]


class RelationBody(msgspec.Struct, rename="camel", kw_only=True):
    """How one device is related to another."""

    source: EntityId = msgspec.field(name="from")
    target: EntityId = msgspec.field(name="to")
    type: RelationType
    type_group: Group = COMMON
    additional_info: Info = None


class RelationJSON(msgspec.Struct, rename="camel", kw_only=True):
    """How one device is related to another."""

    source: EntityId = msgspec.field(name="from")
    target: EntityId = msgspec.field(name="to")
    type: str
    type_group: Literal["COMMON"] = "COMMON"
    additional_info: Any = None


class RelationQuery(msgspec.Struct, rename="camel", kw_only=True):
    """Which relation."""

    from_id: EntityUuid
    from_type: EntityType
    relation_type: RelationType
    to_id: EntityUuid
    to_type: EntityType
    relation_type_group: Group = None


class RelationsQuery(msgspec.Struct, rename="camel", kw_only=True):
    """From which device, to which, or both."""

    from_id: EntityUuid | None = None
    from_type: EntityType | None = None
    relation_type: Annotated[RelationType | None, Meta(description="of this type only")] = None
    to_id: EntityUuid | None = None
    to_type: EntityType | None = None
    relation_type_group: Group = None


def relation_json(relation: Relation) -> RelationJSON:
    return RelationJSON(
        source=EntityId("DEVICE", relation.source),
        target=EntityId("DEVICE", relation.target),
        type=relation.type,
        additional_info=relation.additional_info,
    )
