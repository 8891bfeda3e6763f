"""The feed at a shell: curl, a client over a bare socket, and `rpcbroker watch`, with the real daemon and a device."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from daemon import EMAIL, PASSWORD, Daemon, wait_for
from operating import PROGRAM, Operator

from rpcbroker.wire.events import Event, EventReader

NAME = "lamp"


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    directory = tmp_path_factory.mktemp("broker")
    broker = Daemon(directory).login()
    operator = Operator(directory, broker)
    operator.log_in(EMAIL, PASSWORD)
    with operator.simulator(NAME):
        yield operator
    broker.stop()
    assert "Traceback" not in broker.log.read_text()


def lines(process: subprocess.Popen[str], count: int) -> list[Any]:
    assert process.stdout
    return [json.loads(process.stdout.readline()) for _ in range(count)]


@contextmanager
def watching(operator: Operator, *words: str) -> Iterator[subprocess.Popen[str]]:
    """`rpcbroker watch`, once it does."""
    with operator.starts("watch", *words) as process:
        assert process.stderr
        assert process.stderr.readline() == "Watching; Ctrl-C ends it.\n"
        yield process


class Client:
    """A reader of server-sent events over HTTP, as small as one can be."""

    def __init__(self, broker: Daemon, query: str = "", **headers: str) -> None:
        self.connection = HTTPConnection(urlsplit(broker.http).netloc, timeout=10)
        self.connection.request(
            "GET", f"/api/feed?{query}", headers={"X-Authorization": f"Bearer {broker.token}"} | headers
        )
        self.response = self.connection.getresponse()
        assert self.response.status == 200, self.response.read()
        self.reader = EventReader()
        self._events: list[Event] = []

    def until(self, state: str) -> list[Any]:
        """The data of all events up to the first one of this state."""
        found = []
        while True:
            while self._events:
                found.append(json.loads(self._events.pop(0).data))
                if found[-1].get("state") == state:
                    return found
            self._events = self.reader.feed(self.response.readline())

    def close(self) -> None:
        self.response.close()
        self.connection.close()


def test_curl_sees_a_call_as_it_goes_on(operator: Operator) -> None:
    command = ["curl", "-sN", "-H", f"X-Authorization: Bearer {operator.broker.token}"]
    url = f"{operator.broker.http}/api/feed?method=echo&payloads=true"
    with subprocess.Popen([*command, url], stdout=subprocess.PIPE) as curl:
        try:
            assert curl.stdout
            assert curl.stdout.readline().startswith(b"id: ")
            operator.run("call", NAME, "echo", "on=true")
            reader, found = EventReader(), list[Event]()
            while not found or json.loads(found[-1].data)["state"] != "SUCCESSFUL":
                found += reader.feed(curl.stdout.readline())
        finally:
            curl.terminate()
    data = [json.loads(each.data) for each in found]
    assert {each.name for each in found} == {"call"}
    assert (data[0]["state"], data[0]["params"]) == ("QUEUED", {"on": True})
    assert data[-1]["reply"] == {"on": True}
    assert [each["n"] for each in data] == list(range(1, len(data) + 1))


def test_a_client_that_comes_back_goes_on_where_it_was(operator: Operator) -> None:
    client = Client(operator.broker, "method=echo")
    operator.run("call", NAME, "echo", "1")
    seen = client.until("SUCCESSFUL")
    client.close()
    operator.run("call", NAME, "echo", "2")
    again = Client(operator.broker, "method=echo", **{"Last-Event-ID": client.reader.last_id})
    missed = again.until("SUCCESSFUL")
    again.close()
    assert missed[0]["state"] == "QUEUED"
    assert missed[0]["seq"] > seen[-1]["seq"]
    assert {each["rpcId"] for each in missed}.isdisjoint({each["rpcId"] for each in seen})


def test_who_reads_nothing_harms_nobody(operator: Operator) -> None:
    """A socket with a small buffer that is never read, beside one that is."""
    stalled = socket.socket()
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    parts = urlsplit(operator.broker.http)
    stalled.connect((parts.hostname, parts.port))
    stalled.sendall(
        f"GET /api/feed HTTP/1.1\r\nHost: x\r\nX-Authorization: Bearer {operator.broker.token}\r\n\r\n".encode()
    )
    client = Client(operator.broker, "method=echo&state=SUCCESSFUL")
    device_id = json.loads(operator.gets("device", "list", "--json"))[0]["id"]["id"]
    started = time.monotonic()
    for number in range(200):
        body = {"method": "echo", "params": number}
        assert operator.broker.ask("POST", f"/api/rpc/twoway/{device_id}", body) == (200, number)
    assert time.monotonic() - started < 20
    assert [client.until("SUCCESSFUL")[-1]["n"] for _ in range(200)] == list(range(1, 201))
    client.close()
    stalled.close()


def test_where_there_is_no_terminal_each_event_is_a_line_of_json(operator: Operator) -> None:
    with watching(operator, "--device", NAME, "--payloads") as process:
        operator.run("call", NAME, "echo", "on=true")
        found = []
        while not found or found[-1].get("state") != "SUCCESSFUL":
            found += lines(process, 1)
        assert found[-1]["event"] == "call"
        assert found[-1]["deviceName"] == NAME
        assert found[-1]["reply"] == {"on": True}
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert process.stderr
        assert process.stderr.read() == ""


def test_only_what_is_asked_for_is_shown(operator: Operator) -> None:
    with watching(operator, "--method", "e*o", "--state", "successful") as process:
        operator.run("call", NAME, "getGpioStatus")
        operator.run("call", NAME, "echo", "1")
        (line,) = lines(process, 1)
        assert (line["method"], line["state"]) == ("echo", "SUCCESSFUL")


def test_devices_that_come_and_go_are_shown(operator: Operator) -> None:
    operator.run("device", "add", "visitor")
    with watching(operator, "--device", "visitor") as process:
        with operator.simulator("visitor"):
            words = [line["topic"].rpartition(".")[2] for line in lines(process, 2)]
            assert words == ["connected", "callable"]
        assert {line["topic"].rpartition(".")[2] for line in lines(process, 2)} == {"not_callable", "disconnected"}


def test_who_watches_a_device_that_is_not_there_is_told_so(operator: Operator) -> None:
    assert "There is no device named 'nobody'" in operator.run("watch", "--device", "nobody", code=4).stderr


def test_a_pipe_that_is_closed_ends_it(operator: Operator) -> None:
    with watching(operator) as process:
        assert process.stdout
        process.stdout.close()
        operator.run("call", NAME, "echo", "1")
        assert process.wait(10) == 1
        assert process.stderr
        assert "Traceback" not in process.stderr.read()


def test_on_a_terminal_there_are_columns_in_colour(operator: Operator) -> None:
    mine, its = pty.openpty()
    command = [PROGRAM, "watch", "--method", "echo"]
    environ = operator.environ | {"TERM": "xterm-256color", "COLUMNS": "100"}
    with subprocess.Popen(command, stdout=its, stderr=subprocess.PIPE, text=True, env=environ) as process:
        try:
            assert process.stderr
            process.stderr.readline()
            operator.run("call", NAME, "echo", "1")
            shown = b""
            while b"answered" not in shown:
                assert select.select([mine], [], [], 10)[0], shown
                shown += os.read(mine, 4096)
        finally:
            process.terminate()
            os.close(its)
            os.close(mine)
    (line,) = [line for line in shown.splitlines() if b"answered" in line]
    assert b"lamp                echo                \x1b[32manswered        \x1b[0m" in line


def test_it_goes_on_over_a_crash_and_a_restart_of_the_broker(tmp_path: Path) -> None:
    operator = Operator(tmp_path, Daemon(tmp_path))
    operator.log_in(EMAIL, PASSWORD)
    operator.run("device", "add", NAME)
    port = operator.broker.http.rpartition(":")[2]
    with watching(operator, "--state", "SUCCESSFUL") as process:
        assert process.stderr
        for number in (signal.SIGKILL, signal.SIGTERM):
            operator.broker.stop(number)
            assert process.stderr.readline().startswith("The broker is away: ")
            (operator.broker.state / "endpoints.json").unlink(missing_ok=True)
            operator.broker = Daemon(tmp_path, RPCBROKER_HTTP_LISTEN=f"tcp:{port}:interface=127.0.0.1")
            assert process.stderr.readline() == "The broker is back; what happened meanwhile is not known.\n"
            with operator.simulator(NAME):
                operator.run("call", NAME, "echo", "1")
                assert lines(process, 1)[0]["method"] == "echo"
    log = operator.broker.log.read_text()
    operator.broker.stop()
    assert "Traceback" not in log
    wait_for(lambda: operator.broker.process.poll() is not None, "the end of the broker")
