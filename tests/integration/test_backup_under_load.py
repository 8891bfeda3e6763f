"""A backup of a broker under load, restored into a second one that then serves the same devices."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from daemon import Daemon, wait_for
from store_files import ask, execute, make_store

from rpcbroker.store.restore import WIRE_IDS_AHEAD
from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.codec import FrameReader, decode, encode

PROGRAM = str(Path(sys.executable).parent / "rpcbroker")
DEVICES = 5
CALLERS = 4
FILLING = 320
"""Devices with 30 KB each, ten megabytes in all, so that a backup takes a while."""
LONGEST = 2.0
"""Seconds that no call may take on a busy test machine; what is measured is printed."""


class AnsweringDevice:
    """Echoes the params of every call; `wire_ids` are those that it saw."""

    def __init__(self, daemon: Daemon, token: str) -> None:
        self.wire_ids: list[int] = []
        self._token = token
        self._subscribed = threading.Event()
        self._socket = socket.create_connection(("127.0.0.1", daemon.mqtt_port), 10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> AnsweringDevice:
        self._thread.start()
        assert self._subscribed.wait(10), "the broker did not take it"
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _send(self, *packets: p.Packet) -> None:
        self._socket.sendall(b"".join(encode(packet, 4) for packet in packets))

    def _run(self) -> None:
        self._socket.settimeout(None)
        self._send(p.Connect(4, "", username=self._token))
        frames = FrameReader(1 << 20)
        while data := self._socket.recv(65536):
            frames.feed(data)
            for first, body in frames:
                self._receive(decode(first, body, 4))

    def _receive(self, packet: p.Packet) -> None:
        if isinstance(packet, p.ConnAck):
            assert packet.code == 0
            self._send(p.Subscribe(1, (p.Subscription("v1/devices/me/rpc/request/+", 1),)))
        elif isinstance(packet, p.SubAck):
            self._subscribed.set()
        elif isinstance(packet, p.Publish):
            self.wire_ids.append(int(packet.topic.rsplit("/", 1)[1]))
            reply = p.Publish(
                packet.topic.replace("request", "response"), json.dumps(json.loads(packet.payload)["params"]).encode()
            )
            acknowledged = [p.PubAck(packet.packet_id)] if packet.packet_id is not None else []
            self._send(*acknowledged, reply)


class Repeating:
    """Does one thing again and again on one HTTP connection; `lost` is what went wrong, `took` (begin, seconds)."""

    def __init__(self, daemon: Daemon, once: Callable[[Repeating, int], None]) -> None:
        self.lost: list[object] = []
        self.took: list[tuple[float, float]] = []
        self._headers = {"X-Authorization": f"Bearer {daemon.token}", "Content-Type": "application/json"}
        self._connection = http.client.HTTPConnection(*daemon.http.removeprefix("http://").split(":"), timeout=30)
        self._once = once
        self._stop = False
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Repeating:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        self._thread.join()
        self._connection.close()

    def ask(self, path: str, body: object) -> Any:
        """The value that a POST is answered with; None, and an entry in `lost`, when that is not 200."""
        begin = time.monotonic()
        self._connection.request("POST", path, json.dumps(body), self._headers)
        response = self._connection.getresponse()
        content = response.read()
        self.took.append((begin, time.monotonic() - begin))
        if response.status != 200:
            self.lost.append((response.status, content))
            return None
        return json.loads(content)

    def _run(self) -> None:
        number = 0
        try:
            while not self._stop:
                self._once(self, number)
                number += 1
        except Exception as error:
            self.lost.append(error)


def calling(ids: list[str], who: int) -> Callable[[Repeating, int], None]:
    def once(caller: Repeating, number: int) -> None:
        params = {"who": who, "number": number}
        reply = caller.ask(f"/api/rpc/twoway/{ids[number % len(ids)]}", {"method": "echo", "params": params})
        if reply != params:
            caller.lost.append((params, reply))

    return once


def adding(writer: Repeating, number: int) -> None:
    writer.ask("/api/device", {"name": f"added-{number:06}"})


@contextmanager
def devices_of(daemon: Daemon) -> Iterator[list[AnsweringDevice]]:
    with ExitStack() as stack:
        yield [stack.enter_context(AnsweringDevice(daemon, f"TOKEN-{number}")) for number in range(DEVICES)]


def command(*words: str) -> str:
    done = subprocess.run([PROGRAM, *words], check=False, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def milliseconds(times: list[float]) -> str:
    ordered = sorted(times)
    shown = (ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100], ordered[-1])
    return "p50 {:.1f} ms, p99 {:.1f} ms, longest {:.1f} ms".format(*(each * 1000 for each in shown))


def test_a_backup_under_load_is_a_whole_broker_and_costs_no_call(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    backup = tmp_path / "backup.sqlite"
    first = Daemon(tmp_path / "first").login()
    ids = [first.add_device(f"device-{number}", f"TOKEN-{number}") for number in range(DEVICES)]
    for number in range(FILLING):
        body = {"name": f"filling-{number}", "additionalInfo": {"text": "x" * 30_000}}
        assert first.ask("POST", "/api/device", body)[0] == 200

    with ExitStack() as load:
        seen = load.enter_context(devices_of(first))
        callers = [load.enter_context(Repeating(first, calling(ids, who))) for who in range(CALLERS)]
        writer = load.enter_context(Repeating(first, adding))
        wait_for(lambda: sum(len(caller.took) for caller in callers) > 1000 and len(writer.took) > 50, "the load", 60)
        begin, at_least = time.monotonic(), len(writer.took)
        said = command("backup", str(backup), "--state-dir", str(first.state))
        end, at_most = time.monotonic(), len(writer.took) + 1
        wait_for(lambda: all(caller.took[-1][0] > end for caller in callers), "calls after the backup")
    first.stop()

    assert [lost for one in (*callers, writer) for lost in one.lost] == []
    times = [took for caller in callers for took in caller.took]
    before = [seconds for when, seconds in times if when < begin]
    during = [seconds for when, seconds in times if begin <= when < end]
    print(f"{said.strip()} {end - begin:.2f} s under load")
    print(f"calls before: {len(before)}, {milliseconds(before)}; during: {len(during)}, {milliseconds(during)}")
    assert max(during) < LONGEST
    names = [name for (name,) in ask(backup, "SELECT name FROM device WHERE name LIKE 'added-%' ORDER BY name")]
    assert names == [f"added-{number:06}" for number in range(len(names))], "a hole in what was written in order"
    assert at_least <= len(names) <= at_most

    command("restore", str(backup), "--state-dir", str(tmp_path / "second" / "state"))
    second = Daemon(tmp_path / "second").login()
    try:
        with devices_of(second) as again:
            for number, device_id in enumerate(ids):
                answer = second.ask("POST", f"/api/rpc/twoway/{device_id}", {"method": "echo", "params": number})
                assert answer == (200, number)
    finally:
        second.stop()
    highest = max(wire_id for device in seen for wire_id in device.wire_ids)
    assert min(wire_id for device in again for wire_id in device.wire_ids) > highest + WIRE_IDS_AHEAD // 2
    assert [len(device.wire_ids) for device in again] == [1] * DEVICES


def test_after_a_restore_a_device_is_not_asked_again_for_what_it_has_answered(tmp_path: Path) -> None:
    """Two calls are in the backup; the device answers one since, and one is made since."""
    backup = tmp_path / "backup.sqlite"
    daemon = Daemon(tmp_path).login()
    answering, away = (daemon.add_device(f"device-{number}", f"TOKEN-{number}") for number in range(2))

    def keep_call(device_id: str) -> str:
        body = {"method": "echo", "params": 7, "persistent": True, "expirationTime": 1 << 50}
        status, answer = daemon.ask("POST", f"/api/rpc/twoway/{device_id}", body)
        assert status == 200
        rpc_id: str = answer["rpcId"]
        return rpc_id

    def status_of(rpc_id: str) -> str:
        status: str = daemon.ask("GET", f"/api/rpc/persistent/{rpc_id}")[1]["status"]
        return status

    answered, waiting = keep_call(answering), keep_call(away)
    command("backup", str(backup), "--state-dir", str(daemon.state))
    with AnsweringDevice(daemon, "TOKEN-0") as device:
        wait_for(lambda: status_of(answered) == "SUCCESSFUL", "the reply")
    assert len(device.wire_ids) == 1
    made_since = keep_call(away)
    daemon.stop()

    said = command("restore", str(backup), "--state-dir", str(daemon.state))
    assert "Ended since the backup, and not made again: 1 call.\n" in said
    assert "not taken over: 1 call.\n" in said
    command("check", "--state-dir", str(daemon.state))

    daemon = Daemon(tmp_path).login()
    try:
        with AnsweringDevice(daemon, "TOKEN-0") as again, AnsweringDevice(daemon, "TOKEN-1") as late:
            wait_for(lambda: status_of(waiting) == "SUCCESSFUL", "the reply")
            assert daemon.ask("POST", f"/api/rpc/twoway/{answering}", {"method": "echo", "params": 1}) == (200, 1)
        assert (len(again.wire_ids), len(late.wire_ids)) == (1, 1)
        assert device.wire_ids[0] not in again.wire_ids
        assert daemon.ask("GET", f"/api/rpc/persistent/{answered}")[1]["response"] == 7
        assert daemon.ask("GET", f"/api/rpc/persistent/{made_since}")[0] == 404
    finally:
        daemon.stop()


def test_a_backup_that_is_told_to_end_leaves_nothing_behind(tmp_path: Path) -> None:
    store = make_store(tmp_path / "rpcbroker.sqlite")
    execute(
        store,
        "CREATE TABLE filling (data BLOB)",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)"
        " INSERT INTO filling SELECT zeroblob(1000000) FROM n",
    )
    room = tmp_path / "out"
    room.mkdir()
    process = subprocess.Popen(
        [PROGRAM, "backup", str(room / "b.sqlite"), "--state-dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: list(room.glob(".rpcbroker-*/*")), "half a copy")
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20) == (None, "")
    assert process.returncode == 128 + signal.SIGTERM
    assert list(room.iterdir()) == []


def test_a_broker_that_runs_is_backed_up_but_not_restored_over(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    try:
        command("backup", str(tmp_path / "b.sqlite"), "--state-dir", str(daemon.state))
        restoring = subprocess.run(
            [PROGRAM, "restore", str(tmp_path / "b.sqlite"), "--state-dir", str(daemon.state)],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert restoring.returncode == 1
        assert restoring.stderr.startswith("Error: ")
        assert daemon.ask("GET", "/readyz")[0] == 200
    finally:
        daemon.stop()
    assert list(daemon.state.glob("*before-restore*")) == []
