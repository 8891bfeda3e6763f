"""`rpcbroker tenant`"""

from __future__ import annotations

from typing import Any

import click

from rpcbroker.cli import ask, find, listing
from rpcbroker.cli.invite import first_link, new_user
from rpcbroker.cli.rest import Rest
from rpcbroker.cli.run import run
from rpcbroker.cli.session import logged_in
from rpcbroker.cli.stop import ExitCode, Stop
from rpcbroker.core.model import Authority
from rpcbroker.schema.people import TenantBody, TenantJSON, UserBody


@click.group
def tenant() -> None:
    """Add and list tenants, as a system administrator."""


@tenant.command
@click.argument("name")
@click.argument("email")
def add(name: str, email: str) -> None:
    """Add the tenant NAME, and its administrator EMAIL.

    Prints the link by which the administrator chooses a password. The link goes to stdout, everything else to
    stderr. Give it to nobody else.
    """

    async def main(reactor: Any) -> None:
        rest = logged_in(reactor)
        made = await rest.ask(TenantJSON, "POST", "/api/tenant", TenantBody(title=name))
        body = UserBody(email=email, authority=Authority.TENANT_ADMIN, tenant_id=made.id)
        try:
            user = await new_user(rest, body)
        except Stop as stop:
            raise await _taken_back(rest, made, stop) from None
        link = await first_link(rest, user, of_tenant=made.title)
        click.echo(f"Added the tenant {made.title}. Its administrator {email} chooses a password at:", err=True)
        click.echo(link)

    run(main)


@tenant.command("list")
@listing.JSON
def list_(as_json: bool) -> None:
    """List the tenants by name."""

    async def main(reactor: Any) -> None:
        found = [each async for each in logged_in(reactor).pages(TenantJSON, "/api/tenants", sortProperty="title")]
        listing.print_list(
            found,
            {
                "NAME": lambda each: each.title,
                "ID": lambda each: str(each.id.id),
                "ADDED (UTC)": lambda each: listing.when(each.created_time),
            },
            as_json=as_json,
            nothing="There are no tenants yet. Add one: rpcbroker tenant add NAME EMAIL",
        )

    run(main)


@tenant.command
@click.argument("name")
@ask.YES
def delete(name: str, yes: bool) -> None:
    """Delete the tenant NAME with all that is its."""
    ask.be_sure(f"Delete the tenant {name!r} with its users, customers, devices, API keys and audit log?", yes=yes)

    async def main(reactor: Any) -> None:
        rest = logged_in(reactor)
        await rest.request("DELETE", f"/api/tenant/{(await find.tenant(rest, name)).id.id}")
        click.echo(f"Deleted {name}.", err=True)

    run(main)


async def _taken_back(rest: Rest, made: TenantJSON, why: Stop) -> Stop:
    """A tenant without an administrator is of no use: it is deleted; the Stop that says what is there now."""
    try:
        await rest.request("DELETE", f"/api/tenant/{made.id.id}")
    except Stop as also:
        return Stop(
            f"{why.message} The tenant {made.title} is there, without an administrator: {also.message}",
            hint=f"rpcbroker user add EMAIL --tenant '{made.title}', or rpcbroker tenant delete '{made.title}'",
        )
    return Stop(f"{why.message} The tenant {made.title} was taken back.", ExitCode(why.exit_code), hint=why.hint)
