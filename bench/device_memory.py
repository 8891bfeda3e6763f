"""What the memory of idle MQTT devices is made of, if they came one by one and if they came many at once.

    python bench/device_memory.py [--devices 10000]

All of them were there before, when the broker ran the last time. Each way has a fresh process of the broker, which is
bench/telling_memory.py. A first hundred connect, and go, so that code and caches are there; what they leave behind is
told apart. Then the devices connect and subscribe to their calls. The line says by how much of each part a device has
made it grow: of Python's small objects what is used and what is free in their arenas, the same of malloc, and what
remains of the resident set, as stacks and pages of files. Last, by how much the resident set has grown for each when
garbage was collected and malloc has given back what it could.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from broker import Broker
from child import Child, machine, prepare, progress
from rounds import Bench

FIRST = 100
SETTLE = 1.5
"""Seconds until memory is looked at: by then what is written behind is written."""
FILTER = "v1/devices/me/rpc/request/+"
WAYS = {"one by one": 1, "64 at once": 64}


def connect(bench: Bench, broker: Broker, count: int, at_once: int) -> Child:
    """So many devices, which stay until the load's stdin is closed. Raises SystemExit."""
    command = [bench.load, "connect", *map(str, (broker.mqtt[1], broker.pid, count, at_once)), FILTER]
    load = Child("load", command, bench.directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    if not (load.process.stdout.readline() and load.process.stdout.readline()):
        raise load.failure("did not connect:")
    time.sleep(SETTLE)
    return load


def part(load: Child) -> None:
    """End it, and its devices with it."""
    load.process.stdin.close()
    load.process.wait(20)
    load.process.stdout.close()


def look(broker: Broker, told: Path, asked: signal.Signals = signal.SIGUSR2) -> dict[str, int]:
    """What it is made of; with SIGUSR1, without what need not be there."""
    told.unlink(missing_ok=True)
    broker.process.send_signal(asked)

    def read() -> dict[str, int]:
        with contextlib.suppress(ValueError):  # it is being written
            found: dict[str, int] = json.loads(told.read_text())
            return found
        return {}

    return broker.wait_for(read)


def measure(bench: Bench, devices: int, at_once: int) -> str:
    """The line."""
    told = bench.directory / "memory"
    program = Path(__file__).with_name("telling_memory.py")
    broker = Broker(bench.directory, program=program, MEMORY_TOLD=str(told))
    at_rest = look(broker, told)
    part(connect(bench, broker, FIRST, at_once))
    before = look(broker, told)
    load = connect(bench, broker, devices, at_once)
    now = look(broker, told)
    least = look(broker, told, signal.SIGUSR1)
    part(load)
    broker.stop()
    kb = {name: (now[name] - before[name]) / 1024 / devices for name in now}
    rest = kb["resident"] - sum(kb[name] for name in ("objects", "room", "malloc", "free"))
    return (
        f"the first {FIRST} left {(before['resident'] - at_rest['resident']) / 2**20:.1f} MB; "
        f"{kb['resident']:.2f} KB each: Python's small objects {kb['objects']:.2f}, free among them {kb['room']:.2f}, "
        f"malloc {kb['malloc']:.2f}, free there {kb['free']:.2f}, else {rest:.2f}; "
        f"given back what can be: {(least['resident'] - before['resident']) / 1024 / devices:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=10_000)
    options = parser.parse_args()
    prepare()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        bench = Bench(Path(directory), "mqtt_load.c", devices=options.devices, seconds=0)
        broker = Broker(bench.directory)
        part(connect(bench, broker, options.devices, max(WAYS.values())))
        broker.stop()
        for title, at_once in WAYS.items():
            progress(f"device memory: {title}")
            print(f"{title}: {measure(bench, options.devices, at_once)}", flush=True)


if __name__ == "__main__":
    main()
