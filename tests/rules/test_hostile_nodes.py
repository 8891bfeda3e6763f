"""Nodes that do what they must not: their messages still end, are counted, and harm no others.

Over 400 lines: each way of misbehaving is a node here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import msgspec
import pytest
from fakes import EPOCH_MS, OTHER_TENANT, TENANT, device, error_of, result_of
from rule_world import REPLY, SWITCH, RuleWorld, graph
from twisted.internet.defer import AlreadyCalledError, Deferred, fail, maybeDeferred, succeed

from rpcbroker.core.errors import BrokerError, CallFailed, NotFound, Unavailable
from rpcbroker.core.questions import Question
from rpcbroker.rules.active import ActiveChain, ActiveNode
from rpcbroker.rules.chain import RuleNode
from rpcbroker.rules.engine import Engine, Passed, Run
from rpcbroker.rules.errors import NodeFailed
from rpcbroker.rules.format import DebugSettingsJSON
from rpcbroker.rules.message import DEVICE, Originator, RuleMessage
from rpcbroker.rules.node import Enter, Leave, NodeType, Out, Place
from rpcbroker.rules.nodes.table import NODE_TYPES

BROKEN = "The node is broken: the server's log says more"
MESSAGE = RuleMessage(
    id=UUID(int=1), type="T", originator=Originator(DEVICE, UUID(int=100)), data=b"{}", metadata={}, time=EPOCH_MS
)


class Nothing(msgspec.Struct):
    """There is nothing to configure."""


def on(message: RuleMessage) -> Any:
    return (Out("on", message),)


@dataclass
class Rig:
    """An engine whose root chain has these nodes, each under `on` and `Failure` before the next, and a last one that
    writes down what comes to it."""

    acts: list[Callable[[RuleMessage], Any]]
    takes_time: bool = True
    max_hops: int = 100
    came: list[RuleMessage] = field(default_factory=list)
    told: list[Passed] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chain = self.chain_of([*self.acts, self._end])
        self.engine = Engine(
            lambda tenant_id, chain_id: self.chain if chain_id is None else None,
            max_hops=lambda: self.max_hops,
            max_messages=lambda: 5,
            max_size=lambda: 1 << 40,
            watches=lambda node: False,
            tell=self.told.append,
        )

    def _end(self, message: RuleMessage) -> Any:
        self.came.append(message)
        return ()

    def chain_of(self, acts: list[Callable[[RuleMessage], Any]]) -> ActiveChain:
        nodes = []
        for index, act in enumerate(acts):
            kind = NodeType(
                name=f"n{index}", configuration=Nothing, make=Held().make, labels=None, takes_time=self.takes_time
            )
            node = RuleNode(None, f"n{index}", kind, Nothing(), DebugSettingsJSON())
            targets = dict.fromkeys(("on", "Failure"), (index + 1,)) if index + 1 < len(acts) else {}
            nodes.append(ActiveNode(index, node, act, UUID(int=index), targets))
        return ActiveChain(id=UUID(int=7), tenant_id=TENANT, name="Root", nodes=tuple(nodes), first=0)

    def begin(self, **more: Any) -> Run:
        return self.engine.begin(TENANT, MESSAGE, **more)

    def rest(self) -> tuple[int, int, int]:
        """Messages on their way, those that have ended, and failures."""
        return sum(self.engine.running.values()), self.engine.passed, self.engine.faults


def raising(error: BaseException) -> Callable[..., Any]:
    def act(*_: object) -> Any:
        raise error

    return act


@pytest.fixture
def bugs(no_dropped_failures: list[str]) -> Iterator[list[str]]:
    """What was logged as a bug: the test expects one at least."""
    yield no_dropped_failures
    assert no_dropped_failures
    no_dropped_failures.clear()


NONSENSE: dict[str, Callable[[], Any]] = {
    "nothing": lambda: None,
    "a number": lambda: 5,
    "a text": lambda: "Success",
    "an Out that is in no tuple": lambda: Out("on", MESSAGE),
    "a tuple of something else": lambda: (("on", MESSAGE),),
    "a label that is none": lambda: (Out([], MESSAGE),),  # type: ignore[arg-type]
    "a generator that raises": lambda: (each / 0 for each in (1,)),
}


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("name", NONSENSE)
def test_what_is_no_outcome_is_a_failure_of_its_node(bugs: list[str], name: str, later: bool) -> None:
    waiting: Deferred[Any] = Deferred()
    rig = Rig([lambda _: waiting if later else NONSENSE[name]()])
    run = rig.begin()
    if later:
        assert not run.ended
        waiting.callback(NONSENSE[name]())
    assert run.ended
    assert run.acknowledged
    assert rig.came == [MESSAGE], "it went on under Failure"
    assert rig.rest() == (0, 1, 0)


@pytest.mark.parametrize("error", [ValueError("x"), RecursionError(), MemoryError(), KeyError(1), AssertionError()])
@pytest.mark.parametrize("later", [False, True])
def test_whatever_a_node_raises_its_message_goes_on_under_failure(
    bugs: list[str], error: Exception, later: bool
) -> None:
    rig = Rig([(lambda _: fail(error)) if later else raising(error)])
    assert rig.begin().ended
    assert rig.came == [MESSAGE]
    assert rig.rest() == (0, 1, 0)


def test_what_the_broker_refuses_is_no_bug_and_its_words_are_told() -> None:
    rig = Rig([on, raising(NotFound("no such device"))])
    rig.chain = rig.chain_of([on, raising(NotFound("no such device"))])
    run = rig.begin()
    assert [(each.chain, each.node, each.text) for each in run.faults] == [("Root", "n1", "no such device")]
    assert rig.rest() == (0, 1, 1)


def test_a_node_that_fails_at_the_end_is_told_by_its_name(bugs: list[str]) -> None:
    rig = Rig([])
    rig.chain = rig.chain_of([raising(ValueError("secret"))])
    run = rig.begin()
    assert [(each.node, each.text) for each in run.faults] == [("n0", BROKEN)]


def test_what_a_broken_outcome_had_before_it_broke_goes_on_too(bugs: list[str]) -> None:
    rig = Rig([lambda message: (Out("on", message), None, Out("on", message))])
    assert rig.begin().ended
    assert len(rig.came) == 2, "what came before, and the failure"
    assert rig.rest() == (0, 1, 0)


def test_a_deferred_that_fires_twice_is_the_trouble_of_who_fires_it() -> None:
    waiting: Deferred[Any] = Deferred()
    rig = Rig([lambda _: waiting])
    run = rig.begin()
    waiting.callback(on(MESSAGE))
    with pytest.raises(AlreadyCalledError):
        waiting.callback(on(MESSAGE))
    assert run.ended
    assert len(rig.came) == 1
    assert rig.rest() == (0, 1, 0)


def test_one_deferred_that_is_given_for_two_messages_is_heard_once_by_each(bugs: list[str]) -> None:
    """The first one has taken its value: what is left is no outcome."""
    waiting: Deferred[Any] = Deferred()
    rig = Rig([lambda _: waiting])
    runs = [rig.begin(), rig.begin()]
    waiting.callback(on(MESSAGE))
    assert [run.ended for run in runs] == [True, True]
    assert rig.rest() == (0, 2, 0)


def test_a_deferred_that_is_cancelled_ends_its_branch(bugs: list[str]) -> None:
    waiting: Deferred[Any] = Deferred()
    rig = Rig([lambda _: waiting])
    run = rig.begin()
    waiting.cancel()
    assert run.ended
    assert rig.rest() == (0, 1, 0)


def test_messages_that_never_come_back_keep_no_others_of_other_tenants_out() -> None:
    rig = Rig([lambda _: Deferred()])
    runs = [rig.begin() for _ in range(5)]
    with pytest.raises(Unavailable, match="Too many messages"):
        rig.begin()
    assert rig.engine.begin(OTHER_TENANT, MESSAGE).ended is False
    assert not any(run.ended for run in runs)
    assert all(run.acknowledged for run in runs)
    assert rig.rest() == (6, 0, 0)


@pytest.mark.parametrize("which", ["watch", "when_ended", "when_acknowledged"])
def test_who_listens_and_raises_holds_nothing_up(bugs: list[str], which: str) -> None:
    waiting: Deferred[Any] = Deferred()
    rig = Rig([on, lambda _: waiting], takes_time=False)
    run = rig.begin(watch=raising(ValueError()) if which == "watch" else None)  # type: ignore[arg-type]
    if which != "watch":
        setattr(run, which, raising(ValueError()))
    waiting.callback(on(MESSAGE))
    assert run.ended
    assert rig.came == [MESSAGE]
    assert rig.rest() == (0, 1, 0)


def test_an_outcome_that_is_large_passes_no_more_nodes_than_a_message_may() -> None:
    rig = Rig([lambda message: on(message) * 100_000], max_hops=50)
    run = rig.begin()
    assert run.ended
    assert len(rig.came) == 49
    assert rig.rest()[:2] == (0, 1)
    assert "may no more" in run.faults[-1].text


def test_a_chain_of_deferreds_that_have_fired_already_takes_no_stack() -> None:
    rig = Rig([lambda message: succeed(on(message))] * 5_000, max_hops=10_000)
    assert rig.begin().ended
    assert rig.came == [MESSAGE]


def test_chains_that_are_not_there_and_ends_without_a_beginning_fail_or_end() -> None:
    rig = Rig([lambda message: (Enter(UUID(int=99), message), Leave("on", message))])
    run = rig.begin()
    assert run.ended
    assert rig.came == [MESSAGE], "the chain that is not there was a failure"
    assert run.last == ("Root", "n1")


def test_a_chain_that_enters_itself_ends() -> None:
    rig = Rig([lambda message: (Enter(None, message),)], max_hops=10_000)
    run = rig.begin()
    assert run.ended
    assert rig.came == [MESSAGE], "at so many chains within each other"
    assert rig.rest()[:2] == (0, 1)


# -- with all the rest around it

HELD = "test.Held"


@dataclass
class Held:
    """A node that holds messages back until it is let, or stopped; `broken` says what it does to its chain."""

    broken: set[str] = field(default_factory=set)
    waiting: list[Deferred[Any]] = field(default_factory=list)
    messages: list[RuleMessage] = field(default_factory=list)
    started: int = 0
    stopped: int = 0

    def make(self, configuration: Any, place: Place) -> Held:
        if "make" in self.broken:
            raise TypeError("it cannot be made")
        return self

    def __call__(self, message: RuleMessage) -> Deferred[Any]:
        self.messages.append(message)
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def start(self, emit: Callable[[Out], None]) -> None:
        self.started += 1
        if "start" in self.broken:
            raise ValueError("it cannot begin")

    def stop(self) -> None:
        self.stopped += 1
        if "stop" in self.broken:
            raise ValueError("it cannot end")
        if "late" not in self.broken:
            self.let_go()

    def let_go(self) -> None:
        waiting, self.waiting = self.waiting, []
        for each, message in zip(waiting, self.messages, strict=False):
            each.callback((Out("Success", message),))


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    node = Held()
    kind = NodeType(name=HELD, configuration=Nothing, make=node.make, labels=None, takes_time=True)
    monkeypatch.setitem(NODE_TYPES, HELD, kind)
    return node


WAITS = graph(
    [(SWITCH, "Switch", {}), (HELD, "Held", {}), (REPLY, "Reply", {})],
    (0, 1, "RPC Request from Device"),
    (1, 2, "Success"),
)
SILENT = graph([(SWITCH, "Switch", {})])


def ask(world: RuleWorld, of: Any = None, method: str = "m") -> Deferred[bytes]:
    return maybeDeferred(world.broker.ask, world.session(of), Question(method=method, transport="TEST"))


def at_rest(world: RuleWorld) -> bool:
    return len(world.rules.questions) == 0 and not world.rules.engine.running


@pytest.mark.parametrize("late", [False, True])
def test_a_message_in_a_chain_that_is_replaced_goes_on_in_the_old_one(held: Held, late: bool) -> None:
    world = RuleWorld()
    chain_id = world.put(WAITS)
    asked = ask(world)
    if late:
        held.broken.add("late")
    stored = world.rules.chains.get(TENANT, chain_id)
    changed = replace(stored, version=2, graph=b'{"nodes":[]}')
    result_of(Deferred.fromCoroutine(world.rules.chains.save(changed)))
    assert held.stopped == 1
    if late:
        held.let_go()
    assert result_of(asked) == b'{"method":"m","params":null}'
    assert at_rest(world)


@pytest.mark.parametrize("late", [False, True])
def test_messages_of_a_tenant_that_is_deleted_end_and_leave_nothing(held: Held, late: bool) -> None:
    world = RuleWorld()
    there = device(7, tenant=OTHER_TENANT)
    world.add(there)
    world.put(WAITS, tenant_id=OTHER_TENANT)
    asked = ask(world, there)
    if late:
        held.broken.add("late")
    gone = result_of(world.store.people.delete_tenant(OTHER_TENANT, revoked=1))
    for device_id in gone.devices:
        world.broker.device_deleted(device_id)
    world.rules.forget_tenant(OTHER_TENANT)
    if late:
        held.let_go()
    result_of(asked)
    assert at_rest(world)
    assert world.rules.chains._tenants.keys() <= {TENANT}


def test_what_comes_back_after_the_end_is_let_be(held: Held) -> None:
    world = RuleWorld()
    world.put(WAITS)
    asked = ask(world)
    held.broken.add("late")
    world.rules.traffic.stop()
    with pytest.raises(Unavailable, match="shutting down"):
        result_of(asked)
    held.let_go()
    assert at_rest(world)
    with pytest.raises(Unavailable, match="shutting down"):
        result_of(ask(world))


@pytest.mark.parametrize("how", ["start", "stop"])
def test_a_node_that_cannot_begin_or_end_leaves_other_chains_as_they_should_be(
    held: Held, bugs: list[str], how: str
) -> None:
    world = RuleWorld()
    twice = graph([(HELD, "One", {}), (HELD, "Other", {})])
    world.put(SILENT)
    held.broken.add(how)
    for _ in range(2):
        world.put(twice, root=False)
    assert held.started == 4
    assert result_of(ask(world, method="ping")) == b'"pong"'
    world.rules.traffic.stop()
    assert held.stopped == 4


def test_a_chain_that_cannot_be_made_is_tried_once_and_keeps_nobody_else_from_beginning(
    held: Held, bugs: list[str]
) -> None:
    first = RuleWorld()
    there = device(7, tenant=OTHER_TENANT)
    first.add(there)
    first.put(WAITS)
    first.put(WAITS, tenant_id=OTHER_TENANT)
    held.broken.add("make")
    world = RuleWorld(store=first.store)
    for each in (there, first.device):
        for _ in range(3):
            assert result_of(ask(world, each, "ping")) == b'"pong"'
            with pytest.raises(CallFailed, match='no rule answers the method "m"'):
                result_of(ask(world, each))
    assert len(bugs) == 2, "it was said once of each chain"
    held.broken.clear()
    chain = world.rules.chains.root(TENANT)
    result_of(Deferred.fromCoroutine(world.rules.chains.save(replace(chain, version=chain.version + 1))))
    asked = ask(world, first.device)
    held.let_go()
    assert result_of(asked) == b'{"method":"m","params":null}'


def test_an_answer_of_the_broker_that_meets_a_bug_leaves_nobody_waiting(bugs: list[str]) -> None:
    world = RuleWorld()
    world.put(SILENT)
    world.broker.own_answers.answer = raising(ValueError("a bug"))  # type: ignore[method-assign,assignment]
    error = error_of(ask(world))
    assert type(error) is BrokerError
    assert at_rest(world)


def test_a_failure_that_names_another_message_sends_that_one_on() -> None:
    other = RuleMessage(id=UUID(int=2), type="U", originator=MESSAGE.originator, data=b"1", metadata={}, time=EPOCH_MS)
    rig = Rig([raising(NodeFailed("so it is", other))])
    rig.begin()
    assert rig.came == [other]
