"""The benchmark of calls, in short, and what its load says of a broker that answers wrongly or late.

The broker is a thread here that takes one device and one caller, and says what the test wants it to.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

BENCH = Path(__file__).parent.parent.parent / "bench"
RIGHT = b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"7":true}'
CONNACK_SUBACK = b"\x20\x02\x00\x00\x90\x03\x00\x01\x00"


@pytest.mark.parametrize("program", sorted(path.name for path in BENCH.glob("*_load.c")))
def test_loads_compile_without_a_warning(program: str, tmp_path: Path) -> None:
    command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", tmp_path / "load", BENCH / program]
    subprocess.run([*command, "-lssl", "-lcrypto"], check=True, timeout=60)


def test_rounds_of_calls_end_well() -> None:
    options = "--seconds", "0.3", "--rounds", "1", "--only", "rpc,at-300,tls,growth", "--peers", ""
    command = [sys.executable, str(BENCH / "rpc.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    measured = re.findall(
        r"^  rpcbroker(?:, [a-z0-9 ]+)? +([0-9,]+)/s \(.*, p50 [0-9.]+ ms, p99", done.stdout, re.MULTILINE
    )
    assert len(measured) == 7, done.stdout
    assert 150 <= int(measured[1]) <= 400, "some three hundred a second, not as many as there can be"
    assert "rpcbroker / rpcbroker, plain: rate" in done.stdout
    assert "rpcbroker / rpcbroker, 200 devices again: rate" in done.stdout


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("load") / "load"
    subprocess.run(["cc", "-o", program, BENCH / "rpc_load.c", "-lssl", "-lcrypto"], check=True, timeout=60)
    return program


def listen() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def serve(mqtt: socket.socket, http: socket.socket, answers: Iterator[bytes], called: Callable[[], object]) -> None:
    """Let one device and then one caller in. Its calls get these answers, and after the last it is disconnected."""
    device = mqtt.accept()[0]
    with device:
        device.recv(1024)
        device.sendall(CONNACK_SUBACK)
        caller = http.accept()[0]
        with caller:
            while caller.recv(4096) and (answer := next(answers, b"")):
                called()
                caller.sendall(answer)


def run(load: Path, answers: Iterator[bytes], *, rate: int = 0, seconds: float = 0.2) -> Any:
    """What the load says of a broker with these answers."""
    with listen() as mqtt, listen() as http:
        thread = threading.Thread(target=serve, args=(mqtt, http, answers, lambda: None))
        thread.start()
        ports = str(http.getsockname()[1]), str(os.getpid()), str(mqtt.getsockname()[1])
        counts = "1", "1", "0", str(rate), "0", str(seconds)
        done = subprocess.run(
            [load, "mqtt", *ports, *counts],
            input="token\nid\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        thread.join(30)
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr


def always(answer: bytes) -> Iterator[bytes]:
    while True:
        yield answer


def test_right_answers_count(load: Path) -> None:
    found = run(load, always(RIGHT))
    assert found["operations"] > 10
    assert found["p50_ms"] < 100


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (RIGHT.replace(b"200 OK", b"504 Gateway Timeout"), "a call was answered with HTTP/1.1 504"),
        (RIGHT.replace(b"true", b"null"), "a call was answered with HTTP/1.1 200"),
        (RIGHT.replace(b": 10", b": 11") + b" ", "a call was answered with HTTP/1.1 200"),
        (RIGHT + b"HTTP/1.1", "a call was answered with HTTP/1.1 200"),
        (b"", "the connection was closed"),
    ],
)
def test_one_wrong_answer_ends_it(load: Path, answer: bytes, complaint: str) -> None:
    answers = iter([RIGHT, RIGHT, answer, RIGHT])
    assert complaint in run(load, answers, seconds=5)


def test_the_latency_of_calls_counts_from_when_they_were_due(load: Path) -> None:
    """While the broker says nothing to the first one, the others are due as well, and wait."""

    def late() -> Iterator[bytes]:
        time.sleep(0.5)
        yield from always(RIGHT)

    found = run(load, late(), rate=100, seconds=2)
    assert found["operations"] >= 100, "so that the last hundredth is more than the first call alone"
    assert found["p99_ms"] > 300


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCH))
    return import_module("rounds")


def run_in_turn(
    rounds: Any, load: Path, brokers: list[Iterator[bytes]], *, rate: int = 0
) -> tuple[list[Any], list[int]]:
    """What the loads say of brokers with these answers, and the number of the broker at each call."""
    bench, calls = SimpleNamespace(load=str(load), directory=load.parent), []
    with contextlib.ExitStack() as stack:
        loads = []
        for number, answers in enumerate(brokers):
            mqtt, http = stack.enter_context(listen()), stack.enter_context(listen())
            called = partial(calls.append, number)
            thread = threading.Thread(target=serve, args=(mqtt, http, answers, called))
            thread.start()
            stack.callback(thread.join, 30)
            counts = mqtt.getsockname()[1], 1, 1, 0, rate, 0.1, 0.3
            server = SimpleNamespace(pid=os.getpid())
            loads.append(rounds.Load(server, http.getsockname()[1], counts, "token\nid\n"))
        return rounds.Bench.run_in_turn(bench, "mqtt", loads), calls


@pytest.mark.parametrize("rate", [0, 200])
def test_of_brokers_that_take_turns_one_at_a_time_is_called(rounds: Any, load: Path, rate: int) -> None:
    results, calls = run_in_turn(rounds, load, [always(RIGHT), always(RIGHT), always(RIGHT)], rate=rate)
    turns = [number for number, _ in groupby(calls)]
    assert turns == [0, 1, 2] * (len(turns) // 3)
    assert len(turns) >= 12, "a tenth of a second each, with the warm-up"
    for number, result in enumerate(results):
        counted = result.rate * 0.3
        assert 0 < counted < calls.count(number), "neither the warm-up nor the lead of each slice counts"
        assert rate == 0 or result.rate == pytest.approx(rate, rel=0.3)


def test_one_wrong_answer_ends_all_that_take_turns(rounds: Any, load: Path) -> None:
    with pytest.raises(SystemExit, match="the connection was closed") as end:
        run_in_turn(rounds, load, [always(RIGHT), iter([RIGHT] * 3)])
    assert "the load before this one has ended" in str(end.value)
