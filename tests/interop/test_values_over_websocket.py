"""ThingsBoard's WebSocket with the client library of its kind, against the real broker and a device."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon import Daemon
from foreign import Foreign, node
from plain_device import Device

from rpcbroker.wire.mqtt import packets as p

pytestmark = pytest.mark.interop

TOKEN = "LAMP"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("broker"), RPCBROKER_WAMP_HELLO_TIMEOUT="1s").login()
    yield daemon
    daemon.stop()
    assert "Traceback" not in daemon.log.read_text()


@pytest.fixture(scope="module")
def lamp(broker: Daemon) -> str:
    return broker.add_device("lamp", TOKEN)


def page(broker: Daemon, directory: Path, path: str = "/api/ws") -> Foreign:
    return Foreign([*node("values.js", "ws"), f"ws{broker.http.removeprefix('http')}{path}"], directory)


def says(page: Foreign, **message: Any) -> None:
    page.tell(json.dumps(message))


def post(broker: Daemon, device_id: str, **values: Any) -> None:
    assert broker.ask("POST", f"/api/plugins/telemetry/DEVICE/{device_id}/timeseries/ANY", values)[0] == 200


def write(broker: Daemon, device_id: str, **values: Any) -> None:
    assert broker.ask("POST", f"/api/plugins/telemetry/DEVICE/{device_id}/attributes/SERVER_SCOPE", values)[0] == 200


def test_a_widget_hears_what_there_is_and_what_changes(broker: Daemon, lamp: str, tmp_path: Path) -> None:
    post(broker, lamp, temperature=20.5, on=True)
    of_lamp = {"entityType": "DEVICE", "entityId": lamp}
    with page(broker, tmp_path) as one:
        says(
            one,
            authCmd={"cmdId": 0, "token": broker.token},
            cmds=[
                {"type": "TIMESERIES", "cmdId": 1, "scope": "LATEST_TELEMETRY", "keys": "temperature", **of_lamp},
                {"type": "ATTRIBUTES", "cmdId": 2, "scope": "SERVER_SCOPE", "keys": "active,value", **of_lamp},
            ],
        )
        first, second = one.saw_such("subscriptionId"), one.saw()
        ((ts, value),) = first["data"]["temperature"]
        assert first == {
            "subscriptionId": 1,
            "errorCode": 0,
            "errorMsg": None,
            "data": {"temperature": [[ts, "20.5"]]},
            "latestValues": {"temperature": ts},
        }
        assert value == "20.5"
        assert (second["subscriptionId"], second["data"]) == (2, {"active": [[0, "false"]]})
        device = Device(broker, TOKEN)
        assert one.saw()["data"]["active"][0][1] == "true"
        device.send(p.Publish("v1/devices/me/telemetry", b'{"temperature":"21.5","other":1}', 0))
        assert [points[0][1] for points in one.saw()["data"].values()] == ["21.5"]
        write(broker, lamp, value=True, other=7)
        assert [(key, points[0][1]) for key, points in one.saw()["data"].items()] == [("value", "true")]
        device.socket.close()
        assert one.saw()["data"]["active"][0][1] == "false"


def test_an_older_page_speaks_by_lists_and_a_token_in_the_url(broker: Daemon, lamp: str, tmp_path: Path) -> None:
    post(broker, lamp, level=1)
    with page(broker, tmp_path, f"/api/ws/plugins/telemetry?token={broker.token}") as one:
        command = {"entityType": "DEVICE", "entityId": lamp, "scope": "LATEST_TELEMETRY", "cmdId": 10, "keys": "level"}
        says(one, tsSubCmds=[command], historyCmds=[], attrSubCmds=[])
        assert [points[0][1] for points in one.saw_such("subscriptionId")["data"].values()] == ["1"]
        post(broker, lamp, level=2)
        assert one.saw()["data"]["level"][0][1] == "2"
        says(one, tsSubCmds=[command | {"unsubscribe": True}])
        says(one, cmds=[{"type": "ENTITY_DATA", "cmdId": 11, "query": {}}])
        assert one.saw()["cmdUpdateType"] == "ENTITY_DATA"
        post(broker, lamp, level=3)
        says(one, cmds=[command | {"type": "TIMESERIES_HISTORY", "startTs": 0, "limit": 2}])
        assert [value for _, value in one.saw()["data"]["level"]] == ["3", "2"], (
            "and nothing of the subscription before"
        )


@pytest.mark.parametrize(
    ("path", "line", "code"),
    [
        ("/api/ws?token=a.b.c", None, 1007),
        ("/api/ws", "{", 1007),
        ("/api/ws", '{"authCmd":{"cmdId":0,"token":"a.b.c"}}', 1007),
        ("/api/ws", '{"cmds":[]}', 1008),
        ("/api/ws", None, 1008),
        ("/api/ws", "binary", 1003),
        ("/api/ws", "x" * 32769, 1009),
    ],
)
def test_what_it_closes_for(broker: Daemon, tmp_path: Path, path: str, line: str | None, code: int) -> None:
    with page(broker, tmp_path, path) as one:
        assert one.saw() == {"opened": True}
        if line is not None:
            one.tell(line)
        assert one.saw_such("closed")["closed"] == code


def test_it_closes_when_who_it_is_logs_out(broker: Daemon, lamp: str, tmp_path: Path) -> None:
    mine = broker.token
    broker.login()
    theirs, broker.token = broker.token, mine
    with page(broker, tmp_path, f"/api/ws?token={theirs}") as one:
        says(one, cmds=[{"type": "TIMESERIES", "cmdId": 1, "entityType": "DEVICE", "entityId": lamp, "keys": "none"}])
        assert one.saw_such("subscriptionId")["data"] == {}
        broker.token = theirs
        assert broker.ask("POST", "/api/auth/logout")[0] == 200
        broker.token = mine
        assert one.saw() == {"closed": 1008, "reason": "Token was revoked"}
