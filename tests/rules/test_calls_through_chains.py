"""Calls of callers on their way through a chain."""

from __future__ import annotations

import pytest
from fakes import result_of
from rule_world import CALL, SWITCH, TYPE_FILTER, RuleWorld, graph

from rpcbroker.core.calls import CallRequest
from rpcbroker.core.errors import CallTimeout, Reason

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
