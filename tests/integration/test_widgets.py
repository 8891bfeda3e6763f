"""What dashboards' widgets do with persistent calls, over HTTP with the real daemon: each part as they play it.

A widget that is told to be persistent and to poll makes its call, and asks for it again and again until the state
says what to show: see `shows`. A debug terminal passes a UUID where the number of retries belongs. A table lists the
calls of a device, newest first, makes some and deletes some.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from answering_device import AnsweringDevice
from daemon import Daemon, wait_for
from persistent import keep, persistent
from plain_device import Device

from rpcbroker.wire.mqtt import packets as p

GOES_ON = "it polls on"
ANSWER = {"pin": 7, "on": True}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    yield from running(Daemon(tmp_path_factory.mktemp("broker"), RPCBROKER_RPC_DEFAULT_TIMEOUT="60s"))


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One that waits for nothing as long as the other does."""
    short = {f"RPCBROKER_{name}": "100ms" for name in ("MQTT_ACK_TIMEOUT", "RPC_MIN_TIMEOUT", "RPC_RESPONSE_TIMEOUT")}
    yield from running(Daemon(tmp_path_factory.mktemp("impatient"), **short))


def running(daemon: Daemon) -> Iterator[Daemon]:
    yield daemon.login()
    daemon.stop()
    text = daemon.log.read_text()
    assert "Traceback" not in text, text[-5000:]


_numbers = itertools.count(1)


@pytest.fixture
def token() -> str:
    """Name and token of a new device."""
    return f"WIDGET{next(_numbers)}"


# -- what a device does with a call


def nothing(device: Device) -> p.Publish:
    """It takes the call, and does not even acknowledge it."""
    call = device.read()
    assert isinstance(call, p.Publish)
    return call


def acknowledges(device: Device) -> p.Publish:
    call = nothing(device)
    assert call.packet_id is not None
    device.send(p.PubAck(call.packet_id))
    return call


def answers(payload: bytes) -> Callable[[Device], p.Publish]:
    def answer(device: Device) -> p.Publish:
        call = acknowledges(device)
        device.send(p.Publish(call.topic.replace("request", "response"), payload))
        return call

    return answer


# -- what a widget shows


def shows(broker: Daemon, rpc_id: str) -> Any:
    """What a widget makes of its call when it polls: GOES_ON, or status and content."""
    rpc = persistent(broker, rpc_id)
    if rpc["status"] == "QUEUED" or (rpc["status"] == "DELIVERED" and not rpc["request"]["oneway"]):
        return GOES_ON
    if rpc["status"] in ("TIMEOUT", "EXPIRED"):
        return 504, "Request timeout"
    if rpc["status"] == "FAILED":
        return 502, rpc["response"]["error"]
    return 200, rpc["response"]


def in_state(broker: Daemon, rpc_id: str, status: str) -> None:
    wait_for(lambda: persistent(broker, rpc_id)["status"] == status, f"the state {status}")


Deed = Callable[[Device], p.Publish] | None


@pytest.mark.parametrize(
    ("oneway", "device_does", "status", "shown"),
    [
        (False, None, "QUEUED", GOES_ON),
        (True, None, "QUEUED", GOES_ON),
        (False, nothing, "SENT", (200, None)),
        (True, nothing, "SENT", (200, None)),
        (False, acknowledges, "DELIVERED", GOES_ON),
        (True, acknowledges, "DELIVERED", (200, None)),
        (False, answers(b'{"pin":7,"on":true}'), "SUCCESSFUL", (200, ANSWER)),
        (False, answers(b"false"), "SUCCESSFUL", (200, False)),
        (False, answers(b'{"error":"it is stuck"}'), "SUCCESSFUL", (200, {"error": "it is stuck"})),
        (False, answers(b"it is stuck"), "SUCCESSFUL", (200, {"error": "it is stuck"})),
    ],
)
def test_a_widget_that_polls_shows_how_far_its_call_is(
    broker: Daemon, token: str, oneway: bool, device_does: Deed, status: str, shown: Any
) -> None:
    device_id = broker.add_device(token, token)
    rpc_id = keep(broker, device_id, "setGpio", {"pin": 7}, oneway=oneway, timeout=60_000)
    assert shows(broker, rpc_id) == GOES_ON
    if device_does is not None:
        device = Device(broker, token)
        device_does(device)
        in_state(broker, rpc_id, status)
        device.socket.close()
    assert persistent(broker, rpc_id)["status"] == status
    assert shows(broker, rpc_id) == shown


