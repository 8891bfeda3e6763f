"""Measures the memory of each thing that a broker may have many of, and prints it.

    python bench/memory.py [--only mqtt,call,...]

* mqtt, observe, poll, events: a device that is connected and waits for calls, by its transport.
* caller: a kept-alive HTTP connection on which one request was answered.
* call: a two-way call that waits for its device's answer; its caller's connection is not counted.
* persistent: a persistent call in memory, which its device has and has not answered.
* watcher: a WAMP session over WebSocket that has subscribed to the events of one device.

Each is made in a fresh process of the broker: first some that are not counted, so that code and caches are there, and
then many. What the resident set has grown by meanwhile is divided by how many these are.
"""

from __future__ import annotations

import argparse
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from aims import Aim
from beside import Beside
from broker import Broker, provision
from child import machine, prepare, progress
from python_load import SILENCE, connect_device, received
from watchers import Watcher

FIRST = 200
SETTLE = 1.0
"""Seconds until memory is looked at."""
DEVICES = 200
"""That are called, and do not answer."""
PARAMS = '"params":{"pin":7},"timeout":600000'
NO_LIMITS = {
    "RPCBROKER_HTTP_MAX_CONNECTIONS": "20000",
    "RPCBROKER_HTTP_DEVICES_MAX_POLLS": "20000",
    "RPCBROKER_HTTP_IDLE_TIMEOUT": "600",
    "RPCBROKER_FEED_MAX_WATCHERS": "20000",
}


class Scene:
    """A broker and what was made there; who is told of it keeps it alive."""

    def __init__(self, broker: Broker, ids: list[str]) -> None:
        self.broker = broker
        self.ids = ids
        self.kept: list[Any] = []
        self.called: list[socket.socket] = []

    def request(self, number: int, line: str, fields: str = "", body: str = "") -> None:
        """On the HTTP connection of this number, which is made if need be."""
        if number == len(self.kept):
            self.kept.append(socket.create_connection(self.broker.http, timeout=SILENCE))
        if body:
            fields += f"Content-Length: {len(body)}\r\n"
        self.kept[number].sendall(f"{line} HTTP/1.1\r\nHost: b\r\n{fields}\r\n{body}".encode())

    def call(self, number: int, connection: int, more: str = "") -> None:
        """A two-way call to one of some devices, which are connected and do not answer."""
        if not self.called:
            self.called = [connect_device(self.broker, f"B{each}") for each in range(DEVICES)]
        who = f"X-Authorization: Bearer {self.broker.token}\r\n"
        body = f'{{"method":"get",{PARAMS}{more}}}'
        self.request(connection, f"POST /api/rpc/twoway/{self.ids[number % DEVICES]}", who, body)

    def answer(self, connection: int) -> None:
        """Raises SystemExit if it is not one of success."""
        said = received(self.kept[connection], 65536)
        if not said.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"a request was answered with {said!r}")


def mqtt(scene: Scene, number: int) -> None:
    scene.kept.append(connect_device(scene.broker, f"B{number}"))


def observe(scene: Scene, number: int) -> None:
    observer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    observer.connect(("127.0.0.1", int(scene.broker.endpoints["coap"].rsplit(":", 1)[1])))
    observer.settimeout(SILENCE)
    token = f"B{number}".encode()
    path = b"\x60\x53api\x02v1" + bytes((len(token),)) + token + b"\x03rpc"
    observer.send(b"\x42\x01\x00\x01\x00\x01" + path)
    answer = observer.recv(2048)
    if answer[1] >> 5 != 2:
        raise SystemExit(f"device d{number} may not observe: {answer!r}")
    scene.kept.append(observer)


def poll(scene: Scene, number: int) -> None:
    scene.request(number, f"GET /api/v1/B{number}/rpc?timeout=600000")


def events(scene: Scene, number: int) -> None:
    scene.request(number, f"GET /api/v1/B{number}/rpc", "Accept: text/event-stream\r\n")
    scene.answer(number)


def caller(scene: Scene, number: int) -> None:
    scene.request(number, "GET /healthz")
    scene.answer(number)


def call(scene: Scene, number: int) -> None:
    scene.call(number, number)


def persistent(scene: Scene, number: int) -> None:
    """Sixty-four are asked for before the first is answered: they share a write to the disk."""
    connection = number % 64
    if number >= 64:
        scene.answer(connection)
    scene.call(number, connection, ',"persistent":true')


def watcher(scene: Scene, number: int) -> None:
    scene.kept.append(Watcher(scene.broker, f"rpcbroker.call.{scene.ids[number]}.", "prefix"))


class Kind(NamedTuple):
    """`make(scene, number)` makes one, and `count` are made; before them `before(scene, number)`, as many."""

    title: str
    make: Callable[[Scene, int], None]
    count: int
    before: Callable[[Scene, int], None] | None = None
    there: str = ""
    """The metric that says how many there are."""
    aim: Aim | None = None


KINDS = {
    "mqtt": Kind(
        "idle MQTT device, subscribed to its calls",
        mqtt,
        10_000,
        there="rpcbroker_mqtt_connections",
        aim=Aim(4, figure="KB each", most=True),
    ),
    "observe": Kind("CoAP device that observes its calls", observe, 5_000, there="rpcbroker_coap_observations"),
    "poll": Kind("HTTP device that polls", poll, 5_000, there="rpcbroker_http_polls"),
    "events": Kind("HTTP device that listens to events", events, 5_000, there="rpcbroker_http_polls"),
    "caller": Kind("kept-alive HTTP connection of a caller", caller, 5_000, there="rpcbroker_http_connections"),
    "call": Kind(
        "call that waits for its device, without its caller's connection",
        call,
        5_000,
        before=caller,
        there="rpcbroker_calls_pending",
    ),
    "persistent": Kind(
        "persistent call that its device has and has not answered",
        persistent,
        10_000,
        there="rpcbroker_calls_pending",
    ),
    "watcher": Kind("WAMP session with one subscription", watcher, 2_000, there="rpcbroker_feed_watchers"),
}


def measure(directory: Path, ids: list[str], kind: Kind) -> None:
    """Print what one takes. Raises SystemExit if not all are there."""
    broker = Broker(directory, **NO_LIMITS)
    broker.log_in()
    scene = Scene(broker, ids)
    total = FIRST + kind.count
    for number in range(total if kind.before else 0):
        kind.before(scene, number)
    for number in range(FIRST):
        kind.make(scene, number)
    time.sleep(SETTLE)
    before = broker.rss_kb()
    with Beside() as beside:
        for number in range(FIRST, total):
            kind.make(scene, number)
        time.sleep(SETTLE)
    each = (broker.rss_kb() - before) / kind.count
    there = broker.metric(kind.there)
    if there < total:
        raise SystemExit(f"{there:.0f} of {total} are there: {kind.title}")
    print(f"{kind.title}: {each:.1f} KB, of {kind.count:,}; others {beside.share:.2f} core", flush=True)
    if kind.aim:
        print(f"  {kind.aim.tell(each)}", flush=True)
    for one in (*scene.kept, *scene.called):
        one.close()
    broker.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(KINDS), help="of " + ", ".join(KINDS))
    options = parser.parse_args()
    chosen = options.only.split(",")
    if unknown := {*chosen} - {*KINDS}:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    prepare()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        first = Broker(Path(directory))
        first.stop()
        ids = provision(first.state, FIRST + max(kind.count for kind in KINDS.values()))
        for name in chosen:
            progress(f"memory: {name}")
            measure(Path(directory), ids, KINDS[name])


if __name__ == "__main__":
    sys.exit(main())
