"""`rpcbroker simulate`"""

from __future__ import annotations

import json
from datetime import datetime
from random import SystemRandom
from typing import Any

import click
from twisted.internet.endpoints import HostnameEndpoint

from rpcbroker.cli import find
from rpcbroker.cli.device import add_device, default_mqtt
from rpcbroker.cli.rest import Rest
from rpcbroker.cli.run import run
from rpcbroker.cli.session import logged_in
from rpcbroker.cli.stop import ExitCode, Stop
from rpcbroker.cli.values import Address, AddressType, ChanceType, DurationType, PinsType
from rpcbroker.simulator.client import ConnectedDevice, Refused
from rpcbroker.simulator.device import Seen, SimulatedDevice
from rpcbroker.simulator.gpio import DEFAULT_PINS, GpioBoard


@click.command
@click.argument("name")
@click.option("--gpio", type=PinsType(), default=DEFAULT_PINS, help="Its pins, such as 7,11.")
@click.option("--latency", type=DurationType(), default="0s", show_default=True, help="How long an answer takes.")
@click.option("--drop", type=ChanceType(), default="0%", show_default=True, help="How many calls go unanswered.")
@click.option("--mqtt", type=AddressType(), help="Where it connects; by default the broker's host, port 1883.")
def simulate(name: str, gpio: tuple[int, ...], latency: float, drop: float, mqtt: Address | None) -> None:
    """Be a GPIO device, over MQTT, until Ctrl-C.

    \b
    The device NAME is added if the broker does not know it.
    It answers getGpioStatus, setGpioStatus pin=7 enabled=true, getValue, setValue,
    echo, getTermInfo and countDown seconds=3, which reports progress each second.
    """

    async def main(reactor: Any) -> None:
        rest = logged_in(reactor)
        token = await _token_of(rest, name)
        where = mqtt or default_mqtt(rest.url)
        rng = SystemRandom()
        connected = ConnectedDevice(
            HostnameEndpoint(reactor, where.host, where.port),
            SimulatedDevice(GpioBoard(gpio), clock=reactor, rng=rng, latency=latency, drop=drop, observe=_print_call),
            token,
            client_id=f"simulator-{rng.getrandbits(48):x}",
            clock=reactor,
            rng=rng,
            on_link=lambda trouble: _print_line(
                trouble or f"{name} is online at {where.host}:{where.port}; Ctrl-C ends it"
            ),
        )
        running = connected.run()

        def leave() -> Any:
            connected.stop()
            return running

        reactor.addSystemEventTrigger("before", "shutdown", leave)
        try:
            await running
        except Refused as error:
            raise Stop(str(error), ExitCode.NOT_LOGGED_IN) from None

    run(main, until_interrupted=True)


async def _token_of(rest: Rest, name: str) -> str:
    device = await find.device_by_name(rest, name)
    if device is None:
        device = await add_device(rest, name, type_="simulated", additional_info={"rpcCancel": True})
        click.echo(f"Added {name}, id {device.id.id}.", err=True)
    return await find.device_token(rest, device.id.id)


def _print_call(seen: Seen) -> None:
    reply = "dropped" if seen.dropped else "cancelled" if seen.cancelled else _short(seen.reply)
    _print_line(f"{seen.method} {_short(seen.params)} -> {reply}")


def _print_line(text: str) -> None:
    click.echo(f"{datetime.now():%H:%M:%S.%f}"[:12] + f"  {text}")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else f"{text[:197]}..."