NO_ACK = "There was a Timeout and all retry attempts have been exhausted. Retry attempts set: 0"
NO_REPLY = "There was a timeout awaiting for RPC response from device."
IN_TURN = {"submitStrategy": "SEQUENTIAL_ON_RESPONSE_FROM_DEVICE"}


@pytest.mark.parametrize("oneway", [False, True])
@pytest.mark.parametrize(
    ("device_does", "more", "status", "shown"),
    [
        (None, {"timeout": 100}, "EXPIRED", (504, "Request timeout")),
        (nothing, {}, "TIMEOUT", (504, "Request timeout")),
        (nothing, {"retries": 0}, "FAILED", (502, NO_ACK)),
    ],
)
def test_a_widget_that_polls_shows_why_nothing_came(
    impatient: Daemon, token: str, oneway: bool, device_does: Deed, more: dict[str, Any], status: str, shown: Any
) -> None:
    device_id = impatient.add_device(token, token)
    rpc_id = keep(impatient, device_id, "setGpio", {"pin": 7}, oneway=oneway, **{"timeout": 60_000} | more)
    device = None
    if device_does is not None:
        device = Device(impatient, token)
        device_does(device)
    in_state(impatient, rpc_id, status)
    assert shows(impatient, rpc_id) == shown
    if device is not None:
        device.socket.close()


def test_a_widget_that_polls_shows_that_a_device_kept_others_waiting(impatient: Daemon, token: str) -> None:
    device_id = impatient.add_device(token, token)
    rpc_id = keep(impatient, device_id, "getGpioStatus", "{}", timeout=60_000, **IN_TURN)
    device = Device(impatient, token)
    acknowledges(device)
    in_state(impatient, rpc_id, "FAILED")
    assert shows(impatient, rpc_id) == (502, NO_REPLY)
    device.socket.close()


def test_a_widget_polls_until_the_device_has_come_and_answered(broker: Daemon, token: str) -> None:
    device_id = broker.add_device(token, token)
    rpc_id = keep(broker, device_id, "getValue", timeout=60_000)
    device = Device(broker, token)
    call = acknowledges(device)
    in_state(broker, rpc_id, "DELIVERED")
    assert shows(broker, rpc_id) == GOES_ON
    device.send(p.Publish(call.topic.replace("request", "response"), b"true"))
    assert wait_for(lambda: (seen := shows(broker, rpc_id)) != GOES_ON and seen, "the answer") == (200, True)
    device.socket.close()


def test_a_widget_whose_call_somebody_deleted_gets_the_error(broker: Daemon, token: str) -> None:
    device_id = broker.add_device(token, token)
    rpc_id = keep(broker, device_id, "getValue", timeout=60_000)
    assert broker.ask("DELETE", f"/api/rpc/persistent/{rpc_id}") == (200, None)
    status, error = broker.ask("GET", f"/api/rpc/persistent/{rpc_id}")
    assert (status, error["status"], error["errorCode"]) == (404, 404, 32)


def test_a_widget_that_does_not_poll_has_the_id_for_an_answer(broker: Daemon, token: str) -> None:
    device_id = broker.add_device(token, token)
    body = {"method": "setValue", "params": True, "persistent": True, "timeout": 500}
    status, answer = broker.ask("POST", f"/api/rpc/oneway/{device_id}", body)
    assert (status, list(answer)) == (200, ["rpcId"])
    assert persistent(broker, answer["rpcId"])["request"]["body"] == {"method": "setValue", "params": "true"}


# -- the debug terminal

TYPED = [{}, {"params": 5}, {"params": {"pin": 7}}, {"params": "not JSON, so it stays text"}]


