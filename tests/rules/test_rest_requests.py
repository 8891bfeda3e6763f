"""Requests over REST on their way through a chain."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import EPOCH_MS, OTHER_TENANT, TENANT, error_of, result_of
from node_bench import Bench, passed
from rule_world import DELAY, REST_REPLY, SWITCH, TRANSFORM, RuleWorld, graph
from twisted.internet.defer import CancelledError, Deferred

from rpcbroker.core.errors import QuestionTimedOut, Reason, Unavailable
from rpcbroker.rules.message import DEVICE, Originator

REPLY = "rest.TbSendRestApiCallReplyNode"
REQUEST = "REST API request"


def asked(world: RuleWorld, data: bytes = b'{"a":[1]}', tenant: Any = TENANT, **more: Any) -> Deferred[bytes]:
    originator = Originator(DEVICE, world.device.id)
    return world.rules.rest_request(tenant, originator, data, **{"timeout": 10} | more)


def world_of(*nodes: Any, **more: Any) -> RuleWorld:
    """A switch, and these nodes in a row behind it."""
    world = RuleWorld(**more)
    rows = [(SWITCH, "Switch", {}), *((type_, f"N{number}", given) for number, (type_, given) in enumerate(nodes))]
    connections = [(number, number + 1, "Success" if number else REQUEST) for number in range(len(rows) - 1)]
    world.put(graph(rows, *connections))
    return world


def test_a_reply_node_answers_with_the_data_of_the_message() -> None:
    world = world_of((REST_REPLY, {}))
    assert result_of(asked(world)) == b'{"a":[1]}'
    assert len(world.rules.rest_requests) == 0
    assert world.rules.rest_requests.dropped == 0


def test_the_message_has_what_the_answer_needs() -> None:
    world = world_of((TRANSFORM, {"jsScript": "look"}), (REST_REPLY, {}))
    seen: list[Any] = []
    world.scripts.known["look"] = lambda *given: seen.append(given) or {"msg": "not an object"}
    assert result_of(asked(world)) == b'"not an object"'
    ((body, metadata, type_),) = seen
    assert (body, type_) == ({"a": [1]}, "REST_API_REQUEST")
    assert sorted(metadata) == ["expirationTime", "requestUUID", "serviceId"]
    assert metadata["expirationTime"] == str(EPOCH_MS + 10_000)


@pytest.mark.parametrize(
    ("metadata", "data", "text"),
    [
        ({"serviceId": "x"}, {}, "Request id is not present in the metadata!"),
        ({"requestUUID": "x"}, {}, "Service id is not present in the metadata!"),
        ({"requestUUID": "x", "serviceId": "x"}, b"", "Request body is empty!"),
    ],
)
def test_what_a_reply_node_needs(metadata: dict[str, str], data: Any, text: str) -> None:
    assert passed(REPLY, {}, data, metadata=metadata).failure == text


def test_the_metadata_may_have_other_names() -> None:
    names = {"serviceIdMetaDataAttribute": "s", "requestIdMetaDataAttribute": "r"}
    assert passed(REPLY, names, {}, metadata={"s": "x", "r": "y"}).labels == ["Success"]
    blank = {"serviceIdMetaDataAttribute": " ", "requestIdMetaDataAttribute": ""}
    assert passed(REPLY, blank, {}, metadata={"serviceId": "x", "requestUUID": "y"}).labels == ["Success"]


def test_who_is_answered_by_nobody_hears_it_at_once_and_why() -> None:
    world = world_of((TRANSFORM, {"jsScript": "unknown"}))
    error = error_of(asked(world))
    assert isinstance(error, QuestionTimedOut)
    assert error.reason is Reason.NO_HANDLER
    assert error.message == "No rule answers the request: N0: 'unknown' is not known to this test"
    assert len(world.rules.rest_requests) == 0


def test_a_chain_that_takes_too_long_is_too_late() -> None:
    world = world_of((DELAY, {"periodInSeconds": 60}), (REST_REPLY, {}))
    waiting = asked(world)
    world.clock.advance(9.9)
    assert not waiting.called
    world.clock.advance(0.2)
    assert error_of(waiting).reason is Reason.NO_REPLY
    world.clock.advance(60)
    assert world.rules.rest_requests.dropped == 1
    assert world.rules.engine.running.total() == 0


def test_the_second_answer_is_dropped() -> None:
    world = world_of((REST_REPLY, {}), (REST_REPLY, {}))
    assert result_of(asked(world)) == b'{"a":[1]}'
    assert world.rules.rest_requests.dropped == 1


def test_who_leaves_is_not_answered() -> None:
    world = world_of((DELAY, {"periodInSeconds": 1}), (REST_REPLY, {}))
    waiting = asked(world)
    waiting.cancel()
    assert isinstance(error_of(waiting), CancelledError)
    world.clock.advance(2)
    assert world.rules.rest_requests.dropped == 1


def test_another_tenants_chain_cannot_answer() -> None:
    bench = Bench(REPLY, {}, world_of((DELAY, {"periodInSeconds": 60})))
    world = bench.world
    waiting = asked(world, tenant=OTHER_TENANT, timeout=5)
    world.put(graph([(DELAY, "Wait", {"periodInSeconds": 60})]), tenant_id=TENANT)
    assert isinstance(error_of(waiting), QuestionTimedOut)  # the other tenant's default chain only logs
    held = asked(world)
    (key,) = world.rules.rest_requests._waiting
    world.rules.rest_requests.respond(OTHER_TENANT, key[1], b"1")
    assert not held.called
    assert world.rules.rest_requests.dropped == 1
    world.rules.rest_requests.respond(TENANT, key[1], b"1")
    assert result_of(held) == b"1"


def test_too_many_messages_and_the_end_of_the_server_refuse() -> None:
    world = world_of((DELAY, {"periodInSeconds": 60}), rules={"max_messages": 1})
    held = asked(world)
    assert isinstance(error_of(asked(world)), Unavailable)
    world.broker.rules.stop()
    assert error_of(held).reason is Reason.SHUTTING_DOWN
    assert error_of(asked(world)).reason is Reason.SHUTTING_DOWN
    assert len(world.rules.rest_requests) == 0
