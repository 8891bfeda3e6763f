"""Measures the broker on this machine and prints what it found, and on what.

    python bench/run.py [--seconds 10] [--idle 1000,10000]

The broker runs in a process of its own; the load comes from this one, over loopback: 200 MQTT devices
(QoS 0) and 64 keep-alive HTTP connections on one epoll loop. The share of a core that each of the two
used is printed: when the load's is near 100 % the load was the bottleneck, and the figure is a lower bound.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.codec import FrameReader, encode

PASSWORD = "benchmark-only"
DEVICES, CALLERS = 200, 64
REQUEST = "v1/devices/me/rpc/request/"


class Broker:
    """A broker with a fresh store."""

    def __init__(self, directory: str) -> None:
        self.state = Path(directory) / "state"
        environ = os.environ | {
            "RPCBROKER_HTTP_LISTEN": "tcp:0:interface=127.0.0.1",
            "RPCBROKER_MQTT_LISTEN": "tcp:0:interface=127.0.0.1",
            "RPCBROKER_ADMIN_EMAIL": "bench@localhost",
            "RPCBROKER_ADMIN_PASSWORD": PASSWORD,
            "RPCBROKER_MQTT_MAX_HANDSHAKES": "20000",
            "RPCBROKER_LOG_LEVEL": "warn",
        }
        started = time.perf_counter()
        twistd = str(Path(sys.executable).parent / "twistd")
        self.process = subprocess.Popen(
            [twistd, "-n", "--pidfile=", "rpcbroker", "--state-dir", str(self.state)],
            env=environ,
            stdout=subprocess.DEVNULL,
        )
        self._wait_until_it_accepts()
        self.start_seconds = time.perf_counter() - started

    def log_in(self) -> None:
        self.token = self.post("/api/auth/login", {"username": "bench@localhost", "password": PASSWORD})["token"]

    def _wait_until_it_accepts(self) -> None:
        path = self.state / "endpoints.json"
        while True:
            if self.process.poll() is not None:
                raise SystemExit("the broker did not start")
            try:
                endpoints = json.loads(path.read_text())
                host, port = endpoints["http"].removeprefix("http://").split(":")
                socket.create_connection((host, int(port))).close()
            except OSError:
                time.sleep(0.005)
                continue
            self.http = host, int(port)
            self.mqtt = host, int(endpoints["mqtt"].rsplit(":", 1)[1])
            self.token = ""
            return

    def post(self, path: str, body: Any) -> Any:
        request = urllib.request.Request(f"http://{self.http[0]}:{self.http[1]}{path}", json.dumps(body).encode())
        request.add_header("X-Authorization", f"Bearer {self.token}")
        with urllib.request.urlopen(request) as response:
            return json.loads(response.read())

    def rss_kb(self) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1])
        raise SystemExit("the broker is gone")

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


def connect_device(broker: Broker, token: str) -> socket.socket:
    """A device that has subscribed, and read both answers."""
    device = socket.create_connection(broker.mqtt)
    device.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    subscribe = p.Subscribe(1, (p.Subscription(REQUEST + "+", 0),))
    device.sendall(encode(p.Connect(4, "", username=token), 4) + encode(subscribe, 4))
    wanted = 4 + 5
    while wanted:
        wanted -= len(device.recv(wanted))
    return device


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
        self.idle: list[socket.socket] = []
        self.latencies: list[float] = []
        self.errors = 0
        self.keep_going = False

    def _device(self, device: socket.socket, frames: FrameReader) -> None:
        frames.feed(device.recv(65536))
        out = []
        for _, frame in frames:
            size = int.from_bytes(frame[:2], "big")
            topic = b"v1/devices/me/rpc/response/" + frame[2 + len(REQUEST) : 2 + size]
            answer = len(topic).to_bytes(2, "big") + topic + b'{"7":true}'
            out.append(bytes((0x30, len(answer))) + answer)
        device.send(b"".join(out))

    def _answered(self, caller: socket.socket, _: None) -> None:
        answer = caller.recv(65536)
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
        while self.sent:
            self.poll(1)

    def at_rate(self, rate: float, seconds: float) -> None:
        begin, number = time.perf_counter(), 0
        while (now := time.perf_counter()) - begin < seconds:
            while number < (now - begin) * rate and self.idle:
                self.call(self.idle.pop())
                number += 1
            self.poll(0.0005)
        while self.sent:
            self.poll(1)


def measured(broker: Broker, load: Load, name: str, run: Any) -> None:
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
        f"of the load {100 * (time.process_time() - mine) / took:.0f} %"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--idle", default="1000,10000")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("twisted", "klein", "msgspec"))
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}")
    with tempfile.TemporaryDirectory() as directory:
        for which in ("first start, with a new store", "later start"):
            broker = Broker(directory)
            print(f"{which}: accepts after {broker.start_seconds:.2f} s, {broker.rss_kb() / 1024:.0f} MB at rest")
            if which.startswith("first"):
                broker.stop()
        broker.log_in()
        ids, devices = [], []
        most = max(DEVICES, *(int(count) for count in options.idle.split(",")))
        for number in range(most):
            made = broker.post(f"/api/device?accessToken=B{number}", {"name": f"d{number}"})
            ids.append(made["id"]["id"])
        for number in range(DEVICES):
            devices.append(connect_device(broker, f"B{number}"))
        load = Load(broker, ids[:DEVICES], devices)
        measured(broker, load, "two-way RPC, warming up", lambda: load.flat_out(2))
        measured(broker, load, "two-way RPC, flat out", lambda: load.flat_out(options.seconds))
        measured(broker, load, "two-way RPC, at 300/s", lambda: load.at_rate(300, options.seconds))
        before, connected = broker.rss_kb(), DEVICES
        for count in sorted(int(text) for text in options.idle.split(",")):
            begin = time.perf_counter()
            for number in range(connected, count):
                devices.append(connect_device(broker, f"B{number}"))
            took, added = time.perf_counter() - begin, count - connected
            connected = count
            each = (broker.rss_kb() - before) / (count - DEVICES)
            print(f"{count:,} idle MQTT devices: {each:.1f} KB each; connected at {added / took:,.0f}/s")
        broker.stop()


if __name__ == "__main__":
    main()
