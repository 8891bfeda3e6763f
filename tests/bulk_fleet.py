"""Devices that are called by one request, and what became of that."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from fakes import ADMIN, FakeLink, World, device, result_of
from twisted.internet.defer import Deferred

from rpcbroker.core.bulk import Bulk, BulkEntry, BulkPlan, EntryState
from rpcbroker.core.bulks import BulkOrder
from rpcbroker.core.calls import CallRequest
from rpcbroker.core.model import PageLink, Principal

BULK = UUID(int=0xB01C)


class Fleet(World):
    """Devices that are all online; each link writes down what it was given."""

    def __init__(
        self, size: int = 5, *, reply: bytes | None = None, offline: tuple[int, ...] = (), **world: Any
    ) -> None:
        super().__init__(**world)
        self.devices = [device(200 + number, type="lamp") for number in range(size)]
        self.links: list[FakeLink] = []
        for number, one in enumerate(self.devices):
            if world.get("store") is None:
                self.add(one)
            self.links.append(self.link(one, reply=reply, subscribed=number not in offline))

    def order(self, *, bulk_id: UUID = BULK, content: str = "c", plan: Any = None, **more: Any) -> BulkOrder:
        chosen = more.pop("devices", None)
        if chosen is None and not more.keys() & {"type_", "customer_id"}:
            chosen = tuple(one.id for one in self.devices)
        known = {each: more.pop(each) for each in ("type_", "customer_id", "ignore_unknown") if each in more}
        request = CallRequest(**{"method": "reboot"} | more)
        return BulkOrder(
            bulk_id=bulk_id,
            content=content,
            request=request,
            plan=BulkPlan(**{"concurrency": 100} | (plan or {})),
            devices=chosen,
            **known,
        )

    def begin(self, principal: Principal = ADMIN, **more: Any) -> Bulk:
        return result_of(self.create(principal, **more))

    def create(self, principal: Principal = ADMIN, **more: Any) -> Deferred[Bulk]:
        return Deferred.fromCoroutine(self.bulks.create(principal, self.order(**more)))

    def bulk(self, bulk_id: UUID = BULK) -> Bulk:
        return result_of(Deferred.fromCoroutine(self.bulks.bulk(ADMIN, bulk_id)))

    def abort(self) -> Bulk:
        return result_of(Deferred.fromCoroutine(self.bulks.abort(ADMIN, BULK)))

    def entries(self) -> tuple[BulkEntry, ...]:
        link = PageLink(page_size=1000)
        return result_of(Deferred.fromCoroutine(self.bulks.entries(self.bulk(), link, state=None))).items

    def states(self) -> list[EntryState]:
        return [entry.state for entry in self.entries()]

    def reasons(self) -> list[str | None]:
        return [entry.reason for entry in self.entries()]

    def called(self) -> list[int]:
        """How often each device was called."""
        return [len(link.calls) for link in self.links]

    def reply(self, number: int, payload: bytes = b"{}") -> None:
        """The device answers the last call."""
        result = self.links[number].session.receive(self.links[number].calls[-1].wire_id, payload)
        if isinstance(result, Deferred):
            result_of(result)
