"""The rule chains of all tenants: in memory, changed here, kept by the store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from uuid import UUID

from twisted.logger import Logger

from rpcbroker.core.errors import BrokerError, InvalidRequest, NotFound, PayloadTooLarge
from rpcbroker.core.model import StoredChain
from rpcbroker.core.ports import KeptRules
from rpcbroker.core.routes import Routes
from rpcbroker.core.rules_settings import RulesSettings
from rpcbroker.rules.accepted import accepted
from rpcbroker.rules.active import ActiveChain, ActiveNode, activate
from rpcbroker.rules.chain import Graph, graph_of
from rpcbroker.rules.default_chain import default_chain
from rpcbroker.rules.direct import recorded_until, routes_of
from rpcbroker.rules.format import MetadataJSON, read_graph
from rpcbroker.rules.node import Out
from rpcbroker.rules.nodes.table import NODE_TYPES
from rpcbroker.rules.ports import RuleSurroundings, Scripts
from rpcbroker.rules.types import LABELS

NOT_FOUND = "There is no such rule chain"


class _TenantRules:
    """One tenant's."""

    __slots__ = ("active", "coming", "root", "stored")

    def __init__(self) -> None:
        self.stored: dict[UUID, StoredChain] = {}
        self.root: StoredChain | None = None
        """As it was found last: this is asked for each message."""
        self.active: dict[UUID, ActiveChain | None] = {}
        """Those that were made; None is one that cannot be."""
        self.coming: list[StoredChain] = []
        """Those that are being written."""