@pytest.mark.parametrize("persistently", [False, True])
def test_a_terminal_passes_a_uuid_for_the_number_of_retries(broker: Daemon, token: str, persistently: bool) -> None:
    device_id = broker.add_device(token, token)
    device = AnsweringDevice(broker, token)
    broker.wait_callable(device_id)
    for typed in TYPED:
        body = {"method": "echo", "persistent": persistently, "retries": str(uuid4()), "timeout": 500} | typed
        status, answer = broker.ask("POST", f"/api/rpc/twoway/{device_id}", body)
        if not persistently:
            assert (status, answer) == (200, typed.get("params"))
            continue
        assert status == 200
        in_state(broker, answer["rpcId"], "SUCCESSFUL")
        rpc = persistent(broker, answer["rpcId"])
        assert (rpc["response"], rpc["request"]["retries"]) == (typed.get("params"), 0)
        assert rpc["expirationTime"] - rpc["createdTime"] == 5000, "the least that a timeout may be"
    device.close()


# -- the table


def rows(broker: Daemon, device_id: str, page: int = 0, status: str | None = None) -> tuple[list[tuple[Any, ...]], Any]:
    """What a table of persistent calls shows: its columns, and what it pages by."""
    query = f"pageSize=5&page={page}&textSearch=&sortProperty=createdTime&sortOrder=DESC"
    if status:
        query += f"&rpcStatus={status}"
    code, found = broker.ask("GET", f"/api/rpc/persistent/device/{device_id}?{query}")
    assert code == 200, found
    columns = [
        (
            each["id"]["id"],
            "one-way" if each["request"]["oneway"] else "two-way",
            each["status"],
            each["request"]["body"]["method"],
            each["expirationTime"] - each["createdTime"],
        )
        for each in found.pop("data")
    ]
    return columns, found


def test_a_table_lists_what_was_made_newest_first_and_filters_by_state(broker: Daemon, token: str) -> None:
    device_id = broker.add_device(token, token)
    dialog = {"retries": None, "additionalInfo": {"description": "from the table"}}
    made = [keep(broker, device_id, f"get{n}", oneway=n % 2 == 0, **dialog) for n in range(7)]
    paging = {"totalPages": 2, "totalElements": 7}
    table = [(made[n], "two-way" if n % 2 else "one-way", "QUEUED", f"get{n}", 60_000) for n in reversed(range(7))]
    assert rows(broker, device_id) == (table[:5], paging | {"hasNext": True})
    assert rows(broker, device_id, 1) == (table[5:], paging | {"hasNext": False})
    assert persistent(broker, made[0])["additionalInfo"] == {"description": "from the table"}

    device = AnsweringDevice(broker, token)
    for n, rpc_id in enumerate(made):
        in_state(broker, rpc_id, "SUCCESSFUL" if n % 2 else "DELIVERED")
    device.close()
    one_page, nothing_there = {"totalPages": 1, "hasNext": False}, {"totalPages": 0, "totalElements": 0}
    successful, delivered = (
        [(*row[:2], state, *row[3:]) for row in table if row[1] == direction]
        for direction, state in (("two-way", "SUCCESSFUL"), ("one-way", "DELIVERED"))
    )
    assert rows(broker, device_id, status="SUCCESSFUL") == (successful, one_page | {"totalElements": 3})
    assert rows(broker, device_id, status="DELIVERED") == (delivered, one_page | {"totalElements": 4})
    for status in ("QUEUED", "SENT", "TIMEOUT", "EXPIRED", "FAILED"):
        assert rows(broker, device_id, status=status) == ([], nothing_there | {"hasNext": False})


def test_a_call_that_is_deleted_in_a_table_never_comes_to_the_device(broker: Daemon, token: str) -> None:
    device_id = broker.add_device(token, token)
    made = [keep(broker, device_id, f"get{n}", retries=3) for n in range(3)]
    assert persistent(broker, made[1])["request"]["retries"] == 3
    assert broker.ask("DELETE", f"/api/rpc/persistent/{made[1]}") == (200, None)
    assert [row[0] for row in rows(broker, device_id)[0]] == [made[2], made[0]]
    device = AnsweringDevice(broker, token)
    for rpc_id in (made[0], made[2]):
        in_state(broker, rpc_id, "SUCCESSFUL")
    assert [method for _, method in device.calls] == ["get0", "get2"]
    device.close()
    for rpc_id in (made[0], made[2]):
        assert broker.ask("DELETE", f"/api/rpc/persistent/{rpc_id}") == (200, None)
    assert rows(broker, device_id) == ([], {"totalPages": 0, "totalElements": 0, "hasNext": False})
