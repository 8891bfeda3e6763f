"""What the broker itself does for sessions that call `rpcbroker.*`: as REST does it, with the same rights and words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from rpcbroker.core import access, audit, jsontext
from rpcbroker.core.audit import AuditTrail
from rpcbroker.core.broker import Broker
from rpcbroker.core.errors import BrokerError, InvalidRequest
from rpcbroker.core.feed import ROOT
from rpcbroker.core.feed_sources import presence_fields
from rpcbroker.core.ledger import Ledger
from rpcbroker.core.model import DeviceInfo, Page, PageLink
from rpcbroker.core.pending import Progress
from rpcbroker.core.ports import Store
from rpcbroker.core.snapshot import Snapshot
from rpcbroker.feed.ports import Invocation, Payload, Procedure
from rpcbroker.schema.call_members import call_request
from rpcbroker.schema.calls import timeline_json
from rpcbroker.schema.common import MAX_PAGE_SIZE, MAX_TEXT, PartQuery, page_json
from rpcbroker.schema.ids import parse_uuid

_OF_CALLS = "deviceId", "method", "params"
_OF_LISTS = "text", "page", "pageSize"


class _ListWanted(PartQuery, kw_only=True):
    """Of `rpcbroker.device.list`."""

    text: Annotated[str, Meta(max_length=MAX_TEXT, pattern=r"^[^\u0000]*$")] | None = None
    page: Annotated[int, Meta(ge=0, lt=2**31)] = 0
    page_size: Annotated[int, Meta(ge=1, le=MAX_PAGE_SIZE)] = 100


class Procedures:
    """All of them; as ports.Procedures."""

    def __init__(
        self,
        *,
        broker: Broker,
        store: Store,
        trail: AuditTrail,
        snapshot: Snapshot,
        new_uuid: Callable[[], UUID],
        seconds: Callable[[], float],
    ) -> None:
        self._broker = broker
        self._store = store
        self._trail = trail
        self._ledger = Ledger(broker=broker, store=store)
        self._snapshot = snapshot
        self._new_uuid = new_uuid
        self._seconds = seconds
        self._procedures: dict[str, Procedure] = {
            f"{ROOT}call": lambda invocation: self._call(invocation, oneway=False),
            f"{ROOT}notify": lambda invocation: self._call(invocation, oneway=True),
            f"{ROOT}call.timeline": self._timeline,
            f"{ROOT}device.list": self._devices,
            f"{ROOT}snapshot": self._snap,
        }

    def find(self, uri: str) -> Procedure | None:
        """None if there is no such procedure."""
        return self._procedures.get(uri)

    # -- calls

    async def _call(self, invocation: Invocation, *, oneway: bool) -> Payload:
        """The device's JSON; nothing if it said nothing; `{"rpcId": ...}` of a persistent call."""
        principal, members = invocation.session.principal, named(invocation.payload, _OF_CALLS)
        device_id, rpc_id = _uuid(members, "deviceId"), self._new_uuid()
        began, data, failed = self._seconds(), None, None
        try:
            request = _said(lambda: call_request(members, oneway=oneway, rpc_id=rpc_id))
            rpc_id = request.request_id or rpc_id
            data = self._trail.of_call(request, rpc_id)
            reply = await self._broker.call(principal, device_id, request, _progress(invocation))
        except BrokerError as error:
            failed, error.rpc_id = error, rpc_id
            raise
        finally:
            self._trail.done(
                principal,
                audit.CALL,
                ("DEVICE", device_id),
                name=self._broker.name_of(principal, device_id),
                data=data,
                error=failed,
                seconds=self._seconds() - began,
            )
        if reply.kept:
            return Payload([{"rpcId": str(reply.rpc_id)}])
        return Payload([jsontext.decode(reply.payload)] if reply.payload else [])

    async def _timeline(self, invocation: Invocation) -> Payload:
        """As `GET /api/rpc/{rpcId}/timeline`."""
        principal, members = invocation.session.principal, named(invocation.payload, ("rpcId",))
        access.require_not_sys_admin(principal)
        told = await self._ledger.find(principal, _uuid(members, "rpcId"))
        return Payload([msgspec.to_builtins(timeline_json(told.record, told.device_name))])

    # -- devices

    async def _devices(self, invocation: Invocation) -> Payload:
        """One part of the devices that this session may see, in the order of their names."""
        principal, members = invocation.session.principal, named(invocation.payload, _OF_LISTS)
        access.require_not_sys_admin(principal)
        try:
            wanted = msgspec.convert(members, _ListWanted)
        except msgspec.ValidationError as error:
            raise InvalidRequest(str(error)) from None
        visible = access.visible_devices(principal)
        if visible is None:
            page: Page[DeviceInfo] = Page(items=(), total=0)
        else:
            link = PageLink(
                page_size=wanted.page_size, page=wanted.page, text_search=wanted.text or None, sort_property="name"
            )
            page = await self._store.devices(visible, link)
        return Payload([msgspec.to_builtins(page_json(page, [self._listed(each) for each in page.items], wanted))])

    def _listed(self, info: DeviceInfo) -> dict[str, Any]:
        device, session = info.device, self._broker.known_session(info.device.id)
        presence = {"connected": info.connected, "callable": False} if session is None else {}
        return {
            "deviceId": str(device.id),
            "deviceName": device.name,
            "type": device.type,
            "label": device.label,
            **(presence_fields(session.presence) if session else presence),
        }

    # -- what there is

    async def _snap(self, invocation: Invocation) -> Payload:
        principal, members = invocation.session.principal, named(invocation.payload, ("deviceId",))
        access.require_not_sys_admin(principal)
        if "deviceId" not in members:
            return Payload([self._snapshot.of_all(principal)])
        session = await self._broker.session_for(principal, _uuid(members, "deviceId"))
        return Payload([self._snapshot.of_device(principal, session)])


def named(payload: Payload, names: tuple[str, ...]) -> dict[str, Any]:
    """Arguments by their names, however they were given. Raises InvalidRequest."""
    if len(payload.args) > len(names):
        raise InvalidRequest(f"There are {len(payload.args)} arguments, and there can be {', '.join(names)}")
    members = dict(zip(names, payload.args, strict=False))
    twice = members.keys() & payload.kwargs.keys()
    if twice:
        raise InvalidRequest(f"{', '.join(sorted(twice))}: given twice")
    return members | payload.kwargs


def _uuid(members: dict[str, Any], name: str) -> UUID:
    value = members.get(name)
    if not isinstance(value, str):
        raise InvalidRequest(f"'{name}' must be a UUID")
    try:
        return parse_uuid(value)
    except InvalidRequest as error:
        raise InvalidRequest(f"'{name}': {error.message}") from None


def _said(read: Callable[[], Any]) -> Any:
    """MessagePack and CBOR can say what JSON cannot. Raises InvalidRequest."""
    try:
        return read()
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidRequest(f"This cannot be said in JSON: {error}"[:200]) from None


def _progress(invocation: Invocation) -> Progress | None:
    tell = invocation.progress
    return None if tell is None else lambda text: tell(Payload([jsontext.decode(text)]))
