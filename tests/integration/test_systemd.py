"""The real daemon under a systemd that is none: notifications, the watchdog, sockets that are handed over."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon import TWISTD, Daemon, environment, wait_for
from fake_systemd import Notifications, handing_over
from plain_device import Device

from rpcbroker.wire.mqtt import packets as p

FOREGROUND = [sys.executable, TWISTD, "-n", "--pidfile="]


@pytest.fixture
def notifications(tmp_path: Path) -> Iterator[Notifications]:
    opened = Notifications(tmp_path / "notify")
    yield opened
    opened.close()


def get(address: tuple[str, int], path: str = "/healthz") -> int:
    """The status of one GET on a connection of its own."""
    connection = http.client.HTTPConnection(*address, timeout=15)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def backlog(listening: socket.socket) -> int:
    """How many connections may wait to be accepted: what Linux calls tcpi_sacked of a listening socket."""
    found: tuple[int] = struct.unpack_from("I", listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32), 28)
    return found[0]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def running(tmp_path: Path, notifications: Notifications, **more: str) -> Daemon:
    return Daemon(tmp_path, NOTIFY_SOCKET=notifications.address, **more).login()


class TestNotifications:
    @pytest.mark.parametrize("nodaemon", [True, False])
    def test_ready_means_that_it_answers(self, tmp_path: Path, notifications: Notifications, nodaemon: bool) -> None:
        port = free_port()
        mode = ["-n", "--pidfile="] if nodaemon else ["--pidfile", "pid", "--logfile", "log"]
        process = subprocess.Popen(
            [TWISTD, *mode, "rpcbroker", "--state-dir", "state"],
            cwd=tmp_path,
            env=environment(
                NOTIFY_SOCKET=notifications.address, RPCBROKER_HTTP_LISTEN=f"tcp:{port}:interface=127.0.0.1"
            ),
            stderr=subprocess.DEVNULL,
        )
        said = notifications.wait("READY=1")
        assert get(("127.0.0.1", port), "/readyz") == 200
        assert said == ["READY=1", "STATUS=0 devices connected, 0 calls waiting"]
        pid = process.pid if nodaemon else int((tmp_path / "pid").read_text())
        os.kill(pid, signal.SIGTERM)
        assert notifications.wait("STATUS=")[:2] == ["STOPPING=1", "STATUS=draining 0 calls"]
        assert process.wait(15) == (-signal.SIGTERM if nodaemon else 0)
        wait_for(lambda: not (tmp_path / "pid").exists(), "the end of the daemon")

    def test_what_cannot_start_is_never_ready(self, tmp_path: Path, notifications: Notifications) -> None:
        (tmp_path / "state").touch()
        done = subprocess.run(
            [TWISTD, "-n", "--pidfile=", "rpcbroker", "--state-dir", "state"],
            check=False,
            cwd=tmp_path,
            env=environment(NOTIFY_SOCKET=notifications.address),
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 1
        assert notifications.new() == []

    def test_the_end_tells_how_many_calls_it_waits_for(self, tmp_path: Path, notifications: Notifications) -> None:
        daemon = running(tmp_path, notifications)
        device_id = daemon.add_device("d", "D")
        device = Device(daemon, "D")
        answers: list[object] = []
        caller = threading.Thread(
            target=lambda: answers.append(daemon.ask("POST", f"/api/rpc/twoway/{device_id}", {"method": "slow"}))
        )
        caller.start()
        request = device.read()
        assert isinstance(request, p.Publish)
        daemon.process.send_signal(signal.SIGTERM)
        assert notifications.wait("STATUS=draining")[-2:] == ["STOPPING=1", "STATUS=draining 1 call"]
        device.send(p.Publish(request.topic.replace("request", "response"), b'"done"'))
        caller.join(10)
        assert answers == [(200, "done")]
        assert daemon.stop() == -signal.SIGTERM
        device.socket.close()

    def test_a_reload_is_told_from_its_beginning_to_its_end(self, tmp_path: Path, notifications: Notifications) -> None:
        daemon = running(tmp_path, notifications)
        notifications.wait("READY=1")
        before = time.monotonic_ns() // 1000
        daemon.process.send_signal(signal.SIGHUP)
        reloading, began, *rest = notifications.wait("READY=1")
        assert (reloading, rest) == ("RELOADING=1", ["READY=1"])
        assert before < int(began.removeprefix("MONOTONIC_USEC=")) < time.monotonic_ns() // 1000
        daemon.stop()

    def test_the_watchdog_is_fed_as_long_as_the_reactor_turns(
        self, tmp_path: Path, notifications: Notifications
    ) -> None:
        daemon = running(tmp_path, notifications, WATCHDOG_USEC="400000")
        notifications.new()
        time.sleep(1.5)
        assert 5 <= notifications.new().count("WATCHDOG=1") <= 9
        daemon.process.send_signal(signal.SIGSTOP)
        time.sleep(0.1)
        notifications.new()
        time.sleep(1)
        assert notifications.new() == []
        daemon.process.send_signal(signal.SIGCONT)
        notifications.wait("WATCHDOG=1")
        daemon.stop()

    def test_a_socket_that_is_not_there_is_one_line_in_the_log(self, tmp_path: Path) -> None:
        daemon = Daemon(tmp_path, NOTIFY_SOCKET=str(tmp_path / "none"), WATCHDOG_USEC="100000")
        time.sleep(0.5)
        daemon.stop()
        assert daemon.log.read_text().count("cannot be notified") == 1


class TestSockets:
    """Listening sockets that the test owns, and the broker is given."""

    @pytest.fixture
    def sockets(self) -> Iterator[dict[str, socket.socket]]:
        opened = {name: socket.create_server(("127.0.0.1", 0)) for name in ("http", "mqtt")}
        yield opened
        for one in opened.values():
            one.close()

    def broker(self, tmp_path: Path, sockets: dict[str, socket.socket], http_: str, mqtt: str) -> Daemon:
        return Daemon(
            tmp_path,
            command=handing_over(sockets, FOREGROUND),
            pass_fds=[one.fileno() for one in sockets.values()],
            RPCBROKER_HTTP_LISTEN=f"systemd:domain=INET:{http_}",
            RPCBROKER_MQTT_LISTEN=f"systemd:domain=INET:{mqtt}",
        )

    @pytest.mark.parametrize(("http_", "mqtt"), [("name=http", "name=mqtt"), ("index=0", "index=1")])
    def test_who_came_before_the_broker_is_answered(
        self, tmp_path: Path, sockets: dict[str, socket.socket], http_: str, mqtt: str
    ) -> None:
        address = sockets["http"].getsockname()
        with socket.create_connection(address, 15) as early:
            early.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            daemon = self.broker(tmp_path, sockets, http_, mqtt)
            assert early.recv(100).startswith(b"HTTP/1.1 200 ")
        coap = daemon.endpoints.pop("coap")
        assert coap.startswith("coap://127.0.0.1:"), "it has a port of its own"
        assert daemon.endpoints == {
            "http": f"http://127.0.0.1:{address[1]}",
            "mqtt": f"mqtt://127.0.0.1:{sockets['mqtt'].getsockname()[1]}",
            "mqtt-ws": f"ws://127.0.0.1:{address[1]}/mqtt",
            "wamp-ws": f"ws://127.0.0.1:{address[1]}/ws",
        }
        daemon.login().add_device("d", "D")
        Device(daemon, "D").socket.close()
        assert backlog(sockets["http"]) == min(4096, int(Path("/proc/sys/net/core/somaxconn").read_text()))
        daemon.stop()

    def test_a_restart_refuses_nobody(self, tmp_path: Path, sockets: dict[str, socket.socket]) -> None:
        address = sockets["http"].getsockname()
        daemon = self.broker(tmp_path, sockets, "name=http", "name=mqtt")
        outcomes: Counter[object] = Counter()
        over = threading.Event()

        def come_again() -> None:
            while not over.is_set():
                try:
                    outcomes[get(address)] += 1
                except OSError as error:
                    outcomes[repr(error)] += 1

        callers = [threading.Thread(target=come_again) for _ in range(4)]
        for caller in callers:
            caller.start()
        for _ in range(3):
            daemon.stop()
            daemon = self.broker(tmp_path, sockets, "name=http", "name=mqtt")
        over.set()
        for caller in callers:
            caller.join(20)
        daemon.stop()
        assert set(outcomes) <= {200}, outcomes
        assert outcomes[200] > 20

    def test_a_socket_that_was_not_handed_over_prevents_the_start(self, tmp_path: Path) -> None:
        done = subprocess.run(
            [TWISTD, "-n", "--pidfile=", "rpcbroker", "--state-dir", "state"],
            check=False,
            cwd=tmp_path,
            env=environment(RPCBROKER_HTTP_LISTEN="systemd:domain=INET:name=http"),
            capture_output=True,
            text=True,
            timeout=60,
        )
        why = "cannot listen on 'systemd:domain=INET:name=http': systemd handed over no such socket"
        assert (done.returncode, done.stderr) == (1, f"rpcbroker: [http] listen: {why}\n")
