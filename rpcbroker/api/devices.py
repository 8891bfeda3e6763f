"""Devices over REST: made, found, changed, deleted; and how they prove who they are."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

from rpcbroker.api import checks
from rpcbroker.api.routes import Action, Note
from rpcbroker.api.visible import Visible
from rpcbroker.core import access
from rpcbroker.core.broker import Broker
from rpcbroker.core.credentials import check_access_token, check_mqtt_basic, mqtt_basic_id, x509_id
from rpcbroker.core.errors import InvalidRequest, NotFound
from rpcbroker.core.model import Credentials, CredentialsType, Device, DeviceInfo, Page, PageLink, Principal
from rpcbroker.core.ports import Store
from rpcbroker.schema.common import EntityId, PageJSON, page_json
from rpcbroker.schema.devices import (
    DEFAULT_TYPE,
    MAX_CREDENTIALS,
    CredentialsBody,
    CredentialsJSON,
    DeviceBody,
    DeviceIdsQuery,
    DeviceInfoJSON,
    DeviceInfoListQuery,
    DeviceJSON,
    DeviceListQuery,
    DeviceNameQuery,
    DeviceProfileInfoJSON,
    DeviceWithCredentialsBody,
    DiagnosticsJSON,
    EntitySubtypeJSON,
    GivenCredentials,
    PresenceJSON,
    PresenceQuery,
    SaveDeviceQuery,
    TenantDevicesQuery,
    credentials_json,
    default_profile_json,
    device_info_json,
    device_json,
    diagnostics_json,
    presence_json,
    profile_id,
)

NOTHING: Page[DeviceInfo] = Page(items=(), total=0)
TOKEN_LENGTH = 20
SORTS = {"createdTime": "created_time", "name": "name", "type": "type", "label": "label"}

_ALPHABET = string.ascii_letters + string.digits


def new_access_token() -> str:
    """20 random letters and digits: 119 bits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(TOKEN_LENGTH))


