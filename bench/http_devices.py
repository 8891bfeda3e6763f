"""Measures devices that speak HTTP, in rounds, and prints medians.

    python bench/http_devices.py [--seconds 5] [--rounds 3] [--only poll,sse,memory]

* poll: two-way calls over HTTP to devices that poll; a poll's answer, the reply, the next poll, on one connection.
* sse: the same to devices that listen to events, and reply on a second connection.
* memory: what a device that polls takes, and one that listens to events, from its first request on.

Each measurement has a fresh process of the broker, on loopback, and one of bench/http_load.c, whose share of a core is
printed: a result with more than 0.8 is not valid, for the load may have been the limit. Needs a C compiler.
"""

from __future__ import annotations

import argparse
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from broker import Broker
from child import machine, prepare, progress
from rounds import Bench, Result, Round, measure

DEVICES, CALLERS = 200, 64
COUNTS = 2_000, 5_000
SETTLE = 1.0
"""Seconds until memory is looked at."""
WAYS = {
    "poll": ("devices that poll", "/rpc?timeout=300000", ""),
    "sse": ("devices that listen to events", "/rpc", "Accept: text/event-stream\r\n"),
}
NO_LIMITS = {"RPCBROKER_HTTP_MAX_CONNECTIONS": "20000", "RPCBROKER_HTTP_DEVICES_MAX_POLLS": "20000"}


def calls(way: str) -> Callable[[Bench, str], Result]:
    """Two-way calls."""

    def run(bench: Bench, name: str) -> Result:
        server = Broker(bench.directory, **NO_LIMITS)
        told = bench.callers(server, DEVICES)
        result = bench.run(server, way, server.http[1], DEVICES, CALLERS, bench.warm_up, bench.seconds, told=told)
        server.stop()
        return result

    return run


def memory(bench: Bench, way: str) -> None:
    """Of devices that wait for a call, each on a connection of its own."""
    title, path, fields = WAYS[way]
    server = Broker(bench.directory, **NO_LIMITS)

    def waiting(number: int) -> socket.socket:
        device = socket.create_connection(server.http)
        device.sendall(f"GET /api/v1/B{number}{path} HTTP/1.1\r\nHost: b\r\n{fields}\r\n".encode())
        return device

    devices = [waiting(number) for number in range(DEVICES)]
    time.sleep(SETTLE)
    before = server.rss_kb()
    for count in COUNTS:
        devices += [waiting(number) for number in range(len(devices), count)]
        time.sleep(SETTLE)
        print(f"memory of {count:,} {title}: {(server.rss_kb() - before) / (count - DEVICES):.1f} KB each", flush=True)
    for number, device in enumerate(devices):
        device.setblocking(False)
        try:
            said = device.recv(1024)
        except BlockingIOError:
            said = b""
        if said and not said.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"device d{number} does not wait: {said!r}")
        device.close()
    server.stop()


ROUNDS = {
    way: Round(f"two-way calls, {CALLERS} HTTP callers, {DEVICES} {title}", calls(way))
    for way, (title, _, _) in WAYS.items()
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join((*ROUNDS, "memory")), help="of " + ", ".join((*ROUNDS, "memory")))
    options = parser.parse_args()
    chosen = options.only.split(",")
    if unknown := {*chosen} - {*ROUNDS, "memory"}:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    prepare()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        bench = Bench(Path(directory), "http_load.c", devices=max(COUNTS), seconds=options.seconds)
        measure(bench, {key: kind for key, kind in ROUNDS.items() if key in chosen}, (), options.rounds)
        for way in WAYS if "memory" in chosen else ():
            progress(f"memory of {way}")
            memory(bench, way)


if __name__ == "__main__":
    sys.exit(main())
