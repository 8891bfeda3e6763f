"""Measures MQTT of the broker and of its peers, one after another in every round, and prints medians and ratios.

    python bench/mqtt.py [--seconds 5] [--rounds 3] [--only ingest-1,rpc] [--peers mosquitto,amqtt,bare]

Each measurement has a fresh process of the broker, on loopback, and one of bench/mqtt_load.c. Only rpcbroker
looks at who connects: every session has its own access token, and a look-up in the store. The load tells the share
of a core that it took; a result with more than 0.8 is not valid, for the load may have been the limit. The last
value of every device is read back from rpcbroker over REST, and a wrong one ends the benchmark. `bare` is no
broker, but bench/bare_loop.py: what of a connect is the kernel's and the interpreter's, whatever stands behind.
Needs a C compiler, mosquitto, and in AMQTT_PYTHON the Python of an environment with amqtt: `make bench` sees to it.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any

import msgspec
import peers
from aims import Aim
from beside import Beside
from broker import Broker
from child import Child
from rounds import OURS, Bench, Result, Round, main

PAIRS, AT_ONCE = 100, 64
FEW, MANY = 1000, 10_000
"""Connects. amqtt takes few only: its connects get slower with each, ten thousand take minutes."""
OURS_FEW = f"{OURS}, {FEW:,}"
PEERS = "mosquitto", "amqtt"
BARE = "bare"
REQUESTS = "v1/devices/me/rpc/request/+"
SETTLE = 1.0
"""Seconds until the memory of what has connected is looked at."""


def start(bench: Bench, name: str, **settings: str) -> Any:
    """A broker of this name; `settings` is the environment of ours."""
    if name == BARE:
        return peers.BareLoop(bench.directory, bench.ids)
    return Broker(bench.directory, **settings) if name in (OURS, OURS_FEW) else getattr(peers, name)(bench.directory)


def ingest(sessions: int, unacknowledged: int) -> Callable[[Bench, str], Result]:
    """Telemetry at QoS 1."""

    def run(bench: Bench, name: str) -> Result:
        server = start(bench, name)
        result = bench.run(server, "ingest", server.mqtt[1], sessions, unacknowledged, bench.warm_up, bench.seconds)
        if name == OURS:
            bench.compare_last(server, result.last)
        server.stop()
        return result

    return run


def rpc(bench: Bench, name: str) -> Result:
    """Requests and answers on topics that mean nothing to the broker, each a QoS 0 message through it."""
    server = start(bench, name, RPCBROKER_MQTT_PUBSUB="tenant")
    result = bench.run(server, "rpc", server.mqtt[1], PAIRS, 1, bench.warm_up, bench.seconds)
    server.stop()
    return result


def connect(count: int, mode: str = "connect") -> Callable[[Bench, str], Result]:
    """Connects, one after another, that stay; and what memory each took once it had subscribed.

    Mode `arrive`: what is measured ends when a session has subscribed, not when it is connected.
    """

    def run(bench: Bench, name: str) -> Result:
        server = start(bench, name)
        before = server.rss_kb()
        sessions = FEW if name == OURS_FEW else count
        counts = str(server.mqtt[1]), str(server.process.pid), str(sessions), str(AT_ONCE)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with Beside() as beside:
            load = Child("mqtt_load", [bench.load, mode, *counts, REQUESTS], bench.directory, **pipes)
            line, settled = load.process.stdout.readline(), load.process.stdout.readline()
        if not settled:
            raise load.failure(f"did not connect to {name}:")
        result = msgspec.json.decode(line, type=Result).beside(beside)
        time.sleep(SETTLE)
        result.kb_each = (server.rss_kb() - before) / sessions
        load.process.stdin.close()
        load.process.wait(20)
        load.process.stdout.close()
        server.stop()
        return result

    return run


ROUNDS = {
    "ingest-1": Round(
        "QoS 1 ingest, 200 sessions with 1 unacknowledged message each",
        ingest(200, 1),
        (Aim(8, 5, of="amqtt"), Aim(0.4, 0.22, of="mosquitto")),
        (OURS, *PEERS),
    ),
    "ingest-10": Round(
        "QoS 1 ingest, 50 sessions with 10 unacknowledged messages each",
        ingest(50, 10),
        (Aim(20, 10, of="amqtt"), Aim(1, 0.5, of="mosquitto")),
        (OURS, *PEERS),
    ),
    "rpc": Round(
        f"RPC through topics, QoS 0, {PAIRS} callers and as many devices",
        rpc,
        (Aim(12, 8, of="amqtt"), Aim(0.3, 0.18, of="mosquitto")),
        (OURS, *PEERS),
    ),
    "connect-1k": Round(
        f"{FEW:,} connects, up to {AT_ONCE} at once, all stay, and then subscribe",
        connect(FEW),
        (Aim(20, of="amqtt"),),
        (OURS, *PEERS, BARE),
        memory=True,
    ),
    "arrive-1k": Round(
        f"{FEW:,} connects and subscriptions, up to {AT_ONCE} at once, all stay",
        connect(FEW, "arrive"),
        (Aim(20, of="amqtt"),),
        (OURS, *PEERS, BARE),
        memory=True,
    ),
    "connect-10k": Round(
        f"{MANY:,} connects, up to {AT_ONCE} at once, all stay, and then subscribe",
        connect(MANY),
        (Aim(0.9, of=OURS_FEW), Aim(4, figure="kb_each", most=True)),
        (OURS, OURS_FEW, "mosquitto", BARE),
        memory=True,
    ),
}


if __name__ == "__main__":
    main(__doc__, ROUNDS, "mqtt_load.c", devices=MANY, beside={name: name for name in PEERS} | {BARE: peers.BARE})
