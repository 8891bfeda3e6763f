"""`rpcbroker demo`: the whole thing once, for real: a broker process, REST over HTTP, a device over MQTT."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import tempfile
from pathlib import Path
from random import SystemRandom
from typing import Any
from urllib.parse import urlsplit

import click
import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.task import deferLater

from rpcbroker import __version__
from rpcbroker.cli import find
from rpcbroker.cli.answers import Answer
from rpcbroker.cli.broker_process import START_TIMEOUT, BrokerProcess
from rpcbroker.cli.call import SentCall
from rpcbroker.cli.device import add_device
from rpcbroker.cli.rest import Rest
from rpcbroker.cli.run import run
from rpcbroker.cli.session import as_nobody
from rpcbroker.cli.snippets import own_program, snippets
from rpcbroker.cli.stop import Stop
from rpcbroker.cli.values import Address
from rpcbroker.schema.common import ErrorJSON
from rpcbroker.schema.devices import DeviceJSON
from rpcbroker.simulator.carrier import ConnectedDevice
from rpcbroker.simulator.device import Seen, SimulatedDevice
from rpcbroker.simulator.mqtt import MqttCarrier
from rpcbroker.simulator.widgets import WidgetBoard

USER = "demo@example.org"
LAMP, SLEEPER = "demo-lamp", "demo-sleeper"
PINS = (7, 11)
READY_TIMEOUT = 10.0
"""Seconds that the device has to get online: it is on this machine."""

FREE_UDP = "udp:0:interface=127.0.0.1"

V1, V2 = "/api/plugins/rpc", "/api/rpc"


@click.command
@click.option("--stay", is_flag=True, help="Keep the broker and the device running until Ctrl-C.")
@click.option("--http-port", type=click.IntRange(0, 65535), help="[default: any free one; 8080 with --stay]")
@click.option("--mqtt-port", type=click.IntRange(0, 65535), help="[default: any free one; 1883 with --stay]")
def demo(stay: bool, http_port: int | None, mqtt_port: int | None) -> None:
    """Start a broker and a device, call it, and show what happens.

    Everything runs on this machine, on loopback, in a temporary directory, and is gone afterwards.
    It fails, with exit code 1, if anything is not as it should be.
    """
    http = http_port if http_port is not None else 8080 * stay
    mqtt = mqtt_port if mqtt_port is not None else 1883 * stay

    async def main(reactor: Any) -> None:
        await deferLater(reactor, 0)  # from here on signals are the reactor's, and nothing is left behind
        show = Demo(reactor, http_port=http, mqtt_port=mqtt)
        signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(reactor.stop))
        reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(show.clean_up()))
        try:
            await show.play()
            if stay:
                show.how_to_use_it()
                await show.until_something_ends()
        finally:
            await show.clean_up()
        show.say("stopped the broker and removed its directory")
        if not stay:
            show.where_to_go_next()

    run(main, until_interrupted=stay)


class Demo:
    """One showing, with what it started. Every step is checked; Stop says what differed."""

    def __init__(self, reactor: Any, *, http_port: int, mqtt_port: int) -> None:
        self._reactor = reactor
        self._ports = {"HTTP": http_port, "MQTT": mqtt_port}
        self._began = reactor.seconds()
        self._directory = Path(tempfile.mkdtemp(prefix="rpcbroker-demo-"))
        self._broker = BrokerProcess(reactor, self._directory)
        self._leaving = False
        self._device: ConnectedDevice | None = None
        self._device_gone: Deferred[None] | None = None
        self._seen: list[Seen] = []
        self._rest: Rest
        self._mqtt: Address
        self._lamp: DeviceJSON
        self._token: str
        self._sleeper: DeviceJSON
        self._sleeper_token: str

    # -- the transcript

    def say(self, text: str) -> None:
        """A line with the time since the start."""
        click.echo(f"{self._reactor.seconds() - self._began:8.3f} s  {text}")

    def _more(self, text: str) -> None:
        click.echo(f"{'':12}{text}")

    # -- the play

    async def play(self) -> None:
        """From nothing to calls that are answered, and one that cannot be. Raises Stop."""
        click.echo(f"rpcbroker {__version__}: a broker and a device on this machine\n")
        await self._start_broker()
        await self._log_in()
        await self._start_device()
        await self._call_the_lamp()
        await self._call_the_sleeper()

    async def _start_broker(self) -> None:
        listen = {f"RPCBROKER_{name}_LISTEN": f"tcp:{port}:interface=127.0.0.1" for name, port in self._ports.items()}
        self._broker.start({**listen, "RPCBROKER_COAP_LISTEN": FREE_UDP, "RPCBROKER_ADMIN_EMAIL": USER})
        self.say(f"started a broker, process {self._broker.pid}")
        urls = await self._broker.endpoints()
        try:
            http, mqtt = urls["http"], urlsplit(urls["mqtt"])
        except KeyError as error:
            raise Stop(f"The broker does not listen for {error.args[0]}; it listens at {urls}.") from None
        self._mqtt = Address(mqtt.hostname or "", mqtt.port or 0)
        self._rest = as_nobody(self._reactor, http)
        deadline = self._reactor.seconds() + START_TIMEOUT
        while (answer := await self._rest.try_request("GET", "/readyz")).status != 200:
            if self._reactor.seconds() > deadline:
                raise Stop(f"The broker is not ready after {START_TIMEOUT:g} s: status {answer.status}.")
            await deferLater(self._reactor, 0.05)
        self.say(f"it is ready: {http} for callers, {urls['mqtt']} for devices")

    async def _log_in(self) -> None:
        await self._rest.log_in(USER, (self._directory / "initial-admin-password").read_text().strip())
        self.say(f"logged in as {USER}, with the password that the broker made up for its first user")

    async def _start_device(self) -> None:
        self._lamp = await add_device(self._rest, LAMP, type_="simulated")
        self._token = await find.device_token(self._rest, self._lamp.id.id)
        self.say(f"added the device {LAMP}; its access token is {self._token}")
        rng = SystemRandom()
        online: Deferred[None] = Deferred()
        trouble: list[str] = []

        def on_link(what: str | None) -> None:
            if what is not None:
                trouble.append(what)
            elif not online.called:
                online.callback(None)

        board = WidgetBoard(PINS, seconds=self._reactor.seconds)
        lamp = SimulatedDevice(board, clock=self._reactor, rng=rng, observe=self._seen.append)
        endpoint = HostnameEndpoint(self._reactor, self._mqtt.host, self._mqtt.port)
        carrier = MqttCarrier(endpoint, lamp, self._token, client_id="demo-lamp", clock=self._reactor)
        self._device = ConnectedDevice(carrier, lamp, clock=self._reactor, rng=rng, on_link=on_link)
        running = self._device.run()
        self._device_gone = Deferred()

        def ended(result: Any) -> None:
            trouble.append(result.getErrorMessage() if result is not None else "It was stopped.")
            if not online.called:
                online.cancel()
            assert self._device_gone is not None
            self._device_gone.callback(None)

        running.addBoth(ended)
        online.addTimeout(READY_TIMEOUT, self._reactor)
        try:
            await online
        except Exception:
            raise Stop(f"The device did not get online. {' '.join(trouble[-1:])}") from None
        self.say("the device is connected over MQTT and can be called")

    async def _call_the_lamp(self) -> None:
        off, on = {"7": False, "11": False}, {"7": True, "11": False}
        get, switch = ("getGpioStatus", None), ("setGpioStatus", {"pin": 7, "enabled": True})
        await self._call("two-way", V1, "twoway", get, expect=200, reply=off)
        await self._call("two-way", V1, "twoway", switch, expect=200, reply=on)
        await self._call("one-way", V1, "oneway", ("setValue", 42), expect=200)
        await self._call("two-way", V2, "twoway", ("getValue", None), expect=200, reply=42)
        await self._call("one-way", V2, "oneway", ("setValue", "dim"), expect=200)
        await self._call("two-way", V2, "twoway", ("echo", {"hello": "device"}), expect=200, reply={"hello": "device"})
        heard = [seen.method for seen in self._seen]
        self._check(
            heard == ["getGpioStatus", "setGpioStatus", "setValue", "getValue", "setValue", "echo"],
            f"the device heard {', '.join(heard) or 'nothing'}",
        )

    async def _call_the_sleeper(self) -> None:
        self._sleeper = await add_device(self._rest, SLEEPER, type_="simulated")
        self._sleeper_token = await find.device_token(self._rest, self._sleeper.id.id)
        self.say(f"added {SLEEPER}, which never connects: a call says why it failed, and what to do")
        for version, status in ((V1, 409), (V2, 504)):
            answer = await self._call(
                "two-way", version, "twoway", ("getValue", None), expect=status, device=self._sleeper, connect_timeout=0
            )
            error = answer.read_as(ErrorJSON)
            self._more(f"reason  {error.reason}")
            self._more(f"hint    {error.hint}")
            self._check(error.reason == "NEVER_CONNECTED", "its reason should be NEVER_CONNECTED")
            self._check(bool(error.hint), "it should have a hint")

    async def _call(
        self,
        what: str,
        version: str,
        way: str,
        call: tuple[str, Any],
        *,
        expect: int,
        reply: Any = None,
        device: DeviceJSON | None = None,
        connect_timeout: int | None = None,
    ) -> Answer:
        """One call, measured and checked: status, body, and the id that every answer has."""
        body = SentCall(method=call[0], params=call[1], connect_timeout=connect_timeout)
        device = device or self._lamp
        self.say(f"{what} call: POST {version}/{way}/<{device.name}>")
        self._more(msgspec.json.encode(body).decode())
        before = self._reactor.seconds()
        answer = await self._rest.try_request("POST", f"{version}/{way}/{device.id.id}", body)
        took = (self._reactor.seconds() - before) * 1000
        shown = answer.body.decode(errors="replace") if expect == 200 else answer.read_as(ErrorJSON).message
        self._more(f"{answer.status} {shown or '(no body)'}".ljust(56) + f"{took:8.1f} ms")
        self._check(answer.status == expect, f"the status should be {expect}")
        self._check(bool(answer.headers.get("x-rpc-id")), "the answer should have the header X-RPC-Id")
        if expect == 200:
            self._check(
                answer.json() == reply, f"the body should be {_compact(reply) if reply is not None else 'empty'}"
            )
        return answer

    @staticmethod
    def _check(good: bool, what: str) -> None:
        if not good:
            raise Stop(f"The demo failed: {what}.")

    # -- staying

    def how_to_use_it(self) -> None:
        """Everything that somebody else needs to use this broker."""
        url, program = self._rest.url, own_program()
        password_file = shlex.quote(str(self._directory / "initial-admin-password"))
        facts = {
            "URL": url,
            "Console": f"{url}/ in a browser: sign in as the user below",
            "MQTT": f"{self._mqtt.host}:{self._mqtt.port}",
            "User": USER,
            "Password": f"in {password_file}",
            f"{LAMP}": f"token {self._token}, online: simulated here",
            f"{SLEEPER}": f"token {self._sleeper_token}, offline: for you to be",
        }
        click.echo()
        for name, value in facts.items():
            click.echo(f"  {name:14}{value}")
        lines = [
            ("Log in, in another terminal", f"{program} login {url} -u {USER} --password-stdin < {password_file}"),
            ("Call the simulated device", f"{program} call {LAMP} setGpioStatus pin=7 enabled=true"),
            ("Watch all that happens, as it happens", f"{program} watch"),
            *snippets(
                url=url,
                device_id=str(self._sleeper.id.id),
                name=SLEEPER,
                token=self._sleeper_token,
                mqtt=self._mqtt,
                program=program,
            ),
        ]
        for title, text in lines:
            click.echo(f"\n# {title}\n{text}")
        click.echo("\nCtrl-C ends the broker and the device, and removes everything.")

    async def until_something_ends(self) -> None:
        """Fires when we are told to leave. Raises Stop when the broker ends by itself."""
        await self._broker.gone()
        if not self._leaving:
            raise Stop(f"The broker ended by itself. {self._broker.last_words()}")

    # -- the end

    async def clean_up(self) -> None:
        """Afterwards nothing is left: no process, no file. May be called twice."""
        self._leaving = True
        if self._device is not None and self._device_gone is not None:
            self._device.stop()
            await self._device_gone
        await self._broker.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def where_to_go_next(self) -> None:
        """For those who want more."""
        click.echo("\nEverything was as it should be. Next:")
        for command, what in (
            (f"{own_program()} demo --stay", "the same, and it stays: call the device yourself"),
            (f"{own_program('twistd')} -n rpcbroker", "a broker that keeps its data, in ./var"),
            (f"{own_program()} --help", "all commands"),
        ):
            click.echo(f"  {command}\n      {what}")


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
