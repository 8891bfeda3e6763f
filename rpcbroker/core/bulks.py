"""One request for many devices: who may ask for it, which ones go on, and how they are followed."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpcbroker.core import access
from rpcbroker.core.bulk import (
    Bulk,
    BulkEntry,
    BulkPlan,
    EntryState,
    narrowed,
    visible_bulks,
)
from rpcbroker.core.bulk_run import BulkRun, Caller, Surroundings
from rpcbroker.core.calls import CallRequest
from rpcbroker.core.errors import (
    AlreadyExists,
    InvalidRequest,
    NotFound,
    Reason,
    TooManyRequests,
    Unavailable,
    VersionConflict,
)
from rpcbroker.core.events import CallSettled
from rpcbroker.core.model import Page, PageLink, Principal
from rpcbroker.core.ports import Store
from rpcbroker.core.settings import BulkSettings

NAMED = 100
"""Devices that an error names."""
RETRY_AFTER = 10.0
"""Seconds after which somebody who has too many bulks may ask again."""
FORGET_INTERVAL = 3_600.0
"""Seconds between looks for bulks that have been kept for long enough."""
PAGE = 500
"""Results that are read at a time for who follows a bulk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkOrder:
    """What somebody asks for: these `devices`, or all that there are for them of a `type_` or a customer.

    `bulk_id` becomes the bulk's id; `content` is a digest of all that was asked for.
    """

    bulk_id: UUID
    content: str
    request: CallRequest
    plan: BulkPlan
    devices: tuple[UUID, ...] | None = None
    type_: str | None = None
    customer_id: UUID | None = None
    ignore_unknown: bool = False


