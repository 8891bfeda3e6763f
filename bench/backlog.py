"""Measures a broker with many queued persistent calls: its start, its memory, lists, and a device that takes its queue.

    python bench/backlog.py [--calls 100000] [--devices 10]

The calls are written into the store while no broker runs; all wait for devices that are away.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from aims import Aim
from broker import Broker, provision
from child import machine, prepare, progress
from python_load import REQUEST, connect_device, received

from rpcbroker.core.calls import Call
from rpcbroker.core.records import KeptCall, record_of
from rpcbroker.store import tables as t
from rpcbroker.store.call_writes import insert_row, write_calls
from rpcbroker.store.direct import DirectDatabase
from rpcbroker.store.location import store_url
from rpcbroker.store.sql import WIRE_IDS
from rpcbroker.wire.mqtt.codec import FrameReader

LIFE_MS = 24 * 3_600_000
ACCEPT, LIST = 5.0, 0.050
"""Seconds that are wanted at most, from the start to the first accept, and for a page of a list."""
DRAINING = 120.0
ASKED = 20


def fill(state: Path, ids: list[str], calls: int) -> None:
    """So many calls for these devices in turn, the ids above those that any device saw."""
    database = DirectDatabase(store_url("", state))
    now = int(time.time() * 1000)

    def load(connection: sa.Connection) -> tuple[UUID, int]:
        query = sa.select(t.device.c.tenant_id).where(t.device.c.id == UUID(ids[0]))
        reserved = sa.select(t.counter.c.value).where(t.counter.c.name == WIRE_IDS)
        return connection.execute(query).scalar_one(), connection.execute(reserved).scalar_one()

    tenant_id, reserved = database.open(load)

    def row(number: int) -> Any:
        call = Call(
            uuid4(),
            1 + number // len(ids),
            tenant_id,
            UUID(ids[number % len(ids)]),
            "setGpio",
            b'{"pin":7,"value":%d}' % number,
            False,
            now - calls + number,
            now + LIFE_MS,
            now + LIFE_MS,
            5,
            persistent=True,
        )
        moments = tuple((now, mark, None) for mark in ("accepted", "authorised", "routed", "stored"))
        return insert_row(KeptCall(call=call, record=record_of(call, moments), due_time=call.expiration_time))

    def write(connection: sa.Connection) -> None:
        for first in range(0, calls, 1_000):
            refused = [
                error for error in write_calls(connection, [row(first + n) for n in range(1_000)], [], [])[0] if error
            ]
            assert not refused, refused
        highest = max(reserved, 1 + calls // len(ids))
        connection.execute(sa.update(t.counter).where(t.counter.c.name == WIRE_IDS).values(value=highest))

    failures: list[Any] = []
    database.write(write).addErrback(failures.append)
    database.close()
    if failures:
        raise SystemExit(f"the calls could not be written: {failures[0].getErrorMessage()}")


def lists(broker: Broker, device_id: str, calls: int) -> dict[str, str]:
    """Paths of lists by what they are."""
    of_device = f"/api/rpc/persistent/device/{device_id}?pageSize=100"
    last = calls // 100 - 1
    return {
        "first page": f"{of_device}&page=0",
        "last page": f"{of_device}&page={last}",
        "first page, newest first": f"{of_device}&page=0&sortProperty=createdTime&sortOrder=DESC",
        "last page, by creation": f"{of_device}&page={last}&sortProperty=createdTime",
        "last page, by expiration": f"{of_device}&page={last}&sortProperty=expirationTime",
        "first page of QUEUED": f"{of_device}&page=0&rpcStatus=QUEUED",
        "first page of SUCCESSFUL": f"{of_device}&page=0&rpcStatus=SUCCESSFUL",
        "calls of a device": f"/api/rpc?deviceId={device_id}",
        "calls of all devices": "/api/rpc",
    }


def timed(ask: Callable[[], Any]) -> tuple[float, float]:
    """Median and worst of ASKED times, in seconds."""
    took = []
    for _ in range(ASKED):
        begin = time.perf_counter()
        ask()
        took.append(time.perf_counter() - begin)
    return median(took), max(took)


def drain(broker: Broker, token: str, expected: int) -> float:
    """Seconds in which a device that connects gets its calls, answers them, and is told that the answers are kept."""
    device = connect_device(broker, token)
    frames, begin, done = FrameReader(1 << 20), time.perf_counter(), 0
    while done < expected:
        frames.feed(received(device, 65_536))
        out = []
        for first, frame in frames:
            if first == 0x40:
                done += 1
                continue
            size = int.from_bytes(frame[:2], "big")
            number = frame[2 + len(REQUEST) : 2 + size]
            topic = b"v1/devices/me/rpc/response/" + number
            answer = len(topic).to_bytes(2, "big") + topic + (1 + int(number) % 65_535).to_bytes(2, "big") + b"1"
            out.append(bytes((0x32, len(answer))) + answer)
        device.sendall(b"".join(out))
        if time.perf_counter() > begin + DRAINING:
            raise SystemExit(f"{done} of {expected} calls ended within {DRAINING:.0f} s")
    device.close()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--devices", type=int, default=10)
    options = parser.parse_args()
    prepare()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        broker = Broker(Path(directory))
        broker.stop()
        ids = provision(broker.state, options.devices)
        broker = Broker(Path(directory))
        print(f"without calls: accepts after {broker.start_seconds:.2f} s, {broker.rss_kb() / 1024:.0f} MB")
        broker.stop()
        progress(f"writing {options.calls:,} calls")
        fill(broker.state, ids, options.calls)
        broker = Broker(Path(directory))
        print(
            f"with {options.calls:,} calls for {options.devices} devices: accepts after {broker.start_seconds:.2f} s, "
            f"{broker.rss_kb() / 1024:.0f} MB\n"
            f"  {Aim(ACCEPT, figure='seconds to the first accept', most=True).tell(broker.start_seconds)}"
        )
        broker.log_in()
        each = options.calls // options.devices
        for what, path in lists(broker, ids[0], each).items():
            middle, worst = timed(lambda path=path: broker.ask(path))
            print(f"{what}: {1000 * middle:.1f} ms, at most {1000 * worst:.1f} ms")
            print(f"  {Aim(1000 * LIST, figure='ms', most=True).tell(1000 * middle)}")
        print(f"after the lists: {broker.rss_kb() / 1024:.0f} MB", flush=True)
        took = drain(broker, "B0", each)
        print(f"a device takes and answers its {each:,} calls in {took:.1f} s, {each / took:,.0f}/s")
        print(f"after that: {broker.rss_kb() / 1024:.0f} MB", flush=True)
        broker.stop()


if __name__ == "__main__":
    main()
