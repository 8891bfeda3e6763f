"""Calls from a shell, and what is told of them: the real commands, the real daemon, a simulated device."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from daemon import EMAIL, PASSWORD, Daemon
from operating import Operator


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    directory = tmp_path_factory.mktemp("broker")
    broker = Daemon(directory)
    operator = Operator(directory, broker)
    operator.log_in(EMAIL, PASSWORD)
    yield operator
    broker.stop()
    assert "Traceback" not in broker.log.read_text()


def test_a_call_that_is_kept_waits_for_its_device_and_tells_its_story(operator: Operator) -> None:
    operator.run("device", "add", "sleeper")
    made = operator.run("call", "sleeper", "echo", "hello=device", "--persistent", "--timeout", "1h")
    rpc_id = made.stdout.strip()
    assert UUID(rpc_id)
    assert made.stderr == f"Kept. What became of it: rpcbroker explain {rpc_id}\n"
    waiting = operator.gets("explain", rpc_id)
    assert waiting.startswith("echo was asked of sleeper at ")
    assert "by admin@example.org (two-way, persistent, until " in waiting
    assert "It has not gone to the device yet" in waiting

    with operator.simulator("sleeper"):
        again = operator.run(
            "call", "sleeper", "echo", "hello=device", "--persistent", "--wait", "--request-id", rpc_id
        )
        assert again.stderr == f"Kept as {rpc_id}; waiting for its end.\n"
        assert again.stdout == '{"hello":"device"}\n'
    told = operator.gets("explain", rpc_id)
    assert "It went out over MQTT at " in told
    assert ", and was answered " in told
    assert told.endswith('\nReply: {"hello":"device"}')
    timeline = json.loads(operator.gets("explain", rpc_id, "--json"))
    assert (timeline["state"], timeline["deviceName"]) == ("SUCCESSFUL", "sleeper")
    (listed,) = json.loads(operator.gets("calls", "--device", "sleeper", "--since", "1h", "--json"))
    assert listed["rpcId"] == rpc_id
    too_late = operator.run("cancel", rpc_id, code=1)
    assert too_late.stderr == f"Error: The call had ended before.\nHint: How it ended: rpcbroker explain {rpc_id}\n"


def test_progress_comes_as_it_is_made(operator: Operator) -> None:
    with operator.simulator("counter"):
        counted = operator.run("call", "counter", "countDown", "seconds=2", "--progress")
        assert counted.stderr == 'Progress: {"left":1}\n'
        assert json.loads(counted.stdout) == {"left": 0}
        unknown = operator.run("call", "nobody", "countDown", "--progress", code=4)
        assert "There is no device named 'nobody'" in unknown.stderr


def test_a_call_is_cancelled_by_somebody_else_and_its_device_stops(operator: Operator) -> None:
    rpc_id = "6d2ab2c4-3f5e-4a53-9c2b-0d5a9f0e7a11"
    with (
        operator.simulator("stopper") as device,
        operator.starts("call", "stopper", "countDown", "seconds=60", "--progress", "--request-id", rpc_id) as caller,
    ):
        assert caller.stderr
        assert caller.stderr.readline() == 'Progress: {"left":59}\n'
        cancelled = operator.run("cancel", rpc_id)
        assert cancelled.stderr == (
            "Cancelled. It had gone to the device, which was told that nobody waits for it any more.\n"
        )
        assert caller.wait(15) == 1
        assert f"Reason: CANCELLED\nMore: rpcbroker explain {rpc_id}\n" in caller.stderr.read()
        assert device.stdout
        assert device.stdout.readline().endswith("-> cancelled\n")
    told = operator.gets("explain", rpc_id)
    assert "It was cancelled at " in told
    assert "by admin@example.org. The device was told so." in told


def test_a_call_that_fails_says_who_tells_more(operator: Operator) -> None:
    operator.run("device", "add", "absent")
    failed = operator.run("call", "absent", "echo", "--connect-timeout", "0", code=5)
    more = failed.stderr.splitlines()[-1]
    assert more.startswith("More: rpcbroker explain ")
    told = operator.gets("explain", more.split()[-1])
    assert "It was refused: The device has never connected." in told
    assert "\nReason: NEVER_CONNECTED\nHint: " in told
    kept = operator.run("call", "absent", "echo", "--persistent", "--wait", "--connect-timeout", "100ms", code=5)
    assert "Error: The call ended " in kept.stderr
    assert "Reason: NEVER_CONNECTED" in kept.stderr


def test_who_waits_for_a_kept_call_waits_over_a_crash_of_the_broker(tmp_path: Path) -> None:
    operator = Operator(tmp_path, Daemon(tmp_path))
    operator.log_in(EMAIL, PASSWORD)
    operator.run("device", "add", "sleeper")
    with operator.starts("call", "sleeper", "echo", "1", "--persistent", "--wait", "--timeout", "1h") as caller:
        assert caller.stderr
        rpc_id = caller.stderr.readline().removeprefix("Kept as ").partition(";")[0]
        operator.broker.stop(signal.SIGKILL)
        port = operator.broker.http.rpartition(":")[2]
        (operator.broker.state / "endpoints.json").unlink()  # or the next one would seem ready by the last one's
        operator.broker = Daemon(tmp_path, RPCBROKER_HTTP_LISTEN=f"tcp:{port}:interface=127.0.0.1")
        with operator.simulator("sleeper"):
            assert caller.wait(30) == 0
        assert caller.stdout
        assert (caller.stdout.read(), caller.stderr.read()) == ("1\n", "")
    told = operator.gets("explain", rpc_id)
    assert "It was read from the store at " in told
    assert told.endswith("\nReply: 1")
    operator.broker.stop()
    assert "Traceback" not in operator.broker.log.read_text()
