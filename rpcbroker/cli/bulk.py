"""`rpcbroker bulk`"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import click
from twisted.internet.task import deferLater

from rpcbroker.cli import find, listing
from rpcbroker.cli.call import ms
from rpcbroker.cli.rest import Rest
from rpcbroker.cli.run import run
from rpcbroker.cli.session import logged_in
from rpcbroker.cli.stop import Stop
from rpcbroker.cli.values import DurationType, call_params
from rpcbroker.cli.words import counted
from rpcbroker.core.bulk import EntryState
from rpcbroker.schema.bulk import (
    BulkBody,
    BulkCallBody,
    BulkCountsJSON,
    BulkIdJSON,
    BulkJSON,
    BulkResultJSON,
    BulkWithResultsJSON,
)

PATH = "/api/rpc/bulk"
POLL = 0.5
"""Seconds between two looks at a bulk that goes on."""
LINE = 5.0
"""Seconds between two lines about it, where there is no terminal."""
SHOWN = 20
"""Devices that are named, of those that did not succeed."""


class MethodOrCommand(click.Group):
    """`bulk METHOD ...` is `bulk start METHOD ...`, unless METHOD is one of the commands."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[Any, Any, list[str]]:
        """What is no command is a method, or an option of it."""
        if args and args[0] not in self.commands:
            return "start", self.commands["start"], args
        return super().resolve_command(ctx, args)


@click.group(
    cls=MethodOrCommand,
    context_settings={"ignore_unknown_options": True},
    subcommand_metavar="METHOD [PARAMS]... | COMMAND",
)
def bulk() -> None:
    """Call many devices, and say what did not succeed.

    \b
    rpcbroker bulk update version=1.4.2 --type lamp --canary 3 --rate 50:1
    rpcbroker bulk start --help       all options
    """


@bulk.command(context_settings={"ignore_unknown_options": True})
@click.argument("method")
@click.argument("params", nargs=-1)
@click.option("--device", "devices", multiple=True, metavar="NAME", help="This device; may be given again.")
@click.option("--type", "type_", metavar="TYPE", help="All devices of this type.")
@click.option("--customer", metavar="TITLE", help="All devices of this customer.")
@click.option("--rate", default="", metavar="N:SECONDS", help="How many may be called: 50:1 is 50 a second.")
@click.option("--concurrency", type=click.IntRange(1), metavar="N", help="How many are called at a time.")
@click.option(
    "--canary",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="So many of the first must all succeed before others.",
)
@click.option("--abort-after", type=click.IntRange(1), metavar="N", help="After so many failures no more are called.")
@click.option("--oneway", is_flag=True, help="A command: do not wait for replies.")
@click.option("--persistent", is_flag=True, help="Keep each call until its device comes online, or it expires.")
@click.option("--timeout", type=DurationType(), help="How long each call may take, such as 2s; the broker has a floor.")
@click.option("--connect-timeout", type=DurationType(), help="How long to wait for a device to come online.")
@click.option("--id", "bulk_id", type=click.UUID, help="Of your own making: the same again is not called again.")
@click.option("--no-wait", is_flag=True, help="Print the id of the bulk, and leave it to the broker.")
def start(
    method: str,
    params: tuple[str, ...],
    devices: tuple[str, ...],
    type_: str | None,
    customer: str | None,
    rate: str,
    concurrency: int | None,
    canary: int,
    abort_after: int | None,
    oneway: bool,
    persistent: bool,
    timeout: float | None,
    connect_timeout: float | None,
    bulk_id: UUID | None,
    no_wait: bool,
) -> None:
    """Call many devices. METHOD and PARAMS are as in rpcbroker call.

    The exit code is 0 if all devices succeeded. Ctrl-C ends the command, not the bulk.
    """
    if sum((bool(devices), type_ is not None, customer is not None)) != 1:
        raise click.UsageError("Say which devices: --device (once or more), --type or --customer.")
    request = BulkCallBody(
        method=method,
        params=call_params(params),
        oneway=oneway,
        persistent=persistent,
        timeout=ms(timeout),
        connect_timeout=ms(connect_timeout),
    )

    async def main(reactor: Any) -> None:
        rest = logged_in(reactor)
        body = BulkBody(
            devices=[await find.device_id(rest, name) for name in devices] or None,
            type=type_,
            customer_id=(await find.customer(rest, customer)).id.id if customer is not None else None,
            request=request,
            rate=rate,
            concurrency=concurrency,
            canary=canary,
            abort_after_failures=abort_after,
            request_uuid=bulk_id or uuid4(),
        )
        made = (await rest.ask(BulkIdJSON, "POST", PATH, body)).bulk_id
        if no_wait:
            click.echo(str(made))
            return
        click.echo(f"Bulk {made}; it goes on without this command: rpcbroker bulk status {made}", err=True)
        await _follow(logged_in(reactor, patiently=True), made, reactor)
        await _tell(rest, made)

    run(main)


