"""The traffic of RPC as it happens, for those who may see the devices that it is about.

What happens is made into FeedEvents only while somebody of its tenant watches, and a moment after that, so that who
comes back misses nothing. How events reach their watchers is the business of the wings.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from twisted.logger import Logger

from rpcbroker.core import access, jsontext
from rpcbroker.core.broker import Broker
from rpcbroker.core.deadlines import Deadline
from rpcbroker.core.errors import TooManyRequests
from rpcbroker.core.feed_settings import FeedSettings
from rpcbroker.core.model import Device, Principal

ROOT = "rpcbroker."
"""All topics of the feed begin so."""
_EVENT_SIZE = 1_000
"""Bytes of an event beside its payloads, about."""

MayWatch = Callable[[Principal], bool]


class FeedEvent:
    """Something that happened in a tenant: what its watchers are told, each as far as it may know it.

    `topic` is such as `rpcbroker.call.<deviceId>.sent`. `seq` increases in the tenant, over restarts too. `fields` are
    JSON values; `payloads` are more of them, as JSON text, for those who ask for them. `device` is the device that it
    is about, None if that is gone or it is about none; `visible` then says who may know of it. `method` is that of a
    call.
    """

    __slots__ = ("_components", "_encoded", "device", "fields", "method", "payloads", "seq", "topic", "ts", "visible")

    def __init__(
        self,
        seq: int,
        ts: int,
        topic: str,
        fields: dict[str, Any],
        *,
        device: Device | None = None,
        method: str | None = None,
        payloads: Mapping[str, bytes] | None = None,
        visible: MayWatch = access.may_see_all,
    ) -> None:
        self.seq = seq
        self.ts = ts
        self.topic = topic
        self.fields = {"seq": seq, "ts": ts, **fields}
        self.device = device
        self.method = method
        self.payloads = payloads or {}
        self.visible = visible
        self._components: list[str] | None = None
        self._encoded: dict[tuple[str, bool], bytes] = {}

    @property
    def components(self) -> list[str]:
        """Those of `topic`: parted once for all who look at them."""
        if self._components is None:
            self._components = self.topic.split(".")
        return self._components

    def may_be_seen(self, principal: Principal) -> bool:
        """Whether this event exists, as far as this principal can tell."""
        return self.visible(principal) if self.device is None else access.may_see(principal, self.device)

    def payloads_may_be_seen(self, principal: Principal) -> bool:
        """Whether somebody who may see the event may see its payloads, too: who could make such a call."""
        return access.may_see_payloads(principal, self.method)

    def members(self, payloads: bool) -> dict[str, Any]:
        """`fields`, and what the payloads say if they are wanted."""
        if not payloads or not self.payloads:
            return self.fields
        return self.fields | {name: jsontext.decode(text) if text else None for name, text in self.payloads.items()}

    def encoded(self, name: str, payloads: bool, encode: Callable[[dict[str, Any]], bytes]) -> bytes:
        """`members`, encoded once for all who want it so: `name` is of the encoding."""
        key = name, payloads and bool(self.payloads)
        found = self._encoded.get(key)
        if found is None:
            found = self._encoded[key] = encode(self.members(payloads))
        return found

    def forget_encodings(self) -> None:
        """All who watch were told. What is kept for who comes back is no more than `size`."""
        self._encoded.clear()

    @property
    def size(self) -> int:
        return _EVENT_SIZE + sum(map(len, self.payloads.values()))


class Watch:
    """What one watcher wants to be told. `principal` is who it is: put another one here, and it holds from then on."""

    __slots__ = ("deliver", "device_id", "owner", "principal", "values", "wants")

    def __init__(
        self,
        principal: Principal,
        deliver: Callable[[FeedEvent], object],
        *,
        device_id: UUID | None = None,
        values: bool = False,
        wants: Callable[[FeedEvent], bool] | None = None,
        owner: object = None,
    ) -> None:
        """`device_id`: events of this device only; `values`: its telemetry and attributes, instead of all else;
        `wants`: of those, which. All of one `owner` count as one watcher; None is nobody else's."""
        self.principal = principal
        self.deliver = deliver
        self.device_id = device_id
        self.values = values
        self.wants = wants
        self.owner: object = self if owner is None else owner


