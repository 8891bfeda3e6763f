"""Calls of callers on their way through a chain."""

from __future__ import annotations

import pytest
from fakes import result_of
from rule_world import CALL, SWITCH, TYPE_FILTER, RuleWorld, graph

from rpcbroker.cli.telling import tell
from rpcbroker.core.calls import CallRequest
from rpcbroker.core.errors import CallTimeout, Reason
from rpcbroker.schema.calls import timeline_json

FORWARDING = graph([(SWITCH, "Switch", {}), (CALL, "Call", {})], (0, 1, "RPC Request to Device"))
DROPPING = graph([(SWITCH, "Switch", {}), (TYPE_FILTER, "Filter", {})], (0, 1, "RPC Request to Device"))


@pytest.mark.parametrize("direct", [True, False])
def test_the_device_gets_the_call_and_the_caller_its_reply(direct: bool) -> None:
    world = RuleWorld(direct=direct)
    world.put(FORWARDING)
    assert world.broker.rules.routes(world.device.tenant_id).calls is direct
    link = world.link(reply=b'{"on":true}')
    reply = result_of(world.call(CallRequest(method="set", params=b'{"a":[1]}')))
    assert reply.payload == b'{"on":true}'
    assert [(call.method, call.params) for call in link.calls] == [("set", b'{"a":[1]}')]
    assert len(world.rules.submissions) == 0


def test_a_call_that_no_node_takes_ends_at_its_expiration_time() -> None:
    world = RuleWorld()
    world.put(DROPPING)
    link = world.link(reply=b"1")
    waiting = world.call(CallRequest(method="m", timeout=10))
    world.clock.advance(9.9)
    assert not waiting.called
    world.clock.advance(0.2)
    error = waiting.result.value  # type: ignore[union-attr]
    waiting.addErrback(lambda _: None)
    assert isinstance(error, CallTimeout)
    assert error.reason is Reason.NOT_FORWARDED
    assert link.calls == []
    assert len(world.rules.submissions) == 0


def test_what_became_of_a_call_that_a_chain_dropped_reads_well() -> None:
    world = RuleWorld()
    world.put(DROPPING, name="Floor")
    waiting = world.call(CallRequest(method="m", timeout=10))
    world.clock.advance(10)
    rpc_id = waiting.result.value.rpc_id  # type: ignore[union-attr]
    waiting.addErrback(lambda _: None)
    record = world.broker.recorder.find(world.device.tenant_id, rpc_id)
    assert record is not None
    story = tell(timeline_json(record, "lamp"), now=world.now_ms())
    assert (
        "It was allowed, was routed through the rule chain, "
        "passed 'Switch' of chain 'Floor' as 'RPC Request to Device', passed 'Filter' of chain 'Floor' as 'False', "
        "and passed no further node: chain 'Floor' ended at 'Filter' without giving the call to its device. "
        "It expired at "
    ) in story.text
    assert story.text.endswith("for no rule chain gave it to the device. It took 10 s in all.")
    assert story.hint is not None
    assert "rpcbroker rules test" in story.hint
