"""Who may do what. Foreign things look like things that are not there."""

from __future__ import annotations

from typing import TypeVar
from uuid import UUID

from rpcbroker.core.boards import Board
from rpcbroker.core.errors import PermissionDenied
from rpcbroker.core.model import Authority, Customer, Device, DeviceFilter, KeyAccess, KeyScope, Principal, User

DEVICE_NOT_FOUND = "Device with requested id wasn't found!"
"""Unknown, of another tenant, or of another customer alike."""
NOT_ALLOWED = "You don't have permission to perform this operation!"

T = TypeVar("T")
_RANK = {access: rank for rank, access in enumerate(KeyAccess)}


def may_see(principal: Principal, device: Device) -> bool:
    """Whether the device exists, as far as this principal can tell."""
    if device.tenant_id.int != principal.tenant_id.int:  # each call asks, and UUIDs take their time to be compared
        return False
    if principal.authority is not Authority.TENANT_ADMIN and (
        principal.authority is not Authority.CUSTOMER_USER
        or principal.customer_id is None
        or device.customer_id != principal.customer_id
    ):
        return False
    scope = principal.scope
    return scope is None or (
        (not scope.device_ids or device.id in scope.device_ids)
        and (not scope.device_types or device.type in scope.device_types)
        and (scope.customer_id is None or device.customer_id == scope.customer_id)
    )


def may_see_all(principal: Principal) -> bool:
    """Whether all of the tenant exists for this principal, what is of devices that are gone included."""
    scope = principal.scope or KeyScope()
    return principal.authority is Authority.TENANT_ADMIN and not (
        scope.customer_id or scope.device_ids or scope.device_types
    )


def may_see_customer(principal: Principal, customer: Customer) -> bool:
    """Whether the customer exists, as far as this principal can tell: a key for some devices knows no customers."""
    if customer.tenant_id != principal.tenant_id:
        return False
    if principal.authority is Authority.CUSTOMER_USER and customer.id != principal.customer_id:
        return False
    scope = principal.scope
    if scope is None or scope.customer_id == customer.id:
        return True
    return not (scope.customer_id or scope.device_ids or scope.device_types)


def may_see_boards(principal: Principal) -> bool:
    """Whether there are boards at all for this principal: a key for some devices knows none, for whatever may be on a
    board is of any."""
    scope = principal.scope or KeyScope()
    if principal.authority is Authority.SYS_ADMIN or scope.device_ids or scope.device_types:
        return False
    mine = principal.customer_id
    if principal.authority is Authority.CUSTOMER_USER and mine is None:
        return False
    return None in (mine, scope.customer_id) or mine == scope.customer_id


def customer_of_boards(principal: Principal) -> UUID | None:
    """The customer whose boards are all that there are for this principal; None: all of the tenant's are."""
    return principal.customer_id or (principal.scope or KeyScope()).customer_id


def may_see_board(principal: Principal, board: Board) -> bool:
    """Whether the board exists, as far as this principal can tell; then it may also be changed."""
    if board.tenant_id != principal.tenant_id or not may_see_boards(principal):
        return False
    return customer_of_boards(principal) in (None, board.customer_id)


def may_see_user(principal: Principal, user: User) -> bool:
    """Whether the user exists, as far as this principal can tell."""
    if user.id == principal.user_id:
        return True
    if principal.authority is Authority.SYS_ADMIN:
        return user.authority in {Authority.SYS_ADMIN, Authority.TENANT_ADMIN}
    return principal.authority is Authority.TENANT_ADMIN and user.tenant_id == principal.tenant_id


