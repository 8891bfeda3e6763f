"""Measures persistent two-way calls, and what they cost the others; prints medians of interleaved rounds.

    python bench/persistent.py [--seconds 5] [--rounds 5] [--persistent 1000] [--no-latency] [--no-throughput]

A persistent call is two durable writes: that it was accepted, and how it ended. In every round there are, each on a
new store with fsync and OUTSTANDING of them at once:

* inserts: rows of the same table, written one by one through the store's writer, which commits together what waits;
* Broker.call in one process, with a link that answers at once: no HTTP, no MQTT. A call counts when its end is durable;
* the whole path: HTTP callers, the broker in a process of its own, MQTT devices that answer at QoS 1. A call counts
  when the broker has acknowledged the answer, which it does when the end is durable.

Then: the latency of lightweight calls at 300/s, alone and while 1,000 persistent calls/s come in, in turn. All
callers and devices are in one process, whose share of a core is printed: near 100 % it was the limit.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from statistics import median

from aims import Aim
from broker import Broker, provision
from child import machine, prepare, progress
from python_load import DEVICES, REQUEST, Load, connect_device, received

from rpcbroker.wire.mqtt.codec import FrameReader

OUTSTANDING = 256
LIGHTWEIGHT, PERSISTENT = 300, 1_000
WARM_UP = 1.0


class PersistentLoad(Load):
    """Callers of persistent calls, and lightweight ones beside. Devices answer at QoS 1."""

    def __init__(self, broker: Broker, ids: list[str], devices: list[socket.socket]) -> None:
        super().__init__(broker, ids, devices)
        body = b'{"method":"get","params":{"pin":7},"persistent":true,"timeout":60000}'
        head = f"HTTP/1.1\r\nHost: b\r\nX-Authorization: Bearer {broker.token}\r\nContent-Length: {len(body)}\r\n\r\n"
        self.persistent = [f"POST /api/rpc/twoway/{i} {head}".encode() + body for i in ids]
        self.ready = deque(self.connect(broker, OUTSTANDING, self._accepted))
        self.accepted = self.ended = 0
        self.go_on = False

    def _device(self, device: socket.socket, frames: FrameReader) -> None:
        frames.feed(received(device, 65536))
        out = []
        for first, frame in frames:
            if first == 0x40:
                self.ended += 1
                continue
            size = int.from_bytes(frame[:2], "big")
            number = frame[2 + len(REQUEST) : 2 + size]
            topic = b"v1/devices/me/rpc/response/" + number
            packet_id = 1 + int(number) % 65_535
            answer = len(topic).to_bytes(2, "big") + topic + packet_id.to_bytes(2, "big") + b'{"7":true}'
            out.append(bytes((0x32, len(answer))) + answer)
        if out:
            device.send(b"".join(out))

    def _accepted(self, caller: socket.socket, _: None) -> None:
        answer = received(caller, 65536)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"a persistent call was refused: {answer.decode(errors='replace')}")
        self.accepted += 1
        if self.go_on:
            self.submit(caller)
        else:
            self.ready.append(caller)

    def submit(self, caller: socket.socket) -> None:
        self.turn += 1
        caller.send(self.persistent[self.turn % len(self.persistent)])

    def persist(self, seconds: float) -> float:
        """Calls that ended in a second, when callers wait only until they are accepted."""
        self.go_on = True
        while self.ready:
            self.submit(self.ready.popleft())
        self._poll_for(WARM_UP)
        begin, before = time.perf_counter(), self.ended
        self._poll_for(seconds)
        rate = (self.ended - before) / (time.perf_counter() - begin)
        self.go_on = False
        self.finish()
        return rate

    def _poll_for(self, seconds: float) -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            self.poll(0.05)

    def finish(self) -> None:
        """Wait for what is under way. Raises SystemExit if it does not end."""
        end = time.perf_counter() + 60
        while len(self.ready) < OUTSTANDING or self.sent:
            self.poll(0.05)
            if time.perf_counter() > end:
                raise SystemExit("persistent calls were not accepted within 60 s")

    def both(self, seconds: float, persistent: float) -> float:
        """Lightweight calls at LIGHTWEIGHT/s and persistent ones at this rate; accepted persistent ones/s."""
        begin, light, heavy, before = time.perf_counter(), 0, 0, self.accepted
        self.idle = self.idle or deque(self.callers)
        while (now := time.perf_counter()) - begin < seconds:
            while light < (now - begin) * LIGHTWEIGHT and self.idle:
                self.call(self.idle.popleft())
                light += 1
            while heavy < (now - begin) * persistent and self.ready:
                self.submit(self.ready.popleft())
                heavy += 1
            self.poll(0.0005)
        accepted = (self.accepted - before) / (time.perf_counter() - begin)
        self.finish()
        return accepted


class Whole:
    """A broker in its process, its devices and the load."""

    def __init__(self, directory: Path) -> None:
        first = Broker(directory)
        first.stop()
        ids = provision(first.state, DEVICES)
        self.broker = Broker(directory)
        self.broker.log_in()
        devices = [connect_device(self.broker, f"B{number}") for number in range(DEVICES)]
        self.load = PersistentLoad(self.broker, ids, devices)

    def persist(self, seconds: float) -> tuple[float, str]:
        """Calls/s, and shares of a core."""
        cpu, mine, begin = self.broker.cpu_seconds(), time.process_time(), time.perf_counter()
        rate = self.load.persist(seconds)
        took = time.perf_counter() - begin
        return rate, _shares(self.broker.cpu_seconds() - cpu, time.process_time() - mine, took)

    def latency(self, seconds: float, persistent: float) -> tuple[float, float, float, str]:
        """p50 and p99 of lightweight calls in ms, persistent calls/s, shares of a core."""
        self.load.latencies.clear()
        self.load.errors = 0
        cpu, mine, begin = self.broker.cpu_seconds(), time.process_time(), time.perf_counter()
        accepted = self.load.both(seconds, persistent)
        took = time.perf_counter() - begin
        if self.load.errors:
            raise SystemExit(f"{self.load.errors} lightweight calls failed")
        ordered = sorted(self.load.latencies)
        p50, p99 = (1000 * ordered[int(len(ordered) * share)] for share in (0.5, 0.99))
        return p50, p99, accepted, _shares(self.broker.cpu_seconds() - cpu, time.process_time() - mine, took)


def _shares(broker: float, load: float, took: float) -> str:
    return f"CPU of the broker {100 * broker / took:.0f} %, of the load {100 * load / took:.0f} %"


# -- in one process


def inside(what: str, seconds: float, directory: str) -> None:
    """Run in a process of its own: prints operations/s of a store in this directory."""
    import inside_store  # noqa: PLC0415 - it installs the reactor

    print(inside_store.measure(what, seconds=seconds, warm_up=WARM_UP, outstanding=OUTSTANDING, directory=directory))


def run_inside(what: str, seconds: float) -> float:
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, __file__, "--inside", what, "--seconds", str(seconds), "--directory", directory]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout)


def throughput(seconds: float, rounds: int) -> None:
    found: dict[str, list[float]] = {"inserts": [], "Broker.call": [], "HTTP to MQTT": []}
    shares = ""
    for number in range(rounds):
        progress(f"throughput: round {number + 1} of {rounds}")
        found["inserts"].append(run_inside("inserts", seconds))
        found["Broker.call"].append(run_inside("calls", seconds))
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
            whole = Whole(Path(directory))
            rate, shares = whole.persist(seconds)
            found["HTTP to MQTT"].append(rate)
            whole.broker.stop()
    plain = median(found["inserts"])
    for name, rates in found.items():
        middle = median(rates)
        print(f"{name}: {middle:,.0f}/s ({min(rates):,.0f} to {max(rates):,.0f}), {middle / plain:.2f} of the inserts")
    print(f"HTTP to MQTT, last round: {shares}")
    for way in ("Broker.call", "HTTP to MQTT"):
        print(
            f"persistent two-way calls, {way}:\n  {Aim(0.5, of='inserts').tell(median(found[way]) / plain)}", flush=True
        )


def latency(seconds: float, rounds: int, persistent: int) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        whole = Whole(Path(directory))
        whole.latency(2, 0)
        whole.latency(2, persistent)
        found: dict[int, list[tuple[float, float, float, str]]] = {0: [], persistent: []}
        for number in range(rounds):
            progress(f"latency: round {number + 1} of {rounds}")
            for rate, results in found.items():
                results.append(whole.latency(seconds, rate))
        for rate, results in found.items():
            p50, p99, accepted = (median(result[index] for result in results) for index in range(3))
            print(
                f"lightweight calls at {LIGHTWEIGHT}/s beside {rate:,} persistent ones/s ({accepted:,.0f} accepted): "
                f"p50 {p50:.1f} ms, p99 {p99:.1f} ms; {results[-1][3]}"
            )
        ratio = median(r[1] for r in found[persistent]) / median(r[1] for r in found[0])
        aim = Aim(1.5, figure="p99", of="without", most=True)
        print(f"lightweight calls beside persistent ones:\n  {aim.tell(ratio)}", flush=True)
        whole.broker.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--persistent", type=int, default=PERSISTENT, help="calls/s beside the lightweight ones")
    parser.add_argument("--no-latency", action="store_true")
    parser.add_argument("--no-throughput", action="store_true")
    parser.add_argument("--inside", choices=("inserts", "calls"), help=argparse.SUPPRESS)
    parser.add_argument("--directory", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        inside(options.inside, options.seconds, options.directory)
        return
    prepare()
    print(machine(), flush=True)
    if not options.no_throughput:
        throughput(options.seconds, options.rounds)
    if not options.no_latency:
        latency(options.seconds, options.rounds, options.persistent)


if __name__ == "__main__":
    main()
