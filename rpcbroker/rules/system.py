"""Puts the rules together: chains, the engine, and what waits in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from operator import attrgetter
from uuid import UUID

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from rpcbroker.core.broker import Broker
from rpcbroker.core.errors import Unavailable
from rpcbroker.core.model import StoredChain
from rpcbroker.core.ports import Store
from rpcbroker.core.rules_settings import RulesSettings
from rpcbroker.rules.active import ActiveChain, ActiveNode
from rpcbroker.rules.chains import RuleChains
from rpcbroker.rules.debug import DebugEvents
from rpcbroker.rules.engine import Engine
from rpcbroker.rules.estate import TenantEstate
from rpcbroker.rules.happenings import Happenings, Render
from rpcbroker.rules.message import Originator
from rpcbroker.rules.messages import Messages
from rpcbroker.rules.node import Out
from rpcbroker.rules.ports import RuleSurroundings, Scripts, WebCalls
from rpcbroker.rules.rest_requests import RestRequests
from rpcbroker.rules.submissions import Submissions
from rpcbroker.rules.traffic import Traffic
from rpcbroker.rules.waiting_questions import WaitingQuestions


class RuleSystem:
    """All rules of one process."""

    _log = Logger()

    def __init__(
        self,
        *,
        broker: Broker,
        store: Store,
        scripts: Scripts,
        web: WebCalls,
        settings: RulesSettings,
        now_ms: Callable[[], int],
        new_uuid: Callable[[], UUID],
        render: Render,
        direct: bool = True,
    ) -> None:
        """`render` makes the JSON text of a persistent call; `direct` as RuleChains has it."""
        self.settings = settings
        """Read whenever a limit is needed: put others here, and they hold from then on."""
        self._broker = broker
        self._store = store
        self._scripts = scripts
        self._web = web
        self._now_ms = now_ms
        self._new_uuid = new_uuid
        self.held: Counter[UUID] = Counter()
        """Tenant -> messages that its delay nodes hold."""
        self.messages = messages = Messages(now_ms=now_ms, new_uuid=new_uuid)
        self.chains = RuleChains(
            store.rules,
            scripts,
            surroundings=self.surroundings,
            emit=self._emitted,
            settings=lambda: self.settings,
            now_ms=now_ms,
            new_uuid=new_uuid,
            changed=self._chains_changed,
            direct=direct,
        )
        self.debug = DebugEvents(lambda: self.settings, events=broker.events, now_ms=now_ms, new_uuid=new_uuid)
        self.engine = Engine(
            self.chains.active,
            max_hops=lambda: self.settings.max_hops,
            max_messages=lambda: self.settings.max_messages,
            max_size=lambda: self.settings.max_messages_size,
            watches=attrgetter("recorded"),
            tell=self.debug.passed,
            arrived=self.debug.arrived,
        )
        self._happenings = Happenings(broker.events, broker.deadlines, self.engine, messages, render=render)
        self.submissions = Submissions(broker, self.engine, messages)
        self.questions = WaitingQuestions(broker, self.engine, messages, lambda: self.settings)
        self.rest_requests = RestRequests(self.engine, messages, broker.deadlines)
        self.traffic = Traffic(
            self.chains,
            self.engine,
            messages,
            questions=self.questions,
            submissions=self.submissions,
            rest_requests=self.rest_requests,
        )

    def start(self, stored: Iterable[StoredChain]) -> None:
        """From now on all that comes in passes the chains of its tenant."""
        self._broker.rules = self.traffic
        self.chains.start(stored)

    def rest_request(
        self,
        tenant_id: UUID,
        originator: Originator,
        data: bytes,
        *,
        timeout: float,
    ) -> Deferred[bytes]:
        """What a rest call reply node of the tenant's chains answers to the JSON text `data`, which comes in as a
        message about `originator`: that must be the tenant's. `timeout` is seconds.

        Fails with QuestionTimedOut when the time is over, and at once when the chain has ended without an answer;
        with Unavailable. Cancelling it is to ask no more.
        """
        return self.rest_requests.begin(tenant_id, originator, data, timeout=timeout)

    def _chains_changed(self, tenant_id: UUID) -> None:
        self._happenings.hear(tenant_id, self.chains.routes(tenant_id).heard)

    def forget_tenant(self, tenant_id: UUID) -> None:
        """The tenant was deleted, and all that is its."""
        self.chains.forget_tenant(tenant_id)
        self.debug.forget_tenant(tenant_id)
        self._happenings.hear(tenant_id, frozenset())

    def surroundings(self, tenant_id: UUID) -> RuleSurroundings:
        """What the nodes of this tenant's chains are given."""
        return RuleSurroundings(
            tenant_id=tenant_id,
            estate=TenantEstate(
                tenant_id,
                broker=self._broker,
                store=self._store,
                submissions=self.submissions,
                questions=self.questions,
                rest_requests=self.rest_requests,
            ),
            scripts=self._scripts,
            web=self._web,
            deadlines=self._broker.deadlines,
            now_ms=self._now_ms,
            new_uuid=self._new_uuid,
            settings=lambda: self.settings,
            log=self._logged,
            held=self.held,
        )

    def _emitted(self, chain: ActiveChain, node: ActiveNode, out: Out) -> None:
        try:
            self.engine.begin(chain.tenant_id, out.message, chain=chain, behind=(node, out.label))
        except Unavailable as error:
            why = error.message
            self._log.warn("{node} of rule chain {chain}: {why}", node=node.name, chain=chain.name, why=why)

    def _logged(self, node: str, text: str, usual: bool) -> None:
        if usual:
            self._log.debug("{node}: {text}", node=node, text=text)
        else:
            self._log.info("{node}: {text}", node=node, text=text)
