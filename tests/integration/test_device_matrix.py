"""Every kind of call to every kind of device: made over REST, and heard and answered on real sockets."""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import certificates
import pytest
from daemon import Daemon, wait_for
from device_kinds import KINDS, DeviceKind
from hostile import check_log
from persistent import persistent

PARAMS = {"pin": 7, "text": "ü", "list": [1, None]}
SETTINGS = {"RPCBROKER_RPC_MIN_TIMEOUT": "100ms", "RPCBROKER_HTTP_DEVICES_POLL_GRACE": "100ms"}


NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("matrix")
    dtls = certificates.make(directory, serial=1).listener().replace("ssl:", "dtls:")
    daemon = Daemon(directory, RPCBROKER_COAP_DTLS_LISTEN=dtls, **SETTINGS)
    yield daemon.login()
    assert daemon.stop() == -signal.SIGTERM
    check_log(daemon)


@pytest.fixture(params=KINDS)
def device(broker: Daemon, request: pytest.FixtureRequest) -> Iterator[DeviceKind]:
    """A fresh device of each kind, which is away."""
    device = KINDS[request.param](broker, f"device-{next(NUMBERS)}")
    yield device
    device.close()


class Caller:
    """A call that is made in a thread; its id is known at once."""

    def __init__(self, device: DeviceKind, direction: str = "twoway", base: str = "/api/rpc", **body: Any) -> None:
        self._device = device
        self.rpc_id = str(uuid4())
        self._path = f"{base}/{direction}/{device.device_id}"
        self._body = {"method": "set", "params": PARAMS, "timeout": 20_000, "requestUUID": self.rpc_id} | body
        self._answer: Any = None
        self._thread = threading.Thread(target=self._call)
        self._thread.start()

    def _call(self) -> None:
        self._answer = self._device.broker.ask("POST", self._path, self._body)

    def answer(self) -> tuple[int, Any]:
        """Status and body, once they are there."""
        self._thread.join(30)
        assert self._answer is not None
        answer: tuple[int, Any] = self._answer
        return answer

    def record(self) -> dict[str, Any]:
        """The time line as it is now."""
        status, found = self._device.broker.ask("GET", f"/api/rpc/{self.rpc_id}/timeline")
        assert status == 200, found
        record: dict[str, Any] = found
        return record

    def waits(self) -> bool:
        """Whether the record says that it waits for a device that had been there."""
        status, found = self._device.broker.ask("GET", f"/api/rpc/{self.rpc_id}/timeline")
        if status == 404:  # it is on its way to the broker
            return False
        queued = [step["detail"] for step in found["steps"] if step["step"] == "queued"]
        assert all(detail.startswith("for the device disconnected ") for detail in queued)
        return bool(queued)

    def kept(self, state: str) -> dict[str, Any]:
        """The persistent call, once it is in this state."""

        def found() -> dict[str, Any] | None:
            call = persistent(self._device.broker, self.rpc_id)
            return call if call["status"] == state else None

        call: dict[str, Any] = wait_for(found, f"a call that is {state}")
        return call

    def steps(self) -> list[str]:
        """What happened to it since it was let in, in the words of the time line."""
        record = self.record()
        assert (record["rpcId"], record["deviceId"]) == (self.rpc_id, self._device.device_id)
        steps = record["steps"]
        assert {step["detail"] for step in steps if step["step"] == "sent"} <= {f"over {self._device.protocol}"}
        return [step["step"] for step in steps if step["step"] not in ("accepted", "authorised", "routed")]

    def told(self) -> tuple[str, str | None, list[str]]:
        """State, reason and steps, without the one that not all kinds of devices tell of."""
        record = self.record()
        return record["state"], record["reason"], [step for step in self.steps() if step != "acknowledged"]


def online(device: DeviceKind) -> DeviceKind:
    device.connect()
    device.broker.wait_callable(device.device_id)
    return device


def away(device: DeviceKind) -> DeviceKind:
    device.leave()

    def is_away() -> bool:
        return not device.broker.ask("GET", f"/api/device/{device.device_id}/presence")[1]["connected"]["value"]

    wait_for(is_away, f"the end of {device.name}")
    return device


