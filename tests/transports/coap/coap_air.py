"""A CoAP server on a Clock, and devices that speak to it through the air, where all that it sends is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.settings import CoapSettings
from rpcbroker.transports.coap.exchange import Observation, Refused, Request, Response, Settled
from rpcbroker.transports.coap.peers import CoapPeer, SocketAddress
from rpcbroker.transports.coap.server import CoapServer
from rpcbroker.wire.coap.blockwise import Block
from rpcbroker.wire.coap.message import Message, decode, encode
from rpcbroker.wire.coap.numbers import Code, OptionNumber, Type, uint

N = OptionNumber
TEXT = 0


@dataclass
class Site:
    """What paths do, for tests: a function each. What it is not told of is not found."""

    paths: dict[tuple[str, ...], Callable[[Request], Any]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    admits: list[Request] = field(default_factory=list)
    admission: Any = True
    """What `admit` answers."""
    observations: list[Observation] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    ready: int = 0

    def handle(self, request: Request) -> Response | Deferred[Response]:
        self.requests.append(request)
        action = self.paths.get(request.path)
        if action is None:
            raise Refused(Code.NOT_FOUND, "nothing is here")
        return action(request)

    def admit(self, request: Request) -> Any:
        self.admits.append(request)
        return self.admission

    def observe(self, request: Request) -> Response:
        """An action: register, or deregister."""
        if request.observe == 0:
            observation = request.register()
            if observation is not None and observation not in self.observations:
                observation.gone = self.gone.append
                observation.ready = self._ready
                self.observations.append(observation)
        elif request.observe == 1:
            request.deregister()
        return content(b"now")

    def _ready(self) -> None:
        self.ready += 1


def content(payload: bytes = b"", **more: Any) -> Response:
    return Response(**{"code": Code.CONTENT, "payload": payload, "content_format": TEXT, "authenticated": True} | more)


class Air:
    """The server, and all that it has sent."""

    def __init__(self, site: Site | None = None, **settings: Any) -> None:
        self.clock = Clock()
        self.site = site or Site()
        self._devices: dict[int, Remote] = {}
        self.sent: list[tuple[float, SocketAddress, Message]] = []
        self.server = CoapServer(
            self.site.handle,
            self.site.admit,
            settings=CoapSettings(**settings),
            deadlines=Deadlines(self.clock),
            rng=Random(0),
            seconds=self.clock.seconds,
            secret=b"secret",
        )

    def send_to(self, address: SocketAddress, datagram: bytes) -> None:
        self.sent.append((self.clock.seconds(), address, decode(datagram)))

    def device(self, number: int = 1) -> Remote:
        """The device of that number, always the same one."""
        if number not in self._devices:
            self._devices[number] = Remote(self, (f"192.0.2.{number % 250}", 5683 + number))
        return self._devices[number]

    def advance(self, seconds: float) -> None:
        """In small steps, as time goes."""
        self.clock.pump([1 / 64] * round(seconds * 64))


class Remote:
    """A device at one address."""

    def __init__(self, air: Air, address: SocketAddress) -> None:
        self.air = air
        self.address = address
        self.said = 0
        """Bytes of its last datagram."""
        self._read = 0
        self._message_id = 100

    @property
    def peer(self) -> CoapPeer:
        return self.air.server.peers.at(self.address, self.air)

    def throw(self, datagram: bytes) -> list[Message]:
        """Send bytes: what comes back at once."""
        self.heard()
        self.said = len(datagram)
        self.air.server.received(datagram, self.peer)
        return self.heard()

    def say(self, *args: Any, **more: Any) -> list[Message]:
        """Send a Message: what comes back at once."""
        return self.throw(encode(Message(*args, **more)))

    def heard(self) -> list[Message]:
        """What has come for this address, and was not read yet."""
        come = [message for _, address, message in self.air.sent[self._read :] if address == self.address]
        self._read = len(self.air.sent)
        return come

    def ask(
        self,
        code: int = Code.GET,
        path: str = "/test",
        payload: bytes = b"",
        *,
        kind: int = Type.CON,
        token: bytes = b"t",
        message_id: int | None = None,
        **options: Any,
    ) -> list[Message]:
        """Send a request; options by their names in small letters, as bytes, numbers, Blocks or lists of them."""
        if message_id is None:
            self._message_id += 1
            message_id = self._message_id
        found: list[tuple[int, bytes]] = [(N.URI_PATH, each.encode()) for each in path.split("/")[1:]]
        for name, values in options.items():
            for value in values if isinstance(values, list) else [values]:
                found.append((N[name.upper()], _coded(value)))
        found.sort(key=lambda option: option[0])
        return self.say(kind, code, message_id, token, tuple(found), payload)

    def acknowledge(self, message: Message) -> list[Message]:
        return self.say(Type.ACK, 0, message.message_id)

    def reset(self, message: Message) -> list[Message]:
        return self.say(Type.RST, 0, message.message_id)


def _coded(value: Any) -> bytes:
    if isinstance(value, Block):
        return value.encode()
    return value if isinstance(value, bytes) else value.encode() if isinstance(value, str) else uint(value)


def option(message: Message, number: int) -> bytes | None:
    """The value of an option, of which there is one at most."""
    values = [value for each, value in message.options if each == number]
    assert len(values) < 2
    return values[0] if values else None


def block(message: Message, number: int = N.BLOCK2) -> Block | None:
    value = option(message, number)
    return None if value is None else Block.decode(value)


@dataclass
class Told:
    """What became of notifications."""

    settled: list[Settled] = field(default_factory=list)

    def __call__(self, became: Settled) -> None:
        self.settled.append(became)
