"""A device on paho's MQTT client, for tests that need one that can be called."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt

REQUESTS = "v1/devices/me/rpc/request/+"


def callable_device(port: int, token: str, called: Callable[[Any], Any]) -> mqtt.Client:
    """Connected and subscribed. `called` is given each call and returns the answer; None is none.

    It runs in a thread of paho's; end that with `end`.
    """
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.username_pw_set(token)
    ready = threading.Event()
    client.on_connect = lambda *_: client.subscribe(REQUESTS, qos=1)
    client.on_subscribe = lambda *_: ready.set()

    def on_message(_client: Any, _data: Any, message: Any) -> None:
        answer = called(json.loads(message.payload))
        if answer is not None:
            client.publish(message.topic.replace("request", "response"), json.dumps(answer), qos=1)

    client.on_message = on_message
    client.connect("127.0.0.1", port)
    client.loop_start()
    assert ready.wait(10), "the device could not subscribe"
    return client


def end(client: mqtt.Client) -> None:
    client.disconnect()
    client.loop_stop()
