"""`rpcbroker device export`"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import click

from rpcbroker.cli.at_once import in_order
from rpcbroker.cli.device_import import FORMAT, is_json
from rpcbroker.cli.fleet.csv_file import CsvFile
from rpcbroker.cli.fleet.entries import Entry, entry_of
from rpcbroker.cli.fleet.json_file import JsonFile
from rpcbroker.cli.new_file import new_file
from rpcbroker.cli.rest import Rest
from rpcbroker.cli.run import run
from rpcbroker.cli.session import logged_in
from rpcbroker.cli.words import counted
from rpcbroker.schema.devices import CredentialsJSON, DeviceInfoJSON


@click.command
@click.argument("file", default="-")
@FORMAT
@click.option("--with-credentials", is_flag=True, help="Also the secrets of the devices; FILE is for you alone then.")
def export(file: str, format_: str | None, with_credentials: bool) -> None:
    """Write all devices to FILE, for import.

    Without FILE to standard output. In CSV a cell that a spreadsheet would take for a formula begins with an
    apostrophe, which an import takes away again.
    """
    if with_credentials and file == "-":
        raise click.UsageError("--with-credentials needs a FILE, which it makes readable for you alone.")

    async def main(reactor: Any) -> None:
        rest = logged_in(reactor, patiently=True)
        count = 0
        with new_file(file, mode=0o600 if with_credentials else 0o666) as opened:
            into = JsonFile(opened) if is_json(file, format_) else CsvFile(opened, secrets=with_credentials)
            async for entry in _entries(rest, with_credentials=with_credentials):
                into.write(entry)
                count += 1
            into.end()
        click.echo(f"{'Printed' if file == '-' else f'{file}:'} {counted(count, 'device')}.", err=True)

    run(main)


def _entries(rest: Rest, *, with_credentials: bool) -> AsyncIterator[Entry]:
    """By name."""

    async def entry(info: DeviceInfoJSON) -> Entry:
        if not with_credentials:
            return entry_of(info, None)
        path = f"/api/device/{info.id.id}/credentials"
        return entry_of(info, await rest.ask(CredentialsJSON, "GET", path))

    return in_order(rest.pages(DeviceInfoJSON, "/api/deviceInfos/all", sortProperty="name"), entry)
