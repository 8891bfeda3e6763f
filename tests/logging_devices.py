"""Devices in a process of their own, that write down what they do before they say it. Run as a program:

    python logging_devices.py ENDPOINTS LOG NAME:MANNER:PROTOCOL...

ENDPOINTS is the broker's endpoints.json; while it is not there, or nobody listens, the devices try again. The access
token of a device is its name. MANNER is one of Manner, PROTOCOL one of PROTOCOLS. The process ends when its stdin does.
LOG gets lines of JSON, each written by one system call: `{"t": epoch ms, "device": name, "connection": number, "what":
What, ...}`. Of an execution and of the acknowledgement of a reply there are `wire_id` and `n`, the member of the call's
params. A connection is one over MQTT, an observation of CoAP, an event stream, or all polls at one broker.
"""

from __future__ import annotations

import http.client
import json
import os
import queue
import random
import sys
import threading
import time
from abc import ABC, abstractmethod
from contextlib import closing, suppress
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from coap_socket import CoapSocket, Udp

from rpcbroker.wire.coap.message import Message
from rpcbroker.wire.coap.numbers import Code, Type

REQUESTS = "v1/devices/me/rpc/request/+"
AGAIN, UPTIME = 0.1, (0.3, 2.0)
"""Seconds between attempts to connect, and that a device which drops its connections keeps one."""
POLL = 1_000
"""Milliseconds that a poll waits."""


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


