"""Messages of what happens to persistent calls, to the presence of devices and to their attributes."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest
from fakes import ADMIN, EPOCH_MS, OTHER_TENANT, device, result_of
from rule_world import CALL, SWITCH, TYPE_FILTER, RuleWorld, graph
from twisted.internet.defer import Deferred

from rpcbroker.core import jsontext
from rpcbroker.core.calls import CallRequest, Step
from rpcbroker.core.errors import CallTimeout
from rpcbroker.core.events import CallAdvanced, CallSettled, PresenceChanged
from rpcbroker.core.ledger import Ledger
from rpcbroker.core.model import Scope
from rpcbroker.core.ports import CloseReason
from rpcbroker.rules import types
from rpcbroker.rules.message import RuleMessage
from rpcbroker.schema.calls import rpc_json

STATES = [type_ for type_ in types.LABELS if type_.startswith("RPC_") and type_ != types.CALL]
RPC_ID = UUID(int=0xCA11)


class Heard(RuleWorld):
    """A chain that looks at these types of messages, and calls devices; `heard` are those that came."""

    def __init__(self, *wanted: str, **more: Any) -> None:
        super().__init__(**more)
        nodes: list[Any] = [(SWITCH, "Switch", {}), (CALL, "Call", {})]
        connections = [(0, 1, "RPC Request to Device")]
        for type_ in wanted:
            nodes.append((TYPE_FILTER, type_, {"messageTypes": []}))
            connections.append((0, len(nodes) - 1, types.LABELS[type_]))
            nodes.append((CALL, f"Does something with {type_}", {}))
            connections.append((len(nodes) - 2, len(nodes) - 1, "True"))
            connections.append((len(nodes) - 2, len(nodes) - 1, "False"))
        self.put(graph(nodes, *connections))
        self.heard: list[RuleMessage] = []
        begin = self.rules.engine.begin

        def noted(tenant_id: Any, message: RuleMessage, **named: Any) -> Any:
            self.heard.append(message)
            return begin(tenant_id, message, **named)

        self.rules.engine.begin = noted  # type: ignore[method-assign]

    def news(self) -> list[str]:
        """The types of messages that came since."""
        self.clock.advance(0.1)
        came, self.heard = self.heard, []
        return [each.type for each in came]

    def kept(self) -> Any:
        return result_of(self.store.calls.call(self.device.tenant_id, RPC_ID))


def begin(world: Heard, **more: Any) -> None:
    request = {"method": "m", "params": b'{"a":1}', "persistent": True, "request_id": RPC_ID, "timeout": 60}
    result_of(world.call(CallRequest(**request | more)))


def test_each_state_of_a_persistent_call_is_a_message_with_the_whole_call() -> None:
    world = Heard(*STATES)
    begin(world, retries=2)
    world.clock.advance(0.1)
    assert [(each.type, each.body()) for each in world.heard] == [
        ("RPC_QUEUED", jsontext.decode(jsontext.encode(rpc_json(world.kept()))))
    ]
    queued = world.heard[0]
    assert (queued.originator.id, queued.metadata) == (world.device.id, {})
    assert queued.body()["request"]["body"] == {"method": "m", "params": '{"a":1}'}
    world.heard.clear()
    link = world.link(step=None)
    link.session.report(link.calls[0].wire_id, Step.WRITTEN)
    assert world.news() == ["RPC_SENT"]
    link.session.report(link.calls[0].wire_id, Step.UNACKNOWLEDGED)
    assert world.news() == ["RPC_TIMEOUT"]
    link.session.report(link.calls[0].wire_id, Step.ACKNOWLEDGED)
    assert world.news() == ["RPC_DELIVERED"]
    link.session.receive(link.calls[0].wire_id, b'{"ok":true}')
    world.clock.advance(0.1)
    (answered,) = world.heard
    assert answered.type == "RPC_SUCCESSFUL"
    assert answered.body() == jsontext.decode(jsontext.encode(rpc_json(world.kept())))
    assert answered.body()["response"] == {"ok": True}


@pytest.mark.parametrize(
    ("step", "more", "last"),
    [
        (Step.ACKNOWLEDGED, {"oneway": True}, "RPC_DELIVERED"),
        (None, {"timeout": 5}, "RPC_EXPIRED"),
        (None, {"expiration_time": EPOCH_MS - 1}, "RPC_EXPIRED"),
    ],
)
def test_how_a_call_ends_is_told(step: Step | None, more: dict[str, Any], last: str) -> None:
    world = Heard(*STATES)
    world.link(step=step)
    with suppress(CallTimeout):  # of the one that had expired
        begin(world, **more)
    world.clock.advance(6)
    world.clock.advance(1.1)
    assert world.news()[-1] == last


def test_a_failed_call_is_told() -> None:
    world = Heard(*STATES)
    link = world.link(step=None)
    begin(world, retries=0)
    link.session.report(link.calls[0].wire_id, Step.WRITTEN)
    link.session.report(link.calls[0].wire_id, Step.UNACKNOWLEDGED)
    assert world.news() == ["RPC_QUEUED", "RPC_SENT", "RPC_FAILED"]


@pytest.mark.parametrize("ended", [True, False])
def test_a_call_that_is_deleted_is_told_once(ended: bool) -> None:
    world = Heard(*STATES)
    begin(world)
    if ended:
        world.link(reply=b"1")
    world.news()
    ledger = Ledger(broker=world.broker, store=world.store)
    result_of(Deferred.fromCoroutine(ledger.delete(ADMIN, RPC_ID)))
    world.clock.advance(0.1)
    assert [(each.type, each.body()["status"]) for each in world.heard] == [("RPC_DELETED", "DELETED")]


def test_lightweight_calls_have_no_such_messages() -> None:
    world = Heard(*STATES)
    world.link(reply=b"1")
    result_of(world.call(CallRequest(method="m")))
    assert world.news() == []


def test_only_what_the_chain_does_anything_with_is_a_message_and_only_for_its_tenant() -> None:
    world = Heard("RPC_SENT")
    foreign = device(500, tenant=OTHER_TENANT)
    world.add(foreign)
    world.link(foreign, step=Step.WRITTEN)
    world.link(step=Step.WRITTEN)
    begin(world)
    foreign_session = world.session(foreign)
    result_of(world.broker.submit(foreign_session, CallRequest(method="m", persistent=True), by="x"))
    assert world.news() == ["RPC_SENT"]


def test_what_no_chain_does_anything_with_is_not_listened_for() -> None:
    world = Heard()

    def listened() -> list[Any]:
        kinds = (CallAdvanced, CallSettled, PresenceChanged)
        return [kind for kind in kinds if world.broker.events._listeners.get(kind)]

    before = listened()
    default = world.rules.chains.all(world.device.tenant_id)[0].id
    chain = world.put(
        graph([(SWITCH, "Switch", {}), (CALL, "Call", {})], (0, 1, "Connect Event"), (0, 1, "RPC Sent")),
    )
    assert set(listened()) == {*before, CallAdvanced, PresenceChanged}
    result_of(Deferred.fromCoroutine(world.rules.chains.set_root(world.device.tenant_id, default)))
    assert listened() == before
    result_of(Deferred.fromCoroutine(world.rules.chains.set_root(world.device.tenant_id, chain)))
    assert set(listened()) == {*before, CallAdvanced, PresenceChanged}
    world.rules.forget_tenant(world.device.tenant_id)
    assert listened() == before


def test_connections_are_told_as_they_come_and_go() -> None:
    world = Heard(types.CONNECTED, types.DISCONNECTED)
    link = world.link()
    world.clock.advance(0.1)
    (came,) = world.heard
    assert (came.type, came.body(), came.metadata) == (
        "CONNECT_EVENT",
        {"lastConnectTime": EPOCH_MS},
        {"deviceName": "device-100", "deviceType": "default", "scope": "SERVER_SCOPE"},
    )
    world.heard.clear()
    link.session.seen("FAKE")
    link.session.unsubscribe(link, "it said so")
    assert world.news() == []
    link.session.detach(link, "the cable broke")
    world.clock.advance(0.1)
    (left,) = world.heard
    assert (left.type, left.body()["active"]) == ("DISCONNECT_EVENT", False)
    assert left.body()["lastDisconnectTime"] > EPOCH_MS
    world.heard.clear()
    link.session.seen("HTTP")
    assert world.news() == []
    link.session.attach(link)
    link.session.close(CloseReason.SHUTTING_DOWN)
    assert world.news() == ["CONNECT_EVENT", "DISCONNECT_EVENT"]


def test_attributes_that_applications_change_are_told() -> None:
    world = Heard(types.ATTRIBUTES_UPDATED, types.ATTRIBUTES_DELETED)
    session = world.session()
    result_of(Deferred.fromCoroutine(world.broker.write_attributes(session, Scope.SHARED, {"a": 1, "b": "x"})))
    result_of(Deferred.fromCoroutine(world.broker.delete_attributes(session, Scope.SHARED, ["a", "none"])))
    result_of(Deferred.fromCoroutine(world.broker.delete_attributes(session, Scope.SHARED, ["none"])))
    result_of(world.broker.keep_attributes(session, {"own": 1}))
    world.clock.advance(0.1)
    told = [each for each in world.heard if each.type != types.ATTRIBUTES]
    assert [(each.type, each.body(), each.metadata["scope"]) for each in told] == [
        ("ATTRIBUTES_UPDATED", {"a": 1, "b": "x"}, "SHARED_SCOPE"),
        ("ATTRIBUTES_DELETED", {"attributes": ["a"]}, "SHARED_SCOPE"),
    ]


def test_a_chain_that_has_too_many_messages_loses_some_and_disturbs_nobody() -> None:
    world = Heard(*STATES, rules={"max_messages": 1})
    begin(world)
    begin(world, request_id=UUID(int=0xCA12))
    world.clock.advance(0.1)
    assert world.kept().record.state == "QUEUED"
