"""Boards: widgets that somebody has arranged, kept for all who may see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from twisted.internet.defer import Deferred

from rpcbroker.core.model import Page, PageLink

MAX_OF_TENANT = 1_000
"""Boards of one tenant, those of its customers included."""
MAX_OF_CUSTOMER = 100
"""Of one customer, so that none takes the room of the others."""
MAX_CONTENT = 256 << 10
"""Bytes of a board's content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """Of a tenant, or of one of its customers; about one device, or any. `content` is JSON text; times are epoch ms."""

    id: UUID
    tenant_id: UUID
    title: str
    content: bytes
    created_time: int
    updated_time: int
    customer_id: UUID | None = None
    device_id: UUID | None = None
    version: int = 1


class KeptBoards(Protocol):
    """Boards. One whose customer or device is deleted stays, and is the tenant's, or about any device, from then on."""

    def board(self, board_id: UUID) -> Deferred[Board | None]: ...

    def boards(
        self, tenant_id: UUID, link: PageLink, *, customer_id: UUID | None = None, device_id: UUID | None = None
    ) -> Deferred[Page[Board]]:
        """Without their contents; those of this customer, and about this device, if these are given."""

    def create_board(self, board: Board) -> Deferred[None]:
        """Fails with NotFound when its tenant, customer or device is gone, with InvalidRequest if there are as many as
        there may be."""

    def update_board(self, board: Board) -> Deferred[None]:
        """`board.version` is the new one; fails with VersionConflict unless the stored one is one less, and as
        `create_board`."""

    def delete_board(self, board_id: UUID) -> Deferred[bool]:
        """False when there was none."""
