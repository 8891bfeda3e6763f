"""Callers over HTTP and MQTT devices that answer them, on one epoll loop of this process: load that is not C.

For what is measured beside calls, and not for how many calls there can be: bench/rpc.py measures that. Devices are at
QoS 0, callers keep their connections.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import deque
from collections.abc import Callable

from broker import Broker

from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.codec import FrameReader, encode

DEVICES, CALLERS = 200, 64
REQUEST = "v1/devices/me/rpc/request/"
SILENCE = 30.0
"""Seconds without a single answer after which the broker has failed."""


def connect_device(broker: Broker, token: str, topic: str = REQUEST + "+") -> socket.socket:
    """A device that has subscribed, and read both answers."""
    device = socket.create_connection(broker.mqtt, timeout=SILENCE)
    device.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    subscribe = p.Subscribe(1, (p.Subscription(topic, 0),))
    device.sendall(encode(p.Connect(4, "", username=token), 4) + encode(subscribe, 4))
    wanted = 4 + 5
    while wanted:
        wanted -= len(received(device, wanted))
    return device


def received(connection: socket.socket, most: int) -> bytes:
    """What has come. Raises SystemExit if the broker closed the connection."""
    data = connection.recv(most)
    if not data:
        raise SystemExit("the broker closed a connection")
    return data


class Load:
    """Callers that each call one device after another, or at a given rate; and the devices that answer."""

    def __init__(self, broker: Broker, ids: list[str], devices: list[socket.socket]) -> None:
        self.selector = selectors.DefaultSelector()
        for device in devices:
            device.setblocking(False)
            self.selector.register(device, selectors.EVENT_READ, (self._device, FrameReader(1 << 20)))
        body = b'{"method":"get","params":{"pin":7}}'
        head = f"HTTP/1.1\r\nHost: b\r\nX-Authorization: Bearer {broker.token}\r\nContent-Length: {len(body)}\r\n\r\n"
        self.requests = [f"POST /api/rpc/twoway/{i} {head}".encode() + body for i in ids]
        self.callers = self.connect(broker, CALLERS, self._answered)
        self.turn = 0
        self.sent: dict[socket.socket, float] = {}
        self.idle: deque[socket.socket] = deque()
        self.latencies: list[float] = []
        self.errors = 0
        self.keep_going = False

    def connect(
        self, broker: Broker, count: int, heard: Callable[[socket.socket, None], object]
    ) -> list[socket.socket]:
        """New callers; `heard` is told when there is something to be read by one."""
        callers = []
        for _ in range(count):
            caller = socket.create_connection(broker.http)
            caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            caller.setblocking(False)
            self.selector.register(caller, selectors.EVENT_READ, (heard, None))
            callers.append(caller)
        return callers

    def _device(self, device: socket.socket, frames: FrameReader) -> None:
        frames.feed(received(device, 65536))
        out = []
        for _, frame in frames:
            size = int.from_bytes(frame[:2], "big")
            topic = b"v1/devices/me/rpc/response/" + frame[2 + len(REQUEST) : 2 + size]
            answer = len(topic).to_bytes(2, "big") + topic + b'{"7":true}'
            out.append(bytes((0x30, len(answer))) + answer)
        device.send(b"".join(out))

    def _answered(self, caller: socket.socket, _: None) -> None:
        answer = received(caller, 65536)
        if not answer.startswith(b"HTTP/1.1 200") or not answer.endswith(b'{"7":true}'):
            self.errors += 1
        self.latencies.append(time.perf_counter() - self.sent.pop(caller))
        if self.keep_going:
            self.call(caller)
        else:
            self.idle.append(caller)

    def call(self, caller: socket.socket) -> None:
        self.turn += 1
        self.sent[caller] = time.perf_counter()
        caller.send(self.requests[self.turn % len(self.requests)])

    def drain(self) -> None:
        """Wait for the answers that are missing. Raises SystemExit if none comes."""
        end, missing = time.perf_counter() + SILENCE, len(self.sent)
        while self.sent:
            self.poll(1)
            if len(self.sent) < missing:
                end, missing = time.perf_counter() + SILENCE, len(self.sent)
            elif time.perf_counter() > end:
                raise SystemExit(f"{missing} calls were not answered within {SILENCE:.0f} s")

    def poll(self, timeout: float) -> None:
        for key, _ in self.selector.select(timeout):
            action, argument = key.data
            action(key.fileobj, argument)

    def flat_out(self, seconds: float) -> None:
        self.keep_going = True
        for caller in self.callers:
            self.call(caller)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            self.poll(0.1)
        self.keep_going = False
        self.drain()

    def at_rate(self, rate: float, seconds: float) -> None:
        begin, number = time.perf_counter(), 0
        while (now := time.perf_counter()) - begin < seconds:
            while number < (now - begin) * rate and self.idle:
                self.call(self.idle.popleft())  # in turn: the broker closes those that are silent for long
                number += 1
            self.poll(0.0005)
        self.drain()
