"""An application on autobahn: URL, serializer, ticket, and whether it serves or uses. It says what it sees."""

from __future__ import annotations

import json
import sys
from typing import Any
from urllib.parse import urlsplit

from autobahn.twisted.component import Component, run
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import CallOptions, PublishOptions, RegisterOptions, SubscribeOptions
from twisted.internet.defer import CancelledError, Deferred

url, serializer, ticket, role = sys.argv[1:]
place = urlsplit(url)
transport: dict[str, Any] = {"url": url, "max_retries": 0}
if place.scheme == "rs":
    endpoint = {"type": "tcp", "host": place.hostname, "port": place.port}
    transport |= {"type": "rawsocket", "serializer": serializer, "endpoint": endpoint}
else:
    transport |= {"type": "websocket", "serializers": [serializer]}
component = Component(
    transports=[transport],
    realm="rpcbroker",
    authentication={"ticket": {"authid": "whoever", "ticket": ticket}},
)


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


async def serve(session: Any) -> None:
    """Answers procedures, and tells of events, until it is ended."""

    def count(most: int, details: Any) -> str:
        for number in range(most):
            details.progress(number)
        return "counted"

    def wait() -> Deferred[None]:
        def interrupted(waiting: Deferred[None]) -> None:
            say(interrupted=True)

        return Deferred(interrupted)

    def fail() -> None:
        raise ApplicationError("com.example.error.no", "not", why="so")

    def event(*args: Any, details: Any, **kwargs: Any) -> None:
        say(event=[list(args), kwargs, details.topic])

    await session.register(lambda a, b: a + b, "com.example.add")
    await session.register(count, "com.example.count", RegisterOptions(details_arg="details"))
    await session.register(wait, "com.example.wait")
    await session.register(fail, "com.example.fail")
    for topic, match in (("com.example.topic", "exact"), ("com.example.t", "prefix"), ("com..topic", "wildcard")):
        await session.subscribe(event, topic, SubscribeOptions(match=match, details_arg="details"))
    say(ready=True)


async def use(session: Any) -> None:
    """Calls what the other serves, publishes, and leaves."""
    say(result=await session.call("com.example.add", 2, 3))
    progress: list[int] = []
    result = await session.call("com.example.count", 3, options=CallOptions(on_progress=progress.append))
    say(result=[progress, result])
    for procedure in ("com.example.fail", "com.example.nothing", "rpcbroker.nothing"):
        try:
            await session.call(procedure)
        except ApplicationError as error:
            say(error=[error.error, list(error.args), error.kwargs])
    calling = session.call("com.example.wait")
    calling.cancel()
    try:
        await calling
    except (ApplicationError, CancelledError):
        say(cancelled=True)
    await session.publish("com.example.topic", 1, "\u00e4", a=[None, 1.5], options=PublishOptions(acknowledge=True))
    try:
        await session.publish("rpcbroker.call.forged", options=PublishOptions(acknowledge=True))
    except ApplicationError as error:
        say(error=[error.error, [], {}])
    devices = await session.call("rpcbroker.device.list")
    say(devices=devices["totalElements"])
    session.leave()


@component.on_join
async def joined(session: Any, details: Any) -> None:
    say(joined=[details.realm, details.authid, details.authrole])
    await (serve if role == "serve" else use)(session)


run([component], log_level=None)