class RuleChains:
    """Who asks for a chain gets what stands in memory; what changes one writes it first."""

    _log = Logger()

    def __init__(
        self,
        store: KeptRules,
        scripts: Scripts,
        *,
        surroundings: Callable[[UUID], RuleSurroundings],
        emit: Callable[[ActiveChain, ActiveNode, Out], None],
        settings: Callable[[], RulesSettings],
        now_ms: Callable[[], int],
        new_uuid: Callable[[], UUID],
        changed: Callable[[UUID], None],
        direct: bool = True,
    ) -> None:
        """`surroundings` are those of a tenant's nodes, `emit` is told of what nodes make by themselves, `changed`
        of tenants whose messages may go another way from now on.

        `direct`: what chains would only do as the broker does it goes straight; False is for comparing the two.
        """
        self._store = store
        self._scripts = scripts
        self._surroundings = surroundings
        self._emit = emit
        self._settings = settings
        self._now_ms = now_ms
        self._new_uuid = new_uuid
        self._changed = changed
        self._direct = direct
        self._tenants: defaultdict[UUID, _TenantRules] = defaultdict(_TenantRules)
        self._routes: dict[int, Routes] = {}
        """Those that were asked for, by the numbers of tenants: a UUID takes its time to be hashed."""

    def start(self, stored: Iterable[StoredChain]) -> None:
        """Those that the store has. All of them are made now, for some nodes do something by themselves."""
        for chain in stored:
            self._tenants[chain.tenant_id].stored[chain.id] = chain
        for tenant_id, tenant in self._tenants.items():
            for chain in tenant.stored.values():
                if chain.id not in tenant.active:
                    self._activate(tenant_id, chain)

    def stop(self) -> None:
        """Nodes make nothing by themselves any more, and let go of what they hold back."""
        for tenant in self._tenants.values():
            _stop(tenant.active.values())

    # -- who lets messages pass them

    def routes(self, tenant_id: UUID) -> Routes:
        """How the tenant's messages go."""
        return self._routes.get(tenant_id.int) or self._find_routes(tenant_id)

    def _find_routes(self, tenant_id: UUID) -> Routes:
        root = self.active(tenant_id, None)
        found = self._routes.get(tenant_id.int)  # they may be there since the chain was made, just now
        if found is None:
            found = self._routes[tenant_id.int] = self._routes_of(root) if root is not None else _NOTHING
        return found

    def _routes_of(self, root: ActiveChain) -> Routes:
        now = self._now_ms()
        end = recorded_until(root, now)
        if end is not None:  # what is recorded passes the chain, and then it need not any more
            deadlines = self._surroundings(root.tenant_id).deadlines
            deadlines.after((end - now) / 1000, self._forget_routes, root.tenant_id)
        return routes_of(root, now) if self._direct else Routes(False, False, False, frozenset(LABELS))

    def _forget_routes(self, tenant_id: UUID) -> None:
        if tenant_id in self._tenants:
            self._routes.pop(tenant_id.int, None)
            self._changed(tenant_id)

    def active(self, tenant_id: UUID, chain_id: UUID | None) -> ActiveChain | None:
        """A chain of the tenant; None is its root chain. None when there is none, or it cannot be made."""
        chain = self.root(tenant_id) if chain_id is None else self.find(tenant_id, chain_id)
        if chain is None:
            return None
        active = self._tenants[tenant_id].active
        return active[chain.id] if chain.id in active else self._activate(tenant_id, chain)

    def _activate(self, tenant_id: UUID, chain: StoredChain) -> ActiveChain | None:
        """Made and begun, in the place of what was made of it before; None if it cannot be, which is said once."""
        made = None
        try:
            made = self._made(tenant_id, chain)
        except (BrokerError, ValueError) as error:
            self._log.error("rule chain {name} of {tenant}: {error}", name=chain.name, tenant=tenant_id, error=error)
        except Exception:
            self._log.failure("rule chain {name} of {tenant} met a bug", name=chain.name, tenant=tenant_id)
        tenant = self._tenants[tenant_id]
        _stop((tenant.active.get(chain.id),))
        tenant.active[chain.id] = made
        self._routes.pop(tenant_id.int, None)
        if made is not None:
            made.start(self._emit)
        self._changed(tenant_id)
        return made

    def _made(self, tenant_id: UUID, chain: StoredChain) -> ActiveChain:
        graph = graph_of(read_graph(chain.graph), NODE_TYPES)
        return activate(graph, chain_id=chain.id, name=chain.name, around=self._surroundings(tenant_id))

    # -- who looks at them

    def root(self, tenant_id: UUID) -> StoredChain:
        """The one where the tenant's messages begin."""
        tenant = self._tenants[tenant_id]
        if tenant.root is None:
            stored = tenant.stored.values()
            tenant.root = next((chain for chain in stored if chain.root), None) or default_chain(tenant_id)
        return tenant.root

    def all(self, tenant_id: UUID) -> list[StoredChain]:
        """All of the tenant's."""
        stored = list(self._tenants[tenant_id].stored.values())
        return stored if any(chain.root for chain in stored) else [self.root(tenant_id), *stored]

    def find(self, tenant_id: UUID, chain_id: UUID) -> StoredChain | None:
        """That one, if it is the tenant's."""
        return next((chain for chain in self.all(tenant_id) if chain.id == chain_id), None)

    def get(self, tenant_id: UUID, chain_id: UUID) -> StoredChain:
        """That one. Raises NotFound."""
        found = self.find(tenant_id, chain_id)
        if found is None:
            raise NotFound(NOT_FOUND)
        return found

    def has_node(self, tenant_id: UUID, node_id: UUID) -> bool:
        """Whether one of the tenant's chains has this node."""
        chains = (self.active(tenant_id, chain.id) for chain in self.all(tenant_id))
        return any(node.id == node_id for chain in chains if chain is not None for node in chain.nodes)

    # -- who changes them

    async def check(self, tenant_id: UUID, graph: MetadataJSON) -> Graph:
        """What this would be. Raises ChainRefused."""
        return await accepted(graph, self._scripts, self._surroundings(tenant_id))

    async def save(self, chain: StoredChain) -> StoredChain:
        """Keep a new one (version 1), or another version of one that is there; its graph was checked before.

        Whether it is the root does not change so. Raises as KeptRules.save_chain.
        """
        tenant = self._tenants[chain.tenant_id]
        there = self.find(chain.tenant_id, chain.id)
        chain = replace(chain, root=there is not None and there.root)
        self.require_room(chain.tenant_id, [chain])
        tenant.coming.append(chain)
        try:
            await self._store.save_chain(chain)
        finally:
            tenant.coming.remove(chain)
        there = tenant.stored.get(chain.id)
        if there is not None:  # it may have become the root, or ceased to be, meanwhile
            chain = replace(chain, root=there.root)
        tenant.stored[chain.id] = chain
        tenant.root = None
        self._activate(chain.tenant_id, chain)
        return chain

    def require_room(self, tenant_id: UUID, chains: Iterable[StoredChain]) -> None:
        """Raises InvalidRequest, or PayloadTooLarge, if the tenant may not have these chains, too."""
        tenant, settings = self._tenants[tenant_id], self._settings()
        before = tenant.stored | {chain.id: chain for chain in tenant.coming}
        after = before | {chain.id: chain for chain in chains}
        if len(after) > max(settings.max_chains, len(before)):
            raise InvalidRequest(f"A tenant has at most {settings.max_chains} rule chains")
        size = _size(after)
        if size > max(settings.max_chains_size, _size(before)):
            raise PayloadTooLarge(
                f"The rule chains of a tenant have at most {settings.max_chains_size} bytes as JSON",
                hint="These are all of them together. The limit is rules.max_chains_size.",
            )

    async def set_root(self, tenant_id: UUID, chain_id: UUID) -> StoredChain:
        """Messages begin at this chain from now on. Raises NotFound."""
        tenant = self._tenants[tenant_id]
        before, chain = self.root(tenant_id), self.get(tenant_id, chain_id)
        if before.id == chain.id:
            return chain
        demoted = None
        if before.id not in tenant.stored:
            demoted = replace(before, root=False, created_time=self._now_ms(), version=1)
        await self._store.set_root(tenant_id, chain_id, demoted=demoted)
        for each in [*tenant.stored.values(), *([demoted] if demoted else [])]:
            tenant.stored[each.id] = replace(each, root=each.id == chain_id)
        tenant.root = None
        self._routes.pop(tenant_id.int, None)
        self._changed(tenant_id)
        return tenant.stored[chain_id]

    async def delete(self, tenant_id: UUID, chain_id: UUID) -> StoredChain:
        """Raises NotFound, and InvalidRequest for the root chain."""
        chain = self.get(tenant_id, chain_id)
        if chain.root:
            raise InvalidRequest("The root rule chain cannot be deleted; make another one the root first")
        if not await self._store.delete_chain(tenant_id, chain_id):
            raise NotFound(NOT_FOUND)
        tenant = self._tenants[tenant_id]
        tenant.stored.pop(chain_id, None)
        _stop((tenant.active.pop(chain_id, None),))
        return chain

    def forget_tenant(self, tenant_id: UUID) -> None:
        """The tenant was deleted, and its chains with it. What its nodes let go passes them for the last time."""
        if tenant_id in self._tenants:
            _stop(tuple(self._tenants[tenant_id].active.values()))
            del self._tenants[tenant_id]
            self._routes.pop(tenant_id.int, None)


def _size(chains: Mapping[UUID, StoredChain]) -> int:
    return sum(len(chain.graph) for chain in chains.values())


def _stop(chains: Iterable[ActiveChain | None]) -> None:
    for chain in chains:
        if chain is not None:
            chain.stop()


_NOTHING = Routes(False, False, False, frozenset())
"""Of a tenant whose root chain cannot be made: what it has not refused it might have to do."""
