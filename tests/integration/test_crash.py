"""Persistent calls to real devices of all protocols through kills (SIGKILL) of the real broker: nothing lost, nothing
twice in silence.

What is demanded, of each call whose caller was told that it is kept:

* it is there, under its rpc id, in one final state, and no two watchers were ever told of two final states;
* its device saw it under one wire id, and that wire id for no other call;
* on one connection of its device it was executed at most once. Another execution is allowed
  (ARCHITECTURE.md, "Given again") only if the connection was lost (each kill does that) before the broker had
  acknowledged a reply, and before anybody was told of an end; `IN_FLIGHT_MS` is granted to what the broker had written before that end;
* SUCCESSFUL, and one-way DELIVERED, was executed; EXPIRED by a device that was never there was not;
* nothing was executed more than `IN_FLIGHT_MS` after its expiration;
* EXPIRED came at most 1.5 s after the expiration, or 5 s after the start of a broker that was down then.

And of all others: what a device executed is there, for it was stored first.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crash_load import Accepted, Kind, Load
from daemon import Daemon, wait_for
from hostile import check_log
from logging_devices import Manner, What

PROGRAM = str(Path(sys.executable).parent / "rpcbroker")
RATE = 30.0
UP = 0.5, 3.0
"""Seconds that a broker lives after it is ready, before it is killed."""
IN_FLIGHT_MS = 1_000
ON_TIME_MS, AFTER_START_MS = 1_500, 5_000
THERE = {
    **{f"prompt{n}": (Manner.PROMPT, "mqtt") for n in range(4)},
    "slow": (Manner.SLOW, "mqtt"),
    "mute": (Manner.MUTE, "mqtt"),
    "flapping0": (Manner.FLAPPING, "mqtt"),
    "flapping1": (Manner.FLAPPING, "mqtt"),
    "coap-prompt": (Manner.PROMPT, "coap"),
    "coap-mute": (Manner.MUTE, "coap"),
    "coap-flapping": (Manner.FLAPPING, "coap"),
    "polls": (Manner.PROMPT, "polls"),
    "events": (Manner.PROMPT, "events"),
}
LATER = {"later0": (Manner.PROMPT, "mqtt"), "later1": (Manner.PROMPT, "coap"), "later2": (Manner.PROMPT, "polls")}
"""They come when the kills are over."""
NEVER = ("never",)
KINDS = (
    Kind([name for name, (manner, _) in THERE.items() if manner is not Manner.MUTE], [120.0], 0.6),
    Kind(list(THERE), [0.05, 0.5, 2.0, 5.0], 0.2),
    Kind(list(LATER), [0.5, 3.0, 240.0, 240.0], 0.1),
    Kind(NEVER, [0.2, 1.0, 3.0], 0.1),
)


class Plant:
    """A broker that is killed and comes back, and processes of devices."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "devices.log"
        self.lives: list[list[int]] = []
        """When each broker was ready and when it was killed, epoch ms."""
        self.processes: list[subprocess.Popen[bytes]] = []
        self.start()
        self.ids = {name: self.broker.add_device(name, name) for name in (*THERE, *LATER, *NEVER)}

    @property
    def endpoints(self) -> Path:
        return self.broker.state / "endpoints.json"

    def start(self) -> None:
        self.broker = Daemon(self.directory).login()
        self.lives.append([_now()])

    def kill(self) -> None:
        self.broker.stop(signal.SIGKILL)
        self.lives[-1].append(_now())
        self.endpoints.unlink()

    def connect(self, devices: dict[str, tuple[Manner, str]]) -> None:
        """Devices of these names, in a process that keeps them connected."""
        program = Path(__file__).parents[1] / "logging_devices.py"
        names = [f"{name}:{manner}:{protocol}" for name, (manner, protocol) in devices.items()]
        command = [sys.executable, str(program), str(self.endpoints), str(self.log), *names]
        self.processes.append(subprocess.Popen(command, stdin=subprocess.PIPE))

    def stop(self) -> None:
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(10)
        self.broker.stop()

    def executions(self) -> list[dict[str, Any]]:
        """What the devices wrote down, in the order of time."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def calls(self) -> dict[str, dict[str, Any]]:
        """All calls that the broker knows, as REST lists them, by their rpc ids."""
        found = {}
        for device_id in self.ids.values():
            page, more = 0, True
            while more:
                path = f"/api/rpc/persistent/device/{device_id}?pageSize=500&page={page}"
                status, answer = self.broker.ask("GET", path)
                assert status == 200, answer
                found |= {one["id"]["id"]: one for one in answer["data"]}
                page, more = page + 1, answer["hasNext"]
        return found

    def ended(self, rpc_id: str) -> int:
        """Epoch ms."""
        status, answer = self.broker.ask("GET", f"/api/rpc/{rpc_id}/timeline")
        assert status == 200, answer
        ended: int = answer["endedTime"]
        return ended


def _now() -> int:
    return time.time_ns() // 10**6


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    plant = Plant(tmp_path)
    yield plant
    plant.stop()


def test_nothing_is_lost_and_nothing_done_twice_in_silence_through_five_kills(plant: Plant) -> None:
    crash(plant, 5)


@pytest.mark.soak
def test_nothing_is_lost_and_nothing_done_twice_in_silence_through_thirty_kills(plant: Plant) -> None:
    crash(plant, 30)


def crash(plant: Plant, kills: int) -> None:
    seed = int(os.environ.get("CRASH_SEED", "") or random.SystemRandom().randrange(10**6))
    print(f"CRASH_SEED={seed}")
    chance = random.Random(seed)
    plant.connect(THERE)
    load = Load(plant.endpoints, plant.ids, KINDS, seed, RATE)
    load.start()
    for _ in range(kills):
        time.sleep(chance.uniform(*UP))
        plant.kill()
        time.sleep(chance.choice((0.0, 0.0, 1.0)))
        plant.start()
    time.sleep(1)
    load.end()
    plant.connect(LATER)

    def all_ended() -> dict[str, dict[str, Any]] | None:
        calls = plant.calls()
        going_on = [one for one in calls.values() if not _ended(one)]
        return None if going_on else calls

    calls = wait_for(all_ended, "the end of each call", 30)
    time.sleep(1)  # whatever is executed now would be too much
    again = plant.calls()
    assert {i: one["status"] for i, one in calls.items()} == {i: one["status"] for i, one in again.items()}
    print(summary(plant, load, calls))
    assert {line["device"] for line in plant.executions() if line["what"] == What.EXECUTED} == {*THERE, *LATER}
    judge(plant, load.accepted, calls)
    others = [answer for _, answer in load.refused if answer.get("reason") != "EXPIRED"]  # it came in too late
    assert not others
    check_log(plant.broker)
    plant.broker.stop()
    checked = subprocess.run(
        [PROGRAM, "check", "--state-dir", str(plant.broker.state)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def _ended(one: dict[str, Any]) -> bool:
    final = {"SUCCESSFUL", "EXPIRED", "FAILED"} | ({"DELIVERED"} if one["request"]["oneway"] else set())
    return one["status"] in final


def summary(plant: Plant, load: Load, calls: dict[str, dict[str, Any]]) -> str:
    executed = Counter(line["what"] for line in plant.executions())
    states = Counter(one["status"] for one in calls.values())
    return (
        f"{len(load.accepted)} accepted, {load.unknown} of unknown fate, {load.retried} asked again, {len(calls)} in the "
        f"store {dict(states)}; {executed[What.EXECUTED]} executions on {executed[What.CONNECTED]} connections"
    )


Wrong = dict[str, list[Any]]


def judge(plant: Plant, accepted: list[Accepted], calls: dict[str, dict[str, Any]]) -> None:
    """Count what must not be. Of each kind of wrong the first ones are shown."""
    wrong: Wrong = defaultdict(list)
    executions: dict[int, list[dict[str, Any]]] = defaultdict(list)
    acknowledged: dict[int, int] = {}
    for line in plant.executions():
        if line["what"] == What.EXECUTED:
            executions[line["n"]].append(line)
        elif line["what"] == What.ACKNOWLEDGED:
            acknowledged.setdefault(line["n"], line["t"])
    judge_executions(wrong, executions, calls)
    for one in accepted:
        if one.rpc_id not in calls:
            wrong["lost"].append(one)
        else:
            judge_call(wrong, one, calls[one.rpc_id]["status"], executions[one.n], acknowledged.get(one.n))
    expired = [i for i, one in calls.items() if one["status"] == "EXPIRED"]
    for rpc_id in expired:
        expiration, ended = calls[rpc_id]["expirationTime"], plant.ended(rpc_id)
        if lateness(plant, expiration, ended) > 0:
            wrong["expired late"].append((calls[rpc_id], expiration, ended, plant.lives))
    print({what: len(found) for what, found in wrong.items()}, f"of {len(expired)} expired")
    assert not any(wrong.values()), {what: found[:3] for what, found in wrong.items() if found}


def judge_executions(wrong: Wrong, executions: dict[int, list[dict[str, Any]]], calls: dict[str, Any]) -> None:
    """Each call's, whoever asked for it."""
    wire_ids: dict[tuple[str, int], set[int]] = defaultdict(set)
    for n, done in executions.items():
        for line in done:
            wire_ids[line["device"], line["wire_id"]].add(n)
        if len({line["wire_id"] for line in done}) > 1:
            wrong["two wire ids for one call"].append(done)
        if len({line["connection"] for line in done}) < len(done):
            wrong["executed twice on one connection"].append(done)
    wrong["wire id used for two calls"] += [key for key, numbers in wire_ids.items() if len(numbers) > 1]
    stored = {json.loads(one["request"]["body"]["params"])["n"] for one in calls.values()}
    wrong["executed and not in the store"] += [n for n in executions if n not in stored]
    assert len(stored) == len(calls), "two calls with one sequence number"


