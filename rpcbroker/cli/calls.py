"""`rpcbroker calls`"""

from __future__ import annotations

import time
from typing import Any

import click

from rpcbroker.cli import find, listing
from rpcbroker.cli.run import run
from rpcbroker.cli.session import logged_in
from rpcbroker.cli.values import DurationType
from rpcbroker.cli.words import lasting
from rpcbroker.core.calls import CallState
from rpcbroker.schema.calls import CallRecordJSON
from rpcbroker.schema.common import MAX_PAGE_SIZE, MAX_TEXT, PageJSON

Records = PageJSON[CallRecordJSON]


@click.command
@click.option("--device", metavar="NAME", help="Only those to this device.")
@click.option("--state", type=click.Choice(list(CallState), case_sensitive=False), help="Only those in this state.")
@click.option("--method", help="Only those of this method.")
@click.option("--since", type=DurationType(), metavar="DURATION", help="How far to look back, such as 10m.")
@click.option(
    "--limit",
    type=click.IntRange(1, MAX_PAGE_SIZE),
    default=100,
    show_default=True,
    help="How many, the newest.",
)
@listing.JSON
def calls(
    device: str | None, state: CallState | None, method: str | None, since: float | None, limit: int, as_json: bool
) -> None:
    """List calls and what became of them; the newest is the last line.

    Persistent calls, and the last ones of the others.
    """
    if method is not None and len(method) > MAX_TEXT:
        raise click.UsageError(f"--method has at most {MAX_TEXT} characters.")

    async def main(reactor: Any) -> None:
        rest = logged_in(reactor)
        page = await rest.ask(
            Records,
            "GET",
            "/api/rpc",
            pageSize=limit,
            page=0,
            deviceId=None if device is None else await find.device_id(rest, device),
            state=state,
            method=method,
            since=None if since is None else max(0, int((time.time() - since) * 1000)),
        )
        listing.print_list(
            page.data[::-1],
            {
                "TIME (UTC)": lambda each: listing.when(each.created_time, seconds=True),
                "DEVICE": lambda each: each.device_name or str(each.device_id),
                "METHOD": lambda each: each.method,
                "KIND": kind,
                "STATE": state_of,
                "TOOK": lambda each: "-" if each.ended_time is None else lasting(each.ended_time - each.created_time),
                "ID": lambda each: str(each.rpc_id),
            },
            as_json=as_json,
            nothing="There are no such calls. Only the last ones are kept, and persistent ones.",
        )
        if page.has_next and not as_json:
            click.echo(f"These are the newest {limit:,} of {page.total_elements:,}; --limit N shows more.", err=True)

    run(main)


def kind(call: CallRecordJSON) -> str:
    """`two-way`, `one-way persistent`"""
    return ("one-way" if call.one_way else "two-way") + (" persistent" if call.persistent else "")


def state_of(call: CallRecordJSON) -> str:
    """`SUCCESSFUL`, `SUCCESSFUL device error`, `EXPIRED NO_REPLY`"""
    return " ".join(filter(None, [call.state, call.reason, "device error" if call.device_error else None]))
