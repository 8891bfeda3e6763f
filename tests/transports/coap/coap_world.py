"""Devices that speak CoAP to the real site and the real broker, without messages: requests, answers, observations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from fakes import World, result_of
from twisted.internet.defer import Deferred, succeed

from rpcbroker.core import jsontext
from rpcbroker.core.calls import CallRequest, CallState
from rpcbroker.core.errors import BrokerError
from rpcbroker.core.model import Device, Scope
from rpcbroker.core.settings import CoapSettings
from rpcbroker.transports.coap.errors import refusal
from rpcbroker.transports.coap.exchange import Refused, Request, Response, Settled
from rpcbroker.transports.coap.site import CoapSite
from rpcbroker.transports.uplinks import Uplinks
from rpcbroker.wire.coap.numbers import Code, ContentFormat

TOKEN = "TOKEN100"
SECRET = b'{"deviceName":"d","provisionDeviceKey":"k","provisionDeviceSecret":"s"}'


def _nobody(*_: object) -> None: ...


@dataclass(eq=False)
class FakePeer:
    host: Any = "192.0.2.1"
    certificate: bytes | None = None
    secure: bool = False


@dataclass(eq=False)
class FakeObservation:
    """What the layer below makes of a registration; a notification stays on its way until `settle`."""

    peer: FakePeer
    confirmable: bool = True
    accept: int | None = None
    answered: bool = False
    gone: Callable[[str], None] = _nobody
    ready: Callable[[], None] = _nobody
    sent: list[Response] = field(default_factory=list)
    last: Response | None = None
    """What it was ended with."""
    ended: bool = False
    reached: list[FakePeer] = field(default_factory=list)
    waiting: Callable[[Settled], None] | None = None

    @property
    def busy(self) -> bool:
        return self.ended or not self.answered or self.waiting is not None

    @property
    def payloads(self) -> list[bytes]:
        return [response.payload for response in self.sent]

    def notify(self, response: Response, settled: Callable[[Settled], None]) -> bool:
        if self.busy:
            return False
        self.sent.append(response)
        if self.confirmable:
            self.waiting = settled
        else:
            settled(Settled.ACKNOWLEDGED)
        return True

    def end(self, response: Response | None = None) -> None:
        self.last, self.ended = response, True
        self._became(Settled.DROPPED)

    def reach(self, peer: FakePeer, *, soon: bool) -> None:
        if peer is not self.peer:
            self.reached.append(peer)

    def withdraw(self, became: Settled = Settled.DROPPED) -> None:
        self._became(became)
        if not self.busy:
            self.ready()

    # -- what the device does

    def settle(self, became: Settled = Settled.ACKNOWLEDGED) -> None:
        assert self.waiting is not None, "nothing is on its way"
        if became is not Settled.ACKNOWLEDGED:
            self.ended = True
        self._became(became)
        if not self.ended:
            self.ready()

    def leave(self, why: str = "the device does not observe any more") -> None:
        self.ended = True
        self._became(Settled.DROPPED)
        self.gone(why)

    def answer(self) -> None:
        """Its registration is answered now."""
        self.answered = True
        if not self.busy:
            self.ready()

    def _became(self, became: Settled) -> None:
        settled, self.waiting = self.waiting, None
        if settled is not None:
            settled(became)


class FakeEnrolment:
    """Answers as it is told to, and writes down what it was asked."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.answer: Callable[[], Deferred[bytes]] = lambda: succeed(b'{"status":"SUCCESS","credentialsValue":"T"}')
        self.offered: Callable[[], Deferred[None]] = lambda: succeed(None)

    def provision(self, request: bytes) -> Deferred[bytes]:
        self.asked.append(request)
        return self.answer()

    def claim(self, device: Device, offer: bytes) -> Deferred[None]:
        self.asked.append(offer)
        return self.offered()


