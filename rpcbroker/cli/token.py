"""`rpcbroker token`"""

from __future__ import annotations

from typing import Any

import click

from rpcbroker.cli.run import run
from rpcbroker.cli.session import logged_in


@click.command
def token() -> None:
    """Print an access token for curl and the like.

    It is good now, and for as long as the broker says: -H "X-Authorization: Bearer $(rpcbroker token)"
    """

    async def main(reactor: Any) -> None:
        rest = logged_in(reactor)
        await rest.user()  # renews the token if it is not good any more
        click.echo(rest.login.token)

    run(main)
