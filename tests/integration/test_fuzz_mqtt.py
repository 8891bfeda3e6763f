"""Clients that say almost what MQTT says, against the real daemon: they disturb nobody, and leave nothing behind.

FUZZ_SEED does a run again: connection N of a seed says the same each time.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import select
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from daemon import Daemon, wait_for
from honest import Honest, gauge, memory
from hostile import EVER, check_log
from mutating import UPGRADE, conversation, framed, mutated, written
from paho_device import callable_device, end

SECONDS, LONG = 20, 600
ATTACKERS = 4
LINGERING = 30
"""Connections that are left open, each for as long as this many others of the same attacker."""
GROWTH = 64 << 20
"""Bytes that the daemon may grow by: what is kept of devices, children, sessions and retained messages is bounded."""
TOKENS = [f"hostile-{n}" for n in range(4)]


class Attacker:
    """Connection after connection until it is told to stop; `number` is the next of all attackers' connections."""

    def __init__(self, daemon: Daemon, seed: int, numbers: Iterator[int], done: threading.Event) -> None:
        self._mqtt = ("127.0.0.1", daemon.mqtt_port)
        self._http = ("127.0.0.1", int(daemon.http.rpartition(":")[2]))
        self._seed = seed
        self._numbers = numbers
        self._done = done
        self._open: list[socket.socket] = []
        self.connections = 0
        self.opened = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._done.is_set():
            chance = random.Random(f"{self._seed} {next(self._numbers)}")
            with contextlib.suppress(OSError):  # it may close at any time, and that is all it may do
                self._connect(chance)
            self.connections += 1
        for each in self._open:
            each.close()

    def _connect(self, chance: random.Random) -> None:
        over_http = chance.random() < 0.2
        connection = socket.create_connection(self._http if over_http else self._mqtt, 10)
        self._open.append(connection)
        if len(self._open) > LINGERING:
            self._open.pop(0).close()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if over_http:
            connection.sendall(UPGRADE)
            connection.recv(4096)
        said = b""
        for data in written(chance, mutated(chance, conversation(chance, TOKENS, chance.choice((3, 4, 5, 5))))):
            connection.sendall(framed(chance, data) if over_http else data)
            if chance.random() < 0.5 and select.select([connection], [], [], 0.005)[0]:
                said += connection.recv(65536)
        self.opened += said[:1] == b"\x20" and said[3:4] == b"\x00"
        match chance.randrange(6):
            case 0:
                self._leave(connection)
            case 1:
                connection.shutdown(socket.SHUT_WR)
            case 2:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._leave(connection)

    def _leave(self, connection: socket.socket) -> None:
        self._open.remove(connection)
        connection.close()

    def join(self) -> None:
        self._thread.join(30)


class Telemetry:
    """A device that posts over a connection of its own."""

    def __init__(self, daemon: Daemon) -> None:
        daemon.add_device("posting", "POSTING")
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self.client.username_pw_set("POSTING")
        self.client.connect("127.0.0.1", daemon.mqtt_port)
        self.client.loop_start()
        wait_for(self.client.is_connected, "the meter")

    def post(self, number: int) -> bool:
        """Whether it was acknowledged."""
        info = self.client.publish("v1/devices/me/telemetry", f'{{"n":{number}}}', qos=1)
        info.wait_for_publish(EVER)
        return info.is_published()


def attack(directory: Path, seconds: float, seed: int) -> None:
    print(f"FUZZ_SEED={seed}")
    daemon = Daemon(directory, RPCBROKER_MQTT_PUBSUB="tenant").login()
    over, done = threading.Event(), threading.Event()
    try:
        for number, token in enumerate(TOKENS):
            body = {"name": token, "additionalInfo": {"gateway": number % 2 == 0}}
            assert daemon.ask("POST", f"/api/device?accessToken={token}", body)[0] == 200
        device_id = daemon.add_device("honest", "HONEST")
        device = callable_device(daemon.mqtt_port, "HONEST", lambda call: {"got": call["params"]})
        meter = Telemetry(daemon)
        honest = Honest(daemon, device_id, meter.post, over)
        for each in (device, meter.client):
            each.on_disconnect = lambda *told: over.is_set() or honest.wrong.append(told)
        before = memory(daemon)
        numbers = itertools.count()
        attackers = [Attacker(daemon, seed, numbers, done) for _ in range(ATTACKERS)]
        done.wait(seconds)
        done.set()
        for each in attackers:
            each.join()
        over.set()
        honest.join()
        made, opened = (
            sum(each) for each in zip(*((each.connections, each.opened) for each in attackers), strict=True)
        )
        told = f"seed {seed}, {made} connections, {opened} of them opened"
        print(honest.check(told))
        wait_for(lambda: gauge(daemon, "rpcbroker_mqtt_connections") == 2, f"{told}: the end of the connections")
        wait_for(lambda: gauge(daemon, "rpcbroker_http_connections") <= 1, f"{told}: the end of the upgraded ones")
        assert gauge(daemon, "rpcbroker_mqtt_handshakes") == 0, told
        assert gauge(daemon, "rpcbroker_devices_connected") == 2, told
        assert gauge(daemon, "rpcbroker_devices_callable") == 1, told
        assert gauge(daemon, "rpcbroker_calls_pending") == 0, told
        growth = memory(daemon) - before
        assert growth < GROWTH, told
        # it is no fuzzing of what is behind CONNECT if none gets there
        assert opened > made / 20, told
        print(f"+{growth} bytes")
        for each in (device, meter.client):
            end(each)
    finally:
        over.set()
        done.set()
        daemon.stop()
    check_log(daemon)


def seed_or(default: int) -> int:
    return int(os.environ.get("FUZZ_SEED", default))


def test_mutated_packets_disturb_nobody_and_leave_nothing(tmp_path: Path) -> None:
    attack(tmp_path, SECONDS, seed_or(7))


@pytest.mark.soak
def test_ten_minutes_of_mutated_packets_disturb_nobody_and_leave_nothing(tmp_path: Path) -> None:
    attack(tmp_path, LONG, seed_or(random.randrange(10**9)))
