"""`rpcbroker simulate`"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from random import Random, SystemRandom
from typing import Any
from urllib.parse import urlsplit

import click
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.web.client import Agent, HTTPConnectionPool

from rpcbroker.cli import find
from rpcbroker.cli.addresses import addresses
from rpcbroker.cli.device import add_device
from rpcbroker.cli.http import CONNECT_TIMEOUT
from rpcbroker.cli.rest import Rest
from rpcbroker.cli.run import run
from rpcbroker.cli.session import known_url, logged_in
from rpcbroker.cli.stop import ExitCode, Stop
from rpcbroker.cli.values import (
    USUAL_PORTS,
    Address,
    AddressType,
    BrokerUrl,
    BrokerUrlType,
    ChanceType,
    DurationType,
    PinsType,
    ScheduleType,
)
from rpcbroker.simulator.carrier import Carrier, ConnectedDevice, Refused, Schedule
from rpcbroker.simulator.coap import CoapCarrier
from rpcbroker.simulator.datagrams import open_dtls, open_udp
from rpcbroker.simulator.device import Seen, SimulatedDevice
from rpcbroker.simulator.gpio import DEFAULT_PINS
from rpcbroker.simulator.http import DeviceSite, HttpCarrier, Polling
from rpcbroker.simulator.mqtt import MqttCarrier
from rpcbroker.simulator.sse import Bookmark, Streaming
from rpcbroker.simulator.trust import HttpsPolicy, Trust, TrustError, dtls_context, tls_creator
from rpcbroker.simulator.widgets import WidgetBoard

TOKEN = "RPCBROKER_DEVICE_TOKEN"  # noqa: S105 - the name of a variable
"""Variable with the device's access token: a command line can be read by all users of a machine."""

