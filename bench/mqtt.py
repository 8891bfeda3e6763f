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
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec
import peers
from broker import Broker, provision
from child import Child, machine, prepare, progress

OURS = "rpcbroker"
SESSIONS, PAIRS, AT_ONCE = 200, 100, 64
CONNECTS = 1000, 10_000
SLOW = {"amqtt": 1000}
"""The most sessions that a peer is asked to take: its connects get slower with each, ten thousand take minutes."""
REQUESTS = "v1/devices/me/rpc/request/+"
WARM_UP, SETTLE = 1.0, 1.0
"""Seconds of load that are not counted, and until the memory of what has connected is looked at."""


class Result(msgspec.Struct):
    """What the load says of one run; `broker_us` is the broker's CPU time for an operation."""

    rate: float
    broker_us: float
    broker_share: float
    load_share: float
    valid: bool
    p50_ms: float
    p99_ms: float
    last: list[int]
    kb_each: float = 0


class Round(NamedTuple):
    """One kind of measurement. `wanted` is the least ratio of rates that the project asks for, for each peer."""

    title: str
    run: Callable[[Bench, str], Result]
    wanted: Mapping[str, float] = {}
    sessions: int = 0
    memory: bool = False


class Bench:
    """Where the measurements happen, and how long they take."""

    def __init__(self, directory: Path, *, seconds: float, read_back: bool) -> None:
        self.directory = directory
        self.seconds = seconds
        self.read_back = read_back
        self._load = str(directory / "mqtt_load")
        source = Path(__file__).with_name("mqtt_load.c")
        try:
            subprocess.run(["cc", "-O2", "-Wall", "-o", self._load, str(source)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SystemExit(f"the load cannot be compiled: {error}") from None
        first = Broker(directory)
        first.stop()
        self.ids = provision(first.state, max(CONNECTS))

    def start(self, name: str, **settings: str) -> Any:
        """A broker of this name; `settings` is the environment of ours."""
        return Broker(self.directory, **settings) if name == OURS else getattr(peers, name)(self.directory)

    def exchange(self, server: Any, mode: str, sessions: int, unacknowledged: int) -> Result:
        """What the load finds that keeps the broker busy."""
        counts = mode, str(server.mqtt[1]), str(server.process.pid), str(sessions), str(unacknowledged)
        command = [self._load, *counts, str(WARM_UP), str(self.seconds)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=self.seconds + 120, check=False)
        if done.returncode:
            raise server.failure(done.stderr.strip())
        return msgspec.json.decode(done.stdout, type=Result)

    def connect(self, server: Any, sessions: int, topic_filter: str) -> Result:
        """What the load finds that connects and stays, and what memory each session took once it has subscribed."""
        before = server.rss_kb()
        counts = str(server.mqtt[1]), str(server.process.pid), str(sessions), str(AT_ONCE)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        load = Child("mqtt_load", [self._load, "connect", *counts, topic_filter], self.directory, **pipes)
        line, settled = load.process.stdout.readline(), load.process.stdout.readline()
        if not settled:
            raise load.failure(f"did not connect to {server.name}:")
        result = msgspec.json.decode(line, type=Result)
        time.sleep(SETTLE)
        result.kb_each = (server.rss_kb() - before) / sessions
        load.process.stdin.close()
        load.process.wait(20)
        load.process.stdout.close()
        return result


def ingest(unacknowledged: int) -> Callable[[Bench, str], Result]:
    """Telemetry at QoS 1."""

    def run(bench: Bench, name: str) -> Result:
        server = bench.start(name)
        result = bench.exchange(server, "ingest", SESSIONS, unacknowledged)
        if name == OURS and bench.read_back:
            _compare(server, bench.ids[:SESSIONS], result.last)
        server.stop()
        return result

    return run


def rpc(bench: Bench, name: str) -> Result:
    """Requests and answers on topics that mean nothing to the broker, each a QoS 0 message through it."""
    server = bench.start(name, RPCBROKER_MQTT_PUBSUB="tenant")
    result = bench.exchange(server, "rpc", PAIRS, 1)
    server.stop()
    return result


def connect(sessions: int) -> Callable[[Bench, str], Result]:
    """Connects, one after another."""

    def run(bench: Bench, name: str) -> Result:
        server = bench.start(name)
        result = bench.connect(server, sessions, REQUESTS)
        server.stop()
        return result

    return run


def _compare(server: Broker, ids: list[str], last: list[int]) -> None:
    """Every device's last value must be the one that was last acknowledged. Raises SystemExit."""
    server.log_in()
    wrong = []
    for number, (device_id, sent) in enumerate(zip(ids, last, strict=True)):
        path = f"/api/plugins/telemetry/DEVICE/{device_id}/values/timeseries?keys=temperature"
        try:
            kept = server.ask(path)["temperature"][0]["value"]
        except (OSError, LookupError) as error:
            raise SystemExit(f"device d{number}: its last value cannot be read back: {error!r}") from None
        if str(kept) != f"{sent}.5":
            wrong.append(f"d{number} has {kept} and not {sent}.5")
    if wrong:
        raise SystemExit(f"{len(wrong)} of {len(ids)} last values were acknowledged and not kept: {wrong[0]}")


ROUNDS = {
    "ingest-1": Round(
        f"QoS 1 ingest, {SESSIONS} sessions with 1 unacknowledged message each",
        ingest(1),
        {"mosquitto": 0.2, "amqtt": 5},
    ),
    "ingest-10": Round(
        f"QoS 1 ingest, {SESSIONS} sessions with 10 unacknowledged messages each",
        ingest(10),
        {"mosquitto": 0.5, "amqtt": 10},
    ),
    "rpc": Round(f"RPC through topics, QoS 0, {PAIRS} callers and as many devices", rpc),
    **{
        f"connect-{count}": Round(
            f"{count:,} connects, up to {AT_ONCE} at once, all stay and subscribe",
            connect(count),
            sessions=count,
            memory=True,
        )
        for count in CONNECTS
    },
}


def medians(results: list[Result]) -> dict[str, float]:
    """Of each figure, over the valid results; over all if none is."""
    chosen = [result for result in results if result.valid] or results
    names = "rate", "broker_us", "broker_share", "load_share", "p50_ms", "p99_ms", "kb_each"
    return {name: median(getattr(result, name) for result in chosen) for name in names}


def describe(results: list[Result], *, memory: bool) -> str:
    """One line of figures."""
    m = medians(results)
    lowest, highest = min(result.rate for result in results), max(result.rate for result in results)
    invalid = sum(not result.valid for result in results)
    return (
        f"{m['rate']:>9,.0f}/s ({lowest:,.0f} to {highest:,.0f}), {m['broker_us']:.1f} us of CPU each, "
        f"p50 {m['p50_ms']:.1f} ms, p99 {m['p99_ms']:.1f} ms"
        + (f", {m['kb_each']:.1f} KB each" if memory else "")
        + f"; broker {m['broker_share']:.2f} core, load {m['load_share']:.2f} core"
        + (f"; {invalid} of {len(results)} NOT VALID: the load took more than 0.8 core" if invalid else "")
    )


def compare(found: dict[str, list[Result]], wanted: Mapping[str, float]) -> list[str]:
    """A line for each peer: our rate and CPU time in parts of the peer's."""
    lines = []
    ours = medians(found[OURS])
    for name, results in found.items():
        if name != OURS:
            theirs = medians(results)
            line = f"{OURS} / {name}: rate {ours['rate'] / theirs['rate']:.2f}"
            if name in wanted:
                line += f" (wanted: {wanted[name]:g})"
            lines.append(f"{line}, CPU {ours['broker_us'] / theirs['broker_us']:.2f}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(ROUNDS), help="of " + ", ".join(ROUNDS))
    parser.add_argument("--peers", default="mosquitto,amqtt", help="empty for none")
    parser.add_argument("--no-read-back", action="store_true", help="for a broker that keeps no values")
    options = parser.parse_args()
    chosen, others = options.only.split(","), [name for name in options.peers.split(",") if name]
    if unknown := {*chosen, *others} - {*ROUNDS, "mosquitto", "amqtt"}:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    prepare()
    print(machine() + "".join(f", {peers.version(name)}" for name in others), flush=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        bench = Bench(Path(directory), seconds=options.seconds, read_back=not options.no_read_back)
        for key in chosen:
            kind = ROUNDS[key]
            names = [name for name in (OURS, *others) if kind.sessions <= SLOW.get(name, kind.sessions)]
            found: dict[str, list[Result]] = {name: [] for name in names}
            for number in range(options.rounds):
                for name in names:
                    progress(f"{key}: round {number + 1} of {options.rounds}, {name}")
                    found[name].append(kind.run(bench, name))
            print(f"{kind.title}:")
            for name, results in found.items():
                print(f"  {name:10}{describe(results, memory=kind.memory)}")
            print("".join(f"  {line}\n" for line in compare(found, kind.wanted)), end="", flush=True)


if __name__ == "__main__":
    sys.exit(main())
