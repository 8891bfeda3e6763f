"""`rpcbroker doctor`"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable

import click

from rpcbroker.cli.checks.subject import Level, Verdict, problem
from rpcbroker.cli.checks.table import look, run
from rpcbroker.cli.place import of_this_machine, state_dir_of
from rpcbroker.cli.stop import ExitCode
from rpcbroker.cli.words import counted
from rpcbroker.config import ConfigError, load
from rpcbroker.core.ports import StoreError

_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "red"}


@click.command
@click.option("--json", "as_json", is_flag=True, help="One JSON object: problems, and all checks.")
@of_this_machine
@click.pass_context
def doctor(ctx: click.Context, as_json: bool, config: str | None, state_dir: str | None) -> None:
    """Look at everything that the broker needs, and say what to do.

    A line for each thing: ok, warning or problem. Nothing is changed and nothing needs a network. Run it
    as the user that the broker runs as. The exit code is 1 when there is a problem.
    """
    found = list(_examine(config, state_dir))
    problems = sum(verdict.level is Level.PROBLEM for _, verdict in found)
    if as_json:
        click.echo(_json(found, problems))
    else:
        _tell(found, problems)
    ctx.exit(ExitCode.ERROR if problems else ExitCode.OK)


def _examine(config: str | None, state_dir: str | None) -> Iterable[tuple[str, Verdict]]:
    place = state_dir_of(state_dir)
    try:
        configuration = load(config, os.environ)
        subject = look(configuration, place, now=time.time())
    except (ConfigError, StoreError) as error:
        yield "configuration", problem(str(error), "All else depends on it: put it right, and look again.")
    except OSError as error:
        yield "state directory", problem(f"{place}: {error.strerror}", "Run this as the user of the broker.")
    else:
        yield from run(subject)


def _tell(found: list[tuple[str, Verdict]], problems: int) -> None:
    width = max(len(name) for name, _ in found)
    for name, verdict in found:
        level = click.style(f"{verdict.level:7}", fg=_COLOURS[verdict.level])
        click.echo(f"{level}  {name:{width}}  {verdict.text}")
        if verdict.hint:
            click.echo(f"{'':9}{'':{width}}  -> {verdict.hint}")
    warnings = sum(verdict.level is Level.WARNING for _, verdict in found)
    click.echo(f"{counted(problems, 'problem')}, {counted(warnings, 'warning')}")


def _json(found: list[tuple[str, Verdict]], problems: int) -> str:
    checks = [
        {"check": name, "level": verdict.level, "text": verdict.text, "hint": verdict.hint} for name, verdict in found
    ]
    return json.dumps({"problems": problems, "checks": checks}, indent=2, ensure_ascii=False)