class Devices:
    """The handlers under `/api/device`, and the lists of devices."""

    def __init__(
        self,
        *,
        store: Store,
        broker: Broker,
        visible: Visible,
        now_ms: Callable[[], int],
        new_uuid: Callable[[], UUID],
        new_token: Callable[[], str],
    ) -> None:
        self._store = store
        self._broker = broker
        self._visible = visible
        self._now_ms = now_ms
        self._new_uuid = new_uuid
        self._new_token = new_token

    # -- one device

    async def save(self, principal: Principal, *, query: SaveDeviceQuery, body: DeviceBody, note: Note) -> DeviceJSON:
        """Create a device, or change the one whose id is given."""
        if query.access_token is not None:
            check_access_token(query.access_token)
        given = GivenCredentials(credentials_id=query.access_token)
        return await self._save(principal, body, given if body.id is None else None, note)

    async def save_with_credentials(
        self, principal: Principal, *, body: DeviceWithCredentialsBody, note: Note
    ) -> DeviceJSON:
        """Create a device, or change one, and say how it proves who it is."""
        return await self._save(principal, body.device, body.credentials, note)

    async def get(self, principal: Principal, *, device_id: UUID) -> DeviceJSON:
        """One device."""
        return device_json(await self._visible.device(principal, device_id))

    async def info(self, principal: Principal, *, device_id: UUID) -> DeviceInfoJSON:
        """One device, with its customer's title and whether it is connected."""
        wanted = access.visible_devices(principal, ids=(device_id,))
        page = await self._store.devices(wanted, PageLink(page_size=1)) if wanted else NOTHING
        if not page.items:
            raise NotFound(f"Device with id [{device_id}] is not found")
        return device_info_json(page.items[0])

    async def delete(self, principal: Principal, *, device_id: UUID, note: Note) -> None:
        """Delete a device with its credentials; its connection is closed and its calls end."""
        device = await self._visible.device(principal, device_id)
        note.name = device.name
        await self._store.delete_device(device.id)
        self._broker.device_deleted(device.id)

    async def by_name(self, principal: Principal, *, query: DeviceNameQuery) -> DeviceJSON:
        """The device of this name."""
        name = checks.plain("deviceName", query.device_name) or ""
        device = await self._store.device_by_name(principal.tenant_id, name)
        if device is None or not access.may_see(principal, device):
            raise NotFound(f"Device with name [{name}] is not found")
        return device_json(device)

    async def presence(self, principal: Principal, *, device_id: UUID, query: PresenceQuery) -> PresenceJSON:
        """Connected, callable, last seen: three facts, each with its time and its cause; and how they changed."""
        session = await self._broker.session_for(principal, device_id)
        if query.since is None:
            return presence_json(session)
        return presence_json(session, await self._store.presence_changes(device_id, query.since))

    async def diagnostics(self, principal: Principal, *, device_id: UUID) -> DiagnosticsJSON:
        """Why a device can, or cannot, be called: its presence, its calls, and what it nearly got right."""
        return diagnostics_json(await self._broker.session_for(principal, device_id))

    # -- lists

    async def page(self, principal: Principal, *, query: TenantDevicesQuery) -> PageJSON[DeviceJSON] | DeviceJSON:
        """One page of the devices; or, with `deviceName`, the one device of that name."""
        if query.device_name is not None:
            return await self.by_name(principal, query=DeviceNameQuery(query.device_name))
        if query.page_size is None:
            raise InvalidRequest("Required query parameter 'pageSize' is missing")
        page = await self._find(principal, checks.page_link(query, SORTS), types=_types(query.type))
        return page_json(page, [device_json(info.device) for info in page.items], query)

    async def infos(self, principal: Principal, *, query: DeviceInfoListQuery) -> PageJSON[DeviceInfoJSON]:
        """One page of the devices, each with its customer's title and whether it is connected."""
        return await self._infos(principal, query)

    async def of_customer(
        self, principal: Principal, *, customer_id: UUID, query: DeviceListQuery
    ) -> PageJSON[DeviceJSON]:
        """One page of the devices that are assigned to a customer."""
        await self._visible.customer(principal, customer_id)
        link = checks.page_link(query, SORTS)
        page = await self._find(principal, link, customer_id=customer_id, types=_types(query.type))
        return page_json(page, [device_json(info.device) for info in page.items], query)

    async def infos_of_customer(
        self, principal: Principal, *, customer_id: UUID, query: DeviceInfoListQuery
    ) -> PageJSON[DeviceInfoJSON]:
        """One page of the devices that are assigned to a customer, each with what people want to see beside it."""
        await self._visible.customer(principal, customer_id)
        return await self._infos(principal, query, customer_id=customer_id)

    async def by_ids(self, principal: Principal, *, query: DeviceIdsQuery) -> list[DeviceJSON]:
        """Those of these devices that there are."""
        ids = checks.ids("deviceIds", query.device_ids)
        wanted = access.visible_devices(principal, ids=tuple(ids))
        if wanted is None:
            return []
        page = await self._store.devices(wanted, PageLink(page_size=len(ids)))
        found = {info.device.id: info.device for info in page.items}
        return [device_json(found[each]) for each in ids if each in found]

    async def types(self, principal: Principal) -> list[EntitySubtypeJSON]:
        """The types that there are devices of."""
        wanted = access.visible_devices(principal)
        found = await self._store.device_types(wanted) if wanted else ()
        tenant = EntityId("TENANT", principal.tenant_id)
        return [EntitySubtypeJSON(tenant, "DEVICE", type_) for type_ in found]

    async def default_profile(self, principal: Principal) -> DeviceProfileInfoJSON:
        """There are no device profiles here: what stands in for that of the type `default`."""
        return default_profile_json(principal.tenant_id)

    # -- credentials

    async def credentials(self, principal: Principal, *, device_id: UUID, note: Note) -> CredentialsJSON:
        """How a device proves who it is."""
        device = await self._visible.device(principal, device_id)
        note.name = device.name
        return credentials_json(await self._credentials(device.id))

    async def save_credentials(self, principal: Principal, *, body: CredentialsBody, note: Note) -> CredentialsJSON:
        """Replace a device's credentials; a connection made with the old ones is closed."""
        device = await self._visible.device(principal, body.device_id.id)
        note.about(device.id, device.name)
        old = await self._credentials(device.id)
        new = self._replaced(old, body)
        if new == old:
            return credentials_json(old)
        new = replace(new, version=checks.version(old.version, body.version))
        await self._store.update_credentials(new)
        self._broker.credentials_changed(device.id)
        return credentials_json(new)

    # -- for other handlers too

    async def create(self, device: Device, given: GivenCredentials) -> None:
        """Keep a new device. Raises InvalidRequest, AlreadyExists."""
        credentials_id, value = self._checked(given)
        credentials = Credentials(
            id=self._new_uuid(),
            device_id=device.id,
            type=given.credentials_type,
            credentials_id=credentials_id,
            credentials_value=value,
            created_time=self._now_ms(),
        )
        await self._store.create_device(device, credentials)

    async def keep(self, changed: Device, credentials: Credentials | None = None) -> None:
        """Keep a device that has changed, and new credentials if there are any."""
        await self._store.update_device(changed, credentials)
        self._broker.device_changed(changed)
        if credentials is not None:
            self._broker.credentials_changed(changed.id)

    async def new_credentials(self, device_id: UUID, given: GivenCredentials | None) -> Credentials | None:
        """What replaces the device's credentials; None if it has what is given. Raises InvalidRequest, NotFound."""
        if given is None:
            return None
        old = await self._credentials(device_id)
        if given == GivenCredentials(credentials_type=old.type):
            return None
        new = self._replaced(old, given)
        return None if new == old else replace(new, version=old.version + 1)

    # -- inside

    async def _save(
        self, principal: Principal, body: DeviceBody, given: GivenCredentials | None, note: Note
    ) -> DeviceJSON:
        members: dict[str, Any] = {
            "name": checks.text("Device name", body.name),
            "type": checks.text("Device type", body.type or DEFAULT_TYPE),
            "label": checks.plain("label", body.label),
            "additional_info": checks.info(body.additional_info),
        }
        if body.id is None:
            device = Device(id=self._new_uuid(), tenant_id=principal.tenant_id, created_time=self._now_ms(), **members)
            note.about(device.id, device.name)
            await self.create(device, given or GivenCredentials())
            return device_json(device)
        stored = await self._visible.device(principal, body.id.id)
        note.about(stored.id, stored.name, Action.UPDATED)
        changed = replace(stored, version=checks.version(stored.version, body.version), **members)
        await self.keep(changed, await self.new_credentials(stored.id, given))
        return device_json(changed)

    def _replaced(self, old: Credentials, given: GivenCredentials) -> Credentials:
        credentials_id, value = self._checked(given)
        return replace(old, type=given.credentials_type, credentials_id=credentials_id, credentials_value=value)

    def _checked(self, given: GivenCredentials) -> tuple[str, str | None]:
        """`credentials_id` and `credentials_value`. Raises InvalidRequest."""
        checks.plain("credentialsValue", given.credentials_value, most=MAX_CREDENTIALS)
        if given.credentials_type is CredentialsType.MQTT_BASIC:
            basic = check_mqtt_basic(given.credentials_value)
            return mqtt_basic_id(basic.client_id, basic.user_name), given.credentials_value
        if given.credentials_type is CredentialsType.X509_CERTIFICATE:
            return x509_id(given.credentials_value), given.credentials_value
        return check_access_token(given.credentials_id or self._new_token()), None

    async def _credentials(self, device_id: UUID) -> Credentials:
        credentials = await self._store.credentials(device_id)
        if credentials is None:
            raise NotFound(f"Device with id [{device_id}] is not found")
        return credentials

    async def _infos(
        self, principal: Principal, query: DeviceInfoListQuery, *, customer_id: UUID | None = None
    ) -> PageJSON[DeviceInfoJSON]:
        link = checks.page_link(query, SORTS)
        types = _types(query.type)
        if query.device_profile_id is not None:
            everything = access.visible_devices(principal, types=types)
            there = await self._store.device_types(everything) if everything else ()
            types = tuple(each for each in there if profile_id(principal.tenant_id, each) == query.device_profile_id)
            if not types:
                return page_json(NOTHING, [], query)
        page = await self._find(principal, link, customer_id=customer_id, types=types, connected=query.active)
        return page_json(page, [device_info_json(info) for info in page.items], query)

    async def _find(
        self,
        principal: Principal,
        link: PageLink,
        *,
        types: tuple[str, ...],
        customer_id: UUID | None = None,
        connected: bool | None = None,
    ) -> Page[DeviceInfo]:
        wanted = access.visible_devices(principal, customer_id=customer_id, types=types, connected=connected)
        return await self._store.devices(wanted, link) if wanted else NOTHING


def _types(type_: str | None) -> tuple[str, ...]:
    checks.plain("type", type_)
    return (type_,) if type_ else ()
