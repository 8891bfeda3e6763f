"""What became of calls, for those who may see their devices. What is foreign is not there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from uuid import UUID

from rpcbroker.core import access
from rpcbroker.core.broker import Broker
from rpcbroker.core.calls import CallState, Cancellation
from rpcbroker.core.errors import InvalidRequest, NotFound
from rpcbroker.core.events import CallDeleted
from rpcbroker.core.model import Device, DeviceFilter, Page, PageLink, Principal
from rpcbroker.core.ports import CallFilter, Store
from rpcbroker.core.records import MAX_METHOD, CallRecord, KeptCall

MAX_DEPTH = 10_000
"""Calls of a list that can be looked at, from its beginning: two lists are read that far to make one of them."""


@dataclass(frozen=True, slots=True)
class Told:
    """A call, and the name of its device; None if that is gone."""

    record: CallRecord
    device_name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which calls are asked for; None is any. `since` is epoch ms, included."""

    device_id: UUID | None = None
    state: CallState | None = None
    method: str | None = None
    since: int | None = None


class Ledger:
    """The calls of all tenants: the last ones, as the broker recorded them, and persistent ones, as the store has them.

    All raise NotFound for calls and devices that are unknown, of another tenant or of another customer, or not for
    this API key, and Unavailable.
    """

    def __init__(self, *, broker: Broker, store: Store) -> None:
        self._broker = broker
        self._store = store

    # -- all calls

    async def find(self, principal: Principal, rpc_id: UUID) -> Told:
        """What became of one call."""
        tenant_id = principal.tenant_id
        record = self._broker.recorder.find(tenant_id, rpc_id) or self._broker.waiting_record(tenant_id, rpc_id)
        if record is None or not record.persistent:  # a lightweight call may have been given the id of a kept one
            kept = await self._store.calls.call(tenant_id, rpc_id)
            record = kept.record if kept is not None else record
        if record is None:
            raise _not_found(rpc_id)
        device = await self._store.device(record.device_id)
        gone = device is None and record.persistent and record.ended_time is None  # with its device
        if gone or not _may_see(principal, device):
            raise _not_found(rpc_id)
        return Told(record, device.name if device else None)

    async def page(self, principal: Principal, wanted: Wanted, *, page_size: int, page: int) -> Page[Told]:
        """One part of all calls, the newest first. Raises InvalidRequest beyond MAX_DEPTH."""
        start, end = page * page_size, (page + 1) * page_size
        if end > MAX_DEPTH:
            raise InvalidRequest(
                f"Only the newest {MAX_DEPTH} of a list can be looked at", hint="Ask for one device, state or method."
            )
        ids: tuple[UUID, ...] = ()
        if wanted.device_id is not None:
            await self._device(principal, wanted.device_id)
            ids = (wanted.device_id,)
        devices = access.visible_devices(principal, ids=ids)
        if devices is None:
            return Page(items=(), total=0)
        kept = await self._store.calls.records(
            CallFilter(devices=devices, state=wanted.state, method=wanted.method, since=wanted.since), limit=end
        )
        recorded = self._recorded(principal, wanted)
        both = merge(kept.items, recorded, key=lambda record: -record.created_time)
        records = tuple(islice(both, start, end))
        names = await self._names(principal, records)
        return Page(
            items=tuple(Told(each, names.get(each.device_id)) for each in records), total=kept.total + len(recorded)
        )

    async def cancel(self, principal: Principal, rpc_id: UUID) -> tuple[Told, Cancellation]:
        """Nobody waits for the call any more. Raises PermissionDenied for an API key that could not make this call."""
        told = await self.find(principal, rpc_id)
        record = told.record
        access.require_callable(principal, record.method, oneway=record.oneway)
        return told, await self._cancel(principal, record)

    # -- persistent ones

    async def kept(self, principal: Principal, rpc_id: UUID) -> KeptCall:
        """One persistent call."""
        kept = await self._store.calls.call(principal.tenant_id, rpc_id)
        if kept is None or not _may_see(principal, await self._store.device(kept.call.device_id)):
            raise _not_found(rpc_id)
        return kept

    async def of_device(
        self, principal: Principal, device_id: UUID, link: PageLink, *, state: CallState | None
    ) -> Page[KeptCall]:
        """One part of the persistent calls of a device. Raises InvalidRequest for one that is too large."""
        await self._device(principal, device_id)
        return await self._store.calls.of_device(device_id, link, state=state)

    async def delete(self, principal: Principal, rpc_id: UUID) -> KeptCall:
        """The call is cancelled, if it goes on, and forgotten; what it was last comes back."""
        kept = await self.kept(principal, rpc_id)
        if kept.record.ended_time is None:
            await self._cancel(principal, kept.record)
        if not await self._store.calls.delete(principal.tenant_id, rpc_id):
            raise _not_found(rpc_id)
        if kept.record.ended_time is not None and kept.record.state is not CallState.DELETED:
            self._broker.events.emit(CallDeleted, kept.call, kept.record, kept.response or b"")
        return kept

    # -- inside

    async def _cancel(self, principal: Principal, record: CallRecord) -> Cancellation:
        return await self._broker.cancel(record, f"by {principal.key_name or principal.email}")

    async def _device(self, principal: Principal, device_id: UUID) -> None:
        device = await self._store.device(device_id)
        if device is None or not access.may_see(principal, device):
            raise NotFound(access.DEVICE_NOT_FOUND)

    def _recorded(self, principal: Principal, wanted: Wanted) -> list[CallRecord]:
        """Lightweight calls that are asked for, the newest first: persistent ones are in the store, too."""
        tenant_id, method = principal.tenant_id, wanted.method and wanted.method[:MAX_METHOD]
        visible: dict[UUID, bool] = {}  # looking at a device, and comparing ids, costs more than all the rest
        found = []
        for record in self._broker.recorder.newest_first():
            if (
                record.persistent
                or (wanted.since is not None and record.created_time < wanted.since)
                or (wanted.state is not None and record.state is not wanted.state)
                or (method is not None and record.method != method)
            ):
                continue
            device_id = record.device_id
            seen = visible.get(device_id)
            if seen is None:
                seen = visible[device_id] = (
                    record.tenant_id == tenant_id
                    and wanted.device_id in (None, device_id)
                    and _may_see(principal, self._broker.known_device(device_id))
                )
            if seen:
                found.append(record)
        return found

    async def _names(self, principal: Principal, records: Iterable[CallRecord]) -> dict[UUID, str]:
        """Of those devices that there are."""
        known = {each.device_id: self._broker.known_device(each.device_id) for each in records}
        names = {device_id: device.name for device_id, device in known.items() if device is not None}
        unknown = tuple(known.keys() - names.keys())
        if unknown:
            wanted = DeviceFilter(tenant_id=principal.tenant_id, ids=unknown)
            found = await self._store.devices(wanted, PageLink(page_size=len(unknown)))
            names |= {each.device.id: each.device.name for each in found.items}
        return names


def _may_see(principal: Principal, device: Device | None) -> bool:
    """Whether a call exists, of this device; None if the device is gone. The tenant is known to be the same."""
    return access.may_see_all(principal) if device is None else access.may_see(principal, device)


def _not_found(rpc_id: UUID) -> NotFound:
    return NotFound(f"Rpc with id [{rpc_id}] is not found")
