"""What the broker itself answers to questions of devices, and what becomes of those that it does not know."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes import EPOCH_MS, World, device, result_of
from twisted.internet.defer import maybeDeferred

from rpcbroker.core.errors import CallFailed, InvalidRequest, Reason
from rpcbroker.core.model import Scope
from rpcbroker.core.near_misses import HINTS, NearMiss
from rpcbroker.core.questions import Question

OWN = {"getSessionLimits": lambda: b'{"rateLimits":{}}', "ping": lambda: b'"not the transport\'s"'}


@pytest.fixture
def world() -> World:
    return World()


def ask(world: World, method: str, params: bytes = b"null", **more: Any) -> Any:
    question = Question(method=method, params=params, transport="TEST", **more)
    return json.loads(result_of(maybeDeferred(world.broker.ask, world.session(), question)))


def test_the_time_is_that_of_now(world: World) -> None:
    world.clock.advance(1.5)
    assert ask(world, "getCurrentTime") == EPOCH_MS + 1500


@pytest.mark.parametrize("params", [b"null", b"{}", b"[1]", b'"x"'])
def test_a_ping_is_answered_whatever_its_params(world: World, params: bytes) -> None:
    assert ask(world, "ping", params) == "pong"


def test_what_only_the_transport_knows_it_answers_and_nothing_that_the_broker_does(world: World) -> None:
    assert ask(world, "getSessionLimits", own=OWN) == {"rateLimits": {}}
    assert ask(world, "ping", own=OWN) == "pong"


def test_the_methods_are_those_of_the_broker_and_of_the_transport(world: World) -> None:
    known = ["getAttributes", "getCurrentTime", "getMethods", "ping"]
    assert ask(world, "getMethods") == known
    assert ask(world, "getMethods", own=OWN) == sorted([*known, "getSessionLimits"])
    for method in ask(world, "getMethods", own=OWN):
        ask(world, method, own=OWN)


@pytest.fixture
def filled(world: World) -> World:
    another = device(7)
    world.add(another)
    for scope, values in (
        (Scope.CLIENT, {"firmware": "1.2", "Größe": [1, {"x": None}]}),
        (Scope.SHARED, {"interval": 60}),
        (Scope.SERVER, {"secret": 1}),
    ):
        result_of(world.broker.attributes.save(world.device.id, scope, values))
    result_of(world.broker.attributes.save(another.id, Scope.SHARED, {"interval": 1}))
    return world


WANTED: dict[bytes, dict[str, Any]] = {
    b"null": {"client": {"firmware": "1.2", "Größe": [1, {"x": None}]}, "shared": {"interval": 60}},
    b"{}": {"client": {"firmware": "1.2", "Größe": [1, {"x": None}]}, "shared": {"interval": 60}},
    b'{"clientKeys":"firmware , none"}': {"client": {"firmware": "1.2"}, "shared": {}},
    b'{"sharedKeys":"interval"}': {"client": {}, "shared": {"interval": 60}},
    b'{"clientKeys":"firmware","sharedKeys":"interval","more":1}': {
        "client": {"firmware": "1.2"},
        "shared": {"interval": 60},
    },
    b'{"sharedKeys":"secret"}': {"client": {}, "shared": {}},
}


@pytest.mark.parametrize("params", WANTED)
def test_a_device_gets_its_own_attributes_but_none_of_the_server(filled: World, params: bytes) -> None:
    assert ask(filled, "getAttributes", params) == WANTED[params]


@pytest.mark.parametrize("params", [b"[]", b"5", b'"firmware"', b'{"clientKeys":["firmware"]}', b'{"sharedKeys":7}'])
def test_params_that_cannot_be_are_refused(filled: World, params: bytes) -> None:
    with pytest.raises(InvalidRequest, match="getAttributes takes clientKeys and sharedKeys"):
        ask(filled, "getAttributes", params)


def test_a_method_that_nobody_answers_is_named_and_kept_as_a_near_miss(world: World) -> None:
    for method in ("open the door", "getcurrenttime"):
        with pytest.raises(CallFailed, match=f'no rule answers the method "{method}"') as refused:
            ask(world, method)
        assert refused.value.reason is Reason.NO_HANDLER
    ((kind, missed),) = world.session().near_misses()
    assert (kind, missed.count) == (NearMiss.NO_HANDLER, 2)
    assert missed.detail == "has asked 'getcurrenttime', which nobody answers"
    assert "getMethods" in HINTS[kind]


def test_questions_that_are_answered_or_refused_are_no_near_misses(world: World) -> None:
    ask(world, "ping")
    with pytest.raises(InvalidRequest):
        ask(world, "getAttributes", b"[]")
    assert world.session().near_misses() == ()