class Bulks:
    """All bulks of a broker."""

    _log = Logger()

    def __init__(
        self,
        *,
        caller: Caller,
        store: Store,
        now_ms: Callable[[], int],
        seconds: Callable[[], float],
        settings: BulkSettings,
    ) -> None:
        self.settings = settings
        """May be replaced at any time."""
        self._kept = store.bulks
        self._now_ms = now_ms
        self._around = Surroundings(
            caller=caller,
            store=store,
            now_ms=now_ms,
            seconds=seconds,
            max_response_size=lambda: self.settings.max_response_size,
        )
        self._runs: dict[int, BulkRun] = {}
        self._ends: dict[int, Deferred[None]] = {}
        self._beginning: Counter[UUID] = Counter()
        self._stopping = False
        caller.events.listen(CallSettled, self._settled)

    # -- the process

    def start(self, running: Sequence[Bulk]) -> None:
        """Go on with those that had not ended."""
        for bulk in running:
            self._run(bulk, anew=False, begin_after=self.settings.resume_after)
        self._forget()

    def stop(self) -> None:
        """Begin no more calls: those that have begun may still end."""
        self._stopping = True
        for run in tuple(self._runs.values()):
            run.stop()

    def finish(self) -> Deferred[None]:
        """Fires when what is known is written; after `stop`, and when no lightweight call waits any more."""
        return DeferredList(list(self._ends.values())).addCallback(lambda _: None)

    # -- who asks

    async def create(self, principal: Principal, order: BulkOrder) -> Bulk:
        """Begin a bulk; it is durable then. What was asked for before, under the same id, is not begun again.

        Raises InvalidRequest for devices that do not exist for this principal, or are too many; PermissionDenied,
        VersionConflict if the id stands for something else, TooManyRequests, Unavailable.
        """
        access.require_not_sys_admin(principal)
        access.require_callable(principal, order.request.method, oneway=order.request.oneway)
        if self._stopping:
            raise Unavailable("The server is shutting down", reason=Reason.SHUTTING_DOWN)
        known = await self._known(principal, order)
        if known is not None:
            return known
        tenant_id = principal.tenant_id
        goes_on = self._beginning[tenant_id] + sum(run.bulk.tenant_id == tenant_id for run in self._runs.values())
        if goes_on >= self.settings.max_running:
            raise TooManyRequests("Too many bulks of current tenant go on!", retry_after=RETRY_AFTER)
        self._beginning[tenant_id] += 1
        try:
            return await self._create(principal, order)
        finally:
            self._beginning[tenant_id] -= 1

    async def _create(self, principal: Principal, order: BulkOrder) -> Bulk:
        devices = await self._devices(principal, order)
        bulk = Bulk(
            id=order.bulk_id,
            tenant_id=principal.tenant_id,
            user_id=principal.user_id,
            customer_id=principal.customer_id,
            user_name=principal.key_name or principal.email,
            narrowed=narrowed(principal),
            content=order.content,
            request=order.request,
            plan=order.plan,
            created_time=self._now_ms(),
            counts={EntryState.WAITING: len(devices)},
        )
        try:
            bulk = await self._kept.create(bulk, devices)
        except AlreadyExists:
            known = await self._known(principal, order)
            assert known is not None, "it is there"
            return known
        self._run(bulk, anew=True)
        return bulk

    async def _known(self, principal: Principal, order: BulkOrder) -> Bulk | None:
        """What this id stands for already. Raises VersionConflict if that is something else."""
        known = await self._kept.bulk(principal.tenant_id, order.bulk_id)
        if known is not None and (known.content != order.content or not visible_bulks(principal).fits(known)):
            raise VersionConflict(
                "There is another bulk with this requestUUID", hint="Make a new UUID for each new request."
            )
        return known

    async def _devices(self, principal: Principal, order: BulkOrder) -> list[tuple[UUID, str]]:
        """Id and name of each device that shall be called, in that order."""
        most = self.settings.max_devices
        wanted = access.visible_devices(
            principal, customer_id=order.customer_id, types=(order.type_,) if order.type_ is not None else ()
        )
        asked = None if order.devices is None else tuple(dict.fromkeys(order.devices))
        found: dict[UUID, str] = {}
        if asked is not None and len(asked) > most:
            raise _too_many(most)
        if wanted is not None and asked != ():
            found = dict(await self._kept.targets(wanted, asked, limit=most + 1))
        if len(found) > most:
            raise _too_many(most)
        if asked is not None:
            unknown = [str(each) for each in asked if each not in found]
            if unknown and not order.ignore_unknown:
                more = f" and {len(unknown) - NAMED:,} more" if len(unknown) > NAMED else ""
                raise InvalidRequest(
                    f"There are no devices with these ids, and none was called: {', '.join(unknown[:NAMED])}{more}",
                    hint='With "ignoreUnknown": true the others are called.',
                )
            return [(each, found[each]) for each in asked if each in found]
        if not found:
            raise InvalidRequest("There are no such devices")
        return list(found.items())

    async def bulk(self, principal: Principal, bulk_id: UUID) -> Bulk:
        """As the store has it. Raises NotFound."""
        bulk = await self._kept.bulk(principal.tenant_id, bulk_id)
        if bulk is None or not visible_bulks(principal).fits(bulk):
            raise NotFound(f"Bulk with id [{bulk_id}] is not found")
        return bulk

    def page(self, principal: Principal, link: PageLink) -> Deferred[Page[Bulk]]:
        """Those that there are for somebody."""
        return self._kept.bulks(visible_bulks(principal), link)

    async def entries(self, bulk: Bulk, link: PageLink, *, state: EntryState | None) -> Page[BulkEntry]:
        """Its devices, in the order in which they are called."""
        found = await self._kept.entries(bulk.sequence, link, state=state)
        return Page(items=tuple(found), total=bulk.total if state is None else bulk.counts.get(state, 0))

    async def abort(self, principal: Principal, bulk_id: UUID) -> Bulk:
        """Begin no more calls of it; those that have begun go on. Nothing happens to one that has ended.

        Fires when that is durable, with the bulk as it is then. Raises NotFound, Unavailable, and PermissionDenied for
        an API key that could not make these calls.
        """
        bulk = await self.bulk(principal, bulk_id)
        access.require_callable(principal, bulk.request.method, oneway=bulk.request.oneway)
        run = self._runs.get(bulk.sequence)
        if run is not None:
            await run.abort(f"by {principal.key_name or principal.email}")
        return await self.bulk(principal, bulk_id)

    async def follow(self, bulk: Bulk) -> AsyncGenerator[BulkEntry | Bulk, None]:
        """Each device that has ended, in that order, as soon as it does; at the end the bulk itself.

        That is before its end only if this process stops.
        """
        after = 0
        changed: Deferred[None] | None = None
        while True:
            if changed is None or changed.called:
                changed = self._changed(bulk.sequence)  # before it is read, so that nothing is missed
            known = await self._kept.bulk(bulk.tenant_id, bulk.id)
            page = await self._kept.ended(bulk.sequence, after=after, limit=PAGE)
            for entry in page:
                yield entry
            if page:
                after = page[-1].ended or after
            elif known is None or known.ended_time is not None or changed is None:
                yield known or bulk
                return
            else:
                await changed

    # -- inside

    def _run(self, bulk: Bulk, *, anew: bool, begin_after: float = 0.0) -> None:
        run = self._runs[bulk.sequence] = BulkRun(bulk, self._around)
        end = self._ends[bulk.sequence] = Deferred.fromCoroutine(run.go(anew=anew, begin_after=begin_after))
        end.addErrback(self._failed)
        end.addCallback(lambda _: self._ended(run))

    def _ended(self, run: BulkRun) -> None:
        self._runs.pop(run.bulk.sequence, None)
        self._ends.pop(run.bulk.sequence, None)
        for watcher in tuple(run.watchers):
            watcher()

    def _failed(self, failure: Failure) -> None:
        self._log.failure("a bulk cannot go on", failure)

    def _settled(self, event: CallSettled) -> None:
        if event.call.persistent:
            for run in tuple(self._runs.values()):
                run.settled(event)

    def _changed(self, sequence: int) -> Deferred[None] | None:
        """Fires after the next write about a bulk; None if there will be none."""
        run = self._runs.get(sequence)
        if run is None:
            return None

        def fire() -> None:
            run.watchers.remove(fire)
            if not changed.called:
                changed.callback(None)

        changed: Deferred[None] = Deferred()
        run.watchers.append(fire)
        return changed

    def _forget(self, _: object = None) -> None:
        before = self._now_ms() - int(self.settings.ttl * 1000)
        Deferred.fromCoroutine(self._forget_ended(before)).addErrback(self._not_forgotten)
        self._around.caller.deadlines.after(FORGET_INTERVAL, self._forget, None)

    async def _forget_ended(self, before: int) -> None:
        while await self._kept.forget_ended(before, limit=1):  # each may be large, and others write too
            pass

    def _not_forgotten(self, failure: Failure) -> None:
        failure.trap(Unavailable, CancelledError)
        self._log.warn("old bulks could not be forgotten: {error}", error=failure.value)


def _too_many(most: int) -> InvalidRequest:
    return InvalidRequest(
        f"These are more than {most:,} devices", hint="Ask for fewer at once. The limit is bulk.max_devices."
    )
