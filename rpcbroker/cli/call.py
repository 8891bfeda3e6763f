"""`rpcbroker call`"""

from __future__ import annotations

import sys
from typing import Any
from uuid import UUID

import click
import msgspec
from rich.console import Console

from rpcbroker.cli import find
from rpcbroker.cli.answers import Answer, failure
from rpcbroker.cli.following import failure_of, followed
from rpcbroker.cli.http import EVENT_STREAM
from rpcbroker.cli.rest import Rest
from rpcbroker.cli.run import run
from rpcbroker.cli.session import logged_in
from rpcbroker.cli.stop import ExitCode, Stop
from rpcbroker.cli.values import DurationType, call_params
from rpcbroker.core.calls import CallState, SubmitStrategy
from rpcbroker.schema.calls import CallBody, RpcIdJSON
from rpcbroker.schema.common import ErrorJSON
from rpcbroker.wire.events import Event, EventReader

SLACK = 30.0
"""Seconds that the answer may come after the call's own timeout."""
LONGEST_FLOOR = 60.0
"""Seconds: a broker may raise a call's timeout to its own floor, and it is not told to us."""


STRATEGIES = {
    "burst": SubmitStrategy.BURST,
    "on-ack": SubmitStrategy.ON_ACK,
    "on-response": SubmitStrategy.ON_RESPONSE,
}
"""What they are called here."""


class SentCall(CallBody, omit_defaults=True, rename="camel", kw_only=True):
    """What is not given is not sent: a timeout of null is not the same as none."""


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("device")
@click.argument("method")
@click.argument("params", nargs=-1)
@click.option("--oneway", is_flag=True, help="A command: do not wait for a reply.")
@click.option("--timeout", type=DurationType(), help="How long to wait, such as 2s; the broker has a floor.")
@click.option(
    "--connect-timeout",
    type=DurationType(),
    help="How long to wait for the device to come online; 0: not at all. By default as long as --timeout.",
)
@click.option("--persistent", is_flag=True, help="Let the broker keep the call, and print its id: see explain, cancel.")
@click.option("--wait", is_flag=True, help="Follow a persistent call until it ends, and print the reply.")
@click.option(
    "--request-id",
    type=click.UUID,
    help="An id of your own: the same call under the same id is made once, however often it is asked for.",
)
@click.option("--retries", type=click.IntRange(0), help="How often the device may leave it unacknowledged.")
@click.option(
    "--strategy",
    type=click.Choice(list(STRATEGIES)),
    help="What it waits for first: nothing, or that older calls are acknowledged, or that they have ended.",
)
@click.option("--progress", is_flag=True, help="Print interim answers to stderr, each in a line.")
def call(
    device: str,
    method: str,
    params: tuple[str, ...],
    oneway: bool,
    timeout: float | None,
    connect_timeout: float | None,
    persistent: bool,
    wait: bool,
    request_id: UUID | None,
    retries: int | None,
    strategy: str | None,
    progress: bool,
) -> None:
    """Call a device and print its reply.

    \b
    DEVICE is a name or an id, PARAMS are key=value ... or one JSON text:
      rpcbroker call lamp setGpioStatus pin=7 enabled=true
      rpcbroker call lamp setValue 42
      rpcbroker call lamp echo '{"any": ["JSON"]}'
      rpcbroker call lamp setValue 42 --persistent --timeout 1h

    A value that can be read as JSON is JSON (7, true, null, [1]); any other is a string.
    The reply goes to stdout as JSON; what went wrong goes to stderr, and the exit code tells it apart.
    """
    if wait and not persistent:
        raise click.UsageError("--wait is for --persistent; every other call is waited for.")
    if progress and (persistent or oneway):
        raise click.UsageError("--progress is for two-way calls that are not persistent.")
    body = SentCall(
        method=method,
        params=call_params(params),
        timeout=ms(timeout),
        connect_timeout=ms(connect_timeout),
        persistent=persistent,
        request_uuid=msgspec.UNSET if request_id is None else request_id,
        retries=retries,
        submit_strategy=None if strategy is None else STRATEGIES[strategy],
    )
    stream = _Stream() if progress else None

    async def main(reactor: Any) -> None:
        patience = 0.0 if persistent or timeout is None else timeout
        rest = logged_in(reactor, timeout=max(patience, LONGEST_FLOOR) + SLACK, events=stream.feed if stream else None)
        answer = await _call(rest, device, body, stream, oneway=oneway)
        if not persistent:
            _print_reply(answer.body, oneway=oneway)
            return
        rpc_id = answer.read_as(RpcIdJSON).rpc_id
        if not wait:
            click.echo(rpc_id)
            click.echo(f"Kept. What became of it: rpcbroker explain {rpc_id}", err=True)
            return
        click.echo(f"Kept as {rpc_id}; waiting for its end.", err=True)
        ended = await followed(rest, rpc_id, reactor)
        if ended.status not in (CallState.SUCCESSFUL, CallState.DELIVERED):
            raise failure_of(await find.timeline(rest, rpc_id))
        _print_reply(b"" if oneway else msgspec.json.encode(ended.response), oneway=oneway)

    run(main)


def ms(seconds: float | None) -> int | None:
    """Milliseconds, as the wire has them."""
    return None if seconds is None else round(seconds * 1000)


async def _call(rest: Rest, device: str, body: CallBody, stream: _Stream | None, *, oneway: bool) -> Answer:
    device_id = await find.device_id(rest, device)
    # Of the two sets of paths this is the one whose status alone tells offline from no reply.
    path = f"/api/plugins/rpc/{'oneway' if oneway else 'twoway'}/{device_id}"
    answer = await rest.try_request("POST", path, body)
    if stream is not None and answer.headers.get("content-type", "").startswith(EVENT_STREAM):
        answer = stream.ended(answer)
    if answer.status == 200:
        return answer
    stop = failure(answer)
    rpc_id = answer.headers.get("x-rpc-id")
    if stop.reason and rpc_id:
        stop.more = f"rpcbroker explain {rpc_id}"
    if stop.exit_code == ExitCode.NOT_FOUND and stop.hint is None:
        stop.hint = "rpcbroker device list shows what there is."
    raise stop


class _Stream:
    """A call's answer as a stream of events: progress is printed at once, the last event is kept."""

    def __init__(self) -> None:
        self._reader = EventReader()
        self._last: Event | None = None

    def feed(self, piece: bytes) -> None:
        for event in self._reader.feed(piece):
            if event.name == "progress":
                click.echo(b"Progress: " + event.data, err=True)
            else:
                self._last = event

    def ended(self, answer: Answer) -> Answer:
        """What the answer would have been without events. Raises Stop if there is no end."""
        last = self._last
        if last is None:
            raise Stop("The broker ended the call without saying how.", hint="What became of it: rpcbroker calls")
        if last.name == "error":
            return answer._replace(status=Answer(0, {}, last.data).read_as(ErrorJSON).status, body=last.data)
        return answer._replace(body=last.data)


def _print_reply(reply: bytes, *, oneway: bool) -> None:
    """On a terminal readable, elsewhere byte for byte what the device said."""
    if not reply:
        click.echo("Sent." if oneway else "The device sent an empty reply.", err=True)
    elif sys.stdout.isatty():
        Console().print_json(reply.decode())
    else:
        click.echo(reply)
