"""`rpcbroker cancel`"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import click

from rpcbroker.cli import find
from rpcbroker.cli.run import run
from rpcbroker.cli.session import logged_in
from rpcbroker.cli.stop import Stop
from rpcbroker.schema.calls import CancellationJSON


@click.command
@click.argument("rpc_id", type=click.UUID)
def cancel(rpc_id: UUID) -> None:
    """Cancel a call that goes on.

    A device that has it already is told, if it wants that. It is a failure if the call had ended before.
    """

    async def main(reactor: Any) -> None:
        answer = await find.call(logged_in(reactor), "DELETE", f"/api/rpc/{rpc_id}", rpc_id)
        cancellation = answer.read_as(CancellationJSON)
        if not cancellation.cancelled:
            raise Stop("The call had ended before.", hint=f"How it ended: rpcbroker explain {rpc_id}")
        click.echo(f"Cancelled. {what_of_the_device(cancellation)}", err=True)

    run(main)


def what_of_the_device(cancellation: CancellationJSON) -> str:
    """Whether it may do now what it was called for."""
    if not cancellation.delivered_before:
        return "It had not gone to the device, and will not."
    if cancellation.device_told:
        return "It had gone to the device, which was told that nobody waits for it any more."
    return "It had gone to the device, which was not told: it may do it still, and its reply will be dropped."
