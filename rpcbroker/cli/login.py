"""`rpcbroker login`"""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit

import click

from rpcbroker.cli import ask
from rpcbroker.cli.rest import checked_url
from rpcbroker.cli.run import run
from rpcbroker.cli.session import as_nobody


@click.command
@click.argument("url", envvar="RPCBROKER_URL")
@click.option("--username", "-u", help="The email of the user; asked for if not given.")
@ask.PASSWORD_STDIN
def login(url: str, username: str | None, password_stdin: bool) -> None:
    """Log in to a broker; the other commands then use it.

    URL is like http://localhost:8080; it may also come from RPCBROKER_URL. The tokens
    are kept in $XDG_CONFIG_HOME/rpcbroker/login.json (by default under ~/.config), which only you can
    read, and are renewed as needed; the password is not kept.
    """
    url = checked_url(url)
    if url.startswith("http:") and not _is_local(urlsplit(url).hostname or ""):
        click.echo("Warning: without https, whoever is on the way can read the password.", err=True)
    user = username or str(click.prompt("Username", err=True))
    password = ask.password(from_stdin=password_stdin)

    async def main(reactor: Any) -> None:
        await as_nobody(reactor, url, keep=True).log_in(user, password)
        click.echo(f"Logged in to {url} as {user}.", err=True)

    run(main)


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
