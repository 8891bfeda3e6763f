"""amqtt's broker on a loopback port, everybody let in; runs in an environment of its own.

python bench/amqtt_broker.py PORT
"""

import asyncio
import logging
import sys

from amqtt.broker import Broker


async def main(port: str) -> None:
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await broker.start()
    await asyncio.Event().wait()


logging.basicConfig(level=logging.ERROR)
asyncio.run(main(sys.argv[1]))
