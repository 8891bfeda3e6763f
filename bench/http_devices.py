"""Measures devices that speak HTTP, in rounds, and prints medians.

    python bench/http_devices.py [--seconds 5] [--rounds 3] [--only poll,sse]

* poll: two-way calls over HTTP to devices that poll; a poll's answer, the reply, the next poll, on one connection.
* sse: the same to devices that listen to events, and reply on a second connection.

Each measurement has a fresh process of the broker, on loopback, and one of bench/http_load.c, whose share of a core is
printed: a result with more than 0.8 is not valid, for the load may have been the limit. Needs a C compiler.
"""

from __future__ import annotations

from collections.abc import Callable

from broker import Broker
from rounds import Bench, Result, Round, main

DEVICES, CALLERS = 200, 64
WAYS = {"poll": "devices that poll", "sse": "devices that listen to events"}


def calls(way: str) -> Callable[[Bench, str], Result]:
    """Two-way calls."""

    def run(bench: Bench, name: str) -> Result:
        server = Broker(bench.directory)
        told = bench.callers(server, DEVICES)
        result = bench.run(server, way, server.http[1], DEVICES, CALLERS, bench.warm_up, bench.seconds, told=told)
        server.stop()
        return result

    return run


ROUNDS = {
    way: Round(f"two-way calls, {CALLERS} HTTP callers, {DEVICES} {title}", calls(way)) for way, title in WAYS.items()
}


if __name__ == "__main__":
    main(__doc__, ROUNDS, "http_load.c", devices=DEVICES)
