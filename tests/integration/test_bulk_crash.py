"""One request for many real devices, through kills (SIGKILL) of the real broker: no device is called twice for it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon import Daemon, wait_for
from hostile import check_log
from logging_devices import Manner, What

BULK = "/api/rpc/bulk"
NAMES = [f"lamp{number}" for number in range(30)]
KILLS = (5, 12, 19)
"""How many devices have done it when the broker is killed."""
RESUME = {"RPCBROKER_BULK_RESUME_AFTER": "1s"}


class Fleet:
    """A broker that is killed and comes back, and devices that write down what they do."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "devices.log"
        self.broker = Daemon(directory, **RESUME).login()
        self.ids = {name: self.broker.add_device(name, name) for name in NAMES}
        program = Path(__file__).parents[1] / "logging_devices.py"
        devices = [f"{name}:{Manner.PROMPT}:mqtt" for name in NAMES]
        command = [sys.executable, str(program), str(self.broker.state / "endpoints.json"), str(self.log), *devices]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE)

    def kill(self) -> None:
        """And start it again."""
        self.broker.stop(signal.SIGKILL)
        (self.broker.state / "endpoints.json").unlink()
        self.broker = Daemon(self.directory, **RESUME).login()

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)
        self.broker.stop()

    def done(self) -> dict[str, list[int]]:
        """Device -> the wire id of each time that it did what it was called for."""
        found = defaultdict(list)
        for line in map(json.loads, self.log.read_text().splitlines()):
            if line["what"] == What.EXECUTED:
                found[line["device"]].append(line["wire_id"])
        return found

    def begin(self, **request: Any) -> str:
        body = {
            "devices": list(self.ids.values()),
            "request": {"method": "do", "params": {"n": 1}, "timeout": 20_000, **request},
            "rate": "10:1",
            "concurrency": 4,
            "canary": 2,
            "requestUUID": "b0b0b0b0-0000-4000-8000-000000000001",
        }
        for _ in range(2):
            status, made = self.broker.ask("POST", BULK, body)
            assert (status, made) == (200, {"bulkId": body["requestUUID"]})
        return f"{BULK}/{made['bulkId']}"

    def results(self, path: str) -> list[dict[str, Any]]:
        """When it has ended."""

        def ended() -> Any:
            bulk = self.broker.ask("GET", f"{path}?pageSize=1000")[1]
            return bulk if bulk["endedTime"] is not None else None

        bulk = wait_for(ended, "the end of the bulk", seconds=60)
        assert bulk["state"] == "DONE", bulk
        results: list[dict[str, Any]] = bulk["results"]["data"]
        assert [each["deviceName"] for each in results] == NAMES
        states = [each["state"] for each in results]
        assert {state: states.count(state) for state in states} == {
            name.upper(): count for name, count in bulk["counts"].items() if count and name != "total"
        }
        return results


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path)
    for device_id in fleet.ids.values():
        fleet.broker.wait_callable(device_id)
    yield fleet
    fleet.stop()


def test_no_device_is_called_twice(fleet: Fleet) -> None:
    path = fleet.begin()
    for count in KILLS:
        wait_for(lambda count=count: len(fleet.done()) >= count, f"the call of {count} devices", seconds=30)  # type: ignore[misc]
        fleet.kill()
    done, results = fleet.done(), fleet.results(path)
    done = fleet.done()
    assert not {name: ids for name, ids in done.items() if len(ids) > 1}
    for each in results:
        name = each["deviceName"]
        assert each["state"] in {"SUCCESSFUL", "UNKNOWN"}, each
        if each["state"] == "SUCCESSFUL":
            assert (len(done[name]), each["response"]) == (1, {"n": 1})
    assert sum(each["state"] == "UNKNOWN" for each in results) <= 4 * len(KILLS)
    check_log(fleet.broker)


def test_each_device_has_one_persistent_call_and_all_are_answered(fleet: Fleet) -> None:
    path = fleet.begin(persistent=True, timeout=120_000)
    for count in KILLS:
        wait_for(lambda count=count: len(fleet.done()) >= count, f"the call of {count} devices", seconds=30)  # type: ignore[misc]
        fleet.kill()
    results = fleet.results(path)
    assert {each["state"] for each in results} == {"SUCCESSFUL"}
    for name, wire_ids in fleet.done().items():
        assert len(set(wire_ids)) == 1, f"{name} has seen two calls: {wire_ids}"
    for name, device_id in fleet.ids.items():
        calls = fleet.broker.ask("GET", f"/api/rpc/persistent/device/{device_id}?pageSize=10")[1]["data"]
        assert [each["status"] for each in calls] == ["SUCCESSFUL"], name
    check_log(fleet.broker)
