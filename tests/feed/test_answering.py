"""Applications that answer questions of devices: what the device gets, when they fail, leave, or take too long."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from fakes import ADMIN, OTHER_TENANT, device, error_of
from feeding import feed_of
from rule_world import REPLY, SWITCH, RuleWorld, graph
from sessions import FakeConnection
from twisted.internet.defer import Deferred, maybeDeferred

from rpcbroker.core.audit import AuditTrail
from rpcbroker.core.errors import CallFailed, NobodyAnswers, QuestionTimedOut, Reason
from rpcbroker.core.events import QuestionAnswered
from rpcbroker.core.model import Principal
from rpcbroker.core.questions import Question
from rpcbroker.core.settings import AuditSettings, Settings
from rpcbroker.feed.messages import Type
from rpcbroker.feed.wamp import Wamp

KNOWN = {"admin": ADMIN, "other": replace(ADMIN, tenant_id=OTHER_TENANT)}


class Rights:
    """Tickets are names of principals."""

    def of_ticket(self, ticket: str) -> Principal:
        return KNOWN[ticket]

    def count(self, principal: Principal) -> None:
        """As often as they like."""


class Application:
    """A session that answers; `cancels`: it can be interrupted."""

    def __init__(self, world: Asked, *, ticket: str = "admin") -> None:
        self.connection = FakeConnection()
        self.connection.close = lambda code, reason: None  # type: ignore[method-assign]
        self.session = world.wamp.router.connected(self.connection)
        roles = {"callee": {"features": {"call_canceling": True}}}
        self.say(Type.HELLO, "rpcbroker", {"roles": roles, "authmethods": ["ticket"]})
        self.say(Type.AUTHENTICATE, ticket, {})
        self.requests = count(1)

    def say(self, *message: Any) -> None:
        self.session.receive([int(message[0]), *message[1:]])

    def register(self, method: str, **options: Any) -> None:
        self.say(Type.REGISTER, next(self.requests), options, f"rpcbroker.method.{method}")
        assert self.connection.sent[-1][0] == Type.REGISTERED, self.connection.sent[-1]

    def invocation(self) -> list[Any]:
        message = self.connection.sent[-1]
        assert message[0] == Type.INVOCATION
        return message

    def answer(self, *args: Any, **kwargs: Any) -> None:
        self.say(Type.YIELD, self.invocation()[1], {}, list(args), kwargs)

    def fail(self, uri: str, *args: Any) -> None:
        self.say(Type.ERROR, int(Type.INVOCATION), self.invocation()[1], {}, uri, list(args))


class Asked(RuleWorld):
    """Devices that ask."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.wamp = Wamp(
            settings=Settings(),
            broker=self.broker,
            store=self.store,
            feed=feed_of(self),
            trail=AuditTrail(
                self.store.audit, settings=AuditSettings(), deadlines=self.broker.deadlines, now_ms=self.now_ms
            ),
            rights=Rights(),
            now_ms=self.now_ms,
            seconds=self.clock.seconds,
            new_uuid=self.new_uuid,
            new_id=iter(range(1, 1_000)).__next__,
        )
        self.told: list[Reason | None] = []
        self.broker.events.listen(QuestionAnswered, lambda event: self.told.append(event.reason))

    def ask(self, method: str, params: bytes = b"null", *, of: Any = None, **more: Any) -> Deferred[bytes]:
        question = Question(method=method, params=params, transport="TEST", **more)
        return maybeDeferred(self.broker.ask, self.session(of), question)

    def answered(self, asked: Deferred[bytes]) -> Any:
        answers: list[bytes] = []
        asked.addCallback(answers.append)
        (answer,) = answers
        return json.loads(answer)


@pytest.fixture
def world() -> Asked:
    return Asked()


def test_an_application_is_asked_with_the_device_and_its_params(world: Asked) -> None:
    application = Application(world)
    application.register("getPrice")
    asked = world.ask("getPrice", b'{"item":7}')
    assert application.invocation()[4:] == [
        [str(world.device.id), {"item": 7}],
        {"deviceName": "device-100", "transport": "TEST"},
    ]
    application.answer({"price": 9.5})
    assert world.answered(asked) == {"price": 9.5}
    assert world.told == [None]


