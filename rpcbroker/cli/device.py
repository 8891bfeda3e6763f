"""`rpcbroker device`"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rpcbroker.cli.run import run
from rpcbroker.cli.session import logged_in
from rpcbroker.cli.snippets import own_program, snippets
from rpcbroker.cli.values import MQTT_PORT, Address, AddressType


@click.group
def device() -> None:
    """Add and list devices."""


@device.command
@click.argument("name")
@click.option("--type", "type_", default="default", show_default=True, help="What kind of device it is.")
@click.option("--token", help="Its access token; by default the broker makes one up.")
@click.option("--mqtt", type=AddressType(), help="Where devices connect; by default the broker's host, port 1883.")
def add(name: str, type_: str, token: str | None, mqtt: Address | None) -> None:
    """Add the device NAME and print its access token, with lines to paste.

    The token goes to stdout, everything else to stderr.
    """

    async def main(reactor: Any) -> None:
        rest = logged_in(reactor)
        added = await rest.add_device(name, type_=type_, token=token)
        device_id = added["id"]["id"]
        its_token = await rest.device_token(device_id)
        click.echo(f"Added {added['name']}, id {device_id}. Its access token:", err=True)
        click.echo(its_token)
        for snippet in snippets(
            url=rest.login.url,
            device_id=device_id,
            name=added["name"],
            token=its_token,
            mqtt=mqtt or default_mqtt(rest.login.url),
            program=own_program(),
        ):
            click.echo(f"\n# {snippet.title}\n{snippet.text}", err=True)

    run(main)


@device.command("list")
@click.option("--json", "as_json", is_flag=True, help="The broker's own records, as a JSON array.")
def list_(as_json: bool) -> None:
    """List the devices by name."""

    async def main(reactor: Any) -> None:
        rest = logged_in(reactor)
        found = await rest.devices()
        if as_json:
            click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        elif found:
            Console().print(_table(found))
        else:
            click.echo("There are no devices yet. Add one: rpcbroker device add NAME", err=True)

    run(main)


def default_mqtt(url: str) -> Address:
    """Where devices connect if nobody says otherwise."""
    return Address(urlsplit(url).hostname or "localhost", MQTT_PORT)


def _table(devices: list[Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("NAME", "TYPE", "ID", "ADDED (UTC)"):
        table.add_column(column, no_wrap=column == "ID")
    for each in devices:
        added = datetime.fromtimestamp(each["createdTime"] / 1000, UTC)
        cells = (each["name"], each["type"], each["id"]["id"], f"{added:%Y-%m-%d %H:%M}")
        table.add_row(*(Text(cell) for cell in cells))
    return table
