"""Where the time of a two-way call goes inside the broker: whole calls in one process, without sockets and a kernel.

    python bench/inside_call.py [--calls 1000]

The service runs as it does under twistd, with its rights, audit log, time lines and metrics, on 200 devices over MQTT.
What a caller and a device would send is handed to the protocols as bytes, and what they write is read there. First the
time of the reactor's thread for a call, as it is; then, with a profiler on, how many functions a call calls, and in
which part of the program they take how much of it.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import pstats
import sysconfig
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

from broker import Broker, provision
from child import machine, prepare
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread

import rpcbroker
from rpcbroker import config
from rpcbroker.service import BrokerService
from rpcbroker.tap import LOOKS_FOR_CYCLES
from rpcbroker.wire.mqtt import packets
from rpcbroker.wire.mqtt.codec import encode

DEVICES, ROUNDS = 200, 12
REQUEST, REPLY = b'{"method":"get","params":{"pin":7}}', b'{"7":true}'
ASKED, ANSWERED = b"v1/devices/me/rpc/request/", b"v1/devices/me/rpc/response/"
ROOT = str(Path(rpcbroker.__file__).parent) + "/"
reactor: Any = _reactor


class Transport(StringTransport):
    """Keeps what was written last."""

    last = b""

    def write(self, data: bytes) -> None:
        self.last = data

    def resumeProducing(self) -> None:
        """As real ones: nothing more, once it is being closed."""


def connect(factory: Any) -> tuple[Any, Transport]:
    """A protocol of the factory, and where it writes."""
    transport = Transport()
    protocol = factory.buildProtocol(transport.getPeer())
    protocol.makeConnection(transport)
    return protocol, transport


class Calls:
    """One caller, who calls one device after another."""

    def __init__(self, service: Any, ids: list[str]) -> None:
        self._devices = []
        for number in range(DEVICES):
            device, written = connect(service._mqtt_factory)
            subscription = packets.Subscription(ASKED.decode() + "+", 0)
            hello = packets.Connect(4, f"bench-{number}", username=f"B{number}")
            device.dataReceived(encode(hello, 4) + encode(packets.Subscribe(1, (subscription,)), 4))
            self._devices.append((device, written))
        self._caller, self._answers = connect(service._door)
        self._ids = ids
        self._requests: list[bytes] = []

    def log_in(self, token: str) -> None:
        """Call with this token."""
        head = f"HTTP/1.1\r\nHost: b\r\nX-Authorization: Bearer {token}\r\nContent-Length: {len(REQUEST)}\r\n\r\n"
        self._requests = [f"POST /api/rpc/twoway/{each} {head}".encode() + REQUEST for each in self._ids]

    def make(self, number: int) -> None:
        """So many calls. Raises SystemExit if one is answered wrongly."""
        for each in range(number):
            device, written = self._devices[each % DEVICES]
            self._caller.dataReceived(self._requests[each % DEVICES])
            packet = written.last
            topic = packet[4 : 4 + packet[3]].replace(ASKED, ANSWERED)
            device.dataReceived(bytes((0x30, 2 + len(topic) + len(REPLY), 0, len(topic))) + topic + REPLY)
            if not self._answers.last.endswith(REPLY):
                raise SystemExit(f"a call was answered with {self._answers.last!r}")


def part(place: str) -> str:
    """The part of the program that a file belongs to."""
    if place.startswith(ROOT):
        return place[len(ROOT) :].rpartition("/")[0] or "rpcbroker"
    if "/site-packages/" in place:
        return place.rpartition("/site-packages/")[2].partition("/")[0]
    return "built in" if place == "~" else "standard library" if place.startswith(sysconfig.get_path("stdlib")) else ""


def tell(calls: Calls, number: int) -> None:
    """Measure, and print it."""
    calls.make(number)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*LOOKS_FOR_CYCLES)
    times = [seconds(calls, number) * 1e6 / number for _ in range(ROUNDS)]
    print(f"{min(times):.1f} us a call at best, {median(times):.1f} in the median of {ROUNDS} times {number:,}")
    profile = cProfile.Profile()
    profile.runcall(calls.make, number)
    found: Any = pstats.Stats(profile)
    print(f"{found.total_calls / number:.0f} calls of functions, which take of it:")
    parts: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for (place, _, name), (_, _, taken, *_) in found.stats.items():
        parts[part(place)] += taken
        functions[name] += taken if part(place) else 0
    del parts[""]  # this program
    whole = parts.total()
    for name, taken in parts.most_common():
        if taken >= 0.01 * whole:
            print(f"  {name:24} {100 * taken / whole:3.0f} %")
    name, taken = functions.most_common(1)[0]
    print(f"most of it in one function: {100 * taken / whole:.0f} %, {name}")


def seconds(calls: Calls, number: int) -> float:
    """The CPU time of this thread for so many calls."""
    began = time.thread_time()
    calls.make(number)
    return time.thread_time() - began


async def run(service: BrokerService, wanted: Broker, ids: list[str], number: int) -> None:
    """From the start of the service to the end of the measurement."""
    service.startService()
    try:
        while not service._listeners.urls.get("http"):
            await deferLater(reactor, 0.1)
        calls = Calls(service, ids)
        wanted.http = "127.0.0.1", int(service._listeners.urls["http"].rpartition(":")[2])
        await deferToThread(wanted.log_in)
        calls.log_in(wanted.token)
        await deferLater(reactor, 1)  # devices log in through the store
        tell(calls, number)
    finally:
        await service.stopService()


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1_000)
    number = parser.parse_args().calls
    prepare()
    print(machine())
    with tempfile.TemporaryDirectory() as directory:
        broker = Broker(Path(directory))
        broker.stop()
        ids = provision(broker.state, DEVICES)
        service = BrokerService(
            config.load(None, broker.environ).settings,
            state_dir=broker.state,
            directory=Path(directory),
            environ=broker.environ,
            reactor=reactor,
            announce=lambda text: None,
        )
        failures: list[Any] = []

        def begin() -> None:
            running = Deferred.fromCoroutine(run(service, broker, ids, number))
            running.addErrback(failures.append).addBoth(lambda _: reactor.stop())

        reactor.callWhenRunning(begin)
        reactor.run()
    if failures:
        failures[0].raiseException()


if __name__ == "__main__":
    main()
