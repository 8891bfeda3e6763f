"""Measures what those who watch cost those who call, in interleaved rounds without and with watchers.

    python bench/feed.py [--seconds 10] [--rounds 3] [--only own,all,stalled] [--check]

* own: 1,000 watchers, each of its own device, 100 of which read nothing, at 100 calls a second.
* all: 20 watchers of everything, at 300 calls a second.
* stalled: 20 of everything that read nothing, at 300 calls a second.

The broker runs in a process of its own; callers, MQTT devices (QoS 0) and watchers (WAMP, JSON over WebSocket) are on
one epoll loop of this one, over loopback. The share of a core that each of the two used is printed: when the load's is
near 100 % the load was the bottleneck. Memory is that of the broker after each round with watchers, who have left.
With --check the exit code is 1 if p99 or memory have grown by more than is wanted.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

from aims import Aim
from broker import Broker, provision
from child import machine, prepare, progress
from python_load import Load, connect_device
from watchers import Watcher, Watchers

DEVICES = 1_000
STALLED = 100
GROWTH = 10 << 10
"""KB by which memory may grow in the second half of the rounds."""


class Found(NamedTuple):
    """Of one round: milliseconds, and shares of a core."""

    p50: float
    p99: float
    errors: int
    broker: float
    load: float
    events: float
    """That came to watchers, a second."""


@dataclass(frozen=True)
class Scene:
    """`wanted` is the most that the p99 with watchers may be, in parts of that without."""

    title: str
    rate: int
    wanted: float
    watchers: Callable[[Bench], Watchers]


class Bench:
    """A broker with devices, and callers."""

    def __init__(self, directory: Path, **settings: str) -> None:
        first = Broker(directory)
        first.stop()
        self.ids = provision(first.state, DEVICES)
        self.broker = Broker(directory, RPCBROKER_HTTP_MAX_CONNECTIONS="20000", **settings)
        self.broker.log_in()
        self.load = Load(
            self.broker, self.ids, [connect_device(self.broker, f"B{number}") for number in range(DEVICES)]
        )
        self.load.flat_out(1)

    def own(self) -> Watchers:
        """One for each device."""
        step = DEVICES // STALLED
        ids = [*self.ids[::step], *(one for number, one in enumerate(self.ids) if number % step)]
        watchers = [Watcher(self.broker, f"rpcbroker.call.{one}.", "prefix") for one in ids]
        return Watchers(self.load.selector, watchers, stalled=STALLED)

    def all(self) -> Watchers:
        """Of everything."""
        return Watchers(self.load.selector, [Watcher(self.broker, "rpcbroker.", "prefix") for _ in range(20)])

    def stalled(self) -> Watchers:
        """Of everything, and they read nothing."""
        watchers = [Watcher(self.broker, "rpcbroker.", "prefix") for _ in range(20)]
        return Watchers(self.load.selector, watchers, stalled=len(watchers))

    def run(self, rate: int, seconds: float, watchers: Watchers | None = None) -> Found:
        """Calls at this rate."""
        load = self.load
        load.latencies.clear()
        load.errors = 0
        cpu, mine, began = self.broker.cpu_seconds(), time.process_time(), time.perf_counter()
        before = watchers.events if watchers else 0
        load.at_rate(rate, seconds)
        took = time.perf_counter() - began
        ordered = sorted(load.latencies)
        p50, p99 = (1000 * ordered[int(len(ordered) * share)] for share in (0.5, 0.99))
        return Found(
            p50,
            p99,
            load.errors,
            (self.broker.cpu_seconds() - cpu) / took,
            (time.process_time() - mine) / took,
            (watchers.events - before) / took if watchers else 0,
        )


SCENES = {
    "own": Scene(f"{DEVICES:,} watchers, each of its own device, {STALLED} of them stalled", 100, 1.2, Bench.own),
    "all": Scene("20 watchers of everything", 300, 1.5, Bench.all),
    "stalled": Scene("20 watchers of everything, all of them stalled", 300, 1.5, Bench.stalled),
}


def measure(bench: Bench, scene: Scene, *, rounds: int, seconds: float, warm_up: float = 1.0) -> bool:
    """Print what was found. Whether it is as is wanted."""
    without, with_, memory = [], [], []
    for number in range(rounds):
        progress(f"{scene.title}: round {number + 1} of {rounds}")
        bench.run(scene.rate, warm_up)
        without.append(bench.run(scene.rate, seconds))
        watchers = scene.watchers(bench)
        bench.run(scene.rate, warm_up, watchers)
        with_.append(bench.run(scene.rate, seconds, watchers))
        watchers.close()
        memory.append(bench.broker.rss_kb())
    print(f"{scene.title}, {scene.rate} calls/s:")
    for name, found in (("without", without), ("with", with_)):
        p50, p99, errors, broker, load, events = (median(each) for each in zip(*found, strict=True))
        print(
            f"  {name:8} p50 {p50:.1f} ms, p99 {p99:.1f} ms ({min(f.p99 for f in found):.1f} to "
            f"{max(f.p99 for f in found):.1f}), {errors:.0f} errors, {events:,.0f} events/s; "
            f"broker {broker:.2f} core, load {load:.2f} core"
        )
    ratio = median(each.p99 for each in with_) / median(each.p99 for each in without)
    grown = ", ".join(f"{kb / 1024:.0f}" for kb in memory)
    aim = Aim(scene.wanted, figure="p99", of="without", most=True)
    print(f"  memory {grown} MB\n  {aim.tell(ratio)}", flush=True)
    errors = sum(each.errors for each in (*without, *with_))
    return not errors and ratio <= scene.wanted and memory[-1] <= memory[rounds // 2] + GROWTH


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(SCENES), help="of " + ", ".join(SCENES))
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    chosen = options.only.split(",")
    if unknown := {*chosen} - {*SCENES}:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    prepare()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        bench = Bench(Path(directory))
        good = [measure(bench, SCENES[key], rounds=options.rounds, seconds=options.seconds) for key in chosen]
        bench.broker.stop()
    return int(options.check and not all(good))


if __name__ == "__main__":
    sys.exit(main())
