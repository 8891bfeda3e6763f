"""Messages that are taken through rule chains without effects, over REST."""

from __future__ import annotations

from uuid import UUID

from rpcbroker.api import checks
from rpcbroker.core.errors import NotFound, TooManyRequests
from rpcbroker.core.model import Principal, StoredChain
from rpcbroker.rules.dry import DryRun
from rpcbroker.rules.dry_ports import DryMessage
from rpcbroker.rules.format import ChainFile, ChainJSON, RefJSON
from rpcbroker.rules.path_format import PathJSON, path_json
from rpcbroker.rules.saving import entered, kept_graph
from rpcbroker.rules.system import RuleSystem


class RuleTrials:
    """The handler of `/api/ruleChain/{id}/test`."""

    def __init__(self, rules: RuleSystem) -> None:
        self._rules = rules
        self._busy: set[UUID] = set()
        """Tenants that try a message now."""

    async def test(self, principal: Principal, *, rule_chain_id: UUID, body: DryMessage) -> PathJSON:
        """Take a message through a rule chain without effects, and tell its path.

        Nothing is called, saved, or sent to other servers: what would have been is told. Scripts are run; delays take
        no time. A tenant can try one message at a time.
        """
        chains = self._with_entered(principal.tenant_id, rule_chain_id)
        checks.plain("type", body.type)
        if principal.tenant_id in self._busy:
            raise TooManyRequests("Another message is tried just now", retry_after=1.0)
        around = self._rules.surroundings(principal.tenant_id)
        run = DryRun(
            [_file(chain) for chain in chains],
            body,
            scripts=around.scripts,
            now_ms=around.now_ms(),
            new_uuid=around.new_uuid,
            settings=self._rules.settings,
            tenant_id=principal.tenant_id,
        )
        self._busy.add(principal.tenant_id)
        try:
            return path_json(await run.run())
        finally:
            self._busy.discard(principal.tenant_id)

    def _with_entered(self, tenant_id: UUID, chain_id: UUID) -> list[StoredChain]:
        """The chain, and after it all that messages may enter from it. Raises NotFound."""
        stored = {chain.id: chain for chain in self._rules.chains.all(tenant_id)}
        if chain_id not in stored:
            raise NotFound(f"Rule chain with id [{chain_id}] is not found")
        by_name = {str(chain.id): chain.id for chain in stored.values()}
        root = next((chain.id for chain in stored.values() if chain.root), None)
        todo, found = [chain_id], dict[UUID, StoredChain]()
        while todo:
            chain = stored[todo.pop()]
            if chain.id not in found:
                found[chain.id] = chain
                targets = (root if each is None else by_name.get(each.lower()) for each in entered(kept_graph(chain)))
                todo += [each for each in targets if each is not None]
        return list(found.values())


def _file(chain: StoredChain) -> ChainFile:
    reference = RefJSON(str(chain.id), "RULE_CHAIN")
    return ChainFile(ChainJSON(name=chain.name, id=reference, root=chain.root), kept_graph(chain))
