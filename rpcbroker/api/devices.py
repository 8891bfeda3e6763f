"""Devices over REST: made, found, changed, deleted; and how they prove who they are."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from rpcbroker.api import checks
from rpcbroker.api.routes import Action, Note
from rpcbroker.core import access
from rpcbroker.core.broker import Broker
from rpcbroker.core.credentials import check_access_token, check_mqtt_basic, mqtt_basic_id, x509_id
from rpcbroker.core.errors import InvalidRequest, NotFound
from rpcbroker.core.model import Credentials, CredentialsType, Device, DeviceInfo, Page, PageLink, Principal
from rpcbroker.core.ports import Store
from rpcbroker.schema.common import EntityId, PageJSON, page_json
from rpcbroker.schema.devices import (
    DEFAULT_TYPE,
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
    EntitySubtypeJSON,
    GivenCredentials,
    PresenceJSON,
    SaveDeviceQuery,
    TenantDevicesQuery,
    credentials_json,
    default_profile_json,
    device_info_json,
    device_json,
    presence_json,
    profile_id,
)

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
        now_ms: Callable[[], int],
        new_uuid: Callable[[], UUID],
        new_token: Callable[[], str],
    ) -> None:
        self._store = store
        self._broker = broker
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
        return device_json(await self.visible(principal, device_id))

    async def info(self, principal: Principal, *, device_id: UUID) -> DeviceInfoJSON:
        """One device, with its customer's title and whether it is connected."""
        await self.visible(principal, device_id)
        wanted = access.visible_devices(principal, ids=(device_id,))
        page = await self._store.devices(wanted, PageLink(page_size=1)) if wanted else Page(items=(), total=0)
        if not page.items:
            raise NotFound(f"Device with id [{device_id}] is not found")
        return device_info_json(page.items[0])

    async def delete(self, principal: Principal, *, device_id: UUID, note: Note) -> None:
        """Delete a device with its credentials; its connection is closed and its calls end."""
        device = await self.visible(principal, device_id)
        note.name = device.name
        await self._store.delete_device(device.id)
        self._broker.device_deleted(device.id)

    async def by_name(self, principal: Principal, *, query: DeviceNameQuery) -> DeviceJSON:
        """The device of this name."""
        return device_json(await self.named(principal, query.device_name))

    async def presence(self, principal: Principal, *, device_id: UUID) -> PresenceJSON:
        """Connected, callable, last seen: three facts, each with its time and its cause."""
        session = await self._broker.session_for(principal, device_id)
        return presence_json(
            device_id,
            session.presence,
            pending_calls=session.pending_count,
            dropped_replies=session.dropped_replies,
        )

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
        await self._check_customer(principal, customer_id)
        link = checks.page_link(query, SORTS)
        page = await self._find(principal, link, customer_id=customer_id, types=_types(query.type))
        return page_json(page, [device_json(info.device) for info in page.items], query)

    async def infos_of_customer(
        self, principal: Principal, *, customer_id: UUID, query: DeviceInfoListQuery
    ) -> PageJSON[DeviceInfoJSON]:
        """One page of the devices that are assigned to a customer, each with what people want to see beside it."""
        await self._check_customer(principal, customer_id)
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
        device = await self.visible(principal, device_id)
        note.name = device.name
        return credentials_json(await self._credentials(device.id))

    async def save_credentials(self, principal: Principal, *, body: CredentialsBody, note: Note) -> CredentialsJSON:
        """Replace a device's credentials; a connection made with the old ones is closed."""
        device = await self.visible(principal, body.device_id.id)
        note.entity_id, note.name = device.id, device.name
        old = await self._credentials(device.id)
        new = self.replaced(old, body, version=body.version)
        if (new.type, new.credentials_id, new.credentials_value) != (
            old.type,
            old.credentials_id,
            old.credentials_value,
        ):
            await self._store.update_credentials(new)
            self._broker.credentials_changed(device.id)
            return credentials_json(new)
        return credentials_json(old)

    # -- for other handlers too

    async def visible(self, principal: Principal, device_id: UUID) -> Device:
        """Raises NotFound, for unknown and foreign devices alike."""
        device = await self._store.device(device_id)
        if device is None or not access.may_see(principal, device):
            raise NotFound(f"Device with id [{device_id}] is not found")
        return device

    async def named(self, principal: Principal, name: str) -> Device:
        """Raises NotFound, for unknown and foreign devices alike."""
        device = await self._store.device_by_name(principal.tenant_id, checks.plain("deviceName", name) or "")
        if device is None or not access.may_see(principal, device):
            raise NotFound(f"Device with name [{name}] is not found")
        return device

    async def create(self, device: Device, given: GivenCredentials) -> Credentials:
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
        return credentials

    def replaced(self, old: Credentials, given: GivenCredentials, *, version: int | None = None) -> Credentials:
        """`old` with what is given. Raises InvalidRequest."""
        credentials_id, value = self._checked(given)
        return replace(
            old,
            type=given.credentials_type,
            credentials_id=credentials_id,
            credentials_value=value,
            version=(old.version if version is None else version) + 1,
        )

    # -- inside

    async def _save(
        self, principal: Principal, body: DeviceBody, given: GivenCredentials | None, note: Note
    ) -> DeviceJSON:
        name = checks.text("Device name", body.name)
        type_ = checks.text("Device type", body.type or DEFAULT_TYPE)
        label = checks.plain("label", body.label)
        if body.id is None:
            device = Device(
                id=self._new_uuid(),
                tenant_id=principal.tenant_id,
                name=name,
                type=type_,
                label=label,
                created_time=self._now_ms(),
                additional_info=body.additional_info,
            )
            note.entity_id, note.name = device.id, device.name
            await self.create(device, given or GivenCredentials())
            return device_json(device)
        stored = await self.visible(principal, body.id.id)
        note.action, note.entity_id, note.name = Action.UPDATED, stored.id, stored.name
        version = stored.version if body.version is None else body.version
        changed = replace(
            stored, name=name, type=type_, label=label, additional_info=body.additional_info, version=version + 1
        )
        credentials = None if given is None else self.replaced(await self._credentials(stored.id), given)
        await self._store.update_device(changed, credentials)
        self._broker.device_changed(changed)
        if credentials is not None:
            self._broker.credentials_changed(stored.id)
        return device_json(changed)

    def _checked(self, given: GivenCredentials) -> tuple[str, str | None]:
        """`credentials_id` and `credentials_value`. Raises InvalidRequest."""
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

    async def _check_customer(self, principal: Principal, customer_id: UUID) -> None:
        customer = await self._store.people.customer(customer_id)
        mine = principal.customer_id in {None, customer_id}
        if customer is None or customer.tenant_id != principal.tenant_id or not mine:
            raise NotFound(f"Customer with id [{customer_id}] is not found")

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
                return page_json(Page(items=(), total=0), [], query)
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
        return await self._store.devices(wanted, link) if wanted else Page(items=(), total=0)


def _types(type_: str | None) -> tuple[str, ...]:
    checks.plain("type", type_)
    return (type_,) if type_ else ()
