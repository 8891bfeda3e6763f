"""Telemetry and attributes on the real daemon: there at once, and there again when it comes back."""

from __future__ import annotations

import signal
import sqlite3
from pathlib import Path

from daemon import Daemon, wait_for


def test_nothing_that_was_acknowledged_is_lost_by_a_stop_and_nothing_that_was_stored_by_a_kill(tmp_path: Path) -> None:
    broker = Daemon(tmp_path).login()
    device_id = broker.add_device("d", "D")
    base = f"/api/plugins/telemetry/DEVICE/{device_id}"
    series, points = f"{base}/timeseries/ANY", f"{base}/values/timeseries?keys=k&startTs=0&endTs=99"

    def times() -> list[int]:
        return sorted(point["ts"] for point in broker.ask("GET", points)[1].get("k", ()))

    for ts in range(20):
        assert broker.ask("POST", series, {"ts": ts, "values": {"k": ts}}) == (200, None)
    assert times() == list(range(20))
    assert broker.ask("POST", f"{base}/SHARED_SCOPE", {"a": {"x": [1]}}) == (200, None)
    broker.stop()
    broker = Daemon(tmp_path).login()
    assert times() == list(range(20))
    assert broker.ask("POST", series, {"ts": 20, "values": {"k": 20}}) == (200, None)

    def stored() -> bool:
        connection = sqlite3.connect(tmp_path / "state" / "rpcbroker.sqlite")
        try:
            return bool(connection.execute("SELECT posted FROM telemetry_latest").fetchone() == (21,))
        finally:
            connection.close()

    wait_for(stored, "the point in the store", seconds=5)
    assert broker.ask("POST", f"{base}/SERVER_SCOPE", {"b": "text"}) == (200, None)
    broker.stop(signal.SIGKILL)
    broker = Daemon(tmp_path).login()
    assert times() == list(range(21))
    found = broker.ask("GET", f"{base}/values/attributes?keys=a,b")[1]
    assert [(each["key"], each["value"]) for each in found] == [("b", "text"), ("a", {"x": [1]})]
    broker.stop()
