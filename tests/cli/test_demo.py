"""The demo, for real: a broker process, HTTP, MQTT. It leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

LIMIT = 60.0
"""Seconds after which a demo that does not end is a failure."""


class Run:
    """`rpcbroker demo` as a child, with directories of its own; its output goes to a file."""

    def __init__(self, home: Path, *words: str) -> None:
        self.home = home
        self.environ = {
            **os.environ,
            "TMPDIR": str(home),
            "XDG_CONFIG_HOME": str(home / "xdg"),
            "RPCBROKER_HTTP_LISTEN": "must not reach the broker",
            "PYTHONUNBUFFERED": "1",
        }
        self._output = home / "output.txt"
        with self._output.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "rpcbroker", "demo", *words],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=self.environ,
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    def wait_for(self, text: str) -> None:
        """Until it has printed `text`, or ended."""
        deadline = time.monotonic() + LIMIT
        while text not in self.output and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)  # a foreign process: there is nothing to await
        assert text in self.output, self.output

    def ends_with(self, code: int) -> None:
        assert self.process.wait(LIMIT) == code, self.output
        assert "Traceback" not in self.output

    def command(self, *words: str, text: str = "") -> subprocess.CompletedProcess[str]:
        """Another command, of the same user."""
        return subprocess.run(
            [sys.executable, "-m", "rpcbroker", *words],
            input=text,
            capture_output=True,
            text=True,
            env=self.environ,
            timeout=LIMIT,
            check=False,
        )

    def broker_pid(self) -> int:
        self.wait_for("started a broker, process ")
        found = re.search(r"process (\d+)", self.output)
        assert found
        return int(found[1])

    def left_nothing(self) -> None:
        with pytest.raises(ProcessLookupError):
            os.kill(self.broker_pid(), 0)
        assert not list(self.home.glob("rpcbroker-demo-*"))


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def start(*words: str) -> Run:
        runs.append(Run(tmp_path, *words))
        return runs[-1]

    yield start
    for run in runs:
        if run.process.poll() is None:
            run.process.terminate()
            run.process.wait(LIMIT)


STAY = ("--stay", "--http-port", "0", "--mqtt-port", "0")
READY = "Ctrl-C ends the broker"


def test_the_demo_calls_a_device_and_ends_well(demo: Callable[..., Run]) -> None:
    run = demo()
    run.ends_with(0)
    run.left_nothing()
    for status in ('200 {"7":true,"11":false}', "200 42", "200 (no body)", "409 ", "504 "):
        assert re.search(rf"^ +{re.escape(status)}.* [\d.]+ ms$", run.output, re.MULTILINE), run.output
    for path in ("/api/plugins/rpc/twoway/", "/api/plugins/rpc/oneway/", "/api/rpc/twoway/", "/api/rpc/oneway/"):
        assert f"POST {path}<demo-lamp>" in run.output
    assert run.output.count("reason  NEVER_CONNECTED") == 2
    assert "Everything was as it should be." in run.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_it_leaves_nothing(demo: Callable[..., Run], number: signal.Signals) -> None:
    run = demo()
    run.broker_pid()
    run.process.send_signal(number)
    run.ends_with(1)
    run.left_nothing()


def test_staying_it_can_be_used_until_ctrl_c(demo: Callable[..., Run]) -> None:
    run = demo(*STAY)
    run.wait_for(READY)
    found = re.search(r"login (http://\S+) -u (\S+) --password-stdin < (\S+)", run.output)
    assert found
    url, user, password_file = found.groups()
    page = re.search(r"^ +Console +(\S+)", run.output, re.MULTILINE)
    assert page
    with urllib.request.urlopen(page[1], timeout=LIMIT) as answer:
        assert b"<title>rpcbroker" in answer.read()
    login = run.command("login", url, "-u", user, "--password-stdin", text=Path(password_file).read_text())
    assert (login.returncode, login.stderr) == (0, f"Logged in to {url} as {user}.\n")
    called = run.command("call", "demo-lamp", "setGpioStatus", "pin=11", "enabled=true")
    assert (called.returncode, called.stdout, called.stderr) == (0, '{"7":true,"11":true}\n', "")
    offline = run.command("call", "demo-sleeper", "x", "--connect-timeout", "0")
    assert (offline.returncode, offline.stdout) == (5, "")
    assert "Reason: NEVER_CONNECTED\nHint: " in offline.stderr
    nobody = run.command("call", "00000000-0000-4000-8000-000000000000", "x")
    assert nobody.returncode == 4
    listed = run.command("device", "list")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["NAME", "demo-lamp", "demo-sleeper"]
    run.process.send_signal(signal.SIGINT)
    run.ends_with(0)
    run.left_nothing()
    gone = run.command("call", "demo-lamp", "x")
    assert (gone.returncode, gone.stdout) == (1, "")
    assert f"Error: {url} cannot be reached: Connection was refused by other side.\n" in gone.stderr


def test_a_simulated_device_answers_until_ctrl_c(demo: Callable[..., Run]) -> None:
    run = demo(*STAY)
    run.wait_for(READY)
    found = re.search(r"login (http://\S+) -u (\S+) --password-stdin < (\S+)", run.output)
    mqtt = re.search(r"^  MQTT +(\S+)", run.output, re.MULTILINE)
    assert found
    assert mqtt
    run.command("login", found[1], "-u", found[2], "--password-stdin", text=Path(found[3]).read_text())
    words = ["simulate", "board", "--gpio", "1,2", "--latency", "50ms", "--mqtt", mqtt[1]]
    with subprocess.Popen(
        [sys.executable, "-m", "rpcbroker", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=run.environ,
    ) as simulator:
        try:
            assert simulator.stdout
            assert "board is online" in simulator.stdout.readline()
            called = run.command("call", "board", "setGpioStatus", "pin=2", "enabled=true")
            assert (called.returncode, called.stdout) == (0, '{"1":false,"2":true}\n')
            simulator.send_signal(signal.SIGINT)
            output, errors = simulator.communicate(timeout=LIMIT)
        finally:
            simulator.kill()
    assert simulator.returncode == 0
    assert output.endswith('setGpioStatus {"pin": 2, "enabled": true} -> {"1": false, "2": true}\n')
    assert errors.startswith("Added board, id ")
    assert len(errors.splitlines()) == 1


def test_a_broker_that_ends_by_itself_is_an_error(demo: Callable[..., Run]) -> None:
    run = demo(*STAY)
    run.wait_for(READY)
    os.kill(run.broker_pid(), signal.SIGKILL)
    run.ends_with(1)
    assert "Error: The broker ended by itself." in run.output
    run.left_nothing()


def test_a_port_that_is_taken_is_named(demo: Callable[..., Run]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = demo("--http-port", str(port))
        run.ends_with(1)
    assert f"[http] listen: cannot listen on 'tcp:{port}:interface=127.0.0.1'" in run.output
    run.left_nothing()
