"""Rule chains over REST."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import NamedTuple
from uuid import UUID

import msgspec

from rpcbroker.api import checks
from rpcbroker.api.routes import Action, Note
from rpcbroker.core import jsontext
from rpcbroker.core.errors import InvalidRequest, NotFound, PayloadTooLarge, VersionConflict
from rpcbroker.core.model import Page, Principal, StoredChain
from rpcbroker.rules.chain import ENTER_CHAIN, place
from rpcbroker.rules.default_chain import GRAPH
from rpcbroker.rules.format import (
    ChainJSON,
    ChainsBody,
    ChainsFile,
    MetadataJSON,
    RefJSON,
    SavedMetadataJSON,
    read_graph,
)
from rpcbroker.rules.saving import NODE, graph_to_keep, kept_graph, with_chains_moved
from rpcbroker.rules.system import RuleSystem
from rpcbroker.schema.common import MAX_TEXT, EntityId, PageJSON, page_json
from rpcbroker.schema.ids import parse_uuid
from rpcbroker.schema.rules import DefaultChainBody, ExportQuery, ImportQuery, ImportResultJSON, RuleChainsQuery

SORTS = {"createdTime": "created_time", "name": "name", "root": "root"}
CHAIN = "RULE_CHAIN"
TYPE = "CORE"
EMPTY = jsontext.encode(MetadataJSON(connections=[]))


class _Import(NamedTuple):
    """A chain that is to be imported, still with the graph that it had."""

    chain: StoredChain
    graph: MetadataJSON
    old_id: str
    found: bool
    """It replaces one that is there."""


class Chains:
    """The handlers of `/api/ruleChain`."""

    def __init__(self, rules: RuleSystem, *, now_ms: Callable[[], int], new_uuid: Callable[[], UUID]) -> None:
        self._rules = rules
        self._chains = rules.chains
        self._now_ms = now_ms
        self._new_uuid = new_uuid

    # -- reading

    async def page(self, principal: Principal, *, query: RuleChainsQuery) -> PageJSON[ChainJSON]:
        """The rule chains of the tenant."""
        link = checks.page_link(query, SORTS)
        found = [
            chain
            for chain in (self._chains.all(principal.tenant_id) if query.type == TYPE else ())
            if (link.text_search or "").lower() in chain.name.lower()
        ]
        found.sort(key=lambda chain: (getattr(chain, link.sort_property), chain.id), reverse=link.descending)
        start = link.page * link.page_size
        page = Page(items=tuple(found[start : start + link.page_size]), total=len(found))
        return page_json(page, [self._chain_json(chain) for chain in page.items], query)

    async def get(self, principal: Principal, *, rule_chain_id: UUID) -> ChainJSON:
        """What a rule chain is beside its graph."""
        return self._chain_json(self._one(principal, rule_chain_id))

    async def metadata(self, principal: Principal, *, rule_chain_id: UUID) -> MetadataJSON:
        """The graph of a rule chain: its nodes, and how they are connected."""
        return _metadata_json(self._one(principal, rule_chain_id))

    async def export(self, principal: Principal, *, query: ExportQuery) -> ChainsFile:
        """All rule chains of the tenant with their graphs, to be imported again."""
        if query.limit < 1:
            raise InvalidRequest("limit must be 1 or more")
        chains = self._chains.all(principal.tenant_id)[: query.limit]
        return ChainsFile([self._chain_json(chain) for chain in chains], [_metadata_json(chain) for chain in chains])

    # -- changing

    async def save(self, principal: Principal, *, body: ChainJSON, note: Note) -> ChainJSON:
        """Create a rule chain without nodes, or change the one whose id is given; its graph stays.

        Whether it is the root chain does not change: see setRootRuleChain.
        """
        name = _name(body)
        if body.id is None:
            chain = self._new(principal, name, body)
        else:
            stored = self._one(principal, parse_uuid(body.id.id))
            note.action = Action.UPDATED
            chain = replace(
                _next(stored, body.version),
                name=name,
                debug=bool(body.debug_mode),
                additional_info=checks.info(body.additional_info),
            )
        note.entity_id, note.name = chain.id, chain.name
        return self._chain_json(await self._chains.save(chain))

    async def make_default(self, principal: Principal, *, body: DefaultChainBody, note: Note) -> ChainJSON:
        """Create a rule chain like the one that a tenant has at first."""
        chain = self._new(principal, checks.text("Rule chain name", body.name), None)
        note.about(chain.id, chain.name)
        graph, _ = await self._checked(principal, read_graph(GRAPH), None)
        return self._chain_json(await self._chains.save(replace(chain, graph=graph)))

    async def save_metadata(self, principal: Principal, *, body: MetadataJSON, note: Note) -> SavedMetadataJSON:
        """Give a rule chain another graph, which holds for all messages that come from now on.

        Nodes with the ids that they had keep them; others get new ones. The answer has `warnings` where something in it
        is likely to be a mistake, such as nodes that no message gets to.
        """
        if body.rule_chain_id is None:
            raise InvalidRequest("ruleChainId is missing: a chain is made first, by POST /api/ruleChain")
        stored = self._one(principal, parse_uuid(body.rule_chain_id.id))
        note.about(stored.id, stored.name)
        chain = _next(stored, body.version)
        graph, warnings = await self._checked(principal, body, kept_graph(stored))
        saved = await self._chains.save(replace(chain, graph=graph))
        answer = msgspec.structs.asdict(_metadata_json(saved))
        return SavedMetadataJSON(**answer, warnings=warnings or msgspec.UNSET)

    async def set_root(self, principal: Principal, *, rule_chain_id: UUID, note: Note) -> ChainJSON:
        """Let messages begin at this rule chain from now on."""
        chain = self._one(principal, rule_chain_id)
        note.about(chain.id, chain.name)
        note.data = {"root": True}
        return self._chain_json(await self._chains.set_root(principal.tenant_id, rule_chain_id))

    async def delete(self, principal: Principal, *, rule_chain_id: UUID, note: Note) -> None:
        """Delete a rule chain, but for the root one."""
        chain = self._one(principal, rule_chain_id)
        note.about(chain.id, chain.name)
        await self._chains.delete(principal.tenant_id, rule_chain_id)

    async def import_(
        self, principal: Principal, *, query: ImportQuery, body: ChainsBody, note: Note
    ) -> list[ImportResultJSON]:
        """Take rule chains that were exported, here or by ThingsBoard: all of them, or none if one cannot be taken.

        They get new ids, also where one of them leads to another. Which chain is the root one does not change.
        """
        imports = [self._import(principal, given, metadata, query.overwrite) for given, metadata in _files(body)]
        if len({each.chain.id for each in imports}) < len(imports):
            raise InvalidRequest("Two rule chains of the file have the same name, and overwrite is true")
        moved = {each.old_id.lower(): each.chain.id for each in imports if each.old_id}
        ready = []
        for each in imports:
            graph = with_chains_moved(each.graph, moved)
            before = kept_graph(each.chain) if each.found else None
            try:
                checked = await self._checked(principal, graph, before, beside=moved.values())
            except InvalidRequest as error:
                raise InvalidRequest(f"{each.chain.name}: {error.message}", hint=error.hint) from None
            ready.append((each, *checked))
        self._chains.require_room(principal.tenant_id, [replace(each.chain, graph=text) for each, text, _ in ready])
        note.about(imports[0].chain.id, ", ".join(each.chain.name for each in imports)[:MAX_TEXT])
        return [
            ImportResultJSON(
                tenant_id=EntityId("TENANT", principal.tenant_id),
                rule_chain_id=EntityId(CHAIN, each.chain.id),
                rule_chain_name=(await self._chains.save(replace(each.chain, graph=text))).name,
                updated=each.found,
                warnings=warnings,
            )
            for each, text, warnings in ready
        ]

    def _import(self, principal: Principal, given: ChainJSON, graph: MetadataJSON, overwrite: bool) -> _Import:
        name = _name(given)
        chains = self._chains.all(principal.tenant_id) if overwrite else []
        found = next((chain for chain in chains if chain.name == name), None)
        chain = self._new(principal, name, given)
        if found is not None:
            chain = replace(_next(found, None), debug=chain.debug, additional_info=chain.additional_info)
        return _Import(chain, graph, given.id.id if given.id else "", found is not None)

    # -- what they share

    def _chain_json(self, chain: StoredChain) -> ChainJSON:
        active = self._chains.active(chain.tenant_id, chain.id)  # its graph may be large, and is not read again
        first = None if active is None or active.first is None else active.nodes[active.first].id
        return ChainJSON(
            id=RefJSON(str(chain.id), CHAIN),
            created_time=chain.created_time,
            tenant_id=RefJSON(str(chain.tenant_id), "TENANT"),
            name=chain.name,
            type=TYPE,
            first_rule_node_id=None if first is None else RefJSON(str(first), NODE),
            root=chain.root,
            debug_mode=chain.debug,
            configuration=None,
            additional_info=chain.additional_info,
            version=chain.version,
        )

    def _one(self, principal: Principal, chain_id: UUID) -> StoredChain:
        found = self._chains.find(principal.tenant_id, chain_id)
        if found is None:
            raise NotFound(f"Rule chain with id [{chain_id}] is not found")
        return found

    def _new(self, principal: Principal, name: str, given: ChainJSON | None) -> StoredChain:
        return StoredChain(
            id=self._new_uuid(),
            tenant_id=principal.tenant_id,
            name=name,
            debug=given is not None and bool(given.debug_mode),
            graph=EMPTY,
            additional_info=None if given is None else checks.info(given.additional_info),
            created_time=self._now_ms(),
        )

    async def _checked(
        self, principal: Principal, given: MetadataJSON, before: MetadataJSON | None, *, beside: Collection[UUID] = ()
    ) -> tuple[bytes, list[str]]:
        """The graph as it is kept, and what may be wrong with it. Raises InvalidRequest, PayloadTooLarge."""
        graph = graph_to_keep(given, before=before, now=self._now_ms(), new_uuid=self._new_uuid)
        text = jsontext.encode(graph)
        most = self._rules.settings.max_chain_size
        if len(text) > most:
            raise PayloadTooLarge(f"A rule chain has at most {most} bytes as JSON", hint="See rules.max_chain_size.")
        checked = await self._chains.check(principal.tenant_id, graph)
        return text, [*checked.warnings, *self._nowhere(principal, graph, frozenset(beside))]

    def _nowhere(self, principal: Principal, graph: MetadataJSON, beside: frozenset[UUID]) -> list[str]:
        """Nodes that lead to chains that are not there."""
        there = {str(each) for each in beside} | {str(chain.id) for chain in self._chains.all(principal.tenant_id)}
        warnings = []
        for index, node in enumerate(graph.nodes):
            target = (node.configuration or {}).get("ruleChainId")
            if node.type == ENTER_CHAIN and isinstance(target, str) and target.lower() not in there:
                warnings.append(f"{place(index, node.name)}: there is no rule chain {target[:50]}")
        return warnings


def _name(given: ChainJSON) -> str:
    if given.type != TYPE:
        raise InvalidRequest(f"Rule chains are of the type {TYPE}, not {given.type[:20]!r}")
    return checks.text("Rule chain name", given.name)


def _next(stored: StoredChain, version: int | None) -> StoredChain:
    """The next version. Raises VersionConflict if the change was made from another one than the stored."""
    if version not in {None, stored.version}:
        raise VersionConflict(f"The rule chain was changed in between: it has version {stored.version}")
    return replace(stored, version=stored.version + 1)


def _files(body: ChainsBody) -> list[tuple[ChainJSON, MetadataJSON]]:
    """Each chain with its graph. Raises InvalidRequest."""
    chains = body.rule_chains if body.rule_chain is None else [body.rule_chain]
    graphs = body.metadata if isinstance(body.metadata, list) else [body.metadata]
    if not chains or len(chains) != len(graphs):
        raise InvalidRequest("There must be as many metadata as ruleChains, and at least one")
    by_id = {graph.rule_chain_id.id: graph for graph in graphs if graph.rule_chain_id is not None}
    if all(chain.id is not None and chain.id.id in by_id for chain in chains):
        return [(chain, by_id[chain.id.id]) for chain in chains if chain.id is not None]
    return list(zip(chains, graphs, strict=True))


def _metadata_json(chain: StoredChain) -> MetadataJSON:
    """SDKs want lists, not null, where there are no connections."""
    graph = kept_graph(chain)
    return msgspec.structs.replace(
        graph,
        connections=graph.connections or [],
        rule_chain_connections=[],
        rule_chain_id=RefJSON(str(chain.id), CHAIN),
        version=chain.version,
    )
