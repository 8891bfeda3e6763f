"""Second names of a few operations: the paths under which some of the vendors' SDKs look for them."""

from __future__ import annotations

from rpcbroker.api.customers import Customers
from rpcbroker.api.devices import Devices
from rpcbroker.api.routes import ADMINS, USERS, Action, Route
from rpcbroker.api.users import Users
from rpcbroker.core import errors as e
from rpcbroker.core.model import KeyAccess
from rpcbroker.schema.common import PageJSON, PageQuery
from rpcbroker.schema.devices import DeviceProfileInfoJSON
from rpcbroker.schema.people import UserJSON


def second_names(devices: Devices, customers: Customers, users: Users) -> tuple[Route, ...]:
    """All of them, in the order of the document."""
    return (
        Route(
            operation="changeOwner",
            method="POST",
            path="/api/owner/<owner_type>/<owner_id>/<owned_type>/<device_id>",
            handler=customers.change_owner,
            roles=ADMINS,
            tag="Customers",
            errors=(e.VersionConflict,),
            action=Action.ASSIGNED_TO_CUSTOMER,
            entity="DEVICE",
        ),
        Route(
            operation="getUserUsers",
            method="GET",
            path="/api/user/users",
            handler=users.page,
            roles=ADMINS,
            access=None,
            tag="Users",
            query=PageQuery,
            answers=PageJSON[UserJSON],
        ),
        Route(
            operation="getDefaultDeviceProfileInfo",
            method="GET",
            path="/api/deviceProfileInfo/default",
            handler=devices.default_profile,
            roles=USERS,
            access=KeyAccess.READ,
            tag="Devices",
            answers=DeviceProfileInfoJSON,
        ),
    )
