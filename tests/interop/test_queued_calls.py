"""Calls that were kept for vendors' devices while these, and then the broker, were away."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from daemon import Daemon, wait_for
from foreign import CLIENTS, Foreign, python_of
from persistent import checked, keep, persistent
from plant import gateway
from seen import add_gateway

pytestmark = pytest.mark.interop

PARAMS = {"pin": 7, "text": "ü", "list": [1, None]}
LONG = 600_000


def killed(broker: Daemon) -> Daemon:
    """Another one in its place, on the same port, after it was killed (SIGKILL)."""
    broker.stop(signal.SIGKILL)
    (broker.state / "endpoints.json").unlink()
    same = f"tcp:{broker.mqtt_port}:interface=127.0.0.1"
    return Daemon(broker.directory, RPCBROKER_MQTT_LISTEN=same).login()


def outcomes(broker: Daemon, rpc_ids: list[str]) -> list[tuple[str, Any]]:
    """Status and response of each, once all have ended well: one-way calls are when they are delivered."""

    def found() -> list[dict[str, Any]] | None:
        calls = [persistent(broker, each) for each in rpc_ids]
        well = all(each["status"] == ("DELIVERED" if each["request"]["oneway"] else "SUCCESSFUL") for each in calls)
        return calls if well else None

    return [(each["status"], each["response"]) for each in wait_for(found, "the end of the calls", 40)]


def finish(broker: Daemon) -> None:
    broker.stop()
    text = broker.log.read_text()
    assert "Traceback" not in text, text[-5000:]
    checked(broker)


def test_a_device_on_the_vendor_s_sdk(tmp_path: Path) -> None:
    broker = Daemon(tmp_path).login()
    device_id = broker.add_device("sleeper", "SLEEPER")
    kept = [
        keep(broker, device_id, "get", PARAMS, timeout=LONG),
        keep(broker, device_id, "set", 5, oneway=True, timeout=LONG),
        keep(broker, device_id, "get", 2, timeout=LONG),
    ]
    broker = killed(broker)
    script = [python_of("TB_PYTHON"), str(CLIENTS / "tb_device.py"), str(broker.mqtt_port), "SLEEPER"]
    with Foreign(script, tmp_path) as device:
        assert [device.saw_such("called")["called"] for _ in kept] == [
            {"method": "get", "params": PARAMS},
            {"method": "set", "params": 5},
            {"method": "get", "params": 2},
        ]
        assert outcomes(broker, kept) == [
            ("SUCCESSFUL", {"got": PARAMS}),
            ("DELIVERED", None),
            ("SUCCESSFUL", {"got": 2}),
        ]
        broker = killed(broker)
        kept.append(keep(broker, device_id, "get", 3, timeout=LONG))
        assert device.saw_such("called")["called"] == {"method": "get", "params": 3}, "the others did not come again"
        assert outcomes(broker, kept)[-1] == ("SUCCESSFUL", {"got": 3})
        assert device.saw_nothing_more()
    finish(broker)


def test_a_device_behind_the_vendor_s_gateway(tmp_path: Path) -> None:
    broker = Daemon(tmp_path).login()
    add_gateway(broker, "plant-gateway")
    status, press = broker.ask("POST", "/api/device", {"name": "press", "type": "press"})
    assert status == 200
    device_id = press["id"]["id"]
    kept = [
        keep(broker, device_id, "getForce", PARAMS, timeout=LONG),
        keep(broker, device_id, "setForce", 5, oneway=True, timeout=LONG),
    ]
    broker = killed(broker)
    (tmp_path / "plant").mkdir()
    with gateway(tmp_path / "plant", broker.mqtt_port, "plant-gateway") as plant:
        plant.post({"temperature": 21.5, "maker": "Ada"})
        assert outcomes(broker, kept) == [("SUCCESSFUL", {"got": PARAMS}), ("DELIVERED", None)]
        wait_for(lambda: len(plant.heard) == 2, "the calls at the plant")
        broker = killed(broker)
        kept.append(keep(broker, device_id, "getForce", 3, timeout=LONG))
        plant.post({"temperature": 22.5})  # the gateway names a device again with what it posts next
        assert outcomes(broker, kept)[-1] == ("SUCCESSFUL", {"got": 3})
        assert plant.heard == [("getForce", PARAMS), ("setForce", 5), ("getForce", 3)]
    finish(broker)
