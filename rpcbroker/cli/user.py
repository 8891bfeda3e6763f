"""`rpcbroker user`"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import click

from rpcbroker.cli import ask, find, listing
from rpcbroker.cli.invite import first_link, link_of, new_user
from rpcbroker.cli.login_file import Login
from rpcbroker.cli.rest import Rest
from rpcbroker.cli.run import run
from rpcbroker.cli.session import API_KEY, logged_in
from rpcbroker.cli.stop import Stop
from rpcbroker.core.model import NULL_UUID, Authority
from rpcbroker.schema.people import ChangePasswordBody, CustomerJSON, TokenPair, UserBody, UserJSON

TENANT = click.option("--tenant", metavar="NAME", help="For system administrators: of this tenant.")


@click.group
def user() -> None:
    """Add and list users; change your own password."""


@user.command
@click.argument("email")
@click.option("--customer", metavar="TITLE", help="A user of this customer, for whom there are its devices only.")
@click.option("--admin", is_flag=True, help="An administrator of your own tenant.")
@click.option("--tenant", metavar="NAME", help="For system administrators: an administrator of this tenant.")
@click.option("--first-name")
@click.option("--last-name")
@click.option("--phone")
def add(
    email: str,
    customer: str | None,
    admin: bool,
    tenant: str | None,
    first_name: str | None,
    last_name: str | None,
    phone: str | None,
) -> None:
    """Add the user EMAIL, and print its link.

    By the link it chooses its password. The link goes to stdout, everything else to stderr.
    """
    if sum((customer is not None, admin, tenant is not None)) != 1:
        raise click.UsageError("Say what the user is to be: --customer TITLE, --admin, or --tenant NAME.")

    async def main(reactor: Any) -> None:
        rest = logged_in(reactor)
        body = UserBody(
            email=email,
            authority=Authority.CUSTOMER_USER if customer is not None else Authority.TENANT_ADMIN,
            customer_id=(await find.customer(rest, customer)).id if customer is not None else None,
            tenant_id=(await find.tenant(rest, tenant)).id if tenant is not None else None,
            first_name=first_name,
            last_name=last_name,
            phone=phone,
        )
        link = await first_link(rest, await new_user(rest, body), of_tenant=tenant)
        click.echo(f"Added {email}, who chooses a password at:", err=True)
        click.echo(link)

    run(main)


@user.command("list")
@click.option("--customer", metavar="TITLE", help="Only users of this customer.")
@TENANT
@listing.JSON
def list_(customer: str | None, tenant: str | None, as_json: bool) -> None:
    """List the users by email."""

    async def main(reactor: Any) -> None:
        rest = logged_in(reactor)
        if customer is None:
            path = await find.users_path(rest, tenant)
        else:
            path = f"/api/customer/{(await find.customer(rest, customer)).id.id}/users"
        found = [each async for each in rest.pages(UserJSON, path, sortProperty="email")]
        titles = {} if as_json else await _titles(rest, found)
        listing.print_list(
            found,
            {
                "EMAIL": lambda each: each.email,
                "ROLE": lambda each: each.authority.value,
                "CUSTOMER": lambda each: titles.get(each.customer_id.id, "-"),
                "NAME": lambda each: " ".join(filter(None, (each.first_name, each.last_name))) or "-",
                "STATE": state_of,
                "ID": lambda each: str(each.id.id),
            },
            as_json=as_json,
            nothing="There are no such users.",
        )

    run(main)


@user.command
@click.argument("email")
@TENANT
def link(email: str, tenant: str | None) -> None:
    """Print the link by which EMAIL chooses a password."""

    async def show(rest: Rest, found: UserJSON) -> None:
        click.echo(await link_of(rest, found.id.id))

    _with_user(email, tenant, show)


@user.command("reset-password")
@click.argument("email")
@TENANT
def reset_password(email: str, tenant: str | None) -> None:
    """Take the password of EMAIL away, and print a new link.

    The user's sessions end.
    """

    async def reset(rest: Rest, found: UserJSON) -> None:
        await rest.request("POST", f"/api/user/{found.id.id}/resetPassword")
        click.echo(f"The password of {found.email} is gone. A new one is chosen at:", err=True)
        click.echo(await link_of(rest, found.id.id))

    _with_user(email, tenant, reset)


@user.command
@click.argument("email")
@TENANT
def disable(email: str, tenant: str | None) -> None:
    """Keep EMAIL out, and its API keys."""
    _with_user(email, tenant, lambda rest, found: _set_enabled(rest, found, enabled=False))


@user.command
@click.argument("email")
@TENANT
def enable(email: str, tenant: str | None) -> None:
    """Let EMAIL in again."""
    _with_user(email, tenant, lambda rest, found: _set_enabled(rest, found, enabled=True))


@user.command
@click.argument("email")
@TENANT
@ask.YES
def delete(email: str, tenant: str | None, yes: bool) -> None:
    """Delete EMAIL with its API keys."""
    ask.be_sure(f"Delete the user {email} with its API keys?", yes=yes)

    async def remove(rest: Rest, found: UserJSON) -> None:
        await rest.request("DELETE", f"/api/user/{found.id.id}")
        click.echo(f"Deleted {found.email}.", err=True)

    _with_user(email, tenant, remove)


@user.command
@click.option("--password-stdin", is_flag=True, help="Read the old and the new password, a line each, from stdin.")
def password(password_stdin: bool) -> None:
    """Change your own password; all your other sessions end."""
    old = ask.password("Password as it is", from_stdin=password_stdin)
    new = ask.password("New password", from_stdin=password_stdin, new=True)

    async def main(reactor: Any) -> None:
        rest = logged_in(reactor)
        if not isinstance(rest.login, Login):
            raise Stop(f"An API key changes no password: unset {API_KEY}, and log in.")
        tokens = await rest.ask(TokenPair, "POST", "/api/auth/changePassword", ChangePasswordBody(old, new))
        rest.take(rest.login.username, tokens)
        click.echo(f"{rest.login.username} has a new password; other sessions have ended.", err=True)

    run(main)


def state_of(user: UserJSON) -> str:
    """`active`, `disabled`, or `not activated`: the wire tells it in additionalInfo."""
    info = user.additional_info if isinstance(user.additional_info, dict) else {}
    if not info.get("userCredentialsEnabled", True):
        return "disabled"
    return "active" if info.get("userActivated", True) else "not activated"


def _with_user(email: str, tenant: str | None, do: Callable[[Rest, UserJSON], Awaitable[None]]) -> None:
    async def main(reactor: Any) -> None:
        rest = logged_in(reactor)
        await do(rest, await find.user(rest, email, tenant_name=tenant))

    run(main)


async def _set_enabled(rest: Rest, found: UserJSON, *, enabled: bool) -> None:
    path = f"/api/user/{found.id.id}/userCredentialsEnabled"
    await rest.request("POST", path, userCredentialsEnabled="true" if enabled else "false")
    click.echo(f"{found.email} is {'let in' if enabled else 'kept out'} now.", err=True)


async def _titles(rest: Rest, users: list[UserJSON]) -> dict[Any, str]:
    """Customers' ids -> titles, asked for only if there are any."""
    if all(each.customer_id.id == NULL_UUID for each in users):
        return {}
    return {each.id.id: each.title async for each in rest.pages(CustomerJSON, "/api/customers")}
