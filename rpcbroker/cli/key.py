"""`rpcbroker key`"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import click

from rpcbroker.cli import find, listing
from rpcbroker.cli.rest import Rest
from rpcbroker.cli.run import run
from rpcbroker.cli.session import logged_in
from rpcbroker.cli.stop import ExitCode, Stop
from rpcbroker.cli.values import DurationType
from rpcbroker.cli.words import counted
from rpcbroker.core.model import KeyAccess
from rpcbroker.schema.keys import ApiKeyBody, ApiKeyJSON, KeyScopeJSON
from rpcbroker.schema.people import UserJSON

USER = click.option("--user", metavar="EMAIL", help="Of this user of a customer; by default your own.")


@click.group
def key() -> None:
    """Add, list and revoke API keys, for scripts and other programs."""


@key.command
@click.argument("description")
@click.option(
    "--access",
    type=click.Choice([each.value.lower() for each in KeyAccess], case_sensitive=False),
    default="call",
    show_default=True,
    help="read: look at devices; call: call them too; manage: all that the user may do, but handle users.",
)
@click.option("--method", "methods", multiple=True, metavar="PATTERN", help="Only methods like this, such as 'get*'.")
@click.option("--oneway-only", is_flag=True, help="Only one-way calls.")
@click.option("--twoway-only", is_flag=True, help="Only two-way calls.")
@click.option("--device", "devices", multiple=True, metavar="NAME", help="Only this device; may be given again.")
@click.option("--type", "types", multiple=True, metavar="TYPE", help="Only devices of this type; may be given again.")
@click.option("--customer", metavar="TITLE", help="Only devices of this customer.")
@click.option("--expires", type=DurationType(), metavar="DURATION", help="How long it is good, such as 30d.")
@USER
def add(
    description: str,
    access: str,
    methods: tuple[str, ...],
    oneway_only: bool,
    twoway_only: bool,
    devices: tuple[str, ...],
    types: tuple[str, ...],
    customer: str | None,
    expires: float | None,
    user: str | None,
) -> None:
    """Make an API key, and print it: this once, it is not kept.

    \b
    The key goes to stdout, everything else to stderr. A script uses it so:
      export RPCBROKER_URL=http://HOST:8080 RPCBROKER_API_KEY=KEY
      rpcbroker call lamp getValue
    """
    if oneway_only and twoway_only:
        raise click.UsageError("--oneway-only and --twoway-only together allow no call at all.")

    async def main(reactor: Any) -> None:
        rest = logged_in(reactor)
        scope = KeyScopeJSON(
            access=KeyAccess(access.upper()),
            methods=list(methods),
            oneway=not twoway_only,
            twoway=not oneway_only,
            device_ids=[await find.device_id(rest, name) for name in devices],
            device_types=list(types),
            customer_id=(await find.customer(rest, customer)).id if customer is not None else None,
        )
        body = ApiKeyBody(
            user_id=(await find.user(rest, user)).id if user is not None else None,
            description=description,
            expiration_time=0 if expires is None else int((time.time() + expires) * 1000),
            scope=scope,
        )
        made = await rest.ask(ApiKeyJSON, "POST", "/api/apiKey", body)
        click.echo(f"Made the key {made.description!r}, {rules_of(made)}. Keep it, it is not shown again:", err=True)
        click.echo(made.value)

    run(main)


@key.command("list")
@USER
@click.option("--all", "everyone", is_flag=True, help="Of every user of the tenant.")
@listing.JSON
def list_(user: str | None, everyone: bool, as_json: bool) -> None:
    """List API keys by description, without the keys themselves."""
    if user is not None and everyone:
        raise click.UsageError("--user and --all exclude each other.")

    async def main(reactor: Any) -> None:
        rest = logged_in(reactor)
        if everyone:
            users = [each async for each in rest.pages(UserJSON, "/api/users", sortProperty="email")]
        else:
            users = [await _owner(rest, user)]
        emails = {each.id.id: each.email for each in users}
        found = [each for owner in users for each in await _keys_of(rest, owner)]
        listing.print_list(
            found,
            {
                "DESCRIPTION": lambda each: each.description,
                "USER": lambda each: emails[each.user_id.id],
                "BEGINS": lambda each: each.hint,
                "MAY": rules_of,
                "STATE": lambda each: "expired" if each.expired else "good" if each.enabled else "disabled",
                "EXPIRES (UTC)": lambda each: listing.when(each.expiration_time),
                "LAST USED (UTC)": lambda each: listing.when(each.last_used_time),
                "ID": lambda each: str(each.id.id),
            },
            as_json=as_json,
            nothing="There are no API keys. Make one: rpcbroker key add DESCRIPTION",
        )

    run(main)


@key.command
@click.argument("key", metavar="ID-OR-DESCRIPTION")
@USER
def revoke(key: str, user: str | None) -> None:
    """Delete an API key; it is refused from now on."""

    async def remove(rest: Rest, key_id: UUID) -> None:
        await rest.request("DELETE", f"/api/apiKey/{key_id}")
        click.echo(f"Revoked {key}.", err=True)

    _with_key(key, user, remove)


@key.command
@click.argument("key", metavar="ID-OR-DESCRIPTION")
@USER
def disable(key: str, user: str | None) -> None:
    """Refuse an API key until it is enabled again."""
    _with_key(key, user, lambda rest, key_id: _set_enabled(rest, key, key_id, enabled=False))


@key.command
@click.argument("key", metavar="ID-OR-DESCRIPTION")
@USER
def enable(key: str, user: str | None) -> None:
    """Take an API key again that was disabled."""
    _with_key(key, user, lambda rest, key_id: _set_enabled(rest, key, key_id, enabled=True))


def rules_of(key: ApiKeyJSON) -> str:
    """What a key may do, in a few words."""
    scope = key.scope
    rules = [scope.access.value.lower()]
    if scope.methods:
        rules.append(f"methods {','.join(scope.methods)}")
    if not (scope.oneway and scope.twoway):
        rules.append("one-way only" if scope.oneway else "two-way only" if scope.twoway else "no calls")
    if scope.device_ids:
        rules.append(counted(len(scope.device_ids), "device"))
    if scope.device_types:
        rules.append(f"types {','.join(scope.device_types)}")
    if scope.customer_id is not None:
        rules.append("devices of one customer")
    return "; ".join(rules)


def _with_key(given: str, user: str | None, do: Callable[[Rest, UUID], Awaitable[None]]) -> None:
    async def main(reactor: Any) -> None:
        rest = logged_in(reactor)
        await do(rest, await _key_id(rest, given, user))

    run(main)


async def _key_id(rest: Rest, given: str, user: str | None) -> UUID:
    try:
        return UUID(given)
    except ValueError:
        pass
    found = [each.id.id for each in await _keys_of(rest, await _owner(rest, user)) if each.description == given]
    if not found:
        raise Stop(
            f"There is no API key described as {given!r}.",
            ExitCode.NOT_FOUND,
            hint="rpcbroker key list shows what there is; --user EMAIL is for other users' keys.",
        )
    if len(found) > 1:
        ids = ", ".join(map(str, found))
        raise Stop(f"There are {len(found)} API keys described as {given!r}.", hint=f"Name one by its id: {ids}")
    return found[0]


async def _owner(rest: Rest, email: str | None) -> UserJSON:
    return await (find.me(rest) if email is None else find.user(rest, email))


async def _keys_of(rest: Rest, owner: UserJSON) -> list[ApiKeyJSON]:
    path = f"/api/apiKeys/{owner.id.id}"
    return [each async for each in rest.pages(ApiKeyJSON, path, sortProperty="description")]


async def _set_enabled(rest: Rest, given: str, key_id: UUID, *, enabled: bool) -> None:
    word = "true" if enabled else "false"
    await rest.request("PUT", f"/api/apiKey/{key_id}/enabled/{word}")
    click.echo(f"{given} is {'taken' if enabled else 'refused'} now.", err=True)
