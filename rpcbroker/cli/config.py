"""`rpcbroker config`"""

from __future__ import annotations

import os
from itertools import groupby
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from rpcbroker.cli.place import configuration_of
from rpcbroker.cli.stop import Stop
from rpcbroker.config import Line, describe
from rpcbroker.host import listeners
from rpcbroker.host.wanted import wanted


@click.group
def config() -> None:
    """Check and show the broker's configuration."""


@config.command
@click.argument("file")
def check(file: str) -> None:
    """Tell whether FILE is good. The environment is left out."""
    settings = configuration_of(file, {}).settings
    for listener in wanted(settings):
        try:
            listeners.check(listener, Path.cwd())
        except listeners.ListenError as error:
            raise Stop(str(error)) from None
    click.echo(f"{file} is good.")


@config.command
@click.option("--config", "file", help="The TOML file; without it there are only defaults and the environment.")
def show(file: str | None) -> None:
    """Print each value, and where it comes from: default, file, or a variable."""
    configuration = configuration_of(file, os.environ)
    lines = describe(configuration)
    width = max(len(f"{line.key} = {line.value}") for line in lines)
    console = Console(soft_wrap=True)
    for section, members in groupby(lines, key=lambda line: line.section):
        console.print(Text(f"[{section}]", style="bold"))
        console.print(_section(list(members), width))


def _section(lines: list[Line], width: int) -> Text:
    text = Text()
    for line in lines:
        style = "dim" if line.origin == "default" else ""
        text.append(f"{line.key} = {line.value}".ljust(width + 2), style)
        text.append(f"# {line.origin}\n", style)
    return text
