"""Measures the broker on this machine and prints what it found, and on what.

    python bench/run.py [--seconds 10] [--idle 1000,10000]

The broker runs in a process of its own; the load comes from this one, over loopback: 200 MQTT devices
(QoS 0) and 64 keep-alive HTTP connections on one epoll loop. The share of a core that each of the two
used is printed: when the load's is near 100 % the load was the bottleneck, and the figure is a lower bound.
"""

from __future__ import annotations

import argparse
import selectors
import socket
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

from broker import Broker, provision
from child import machine, prepare, progress

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
        self.callers = []
        for _ in range(CALLERS):
            caller = socket.create_connection(broker.http)
            caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            caller.setblocking(False)
            self.selector.register(caller, selectors.EVENT_READ, (self._answered, None))
            self.callers.append(caller)
        self.turn = 0
        self.sent: dict[socket.socket, float] = {}
        self.idle: deque[socket.socket] = deque()
        self.latencies: list[float] = []
        self.errors = 0
        self.keep_going = False

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


def measured(broker: Broker, load: Load, name: str, run: Any) -> None:
    progress(name)
    load.latencies.clear()
    load.errors = 0
    cpu, mine, begin = broker.cpu_seconds(), time.process_time(), time.perf_counter()
    run()
    took = time.perf_counter() - begin
    ordered = sorted(load.latencies)
    p50, p99 = (1000 * ordered[int(len(ordered) * share)] for share in (0.5, 0.99))
    print(
        f"{name}: {len(ordered) / took:,.0f} calls/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms, {load.errors} errors; "
        f"CPU of the broker {100 * (broker.cpu_seconds() - cpu) / took:.0f} %, "
        f"of the load {100 * (time.process_time() - mine) / took:.0f} %",
        flush=True,
    )


def at_rest(broker: Broker) -> str:
    return f"accepts after {broker.start_seconds:.2f} s, {broker.rss_kb() / 1024:.0f} MB at rest"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--idle", default="1000,10000")
    options = parser.parse_args()
    prepare()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        counts = sorted(int(text) for text in options.idle.split(","))
        broker = Broker(Path(directory))
        print(f"first start, with a new store: {at_rest(broker)}")
        broker.stop()
        ids = provision(broker.state, max(DEVICES, *counts))
        broker = Broker(Path(directory))
        print(f"later start: {at_rest(broker)}", flush=True)
        broker.log_in()
        devices = [connect_device(broker, f"B{number}") for number in range(DEVICES)]
        load = Load(broker, ids[:DEVICES], devices)
        measured(broker, load, "two-way RPC, warming up", lambda: load.flat_out(2))
        measured(broker, load, "two-way RPC, flat out", lambda: load.flat_out(options.seconds))
        measured(broker, load, "two-way RPC, at 300/s", lambda: load.at_rate(300, options.seconds))
        before, connected = broker.rss_kb(), DEVICES
        for count in counts:
            progress(f"{count:,} idle devices")
            begin = time.perf_counter()
            for number in range(connected, count):
                devices.append(connect_device(broker, f"B{number}"))
            took, added = time.perf_counter() - begin, count - connected
            connected = count
            each = (broker.rss_kb() - before) / (count - DEVICES)
            print(f"{count:,} idle MQTT devices: {each:.1f} KB each; connected at {added / took:,.0f}/s", flush=True)
        broker.stop()


if __name__ == "__main__":
    main()
