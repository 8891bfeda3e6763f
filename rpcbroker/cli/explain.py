"""`rpcbroker explain`"""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any
from uuid import UUID

import click
import msgspec

from rpcbroker.cli import find, listing
from rpcbroker.cli.run import run
from rpcbroker.cli.session import logged_in
from rpcbroker.cli.telling import tell
from rpcbroker.core.calls import CallState
from rpcbroker.schema.calls import RpcJSON


@click.command
@click.argument("rpc_id", type=click.UUID)
@click.option("--json", "as_json", is_flag=True, help="The broker's own time line, as a JSON object.")
def explain(rpc_id: UUID, as_json: bool) -> None:
    """Tell what became of a call, and what to do if it failed.

    \b
    RPC_ID is the X-RPC-Id of the broker's answer; a call that fails prints it, and
    rpcbroker calls lists those of the last calls. Times are local.
    """

    async def main(reactor: Any) -> None:
        rest = logged_in(reactor)
        timeline = await find.timeline(rest, rpc_id)
        if as_json:
            listing.print_json(timeline)
            return
        story = tell(timeline, now=int(time.time() * 1000))
        _print(story.text)
        if story.reason:
            click.echo(f"Reason: {story.reason}")
        if story.hint:
            _print(f"Hint: {story.hint}")
        if timeline.persistent and timeline.state is CallState.SUCCESSFUL:
            kept = await rest.ask(RpcJSON, "GET", f"/api/rpc/persistent/{rpc_id}")
            click.echo(f"Reply: {msgspec.json.encode(kept.response).decode()}")

    run(main)


def _print(text: str) -> None:
    """In lines as wide as the terminal; in one line for what is none."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else listing.WIDE
    click.echo(click.wrap_text(text, width))