def judge_call(wrong: Wrong, one: Accepted, status: str, done: list[dict[str, Any]], acknowledged: int | None) -> None:
    """`done` are its executions, `acknowledged` is when the broker acknowledged a reply to it (epoch ms)."""
    if {seen for _, seen in one.seen if one.is_final(seen)} - {status}:
        wrong["two final states"].append((one, status))
    if not done and (status == "SUCCESSFUL" or (one.oneway and status == "DELIVERED")):
        wrong["ended well and never executed"].append(one)
    if status == "FAILED" or (done and one.device in NEVER):
        wrong["how?"].append((one, status))
    reported = one.reported()
    ends = {"told": reported and reported[0], "acknowledged": acknowledged, "expiration": one.expiration}
    for what, end in ends.items():
        if end is not None:
            late = [(one, line) for line in done if line["t"] > end + IN_FLIGHT_MS]
            wrong[f"executed after the {what} end"] += late


def lateness(plant: Plant, expiration: int, ended: int) -> int:
    """By how many ms a call that expired did so too late."""
    for ready, *killed in plant.lives:
        latest = expiration + ON_TIME_MS if ready <= expiration else ready + AFTER_START_MS
        if not killed or killed[0] >= latest:  # no other broker had all of its time
            break
    return ended - latest


def test_what_expires_while_the_broker_is_down_expires_when_it_comes_back(plant: Plant) -> None:
    due = _now() + 2_000
    body = {"method": "ask", "params": {"n": 1}, "persistent": True, "expirationTime": due}
    ids = []
    for kind in ("oneway", "twoway") * 10:
        status, answer = plant.broker.ask("POST", f"/api/rpc/{kind}/{plant.ids['later0']}", body)
        assert status == 200
        ids.append(answer["rpcId"])
    plant.kill()
    time.sleep(max(0.0, due - _now()) / 1000 + 1)
    plant.start()
    ready = plant.lives[-1][0]
    plant.connect(LATER)
    calls = wait_for(lambda: all(map(_ended, found := plant.calls().values())) and found, "the expirations", 5)
    assert {one["status"] for one in calls} == {"EXPIRED"}
    assert all(due <= plant.ended(i) <= ready + AFTER_START_MS for i in ids)
    wait_for(plant.log.exists, "a device")
    time.sleep(0.5)  # a device that connects now gets nothing of it
    assert not [line for line in plant.executions() if line["what"] == What.EXECUTED]
