"""Rule chains in files, as they are exported, and those that a broker has in the same form."""

from __future__ import annotations

import sys
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import UUID, uuid4

import msgspec

from rpcbroker.cli import find
from rpcbroker.cli.answers import failure
from rpcbroker.cli.rest import Rest
from rpcbroker.cli.stop import Stop
from rpcbroker.core import jsontext
from rpcbroker.rules.format import ChainFile, ChainJSON, ChainsFile, MetadataJSON, RefJSON
from rpcbroker.rules.saving import entered

MAX_SIZE = 32 << 20
"""Bytes of a file: eight times what a broker takes, and what is read takes thirty times as much memory."""


def read_bytes(file: str) -> bytes:
    """All of a file, or of standard input for `-`, without a byte order mark. Raises Stop."""
    try:
        if file == "-":
            read = sys.stdin.buffer.read(MAX_SIZE + 1)
        else:
            with Path(file).open("rb") as opened:
                read = opened.read(MAX_SIZE + 1)
    except (OSError, ValueError) as error:
        raise Stop(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    if len(read) > MAX_SIZE:
        raise Stop(f"{file} has more than {MAX_SIZE:,} bytes.")
    return read.removeprefix(BOM_UTF8)


def read_chains(file: str) -> list[ChainFile]:
    """The chains in a file: one, or all that were exported together; each has an id. Raises Stop."""
    text = read_bytes(file)
    try:
        members = jsontext.decode_as(dict[str, msgspec.Raw], text)
        if "ruleChains" in members:
            return list(_together(jsontext.decode_as(ChainsFile, text)))
        return [with_id(jsontext.decode_as(ChainFile, text))]
    except ValueError as error:  # BadJSON is one
        raise Stop(
            f"{file} is no exported rule chain: {error}.",
            hint='It looks like {"ruleChain":{"name":...},"metadata":{"nodes":[...],...}}',
        ) from None


def _together(given: ChainsFile) -> Iterator[ChainFile]:
    """Graphs say whose they are; those that do not are in the order of the chains. Raises BadJSON."""
    if not given.rule_chains:
        raise jsontext.BadJSON("there are no ruleChains in it")
    graphs = {graph.rule_chain_id.id: graph for graph in given.metadata if graph.rule_chain_id}
    if len(given.metadata) != len(given.rule_chains):
        raise jsontext.BadJSON(f"there are {len(given.rule_chains)} ruleChains and {len(given.metadata)} metadata")
    for chain, graph in zip(given.rule_chains, given.metadata, strict=True):
        yield with_id(ChainFile(chain, graphs.get(chain.id.id, graph) if chain.id else graph))


def with_id(file: ChainFile) -> ChainFile:
    """With an id that chain and graph share, a made-up one if there is none. Raises ValueError for what is none."""
    reference = file.rule_chain.id or file.metadata.rule_chain_id or RefJSON(str(uuid4()), "RULE_CHAIN")
    try:
        UUID(reference.id)
    except ValueError:
        raise ValueError(f"its id {reference.id[:50]!r} is no UUID") from None
    chain = msgspec.structs.replace(file.rule_chain, id=reference)
    return ChainFile(chain, msgspec.structs.replace(file.metadata, rule_chain_id=reference))


# -- of a broker


async def stored(rest: Rest, name_or_id: str) -> ChainFile:
    """A chain that the broker has. Raises Stop."""
    return await _whole(rest, await find.rule_chain(rest, name_or_id))


async def stored_with_entered(rest: Rest, name_or_id: str) -> list[ChainFile]:
    """The same, and after it all chains that messages may enter from it. Raises Stop."""
    todo, found = [await find.rule_chain(rest, name_or_id)], dict[str, ChainFile]()
    while todo:
        chain = todo.pop()
        if chain.id is None or chain.id.id in found:
            continue
        found[chain.id.id] = whole = await _whole(rest, chain)
        for chain_id in entered(whole.metadata):
            if chain_id is not None and chain_id not in found:
                answer = await rest.try_request("GET", f"{find.RULE_CHAIN}/{chain_id}")
                if answer.status == 200:
                    todo.append(answer.read_as(ChainJSON))
                elif answer.status != 404:
                    raise failure(answer)
            elif chain_id is None:
                todo += [each async for each in rest.pages(ChainJSON, find.RULE_CHAINS) if each.root]
    return list(found.values())


async def _whole(rest: Rest, chain: ChainJSON) -> ChainFile:
    assert chain.id is not None
    return ChainFile(chain, await rest.ask(MetadataJSON, "GET", f"{find.RULE_CHAIN}/{chain.id.id}/metadata"))


def for_export(file: ChainFile) -> ChainFile:
    """Without what is this broker's own: ids, times, versions, and whether it is the root."""
    chain = msgspec.structs.replace(
        file.rule_chain, id=None, tenant_id=None, created_time=0, first_rule_node_id=None, root=False, version=None
    )
    nodes = [msgspec.structs.replace(node, id=None) for node in file.metadata.nodes]
    graph = msgspec.structs.replace(file.metadata, nodes=nodes, rule_chain_id=None, version=None)
    return ChainFile(chain, graph)


def chains_file(files: Sequence[ChainFile]) -> ChainsFile:
    """All of them, to be imported together."""
    return ChainsFile([each.rule_chain for each in files], [each.metadata for each in files])
