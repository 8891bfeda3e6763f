"""`rpcbroker customer`"""

from __future__ import annotations

from typing import Any

import click

from rpcbroker.cli import ask, find, listing
from rpcbroker.cli.run import run
from rpcbroker.cli.session import logged_in
from rpcbroker.schema.people import CustomerBody, CustomerJSON


@click.group
def customer() -> None:
    """Add and list customers, who may use some of the devices."""


@customer.command
@click.argument("title")
def add(title: str) -> None:
    """Add the customer TITLE."""

    async def main(reactor: Any) -> None:
        made = await logged_in(reactor).ask(CustomerJSON, "POST", "/api/customer", CustomerBody(title=title))
        click.echo(f"Added {made.title}, id {made.id.id}.", err=True)
        click.echo("Next: rpcbroker user add EMAIL --customer TITLE, rpcbroker device assign NAME TITLE", err=True)

    run(main)


@customer.command("list")
@listing.JSON
def list_(as_json: bool) -> None:
    """List the customers by title."""

    async def main(reactor: Any) -> None:
        found = [each async for each in logged_in(reactor).pages(CustomerJSON, "/api/customers", sortProperty="title")]
        listing.print_list(
            found,
            {
                "TITLE": lambda each: each.title,
                "ID": lambda each: str(each.id.id),
                "ADDED (UTC)": lambda each: listing.when(each.created_time),
            },
            as_json=as_json,
            nothing="There are no customers yet. Add one: rpcbroker customer add TITLE",
        )

    run(main)


@customer.command
@click.argument("title")
@ask.YES
def delete(title: str, yes: bool) -> None:
    """Delete the customer TITLE with its users.

    Its devices stay, and are nobody's.
    """
    ask.be_sure(f"Delete the customer {title!r} with its users and their API keys?", yes=yes)

    async def main(reactor: Any) -> None:
        rest = logged_in(reactor)
        await rest.request("DELETE", f"/api/customer/{(await find.customer(rest, title)).id.id}")
        click.echo(f"Deleted {title}.", err=True)

    run(main)
