"""The rows of boards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rpcbroker.api.boards import Boards
from rpcbroker.api.routes import USERS, Action, Route
from rpcbroker.core import errors as e
from rpcbroker.core.model import KeyAccess
from rpcbroker.schema.boards import BoardBody, BoardInfoJSON, BoardJSON, BoardsQuery
from rpcbroker.schema.common import PageJSON

READ = KeyAccess.READ


def boards(to: Boards) -> tuple[Route, ...]:
    """All of them, in the order of the document."""

    def route(operation: str, method: str, path: str, handler: Callable[..., Any], **more: Any) -> Route:
        return Route(operation=operation, method=method, path=path, handler=handler, roles=USERS, tag="Boards", **more)

    one = "/api/board/<board_id>"
    saved: dict[str, Any] = {"body": BoardBody, "answers": BoardJSON, "entity": "BOARD"}
    return (
        route(
            "getBoards",
            "GET",
            "/api/boards",
            to.page,
            access=READ,
            query=BoardsQuery,
            answers=PageJSON[BoardInfoJSON],
        ),
        route("createBoard", "POST", "/api/boards", to.create, errors=(e.NotFound,), action=Action.ADDED, **saved),
        route("getBoard", "GET", one, to.get, access=READ, answers=BoardJSON),
        route("saveBoard", "PUT", one, to.save, errors=(e.VersionConflict,), action=Action.UPDATED, **saved),
        route("deleteBoard", "DELETE", one, to.delete, action=Action.DELETED, entity="BOARD"),
    )
