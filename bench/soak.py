"""Runs a broker under a load that stays the same, and looks whether anything of it grows: exit code 1 if so.

    python bench/soak.py [--minutes 60] [--share 0.5]

How fast the load must be so that the broker takes this share of a core is measured first; then that rate is held.
With each two-way call (HTTP to MQTT and back) one value of a device comes in at QoS 1; fifty calls later a device
connects, and the oldest of twenty that came so leaves, every other one without a word. Two sessions watch everything
over WAMP; a third comes and goes with each look. Every half minute it is read from /proc and /metrics what there is.
What grows is told by medians: the last quarter of the time against the second, for the first fills what has a bound.
"""

from __future__ import annotations

import argparse
import os
import re
import selectors
import socket
import sys
import tempfile
import time
import urllib.request
from collections import deque
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

from beside import Beside
from broker import Broker, provision
from child import machine, prepare, progress
from python_load import DEVICES, REQUEST, Load, connect_device, received
from watchers import Watcher, Watchers

from rpcbroker.wire.mqtt.codec import FrameReader

GUESTS, CALLS_BETWEEN = 20, 50
"""Devices that come and go, and how many calls there are between two of them."""
LOOK = 30.0
"""Seconds between two looks."""
BEAT = 10.0
"""Seconds between two signs of life of those who watch."""
FIRST_RATE, MEASURED = 100.0, 10.0
"""Calls a second from which the rate is found, and the seconds that this takes."""
PUBACK, DISCONNECT = 0x40, b"\xe0\x00"


class Kind(NamedTuple):
    """Something that must not grow: by no more than this share, and so many more."""

    read: str
    share: float
    more: float


KINDS = {
    "MB": Kind("", 0.01, 1),
    "files": Kind("", 0, 4),
    "timers": Kind("rpcbroker_timers", 0, 4),
    "deadlines": Kind("rpcbroker_deadlines", 0.05, 10),
    "calls pending": Kind("rpcbroker_calls_pending", 0, 10),
    "results": Kind("rpcbroker_call_results_remembered", 0, 4),
    "MQTT connections": Kind("rpcbroker_mqtt_connections", 0, 4),
    "sessions": Kind("rpcbroker_mqtt_sessions", 0, 4),
    "HTTP connections": Kind("rpcbroker_http_connections", 0, 4),
    "WAMP": Kind("rpcbroker_wamp_sessions", 0, 2),
    "watchers": Kind("rpcbroker_feed_watchers", 0, 2),
    "store queue": Kind("rpcbroker_store_queue", 0, 100),
    "values waiting": Kind("rpcbroker_telemetry_waiting_bytes", 0, 100_000),
}
"""What is looked at, and the metric that it is, if it is one."""


class SoakLoad(Load):
    """Calls, values and guests, at a rate."""

    def __init__(self, broker: Broker, ids: list[str]) -> None:
        self.devices = [connect_device(broker, f"B{number}") for number in range(DEVICES)]
        super().__init__(broker, ids[:DEVICES], self.devices)
        self.broker = broker
        self.idle.extend(self.callers)
        self.calls = self.came = self.acknowledged = 0
        self.guests: deque[socket.socket] = deque()

    def _device(self, device: socket.socket, frames: FrameReader) -> None:
        frames.feed(received(device, 65536))
        out = []
        for first, frame in frames:
            if first == PUBACK:
                self.acknowledged += 1
                continue
            topic = frame[2 : 2 + int.from_bytes(frame[:2], "big")]
            answer = b"v1/devices/me/rpc/response/" + topic[len(REQUEST) :]
            out.append(_publish(0x30, answer, b"", b'{"7":true}'))
        if out:
            device.send(b"".join(out))

    def hold(self, rate: float, seconds: float) -> None:
        """So many calls a second, and what goes with them."""
        begin, number = time.perf_counter(), 0
        while (now := time.perf_counter()) - begin < seconds:
            while number < (now - begin) * rate and self.idle:
                self._beat()
                number += 1
            self.poll(0.002)

    def _beat(self) -> None:
        self.call(self.idle.popleft())
        self.calls += 1
        value = b'{"temperature":%d.5}' % self.calls
        packet_id = (1 + self.calls % 65_535).to_bytes(2, "big")
        self.devices[self.calls % DEVICES].send(_publish(0x32, b"v1/devices/me/telemetry", packet_id, value))
        if self.calls % CALLS_BETWEEN == 0:
            self._guest()

    def _guest(self) -> None:
        """One comes, and one leaves."""
        guest = connect_device(self.broker, f"B{DEVICES + self.came % (2 * GUESTS)}")
        guest.setblocking(False)
        self.selector.register(guest, selectors.EVENT_READ, (self._device, FrameReader(1 << 20)))
        self.guests.append(guest)
        self.came += 1
        if len(self.guests) > GUESTS:
            leaves = self.guests.popleft()
            self.selector.unregister(leaves)
            if self.came % 2:
                leaves.send(DISCONNECT)
            leaves.close()


