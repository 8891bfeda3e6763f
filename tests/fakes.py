"""Stand-ins with the shapes of core.ports, and a broker around them that runs on a Clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rpcbroker.api.metrics import Metrics
from rpcbroker.core.broker import Broker
from rpcbroker.core.bulks import Bulks
from rpcbroker.core.calls import Call, Step
from rpcbroker.core.lag import LoopLag
from rpcbroker.core.model import (
    Authority,
    Credentials,
    CredentialsType,
    Customer,
    Device,
    KnownDevice,
    LastPresence,
    Principal,
    Tenant,
    User,
)
from rpcbroker.core.ports import CloseReason
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.core.setting import Duration
from rpcbroker.core.settings import BulkSettings, RpcSettings
from rpcbroker.outside.scripts import ScriptCounts
from rpcbroker.store.memory import MemoryStore
from rpcbroker.transports.coap.counters import CoapCounters, DtlsCounters

EPOCH_MS = 1_700_000_000_000
TENANT = UUID(int=1)
OTHER_TENANT = UUID(int=2)
CUSTOMER = UUID(int=3)
ADMIN = Principal(
    user_id=UUID(int=10),
    tenant_id=TENANT,
    customer_id=None,
    authority=Authority.TENANT_ADMIN,
    email="admin@example.org",
    session_id="s",
)


def device(number: int = 100, *, tenant: UUID = TENANT, **more: Any) -> Device:
    return Device(id=UUID(int=number), tenant_id=tenant, name=f"device-{number}", created_time=EPOCH_MS, **more)


def tenant(number: int = OTHER_TENANT.int, **more: Any) -> Tenant:
    return Tenant(id=UUID(int=number), **{"title": f"tenant-{number}", "created_time": EPOCH_MS} | more)


def customer(number: int = CUSTOMER.int, *, tenant: UUID = TENANT, **more: Any) -> Customer:
    return Customer(
        id=UUID(int=number), tenant_id=tenant, **{"title": f"customer-{number}", "created_time": EPOCH_MS} | more
    )


def token(of: Device, text: str | None = None) -> Credentials:
    return Credentials(
        id=UUID(int=of.id.int + 10**6),
        device_id=of.id,
        type=CredentialsType.ACCESS_TOKEN,
        credentials_id=text or f"TOKEN{of.id.int}",
        created_time=EPOCH_MS,
    )


def known_device(shown: Credentials, of: Device, presence: LastPresence | None) -> KnownDevice:
    """What a look-up of these credentials finds."""
    return KnownDevice(shown.type, shown.credentials_id, shown.credentials_value, of, presence)


def first_records() -> tuple[Tenant, User]:
    user = User(
        id=ADMIN.user_id,
        tenant_id=TENANT,
        email="Admin@example.org",
        authority=Authority.TENANT_ADMIN,
        password_hash="hash",
        created_time=EPOCH_MS,
    )
    return tenant(TENANT.int, title="Default"), user


@dataclass(eq=False)
class FakeLink:
    """A link that writes down what it was given; `step` is reported at once, if there is one, then `reply` comes."""

    session: DeviceSession
    step: Step | None = Step.ACKNOWLEDGED
    reply: bytes | None = None
    full: bool = False
    protocol: str = "FAKE"
    transient: bool = False
    calls: list[Call] = field(default_factory=list)
    closed: list[CloseReason] = field(default_factory=list)
    updates: list[bytes] = field(default_factory=list)
    cancelled: list[Call] = field(default_factory=list)
    deaf: bool = False
    """It cannot be told of calls that nobody waits for."""

    def deliver(self, call: Call) -> bool:
        if self.full:
            return False
        self.calls.append(call)
        if self.step is not None:
            self.session.report(call.wire_id, self.step)
        if self.reply is not None and not call.oneway:
            self.session.receive(call.wire_id, self.reply)
        return True

    def cancel(self, call: Call) -> bool:
        if self.deaf:
            return False
        self.cancelled.append(call)
        return True

    def attributes_changed(self, update: bytes) -> None:
        self.updates.append(update)

    def close(self, reason: CloseReason) -> None:
        self.closed.append(reason)

    def why_not_callable(self) -> str:
        return "has not subscribed"


@dataclass
class FakeMqtt:
    """What the MQTT listener counts."""

    connections: int = 0
    handshakes: int = 0
    refusals: int = 0
    violations: int = 0
    kept_sessions: int = 0
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass
class FakeWamp:
    """What the router of WAMP counts."""

    open_sessions: int = 0
    dropped: int = 0


class World:
    """A broker on a Clock and a MemoryStore, with one device; on the `store` of another it goes on after a restart."""

    def __init__(self, *, store: MemoryStore | None = None, resume_after: float = 0.0, **rpc: Any) -> None:
        self.clock = Clock()
        self.store = store or MemoryStore()
        self.opened = self.store.open(first_records=first_records)
        self._uuids = self._count(0xABC0000 if store is None else 0xDEF0000)
        self.broker = Broker(
            store=self.store,
            clock=self.clock,
            now_ms=self.now_ms,
            new_uuid=lambda: next(self._uuids),
            new_token=lambda: f"NEW{next(self._uuids).int:X}",
            settings=RpcSettings(**rpc),
        )
        self.broker.start(self.opened)
        self.bulks = Bulks(
            caller=self.broker,
            store=self.store,
            now_ms=self.now_ms,
            seconds=self.clock.seconds,
            settings=BulkSettings(resume_after=Duration(resume_after)),
        )
        self.bulks.start(self.opened.running_bulks)
        self.device = device()
        if store is None:
            self.add(self.device)

    def now_ms(self) -> int:
        return EPOCH_MS + round(self.clock.seconds() * 1000)

    def new_uuid(self) -> UUID:
        return next(self._uuids)

    def add(self, a_device: Device, text: str | None = None) -> None:
        """With its tenant and its customer, if those are new."""
        people, customer_id = self.store.people, a_device.customer_id
        if result_of(people.tenant(a_device.tenant_id)) is None:
            result_of(people.create_tenant(tenant(a_device.tenant_id.int)))
        if customer_id is not None and result_of(people.customer(customer_id)) is None:
            result_of(people.create_customer(customer(customer_id.int, tenant=a_device.tenant_id)))
        result_of(self.store.create_device(a_device, token(a_device, text)))

    def session(self, of: Device | None = None) -> DeviceSession:
        of = of or self.device
        admin = replace(ADMIN, tenant_id=of.tenant_id)
        return result_of(Deferred.fromCoroutine(self.broker.session_for(admin, of.id)))

    def link(self, of: Device | None = None, *, subscribed: bool = True, **more: Any) -> FakeLink:
        session = self.session(of)
        link = FakeLink(session, **more)
        session.attach(link)
        if subscribed:
            session.subscribe(link)
        return link

    def call(
        self, request: Any, principal: Principal = ADMIN, device_id: UUID | None = None, *, progress: Any = None
    ) -> Deferred[Any]:
        coroutine = self.broker.call(principal, device_id or self.device.id, request, progress)
        return Deferred.fromCoroutine(coroutine)

    @staticmethod
    def _count(number: int) -> Iterator[UUID]:
        while True:
            number += 1
            yield UUID(int=number)


@dataclass
class FakeCoap:
    """What CoAP has counted."""

    counters: CoapCounters = field(default_factory=CoapCounters)
    dtls_counters: DtlsCounters = field(default_factory=DtlsCounters)
    datagrams: dict[str, int] = field(default_factory=lambda: {"received": 9, "sent": 10})
    observations: int = 11
    peers: int = 12
    dtls_sessions: int = 13


@dataclass
class FakeWebCounts:
    """What calls to other servers have counted."""

    outcomes: dict[str, int] = field(default_factory=lambda: {"answered": 14, "failed": 15, "refused": 16})
    running: int = 17
    waiting: int = 18


@dataclass
class FakePool:
    """What the pool of scripts has counted."""

    counts: ScriptCounts = field(
        default_factory=lambda: ScriptCounts(runs=5, failures=4, runaways=3, suspended=2, kills=1)
    )
    workers: int = 2


def metrics_of(world: Any, **more: Any) -> Metrics:
    """The metrics of this broker, which has rules."""
    given: dict[str, Any] = {
        "broker": world.broker,
        "store": world.store,
        "rules": world.rules,
        "scripts": FakePool(),
        "web": FakeWebCounts(),
        "mqtt": FakeMqtt(),
        "coap": FakeCoap,
        "http_connections": lambda: 0,
        "http_polls": lambda: 0,
        "wamp": FakeWamp,
        "feed_watchers": lambda: 0,
        "lag": LoopLag(world.clock, world.clock.seconds),
        "timers": lambda: 0,
        "started": EPOCH_MS / 1000,
        "access": lambda: "open",
    }
    return Metrics(**given | more)


class Slow:
    """A method of the store whose answers, to what is asked while this is entered, are on their way until `arrive`."""

    def __init__(self, owner: Any, name: str) -> None:
        self._owner, self._name, self._real = owner, name, getattr(owner, name)
        self._waiting: list[tuple[Deferred[Any], Any]] = []

    def __enter__(self) -> Slow:
        setattr(self._owner, self._name, self._read)
        return self

    def __exit__(self, *_: object) -> None:
        delattr(self._owner, self._name)

    def _read(self, *args: Any, **more: Any) -> Deferred[Any]:
        waiting: Deferred[Any] = Deferred()
        self._waiting.append((waiting, result_of(self._real(*args, **more))))
        return waiting

    def arrive(self) -> None:
        assert self._waiting, f"nobody asked for {self._name}"
        for waiting, answer in self._waiting:
            waiting.callback(answer)


def result_of(deferred: Deferred[Any]) -> Any:
    """What the Deferred has fired with; raises its failure, or AssertionError if it has not fired."""
    outcome: list[Any] = []
    deferred.addCallbacks(outcome.append, outcome.append)
    assert outcome, "the Deferred has not fired"
    if hasattr(outcome[0], "raiseException"):
        outcome[0].raiseException()
    return outcome[0]


def error_of(deferred: Deferred[Any]) -> Any:
    """The exception that the Deferred has failed with."""
    try:
        value = result_of(deferred)
    except Exception as error:
        return error
    raise AssertionError(f"it succeeded with {value!r}")
