"""aiocoap's server on a loopback port, which reads telemetry as JSON and keeps nothing; in an environment of its own.

python bench/aiocoap_server.py PORT
"""

import asyncio
import json
import logging
import sys

from aiocoap import CHANGED, Context, Message
from aiocoap.resource import PathCapable, Resource, Site


class Devices(Resource, PathCapable):
    """`/api/v1/{token}/telemetry`: the rest of the path is left to it."""

    async def render_post(self, request: Message) -> Message:
        """2.04, once the payload is read."""
        json.loads(request.payload)
        return Message(code=CHANGED)


async def main(port: str) -> None:
    site = Site()
    site.add_resource(["api", "v1"], Devices())
    await Context.create_server_context(site, bind=("127.0.0.1", int(port)))
    await asyncio.Event().wait()


logging.basicConfig(level=logging.ERROR)
asyncio.run(main(sys.argv[1]))
