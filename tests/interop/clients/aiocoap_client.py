"""A device on aiocoap: its own questions first, then what it is called for. The URL up to the feature, CON or NON."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from aiocoap import GET, POST, Context, Message, Reliable, Unreliable

URL, KIND = sys.argv[1:]
TUNING = {"CON": Reliable, "NON": Unreliable}[KIND]
JSON = 50


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


async def post(context: Context, feature: str, body: Any) -> bytes:
    request = Message(
        code=POST,
        transport_tuning=TUNING,
        uri=f"{URL}/{feature}",
        payload=json.dumps(body).encode(),
        content_format=JSON,
    )
    answer = await context.request(request).response
    assert answer.code.is_successful(), answer
    payload: bytes = answer.payload
    return payload


async def main() -> None:
    context = await Context.create_client_context()
    answer = await post(context, "rpc", {"method": "getCurrentTime", "params": {}})
    say(asked="getCurrentTime", answer=json.loads(answer))
    await post(context, "telemetry", {"temperature": 21.5})
    await post(context, "telemetry", {"long": "x" * 5000})
    request = context.request(Message(code=GET, transport_tuning=TUNING, uri=f"{URL}/rpc", observe=0))
    first = await request.response
    assert first.code.is_successful(), first
    replies = set()
    async for notification in request.observation:  # it drops what it was not asked for in time, so nothing waits here
        call = json.loads(notification.payload)
        say(called={"method": call["method"], "params": call["params"]})
        if call["method"] == "get":
            replies.add(asyncio.create_task(post(context, f"rpc/{call['id']}", {"got": call["params"]})))


asyncio.run(main())
