"""A device on paho: its own questions first, then what it is called for. URL, version, token, QoS."""

from __future__ import annotations

import json
import sys
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt

VERSIONS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5": mqtt.MQTTv5}
ME = "v1/devices/me"
QUESTIONS = {"1": "getCurrentTime", "2": "getSessionLimits"}


def main(address: str, version: str, token: str, level: str) -> None:
    url, qos = urlsplit(address), int(level)
    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2,
        client_id="paho",
        protocol=VERSIONS[version],
        transport="websockets" if url.scheme == "ws" else "tcp",
    )
    if url.scheme == "ws":
        client.ws_set_options(path=url.path)
    client.username_pw_set(token)
    filters = [(f"{ME}/rpc/request/+", qos), (f"{ME}/rpc/response/+", qos)]
    client.on_connect = lambda *_: client.subscribe(filters)

    def on_subscribe(*_: Any) -> None:
        client.publish(f"{ME}/telemetry", '{"temperature": 21.5}', qos)
        for number, method in QUESTIONS.items():
            client.publish(f"{ME}/rpc/request/{number}", json.dumps({"method": method, "params": {}}), qos)

    def on_message(_client: Any, _data: Any, message: Any) -> None:
        content = json.loads(message.payload)
        number = message.topic.rsplit("/", 1)[1]
        if "/response/" in message.topic:
            print(json.dumps({"asked": QUESTIONS[number], "answer": content}), flush=True)
            return
        print(json.dumps({"called": content}), flush=True)
        if content["method"] == "get":
            client.publish(f"{ME}/rpc/response/{number}", json.dumps({"got": content["params"]}), qos)

    client.on_subscribe = on_subscribe
    client.on_message = on_message
    client.connect(str(url.hostname), int(url.port or 0))
    client.loop_forever()


main(*sys.argv[1:])