@pytest.mark.parametrize(
    ("args", "kwargs", "answer"),
    [
        ([], {}, None),
        ([1], {}, 1),
        ([[1]], {}, [1]),
        ([1, 2], {}, [1, 2]),
        ([], {"a": 1}, {"a": 1}),
        ([0], {"a": 1}, 0),
    ],
)
def test_what_is_yielded_becomes_json(world: Asked, args: list[Any], kwargs: dict[str, Any], answer: Any) -> None:
    application = Application(world)
    application.register("get")
    asked = world.ask("get")
    application.answer(*args, **kwargs)
    assert world.answered(asked) == answer


def test_the_broker_and_its_chains_answer_first() -> None:
    world = Asked()
    application = Application(world)
    for method in ("ping", "getMethods", "own"):
        application.register(method)
    assert world.answered(world.ask("ping")) == "pong"
    assert world.answered(world.ask("own", own={"own": lambda: b'"the transport"'})) == "the transport"
    world.put(graph([(SWITCH, "Switch", {}), (REPLY, "Reply", {})], (0, 1, "RPC Request from Device")))
    application.register("get")
    assert world.answered(world.ask("get"))["method"] == "get"
    assert application.connection.sent[-1][0] == Type.REGISTERED, "it was never asked"


def test_the_methods_that_applications_answer_are_listed_for_devices_of_their_tenant(world: Asked) -> None:
    foreign = device(102, tenant=OTHER_TENANT)
    world.add(foreign)
    Application(world).register("getPrice")
    assert "getPrice" in world.answered(world.ask("getMethods"))
    assert "getPrice" not in world.answered(world.ask("getMethods", of=foreign))
    assert isinstance(error_of(world.ask("getPrice", of=foreign)), NobodyAnswers)


def test_the_error_of_an_application_is_the_device_s(world: Asked) -> None:
    application = Application(world)
    application.register("get")
    asked = world.ask("get")
    application.fail("com.example.sold_out", "There is none left")
    error = error_of(asked)
    assert isinstance(error, CallFailed)
    assert (error.message, error.reason) == ("There is none left", Reason.REFUSED)
    asked = world.ask("get")
    application.fail("com.example.sold_out")
    assert error_of(asked).message == "com.example.sold_out"
    assert world.told == [Reason.REFUSED, Reason.REFUSED]


def test_an_application_that_leaves_leaves_no_device_waiting(world: Asked) -> None:
    application = Application(world)
    application.register("get")
    asked = world.ask("get")
    application.session.lost()
    error = error_of(asked)
    assert isinstance(error, NobodyAnswers)
    assert error.message == 'no rule answers the method "get": the application that was asked has left'
    assert isinstance(error_of(world.ask("get")), NobodyAnswers)


@pytest.mark.parametrize(("more", "seconds"), [({}, Settings().rules.question_timeout), ({"timeout": 2.0}, 2.0)])
def test_an_application_that_takes_too_long_is_interrupted(world: Asked, more: Any, seconds: float) -> None:
    application = Application(world)
    application.register("get")
    asked = world.ask("get", **more)
    world.clock.advance(seconds - 0.1)
    assert not asked.called
    world.clock.advance(0.2)
    error = error_of(asked)
    assert isinstance(error, QuestionTimedOut)
    assert error.message == 'The application has not answered the method "get" in time'
    assert application.connection.sent[-1][0] == Type.INTERRUPT


def test_several_applications_take_turns(world: Asked) -> None:
    applications = [Application(world), Application(world)]
    for application in applications:
        application.register("get", invoke="roundrobin")
    for turn in (0, 1, 0):
        asked = world.ask("get")
        applications[turn].answer(turn)
        assert world.answered(asked) == turn


def test_a_chain_that_waits_leaves_its_answer_to_the_application(world: Asked) -> None:
    """Whichever way the message goes, who answers is asked once."""
    application = Application(world)
    application.register("get")
    asked = world.ask("get")
    sent = [message for message in application.connection.sent if message[0] == Type.INVOCATION]
    assert len(sent) == 1
    application.answer(1)
    assert world.answered(asked) == 1
    assert len(world.rules.questions) == 0


def test_no_deadline_is_left_behind(world: Asked) -> None:
    application = Application(world)
    application.register("get")
    asked = world.ask("get")
    application.answer(1)
    world.answered(asked)
    world.clock.advance(Settings().rules.question_timeout + 1)
    assert application.connection.sent[-1][0] != Type.INTERRUPT
    assert world.told == [None]