def _publish(first: int, topic: bytes, packet_id: bytes, payload: bytes) -> bytes:
    body = len(topic).to_bytes(2, "big") + topic + packet_id + payload
    return bytes((first, len(body))) + body


def rate_for(load: SoakLoad, share: float, watching: Watchers) -> float:
    """Calls a second for which the broker takes this share of a core, and these watch."""
    rate = FIRST_RATE
    for _ in range(2):
        before, begin = load.broker.cpu_seconds(), time.perf_counter()
        load.hold(rate, MEASURED)
        taken = (load.broker.cpu_seconds() - before) / (time.perf_counter() - begin)
        rate *= share / taken
        for each in watching.all:
            each.beat()
    return rate


def look(broker: Broker) -> dict[str, float]:
    """What there is of each kind."""
    with urllib.request.urlopen(f"http://{broker.http[0]}:{broker.http[1]}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    found = {
        "MB": broker.rss_kb() / 1024,
        "files": len(os.listdir(f"/proc/{broker.process.pid}/fd")),
    }
    for name, kind in KINDS.items():
        if kind.read:
            (number,) = re.findall(rf"^{kind.read} (\S+)$", text, re.MULTILINE)
            found[name] = float(number)
    return found


def grown(looks: list[dict[str, float]]) -> dict[str, tuple[float, float]]:
    """What has grown: its medians in the second quarter of the looks, and in the last."""
    quarter = len(looks) // 4
    result = {}
    for name, kind in KINDS.items():
        second, last = (
            median(each[name] for each in some) for some in (looks[quarter : 2 * quarter], looks[-quarter:])
        )
        if last > second * (1 + kind.share) + kind.more:
            result[name] = second, last
    return result


def soak(
    load: SoakLoad, rate: float, minutes: float, watching: Watchers, watcher: Callable[[], Watcher]
) -> list[dict[str, float]]:
    """All looks. `watcher` makes one that comes and goes. Raises SystemExit when a call fails."""
    looks = []
    for number in range(round(minutes * 60 / LOOK)):
        passing = Watchers(load.selector, [watcher()])
        load.latencies.clear()
        before, begin, calls = load.broker.cpu_seconds(), time.perf_counter(), load.calls
        with Beside() as beside:
            for _ in range(round(LOOK / BEAT)):
                load.hold(rate, BEAT)
                for each in watching.all:
                    each.beat()
        took = time.perf_counter() - begin
        share = (load.broker.cpu_seconds() - before) / took
        looks.append(look(load.broker))
        passing.close()
        ordered = sorted(load.latencies)
        p50, p99 = (1000 * ordered[int(len(ordered) * part)] for part in (0.5, 0.99))
        print(
            f"{(number + 1) * LOOK / 60:5.1f} min: {(load.calls - calls) / took:.0f} calls/s, "
            f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, broker {share:.2f} core, others {beside.share:.2f} core; "
            + ", ".join(f"{name} {value:.{int(name == 'MB')}f}" for name, value in looks[-1].items()),
            flush=True,
        )
        if load.errors:
            raise SystemExit(f"{load.errors} calls failed")
    return looks


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="at least 4")
    parser.add_argument("--share", type=float, default=0.5, help="of a core, that the broker takes")
    options = parser.parse_args()
    if options.minutes < 4:
        parser.error("in less than 4 minutes nothing is seen to grow")
    prepare()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        first = Broker(Path(directory))
        first.stop()
        ids = provision(first.state, DEVICES + 2 * GUESTS)
        broker = Broker(Path(directory))
        broker.log_in()
        load = SoakLoad(broker, ids)

        def watcher() -> Watcher:
            broker.log_in()
            return Watcher(broker, "rpcbroker.", "prefix")

        watching = Watchers(load.selector, [watcher() for _ in range(2)])
        progress("how fast the load must be")
        rate = rate_for(load, options.share, watching)
        print(f"{rate:.0f} calls/s take {options.share:g} core, held for {options.minutes:g} minutes", flush=True)
        looks = soak(load, rate, options.minutes, watching, watcher)
        load.drain()
        print(f"{load.calls:,} calls, {load.acknowledged:,} values, {load.came:,} devices came")
        broker.stop()
    changes = grown(looks)
    for name, (second, last) in changes.items():
        print(f"{name}: GROWN from {second:,.1f} in the second quarter to {last:,.1f} in the last")
    if not changes:
        print("nothing has grown")
    return int(bool(changes))


if __name__ == "__main__":
    sys.exit(main())
