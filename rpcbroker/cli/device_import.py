"""`rpcbroker device import`"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import IO, Any

import click

from rpcbroker.cli.fleet.csv_file import BadHeader, read_csv
from rpcbroker.cli.fleet.entries import each_once
from rpcbroker.cli.fleet.foresee import Foresee
from rpcbroker.cli.fleet.json_file import read_json
from rpcbroker.cli.fleet.put import FAILED, Outcome, Put, Way, outcomes
from rpcbroker.cli.listing import printable
from rpcbroker.cli.run import run
from rpcbroker.cli.session import logged_in
from rpcbroker.cli.stop import Stop
from rpcbroker.cli.words import counted, sentence
from rpcbroker.schema.devices import PutResult

FORMAT = click.option(
    "--format", "format_", type=click.Choice(["csv", "json"]), help="By default json if FILE ends so, else csv."
)
_WORDS = (*(each.value for each in PutResult), FAILED)


@click.command("import")
@click.argument("file")
@FORMAT
@click.option("--dry-run", is_flag=True, help="Tell what would be done, and do nothing.")
def import_(file: str, format_: str | None, dry_run: bool) -> None:
    """Make the devices of the tenant what FILE says.

    \b
    FILE may be - for standard input. It may be imported any number of times: what is
    so already is left alone, and devices that it does not name stay. For each of its
    lines there is one on stdout: its number, then created, changed, unchanged or
    failed, the device's name, and why it failed.

    \b
    CSV has names of columns in its first line, of these:
      name            the only one that must be there
      type, label
      customer        a customer's title; it must exist
      gateway         true or false
      description
      additionalInfo  any JSON, as a whole, in the place of what was there
      token           made up for a new device if empty
      credentialsType, credentialsValue
                      for MQTT_BASIC and X509_CERTIFICATE
    An empty cell leaves what is there as it is.

    JSON is an array of objects: a name, and the members of PUT /api/tenant/device.
    """

    async def main(reactor: Any) -> None:
        rest = logged_in(reactor, patiently=True)
        way: Way = Foresee(rest) if dry_run else Put(rest)
        began = reactor.seconds()
        counts: Counter[str] = Counter()
        name = "standard input" if file == "-" else file
        with _opened(file) as opened:
            lines = (read_json if is_json(file, format_) else read_csv)(opened)
            try:
                async for outcome in outcomes(each_once(lines), way):
                    counts[outcome.result] += 1
                    click.echo(_reported(outcome))
            except BadHeader as error:
                raise Stop(
                    sentence(f"{name}: {error}"), hint="rpcbroker device import --help names the columns."
                ) from None
            except Stop as stop:
                stop.hint = stop.hint or "Run it again when that is put right: what is done is not done twice."
                raise
            except BrokenPipeError:  # nobody reads the report any more
                raise
            except OSError as error:
                raise Stop(f"{name} cannot be read: {error.strerror}.") from None
            finally:
                _sum_up(counts, reactor.seconds() - began, dry_run=dry_run)
        if counts[FAILED]:
            raise Stop(
                f"{counted(counts[FAILED], 'line')} failed.",
                hint="Put them right, and run it again: what is done is not done twice.",
            )

    run(main)


def is_json(file: str, format_: str | None) -> bool:
    """Whether a file is JSON, by what was said, else by its name."""
    return format_ == "json" if format_ else file.lower().endswith(".json")


@contextmanager
def _opened(file: str) -> Iterator[IO[str]]:
    """The text of the file; what is not UTF-8 in it is told line by line. Raises Stop."""
    how: dict[str, Any] = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": ""}
    if file == "-":
        with tempfile.TemporaryFile() as whole:  # a slow writer must not keep requests waiting
            shutil.copyfileobj(sys.stdin.buffer, whole)
            whole.seek(0)
            yield TextIOWrapper(whole, **how)
        return
    try:
        opened = open(file, **how)  # noqa: SIM115 - closed below
    except (OSError, ValueError) as error:
        raise Stop(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    with opened:
        yield opened


def _reported(outcome: Outcome) -> str:
    name = outcome.line.entry.name if outcome.line.entry is not None else ""
    text = f"{outcome.line.number:>7}  {outcome.result:9}  {name}"
    return printable(f"{text}  {outcome.why}" if outcome.why else text).rstrip()


def _sum_up(counts: Counter[str], seconds: float, *, dry_run: bool) -> None:
    parts = ", ".join(f"{counts[word]:,} {word}" for word in _WORDS)
    click.echo(f"{'A dry run, nothing was done: ' if dry_run else ''}{parts}; {seconds:.1f} s.", err=True)
