"""The real twistd, in the foreground and as a daemon."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import certificates as c
import pytest
from daemon import EMAIL, TWISTD, Daemon, environment, wait_for
from plain_device import Device

from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.properties import Property


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    yield daemon.login()
    daemon.stop()


def run(tmp_path: Path, *arguments: str, nodaemon: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
    mode = ["-n", "--pidfile="] if nodaemon else ["--pidfile", "p.pid", "--logfile", "d.log"]
    return subprocess.run(
        [TWISTD, *mode, "rpcbroker", *arguments],
        check=False,
        cwd=tmp_path,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=60,
    )


def raw(url: str, data: bytes, *, seconds: float = 10.0) -> bytes:
    """What the server says to these bytes until it closes."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), seconds) as connection:
        connection.sendall(data)
        said = b""
        while chunk := connection.recv(65536):
            said += chunk
    return said


def test_it_stops_cleanly_and_forgets_its_endpoints(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    assert daemon.stop() == -signal.SIGTERM
    assert not (daemon.state / "endpoints.json").exists()
    assert "Traceback" not in daemon.log.read_text()


def test_who_is_signed_in_is_told_where_devices_find_it(broker: Daemon) -> None:
    assert broker.ask("GET", "/api/endpoints") == (200, {"urls": broker.endpoints})
    assert {"http", "mqtt", "coap", "mqtt-ws", "wamp-ws"} <= broker.endpoints.keys()
    broker.token = None
    assert broker.ask("GET", "/api/endpoints")[0] == 401


def test_a_hangup_does_not_kill_it(broker: Daemon) -> None:
    broker.process.send_signal(signal.SIGHUP)
    assert broker.ask("GET", "/healthz") == (200, {"status": "ok"})


def test_a_token_and_a_device_outlive_a_restart_and_a_log_out_too(tmp_path: Path) -> None:
    first = Daemon(tmp_path).login()
    device_id = first.add_device("kept", "KEPT")
    good, bad = first.token, first.login().token
    assert first.ask("POST", "/api/auth/logout")[0] == 200
    first.stop()
    second = Daemon(tmp_path)
    second.token = good
    assert second.ask("GET", f"/api/device/{device_id}")[1]["name"] == "kept"
    second.token = bad
    assert second.ask("GET", "/api/auth/user")[1]["errorCode"] == 10
    second.stop()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in second.state.iterdir()}
    assert set(modes.values()) == {0o600}, modes


def test_without_a_password_one_is_made_printed_once_and_kept(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, RPCBROKER_ADMIN_PASSWORD="")
    path = daemon.state / "initial-admin-password"
    password = path.read_text().strip()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(password) >= 20
    body = {"username": EMAIL, "password": password}
    assert daemon.ask("POST", "/api/auth/login", body)[0] == 200
    daemon.stop()
    assert daemon.log.read_text().count(password) == 1


def test_as_a_daemon(tmp_path: Path) -> None:
    done = run(tmp_path, "--state-dir", "relative", nodaemon=False)
    assert (done.returncode, done.stderr) == (0, "")
    endpoints = tmp_path / "relative" / "endpoints.json"
    wait_for(endpoints.exists, "endpoints.json")
    pid = int((tmp_path / "p.pid").read_text())
    try:
        assert json.loads(endpoints.read_text())["http"].startswith("http://127.0.0.1:")
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not (tmp_path / "p.pid").exists(), "the end of the daemon")
    assert "Traceback" not in (tmp_path / "d.log").read_text()


def test_python_m_twisted_runs_it_from_a_checkout(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, command=[sys.executable, "-m", "twisted"])
    daemon.stop()


