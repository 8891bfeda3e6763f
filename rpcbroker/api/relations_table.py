"""The rows of relations between devices."""

from __future__ import annotations

from functools import partial

from rpcbroker.api.relations import Relations
from rpcbroker.api.routes import ADMINS, USERS, Action, Route
from rpcbroker.core import errors as e
from rpcbroker.core.model import KeyAccess
from rpcbroker.schema.relations import RelationBody, RelationJSON, RelationQuery, RelationsQuery


def relations(to: Relations) -> tuple[Route, ...]:
    """All of them, in the order of the document."""
    row = partial(Route, tag="Relations", errors=(e.NotFound,))
    read = partial(row, method="GET", roles=USERS, access=KeyAccess.READ)
    change = partial(row, path="/api/relation", roles=ADMINS, entity="DEVICE")
    return (
        change(
            operation="saveRelation",
            method="POST",
            handler=to.save,
            body=RelationBody,
            action=Action.RELATION_ADD_OR_UPDATE,
        ),
        change(
            operation="deleteRelation",
            method="DELETE",
            handler=to.delete,
            query=RelationQuery,
            action=Action.RELATION_DELETED,
        ),
        read(
            operation="getRelation",
            path="/api/relation",
            handler=to.get,
            query=RelationQuery,
            answers=RelationJSON,
        ),
        read(
            operation="findRelations",
            path="/api/relations",
            handler=to.find,
            query=RelationsQuery,
            answers=list[RelationJSON],
        ),
    )
