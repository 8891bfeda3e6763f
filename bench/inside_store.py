"""A store and a broker in this process, kept busy with so many operations at once: how many there are in a second."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from rpcbroker.core.broker import Broker
from rpcbroker.core.calls import Call, CallRequest, Step
from rpcbroker.core.model import Authority, Credentials, CredentialsType, Device, Principal, Tenant, User
from rpcbroker.core.ports import CloseReason
from rpcbroker.core.records import KeptCall, record_of
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.core.settings import RpcSettings
from rpcbroker.store.call_writes import INSERT, insert_row
from rpcbroker.store.database import ThreadedDatabase
from rpcbroker.store.location import store_url
from rpcbroker.store.queries import run
from rpcbroker.store.sql import SqlStore

DEVICES = 64


def now_ms() -> int:
    return time.time_ns() // 10**6


class AnsweringLink:
    """Takes each call and answers it at once."""

    protocol = "BENCH"
    transient = False

    def __init__(self, session: DeviceSession, ended: Callable[[], None]) -> None:
        self._session = session
        self._ended = ended

    def deliver(self, call: Call) -> bool:
        self._session.report(call.wire_id, Step.ACKNOWLEDGED)
        answer = self._session.receive(call.wire_id, b'{"7":true}')
        assert isinstance(answer, Deferred)
        answer.addCallback(lambda _: self._ended())
        return True

    def cancel(self, call: Call) -> bool:
        return False

    def close(self, reason: CloseReason) -> None: ...

    def attributes_changed(self, update: bytes) -> None: ...

    def why_not_callable(self) -> str:
        return "is callable"


class Bench:
    """One run on a new store."""

    def __init__(self, directory: str) -> None:
        tenant = Tenant(id=uuid4(), title="bench", created_time=now_ms())
        self.principal = Principal(
            user_id=uuid4(),
            tenant_id=tenant.id,
            customer_id=None,
            authority=Authority.TENANT_ADMIN,
            email="bench@localhost",
            session_id="s",
        )
        user = User(
            id=self.principal.user_id,
            tenant_id=tenant.id,
            email=self.principal.email,
            authority=Authority.TENANT_ADMIN,
            password_hash="none",
            created_time=now_ms(),
        )
        self.store = SqlStore(
            ThreadedDatabase(store_url("", Path(directory)), call_from_thread=reactor.callFromThread, max_queue=20_000),
            cache_size=DEVICES,
            clock=reactor,
        )
        self.opened = self.store.open(first_records=lambda: (tenant, user))
        self.devices = [
            Device(id=uuid4(), tenant_id=tenant.id, name=f"d{number}", created_time=now_ms())
            for number in range(DEVICES)
        ]
        self.done = self.turn = 0
        self.again: Callable[[], None] = lambda: None

    async def provision(self) -> None:
        for device in self.devices:
            credentials = Credentials(
                id=uuid4(),
                device_id=device.id,
                type=CredentialsType.ACCESS_TOKEN,
                credentials_id=device.name,
                created_time=now_ms(),
            )
            await self.store.create_device(device, credentials)

    def next_device(self) -> Device:
        self.turn += 1
        return self.devices[self.turn % DEVICES]

    def ended(self) -> None:
        self.done += 1
        self.again()

    # -- plain inserts

    async def inserts(self) -> None:
        wire_ids = iter(range(1, 2**31))

        def insert() -> None:
            row = insert_row(self._kept(next(wire_ids), self.next_device().id))
            written = self.store._database.write(lambda connection: run(connection, INSERT, row))
            written.addCallback(lambda _: self.ended())

        self.again = insert

    def _kept(self, wire_id: int, device_id: UUID) -> KeptCall:
        now = now_ms()
        call = Call(
            uuid4(),
            wire_id,
            self.principal.tenant_id,  # type: ignore[arg-type]
            device_id,
            "get",
            b'{"pin":7}',
            False,
            now,
            now + 60_000,
            now + 60_000,
            5,
            persistent=True,
        )
        moments = (now, "accepted", None), (now, "authorised", None), (now, "routed", None)
        return KeptCall(call=call, record=record_of(call, moments), due_time=call.expiration_time)

    # -- calls

    async def calls(self) -> None:
        broker = Broker(
            store=self.store,
            clock=reactor,
            now_ms=now_ms,
            new_uuid=uuid4,
            new_token=lambda: secrets.token_hex(8),
            settings=RpcSettings(),
        )
        start(broker, self.opened)
        for device in self.devices:
            session = await broker.session_for(self.principal, device.id)
            link = AnsweringLink(session, self.ended)
            session.attach(link)
            session.subscribe(link)
        request = CallRequest(method="get", params=b'{"pin":7}', persistent=True, timeout=60)

        def call() -> None:
            reply = Deferred.fromCoroutine(broker.call(self.principal, self.next_device().id, request))
            reply.addErrback(stop_with)

        self.again = call


def start(broker: Broker, opened: Any) -> None:
    broker.start(opened)


failures: list[Any] = []


def stop_with(failure: Any) -> None:
    failures.append(failure)
    if reactor.running:
        reactor.stop()


def measure(what: str, *, seconds: float, warm_up: float, outstanding: int, directory: str) -> float:
    """Operations in a second. Raises SystemExit when one fails."""
    bench = Bench(directory)
    rates: list[float] = []

    async def keep_busy() -> None:
        await bench.provision()
        await (bench.inserts() if what == "inserts" else bench.calls())
        for _ in range(outstanding):
            bench.again()
        await pause(warm_up)
        begin, before = time.perf_counter(), bench.done
        await pause(seconds)
        rates.append((bench.done - before) / (time.perf_counter() - begin))
        bench.again = lambda: None
        while bench.done < bench.turn:
            await pause(0.05)
        await bench.store.close()
        reactor.stop()

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(keep_busy()).addErrback(stop_with))
    reactor.run()
    if failures:
        raise SystemExit(failures[0].getTraceback())
    return rates[0]


def pause(seconds: float) -> Deferred[None]:
    waiting: Deferred[None] = Deferred()
    reactor.callLater(seconds, waiting.callback, None)
    return waiting
