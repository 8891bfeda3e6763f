"""Vendors' REST SDKs against the real broker: one scenario, played by each SDK's own Python.

What an SDK could not deserialize ends its run with a traceback, and every test of it fails.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from daemon import EMAIL, PASSWORD, Daemon
from paho_device import callable_device, end

pytestmark = pytest.mark.interop

SCRIPTS = Path(__file__).parent / "sdk"
API_KEYS = ("tb_rest_44", "tb_ce")


@dataclass(frozen=True)
class Played:
    """What one SDK saw, and the calls that came to its device."""

    sdk: str
    saw: dict[str, Any]
    arrived: list[Any]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("sdks"), RPCBROKER_RPC_MIN_TIMEOUT="200ms")
    yield daemon
    daemon.stop()
    text = daemon.log.read_text()
    assert "Traceback" not in text, text[-5000:]


@pytest.fixture(scope="module", params=["tb_rest_42", "tb_rest_44", "tb_ce"])
def played(broker: Daemon, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Played:
    name = request.param
    python = os.environ.get(f"{name.upper()}_PYTHON", "")
    assert Path(python).is_file(), f"{name.upper()}_PYTHON names no Python; `make test` makes one"
    log = tmp_path_factory.mktemp(name) / "log"
    arrived: list[Any] = []
    devices: list[Any] = []

    def called(call: Any) -> Any:
        arrived.append(call)
        return {"got": call["params"]} if call["method"] == "get" else None

    with log.open("w") as stderr:
        script = subprocess.Popen(
            [python, str(SCRIPTS / f"{name}.py"), broker.http, name, EMAIL, PASSWORD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    limit = threading.Timer(60, script.kill)
    limit.start()
    saw = None
    assert script.stdin is not None
    assert script.stdout is not None
    try:
        with script.stdin as to_script, script.stdout as from_script:
            for line in from_script:
                said = json.loads(line)
                if "connect" in said:
                    devices.append(callable_device(broker.mqtt_port, said["connect"], called))
                    to_script.write("\n")
                    to_script.flush()
                else:
                    saw = said["saw"]
        script.wait()
    finally:
        limit.cancel()
        for each in devices:
            end(each)
    assert saw is not None, log.read_text()[-5000:]
    return Played(name, saw, arrived)


def failure(status: int, code: int, reason: str | None = None) -> dict[str, Any]:
    """An SDK's exception, with our JSON in it."""
    return {"status": status, "same status": True, "code": code, "reason": reason, "explained": True}


NOT_FOUND = failure(404, 32)
NOBODY = failure(401, 10)
FORBIDDEN = failure(403, 20)
BAD = failure(400, 31)
PARAMS = {"pin": 7, "text": "ü", "list": [1, None]}
KEPT_PARAMS = {"pin": 8, "text": "ü"}


def test_the_sdk_is_the_one_that_is_meant(played: Played) -> None:
    assert played.saw["version"] == {"tb_rest_42": "4.2.1", "tb_rest_44": "4.4", "tb_ce": "4.4.0"}[played.sdk]


def test_login_and_refresh(played: Played) -> None:
    assert played.saw["wrong password"] == NOBODY
    assert played.saw["me"] == {"email": EMAIL, "name": EMAIL, "authority": "TENANT_ADMIN"}
    assert played.saw["refreshed"] == {"same token": False, "same user": True}
    assert played.saw["tenant"] == {"title": "Default", "id": True}


def test_devices_are_made_changed_and_found_in_every_way(played: Played) -> None:
    def names(*which: str) -> list[str]:
        return [f"{played.sdk}-{each}" for each in which]

    plain, device, basic = names("plain", "device", "basic")
    assert played.saw["devices"] == {
        "plain": [plain, "default", 1],
        "changed": ["in the cellar", {"gateway": False, "description": "a cellar"}, 2],
        "pages": [[2, 3, True], [2, 3, False]],
        "names": [plain, device, basic],
        "sorted": [basic, device, plain],
        "of type": [device, basic],
        "infos": [[plain, False], [device, False], [basic, False]],
        "by id": plain,
        "info": [device, False, "in the cellar"],
        "by name": True,
        "by ids": True,
        "types": ["default", "meter"],
        "unknown": NOT_FOUND,
        "unknown name": NOT_FOUND,
        "name taken": failure(400, 31),
    }