class _Watched:
    """One tenant, while it is watched or was a moment ago."""

    __slots__ = ("deadline", "forgotten", "kept", "owners", "seq", "size", "until", "watches")

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.forgotten = seq
        """The last event that may be missed, and is not kept."""
        self.watches: dict[tuple[bool, UUID | None], dict[Watch, None]] = {}
        """By whether they want values, and by the device that they are for."""
        self.owners: Counter[object] = Counter()
        """How many watches each has."""
        self.until = 0.0
        """When nobody has watched for long enough to be forgotten; clock seconds."""
        self.deadline: Deadline | None = None
        """When that is looked at, if it has to be."""
        self.kept: deque[FeedEvent] = deque()
        self.size = 0

    def told(self, values: bool, device_id: UUID | None) -> tuple[Watch, ...]:
        """Who may want to hear of it."""
        of_all = self.watches.get((values, None), ())
        of_device = () if device_id is None else self.watches.get((values, device_id), ())
        return (*of_all, *of_device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """What a source of the feed tells; members as in FeedEvent. `about` is the id of the device.

    `values`: it is telemetry or attributes, which may be many, and nobody hears of them again.
    """

    tenant_id: UUID
    topic: str
    fields: dict[str, Any]
    about: UUID | None = None
    device: Device | None = None
    method: str | None = None
    payloads: Mapping[str, bytes] | None = None
    visible: MayWatch = access.may_see_all
    values: bool = False


class Feed:
    """All tenants'. `listening` is called with whether anybody watches at all, whenever that changes."""

    _log = Logger()

    def __init__(
        self,
        broker: Broker,
        *,
        now_ms: Callable[[], int],
        seconds: Callable[[], float],
        settings: FeedSettings,
    ) -> None:
        self.settings = settings
        self.listening: Callable[[bool], object] = lambda anybody: None
        self._broker = broker
        self._now_ms = now_ms
        self._seconds = seconds
        self._tenants: dict[UUID, _Watched] = {}

    # -- watchers

    @property
    def watchers(self) -> int:
        """How many watch now, of all tenants, as `max_watchers` counts them."""
        return sum(len(watched.owners) for watched in self._tenants.values())

    def watch(self, watch: Watch) -> Callable[[], None]:
        """Tell it of events from now on; what comes back ends that, and may be called again.

        `deliver` is called at once, in the middle of what happens, and must neither raise nor take long.
        Raises TooManyRequests for more watchers of the tenant than there may be, or as many watches of one device, or
        of all: each is asked at each event.
        """
        tenant_id, key, most = watch.principal.tenant_id, (watch.values, watch.device_id), self.settings.max_watchers
        watched = self._watched(tenant_id)
        too_many = len(watched.owners) >= most and watch.owner not in watched.owners
        if too_many or len(watched.watches.get(key, ())) >= most:
            raise TooManyRequests("Too many watch this tenant's traffic", retry_after=self.settings.replay)
        watches = watched.watches.setdefault(key, {})
        watches[watch] = None
        watched.owners[watch.owner] += 1

        def end() -> None:
            if watch not in watches:
                return
            del watches[watch]
            if not watches:
                del watched.watches[key]
            watched.owners[watch.owner] -= 1
            if not watched.owners[watch.owner]:
                del watched.owners[watch.owner]
            if not watched.owners:
                self._linger(tenant_id, watched)

        return end

    def seq(self, tenant_id: UUID) -> int:
        """The number of the last event, and from now on a watcher who begins after it misses none for a while."""
        watched = self._watched(tenant_id)
        if not watched.owners:
            self._linger(tenant_id, watched)
        return watched.seq

    def since(self, principal: Principal, seq: int) -> list[FeedEvent] | None:
        """Events after that one which this principal may see; None if not all of them are kept any more."""
        watched = self._tenants.get(principal.tenant_id)
        if watched is None:
            return None
        if not watched.forgotten <= seq <= watched.seq:
            return None
        return [event for event in watched.kept if event.seq > seq and event.may_be_seen(principal)]

    def is_watched(self, tenant_id: UUID, device_id: UUID | None = None, *, values: bool = False) -> bool:
        """Whether it is worth while to tell of what happens there."""
        watched = self._tenants.get(tenant_id)
        return watched is not None and (not values or bool(watched.told(True, device_id)))

    # -- what happens

    def tell(self, happened: Happened) -> None:
        """Tell those of the tenant who watch it, and may."""
        watched = self._tenants.get(happened.tenant_id)
        if watched is None:
            return
        watched.seq += 1
        event = FeedEvent(
            watched.seq,
            self._now_ms(),
            happened.topic,
            happened.fields,
            device=happened.device,
            method=happened.method,
            payloads=happened.payloads if self.settings.payloads else None,
            visible=happened.visible,
        )
        if not happened.values:
            self._keep(watched, event)
        for watch in watched.told(happened.values, happened.about):
            if (watch.wants is None or watch.wants(event)) and event.may_be_seen(watch.principal):
                try:
                    watch.deliver(event)
                except Exception:
                    self._log.failure("a watcher failed")
        event.forget_encodings()

    # -- inside

    def _watched(self, tenant_id: UUID) -> _Watched:
        watched = self._tenants.get(tenant_id)
        if watched is None:
            first = not self._tenants
            watched = self._tenants[tenant_id] = _Watched(self._now_ms() * 1000)
            self._linger(tenant_id, watched)
            if first:
                self.listening(True)
        return watched

    def _linger(self, tenant_id: UUID, watched: _Watched) -> None:
        watched.until = self._seconds() + self.settings.replay
        if watched.deadline is None:
            watched.deadline = self._broker.deadlines.after(self.settings.replay, self._forget, tenant_id)

    def _forget(self, tenant_id: UUID) -> None:
        watched = self._tenants[tenant_id]
        watched.deadline = None
        if watched.owners:
            return
        left = watched.until - self._seconds()
        if left > 0:
            watched.deadline = self._broker.deadlines.after(left, self._forget, tenant_id)
            return
        del self._tenants[tenant_id]
        if not self._tenants:
            self.listening(False)

    def _keep(self, watched: _Watched, event: FeedEvent) -> None:
        settings, kept = self.settings, watched.kept
        kept.append(event)
        watched.size += event.size
        oldest = event.ts - int(settings.replay * 1000)
        while kept and (watched.size > settings.max_replay_size or kept[0].ts < oldest):
            gone = kept.popleft()
            watched.size -= gone.size
            watched.forgotten = gone.seq
