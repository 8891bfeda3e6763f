"""The rows of provision keys and of claims."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rpcbroker.api.enrolment import Claims, ProvisionKeys
from rpcbroker.api.routes import ADMINS, CUSTOMER_USERS, USERS, Action, Route
from rpcbroker.core import errors as e
from rpcbroker.schema.common import PageJSON, PageQuery
from rpcbroker.schema.enrolment import ClaimBody, ClaimJSON, ProvisionKeyBody, ProvisionKeyJSON


def enrolment(keys: ProvisionKeys, claims: Claims) -> tuple[Route, ...]:
    """All of them, in the order of the document."""
    return (*_provision_keys(keys), *_claims(claims))


def _provision_keys(keys: ProvisionKeys) -> tuple[Route, ...]:
    def route(operation: str, method: str, path: str, handler: Callable[..., Any], **more: Any) -> Route:
        return Route(
            operation=operation, method=method, path=path, handler=handler, roles=ADMINS, tag="Provisioning", **more
        )

    about: dict[str, Any] = {"entity": "PROVISION_KEY"}
    one = "/api/provisionKey/<provision_key_id>"
    return (
        route(
            "createProvisionKey",
            "POST",
            "/api/provisionKey",
            keys.create,
            body=ProvisionKeyBody,
            answers=ProvisionKeyJSON,
            errors=(e.AlreadyExists, e.NotFound),
            action=Action.ADDED,
            **about,
        ),
        route(
            "getProvisionKeys",
            "GET",
            "/api/provisionKeys",
            keys.page,
            query=PageQuery,
            answers=PageJSON[ProvisionKeyJSON],
        ),
        route(
            "enableProvisionKey",
            "PUT",
            f"{one}/enabled/<enabled>",
            keys.set_enabled,
            answers=ProvisionKeyJSON,
            action=Action.UPDATED,
            **about,
        ),
        route("deleteProvisionKey", "DELETE", one, keys.delete, action=Action.DELETED, **about),
    )


def _claims(claims: Claims) -> tuple[Route, ...]:
    path = "/api/customer/device/<device_name>/claim"
    more: dict[str, Any] = {"path": path, "tag": "Claims", "entity": "DEVICE"}
    return (
        Route(
            operation="claimDevice",
            method="POST",
            handler=claims.claim,
            roles=CUSTOMER_USERS,
            body=ClaimBody,
            answers=ClaimJSON,
            errors=(e.ClaimRefused, e.TooManyRequests, e.NotFound, e.VersionConflict),
            action=Action.ASSIGNED_TO_CUSTOMER,
            **more,
        ),
        Route(
            operation="reClaimDevice",
            method="DELETE",
            handler=claims.give_up,
            roles=USERS,
            errors=(e.NotFound, e.VersionConflict),
            action=Action.UNASSIGNED_FROM_CUSTOMER,
            **more,
        ),
    )
