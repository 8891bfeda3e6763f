"""Boards in the store."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from twisted.internet.defer import Deferred

from rpcbroker.core.boards import MAX_OF_CUSTOMER, MAX_OF_TENANT, Board
from rpcbroker.core.errors import InvalidRequest
from rpcbroker.core.model import Page, PageLink
from rpcbroker.store import tables as t
from rpcbroker.store.database import Database
from rpcbroker.store.people import require_customer
from rpcbroker.store.queries import contains, page, replace_version, require
from rpcbroker.store.rows import one, values

_C = t.board.c


class SqlBoards:
    """`core.boards.KeptBoards` on a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def board(self, board_id: UUID) -> Deferred[Board | None]:
        query = sa.select(t.board).where(_C.id == board_id)
        return self._database.read(lambda connection: one(connection, query, _board_of))

    def boards(
        self, tenant_id: UUID, link: PageLink, *, customer_id: UUID | None = None, device_id: UUID | None = None
    ) -> Deferred[Page[Board]]:
        """See the port."""
        short = [column for column in t.board.columns if column is not _C.content]
        query = sa.select(*short, sa.literal(b"").label("content")).where(_C.tenant_id == tenant_id)
        wanted = ((_C.customer_id, customer_id), (_C.device_id, device_id))
        query = query.where(*(column == value for column, value in wanted if value is not None))
        if link.text_search is not None:
            query = query.where(contains(link.text_search, _C.title))
        return self._database.read(
            lambda connection: page(connection, query, link, sort=_C[link.sort_property], id_=_C.id, make=_board_of)
        )

    def create_board(self, board: Board) -> Deferred[None]:
        """See the port."""

        def work(connection: Connection) -> None:
            require(connection, t.tenant, "Tenant", id=board.tenant_id)
            _require_what_it_names(connection, board)
            _require_room(connection, board)
            connection.execute(sa.insert(t.board), values(board))

        return self._database.write(work)

    def update_board(self, board: Board) -> Deferred[None]:
        """See the port."""

        def work(connection: Connection) -> None:
            _require_what_it_names(connection, board)
            _require_room(connection, board)
            replace_version(connection, t.board, _C.id == board.id, values(board))

        return self._database.write(work)

    def delete_board(self, board_id: UUID) -> Deferred[bool]:
        query = sa.delete(t.board).where(_C.id == board_id)
        return self._database.write(lambda connection: bool(connection.execute(query).rowcount))


def _board_of(row: Any) -> Board:
    return Board(**row._mapping)


def _require_what_it_names(connection: Connection, board: Board) -> None:
    require_customer(connection, board.tenant_id, board.customer_id)
    if board.device_id is not None:
        require(connection, t.device, "Device", id=board.device_id, tenant_id=board.tenant_id)


def _require_room(connection: Connection, board: Board) -> None:
    """For it beside the others."""
    of_tenant = sa.select(sa.func.count()).where(_C.tenant_id == board.tenant_id, _C.id != board.id)
    if connection.execute(of_tenant).scalar_one() >= MAX_OF_TENANT:
        raise InvalidRequest(f"The tenant has {MAX_OF_TENANT:,} boards, and may not have more")
    if board.customer_id is not None:
        of_customer = of_tenant.where(_C.customer_id == board.customer_id)
        if connection.execute(of_customer).scalar_one() >= MAX_OF_CUSTOMER:
            raise InvalidRequest(f"The customer has {MAX_OF_CUSTOMER} boards, and may not have more")
