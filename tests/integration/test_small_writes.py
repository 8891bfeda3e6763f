"""Devices whose TCP holds small writes back until earlier ones are acknowledged, as it does where nobody has told it not
to: an acknowledgement of MQTT, and the reply behind it, are two."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from answering_device import AnsweringDevice
from daemon import Daemon

DELAYED = 0.04
"""Seconds for which Linux, at least, delays an acknowledgement in the hope of something to send with it."""


def test_a_reply_that_follows_an_acknowledgement_does_not_wait_for_a_delayed_one(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path).login()
    device_id = daemon.add_device("patient", "token-of-patient")
    device = AnsweringDevice(daemon, "token-of-patient")
    daemon.wait_callable(device_id)
    took = []
    try:
        for number in range(25):
            began = time.perf_counter()
            answer = daemon.ask("POST", f"/api/rpc/twoway/{device_id}", {"method": "echo", "params": number})
            took.append(time.perf_counter() - began)
            assert answer == (200, number)
    finally:
        device.close()
        daemon.stop()
    assert statistics.median(took) < DELAYED, took
