"""Measures MQTT of the broker and of its peers, one after another in every round, and prints medians and ratios.

    python bench/mqtt.py [--seconds 5] [--rounds 3] [--only ingest-1,rpc] [--peers mosquitto,amqtt]

Each measurement has a fresh process of the broker, on loopback, and one of bench/mqtt_load.c. Only rpcbroker
looks at who connects: every session has its own access token, and a look-up in the store. The load tells the share
of a core that it took; a result with more than 0.8 is not valid, for the load may have been the limit. The last
value of every device is read back from rpcbroker over REST, and a wrong one ends the benchmark.
Needs a C compiler, mosquitto, and in AMQTT_PYTHON the Python of an environment with amqtt: `make bench` sees to it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import peers
from broker import Broker
from child import Child, machine, prepare
from rounds import OURS, WARM_UP, Bench, Result, Round, measure

SESSIONS, PAIRS, AT_ONCE = 200, 100, 64
CONNECTS = 1000, 10_000
SLOW = {"amqtt": 1000}
"""The most sessions that a peer is asked to take: its connects get slower with each, ten thousand take minutes."""
PEERS = "mosquitto", "amqtt"
REQUESTS = "v1/devices/me/rpc/request/+"
SETTLE = 1.0
"""Seconds until the memory of what has connected is looked at."""


def start(bench: Bench, name: str, **settings: str) -> Any:
    """A broker of this name; `settings` is the environment of ours."""
    return Broker(bench.directory, **settings) if name == OURS else getattr(peers, name)(bench.directory)


def ingest(unacknowledged: int) -> Callable[[Bench, str], Result]:
    """Telemetry at QoS 1."""

    def run(bench: Bench, name: str) -> Result:
        server = start(bench, name)
        result = bench.run(server, "ingest", server.mqtt[1], SESSIONS, unacknowledged, WARM_UP, bench.seconds)
        if name == OURS and bench.read_back:
            bench.compare_last(server, result.last)
        server.stop()
        return result

    return run


def rpc(bench: Bench, name: str) -> Result:
    """Requests and answers on topics that mean nothing to the broker, each a QoS 0 message through it."""
    server = start(bench, name, RPCBROKER_MQTT_PUBSUB="tenant")
    result = bench.run(server, "rpc", server.mqtt[1], PAIRS, 1, WARM_UP, bench.seconds)
    server.stop()
    return result


def connect(sessions: int) -> Callable[[Bench, str], Result]:
    """Connects, one after another, that stay; and what memory each took once it had subscribed."""

    def run(bench: Bench, name: str) -> Result:
        server = start(bench, name)
        before = server.rss_kb()
        counts = str(server.mqtt[1]), str(server.process.pid), str(sessions), str(AT_ONCE)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        load = Child("mqtt_load", [bench.load, "connect", *counts, REQUESTS], bench.directory, **pipes)
        line, settled = load.process.stdout.readline(), load.process.stdout.readline()
        if not settled:
            raise load.failure(f"did not connect to {name}:")
        result = msgspec.json.decode(line, type=Result)
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
        f"QoS 1 ingest, {SESSIONS} sessions with 1 unacknowledged message each",
        ingest(1),
        {"mosquitto": 0.2, "amqtt": 5},
        (OURS, *PEERS),
    ),
    "ingest-10": Round(
        f"QoS 1 ingest, {SESSIONS} sessions with 10 unacknowledged messages each",
        ingest(10),
        {"mosquitto": 0.5, "amqtt": 10},
        (OURS, *PEERS),
    ),
    "rpc": Round(f"RPC through topics, QoS 0, {PAIRS} callers and as many devices", rpc, names=(OURS, *PEERS)),
    **{
        f"connect-{count}": Round(
            f"{count:,} connects, up to {AT_ONCE} at once, all stay and subscribe",
            connect(count),
            names=tuple(name for name in (OURS, *PEERS) if count <= SLOW.get(name, count)),
            memory=True,
        )
        for count in CONNECTS
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(ROUNDS), help="of " + ", ".join(ROUNDS))
    parser.add_argument("--peers", default=",".join(PEERS), help="empty for none")
    parser.add_argument("--no-read-back", action="store_true", help="for a broker that keeps no values")
    options = parser.parse_args()
    chosen, others = options.only.split(","), [name for name in options.peers.split(",") if name]
    if unknown := {*chosen, *others} - {*ROUNDS, *PEERS}:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    prepare()
    print(machine() + "".join(f", {peers.version(name)}" for name in others), flush=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        bench = Bench(
            Path(directory),
            "mqtt_load.c",
            devices=max(CONNECTS),
            seconds=options.seconds,
            read_back=not options.no_read_back,
        )
        measure(bench, {key: ROUNDS[key] for key in chosen}, others, options.rounds)


if __name__ == "__main__":
    sys.exit(main())
