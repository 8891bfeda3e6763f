"""Boards over REST: an administrator's are the tenant's, those of a customer's users their customer's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

from rpcbroker.api import checks
from rpcbroker.api.routes import Note
from rpcbroker.api.visible import Visible
from rpcbroker.core import access, jsontext
from rpcbroker.core.boards import MAX_CONTENT, Board
from rpcbroker.core.errors import InvalidRequest, NotFound, PermissionDenied
from rpcbroker.core.model import Page, Principal
from rpcbroker.core.ports import Store
from rpcbroker.schema.boards import (
    BoardBody,
    BoardContentJSON,
    BoardInfoJSON,
    BoardJSON,
    BoardsQuery,
    board_info_json,
    board_json,
)
from rpcbroker.schema.common import PageJSON, page_json

SORTS = {"createdTime": "created_time", "updatedTime": "updated_time", "title": "title"}
NOTHING: Page[Board] = Page(items=(), total=0)


class Boards:
    """The handlers of `/api/board` and `/api/boards`."""

    def __init__(
        self, *, store: Store, visible: Visible, now_ms: Callable[[], int], new_uuid: Callable[[], UUID]
    ) -> None:
        self._boards = store.boards
        self._visible = visible
        self._now_ms = now_ms
        self._new_uuid = new_uuid

    async def page(self, principal: Principal, *, query: BoardsQuery) -> PageJSON[BoardInfoJSON]:
        """One page of the boards, without what is on them."""
        link = checks.page_link(query, SORTS)
        page = NOTHING
        if access.may_see_boards(principal):
            page = await self._boards.boards(
                principal.tenant_id,
                link,
                customer_id=access.customer_of_boards(principal),
                device_id=query.device_id,
            )
        return page_json(page, [board_info_json(board) for board in page.items], query)

    async def get(self, principal: Principal, *, board_id: UUID) -> BoardJSON:
        """One board."""
        return board_json(await self._visible_board(principal, board_id))

    async def create(self, principal: Principal, *, body: BoardBody, note: Note) -> BoardJSON:
        """Make a board."""
        now = self._now_ms()
        board = Board(
            id=self._new_uuid(),
            tenant_id=principal.tenant_id,
            created_time=now,
            updated_time=now,
            **await self._members(principal, body),
        )
        note.about(board.id, board.title)
        await self._boards.create_board(board)
        return board_json(board)

    async def save(self, principal: Principal, *, board_id: UUID, body: BoardBody, note: Note) -> BoardJSON:
        """Put a board in the place of the one of this id."""
        stored = await self._visible_board(principal, board_id)
        note.about(stored.id, stored.title)
        board = replace(
            stored,
            updated_time=self._now_ms(),
            version=checks.version(stored.version, body.version),
            **await self._members(principal, body, device_known=stored.device_id),
        )
        await self._boards.update_board(board)
        return board_json(board)

    async def delete(self, principal: Principal, *, board_id: UUID, note: Note) -> None:
        """Delete a board."""
        board = await self._visible_board(principal, board_id)
        note.about(board.id, board.title)
        await self._boards.delete_board(board.id)

    async def _visible_board(self, principal: Principal, board_id: UUID) -> Board:
        board = await self._boards.board(board_id)
        if board is None or not access.may_see_board(principal, board):
            raise NotFound(f"Board with id [{board_id}] is not found")
        return board

    async def _members(
        self, principal: Principal, body: BoardBody, *, device_known: UUID | None = None
    ) -> dict[str, Any]:
        """What a body says of a board. Raises InvalidRequest, NotFound, PermissionDenied.

        `device_known` may be named again by who cannot see it any more.
        """
        if not access.may_see_boards(principal):
            raise PermissionDenied(access.NOT_ALLOWED, hint="The user belongs to no customer.")
        customer_id = access.customer_of_boards(principal)
        if body.customer_id is not None:
            named = await self._visible.customer(principal, body.customer_id.id)
            customer_id = named.id
        device_id = None if body.device_id is None else body.device_id.id
        if device_id not in (None, device_known):
            await self._visible.device(principal, device_id)
        return {
            "title": checks.text("Board title", body.title),
            "customer_id": customer_id,
            "device_id": device_id,
            "content": _content(body.content),
        }


def _content(content: BoardContentJSON) -> bytes:
    text = jsontext.encode(content)
    if len(text) > MAX_CONTENT:
        raise InvalidRequest(f"A board's content must have at most {MAX_CONTENT} bytes as JSON")
    return text