@pytest.mark.parametrize("nodaemon", [True, False])
class TestWhatPreventsTheStart:
    """One clear line on stderr, no traceback, exit code 1."""

    def check(self, done: subprocess.CompletedProcess[str], says: str, *, nodaemon: bool) -> None:
        assert done.returncode == 1
        assert says in done.stderr
        assert "Traceback" not in done.stderr + done.stdout
        if nodaemon:
            assert len(done.stderr.splitlines()) == 1

    def test_a_port_in_use(self, tmp_path: Path, nodaemon: bool) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            listen = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
            done = run(tmp_path, nodaemon=nodaemon, RPCBROKER_HTTP_LISTEN=listen)
        self.check(done, "[http] listen: cannot listen on", nodaemon=nodaemon)

    @pytest.mark.parametrize("key", ["listen", "dtls_listen"])
    def test_a_udp_port_in_use(self, tmp_path: Path, nodaemon: bool, key: str) -> None:
        made = c.make(tmp_path, serial=1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            listen = (
                f"udp:{port}:interface=127.0.0.1" if key == "listen" else made.listener(port).replace("ssl:", "dtls:")
            )
            done = run(tmp_path, nodaemon=nodaemon, **{f"RPCBROKER_COAP_{key.upper()}": listen})
        self.check(done, f"[coap] {key}: cannot listen on", nodaemon=nodaemon)

    def test_a_state_directory_that_cannot_be(self, tmp_path: Path, nodaemon: bool) -> None:
        (tmp_path / "file").touch()
        done = run(tmp_path, "--state-dir", "file/state", nodaemon=nodaemon)
        self.check(done, "state directory", nodaemon=nodaemon)

    def test_another_broker_with_the_same_state(self, tmp_path: Path, nodaemon: bool) -> None:
        first = Daemon(tmp_path)
        done = run(tmp_path, "--state-dir", str(first.state), nodaemon=nodaemon)
        self.check(done, f"the process {first.process.pid} uses it" if nodaemon else "state dir", nodaemon=nodaemon)
        assert first.ask("GET", "/readyz")[0] == 200
        first.stop()
        again = Daemon(tmp_path)
        again.stop()

    def test_a_bad_setting(self, tmp_path: Path, nodaemon: bool) -> None:
        done = run(tmp_path, nodaemon=nodaemon, RPCBROKER_RPC_MIN_TIMEOUT="5 parsecs")
        assert done.returncode == 1
        assert "RPCBROKER_RPC_MIN_TIMEOUT" in done.stderr
        assert "Traceback" not in done.stderr

    def test_a_password_that_is_too_short(self, tmp_path: Path, nodaemon: bool) -> None:
        done = run(tmp_path, nodaemon=nodaemon, RPCBROKER_ADMIN_PASSWORD="short")
        self.check(done, "RPCBROKER_ADMIN_PASSWORD", nodaemon=nodaemon)


class TestHttp:
    def test_answers_have_a_length(self, broker: Daemon) -> None:
        said = raw(broker.http, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"Content-Length: 15\r\n" in said
        assert b"Transfer-Encoding" not in said

    @pytest.mark.parametrize(
        "body",
        [
            b"Content-Length: 99999999\r\n\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n" + b"10000\r\n" + b"x" * 65536 + b"\r\n",
            b"Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n",
        ],
    )
    def test_a_body_over_the_limit_is_413_at_once(self, broker: Daemon, body: bytes) -> None:
        head = b"POST /api/device HTTP/1.1\r\nHost: x\r\n"
        if b"chunked" in body:
            head_part, chunk = body.split(b"\r\n\r\n", 1)
            body = head_part + b"\r\n\r\n" + chunk * 20
        said = raw(broker.http, head + body)
        assert said.startswith(b"HTTP/1.1 413 ")
        assert b'"errorCode":31' in said

    @pytest.mark.parametrize("path", [b"/%ff", b"/healthz/%c3%28"])
    def test_a_path_that_is_no_utf_8_is_400(self, broker: Daemon, path: bytes) -> None:
        said = raw(broker.http, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 400 ")
        assert b'"errorCode":31' in said

    @pytest.mark.parametrize("host", [b"\xff", b"..", b"x" * 100, b"x:y", b""])
    def test_any_host_is_served(self, broker: Daemon, host: bytes) -> None:
        said = raw(broker.http, b"GET /healthz HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 200 ")
        assert "Traceback" not in broker.log.read_text()

    def test_a_slow_request_is_408_while_others_are_served(self, tmp_path: Path) -> None:
        daemon = Daemon(tmp_path, RPCBROKER_HTTP_REQUEST_TIMEOUT="1s")
        host, port = daemon.http.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), 10) as slow:
            slow.sendall(b"POST /api/device HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12")
            assert daemon.ask("GET", "/healthz")[0] == 200
            said = slow.recv(65536)
        daemon.stop()
        assert said.startswith(b"HTTP/1.1 408 ")


def test_sigterm_lets_running_calls_finish_and_takes_no_more(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path).login()
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
    time.sleep(0.3)  # the point: it is still there
    device.send(p.Publish(request.topic.replace("request", "response"), b'"done"'))
    caller.join(10)
    assert answers == [(200, "done")]
    assert daemon.stop() == -signal.SIGTERM
    assert device.read() == p.Disconnect(0x8B, {Property.REASON_STRING: "server shutting down"})
    device.socket.close()


def test_wire_ids_are_not_used_again_after_kill_9(tmp_path: Path) -> None:
    seen = []
    device_id = ""
    for _ in range(2):
        daemon = Daemon(tmp_path).login()
        device_id = device_id or daemon.add_device("d", "D")
        device = Device(daemon, "D")
        assert daemon.ask("POST", f"/api/rpc/oneway/{device_id}", {"method": "x"})[0] == 200
        request = device.read()
        assert isinstance(request, p.Publish)
        seen.append(int(request.topic.rsplit("/", 1)[1]))
        daemon.stop(signal.SIGKILL)
        device.socket.close()
        (daemon.state / "endpoints.json").unlink()
    assert seen[1] > seen[0] > 0


def test_a_thousand_and_one_calls_to_an_offline_device(broker: Daemon) -> None:
    device_id = broker.add_device("d", "D")
    host, port = broker.http.removeprefix("http://").split(":")
    body = b'{"method":"x","timeout":120000}'
    request = (
        f"POST /api/rpc/twoway/{device_id} HTTP/1.1\r\nHost: x\r\nX-Authorization: Bearer {broker.token}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    callers = []
    for _ in range(1000):
        caller = socket.create_connection((host, int(port)), 10)
        caller.sendall(request)
        callers.append(caller)

    def all_wait() -> bool:
        return bool(broker.ask("GET", f"/api/device/{device_id}/presence")[1]["pendingCalls"] == 1000)

    wait_for(all_wait, "a thousand waiting calls", seconds=60)
    status, answer = broker.ask("POST", f"/api/rpc/twoway/{device_id}", {"method": "x"})
    assert (status, answer["errorCode"], answer["reason"]) == (429, 33, "QUEUE_FULL")
    for caller in callers:
        caller.close()

    def none_waits() -> bool:
        return bool(broker.ask("GET", f"/api/device/{device_id}/presence")[1]["pendingCalls"] == 0)

    wait_for(none_waits, "the calls of callers who left to be cancelled")