PROTOCOLS = {
    "mqtt": ("MQTT", ("mqtt", "mqtts")),
    "coap": ("CoAP", ("coap",)),
    "coaps": ("CoAP over DTLS", ("coaps",)),
    "http": ("HTTP polls", ("http", "https")),
    "sse": ("server-sent events", ("http", "https")),
}
"""Protocol -> its name as people know it, and the schemes of its URLs."""
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command
@click.argument("name")
@click.option(
    "--protocol", type=click.Choice(list(PROTOCOLS)), help="What it speaks.  [default: as --broker says, or mqtt]"
)
@click.option(
    "--broker",
    type=BrokerUrlType(),
    help="Where it connects, such as coap://HOST:5683.  [default: where the broker listens that you are logged in to]",
)
@click.option("--mqtt", type=AddressType(), help="The same as --broker mqtt://ADDRESS.")
@click.option("--gpio", type=PinsType(), default=DEFAULT_PINS, help="Its pins, such as 7,11.")
@click.option("--latency", type=DurationType(), default="0s", show_default=True, help="How long an answer takes.")
@click.option("--drop", type=ChanceType(), default="0%", show_default=True, help="How many calls go unanswered.")
@click.option("--duplicate", type=ChanceType(), default="0%", show_default=True, help="How many replies come twice.")
@click.option(
    "--crash-after", type=click.IntRange(1), help="Each call of this number crashes it; it comes back after a while."
)
@click.option("--sleep-schedule", type=ScheduleType(), help="How long it is awake and then asleep, such as 5s/55s.")
@click.option("--token-file", type=_FILE, help=f"Has its access token, as ${TOKEN} may; then no login is needed.")
@click.option("--cert", type=_FILE, help="Its certificate, for TLS and DTLS (PEM).")
@click.option("--key", type=_FILE, help="The key of --cert, if that file has none.")
@click.option("--ca", type=_FILE, help="Whose certificates it believes.  [default: whom this machine believes]")
@click.option("--insecure", is_flag=True, help="Believe any certificate.")
@click.option("--state-dir", help="Where a broker on this machine keeps things.  [default: $STATE_DIRECTORY, ./var]")
def simulate(name: str, **options: Any) -> None:
    """Be a GPIO device, over MQTT, CoAP or HTTP, until Ctrl-C.

    \b
    The device NAME is added if the broker does not know it.
    It answers getGpioStatus, setGpioStatus pin=7 enabled=true, getValue, setValue,
    getState, setState, checkStatus, rpcCommand, echo, the remote shell (nothing in it is
    real), and countDown seconds=3, which reports progress each second.
    It reports its value, state and pins as telemetry when they change.
    Told to fail '["setValue"]' it fails that method from then on, until fail '[]'.

    \b
    Asleep it has no connection; over CoAP it is only silent, and acknowledges nothing:
    a device that is added for that has psm in its additionalInfo, so that calls wait.
    What it would say while it sleeps is lost.
    """
    asked = Simulation(name=name, **options)

    async def main(reactor: Any) -> None:
        try:
            await asked.simulate(reactor)
        except Refused as error:
            raise Stop(str(error), ExitCode.NOT_LOGGED_IN) from None
        except TrustError as error:
            raise Stop(str(error), ExitCode.USAGE) from None

    run(main, until_interrupted=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """What the command line asks for. Raises click's usage error for what does not fit together."""

    name: str
    protocol: str | None
    broker: BrokerUrl | None
    mqtt: Address | None
    gpio: tuple[int, ...]
    latency: float
    drop: float
    duplicate: float
    crash_after: int | None
    sleep_schedule: Schedule | None
    token_file: Path | None
    cert: Path | None
    key: Path | None
    ca: Path | None
    insecure: bool
    state_dir: str | None

    def __post_init__(self) -> None:
        if self.mqtt is not None and self.broker is not None:
            raise click.UsageError("--mqtt and --broker say the same; give one of them.")
        if self.key is not None and self.cert is None:
            raise click.UsageError("--key is the key of --cert, which is missing.")
        if self.ca is not None and self.insecure:
            raise click.UsageError("--ca and --insecure exclude each other.")
        given = self.given
        if given is not None and self.protocol is not None and given.scheme not in PROTOCOLS[self.protocol][1]:
            schemes = " or ".join(f"{scheme}://" for scheme in PROTOCOLS[self.protocol][1])
            raise click.UsageError(f"--protocol {self.protocol} needs a --broker at {schemes}, not {given}.")

    @property
    def given(self) -> BrokerUrl | None:
        """Where it shall connect, if that is said."""
        return self.broker if self.mqtt is None else BrokerUrl("mqtt", *self.mqtt)

    @property
    def spoken(self) -> str:
        """The protocol."""
        if self.protocol is not None:
            return self.protocol
        given = self.given
        return next((each for each, (_, schemes) in PROTOCOLS.items() if given and given.scheme in schemes), "mqtt")

    async def simulate(self, reactor: Any) -> None:
        """Until it is interrupted. Raises Stop, Refused, TrustError."""
        token = self._own_token()
        rest = None
        if token is None and not (self.cert is not None and self.spoken in ("mqtt", "coaps")):
            rest = logged_in(reactor)
            token = await self._token_of(rest)
        url = "" if self.given else known_url() if rest is None else rest.url
        where = self.given or self.found(url)
        rng = SystemRandom()
        device = SimulatedDevice(
            WidgetBoard(self.gpio, seconds=reactor.seconds),
            clock=reactor,
            rng=rng,
            latency=self.latency,
            drop=self.drop,
            duplicate=self.duplicate,
            crash_after=self.crash_after or 0,
            observe=_print_call,
        )
        online = f"{self.name} is online over {PROTOCOLS[self.spoken][0]} at {where.netloc}; Ctrl-C ends it"
        connected = ConnectedDevice(
            self._carrier(reactor, where, url or str(where), device, token, rng),
            device,
            clock=reactor,
            rng=rng,
            schedule=self.sleep_schedule,
            on_link=lambda trouble: _print_line(trouble or online),
        )
        running = connected.run()

        def leave() -> Any:
            connected.stop()
            return running

        reactor.addSystemEventTrigger("before", "shutdown", leave)
        await running

    def _own_token(self) -> str | None:
        """One that need not be asked for. Raises Stop."""
        if self.token_file is None:
            return os.environ.get(TOKEN, "").strip() or None
        try:
            token = self.token_file.read_text().strip()
        except (OSError, UnicodeDecodeError):
            token = ""
        if not token:
            raise Stop(f"There is no token in {self.token_file}.", ExitCode.USAGE)
        return token

    async def _token_of(self, rest: Rest) -> str:
        device = await find.device_by_name(rest, self.name)
        if device is None:
            info: dict[str, Any] = {"rpcCancel": True}
            if self.sleep_schedule is not None and self.spoken in ("coap", "coaps"):
                # Asleep it acknowledges nothing, and would be taken for gone: calls have to wait until it is heard.
                # Half the time that it is awake, so that a call which goes out last still finds it so.
                info["psm"] = max(1, round(self.sleep_schedule.awake * 500))
            device = await add_device(rest, self.name, type_="simulated", additional_info=info)
            click.echo(f"Added {self.name}, id {device.id.id}.", err=True)
        return await find.device_token(rest, device.id.id)

    def found(self, url: str) -> BrokerUrl:
        """Where the broker speaks the protocol whose REST API is at `url`. Raises Stop."""
        schemes = PROTOCOLS[self.spoken][1]
        if url.partition(":")[0] in schemes:
            parts = urlsplit(url)
            return BrokerUrl(parts.scheme, parts.hostname or "", parts.port or USUAL_PORTS[parts.scheme])
        return addresses(url, self.state_dir).must(*schemes)

    def _carrier(
        self, reactor: Any, where: BrokerUrl, url: str, device: SimulatedDevice, token: str | None, rng: Random
    ) -> Carrier:
        """Raises TrustError."""
        trust = Trust(ca=self.ca, certificate=self.cert, key=self.key, insecure=self.insecure)
        match self.spoken:
            case "coap":
                return CoapCarrier(
                    lambda: Deferred.fromCoroutine(open_udp(reactor, where.host, where.port)),
                    device,
                    token,
                    clock=reactor,
                    rng=rng,
                )
            case "coaps":
                context = dtls_context(trust)
                return CoapCarrier(
                    lambda: Deferred.fromCoroutine(open_dtls(reactor, where.host, where.port, context)),
                    device,
                    token,
                    clock=reactor,
                    rng=rng,
                )
            case "http" | "sse" as spoken:
                return _http_carrier(reactor, url, spoken, device, token or "", trust)
        endpoint: Any = HostnameEndpoint(reactor, where.host, where.port)
        if where.scheme == "mqtts":
            endpoint = wrapClientTLS(tls_creator(trust, where.host), endpoint)
        return MqttCarrier(endpoint, device, token, client_id=f"simulator-{rng.getrandbits(48):x}", clock=reactor)


def _http_carrier(
    reactor: Any, url: str, spoken: str, device: SimulatedDevice, token: str, trust: Trust
) -> HttpCarrier:
    pool = HTTPConnectionPool(reactor)
    agent = Agent(reactor, contextFactory=HttpsPolicy(trust), connectTimeout=CONNECT_TIMEOUT, pool=pool)
    site = DeviceSite(agent, url, token)
    bookmark = Bookmark()
    return HttpCarrier(
        lambda: (
            Polling(site, device, clock=reactor)
            if spoken == "http"
            else Streaming(site, device, bookmark, clock=reactor)
        ),
        pool.closeCachedConnections,
    )


def _print_call(seen: Seen) -> None:
    if seen.crashed:
        reply = "crashed"
    elif seen.dropped:
        reply = "dropped"
    elif seen.cancelled:
        reply = "cancelled"
    else:
        reply = _short(seen.reply) + (" (sent twice)" if seen.duplicated else "")
    _print_line(f"{seen.method} {_short(seen.params)} -> {reply}")


def _print_line(text: str) -> None:
    click.echo(f"{datetime.now():%H:%M:%S.%f}"[:12] + f"  {text}")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else f"{text[:197]}..."
