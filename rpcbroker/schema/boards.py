"""Boards: widgets that somebody has arranged."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from rpcbroker.core import jsontext
from rpcbroker.core.boards import MAX_CONTENT, Board
from rpcbroker.schema.common import MAX_TEXT, EntityId, EpochMs, PageQuery, Text, Version, customer_ref

Place = Annotated[int, Meta(ge=0, le=10_000)]
Extent = Annotated[int, Meta(ge=1, le=10_000)]


class WidgetJSON(msgspec.Struct, rename="camel", kw_only=True):
    """One widget. What its type and its settings mean is the page's business."""

    id: Annotated[str, Meta(description="its own on its board", min_length=1, max_length=64)]
    type: Annotated[str, Meta(examples=["switch"], min_length=1, max_length=64)]
    title: Annotated[str, Meta(max_length=MAX_TEXT)] = ""
    device_id: Annotated[str, Meta(description="a device's UUID; null is that of the board", max_length=64)] | None = (
        None
    )
    settings: Annotated[dict[str, Any], Meta(description="any JSON object")] = {}
    x: Place = 0
    y: Place = 0
    w: Extent = 1
    h: Extent = 1


class BoardContentJSON(msgspec.Struct):
    """What is on a board; other members are passed over."""

    widgets: list[WidgetJSON] = []


class BoardBody(msgspec.Struct, rename="camel", kw_only=True):
    """A board. Users of a customer make boards of their customer."""

    title: Text
    customer_id: Annotated[EntityId | None, Meta(description="whose users see it too; null: administrators only")] = (
        None
    )
    device_id: Annotated[EntityId | None, Meta(description="the device that it is about")] = None
    content: Annotated[BoardContentJSON, Meta(description=f"of at most {MAX_CONTENT} bytes as JSON")] = msgspec.field(
        default_factory=BoardContentJSON
    )
    version: Version = None


class BoardsQuery(PageQuery, kw_only=True):
    """Which boards."""

    device_id: Annotated[UUID | None, Meta(description="those about this device")] = None


class BoardInfoJSON(msgspec.Struct, rename="camel", kw_only=True):
    """A board without what is on it."""

    id: EntityId
    tenant_id: EntityId
    customer_id: EntityId
    device_id: EntityId | None
    title: str
    created_time: EpochMs
    updated_time: EpochMs
    version: int


class BoardJSON(BoardInfoJSON, kw_only=True):
    """A board."""

    content: BoardContentJSON


def board_info_json(board: Board) -> BoardInfoJSON:
    return BoardInfoJSON(**_members(board))


def board_json(board: Board) -> BoardJSON:
    return BoardJSON(**_members(board), content=jsontext.decode_as(BoardContentJSON, board.content))


def _members(board: Board) -> dict[str, Any]:
    return {
        "id": EntityId("BOARD", board.id),
        "tenant_id": EntityId("TENANT", board.tenant_id),
        "customer_id": customer_ref(board.customer_id),
        "device_id": board.device_id and EntityId("DEVICE", board.device_id),
        "title": board.title,
        "created_time": board.created_time,
        "updated_time": board.updated_time,
        "version": board.version,
    }
