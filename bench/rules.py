"""Measures what rule chains cost, in interleaved rounds, and prints medians.

    python bench/rules.py [--seconds 5] [--rounds 5] [--only telemetry,questions,calls,neighbours]

* telemetry: QoS 1 ingest, straight as the default chain lets it go, through that chain, and through one script.
* questions: devices ask getCurrentTime of a broker without rules, of the default chain, and of a chain whose two
  scripts answer (conf/chains/current-time.json).
* calls: CPU time of a two-way call with the default chain, and without rules (bench/otherwise_ruled.py).
* neighbours: the latency of scripts and of calls of one tenant, each at a fixed rate, while another tenant's script is
  quiet, loops until it is killed, or takes nearly all the time that it may; after two seconds, in which the broker
  has learnt which it is.

CPU time is that of the broker, without the processes that run scripts. Each measurement has a fresh process of the
broker, on loopback. The load of telemetry is bench/mqtt_load.c, all other is this process; the share of a core that it
took is printed: near 1 the load was the limit.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import sqlalchemy as sa
from aims import Aim
from broker import Broker
from child import machine, prepare, progress
from python_load import DEVICES, SILENCE, Load, connect_device, received
from rounds import WARM_UP, Bench, describe, medians

from rpcbroker.core.model import NULL_UUID, Credentials, CredentialsType, Device, StoredChain, Tenant
from rpcbroker.store import tables as t
from rpcbroker.store.direct import DirectDatabase
from rpcbroker.store.location import store_url
from rpcbroker.store.rows import values
from rpcbroker.wire.mqtt.codec import FrameReader

OTHERWISE = Path(__file__).with_name("otherwise_ruled.py")
CHAINS = Path(__file__).parents[1] / "conf/chains"
NO_RULES, THROUGH = {"BENCH_RULES": "none"}, {"BENCH_RULES": "chain"}
ASKED = "v1/devices/me/rpc/request/"
UNACKNOWLEDGED = 10
ASKS_PER_SECOND, CALLS_PER_SECOND, OTHERS_PER_SECOND = 200, 100, 20
KEEP = "return {msg: msg, metadata: metadata, msgType: msgType};"
SCRIPTS = {
    "quiet": [KEEP],
    "looping": [f"while (true) {{}} // {number}" for number in range(30)],
    "slow": ["var end = Date.now() + 200; while (Date.now() < end) {} " + KEEP],
}
"""Of the other tenant. Looping: one is no more run after a while, so there are many. Slow: it is never killed, for that
is less than rules.script_timeout."""
OTHER_TOKEN = "OTHER"


class Way(NamedTuple):
    """How a broker is ruled: by a ready-made chain, or otherwise."""

    chain: str | None = None
    otherwise: Mapping[str, str] = {}

    def start(self, bench: Bench) -> Broker:
        """A broker that has this chain as the root chain of its first tenant; none is the default."""
        graph = self.chain and json.dumps(json.loads((CHAINS / f"{self.chain}.json").read_bytes())["metadata"])
        in_store(bench.directory / "state", lambda connection: put_chain(connection, first_tenant(connection), graph))
        return Broker(bench.directory, program=OTHERWISE if self.otherwise else None, **self.otherwise)


# -- what stands in the store


def in_store(state: Path, work: Callable[[sa.Connection], None]) -> None:
    """Do this in the store of a broker that does not run now."""
    database = DirectDatabase(store_url("", state))
    database.open(work)
    database.close()


def first_tenant(connection: sa.Connection) -> UUID:
    query = sa.select(t.tenant.c.id).where(t.tenant.c.id != NULL_UUID).order_by(t.tenant.c.created_time)
    tenant_id: UUID = connection.execute(query.limit(1)).scalar_one()
    return tenant_id


def put_chain(connection: sa.Connection, tenant_id: UUID, graph: str | None) -> None:
    """In the place of all that the tenant has."""
    connection.execute(sa.delete(t.rule_chain).where(t.rule_chain.c.tenant_id == tenant_id))
    if graph:
        chain = StoredChain(
            id=uuid4(), tenant_id=tenant_id, name="Bench", root=True, graph=graph.encode(), created_time=0
        )
        connection.execute(sa.insert(t.rule_chain), values(chain))


def put_other_tenant(connection: sa.Connection, scripts: list[str]) -> None:
    """With one device, whose telemetry passes each of these scripts."""
    found = connection.execute(sa.select(t.tenant.c.id).where(t.tenant.c.title == "Other")).scalar_one_or_none()
    tenant_id = found or uuid4()
    if found is None:
        now = int(time.time() * 1000)
        device = Device(id=uuid4(), tenant_id=tenant_id, name="other", created_time=now)
        credentials = Credentials(
            id=uuid4(),
            device_id=device.id,
            type=CredentialsType.ACCESS_TOKEN,
            credentials_id=OTHER_TOKEN,
            created_time=now,
        )
        connection.execute(sa.insert(t.tenant), values(Tenant(id=tenant_id, title="Other", created_time=now)))
        connection.execute(sa.insert(t.device), values(device))
        connection.execute(sa.insert(t.credentials), values(credentials))
    rules = "org.thingsboard.rule.engine"
    nodes = [{"type": f"{rules}.filter.TbMsgTypeSwitchNode", "name": "Switch"}]
    for number, script in enumerate(scripts):
        configuration = {"scriptLang": "JS", "jsScript": script}
        node = {"type": f"{rules}.transform.TbTransformMsgNode", "name": f"Script {number}"}
        nodes.append(node | {"configuration": configuration})
    to_all = [{"fromIndex": 0, "toIndex": index, "type": "Post telemetry"} for index in range(1, len(nodes))]
    put_chain(connection, tenant_id, json.dumps({"firstNodeIndex": 0, "nodes": nodes, "connections": to_all}))


# -- the load


class Asking:
    """Devices that ask, each one question after another; `busy` are those that wait for an answer."""

    def __init__(self, broker: Broker, devices: int) -> None:
        self.selector = selectors.DefaultSelector()
        self.idle = []
        for number in range(devices):
            device = connect_device(broker, f"B{number}", "v1/devices/me/rpc/response/+")
            device.setblocking(False)
            self.selector.register(device, selectors.EVENT_READ, FrameReader(1 << 20))
            self.idle.append(device)
        self.busy: dict[socket.socket, float] = {}
        self.latencies: list[float] = []
        self.number = 0
        self.keep_going = False

    def ask(self, device: socket.socket) -> None:
        self.number += 1
        topic = f"{ASKED}{self.number:07}".encode()
        frame = len(topic).to_bytes(2, "big") + topic + b'{"method":"getCurrentTime","params":{}}'
        self.busy[device] = time.perf_counter()
        device.send(bytes((0x30, len(frame))) + frame)

    def poll(self, timeout: float) -> None:
        for key, _ in self.selector.select(timeout):
            device: Any = key.fileobj
            key.data.feed(received(device, 65536))
            for _, frame in key.data:
                if b'"error"' in frame:
                    raise SystemExit(f"a question was not answered: {frame!r}")
                self.latencies.append(time.perf_counter() - self.busy.pop(device))
                if self.keep_going:
                    self.ask(device)
                else:
                    self.idle.append(device)

    def flat_out(self, seconds: float) -> None:
        self.keep_going = True
        while self.idle:
            self.ask(self.idle.pop())
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            self.poll(0.1)
        self.keep_going = False
        self.drain()

    def drain(self) -> None:
        end = time.perf_counter() + SILENCE
        while self.busy:
            self.poll(1)
            if time.perf_counter() > end:
                raise SystemExit(f"{len(self.busy)} questions were not answered within {SILENCE:.0f} s")


class Other:
    """The device of the other tenant: posts, and waits for nothing."""

    def __init__(self, broker: Broker) -> None:
        self._device = connect_device(broker, OTHER_TOKEN)

    def post(self) -> None:
        topic = b"v1/devices/me/telemetry"
        frame = len(topic).to_bytes(2, "big") + topic + b'{"temperature":1}'
        self._device.send(bytes((0x30, len(frame))) + frame)


def all_at_rate(asking: Asking, load: Load, other: Other, seconds: float) -> None:
    """Questions, calls, and what the other tenant's device posts, each at its rate."""
    begin = time.perf_counter()
    asked = called = posted = 0
    load.idle = load.idle or deque(load.callers)
    while (now := time.perf_counter() - begin) < seconds:
        while asked < now * ASKS_PER_SECOND and asking.idle:
            asking.ask(asking.idle.pop(0))
            asked += 1
        while called < now * CALLS_PER_SECOND and load.idle:
            load.call(load.idle.popleft())
            called += 1
        while posted < now * OTHERS_PER_SECOND:
            other.post()
            posted += 1
        asking.poll(0.0005)
        load.poll(0)
    asking.drain()
    load.drain()