@bulk.command
@click.argument("bulk_id", type=click.UUID)
@click.option("--follow", is_flag=True, help="Wait until it has ended.")
def status(bulk_id: UUID, follow: bool) -> None:
    """How far a bulk is, and what did not succeed. The exit code is 0 if nothing failed so far."""

    async def main(reactor: Any) -> None:
        rest = logged_in(reactor)
        if follow:
            await _follow(logged_in(reactor, patiently=True), bulk_id, reactor)
        await _tell(rest, bulk_id)

    run(main)


@bulk.command
@click.argument("bulk_id", type=click.UUID)
def abort(bulk_id: UUID) -> None:
    """Call no more devices; calls that have begun go on to their end."""

    async def main(reactor: Any) -> None:
        aborted = await logged_in(reactor).ask(BulkJSON, "DELETE", f"{PATH}/{bulk_id}")
        click.echo(_state(aborted), err=True)

    run(main)


@bulk.command("list")
@listing.JSON
def list_(as_json: bool) -> None:
    """List bulks, the newest first."""

    async def main(reactor: Any) -> None:
        found = [each async for each in logged_in(reactor).pages(BulkJSON, PATH)]
        listing.print_list(
            found,
            {
                "METHOD": lambda each: each.method,
                "STATE": lambda each: each.state.value,
                "DEVICES": lambda each: f"{each.counts.total:,}",
                "SUCCESSFUL": lambda each: f"{each.counts.successful:,}",
                "BY": lambda each: each.by,
                "BEGAN (UTC)": lambda each: listing.when(each.created_time),
                "ID": lambda each: str(each.bulk_id),
            },
            as_json=as_json,
            nothing="There are no bulks. Begin one: rpcbroker bulk METHOD --type TYPE",
        )

    run(main)


async def _look(rest: Rest, bulk_id: UUID, *, state: EntryState | None = None) -> BulkWithResultsJSON:
    wanted = None if state is None else state.value
    return await rest.ask(BulkWithResultsJSON, "GET", f"{PATH}/{bulk_id}", pageSize=SHOWN, state=wanted)


async def _follow(rest: Rest, bulk_id: UUID, reactor: Any) -> None:
    """Until it has ended."""
    show = _bar() if sys.stderr.isatty() else _lines(reactor.seconds)
    while True:
        now = await _look(rest, bulk_id)
        show(now)
        if now.ended_time is not None:
            return
        await deferLater(reactor, POLL)


def _bar() -> Callable[[BulkJSON], None]:
    """A line that moves."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn()
    progress = Progress(*columns, console=Console(stderr=True))
    task = progress.add_task("")
    progress.start()

    def show(now: BulkJSON) -> None:
        counts = now.counts
        progress.update(task, total=counts.total, completed=_ended(counts), description=_failures(counts).lstrip(", "))
        if now.ended_time is not None:
            progress.stop()

    return show


def _lines(seconds: Callable[[], float]) -> Callable[[BulkJSON], None]:
    """A line now and then, when something has changed."""
    last = -1
    next_line = seconds() + LINE

    def show(now: BulkJSON) -> None:
        nonlocal last, next_line
        ended = _ended(now.counts)
        if ended != last and seconds() >= next_line:
            last, next_line = ended, seconds() + LINE
            click.echo(f"{ended:,} of {counted(now.counts.total, 'device')}{_failures(now.counts)}", err=True)

    return show


def _ended(counts: BulkCountsJSON) -> int:
    return counts.total - counts.waiting - counts.running


def _failures(counts: BulkCountsJSON) -> str:
    return f", {counts.failed + counts.unknown:,} failed" if counts.failed or counts.unknown else ""


def _state(now: BulkJSON) -> str:
    """One line for people."""
    counts = now.counts
    states = (
        f"{getattr(counts, each.value.lower()):,} {each.value.lower()}"
        for each in EntryState
        if getattr(counts, each.value.lower())
    )
    why = f" ({listing.printable(now.reason)})" if now.reason else ""
    return f"{now.state.value}{why}: {counted(counts.total, 'device')}, {', '.join(states) or 'none called'}"


async def _tell(rest: Rest, bulk_id: UUID) -> None:
    """What became of it. Raises Stop unless all is well."""
    now = await _look(rest, bulk_id)
    click.echo(_state(now))
    bad: list[BulkResultJSON] = []
    for state in (EntryState.FAILED, EntryState.UNKNOWN):
        bad += (await _look(rest, bulk_id, state=state)).results.data
    if bad:
        listing.print_list(
            bad[:SHOWN],
            {
                "DEVICE": lambda each: each.device_name,
                "STATE": lambda each: each.state.value,
                "REASON": lambda each: each.reason or "",
                "RPC ID": lambda each: str(each.rpc_id),
            },
            as_json=False,
            nothing="",
        )
    failed = now.counts.failed + now.counts.unknown
    if failed > SHOWN:
        click.echo(f"... and {failed - SHOWN:,} more: GET {PATH}/{bulk_id}?state=FAILED", err=True)
    if failed or now.counts.aborted:
        raise Stop(f"{failed + now.counts.aborted:,} of {counted(now.counts.total, 'device')} did not succeed.")
