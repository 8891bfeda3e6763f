"""`rpcbroker watch`"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import click
from rich.console import Console
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from rpcbroker.cli import find
from rpcbroker.cli.answers import Answer, failure
from rpcbroker.cli.feed_lines import drawn, line_of
from rpcbroker.cli.run import run
from rpcbroker.cli.session import logged_in
from rpcbroker.cli.stop import ExitCode, Stop
from rpcbroker.core.calls import CallState
from rpcbroker.schema.common import MAX_TEXT, ErrorJSON
from rpcbroker.wire.events import Event, EventReader

FIRST_WAIT = 0.2
LONGEST_WAIT = 5.0
"""Seconds until a broker that is away is tried again; each wait is half as long again as the one before it."""


@click.command
@click.option("--device", metavar="NAME", help="Only this device, by its name or id.")
@click.option("--method", metavar="PATTERN", help="Only calls of this method; a * stands for any text.")
@click.option(
    "--state", type=click.Choice(list(CallState), case_sensitive=False), help="Only calls that come into this state."
)
@click.option("--payloads", is_flag=True, help="Params and replies, too.")
def watch(device: str | None, method: str | None, state: CallState | None, payloads: bool) -> None:
    """Watch calls and devices, as it happens, until Ctrl-C.

    \b
    A line for each step of a call, for devices that come and go, and for what a device nearly got right;
    on a terminal in columns, elsewhere a JSON object a line. Goes on when the broker was away; whether
    anything was missed meanwhile stands on stderr.
    """
    if method is not None and len(method) > MAX_TEXT:
        raise click.UsageError(f"--method has at most {MAX_TEXT} characters.")
    watching = Watching(_printer())

    async def main(reactor: Any) -> None:
        reactor.addSystemEventTrigger("before", "shutdown", watching.stop)
        rest = logged_in(reactor, events=watching.feed)
        query: dict[str, Any] = {
            "deviceId": None if device is None else await find.device_id(rest, device),
            "method": method,
            "state": state,
            "payloads": "true" if payloads else None,
        }

        async def ask(last_id: str | None) -> Answer:
            return await rest.try_request("GET", "/api/feed", lastEventId=last_id, **query)

        await watching.go_on(ask, reactor)

    run(main, until_interrupted=True)


class Watching:
    """A stream of events that goes on over all connections by which it comes."""

    def __init__(self, show: Callable[[str, Any], object]) -> None:
        """`show` is given each event, its name and its data."""
        self._show = show
        self._reader = EventReader()
        self._asking: Deferred[Answer] | None = None
        self._last_id: str | None = None
        self._away: Stop | None = None
        """Why there was no broker the last time, once people were told so."""
        self._error: Stop | None = None
        """What the broker said before it ended the stream."""
        self._failed: Exception | None = None
        self._over = False

    async def go_on(self, ask: Callable[[str | None], Any], clock: Any) -> None:
        """Watch until it is stopped. Raises Stop when it cannot begin, or when waiting would change nothing."""
        wait = FIRST_WAIT
        while True:
            self._reader, self._error = EventReader(), None
            self._asking = Deferred.fromCoroutine(ask(self._last_id))
            try:
                lost = await self._until_lost(self._asking)
            except (Stop, CancelledError):
                if self._failed is None:
                    raise
            if self._failed is not None:
                raise self._failed
            if self._over:
                return
            if self._reader.last_id:
                wait = FIRST_WAIT
            if lost is not None:
                if self._away is None:
                    click.echo(f"The broker is away: {lost.message} Waiting for it.", err=True)
                self._away = lost
                await deferLater(clock, wait)
                wait = min(wait * 1.5, LONGEST_WAIT)

    def stop(self) -> None:
        """Whatever ends from now on is no news."""
        self._over = True

    async def _until_lost(self, asking: Deferred[Answer]) -> Stop | None:
        """Why the stream has ended; None if it can go on at once."""
        try:
            answer = await asking
        except Stop as stop:
            if self._last_id is None or stop.exit_code != ExitCode.ERROR:
                raise
            return stop
        if answer.status == 200:
            if self._error is not None and self._error.exit_code == ExitCode.NOT_LOGGED_IN:
                return None  # a token is as good as renewed
            return self._error or Stop("It has ended the stream.")
        if self._last_id is None or answer.status not in (429, 502, 503):
            raise failure(answer)
        return failure(answer)

    # -- what comes

    def feed(self, piece: bytes) -> None:
        """A piece of the stream."""
        try:
            for event in self._reader.feed(piece):
                self._take(event)
            if self._last_id is None and self._reader.last_id:
                click.echo("Watching; Ctrl-C ends it.", err=True)
            self._came_back(missed=False)
            self._last_id = self._reader.last_id or self._last_id
        except Exception as error:  # who calls this would swallow it
            self._failed = error
            if self._asking is not None:
                self._asking.cancel()

    def _take(self, event: Event) -> None:
        if event.name == "gap":
            self._came_back(missed=True)
        elif event.name == "error":
            answer = Answer(0, {}, event.data)
            self._error = failure(answer._replace(status=answer.read_as(ErrorJSON).status))
        else:
            self._show(event.name, Answer(200, {}, event.data).json())

    def _came_back(self, *, missed: bool) -> None:
        if self._away is not None or missed:
            what = "what happened meanwhile is not known" if missed else "nothing was missed"
            click.echo(f"The broker is back; {what}.", err=True)
            self._away = None


def _printer() -> Callable[[str, Any], object]:
    if not sys.stdout.isatty():
        return lambda name, data: click.echo(json.dumps({"event": name} | data, separators=(",", ":")))
    console = Console(highlight=False)
    return lambda name, data: console.print(drawn(line_of(name, data), console.width), soft_wrap=True)
