"""A broker on a clock, whose devices come over HTTP: the real front door and the real device API, no sockets."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from door import Caller
from fakes import World
from hostile import Answer, answers
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.web.resource import Resource

from rpcbroker.api.errors import render
from rpcbroker.core import jsontext
from rpcbroker.core.calls import CallRequest
from rpcbroker.core.direct import Outgoing
from rpcbroker.core.model import Device
from rpcbroker.core.settings import HttpDeviceSettings, HttpSettings
from rpcbroker.transports.http.site import PREFIX, HttpDevices
from rpcbroker.web.front_door import FrontDoor, Mount

TOKEN = "TOKEN100"


class FakeEnrolment:
    """Provisions whoever sends JSON, and takes every offer that is."""

    def provision(self, request: bytes) -> Deferred[bytes]:
        async def provision() -> bytes:
            jsontext.decode(request)
            return b'{"status":"NOT_FOUND"}'

        return Deferred.fromCoroutine(provision())

    def claim(self, device: Device, offer: bytes) -> Deferred[None]:
        async def claim() -> None:
            if offer:
                jsontext.decode(offer)

        return Deferred.fromCoroutine(claim())


class HttpWorld(World):
    """With one device, whose token is TOKEN."""

    def __init__(
        self, *, http: Any = None, store: Any = None, rpc: Any = None, now: float = 0.0, **devices: Any
    ) -> None:
        super().__init__(store=store, **rpc or {})
        self.clock.advance(now)
        self.enrolment = FakeEnrolment()
        self.devices = HttpDevices(
            broker=self.broker,
            enrolment=self.enrolment,
            settings=HttpDeviceSettings(**devices),
            render=lambda error: render(error, now_ms=self.now_ms()),
            now_ms=self.now_ms,
            seconds=self.clock.seconds,
            write_timeout=lambda: 30.0,
        )
        self.site = FrontDoor(
            Resource(),
            settings=HttpSettings(**http or {}),
            deadlines=self.broker.deadlines,
            render=lambda error: render(error, now_ms=self.now_ms()),
            reactor=self.clock,
            outgoing=Outgoing(self.clock.seconds),
            mount=Mount(PREFIX, self.devices.serve, self.devices.largest),
        )

    def set(self, **settings: Any) -> None:
        self.devices.settings = replace(self.devices.settings, **settings)

    def wants_cancel(self) -> None:
        """The device wants to hear of calls that nobody waits for."""
        device = self.session().device
        self.broker.device_changed(replace(device, additional_info={"rpcCancel": True}))

    def deadlines(self) -> int:
        """How many run."""
        return sum(map(len, self.broker.deadlines._slots.values()))

    def advance(self, seconds: float) -> None:
        """A little more than that: deadlines come up to 1/64 s late."""
        self.clock.advance(seconds + 0.02)

    def http_device(self) -> HttpDevice:
        """A new connection."""
        return HttpDevice(self)

    def poll(self, query: str = "", *, path: str = "rpc", token: str = TOKEN) -> HttpDevice:
        """A new connection with a poll that waits, or was answered."""
        device = HttpDevice(self)
        device.ask("GET", path + query, token=token)
        return device

    def stream(self, last: int | None = None, *, token: str = TOKEN) -> HttpDevice:
        """A new connection with an event stream."""
        device = HttpDevice(self)
        device.ask(
            "GET", "rpc", "Accept: text/event-stream", *([f"Last-Event-ID: {last}"] if last else []), token=token
        )
        return device

    def request(self, method: str, path: str, body: bytes | None = None, *headers: str, token: str = TOKEN) -> Answer:
        """The answer, which comes at once, over a connection of its own."""
        device = HttpDevice(self)
        device.ask(method, path, *headers, body=body, token=token)
        (answer,) = device.answers(bodies=method != "HEAD")
        return answer

    def begin(self, method: str = "m", **more: Any) -> Deferred[Any]:
        """A call to the device."""
        waiting = self.call(CallRequest(method=method, **more))
        waiting.addErrback(lambda failure: failure.value)
        return waiting


class HttpDevice(Caller):
    """One connection of a device."""

    def __init__(self, world: HttpWorld) -> None:
        super().__init__(world, IPv4Address("TCP", "192.0.2.1", 50_000))

    def ask(self, method: str, path: str, *headers: str, body: bytes | None = None, token: str = TOKEN) -> None:
        lines = [f"{method} /api/v1/{token}/{path} HTTP/1.1", "Host: x", *headers]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.channel.dataReceived("\r\n".join([*lines, "", ""]).encode() + (body or b""))

    def answers(self, *, bodies: bool = True) -> list[Answer]:
        found = answers(self.wire.value(), bodies=bodies)
        self.wire.clear()
        return found

    def calls(self) -> list[Any]:
        """What polls were given: all answers must be 200."""
        found = self.answers()
        assert all(answer.status == 200 for answer in found), found
        return [json.loads(answer.body) for answer in found]

    def events(self) -> list[tuple[str, int, Any]]:
        """Name, number and data of all events since the last time; the head must be there at first."""
        said = self.wire.value()
        self.wire.clear()
        if said.startswith(b"HTTP/"):
            head, _, said = said.partition(b"\r\n\r\n")
            assert b" 200 OK\r\n" in head, head
        found = []
        for block in said.decode().split("\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
            if "event" in fields:
                found.append((fields["event"], int(fields["id"]), json.loads(fields["data"])))
        return found
