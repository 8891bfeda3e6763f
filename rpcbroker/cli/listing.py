"""Lists and records on the terminal, for people, or as JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

JSON = click.option("--json", "as_json", is_flag=True, help="The broker's own records, as a JSON array.")
WIDE = 10_000
"""Columns of what is no terminal: a line is an item, however long."""


def print_list(
    items: Sequence[Any], columns: Mapping[str, Callable[[Any], str]], *, as_json: bool, nothing: str
) -> None:
    """A table of `columns`, title -> text of an item; `nothing` is said, on stderr, when there is none."""
    if as_json:
        print_json(items)
    elif not items:
        click.echo(nothing, err=True)
    else:
        _print_table(list(columns), [[printable(text(item)) for text in columns.values()] for item in items])


def print_record(members: Mapping[str, str]) -> None:
    """A line a member."""
    width = max(map(len, members))
    for name, value in members.items():
        click.echo(f"{name:{width}}  {printable(value)}".rstrip())


def print_json(value: Any) -> None:
    """A value of the schema."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def when(epoch_ms: int | None, *, seconds: bool = False) -> str:
    """A time in UTC; `-` for none."""
    if not epoch_ms:
        return "-"
    return f"{datetime.fromtimestamp(epoch_ms / 1000, UTC):%Y-%m-%d %H:%M{':%S' if seconds else ''}}"


def printable(text: str) -> str:
    """Without what would move the cursor or end the line."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "?" for char in text)


def _print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, no_wrap=title == "ID")
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(width=None if sys.stdout.isatty() else WIDE)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip(" "))