class Device(threading.Thread, ABC):
    """One device. Over HTTP none is SLOW or FLAPPING: a call that is written to who has left at that moment is lost."""

    scheme: str

    def __init__(self, endpoints: Path, log: int, name: str, manner: Manner) -> None:
        super().__init__(daemon=True)
        self._endpoints = endpoints
        self._log = log
        self._name = name
        self._manner = manner
        self._connection = 0
        self._until = 0.0
        """When a device that is FLAPPING leaves, on the monotonic clock."""
        self._chance = random.Random(name)

    def run(self) -> None:
        while True:
            with suppress(OSError, ValueError, AssertionError, http.client.HTTPException):  # the broker may be gone
                self._connect(json.loads(self._endpoints.read_text())[self.scheme])
            time.sleep(AGAIN)

    @abstractmethod
    def _connect(self, url: str) -> None:
        """One connection, until it ends."""

    def _connected(self) -> None:
        self._connection += 1
        self._write(What.CONNECTED)

    def _execute(self, body: Any) -> dict[str, int] | None:
        """Do as it is told; what to reply to, if anything."""
        call = {"wire_id": body["id"], "n": body["params"]["n"]}
        self._write(What.EXECUTED, **call)
        return None if body["method"] == "tell" or self._manner is Manner.MUTE else call

    def _lasts(self) -> bool:
        """Whether the broker may still be the one that it was, and there is no whim to leave it."""
        return self._endpoints.exists() and (self._manner is not Manner.FLAPPING or time.monotonic() < self._until)

    def _write(self, what: What, **more: int) -> None:
        line = {"t": time.time_ns() // 10**6, "device": self._name, "connection": self._connection, "what": what}
        os.write(self._log, json.dumps(line | more).encode() + b"\n")


class MqttDevice(Device):
    scheme = "mqtt"

    def _connect(self, url: str) -> None:
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        client.username_pw_set(self._name)
        replied: dict[int, dict[str, int]] = {}
        held: list[tuple[str, dict[str, int]]] = []

        def answer(topic: str, call: dict[str, int]) -> None:
            sent = client.publish(topic.replace("request", "response"), json.dumps({"n": call["n"]}), qos=1)
            replied[sent.mid] = call

        def on_message(_client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
            call = self._execute(json.loads(message.payload) | {"id": int(message.topic.rsplit("/", 1)[1])})
            if call is None:
                return
            held.append((message.topic, call))
            if self._manner is not Manner.SLOW or len(held) > 1:
                answer(*held.pop(0))

        def on_publish(_client: Any, _data: Any, mid: int, *_: Any) -> None:
            self._write(What.ACKNOWLEDGED, **replied.pop(mid))

        def on_connect(*_: Any) -> None:
            self._connected()
            client.subscribe(REQUESTS, qos=1)

        client.on_connect, client.on_message, client.on_publish = on_connect, on_message, on_publish
        client.connect("127.0.0.1", int(url.rsplit(":", 1)[1]))
        self._until = time.monotonic() + self._chance.uniform(*UPTIME)
        while client.loop(0.05) is mqtt.MQTT_ERR_SUCCESS:
            if time.monotonic() > self._until and self._manner is Manner.FLAPPING and self._endpoints.exists():
                client.socket().close()
                return
            if self._manner is Manner.SLOW and held:
                answer(*held.pop(0))


class CoapDevice(Device):
    """What it hears is acknowledged, and executed, at once; replies have their turn."""

    scheme = "coap"

    def _connect(self, url: str) -> None:
        held: queue.Queue[dict[str, int]] = queue.Queue()
        known: set[int] = set()

        def heard(message: Message) -> None:
            if message.type != Type.CON or message.code != Code.CONTENT or message.message_id in known:
                return
            known.add(message.message_id)
            call = self._execute(json.loads(message.payload))
            if call is not None:
                held.put(call)

        self._until = time.monotonic() + self._chance.uniform(*UPTIME)
        with CoapSocket(Udp(url), heard) as socket:
            self._connected()
            assert socket.ask(Code.GET, f"api/v1/{self._name}/rpc", observe=0).code == Code.VALID
            while self._lasts():
                try:
                    call = held.get(timeout=AGAIN)
                except queue.Empty:
                    continue
                reply = json.dumps({"n": call["n"]}).encode()
                answer = socket.ask(Code.POST, f"api/v1/{self._name}/rpc/{call['wire_id']}", reply)
                if answer.code == Code.CREATED:
                    self._write(What.ACKNOWLEDGED, **call)


class PollingDevice(Device):
    scheme = "http"

    def _connect(self, url: str) -> None:
        with closing(self._open(url)) as connection:
            self._connected()
            while self._endpoints.exists():
                connection.request("GET", f"/api/v1/{self._name}/rpc?timeout={POLL}")
                answer = connection.getresponse()
                body = answer.read()
                if answer.status == 200:
                    self._take(connection, json.loads(body))

    def _open(self, url: str) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
        connection.connect()
        return connection

    def _take(self, connection: http.client.HTTPConnection, body: Any) -> None:
        call = self._execute(body)
        if call is not None:
            connection.request("POST", f"/api/v1/{self._name}/rpc/{call['wire_id']}", json.dumps({"n": call["n"]}))
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                self._write(What.ACKNOWLEDGED, **call)


class EventsDevice(PollingDevice):
    """It reads its stream to the end, whatever became of its replies."""

    def _connect(self, url: str) -> None:
        with closing(self._open(url)) as stream:
            stream.request("GET", f"/api/v1/{self._name}/rpc", headers={"Accept": "text/event-stream"})
            answer = stream.getresponse()
            assert answer.status == 200
            stream_socket = answer.fp.raw._sock  # type: ignore[attr-defined]
            stream_socket.settimeout(None)
            self._connected()
            event = ""
            for line in answer:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "event":
                    event = value
                elif name == "data" and event == "rpc":
                    with suppress(OSError, http.client.HTTPException), closing(self._open(url)) as replies:
                        self._take(replies, json.loads(value))


PROTOCOLS = {"mqtt": MqttDevice, "coap": CoapDevice, "polls": PollingDevice, "events": EventsDevice}


def main() -> None:
    endpoints, log_name, *devices = sys.argv[1:]
    log = os.open(log_name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for each in devices:
        name, manner, protocol = each.split(":")
        PROTOCOLS[protocol](Path(endpoints), log, name, Manner(manner)).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
