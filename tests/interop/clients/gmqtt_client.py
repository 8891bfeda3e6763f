"""A device on gmqtt: its own questions first, then what it is called for. URL, version, token, QoS."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any
from urllib.parse import urlsplit

from gmqtt import Client, Subscription

VERSIONS = {"3.1.1": 4, "5": 5}
ME = "v1/devices/me"
QUESTIONS = {"1": "getCurrentTime", "2": "getSessionLimits"}


async def main(address: str, version: str, token: str, level: str) -> None:
    url, qos = urlsplit(address), int(level)
    client = Client("gmqtt")
    client.set_auth_credentials(token)
    subscribed = asyncio.Event()
    client.on_subscribe = lambda *_: subscribed.set()

    async def on_message(_client: Any, topic: str, payload: bytes, _qos: int, _properties: Any) -> int:
        content = json.loads(payload)
        number = topic.rsplit("/", 1)[1]
        if "/response/" in topic:
            print(json.dumps({"asked": QUESTIONS[number], "answer": content}), flush=True)
            return 0
        print(json.dumps({"called": content}), flush=True)
        if content["method"] == "get":
            client.publish(f"{ME}/rpc/response/{number}", {"got": content["params"]}, qos=qos)
        return 0

    client.on_message = on_message
    await client.connect(str(url.hostname), int(url.port or 0), version=VERSIONS[version])
    client.subscribe([Subscription(f"{ME}/rpc/{each}/+", qos=qos) for each in ("request", "response")])
    await subscribed.wait()
    client.publish(f"{ME}/telemetry", '{"temperature": 21.5}', qos=qos)
    for number, method in QUESTIONS.items():
        client.publish(f"{ME}/rpc/request/{number}", {"method": method, "params": {}}, qos=qos)
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
