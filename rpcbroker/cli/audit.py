"""`rpcbroker audit`"""

from __future__ import annotations

import time
from typing import Any

import click
import msgspec

from rpcbroker.cli import find, listing
from rpcbroker.cli.rest import Rest
from rpcbroker.cli.run import run
from rpcbroker.cli.session import logged_in
from rpcbroker.cli.values import DurationType
from rpcbroker.schema.audit import AuditEntryJSON
from rpcbroker.schema.common import MAX_PAGE_SIZE, PageJSON

Entries = PageJSON[AuditEntryJSON]


@click.command
@click.option("--device", metavar="NAME", help="What was done to this device; its id if it is deleted.")
@click.option("--user", metavar="EMAIL", help="What this user did.")
@click.option("--action", "actions", multiple=True, help="Such as RPC_CALL or DELETED; may be given again.")
@click.option("--since", type=DurationType(), metavar="DURATION", help="How far to look back, such as 2h.")
@click.option(
    "--last",
    type=click.IntRange(1, MAX_PAGE_SIZE),
    default=100,
    show_default=True,
    help="How many entries, the newest.",
)
@listing.JSON
def audit(
    device: str | None, user: str | None, actions: tuple[str, ...], since: float | None, last: int, as_json: bool
) -> None:
    """Show who did what, and how it ended; the newest is the last line."""
    if device is not None and user is not None:
        raise click.UsageError("--device and --user exclude each other.")

    async def main(reactor: Any) -> None:
        rest = logged_in(reactor)
        page = await rest.ask(
            Entries,
            "GET",
            await _path(rest, device, user),
            pageSize=last,
            sortProperty="createdTime",
            sortOrder="DESC",
            actionTypes=",".join(each.upper() for each in actions) or None,
            startTime=None if since is None else max(0, int((time.time() - since) * 1000)),
        )
        listing.print_list(
            page.data[::-1],
            {
                "TIME (UTC)": lambda each: listing.when(each.created_time, seconds=True),
                "USER": lambda each: each.user_name,
                "ACTION": lambda each: each.action_type,
                "WHAT": what,
                "RESULT": lambda each: each.action_failure_details or "ok",
                "DETAILS": details,
            },
            as_json=as_json,
            nothing="There is nothing of that kind in the audit log.",
        )
        if page.has_next and not as_json:
            click.echo(f"These are the newest {last:,} of {page.total_elements:,}; --last N shows more.", err=True)

    run(main)


def what(entry: AuditEntryJSON) -> str:
    """To what it was done."""
    return f"{entry.entity_id.entity_type.lower()} {entry.entity_name or entry.entity_id.id}"


def details(entry: AuditEntryJSON) -> str:
    """`method=getValue oneWay=false durationMs=12.3`"""
    data = entry.action_data
    if not isinstance(data, dict):
        return "" if data is None else msgspec.json.encode(data).decode()
    return " ".join(
        f"{name}={value if isinstance(value, str) else msgspec.json.encode(value).decode()}"
        for name, value in data.items()
        if name != "rpcId"
    )


async def _path(rest: Rest, device: str | None, user: str | None) -> str:
    if device is not None:
        return f"/api/audit/logs/entity/DEVICE/{await find.device_id(rest, device)}"
    if user is not None:
        return f"/api/audit/logs/user/{(await find.user(rest, user)).id.id}"
    return "/api/audit/logs"
