"""`rpcbroker rules`"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import msgspec

from rpcbroker.cli import ask, find, listing
from rpcbroker.cli.chain_files import chains_file, for_export, read_chains, stored
from rpcbroker.cli.new_file import new_file
from rpcbroker.cli.rules_check import check
from rpcbroker.cli.rules_test import test
from rpcbroker.cli.run import run
from rpcbroker.cli.session import logged_in
from rpcbroker.cli.stop import Stop
from rpcbroker.cli.words import counted
from rpcbroker.rules.chain import MAX_NAME
from rpcbroker.rules.format import ChainFile, ChainJSON


class ImportedJSON(msgspec.Struct, rename="camel"):
    """What became of one chain that was imported."""

    rule_chain_id: Any
    rule_chain_name: str
    updated: bool = False
    error: str | None = None
    warnings: list[str] = []


@click.group
def rules() -> None:
    """List, import, check and try out rule chains.

    A rule chain says what happens with what devices send and callers ask; messages begin at the
    root chain. A CHAIN is given by its name or its id.
    """


rules.add_command(check)
rules.add_command(test)


@rules.command("list")
@listing.JSON
def list_(as_json: bool) -> None:
    """List the rule chains; one of them is the root."""

    async def main(reactor: Any) -> None:
        chains = [each async for each in logged_in(reactor).pages(ChainJSON, find.RULE_CHAINS, sortProperty="name")]
        listing.print_list(
            chains,
            {
                "NAME": lambda each: each.name,
                "ROOT": lambda each: "root" if each.root else "",
                "ADDED (UTC)": lambda each: listing.when(each.created_time),
                "VERSION": lambda each: "-" if each.version is None else str(each.version),
                "ID": lambda each: each.id.id,
            },
            as_json=as_json,
            nothing="There are no rule chains.",
        )

    run(main)


@rules.command
@click.argument("chain")
@click.option("--json", "as_json", is_flag=True, help="As export gives it.")
def show(chain: str, as_json: bool) -> None:
    """Show the nodes of CHAIN, and where messages go from each."""

    async def main(reactor: Any) -> None:
        file = await stored(logged_in(reactor), chain)
        if as_json:
            listing.print_json(file)
        else:
            _print_chain(file)

    run(main)


def _print_chain(file: ChainFile) -> None:
    chain, graph = file.rule_chain, file.metadata
    listing.print_record(
        {
            "Name": chain.name,
            "Id": chain.id.id if chain.id else "-",
            "Root": "yes" if chain.root else "no",
            "Nodes": str(len(graph.nodes)),
            "First node": "-" if graph.first_node_index is None else str(graph.first_node_index),
        }
    )
    if not graph.nodes:
        return
    click.echo()
    goes: dict[int, dict[str, list[int]]] = {}
    for each in graph.connections or ():
        goes.setdefault(each.from_index, {}).setdefault(each.type, []).append(each.to_index)
    listing.print_list(
        list(enumerate(graph.nodes)),
        {
            "NODE": lambda each: str(each[0]),
            "NAME": lambda each: each[1].name,
            "TYPE": lambda each: each[1].type.rpartition(".")[2],
            "GOES ON": lambda each: "; ".join(
                f"{label} -> {', '.join(map(str, to))}" for label, to in goes.get(each[0], {}).items()
            ),
        },
        as_json=False,
        nothing="",
    )


@rules.command
@click.argument("chain")
@click.option("-o", "--output", "file", default="-", metavar="FILE", help="By default standard output.")
def export(chain: str, file: str) -> None:
    """Write CHAIN to a file that import takes, here or in ThingsBoard.

    Chains that messages enter from it are not in it.
    """

    async def main(reactor: Any) -> None:
        exported = for_export(await stored(logged_in(reactor), chain))
        text = msgspec.json.format(msgspec.json.encode(exported), indent=2).decode()
        with new_file(file) as opened:
            opened.write(text + "\n")
        if file != "-":
            click.echo(f"{file}: {counted(len(exported.metadata.nodes), 'node')}.", err=True)

    run(main)


@rules.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--root", is_flag=True, help="Make it the root chain; of several, the one that says root.")
@click.option("--replace", is_flag=True, help="In the place of the chains of the same names, which keep their ids.")
def import_(files: Sequence[str], root: bool, replace: bool) -> None:
    """Add the rule chains in each FILE, as exported here or by ThingsBoard.

    FILE has one chain or several, and may be - for standard input. Chains that enter each other are
    imported together. For each of them there is a line on stdout: added or replaced, its id and name.
    """
    chains = [chain for file in files for chain in read_chains(file)]
    new_root = _root_of(chains) if root else None

    async def main(reactor: Any) -> None:
        rest = logged_in(reactor)
        body, overwrite = chains_file(chains), "true" if replace else "false"
        path = f"{find.RULE_CHAINS}/import"
        done = await rest.ask(list[ImportedJSON], "POST", path, body, overwrite=overwrite)
        for each in done:
            word = "failed" if each.error else "replaced" if each.updated else "added"
            why = f"  {each.error}" if each.error else ""
            click.echo(listing.printable(f"{word:8}  {each.rule_chain_id['id']}  {each.rule_chain_name}{why}"))
            for warning in each.warnings:
                click.echo(listing.printable(f"Warning: {each.rule_chain_name}: {warning}"), err=True)
        failed = [each for each in done if each.error]
        if failed:
            raise Stop(f"{len(failed)} of {counted(len(done), 'rule chain')} could not be imported.")
        if new_root is not None:
            await rest.request("POST", f"{find.RULE_CHAIN}/{done[new_root].rule_chain_id['id']}/root")
            click.echo(listing.printable(f"{done[new_root].rule_chain_name} is the root chain now."), err=True)

    run(main)


def _root_of(chains: Sequence[ChainFile]) -> int:
    """Which one. Raises click's usage error."""
    if len(chains) == 1:
        return 0
    roots = [number for number, chain in enumerate(chains) if chain.rule_chain.root]
    if len(roots) != 1:
        names = ", ".join(chain.rule_chain.name[:MAX_NAME] for chain in chains)
        raise click.UsageError(f"--root: {len(roots)} of these chains say that they are the root: {names}")
    return roots[0]


@rules.command
@click.argument("chain")
def root(chain: str) -> None:
    """Let messages begin at CHAIN from now on."""

    async def main(reactor: Any) -> None:
        rest = logged_in(reactor)
        found = await find.rule_chain(rest, chain)
        assert found.id is not None
        await rest.request("POST", f"{find.RULE_CHAIN}/{found.id.id}/root")
        click.echo(listing.printable(f"{found.name} is the root chain now."), err=True)

    run(main)


@rules.command
@click.argument("chain")
@ask.YES
def delete(chain: str, yes: bool) -> None:
    """Delete CHAIN. The root chain cannot be deleted."""
    ask.be_sure(f"Delete the rule chain {chain!r}?", yes=yes)

    async def main(reactor: Any) -> None:
        rest = logged_in(reactor)
        found = await find.rule_chain(rest, chain)
        assert found.id is not None
        await rest.request("DELETE", f"{find.RULE_CHAIN}/{found.id.id}")
        click.echo(listing.printable(f"Deleted {found.name}."), err=True)

    run(main)
