"""What chains, and who sends messages through them, may not make grow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from fakes import TENANT, Slow, error_of, result_of
from rule_world import CALL, DELAY, SWITCH, TRANSFORM, RuleWorld, graph
from twisted.internet.defer import Deferred

from rpcbroker.core import jsontext
from rpcbroker.core.calls import CallRequest
from rpcbroker.core.errors import InvalidRequest, PayloadTooLarge, Reason, Unavailable
from rpcbroker.core.model import StoredChain
from rpcbroker.rules.chains import RuleChains
from rpcbroker.rules.message import Originator

HELD = graph([(SWITCH, "Switch", {}), (DELAY, "Wait", {"periodInSeconds": 5})], (0, 1, "Post telemetry"))
SCRIPTED = graph(
    [(SWITCH, "Switch", {}), (TRANSFORM, "Grow", {"jsScript": "grow"}), (DELAY, "Wait", {"periodInSeconds": 5})],
    (0, 1, "Post telemetry"),
    (1, 2, "Success"),
)


def post(world: RuleWorld, text: bytes = b'{"t":1}') -> Any:
    return world.broker.keep_telemetry(world.session(), world.broker.telemetry.parse(text))


def test_what_waits_in_nodes_takes_only_so_much_memory() -> None:
    world = RuleWorld(rules={"max_messages_size": 100_000})
    world.put(HELD)
    text = b'{"t":"%b"}' % (b"x" * 15_000)
    while not world.rules.engine.is_full(TENANT):
        post(world, text)
    assert 1 < world.rules.engine.running.total() < 10
    with pytest.raises(Unavailable, match="all the memory that they may"):
        post(world, text)
    world.clock.advance(6)
    assert not world.rules.engine.held
    post(world, text)


def test_what_grows_in_a_chain_is_not_held() -> None:
    world = RuleWorld(rules={"max_messages_size": 100_000})
    world.put(SCRIPTED)
    grown: list[Deferred[Any]] = []
    world.scripts.known["grow"] = lambda *_: {"msg": "x" * 60_000}
    real = world.scripts.run

    def run(*given: Any) -> Deferred[Any]:
        grown.append(Deferred())
        return grown[-1].addCallback(lambda _: real(*given))

    world.scripts.run = run
    for _ in range(10):
        post(world)
    for each in grown:
        each.callback(None)
    assert sum(world.rules.held.values()) == 2
    assert world.rules.engine.running.total() == 2
    assert world.rules.engine.faults == 8


def test_a_root_chain_that_cannot_be_made_keeps_nothing_and_says_so() -> None:
    """As after a change of what is in the store: devices send again later what was not taken."""
    world = RuleWorld()
    spoilt = StoredChain(
        id=UUID(int=5), tenant_id=TENANT, name="Spoilt", root=True, graph=b'{"nodes":[{}]}', created_time=1
    )
    world.rules.chains.start([spoilt])
    with pytest.raises(Unavailable, match="the root rule chain: it cannot be run"):
        post(world)
    attributes = world.broker.keep_attributes(world.session(), {"a": 1})
    assert isinstance(error_of(attributes), Unavailable)
    asked = world.rules.rest_request(TENANT, Originator("TENANT", TENANT), b"{}", timeout=1)
    assert "the root rule chain: it cannot be run" in error_of(asked).message
    waiting = world.call(CallRequest(method="m", timeout=5))
    world.clock.advance(6)
    assert error_of(waiting).reason is Reason.NOT_FORWARDED
    assert not world.rules.engine.running
    assert len(world.rules.submissions) == len(world.rules.rest_requests) == 0


def test_a_time_line_keeps_only_the_start_of_what_scripts_make() -> None:
    switch = "org.thingsboard.rule.engine.filter.TbJsSwitchNode"
    world = RuleWorld()
    world.put(graph([(switch, "Label", {"jsScript": "label"}), (CALL, "Call", {})]))
    world.scripts.known["label"] = lambda *_: ["x" * 100_000]
    waiting = world.call(CallRequest(method="m", timeout=5))
    world.clock.advance(6)
    rpc_id = error_of(waiting).rpc_id
    record = world.broker.recorder.find(TENANT, rpc_id)
    assert record is not None
    assert max(len(detail or "") for _, _, detail in record.moments) < 1_000


def test_what_was_recorded_keeps_only_the_start_of_labels_and_types() -> None:
    switch = "org.thingsboard.rule.engine.filter.TbJsSwitchNode"
    world = RuleWorld()
    given = graph(
        [(TRANSFORM, "Type", {"jsScript": "type"}), (switch, "Label", {"jsScript": "label"})], (0, 1, "Success")
    )
    given["nodes"][1]["debugSettings"] = {"allEnabledUntil": world.now_ms() + 60_000}
    chain_id = world.put(given)
    world.scripts.known["type"] = lambda *_: {"msgType": "t" * 100_000}
    world.scripts.known["label"] = lambda *_: ["x" * 100_000]
    post(world)
    node = world.rules.chains.active(TENANT, chain_id).nodes[1]  # type: ignore[union-attr]
    came, went = world.rules.debug.of_node(TENANT, node.id)
    assert (len(came.message_type), len(went.label or "")) == (255, 255)


# -- chains themselves


def chain(number: int, text: bytes = b"{}") -> StoredChain:
    return StoredChain(id=UUID(int=0xC0 + number), tenant_id=TENANT, name="C", graph=text, created_time=1)


def begin(chains: RuleChains, one: StoredChain) -> Deferred[StoredChain]:
    return Deferred.fromCoroutine(chains.save(one))


def test_chains_that_are_saved_at_a_time_are_not_more_than_there_may_be() -> None:
    world = RuleWorld(rules={"max_chains": 2})
    with Slow(world.store.rules, "save_chain") as slow:
        saving = [begin(world.rules.chains, chain(number)) for number in range(3)]
        slow.arrive()
    assert isinstance(error_of(saving[2]), InvalidRequest)
    assert len(world.rules.chains.all(TENANT)) == 3  # with the one that is there of itself


def test_all_chains_of_a_tenant_have_only_so_many_bytes() -> None:
    world = RuleWorld(rules={"max_chains_size": 1_000})
    chains = world.rules.chains
    text = jsontext.encode({"nodes": [], "notes": ["x" * 500]})
    one = result_of(begin(chains, chain(1, text)))
    assert isinstance(error_of(begin(chains, chain(2, text))), PayloadTooLarge)
    result_of(begin(chains, replace(one, version=2)))
    world.rules.settings = replace(world.rules.settings, max_chains_size=10)
    result_of(begin(chains, replace(one, version=3)))  # what is there already may be changed


@pytest.mark.parametrize("root_first", [True, False])
def test_a_chain_that_is_saved_while_it_becomes_the_root_is_the_root(root_first: bool) -> None:
    world = RuleWorld()
    chains, chain_id = world.rules.chains, world.put(HELD, root=False)
    stored = chains.get(TENANT, chain_id)
    with Slow(world.store.rules, "set_root") as rooting, Slow(world.store.rules, "save_chain") as saving:
        done = [
            Deferred.fromCoroutine(chains.set_root(TENANT, chain_id)),
            begin(chains, replace(stored, version=stored.version + 1)),
        ]
        for each in (rooting, saving) if root_first else (saving, rooting):
            each.arrive()
    assert all(result_of(each).root for each in done if root_first)
    assert chains.root(TENANT).id == chain_id
    assert [each.id for each in chains.all(TENANT) if each.root] == [chain_id]
