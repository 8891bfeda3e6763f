"""A store that cannot be written, or is damaged, under the real daemon: who is refused, who is not, what is lost."""

from __future__ import annotations

import resource
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from answering_device import AnsweringDevice
from daemon import TWISTD, Daemon, environment, wait_for
from persistent import PERSISTENT, checked, persistent, successful, twoway

from rpcbroker.core.wire_ids import BLOCK

REFUSED = "The store cannot be written: the disk refuses it"


@contextmanager
def no_room(daemon: Daemon) -> Iterator[None]:
    """No file that the broker writes to may grow, or be written to at all: its log neither."""
    soft, hard = resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        if daemon.process.poll() is None:
            resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (soft, hard))


def test_without_room_persistent_calls_are_refused_others_go_on_and_nothing_accepted_is_lost(tmp_path: Path) -> None:
    broker = Daemon(tmp_path).login()
    awake, asleep = broker.add_device("awake", "AWAKE"), broker.add_device("asleep", "ASLEEP")
    device = AnsweringDevice(broker, "AWAKE")
    broker.wait_callable(awake)
    status, accepted = twoway(broker, asleep, **PERSISTENT)
    assert status == 200
    with no_room(broker):
        for device_id in (awake, asleep):
            status, refused = twoway(broker, device_id, **PERSISTENT)
            assert (status, refused["reason"], refused["message"]) == (503, "STORE_UNAVAILABLE", REFUSED)
            assert "full" in refused["hint"]
            assert str(tmp_path) not in str(refused)
        status, refused = broker.ask("POST", "/api/device", {"name": "new"})
        assert (status, refused["reason"]) == (503, "STORE_UNAVAILABLE")
        status, unready = broker.ask("GET", "/readyz")
        assert (status, unready["message"]) == (503, f"Not ready: store writer ({REFUSED})")
        assert [twoway(broker, awake, params=n) for n in range(20)] == [(200, n) for n in range(20)]
        assert persistent(broker, accepted["rpcId"])["status"] == "QUEUED"
        late = AnsweringDevice(broker, "ASLEEP")
        wait_for(lambda: late.calls, "the call that was accepted before")
    assert wait_for(lambda: broker.ask("GET", "/readyz")[0] == 200, "readiness", seconds=5)
    wait_for(successful(broker, accepted["rpcId"]), "the end of the call that was accepted before")
    assert persistent(broker, accepted["rpcId"])["response"] == {"pin": 7}
    status, again = twoway(broker, awake, **PERSISTENT)
    assert status == 200
    wait_for(successful(broker, again["rpcId"]), "the end of the call that was accepted afterwards")
    assert [method for _, method in device.calls] == ["echo"] * 20 + ["setGpio"], "what was refused was never sent"
    for device_id in (awake, asleep):
        of_device = broker.ask("GET", f"/api/rpc/persistent/device/{device_id}?pageSize=10&page=0")[1]
        assert of_device["totalElements"] == 1
    assert "2 calls, 2 devices: nothing broken" in checked(broker)
    for each in (device, late):
        each.close()
    assert broker.stop() == -signal.SIGTERM
    assert "Traceback" not in broker.log.read_text()
    assert "2 calls, 2 devices: nothing broken" in checked(broker)


def test_a_kill_while_there_is_no_room_loses_nothing_that_was_accepted(tmp_path: Path) -> None:
    broker = Daemon(tmp_path).login()
    device_id = broker.add_device("d", "D")
    accepted = [twoway(broker, device_id, **PERSISTENT)[1]["rpcId"] for _ in range(3)]
    with no_room(broker):
        assert twoway(broker, device_id, **PERSISTENT)[0] == 503
        broker.stop(signal.SIGKILL)
    (broker.state / "endpoints.json").unlink()
    broker = Daemon(tmp_path).login()
    assert "reading all of the store" in broker.log.read_text(), "it did not end in good order"
    of_device = broker.ask("GET", f"/api/rpc/persistent/device/{device_id}?pageSize=10&page=0")[1]
    assert {call["id"]["id"] for call in of_device["data"]} == set(accepted)
    device = AnsweringDevice(broker, "D")
    for rpc_id in accepted:
        wait_for(successful(broker, rpc_id), "the end of a call")
    assert len({wire_id for wire_id, _ in device.calls}) == 3
    device.close()
    broker.stop()
    assert "3 calls, 1 device: nothing broken" in checked(broker)


