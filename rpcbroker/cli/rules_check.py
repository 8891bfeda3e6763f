"""`rpcbroker rules check`"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from uuid import uuid4

import click

from rpcbroker.cli.chain_files import read_chains
from rpcbroker.cli.listing import print_json, printable
from rpcbroker.cli.rule_scripts import scripts
from rpcbroker.cli.run import run
from rpcbroker.cli.stop import Stop
from rpcbroker.cli.words import counted
from rpcbroker.core.rules_settings import RulesSettings
from rpcbroker.rules.accepted import accepted
from rpcbroker.rules.chain import MAX_NAME, ChainRefused
from rpcbroker.rules.dry import DryRun
from rpcbroker.rules.dry_ports import DryMessage
from rpcbroker.rules.format import ChainFile
from rpcbroker.rules.ports import Scripts
from rpcbroker.rules.saving import entered


class Checked(NamedTuple):
    """What was found in one chain of a file."""

    file: str
    chain: str
    nodes: int
    faults: Sequence[str]
    warnings: Sequence[str]


@click.command
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--json", "as_json", is_flag=True, help="What was found, as a JSON array.")
def check(files: Sequence[str], as_json: bool) -> None:
    """Say all that is wrong with the rule chains in each FILE, without a broker.

    Faults, for which a broker would refuse the chain, and warnings. Scripts are looked at, but not run.
    The exit code is 1 if there is any fault.
    """
    given = [(file, chain) for file in files for chain in read_chains(file)]

    async def main(reactor: Any) -> None:
        async with scripts(reactor, RulesSettings()) as there:
            found = [await _checked(file, chain, [each for _, each in given], there) for file, chain in given]
        if as_json:
            print_json([each._asdict() for each in found])
        else:
            for each in found:
                _tell(each)
        bad = sum(bool(each.faults) for each in found)
        if bad:
            raise Stop(f"{bad} of {counted(len(found), 'rule chain')} cannot be taken.")

    run(main)


async def _checked(file: str, chain: ChainFile, given: Sequence[ChainFile], there: Scripts) -> Checked:
    around = DryRun(
        [chain],
        DryMessage(""),
        scripts=there,
        now_ms=int(time.time() * 1000),
        new_uuid=uuid4,
        settings=RulesSettings(),
    ).around
    faults: Sequence[str] = ()
    warnings = list(_not_there(chain, given))
    try:
        warnings += (await accepted(chain.metadata, there, around)).warnings
    except ChainRefused as error:
        faults = error.faults
    return Checked(file, chain.rule_chain.name, len(chain.metadata.nodes), faults, warnings)


def _not_there(chain: ChainFile, given: Sequence[ChainFile]) -> Iterator[str]:
    """Chains that messages enter, and that no file has."""
    there = {None, *(each.rule_chain.id.id for each in given if each.rule_chain.id)}
    missing = [chain_id for chain_id in entered(chain.metadata) if chain_id not in there]
    if missing:
        yield f"messages enter chains that are not in these files: {', '.join(map(str, missing))}"


def _tell(found: Checked) -> None:
    mark = click.style("BROKEN", fg="red") if found.faults else click.style("ok    ", fg="green")
    click.echo(f"{mark}  {printable(f'{found.file}: {found.chain[:MAX_NAME]}')}, {counted(found.nodes, 'node')}")
    for fault in found.faults:
        click.echo(f"        {printable(fault)}")
    for warning in found.warnings:
        click.echo(f"        Warning: {printable(warning)}")