class Coap:
    """One device, and the site that it speaks to."""

    def __init__(self, *, world: World | None = None, **more: Any) -> None:
        self.world = world or World()
        self.settings = CoapSettings(**more)
        self.enrolment = FakeEnrolment()
        self.site = CoapSite(
            *(Uplinks(self.world.broker, self.enrolment, protocol=each) for each in ("CoAP", "CoAPs")),
            self.world.broker,
            settings=lambda: self.settings,
            now_ms=self.world.now_ms,
        )
        self.peer = FakePeer()
        self.observations: dict[tuple[FakePeer, tuple[str, ...]], FakeObservation] = {}
        self.too_many = False

    # -- requests

    def request(self, code: int, path: str, payload: bytes = b"", **more: Any) -> Request:
        """`path` is relative to the device's own, unless it begins with a slash."""
        if not path.startswith("/"):
            path = f"/api/v1/{TOKEN}/{path}"
        path, _, query = path.partition("?")
        segments = more.pop("segments", tuple(path[1:].split("/")))
        peer, confirmable = more.pop("peer", self.peer), more.pop("confirmable", True)
        key, accept = (peer, segments), more.get("accept")

        def register() -> FakeObservation | None:
            if self.too_many:
                return None
            there = self.observations.get(key)
            if there is None or there.ended:
                there = self.observations[key] = FakeObservation(peer, confirmable, accept)
            there.confirmable, there.accept = confirmable, accept
            there.answered = False
            return there

        def deregister() -> None:
            there = self.observations.get(key)
            if there is not None and not there.ended:
                there.leave()

        given: dict[str, Any] = {"content_format": None, "accept": None, "observe": None, "path": segments} | more
        return Request(
            peer=peer,
            code=code,
            query=tuple(query.split("&")) if query else (),
            payload=payload,
            register=register,
            deregister=deregister,
            **given,
        )

    def say(self, code: int, path: str, payload: bytes = b"", **more: Any) -> Response:
        """The answer, which has come at once."""
        return self.answer_to(self.request(code, path, payload, **more))

    def answer_to(self, request: Request) -> Response:
        try:
            answer = self.site.handle(request)
            response: Response = result_of(answer) if isinstance(answer, Deferred) else answer
        except (BrokerError, Refused) as error:
            response = refusal(error)
        there = self.observations.get((request.peer, request.path))  # type: ignore[arg-type]
        if there is not None and not there.answered:
            there.answer()
        return response

    def get(self, path: str, **more: Any) -> Response:
        return self.say(Code.GET, path, **more)

    def post(self, path: str, payload: bytes = b"", **more: Any) -> Response:
        return self.say(Code.POST, path, payload, **more)

    def observe(self, path: str = "rpc", **more: Any) -> FakeObservation:
        """Its observation of that, which was answered well."""
        request = self.request(Code.GET, path, observe=0, **more)
        response = self.answer_to(request)
        assert response.code == (Code.CONTENT if "attributes" in path else Code.VALID)
        return self.observations[request.peer, request.path]  # type: ignore[index]

    # -- what is known of it

    @property
    def session(self) -> Any:
        return self.world.session()

    def missed(self) -> dict[str, str]:
        return {miss.value: missed.detail for miss, missed in self.session.near_misses()}

    def delete(self) -> None:
        result_of(self.world.store.delete_device(self.world.device.id))
        self.world.broker.device_deleted(self.world.device.id)


JSON, CBOR, TEXT = ContentFormat.JSON, ContentFormat.CBOR, ContentFormat.TEXT
RPC_ID = UUID(int=0xC0A9)


CALL = CallRequest(method="m", params=b'{"pin":7}', timeout=20, request_id=RPC_ID)
GIVEN = b'{"id":1,"method":"m","params":{"pin":7}}'
"""How it is told."""


def record(coap: Coap) -> Any:
    """That of CALL."""
    return coap.world.broker.recorder.find(coap.session.device.tenant_id, RPC_ID)


def state(coap: Coap) -> CallState:
    """That of CALL."""
    known: CallState = record(coap).state
    return known


def change(coap: Coap, **additional_info: Any) -> None:
    """What is known of the device is edited."""
    device = replace(coap.session.device, additional_info=additional_info)
    coap.world.broker.device_changed(device)


def share(coap: Coap, **values: Any) -> None:
    """An application sets attributes."""
    broker = coap.world.broker
    parsed = broker.attributes.parse(jsontext.encode(values))
    result_of(broker.attributes.save(coap.session.device.id, Scope.SHARED, parsed))
