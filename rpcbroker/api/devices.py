"""Devices over REST, as much as calling them needs."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from rpcbroker.api.schema import (
    CredentialsBody,
    CredentialsJSON,
    DeviceBody,
    DeviceJSON,
    DeviceListQuery,
    DeviceNameQuery,
    PageJSON,
    PresenceJSON,
    SaveDeviceQuery,
    credentials_json,
    device_json,
    page_json,
    presence_json,
)
from rpcbroker.core import access
from rpcbroker.core.broker import Broker
from rpcbroker.core.credentials import check_access_token, check_mqtt_basic, mqtt_basic_id
from rpcbroker.core.errors import InvalidRequest, NotFound
from rpcbroker.core.model import Authority, Credentials, CredentialsType, Device, PageLink, Principal
from rpcbroker.core.ports import Store

MAX_PAGE_SIZE = 1_000
MAX_NAME = 255
TOKEN_LENGTH = 20

_SORT_PROPERTIES = {"createdTime": "created_time", "name": "name", "type": "type", "label": "label"}
_ALPHABET = string.ascii_letters + string.digits


def new_access_token() -> str:
    """20 random letters and digits: 119 bits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(TOKEN_LENGTH))


class Devices:
    """The handlers under `/api/device` and `/api/tenant/device`."""

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

    async def save(self, principal: Principal, *, query: SaveDeviceQuery, body: DeviceBody) -> DeviceJSON:
        """Create a device, or change the one whose id is given."""
        name = _checked_text("name", body.name)
        type_ = _checked_text("type", body.type or "default")
        if body.id is not None:
            return await self._update(principal, body.id.id, body, name=name, type_=type_)
        token = check_access_token(query.access_token) if query.access_token else self._new_token()
        now = self._now_ms()
        device = Device(
            id=self._new_uuid(),
            tenant_id=principal.tenant_id,
            name=name,
            type=type_,
            label=body.label,
            created_time=now,
            additional_info=body.additional_info,
        )
        credentials = Credentials(
            id=self._new_uuid(),
            device_id=device.id,
            type=CredentialsType.ACCESS_TOKEN,
            credentials_id=token,
            created_time=now,
        )
        await self._store.create_device(device, credentials)
        return device_json(device)

    async def _update(
        self, principal: Principal, device_id: UUID, body: DeviceBody, *, name: str, type_: str
    ) -> DeviceJSON:
        device = await self._visible(principal, device_id)
        changed = replace(
            device,
            name=name,
            type=type_,
            label=body.label,
            additional_info=body.additional_info,
            version=(body.version or device.version) + 1,
        )
        await self._store.update_device(changed)
        self._broker.device_changed(changed)
        return device_json(changed)

    async def get(self, principal: Principal, *, device_id: UUID) -> DeviceJSON:
        return device_json(await self._visible(principal, device_id))

    async def delete(self, principal: Principal, *, device_id: UUID) -> None:
        """With its credentials; its connection is closed and its calls end."""
        device = await self._visible(principal, device_id)
        await self._store.delete_device(device.id)
        self._broker.device_deleted(device.id)

    async def by_name(self, principal: Principal, *, query: DeviceNameQuery) -> DeviceJSON:
        device = await self._store.device_by_name(principal.tenant_id, query.device_name)
        if device is None or not access.may_see(principal, device):
            raise NotFound(f"Device with name [{query.device_name}] is not found")
        return device_json(device)

    async def list(self, principal: Principal, *, query: DeviceListQuery) -> PageJSON | DeviceJSON:
        """One page; or, with `deviceName`, the one device of that name."""
        if query.device_name is not None:
            return await self.by_name(principal, query=DeviceNameQuery(query.device_name))
        link = _page_link(query)
        page = await self._store.devices(principal.tenant_id, principal.customer_id, link)
        items = [device_json(device) for device in page.items]
        return page_json(page, items, page_size=link.page_size, number=link.page)

    async def credentials(self, principal: Principal, *, device_id: UUID) -> CredentialsJSON:
        device = await self._visible(principal, device_id)
        credentials = await self._store.credentials(device.id)
        if credentials is None:
            raise NotFound(f"Device with id [{device_id}] is not found")
        return credentials_json(credentials)

    async def save_credentials(self, principal: Principal, *, body: CredentialsBody) -> CredentialsJSON:
        """Replace a device's credentials; a connection made with the old ones is closed."""
        device = await self._visible(principal, body.device_id.id)
        old = await self._store.credentials(device.id)
        if old is None:
            raise NotFound(f"Device with id [{device.id}] is not found")
        credentials_id, value = self._checked_credentials(body)
        new = replace(
            old,
            type=body.credentials_type,
            credentials_id=credentials_id,
            credentials_value=value,
            version=(body.version or old.version) + 1,
        )
        await self._store.update_credentials(new)
        self._broker.credentials_changed(device.id)
        return credentials_json(new)

    async def presence(self, principal: Principal, *, device_id: UUID) -> PresenceJSON:
        """Connected, callable, last seen: three facts, each with its time and its cause."""
        session = await self._broker.session_for(principal, device_id)
        return presence_json(
            device_id,
            session.presence,
            pending_calls=session.pending_count,
            dropped_replies=session.dropped_replies,
        )

    def _checked_credentials(self, body: CredentialsBody) -> tuple[str, str | None]:
        if body.credentials_type is CredentialsType.ACCESS_TOKEN:
            return check_access_token(body.credentials_id or self._new_token()), None
        if body.credentials_type is CredentialsType.MQTT_BASIC:
            basic = check_mqtt_basic(body.credentials_value)
            return mqtt_basic_id(basic.client_id, basic.user_name), body.credentials_value
        raise InvalidRequest(f"credentialsType {body.credentials_type.value} is not supported")

    async def _visible(self, principal: Principal, device_id: UUID) -> Device:
        device = await self._store.device(device_id)
        if device is None or not access.may_see(principal, device):
            raise NotFound(f"Device with id [{device_id}] is not found")
        return device


ADMINS = frozenset({Authority.TENANT_ADMIN})
USERS = frozenset({Authority.TENANT_ADMIN, Authority.CUSTOMER_USER})


def _checked_text(field: str, text: str) -> str:
    text = text.strip()
    if not text:
        raise InvalidRequest(f"Device {field} should be specified!")
    if len(text) > MAX_NAME or "\x00" in text:
        raise InvalidRequest(f"Device {field} must have at most {MAX_NAME} characters, none of them U+0000")
    return text


def _page_link(query: DeviceListQuery) -> PageLink:
    if query.page_size is None:
        raise InvalidRequest("Required query parameter 'pageSize' is missing")
    if not 1 <= query.page_size <= MAX_PAGE_SIZE:
        raise InvalidRequest(f"pageSize must be 1 to {MAX_PAGE_SIZE}")
    if not 0 <= query.page < 2**31:
        raise InvalidRequest("page must be 0 or more")
    order = query.sort_order.upper()
    if order not in {"ASC", "DESC"}:
        raise InvalidRequest(
            f"Unsupported sort order '{query.sort_order[:20]}'! Only 'ASC' or 'DESC' types are allowed."
        )
    sort = _SORT_PROPERTIES.get(query.sort_property or "createdTime")
    if sort is None:
        raise InvalidRequest(f"sortProperty must be one of {', '.join(_SORT_PROPERTIES)}")
    return PageLink(
        page_size=query.page_size,
        page=query.page,
        text_search=query.text_search or None,
        type=query.type or None,
        sort_property=sort,
        descending=order == "DESC",
    )