def test_credentials_are_read_and_changed(played: Played) -> None:
    assert played.saw["credentials"] == {
        "token": ["ACCESS_TOKEN", f"{played.sdk}-token", None],
        "basic": ["MQTT_BASIC", "u"],
        "made up": 20,
        "changed": [f"{played.sdk}-changed", True, 2],
    }


@pytest.mark.parametrize(("version", "offline", "silent"), [("V1", 409, 408), ("V2", 504, 504)])
def test_calls_are_answered_or_fail_with_a_reason(played: Played, version: str, offline: int, silent: int) -> None:
    assert played.saw["calls"][version] == {
        "one-way is answered empty": True,
        "two-way": {"got": PARAMS},
        "offline": failure(offline, 2, "NEVER_CONNECTED"),
        "offline, one-way": failure(offline, 2, "NEVER_CONNECTED"),
        "silent": failure(silent, 2, "NO_REPLY"),
        "unknown": NOT_FOUND,
        "no method": failure(400, 31),
    }


def test_what_was_called_came_to_the_device_once_and_in_order(played: Played) -> None:
    calls = [
        {"method": "set", "params": PARAMS},
        {"method": "get", "params": PARAMS},
        {"method": "never", "params": None},
    ]
    kept = [{"method": method, "params": KEPT_PARAMS} for method in ("get", "set")]
    other = {"method": "get", "params": 8}
    by_a_user, by_a_key = {"method": "get", "params": 1}, {"method": "get", "params": 2}
    by_users = [by_a_user, by_a_key] if played.sdk in API_KEYS else [by_a_user]
    by_a_chain = {"method": "get", "params": 3}
    assert played.arrived == [*calls, *calls, *kept, *kept, other, *by_users, by_a_chain]


@pytest.mark.parametrize(("version", "expired"), [("V1", 408), ("V2", 504)])
def test_persistent_calls_are_read_listed_and_deleted(played: Played, version: str, expired: int) -> None:
    one_page, empty = [1, 4, False], [[], [0, 0, False]]
    assert played.saw["kept calls"][version] == {
        "two-way": ["SUCCESSFUL", {"got": KEPT_PARAMS}, None],
        "one-way": ["DELIVERED", None],
        "waiting": ["QUEUED", None, {"why": ["a test", None]}],
        "ids": True,
        "times": [240_000, "int"],
        "request": {"method": "get0", "params": '{"n":0}', "oneway": False, "persisted": True, "retries": 3},
        "expired": failure(expired, 2, "EXPIRED"),
        "kept all the same": "EXPIRED",
        "pages": [[["get0", "get1"], [2, 4, True]], [["get2", "late"], [2, 4, False]]],
        "newest first": [["late", "get2", "get1", "get0"], one_page],
        "by expiration": [["get2", "get1", "get0"], [1, 3, False]],
        "queued": [["get0", "get1", "get2"], [1, 3, False]],
        "expired ones": [["late"], [1, 1, False]],
        "failed ones": empty,
        "its id": True,
        "deleted": [NOT_FOUND, NOT_FOUND],
        "left": [["get0", "get2"], [1, 2, False]],
    }


def test_questions_for_persistent_calls_that_make_no_sense_are_explained(played: Played) -> None:
    assert played.saw["kept calls"]["errors"] == {
        "unknown": NOT_FOUND,
        "no UUID": BAD,
        "delete unknown": NOT_FOUND,
        "of unknown": NOT_FOUND,
        "status": BAD,
        "deleted ones": BAD,
        "order": BAD,
        "property": BAD,
        "page size": BAD,
    }


def test_customers_get_devices_assigned(played: Played) -> None:
    name, device = f"{played.sdk}-customer", f"{played.sdk}-device"
    assert played.saw["customers"] == {
        "saved": [name, name, "Zwolle", "+31 1", 2],
        "list": True,
        "by id": name,
        "short": name,
        "by title": True,
        "assigned": True,
        "devices": [device],
        "infos": [[device, "bool"]],
        "unknown": NOT_FOUND,
    }


