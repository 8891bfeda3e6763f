"""Devices that speak through a gateway: found by their name, or made when it mentions them first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from rpcbroker.core.errors import AlreadyExists, InvalidRequest, NotFound, Unavailable, VersionConflict
from rpcbroker.core.model import Credentials, CredentialsType, Device, Relation
from rpcbroker.core.ports import Store
from rpcbroker.core.sessions import DeviceSession

LAST_GATEWAY = "lastConnectedGateway"
"""The member of a child's additional info that names its gateway, as the wire has it."""

CREATED = "Created"
"""The type of the relation from a gateway to its child."""

DEFAULT_TYPE = "default"
MAX_TEXT = 255
"""Characters of a name or a type, as over REST."""
TRIES = 5
"""How often it is tried again when somebody else makes, changes or deletes the device in between."""


class Children:
    """Finds and makes them in the store."""

    def __init__(
        self,
        *,
        store: Store,
        now_ms: Callable[[], int],
        new_uuid: Callable[[], UUID],
        new_token: Callable[[], str],
        changed: Callable[[Device], None],
    ) -> None:
        """`changed` is told of a device whose record was changed and is stored."""
        self._store = store
        self._now_ms = now_ms
        self._new_uuid = new_uuid
        self._new_token = new_token
        self._changed = changed

    async def device(self, gateway: DeviceSession, name: str, type_: str | None) -> Device:
        """The device of the gateway's tenant that is called `name`; if there is none, a new one of `type_`.

        A new one belongs to the gateway's customer and has a random access token. Its additional info says which
        gateway it came through last, and every gateway that it came through is related to it as `Created`. Raises
        InvalidRequest for a text that cannot be a name or a type and for the gateway itself, Unavailable.
        """
        name = _text("device", name)
        type_ = _text("type", type_ or DEFAULT_TYPE)
        for _ in range(TRIES):
            found = await self._store.device_by_name(gateway.device.tenant_id, name)
            if found is not None and found.id == gateway.device.id:
                raise InvalidRequest("a gateway cannot be its own child")
            try:
                if found is None:
                    return await self._make(gateway.device, name, type_)
                return await self._moved(gateway.device, found)
            except (AlreadyExists, VersionConflict, NotFound):
                continue
        raise Unavailable(f"The device was changed {TRIES} times while a gateway asked for it")

    async def _make(self, gateway: Device, name: str, type_: str) -> Device:
        device = Device(
            id=self._new_uuid(),
            tenant_id=gateway.tenant_id,
            customer_id=gateway.customer_id,
            name=name,
            type=type_,
            created_time=self._now_ms(),
            additional_info={LAST_GATEWAY: str(gateway.id)},
        )
        credentials = Credentials(
            id=self._new_uuid(),
            device_id=device.id,
            type=CredentialsType.ACCESS_TOKEN,
            credentials_id=self._new_token(),
            created_time=device.created_time,
        )
        await self._store.create_device(device, credentials, _created(gateway, device))
        return device

    async def _moved(self, gateway: Device, device: Device) -> Device:
        info = {} if device.additional_info is None else device.additional_info
        if not isinstance(info, dict) or info.get(LAST_GATEWAY) == str(gateway.id):
            return device
        info = info | {LAST_GATEWAY: str(gateway.id)}
        changed = replace(device, additional_info=info, version=device.version + 1)
        await self._store.update_device(changed, None, _created(gateway, device))
        self._changed(changed)
        return changed


def _created(gateway: Device, child: Device) -> Relation:
    return Relation(tenant_id=gateway.tenant_id, source=gateway.id, target=child.id, type=CREATED)


def _text(label: str, value: str) -> str:
    text = value.strip()
    if not text or len(text) > MAX_TEXT or "\x00" in text:
        raise InvalidRequest(
            f"{label!r} must be 1 to {MAX_TEXT} characters that are not all blank, none of them U+0000"
        )
    return text
