"""Questions of devices on their way through a chain."""

from __future__ import annotations

import pytest
from fakes import EPOCH_MS, result_of
from rule_world import REPLY, SWITCH, RuleWorld, graph
from twisted.internet.defer import maybeDeferred

from rpcbroker.core.errors import CallFailed
from rpcbroker.core.near_misses import MAX_DETAIL, NearMiss
from rpcbroker.core.questions import Question

ECHO = graph([(SWITCH, "Switch", {}), (REPLY, "Reply", {})], (0, 1, "RPC Request from Device"))
SILENT = graph([(SWITCH, "Switch", {})])


def ask(world: RuleWorld, method: str, params: bytes = b"null") -> bytes:
    asked = Question(method=method, params=params, transport="TEST")
    return result_of(maybeDeferred(world.broker.ask, world.session(), asked))


def test_a_reply_node_answers_with_the_data_of_the_message() -> None:
    world = RuleWorld()
    world.put(ECHO)
    assert ask(world, "m", b"[1]") == b'{"method":"m","params":[1]}'
    assert len(world.rules.questions) == 0


def test_what_no_node_answers_the_broker_does_if_it_can() -> None:
    world = RuleWorld()
    world.put(SILENT)
    assert ask(world, "getCurrentTime") == b"%d" % EPOCH_MS
    assert ask(world, "ping") == b'"pong"'
    with pytest.raises(CallFailed, match='no rule answers the method "other"'):
        ask(world, "other")
    assert len(world.rules.questions) == 0


def test_a_question_that_no_rule_answers_is_a_near_miss_of_its_device() -> None:
    world = RuleWorld()
    world.put(SILENT)
    ask(world, "ping")
    assert world.session().near_misses() == ()
    with pytest.raises(CallFailed):
        ask(world, "x" * 1000)
    ((kind, missed),) = world.session().near_misses()
    assert (kind, missed.count, len(missed.detail)) == (NearMiss.NO_HANDLER, 1, MAX_DETAIL)
