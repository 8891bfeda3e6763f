"""`rpcbroker activate`"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import click

from rpcbroker.cli import ask, find
from rpcbroker.cli.rest import checked_url
from rpcbroker.cli.run import run
from rpcbroker.cli.session import as_nobody, known_url
from rpcbroker.cli.stop import ExitCode, Stop
from rpcbroker.schema.people import ActivateBody, TokenPair

PATH = "/api/noauth/activate"


@click.command
@click.argument("link")
@ask.PASSWORD_STDIN
def activate(link: str, password_stdin: bool) -> None:
    """Choose a password by an activation link, without a browser.

    LINK is the whole link; or its token alone, for the broker of RPCBROKER_URL or of the last login.
    Nobody is logged in by it: `rpcbroker login` comes next.
    """
    url, token = _parts(link)
    password = ask.password("New password", from_stdin=password_stdin, new=True)

    async def main(reactor: Any) -> None:
        rest = as_nobody(reactor, url)
        answer = await rest.post(PATH, ActivateBody(token, password))
        rest.take("", answer.read_as(TokenPair))
        email = (await find.me(rest)).email
        await rest.request("POST", "/api/auth/logout")
        click.echo(f"{email} has a password now. Next: rpcbroker login {url} -u {email}", err=True)

    run(main)


def _parts(link: str) -> tuple[str, str]:
    """Where the broker is, and the token. Raises Stop."""
    if "://" not in link:
        try:
            return known_url(), link
        except Stop:
            raise Stop(
                "A token alone does not say where the broker is.",
                ExitCode.USAGE,
                hint="Give the whole link, or set RPCBROKER_URL.",
            ) from None
    parts = urlsplit(link)
    tokens = parse_qs(parts.query).get("activateToken", [])
    if not parts.path.endswith(PATH) or len(tokens) != 1:
        raise Stop("That is no activation link.", ExitCode.USAGE, hint=f"It ends in {PATH}?activateToken=...")
    return checked_url(f"{parts.scheme}://{parts.netloc}{parts.path.removesuffix(PATH)}"), tokens[0]
