"""Who may do what with which URI, and who shares a space of applications.

What is said in the applications' own space, and who answers there, is nothing that the broker could look into. So those
share a space who may see the same devices: all who may see the whole tenant; of each customer, its users and the keys
for it alone; and keys for the same few devices. Nothing goes from one space to another.
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from rpcbroker.core import access
from rpcbroker.core.errors import PermissionDenied
from rpcbroker.core.model import NULL_UUID, Authority, KeyAccess, KeyScope, Principal
from rpcbroker.feed import uris


class Space(NamedTuple):
    """Whose applications speak with each other; empty is not limited."""

    tenant_id: UUID
    customers: frozenset[UUID] = frozenset()
    devices: frozenset[UUID] = frozenset()
    types: frozenset[str] = frozenset()

    @property
    def is_whole(self) -> bool:
        """Whether it is of those who may see all of the tenant."""
        return not (self.customers or self.devices or self.types)


def space_of(principal: Principal) -> Space:
    """Where this principal's applications are."""
    scope = principal.scope or KeyScope()
    customers = {scope.customer_id} if scope.customer_id else set()
    if principal.authority is not Authority.TENANT_ADMIN:
        customers.add(principal.customer_id or NULL_UUID)
    return Space(principal.tenant_id, frozenset(customers), frozenset(scope.device_ids), frozenset(scope.device_types))


def may_same(one: Principal, other: Principal) -> bool:
    """Whether two are the same user with the same rights."""
    return _rights(one) == _rights(other)


def require_published(principal: Principal, topic: str) -> None:
    """Raises PermissionDenied."""
    uris.require_free(topic)
    _require_application(principal)


def require_registered(principal: Principal, procedure: str) -> None:
    """Raises PermissionDenied."""
    if not procedure.startswith(uris.METHODS):
        uris.require_free(procedure)
        _require_application(principal)
        return
    access.require_key_access(principal, KeyAccess.MANAGE)
    if not access.may_see_all(principal):
        raise PermissionDenied(
            access.NOT_ALLOWED, hint="Questions of all the tenant's devices come here: only its administrators answer."
        )


def require_called(principal: Principal) -> None:
    """A procedure of an application. Raises PermissionDenied."""
    _require_application(principal)


def require_subscribed(topic: str, match: str) -> None:
    """Of the protocol's own topics there are only two. Raises PermissionDenied."""
    if match == uris.EXACT and uris.is_meta(topic) and topic not in uris.META_TOPICS:
        raise PermissionDenied("Nothing is published there", hint=f"There is {' and '.join(uris.META_TOPICS)}.")


def _require_application(principal: Principal) -> None:
    access.require_key_access(principal, KeyAccess.CALL)
    scope = principal.scope
    if scope is not None and (scope.methods or not (scope.oneway and scope.twoway)):
        raise PermissionDenied(
            "The API key may only call devices", hint="It has one of the rules 'methods', 'oneway' and 'twoway'."
        )


def _rights(principal: Principal) -> tuple[object, ...]:
    return (
        principal.user_id,
        principal.tenant_id,
        principal.customer_id,
        principal.authority,
        principal.scope or KeyScope(),
    )
