"""What a command asks the person in front of it: passwords, and whether it is sure."""

from __future__ import annotations

import sys

import click

from rpcbroker.cli.stop import ExitCode, Stop

PASSWORD_STDIN = click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
YES = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


def password(prompt: str = "Password", *, from_stdin: bool, new: bool = False) -> str:
    """Hidden, and a `new` one twice; or the next line of standard input. Raises Stop for an empty line."""
    if not from_stdin:
        return str(click.prompt(prompt, hide_input=True, err=True, confirmation_prompt=new))
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise Stop("There is no password on standard input.", ExitCode.USAGE)
    return line


def be_sure(question: str, *, yes: bool) -> None:
    """Raises Abort when the answer is no, Stop when nobody can answer."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Stop(f"{question} Nobody is there to say so.", ExitCode.USAGE, hint="Add --yes")
    click.confirm(question, abort=True, err=True)