# -- what is measured


def interleaved(ways: Mapping[str, Any], rounds: int, what: str, run: Callable[[Any], Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in ways.items() if number % 2 else reversed(ways.items()):
            progress(f"{what}, {name}: round {number + 1} of {rounds}")
            found[name].append(run(way))
    return found


def telemetry(bench: Bench, rounds: int) -> None:
    def run(way: Way) -> Any:
        server = way.start(bench)
        result = bench.run(server, "ingest", server.mqtt[1], DEVICES, UNACKNOWLEDGED, bench.warm_up, bench.seconds)
        server.stop()
        return result

    ways = {"straight": Way(), "through the chain": Way(None, THROUGH), "one script": Way("unit-conversion")}
    found = interleaved(ways, rounds, "telemetry", run)
    print(f"telemetry, {DEVICES} MQTT sessions with {UNACKNOWLEDGED} unacknowledged messages each:")
    for name, results in found.items():
        print(f"  {name}: {describe(results, memory=False)}")
    straight = medians(found["straight"])["broker_us"]
    for name in list(ways)[1:]:
        print(f"  {name} / straight: CPU {medians(found[name])['broker_us'] / straight:.2f}", flush=True)


def questions(bench: Bench, rounds: int) -> None:
    def run(way: Way) -> tuple[float, float, float, float]:
        server = way.start(bench)
        asking = Asking(server, DEVICES)
        asking.flat_out(WARM_UP)
        asking.latencies.clear()
        cpu, mine, begin = server.cpu_seconds(), time.process_time(), time.perf_counter()
        asking.flat_out(bench.seconds)
        took, count = time.perf_counter() - begin, len(asking.latencies)
        spent, share = server.cpu_seconds() - cpu, (time.process_time() - mine) / took
        server.stop()
        return count / took, 1e6 * spent / count, spent / took, share

    ways = {"without rules": Way(None, NO_RULES), "default chain": Way(), "two scripts": Way("current-time")}
    found = interleaved(ways, rounds, "questions", run)
    print(f"questions, {DEVICES} MQTT devices with one each on its way:")
    for name, results in found.items():
        rate, each, broker, load = map(median, zip(*results, strict=True))
        print(f"  {name}: {rate:,.0f}/s, {each:.0f} us of CPU each; broker {broker:.2f} core, load {load:.2f} core")
    sys.stdout.flush()


def calls(bench: Bench, rounds: int) -> None:
    def run(way: Way) -> tuple[float, float]:
        """Microseconds of the broker, and the load's share of a core."""
        server = way.start(bench)
        server.log_in()
        load = Load(server, bench.ids[:DEVICES], [connect_device(server, f"B{number}") for number in range(DEVICES)])
        load.flat_out(2 * WARM_UP)
        load.latencies.clear()
        cpu, mine, begin = server.cpu_seconds(), time.process_time(), time.perf_counter()
        load.flat_out(bench.seconds)
        spent, took = server.cpu_seconds() - cpu, time.perf_counter() - begin
        share = (time.process_time() - mine) / took
        server.stop()
        if load.errors:
            raise SystemExit(f"{load.errors} calls failed")
        return 1e6 * spent / len(load.latencies), share

    found = interleaved({"rules": Way(), "no rules": Way(None, NO_RULES)}, rounds, "calls", run)
    print("two-way calls, flat out:")
    medians_of = {name: median(each for each, _ in results) for name, results in found.items()}
    for name, results in found.items():
        lowest, highest = min(results)[0], max(results)[0]
        load = median(share for _, share in results)
        print(f"  {name}: {medians_of[name]:.1f} us of CPU each ({lowest:.1f} to {highest:.1f}); load {load:.2f} core")
    ratio = medians_of["rules"] / medians_of["no rules"]
    print(f"  {Aim(1.05, figure='CPU', of='without rules', most=True).tell(ratio)}", flush=True)


def neighbours(bench: Bench, rounds: int) -> None:
    def run(scripts: list[str]) -> tuple[float, float, float]:
        """The 99th percentiles of questions and of calls, ms, and the load's share of a core."""
        in_store(bench.directory / "state", lambda connection: put_other_tenant(connection, scripts))
        server = Way("current-time").start(bench)
        server.log_in()
        half = DEVICES // 2
        asking = Asking(server, half)
        devices = [connect_device(server, f"B{number}") for number in range(half, DEVICES)]
        load = Load(server, bench.ids[half:DEVICES], devices)
        other = Other(server)
        all_at_rate(asking, load, other, 2 * WARM_UP)
        asking.latencies.clear()
        load.latencies.clear()
        mine, begin = time.process_time(), time.perf_counter()
        all_at_rate(asking, load, other, bench.seconds)
        share = (time.process_time() - mine) / (time.perf_counter() - begin)
        server.stop()
        if load.errors:
            raise SystemExit(f"{load.errors} calls failed")
        p99 = [1000 * sorted(each)[int(0.99 * len(each))] for each in (asking.latencies, load.latencies)]
        return p99[0], p99[1], share

    found = interleaved(SCRIPTS, rounds, "neighbours", run)
    print(
        f"one tenant's {ASKS_PER_SECOND} questions/s, with two scripts each, and {CALLS_PER_SECOND} calls/s, while "
        f"another's script is run {OTHERS_PER_SECOND} times a second:"
    )
    p99s = {name: [median(each) for each in zip(*results, strict=True)] for name, results in found.items()}
    for name, (asked, called, share) in p99s.items():
        print(f"  {name}: p99 of questions {asked:.1f} ms, of calls {called:.1f} ms; load {share:.2f} core")
    quiet = p99s.pop("quiet")
    for name, found_there in p99s.items():
        for place, what in enumerate(("questions", "calls")):
            aim = Aim(1.2, figure=f"p99 of {what} beside {name}", of="beside quiet", most=True)
            print(f"  {aim.tell(found_there[place] / quiet[place])}", flush=True)


KINDS = {"telemetry": telemetry, "questions": questions, "calls": calls, "neighbours": neighbours}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(KINDS), help="of " + ", ".join(KINDS))
    options = parser.parse_args()
    chosen = options.only.split(",")
    if unknown := {*chosen} - {*KINDS}:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    prepare()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        bench = Bench(Path(directory), "mqtt_load.c", devices=DEVICES, seconds=options.seconds)
        for kind in chosen:
            KINDS[kind](bench, options.rounds)


if __name__ == "__main__":
    main()
