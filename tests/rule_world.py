"""A World with rule chains. If no others are given, scripts are Python functions, and other servers are a list of
answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from fakes import TENANT, World, result_of
from twisted.internet.defer import Deferred, fail, succeed

from rpcbroker.core import jsontext
from rpcbroker.core.model import StoredChain
from rpcbroker.core.rules_settings import RulesSettings
from rpcbroker.rules.ports import Script, ScriptFailed, WebCallFailed, WebRequest, WebResponse
from rpcbroker.rules.system import RuleSystem
from rpcbroker.schema.calls import rpc_text

RULES = "org.thingsboard.rule.engine"
SWITCH = f"{RULES}.filter.TbMsgTypeSwitchNode"
TYPE_FILTER = f"{RULES}.filter.TbMsgTypeFilterNode"
CALL = f"{RULES}.rpc.TbSendRPCRequestNode"
REPLY = f"{RULES}.rpc.TbSendRPCReplyNode"
DELAY = f"{RULES}.delay.TbMsgDelayNode"
TRANSFORM = f"{RULES}.transform.TbTransformMsgNode"
SAVE_TELEMETRY = f"{RULES}.telemetry.TbMsgTimeseriesNode"
SAVE_ATTRIBUTES = f"{RULES}.telemetry.TbMsgAttributesNode"
REST_REPLY = f"{RULES}.rest.TbSendRestApiCallReplyNode"


@dataclass
class FakeScripts:
    """`known`: source -> what it does. Any other source fails."""

    known: dict[str, Callable[..., Any]] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    checked: list[Script] = field(default_factory=list)

    def check(self, script: Script) -> Deferred[None]:
        self.checked.append(script)
        return succeed(None)

    def run(self, tenant_id: UUID, script: Script, values: Sequence[Any]) -> Deferred[Any]:
        self.ran.append(script.source)
        function = self.known.get(script.source)
        if function is None:
            return fail(ScriptFailed(f"{script.source!r} is not known to this test"))
        return succeed(function(*values))


@dataclass
class FakeWeb:
    """`answers` are given one after the other; then nobody answers."""

    answers: list[WebResponse | Deferred[WebResponse]] = field(default_factory=list)
    asked: list[WebRequest] = field(default_factory=list)
    tenants: list[UUID] = field(default_factory=list)

    def call(self, tenant_id: UUID, request: WebRequest) -> Deferred[WebResponse]:
        self.asked.append(request)
        self.tenants.append(tenant_id)
        if not self.answers:
            return fail(WebCallFailed("nobody answers"))
        answer = self.answers.pop(0)
        return answer if isinstance(answer, Deferred) else succeed(answer)


class RuleWorld(World):
    """`direct` False: everything passes the chains."""

    def __init__(
        self,
        *,
        direct: bool = True,
        rules: dict[str, Any] | None = None,
        scripts: Any = None,
        web: Any = None,
        **more: Any,
    ) -> None:
        super().__init__(**more)
        self.scripts = scripts or FakeScripts()
        self.web = web or FakeWeb()
        self.rules = rules_of(self, self.scripts, self.web, direct=direct, **(rules or {}))

    def put(self, graph: dict[str, Any], *, tenant_id: UUID = TENANT, name: str = "Test", root: bool = True) -> UUID:
        """A chain of the tenant, the root one if that is wanted."""
        return put(self, self.rules, graph, tenant_id=tenant_id, name=name, root=root)


def rules_of(
    world: World,
    scripts: FakeScripts | None = None,
    web: FakeWeb | None = None,
    *,
    direct: bool = True,
    **settings: Any,
) -> RuleSystem:
    """Rule chains for any World, begun."""
    rules = RuleSystem(
        broker=world.broker,
        store=world.store,
        scripts=scripts or FakeScripts(),
        web=web or FakeWeb(),
        settings=RulesSettings(**settings),
        now_ms=world.now_ms,
        new_uuid=world.new_uuid,
        render=rpc_text,
        direct=direct,
    )
    rules.start(world.opened.rule_chains)
    return rules


def put(
    world: World,
    rules: RuleSystem,
    graph: dict[str, Any],
    *,
    tenant_id: UUID = TENANT,
    name: str = "Test",
    root: bool = True,
) -> UUID:
    """As RuleWorld.put."""
    chain = StoredChain(
        id=world.new_uuid(),
        tenant_id=tenant_id,
        name=name,
        graph=jsontext.encode(graph),
        created_time=world.now_ms(),
    )
    result_of(Deferred.fromCoroutine(rules.chains.save(chain)))
    if root:
        result_of(Deferred.fromCoroutine(rules.chains.set_root(tenant_id, chain.id)))
    return chain.id


def graph(nodes: Sequence[tuple[str, str, dict[str, Any]]], *connections: tuple[int, int, str], first: int = 0) -> Any:
    """Nodes as (type, name, configuration), connections as (from, to, label)."""
    return {
        "firstNodeIndex": first,
        "nodes": [{"type": type_, "name": name, "configuration": config} for type_, name, config in nodes],
        "connections": [{"fromIndex": start, "toIndex": end, "type": label} for start, end, label in connections],
    }