def visible_devices(
    principal: Principal,
    *,
    customer_id: UUID | None = None,
    types: tuple[str, ...] = (),
    ids: tuple[UUID, ...] = (),
    connected: bool | None = None,
) -> DeviceFilter | None:
    """`may_see` and what is asked for, as a filter of lists; None if there cannot be any such device."""
    if principal.authority is Authority.SYS_ADMIN:
        return None
    if principal.authority is Authority.CUSTOMER_USER and principal.customer_id is None:
        return None
    scope = principal.scope or KeyScope()
    customers = [principal.customer_id, customer_id, scope.customer_id]
    customer_ids = {each for each in customers if each is not None}
    wanted_types = _both(types, scope.device_types)
    wanted_ids = _both(ids, scope.device_ids)
    if len(customer_ids) > 1 or wanted_types is None or wanted_ids is None:
        return None
    return DeviceFilter(
        tenant_id=principal.tenant_id,
        customer_ids=tuple(customer_ids),
        types=wanted_types,
        ids=wanted_ids,
        connected=connected,
    )


def require_not_sys_admin(principal: Principal) -> None:
    """System administrators run the broker; they do not use its devices."""
    if principal.authority is Authority.SYS_ADMIN:
        raise PermissionDenied("System administrator is not allowed to perform this operation!")


def require_key_access(principal: Principal, needed: KeyAccess) -> None:
    """What an API key is for. Raises PermissionDenied, which names the rule."""
    scope = principal.scope
    if scope is not None and _RANK[scope.access] < _RANK[needed]:
        raise PermissionDenied(
            NOT_ALLOWED, hint=f"The API key has access {scope.access.value}; this needs {needed.value}."
        )


def require_callable(principal: Principal, method: str, *, oneway: bool) -> None:
    """Which calls an API key may make. Raises PermissionDenied, which names the rule."""
    scope = principal.scope
    if scope is None:
        return
    require_key_access(principal, KeyAccess.CALL)
    if scope.methods and not any(fits(pattern, method) for pattern in scope.methods):
        raise PermissionDenied(
            "The API key may not call this method", hint=f"Its rule 'methods' allows {', '.join(scope.methods)}."
        )
    if not (scope.oneway if oneway else scope.twoway):
        direction, other = ("oneway", "two-way") if oneway else ("twoway", "one-way")
        raise PermissionDenied(
            "The API key may not make calls of this kind", hint=f"Its rule '{direction}' is false: only {other} calls."
        )


def may_see_payloads(principal: Principal, method: str | None) -> bool:
    """Whether what a call says may be known by somebody who may see its device: an API key must be one for such calls.

    `method` None is of no call: values, messages of rule chains.
    """
    scope = principal.scope
    if scope is None:
        return True
    if _RANK[scope.access] < _RANK[KeyAccess.CALL]:
        return False
    return not scope.methods or (method is not None and any(fits(pattern, method) for pattern in scope.methods))


def require_rule_requests(principal: Principal, *, about_device: bool = False) -> None:
    """Who may send messages to the rule chains. Raises PermissionDenied, which names the rule.

    What a chain does with them nobody can tell beforehand: keys that may only call some methods send none, and keys for
    some devices only such as are about one of these.
    """
    scope = principal.scope
    if scope is None:
        return
    if scope.methods or not (scope.oneway and scope.twoway):
        raise PermissionDenied(
            "The API key may not send messages to rule chains",
            hint="It has one of the rules 'methods', 'oneway' and 'twoway', and so may only call devices.",
        )
    if not about_device and (scope.device_ids or scope.device_types or scope.customer_id):
        raise PermissionDenied(
            "The API key may only send messages that are about a device",
            hint="It is for some devices only: name one of them in the path, /api/rule-engine/DEVICE/{id}.",
        )


def fits(pattern: str, method: str) -> bool:
    """`*` stands for any text, also for none; everything else for itself."""
    first, *parts = pattern.split("*")
    if not parts:
        return method == first
    if not method.startswith(first):
        return False
    *middle, last = parts
    place = len(first)
    for part in middle:
        place = method.find(part, place)
        if place < 0:
            return False
        place += len(part)
    return len(method) - len(last) >= place and method.endswith(last)


def _both(asked: tuple[T, ...], allowed: tuple[T, ...]) -> tuple[T, ...] | None:
    """What both allow, where empty allows all; None if nothing is left."""
    if not asked or not allowed:
        return asked or allowed
    return tuple(each for each in asked if each in allowed) or None