def test_users_are_activated_and_see_what_is_theirs(played: Played) -> None:
    email = f"{played.sdk}@example.org"
    assert played.saw["users"] == {
        "saved": [email, "CUSTOMER_USER", "Ada", True],
        "link": True,
        "pair": [True, True],
        "me": [email, "CUSTOMER_USER"],
        "sees": [f"{played.sdk}-device"],
        "calls": {"got": 1},
        "kept calls": ["SUCCESSFUL", NOT_FOUND, NOT_FOUND, FORBIDDEN],
        "foreign": NOT_FOUND,
        "forbidden": FORBIDDEN,
        "of customer": [email],
        "all": True,
        "by id": email,
        "changed password": [True, email],
        "old session": NOBODY,
        "disabled": NOBODY,
        "enabled": email,
        "deleted": [NOBODY, NOT_FOUND],
    }


def test_api_keys_open_the_door_until_they_are_switched_off(played: Played) -> None:
    """The older SDK knows of none."""
    assert played.saw.get("API keys") == (
        {
            "made": [f"{played.sdk}-key", True, False, True],
            "me": EMAIL,
            "device": f"{played.sdk}-device",
            "call": {"got": 2},
            "forbidden": FORBIDDEN,
            "listed": [f"{played.sdk}-key"],
            "off": [False, NOBODY],
            "on": [True, EMAIL],
            "described": "described",
            "deleted": NOBODY,
        }
        if played.sdk in API_KEYS
        else None
    )


def test_rule_chains_are_read_changed_made_the_root_and_moved(played: Played) -> None:
    name = f"{played.sdk}-chain"
    switch, call = (
        f"org.thingsboard.rule.engine.{each}" for each in ("filter.TbMsgTypeSwitchNode", "rpc.TbSendRPCRequestNode")
    )
    layout = {"layoutX": 5, "layoutY": 6, "description": "calls"}
    seen = played.saw["rule chains"]
    mine = [each for each in seen.pop("imported") if each[0] in ("Root Rule Chain", name)]
    assert mine == [["Root Rule Chain", True], [name, True]]
    assert seen == {
        "default": ["Root Rule Chain", True, True],
        "made": [name, "CORE", False, {"description": "d"}],
        "ids stay": True,
        "nodes": [
            ["Switch", switch, {"version": 0}, None],
            ["Call the device", call, {"timeoutInSeconds": 60}, layout],
        ],
        "connections": [[0, 1, "RPC Request to Device"]],
        "first": True,
        "versions": [1, 2, 3],
        "root": True,
        "call": {"got": 3},
        "events": ["OUT", "IN"],
        "stale": failure(409, 35),
        "like the default": f"{played.sdk}-like the default",
        "script": {"output": "true", "error": ""},
        "the root is kept": BAD,
        "deleted": NOT_FOUND,
        "unknown": NOT_FOUND,
    }


def test_the_audit_log_has_it_all(played: Played) -> None:
    seen = played.saw["audit"]
    on_the_device = {"ADDED", "ASSIGNED_TO_CUSTOMER", "CREDENTIALS_READ", "CREDENTIALS_UPDATED", "RPC_CALL", "UPDATED"}
    assert set(seen["device"]) == on_the_device
    assert set(seen["user"]) >= on_the_device | {"LOGIN"}
    assert seen["customer"] == ["ACTIVATED", "CREDENTIALS_UPDATED", "LOGIN", "RPC_CALL"]
    assert seen["calls"] == [[EMAIL, "FAILURE"], [EMAIL, "SUCCESS"], [f"{played.sdk}@example.org", "SUCCESS"]]


def test_what_was_deleted_is_gone_and_who_logged_out_is_out(played: Played) -> None:
    assert played.saw["unassigned"]
    gone = dict.fromkeys(("device", "again", "customer"), NOT_FOUND)
    assert played.saw["deleted"] == gone | {"calls": [NOT_FOUND, NOT_FOUND], "left": 0}
    assert played.saw["logged out"] == NOBODY
