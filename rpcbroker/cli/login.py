"""`rpcbroker login`"""

from __future__ import annotations

import ipaddress
import os
import sys
from typing import Any
from urllib.parse import urlsplit

import click

from rpcbroker.cli.http import sender
from rpcbroker.cli.login_file import Login, login_path, write_login
from rpcbroker.cli.rest import Rest, checked_url
from rpcbroker.cli.run import run


@click.command
@click.argument("url", envvar="RPCBROKER_URL")
@click.option("--username", "-u", help="The email of the user; asked for if not given.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
def login(url: str, username: str | None, password_stdin: bool) -> None:
    """Log in to a broker; the other commands then use it.

    URL is like http://localhost:8080; it may also come from RPCBROKER_URL. The tokens
    are kept in $XDG_CONFIG_HOME/rpcbroker/login.json (by default under ~/.config), which only you can
    read, and are renewed as needed; the password is not kept.
    """
    url = checked_url(url)
    if url.startswith("http:") and not _is_local(urlsplit(url).hostname or ""):
        click.echo("Warning: without https, whoever is on the way can read the password.", err=True)
    username = username or click.prompt("Username", err=True)
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = click.prompt("Password", hide_input=True, err=True)

    async def main(reactor: Any) -> None:
        nobody = Login(url=url, username=str(username), token="", refresh_token="")
        path = login_path(os.environ)
        rest = Rest(sender(reactor), nobody, keep=lambda login: write_login(path, login))
        await rest.log_in(password)
        click.echo(f"Logged in to {url} as {username}.", err=True)

    run(main)


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
