"""`rpcbroker token`"""

from __future__ import annotations

from typing import Any

import click

from rpcbroker.cli import find
from rpcbroker.cli.login_file import Login
from rpcbroker.cli.run import run
from rpcbroker.cli.session import API_KEY, logged_in
from rpcbroker.cli.stop import Stop


@click.command
def token() -> None:
    """Print an access token for curl and the like.

    It is good now, and for as long as the broker says: -H "X-Authorization: Bearer $(rpcbroker token)"
    """

    async def main(reactor: Any) -> None:
        rest = logged_in(reactor)
        await find.me(rest)  # renews the token if it is not good any more
        if not isinstance(rest.login, Login):
            raise Stop(
                f"With {API_KEY} there is no login, and so no token.",
                hint=f'curl takes the key as it is: -H "X-Authorization: ApiKey ${API_KEY}"',
            )
        click.echo(rest.login.token)

    run(main)