def test_without_room_for_long_lightweight_calls_last_until_their_ids_are_used_up(tmp_path: Path) -> None:
    broker = Daemon(tmp_path).login()
    device_id = broker.add_device("d", "D")
    device = AnsweringDevice(broker, "D")
    broker.wait_callable(device_id)
    host, port = broker.http.removeprefix("http://").split(":")
    body = b'{"method":"x"}'
    request = (
        f"POST /api/rpc/oneway/{device_id} HTTP/1.1\r\nHost: x\r\nX-Authorization: Bearer {broker.token}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    taken = 0
    with no_room(broker), socket.create_connection((host, int(port)), 30) as connection:
        answers = connection.makefile("rb")
        while True:
            connection.sendall(request * 64)
            statuses = [status_of(answers) for _ in range(64)]
            taken += statuses.count(200)
            if set(statuses) != {200}:
                break
        assert set(statuses) <= {200, 503}
        assert taken == BLOCK, "as many as were reserved, for a device that is new"
        status, refused = twoway(broker, device_id)
        assert (status, refused["reason"]) == (503, "STORE_UNAVAILABLE")
        assert refused["message"] == "The store is not keeping up with new calls"
        unready = broker.ask("GET", "/readyz")[1]["message"]
        assert unready == f"Not ready: store writer ({REFUSED}), wire ids (none are reserved yet)"
    wait_for(lambda: broker.ask("GET", "/readyz")[0] == 200, "readiness", seconds=5)
    assert twoway(broker, device_id) == (200, 5)
    ids = [wire_id for wire_id, _ in device.calls]
    assert len(set(ids)) == len(ids) == BLOCK + 1
    device.close()
    broker.stop()
    assert len(broker.log.read_text().splitlines()) < 200, "thousands of failures are a few lines"


def status_of(answers: Any) -> int:
    """Of the next answer, whose body is read too."""
    status, length = int(answers.readline().split()[1]), 0
    while (line := answers.readline()) != b"\r\n":
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    answers.read(length)
    return status


def garbage(file: Path, offset: int, length: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(offset)
        opened.write(b"\xde\xad\xbe\xef" * (length // 4))


def a_page_of(table: str) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        connection = sqlite3.connect(file)
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        connection.close()
        garbage(file, (root - 1) * size, size)

    return damage


def half(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size // 2 + 100)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda file: garbage(file, 0, 100), "file is not a database"),
        (half, "database disk image is malformed"),
        (a_page_of("audit"), "it is damaged"),
        (a_page_of("rpc"), "it is damaged"),
        (lambda file: file.write_bytes(b""), "it was in use, and now the file is empty"),
    ],
    ids=["header", "truncated", "page", "page of calls", "empty"],
)
def test_a_damaged_store_is_refused_in_one_line_and_left_alone(
    tmp_path: Path, damage: Callable[[Path], Any], says: str
) -> None:
    broker = Daemon(tmp_path).login()
    assert twoway(broker, broker.add_device("d", "D"), **PERSISTENT)[0] == 200
    broker.stop()
    file = broker.state / "rpcbroker.sqlite"
    damage(file)
    before = file.read_bytes()
    done = subprocess.run(
        [TWISTD, "-n", "--pidfile=", "rpcbroker", "--state-dir", str(broker.state)],
        check=False,
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("rpcbroker: ")]
    assert line.startswith(f"rpcbroker: store {file}: {says}")
    assert "rpcbroker restore FILE" in line
    assert "Traceback" not in done.stderr + done.stdout
    assert file.read_bytes() == before


def test_damage_that_shows_later_is_told_by_readyz_and_the_log_and_other_work_goes_on(tmp_path: Path) -> None:
    broker = Daemon(tmp_path).login()
    device_id, token = broker.add_device("d", "D"), broker.token
    broker.stop()
    broker = Daemon(tmp_path)
    broker.token = token  # a login would be written to the audit log
    a_page_of("audit")(broker.state / "rpcbroker.sqlite")
    assert broker.ask("GET", "/readyz")[0] == 200, "nobody has come upon it yet"
    status, refused = broker.ask("GET", "/api/audit/logs?pageSize=10&page=0")
    assert (status, refused["reason"]) == (503, "STORE_UNAVAILABLE")
    assert refused["message"] == "The store cannot be read: the store is damaged"
    assert "rpcbroker restore FILE" in refused["hint"]
    for _ in range(2):
        status, unready = broker.ask("GET", "/readyz")
        assert (status, unready["message"]) == (503, "Not ready: store (the store is damaged)")
    device = AnsweringDevice(broker, "D")
    broker.wait_callable(device_id)
    assert twoway(broker, device_id) == (200, 5)
    device.close()
    broker.stop()
    (line,) = [line for line in broker.log.read_text().splitlines() if "the store failed" in line][:1]
    assert "the store is damaged: database disk image is malformed. Stop the broker and put a backup" in line
