"""Devices in a process of their own, that write down what they do before they say it. Run as a program:

    python logging_devices.py ENDPOINTS LOG NAME:MANNER...

ENDPOINTS is the broker's endpoints.json; while it is not there, or nobody listens, the devices try again. The access
token of a device is its name. MANNER is one of Manner. The process ends when its stdin does. LOG gets lines of JSON,
each written by one system call: `{"t": epoch ms, "device": name, "connection": number, "what": What, ...}`. Of an
execution and of the acknowledgement of a reply there are `wire_id` and `n`, the member of the call's params.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from enum import StrEnum
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt

REQUESTS = "v1/devices/me/rpc/request/+"
AGAIN, UPTIME = 0.1, (0.3, 2.0)
"""Seconds between attempts to connect, and that a device which drops its connections keeps one."""


class Manner(StrEnum):
    """What a device does with a call."""

    PROMPT = "prompt"
    SLOW = "slow"
    """Answers the call before when the next one comes."""
    MUTE = "mute"
    """Answers nothing."""
    FLAPPING = "flapping"
    """Answers, and loses its connection again and again."""


class What(StrEnum):
    CONNECTED = "connected"
    EXECUTED = "executed"
    ACKNOWLEDGED = "acknowledged"
    """The broker has acknowledged the reply."""


class Device(threading.Thread):
    """One device."""

    def __init__(self, endpoints: Path, log: int, name: str, manner: Manner) -> None:
        super().__init__(daemon=True)
        self._endpoints = endpoints
        self._log = log
        self._name = name
        self._manner = manner
        self._connection = 0
        self._chance = random.Random(name)

    def run(self) -> None:
        while True:
            try:
                port = int(json.loads(self._endpoints.read_text())["mqtt"].rsplit(":", 1)[1])
                self._connect(port)
            except (OSError, ValueError):
                pass
            time.sleep(AGAIN)

    def _connect(self, port: int) -> None:
        """One connection, until it ends."""
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        client.username_pw_set(self._name)
        replied: dict[int, dict[str, int]] = {}
        held: list[tuple[str, dict[str, int]]] = []

        def answer(topic: str, call: dict[str, int]) -> None:
            sent = client.publish(topic.replace("request", "response"), json.dumps({"n": call["n"]}), qos=1)
            replied[sent.mid] = call

        def on_message(_client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
            body = json.loads(message.payload)
            call = {"wire_id": int(message.topic.rsplit("/", 1)[1]), "n": body["params"]["n"]}
            self._write(What.EXECUTED, **call)
            if body["method"] == "tell" or self._manner is Manner.MUTE:
                return
            held.append((message.topic, call))
            if self._manner is not Manner.SLOW or len(held) > 1:
                answer(*held.pop(0))

        def on_publish(_client: Any, _data: Any, mid: int, *_: Any) -> None:
            self._write(What.ACKNOWLEDGED, **replied.pop(mid))

        def on_connect(*_: Any) -> None:
            self._connection += 1
            self._write(What.CONNECTED)
            client.subscribe(REQUESTS, qos=1)

        client.on_connect, client.on_message, client.on_publish = on_connect, on_message, on_publish
        client.connect("127.0.0.1", port)
        until = time.monotonic() + self._chance.uniform(*UPTIME)
        while client.loop(0.05) is mqtt.MQTT_ERR_SUCCESS:
            if self._manner is Manner.FLAPPING and time.monotonic() > until and self._endpoints.exists():
                client.socket().close()
                return
            if self._manner is Manner.SLOW and held:
                answer(*held.pop(0))

    def _write(self, what: What, **more: int) -> None:
        line = {"t": time.time_ns() // 10**6, "device": self._name, "connection": self._connection, "what": what}
        os.write(self._log, json.dumps(line | more).encode() + b"\n")


def main() -> None:
    endpoints, log_name, *devices = sys.argv[1:]
    log = os.open(log_name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for each in devices:
        name, manner = each.split(":")
        Device(Path(endpoints), log, name, Manner(manner)).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
