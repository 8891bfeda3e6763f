"""`rpcbroker device`"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
import msgspec

from rpcbroker.cli import ask, find, listing
from rpcbroker.cli.addresses import addresses
from rpcbroker.cli.device_export import export
from rpcbroker.cli.device_import import import_
from rpcbroker.cli.rest import Rest
from rpcbroker.cli.run import run
from rpcbroker.cli.session import logged_in
from rpcbroker.cli.snippets import own_program, snippets
from rpcbroker.cli.values import Address, AddressType
from rpcbroker.schema.devices import DeviceBody, DeviceInfoJSON, DeviceJSON, MissedJSON, PresenceJSON


def _where(command: Callable[..., None]) -> Callable[..., None]:
    """Options of commands that tell how devices connect."""
    command = click.option(
        "--mqtt",
        type=AddressType(),
        help="Where devices connect over MQTT.  [default: where the broker listens, if it is known here; port 1883]",
    )(command)
    return click.option(
        "--state-dir", help="Where a broker on this machine keeps things.  [default: $STATE_DIRECTORY, ./var]"
    )(command)


@click.group
def device() -> None:
    """Add, list, import and export devices."""


device.add_command(import_)
device.add_command(export)


@device.command
@click.argument("name")
@click.option("--type", "type_", default="default", show_default=True, help="What kind of device it is.")
@click.option("--token", help="Its access token; by default the broker makes one up.")
@_where
def add(name: str, type_: str, token: str | None, mqtt: Address | None, state_dir: str | None) -> None:
    """Add the device NAME and print its access token, with lines to paste.

    The token goes to stdout, everything else to stderr.
    """

    async def main(reactor: Any) -> None:
        rest = logged_in(reactor)
        added = await add_device(rest, name, type_=type_, token=token)
        its_token = await find.device_token(rest, added.id.id)
        click.echo(f"Added {added.name}, id {added.id.id}. Its access token:", err=True)
        click.echo(its_token)
        click.echo(_how_to_connect(rest.url, added, its_token, mqtt=mqtt, state_dir=state_dir), err=True)

    run(main)


@device.command("list")
@listing.JSON
def list_(as_json: bool) -> None:
    """List the devices by name."""

    async def main(reactor: Any) -> None:
        rest = logged_in(reactor)
        found = [each async for each in rest.pages(DeviceInfoJSON, "/api/deviceInfos/all", sortProperty="name")]
        listing.print_list(
            found,
            {
                "NAME": lambda each: each.name,
                "TYPE": lambda each: each.type,
                "CUSTOMER": lambda each: each.customer_title or "-",
                "CONNECTED": lambda each: "yes" if each.active else "no",
                "ID": lambda each: str(each.id.id),
                "ADDED (UTC)": lambda each: listing.when(each.created_time),
            },
            as_json=as_json,
            nothing="There are no devices yet. Add one: rpcbroker device add NAME",
        )

    run(main)


@device.command
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="The broker's own records, as a JSON object.")
@click.option("--connect", is_flag=True, help="Add lines to paste, by which one is this device: they show its token.")
@_where
def show(name: str, as_json: bool, connect: bool, mqtt: Address | None, state_dir: str | None) -> None:
    """Show the device NAME, and whether it can be called."""
    if as_json and connect:
        raise click.UsageError("--json and --connect exclude each other.")

    async def main(reactor: Any) -> None:
        rest = logged_in(reactor)
        device_id = await find.device_id(rest, name)
        info = await rest.ask(DeviceInfoJSON, "GET", f"/api/device/info/{device_id}")
        presence = await rest.ask(PresenceJSON, "GET", f"/api/device/{device_id}/presence")
        if as_json:
            listing.print_json({"device": info, "presence": presence})
        else:
            listing.print_record(_record(info) | _presence(presence))
        if connect:
            token = await find.device_token(rest, info.id.id)
            click.echo(_how_to_connect(rest.url, info, token, mqtt=mqtt, state_dir=state_dir))

    run(main)


@device.command
@click.argument("name")
@ask.YES
def delete(name: str, yes: bool) -> None:
    """Delete the device NAME; its connection is closed."""
    ask.be_sure(f"Delete the device {name!r} and its credentials?", yes=yes)

    async def main(reactor: Any) -> None:
        rest = logged_in(reactor)
        await rest.request("DELETE", f"/api/device/{await find.device_id(rest, name)}")
        click.echo(f"Deleted {name}.", err=True)

    run(main)


@device.command
@click.argument("name")
@click.argument("customer")
def assign(name: str, customer: str) -> None:
    """Let the users of CUSTOMER see and call the device NAME."""

    async def main(reactor: Any) -> None:
        rest = logged_in(reactor)
        device_id = await find.device_id(rest, name)
        customer_id = (await find.customer(rest, customer)).id.id
        await rest.request("POST", f"/api/customer/{customer_id}/device/{device_id}")
        click.echo(f"{name} is {customer}'s now.", err=True)

    run(main)


@device.command
@click.argument("name")
def unassign(name: str) -> None:
    """Take the device NAME from its customer."""

    async def main(reactor: Any) -> None:
        rest = logged_in(reactor)
        await rest.request("DELETE", f"/api/customer/device/{await find.device_id(rest, name)}")
        click.echo(f"{name} is no customer's now.", err=True)

    run(main)


async def add_device(
    rest: Rest, name: str, *, type_: str, token: str | None = None, additional_info: dict[str, Any] | None = None
) -> DeviceJSON:
    """A new device; without `token` the broker makes one up."""
    body = DeviceBody(name=name, type=type_, additional_info=additional_info)
    return await rest.ask(DeviceJSON, "POST", "/api/device", body, accessToken=token)


def _how_to_connect(
    url: str, device: DeviceJSON | DeviceInfoJSON, token: str, *, mqtt: Address | None, state_dir: str | None
) -> str:
    where = addresses(url, state_dir)
    return "\n".join(
        f"\n# {snippet.title}\n{snippet.text}"
        for snippet in snippets(
            url=url,
            device_id=str(device.id.id),
            name=device.name,
            token=token,
            mqtt=mqtt or where.address("mqtt"),
            coap=where.address("coap"),
            program=own_program(),
        )
    )


def _record(info: DeviceInfoJSON) -> dict[str, str]:
    return {
        "Name": info.name,
        "Type": info.type,
        "Label": info.label or "-",
        "Customer": info.customer_title or "-",
        "Id": str(info.id.id),
        "Added (UTC)": listing.when(info.created_time, seconds=True),
        "Version": str(info.version),
        "Info": "-" if info.additional_info is None else msgspec.json.encode(info.additional_info).decode(),
    }


def _presence(presence: PresenceJSON) -> dict[str, str]:
    facts = {"Connected": presence.connected, "Callable": presence.callable}
    shown = {name: _since("yes" if fact.value else "no", fact.time, fact.cause) for name, fact in facts.items()}
    seen = presence.last_seen
    return shown | {
        "Last seen (UTC)": _since(listing.when(seen.time, seconds=True), None, seen.cause),
        "Calls waiting": str(presence.pending_calls),
        "Replies dropped": str(presence.dropped_replies),
        **{f"Missed {n}": _near_miss(each) for n, each in enumerate(presence.near_misses, 1)},
    }


def _near_miss(miss: MissedJSON) -> str:
    often = f"{miss.count} times, last " if miss.count > 1 else ""
    return f"It {miss.detail} ({often}{listing.when(miss.last_time, seconds=True)} UTC). {miss.hint}"


def _since(fact: str, time: int | None, cause: str | None) -> str:
    more = [f"since {listing.when(time, seconds=True)} UTC"] if time else []
    more += [cause] if cause else []
    return f"{fact} ({', '.join(more)})" if more else fact
