"""`rpcbroker call`"""

from __future__ import annotations

import json
import sys
from typing import Any

import click
from rich.console import Console

from rpcbroker.cli import find
from rpcbroker.cli.answers import Answer
from rpcbroker.cli.rest import Rest
from rpcbroker.cli.run import run
from rpcbroker.cli.session import logged_in
from rpcbroker.cli.stop import ExitCode, Stop
from rpcbroker.cli.values import DurationType, call_params
from rpcbroker.schema.calls import CallBody

SLACK = 30.0
"""Seconds that the answer may come after the call's own timeout."""
LONGEST_FLOOR = 60.0
"""Seconds: a broker may raise a call's timeout to its own floor, and it is not told to us."""


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
def call(
    device: str,
    method: str,
    params: tuple[str, ...],
    oneway: bool,
    timeout: float | None,
    connect_timeout: float | None,
) -> None:
    """Call a device and print its reply.

    \b
    DEVICE is a name or an id, PARAMS are key=value ... or one JSON text:
      rpcbroker call lamp setGpioStatus pin=7 enabled=true
      rpcbroker call lamp setValue 42
      rpcbroker call lamp echo '{"any": ["JSON"]}'

    A value that can be read as JSON is JSON (7, true, null, [1]); any other is a string.
    The reply goes to stdout as JSON; what went wrong goes to stderr, and the exit code tells it apart.
    """
    body = SentCall(
        method=method,
        params=call_params(params),
        timeout=ms(timeout),
        connect_timeout=ms(connect_timeout),
    )

    async def main(reactor: Any) -> None:
        rest = logged_in(reactor, timeout=max(timeout or 0.0, LONGEST_FLOOR) + SLACK)
        _print_reply(await _call(rest, device, body, oneway=oneway), oneway=oneway)

    run(main)


def ms(seconds: float | None) -> int | None:
    """Milliseconds, as the wire has them."""
    return None if seconds is None else round(seconds * 1000)


async def _call(rest: Rest, device: str, body: CallBody, *, oneway: bool) -> Answer:
    device_id = await find.device_id(rest, device)
    # Of the two sets of paths this is the one whose status alone tells offline from no reply.
    path = f"/api/plugins/rpc/{'oneway' if oneway else 'twoway'}/{device_id}"
    try:
        return await rest.request("POST", path, body)
    except Stop as stop:
        if stop.exit_code == ExitCode.NOT_FOUND and stop.hint is None:
            stop.hint = "rpcbroker device list shows what there is."
        raise


def _print_reply(answer: Answer, *, oneway: bool) -> None:
    """On a terminal readable, elsewhere byte for byte what the device said."""
    if not answer.body:
        click.echo("Sent." if oneway else "The device sent an empty reply.", err=True)
    elif sys.stdout.isatty():
        Console().print_json(json.dumps(answer.json()))
    else:
        click.echo(answer.body)