BASES = {"/api/rpc": 504, "/api/plugins/rpc": 408}
"""Where calls are made -> the status of one that had no reply."""
EITHER = (False, True)
"""Whether it is persistent."""


def test_one_way(device: DeviceKind) -> None:
    online(device)
    for base in BASES:
        caller = Caller(device, "oneway", base)
        assert device.called()[1:] == ("set", PARAMS)
        assert caller.answer() == (200, None)
        # nobody waits for an acknowledgement of what nobody waits for
        assert caller.told() == ("SENT" if device.acknowledges else "DELIVERED", None, ["sent", "handed over"])
    assert device.calls.empty()


def test_two_way(device: DeviceKind) -> None:
    online(device)
    for base in BASES:
        caller = Caller(device, base=base)
        number, method, params = device.called()
        assert (method, params) == ("set", PARAMS)
        device.reply(number, {"got": params})
        assert caller.answer() == (200, {"got": PARAMS})
        assert caller.told() == ("SUCCESSFUL", None, ["sent", "answered"])
        assert ("acknowledged" in caller.steps()) == device.acknowledges
        assert caller.record()["wireId"] == number
    assert device.calls.empty()


def test_persistent(device: DeviceKind) -> None:
    online(device)
    for direction, state, end in (("oneway", "DELIVERED", "handed over"), ("twoway", "SUCCESSFUL", "answered")):
        caller = Caller(device, direction, persistent=True)
        number = device.called().number
        assert caller.answer() == (200, {"rpcId": caller.rpc_id})
        response = None
        if direction == "twoway":
            response = [number]
            device.reply(number, response)
        assert caller.kept(state)["response"] == response
        assert caller.told() == (state, None, ["stored", "sent", end])


def test_offline_then_online(device: DeviceKind) -> None:
    away(online(device))
    callers = [Caller(device, persistent=kept, params=kept) for kept in EITHER]
    for caller in callers:
        wait_for(caller.waits, "a call that waits")
    assert device.calls.empty()
    online(device)
    for _ in callers:
        number, _, kept = device.called()
        device.reply(number, {"kept": kept})
    passing, kept = callers
    assert passing.answer() == (200, {"kept": False})
    assert passing.told() == ("SUCCESSFUL", None, ["queued", "sent", "answered"])
    assert kept.answer() == (200, {"rpcId": kept.rpc_id})
    assert kept.kept("SUCCESSFUL")["response"] == {"kept": True}
    assert kept.told() == ("SUCCESSFUL", None, ["stored", "queued", "sent", "answered"])
    assert device.calls.empty()


def test_no_reply(device: DeviceKind) -> None:
    online(device)
    for base, expected in BASES.items():
        caller = Caller(device, base=base, timeout=700)
        number = device.called().number
        status, error = caller.answer()
        assert (status, error["reason"]) == (expected, "NO_REPLY")
        assert error["hint"].startswith("The device got the call but did not answer it; it connected over ")
        assert caller.told() == ("EXPIRED", "NO_REPLY", ["sent", "expired"])
        device.reply(number, "too late")  # which is nobody's, and does no harm
        after = Caller(device)
        device.reply(device.called().number, "in time")
        assert after.answer() == (200, "in time")


def test_cancel(device: DeviceKind) -> None:
    online(device)
    for kept in EITHER:
        caller = Caller(device, persistent=kept)
        number = device.called().number
        if kept:  # it is with the device, and its id with the caller
            assert caller.answer() == (200, {"rpcId": caller.rpc_id})
        device.broker.wait_callable(device.device_id)  # a poll that took a call is over; the next one is told
        status, answer = device.broker.ask("DELETE", f"/api/rpc/{caller.rpc_id}")
        told = {"rpcId": caller.rpc_id, "cancelled": True, "deliveredBefore": True, "deviceTold": True}
        assert (status, answer) == (200, told)
        assert device.cancelled.get(timeout=10) == number
        if not kept:
            status, error = caller.answer()
            assert (status, error["reason"]) == (503, "CANCELLED")
        state, reason, steps = caller.told()
        assert (state, reason) == ("DELETED", "CANCELLED")
        assert set(steps) == {"sent", "cancelled", "device told"} | ({"stored"} if kept else set())
