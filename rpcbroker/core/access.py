"""Who may do what. Foreign things look like things that are not there."""

from __future__ import annotations

from uuid import UUID

from rpcbroker.core.errors import NotFound, PermissionDenied
from rpcbroker.core.model import Authority, Device, Principal

DEVICE_NOT_FOUND = "Device with requested id wasn't found!"


def may_see(principal: Principal, device: Device) -> bool:
    """Whether the device exists, as far as this principal can tell."""
    if device.tenant_id != principal.tenant_id:
        return False
    if principal.authority is Authority.TENANT_ADMIN:
        return True
    return (
        principal.authority is Authority.CUSTOMER_USER
        and principal.customer_id is not None
        and device.customer_id == principal.customer_id
    )


def require_visible(principal: Principal, device: Device | None, device_id: UUID) -> Device:
    """The device, or NotFound: unknown, of another tenant, or of another customer alike."""
    if device is None or not may_see(principal, device):
        raise NotFound(DEVICE_NOT_FOUND)
    return device


def require_not_sys_admin(principal: Principal) -> None:
    """System administrators run the broker; they do not use its devices."""
    if principal.authority is Authority.SYS_ADMIN:
        raise PermissionDenied("System administrator is not allowed to perform this operation!")
