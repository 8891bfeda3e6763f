"""`rpcbroker provision`"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import click
import msgspec

from rpcbroker.cli import find, listing
from rpcbroker.cli.rest import Rest
from rpcbroker.cli.run import run
from rpcbroker.cli.session import logged_in
from rpcbroker.cli.stop import ExitCode, Stop
from rpcbroker.core.model import ProvisionStrategy
from rpcbroker.schema.common import EntityId
from rpcbroker.schema.enrolment import ProvisionKeyBody, ProvisionKeyJSON


@click.group
def provision() -> None:
    """Add, list and remove keys by which devices add themselves."""


@provision.command
@click.option("--type", "type_", default="default", show_default=True, help="What kind of device comes by it.")
@click.option("--customer", metavar="TITLE", help="New devices are this customer's.")
@click.option("--added-before", is_flag=True, help="Let in only devices that are there already, by name, each once.")
@click.option("--key", help="A key that firmware has already; by default the broker makes one up.")
@click.option("--secret", help="The secret beside it, 20 characters at least; by default the broker makes one up.")
def add(type_: str, customer: str | None, added_before: bool, key: str | None, secret: str | None) -> None:
    """Make a provision key and its secret, and print both: the secret this once, it is not kept.

    Two lines go to stdout, the key and the secret, everything else to stderr.
    """
    strategy = ProvisionStrategy.ALLOW_CREATE_NEW_DEVICES
    if added_before:
        strategy = ProvisionStrategy.CHECK_PRE_PROVISIONED_DEVICES
        if customer is not None:
            raise click.UsageError("--customer is for new devices: with --added-before there are none.")

    async def main(reactor: Any) -> None:
        rest = logged_in(reactor)
        body = ProvisionKeyBody(
            provision_device_key=key,
            provision_device_secret=secret,
            provision_type=strategy,
            device_type=type_,
            customer_id=EntityId("CUSTOMER", (await find.customer(rest, customer)).id.id) if customer else None,
        )
        made = await rest.ask(ProvisionKeyJSON, "POST", "/api/provisionKey", body)
        click.echo(f"Made a provision key for {rules_of(made)}. Keep the secret, it is not shown again:", err=True)
        click.echo(made.provision_device_key)
        click.echo(made.provision_device_secret)
        click.echo(
            f"\n# A device publishes this to /provision/request, as the user 'provision'\n{_request(made)}", err=True
        )

    run(main)


@provision.command("list")
@listing.JSON
def list_(as_json: bool) -> None:
    """List provision keys, without their secrets."""

    async def main(reactor: Any) -> None:
        found = await _keys(logged_in(reactor))
        listing.print_list(
            found,
            {
                "KEY": lambda each: each.provision_device_key,
                "FOR": rules_of,
                "STATE": lambda each: "good" if each.enabled else "disabled",
                "USES": lambda each: str(each.uses),
                "LAST USED (UTC)": lambda each: listing.when(each.last_used_time),
                "ID": lambda each: str(each.id.id),
            },
            as_json=as_json,
            nothing="There are no provision keys. Make one: rpcbroker provision add",
        )

    run(main)


@provision.command
@click.argument("key")
def remove(key: str) -> None:
    """Delete the provision KEY; the devices that came by it stay."""

    async def delete(rest: Rest, path: str) -> None:
        await rest.request("DELETE", path)
        click.echo(f"Removed {key}.", err=True)

    _with_key(key, delete)


@provision.command
@click.argument("key")
def disable(key: str) -> None:
    """Let nobody in by the provision KEY until it is enabled again."""
    _with_key(key, lambda rest, path: rest.request("PUT", f"{path}/enabled/false"))


@provision.command
@click.argument("key")
def enable(key: str) -> None:
    """Let devices in again by a provision KEY that was disabled."""
    _with_key(key, lambda rest, path: rest.request("PUT", f"{path}/enabled/true"))


def rules_of(key: ProvisionKeyJSON) -> str:
    """Which devices come by it, in a few words."""
    new = key.provision_type is ProvisionStrategy.ALLOW_CREATE_NEW_DEVICES
    return f"{'new devices' if new else 'devices added before'} of type {key.device_type}"


def _with_key(given: str, do: Callable[[Rest, str], Awaitable[Any]]) -> None:
    async def main(reactor: Any) -> None:
        rest = logged_in(reactor)
        for key in await _keys(rest):
            if given in (key.provision_device_key, str(key.id.id)):
                await do(rest, f"/api/provisionKey/{key.id.id}")
                return
        raise Stop(
            f"There is no provision key {given!r}.",
            ExitCode.NOT_FOUND,
            hint="rpcbroker provision list shows what there is.",
        )

    run(main)


async def _keys(rest: Rest) -> list[ProvisionKeyJSON]:
    return [each async for each in rest.pages(ProvisionKeyJSON, "/api/provisionKeys", sortProperty="createdTime")]


def _request(made: ProvisionKeyJSON) -> str:
    members = {
        "deviceName": "NAME",
        "provisionDeviceKey": made.provision_device_key,
        "provisionDeviceSecret": "SECRET",
    }
    return msgspec.json.encode(members).decode()
