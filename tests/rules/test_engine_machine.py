"""Random chains of random nodes, whose Deferreds fire in any order, against a count of what is owed to whom.

A message carries, as its metadata, the chains that it is in and whether it has passed a node that takes time; so each
node can tell by itself what the engine owes to which nodes, and none of the engine's own counts is believed.

Over 400 lines: the nodes, the count and the rules of the machine are one thing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import msgspec
import pytest
from fakes import EPOCH_MS, TENANT
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from rpcbroker.core import jsontext
from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.errors import NotFound, Unavailable
from rpcbroker.core.rules_settings import RulesSettings
from rpcbroker.rules.active import ActiveChain, activate
from rpcbroker.rules.chain import graph_of
from rpcbroker.rules.engine import MAX_NESTED, Engine, Passed, Run
from rpcbroker.rules.errors import NodeFailed
from rpcbroker.rules.format import ConnectionJSON, MetadataJSON, NodeJSON
from rpcbroker.rules.message import DEVICE, Originator, RuleMessage
from rpcbroker.rules.node import Enter, Leave, NodeType, Out, Outcome
from rpcbroker.rules.ports import RuleSurroundings
from rpcbroker.rules.types import FAILURE

LABELS = ("A", "B", FAILURE)
NOWHERE = UUID(int=99)
"""No chain has this id."""

Doing = tuple[str, str | int]
"""("out" or "leave", a label), ("enter", the index of a chain, or one that there is not, or -1 for the root)."""


class Conduct(msgspec.Struct):
    """What a node does to each message. `way`: now, fired, later, or nudging (first fires what waits).

    `failing`: "", or how it fails in place of what it would do.
    """

    way: str
    failing: str
    doings: list[Doing]


class Waiting:
    """A Deferred that a node has returned, and what is to come of it."""

    def __init__(self, message: RuleMessage, finish: Callable[[], Outcome]) -> None:
        self.message = message
        self.finish = finish
        self.outcome: Deferred[Outcome] = Deferred()

    def fire(self) -> None:
        try:
            result = self.finish()
        except Exception:
            self.outcome.errback(Failure())
        else:
            self.outcome.callback(result)


class TestNode:
    """Knows where it is, and tells the machine what it makes the engine owe."""

    __test__ = False

    def __init__(self, machine: EngineMachine, conduct: Conduct, where: tuple[int, int], *, acknowledges: bool) -> None:
        self.machine = machine
        self.conduct = conduct
        self.where = where
        self.acknowledges = acknowledges

    def __call__(self, message: RuleMessage) -> Outcome | Deferred[Outcome]:
        self.machine.arrived(self.where, message)
        was_acknowledged = bool(message.metadata["acknowledged"])
        if self.acknowledges:
            message = replace(message, metadata={**message.metadata, "acknowledged": "yes"})
        way = self.conduct.way
        if way == "nudging":
            self.machine.fire_one(0)
        told = self.conduct.failing == "failed" or (self.acknowledges and not was_acknowledged)
        if way == "later":
            return self.machine.waits(Waiting(message, lambda: self._finish(message, told=told)))
        if way != "fired":
            return self._finish(message, told=told)
        try:
            return succeed(self._finish(message, told=told))
        except Exception:
            return fail(Failure())

    def _finish(self, message: RuleMessage, *, told: bool) -> Outcome:
        """`told`: if the node fails, it is with a message of its own."""
        machine = self.machine
        if self.conduct.failing:
            text = machine.new_text()
            if told:
                machine.owes_failure(self.where, message, text)
                raise NodeFailed(text, message)
            if self.conduct.failing == "refused":
                machine.owes_failure(self.where, message, text)
                raise NotFound(text)
            machine.bugs += 1
            machine.owes_failure(self.where, message, "The node is broken: the server's log says more")
            raise RuntimeError(text)
        if not self.conduct.doings:
            machine.told[message.id] -= 1
        return tuple(self._does(message, *doing) for doing in self.conduct.doings)

    def _does(self, message: RuleMessage, verb: str, what: Any) -> Out | Enter | Leave:
        machine, stack = self.machine, jsontext.decode(message.metadata["stack"].encode())
        if verb == "out":
            machine.owes(self.where, what, message)
            return Out(what, message)
        if verb == "leave":
            machine.told[message.id] -= 1
            if stack:
                back = tuple(stack.pop())
                message = in_chains(message, stack)
                machine.owes(back, what, message)
            return Leave(what, message)
        number = 0 if what == -1 else what
        if number >= len(machine.chains):
            machine.owes_failure(self.where, message, f"There is no rule chain {NOWHERE}")
            return Enter(NOWHERE, message)
        if len(stack) >= MAX_NESTED:
            machine.owes_failure(self.where, message, f"The message is in more than {MAX_NESTED} chains at a time")
            return Enter(machine.chains[number].id, message)
        machine.told[message.id] -= 1
        inside = in_chains(message, [*stack, self.where])
        machine.owed[key((number, machine.first(number)), inside)] += 1
        return Enter(None if what == -1 else machine.chains[number].id, inside)


def in_chains(message: RuleMessage, stack: list[Any]) -> RuleMessage:
    return replace(message, metadata={**message.metadata, "stack": jsontext.encode(stack).decode()})


def key(where: tuple[int, int], message: RuleMessage) -> tuple[Any, ...]:
    return (message.id, where, message.metadata["stack"], message.metadata["acknowledged"])


class CountingEngine(Engine):
    """Bugs that are wanted are counted here, and not logged."""

    bugs = 0

    def bug(self, failure: Failure) -> None:
        failure.trap(RuntimeError)
        self.bugs += 1


@st.composite
def chains(draw: st.DrawFn) -> list[MetadataJSON]:
    doings = st.lists(
        st.one_of(
            st.tuples(st.just("out"), st.sampled_from(LABELS)),
            st.tuples(st.just("out"), st.sampled_from(LABELS)),
            st.tuples(st.just("enter"), st.integers(-1, 3)),
            st.tuples(st.just("leave"), st.sampled_from(LABELS)),
        ),
        max_size=3,
    )
    conducts = st.builds(
        Conduct,
        way=st.sampled_from(["now", "now", "fired", "later", "later", "nudging"]),
        failing=st.sampled_from(["", "", "", "", "failed", "refused", "broken"]),
        doings=doings,
    )
    drawn = []
    for number in range(draw(st.integers(1, 3))):
        nodes, connections = [], []
        count = draw(st.integers(1, 6))
        for index in range(count):
            kind = draw(st.sampled_from(["quick", "acknowledging", "slow"]))
            slow = kind == "slow"
            config = {"number": number, "index": index, "conduct": msgspec.to_builtins(draw(conducts))}
            nodes.append(NodeJSON(kind, f"{number}.{index}", configuration=config))
            targets = st.integers(0 if slow else index + 1, count - 1)
            for label in LABELS if slow or index + 1 < count else ():
                ends = draw(st.lists(targets, max_size=3, unique=True))
                connections += [ConnectionJSON(index, to, label) for to in ends]
        drawn.append(
            MetadataJSON(nodes=nodes, connections=connections, first_node_index=draw(st.integers(0, 1)) % count)
        )
    return drawn


class Where(msgspec.Struct):
    number: int
    index: int
    conduct: Conduct


class EngineMachine(RuleBasedStateMachine):
    @initialize(drawn=chains(), max_hops=st.sampled_from([1, 7, 40, 300]), max_messages=st.integers(1, 6))
    def begin_with(self, drawn: list[MetadataJSON], max_hops: int, max_messages: int) -> None:
        self.max_hops, self.max_messages = max_hops, max_messages
        self.owed: Counter[tuple[Any, ...]] = Counter()
        self.faults: dict[UUID, Counter[str]] = {}
        self.told: Counter[UUID] = Counter()
        """Of each message: how much its watcher was told, less what it should have been."""
        self.visits: Counter[UUID] = Counter()
        self.runs: dict[UUID, Run] = {}
        self.ends: Counter[UUID] = Counter()
        self.acknowledgements: Counter[UUID] = Counter()
        self.waiting: list[Waiting] = []
        self.bugs = 0
        self.texts = 0
        self.engine = CountingEngine(
            self._chain,
            max_hops=lambda: self.max_hops,
            max_messages=lambda: self.max_messages,
            max_size=lambda: 1 << 40,
            watches=lambda node: False,
            tell=lambda passed: None,
        )
        types = {
            name: NodeType(
                name=name,
                configuration=Where,
                make=lambda where, place, name=name: TestNode(
                    self, where.conduct, (where.number, where.index), acknowledges=name != "quick"
                ),
                labels=LABELS,
                takes_time=name == "slow",
                acknowledges=name == "acknowledging",
            )
            for name in ("quick", "acknowledging", "slow")
        }
        self.chains: list[ActiveChain] = [
            activate(graph_of(graph, types), chain_id=UUID(int=number + 1), name=str(number), around=_around())
            for number, graph in enumerate(drawn)
        ]

    def _chain(self, tenant_id: UUID, chain_id: UUID | None) -> ActiveChain | None:
        if chain_id is None:
            return self.chains[0]
        return next((chain for chain in self.chains if chain.id == chain_id), None)

    # -- what nodes say

    def first(self, number: int) -> int:
        first = self.chains[number].first
        assert first is not None
        return first

    def arrived(self, where: tuple[int, int], message: RuleMessage) -> None:
        self.owed[key(where, message)] -= 1
        assert self.owed[key(where, message)] >= 0, "a message came that nobody has sent"
        self.visits[message.id] += 1

    def owes(self, where: tuple[int, int], label: str, message: RuleMessage) -> tuple[int, ...]:
        number, index = where
        targets = self.chains[number].nodes[index].targets.get(label, ())
        for target in targets:
            self.owed[key((number, target), message)] += 1
        self.told[message.id] -= 1
        return targets

    def owes_failure(self, where: tuple[int, int], message: RuleMessage, text: str) -> None:
        if not self.owes(where, FAILURE, message):
            self.faults[message.id][text] += 1

    def new_text(self) -> str:
        self.texts += 1
        return f"failure {self.texts}"

    def waits(self, waiting: Waiting) -> Deferred[Outcome]:
        self.waiting.append(waiting)
        return waiting.outcome

    def fire_one(self, which: int) -> None:
        if self.waiting:
            self.waiting.pop(which % len(self.waiting)).fire()

    # -- what happens

    @rule(chain=st.integers(0, 2), broken_listener=st.booleans())
    def begin(self, chain: int, broken_listener: bool) -> None:
        number = chain % len(self.chains)
        message = self._message()
        self.owed[key((number, self.first(number)), message)] += 1
        self._begin(message, broken_listener, chain=self.chains[number])

    @rule(chain=st.integers(0, 2), index=st.integers(0, 5), label=st.sampled_from(LABELS))
    def emit(self, chain: int, index: int, label: str) -> None:
        """As a generator does."""
        number = chain % len(self.chains)
        there = self.chains[number]
        index %= len(there.nodes)
        message = self._message(acknowledged="yes")
        self.owes((number, index), label, message)
        self._begin(message, False, chain=there, behind=(there.nodes[index], label))

    def _message(self, acknowledged: str = "") -> RuleMessage:
        message = RuleMessage(
            id=UUID(int=len(self.faults) + 1),
            type="T",
            originator=Originator(DEVICE, UUID(int=1)),
            data=b"{}",
            metadata={"stack": "[]", "acknowledged": acknowledged},
            time=EPOCH_MS,
        )
        self.faults[message.id] = Counter()
        return message

    def _begin(self, message: RuleMessage, broken_listener: bool, **where: Any) -> None:
        if self._running() >= self.max_messages:
            with pytest.raises(Unavailable):
                self.engine.begin(TENANT, message, **where)
            for owed in [owed for owed in self.owed if owed[0] == message.id]:
                del self.owed[owed]
            return
        run = self.runs[message.id] = self.engine.begin(TENANT, message, watch=self._told, **where)

        def count(what: Counter[UUID], run: Run) -> None:
            what[run.message.id] += 1
            if broken_listener:
                self.bugs += 1
                raise RuntimeError("who listens is broken")

        if run.ended:
            self.ends[message.id] += 1
        else:
            run.when_ended = lambda run: count(self.ends, run)
        if run.acknowledged:
            self.acknowledgements[message.id] += 1
        else:
            run.when_acknowledged = lambda run: count(self.acknowledgements, run)

    def _told(self, passed: Passed) -> None:
        self.told[passed.came.id] += 1

    def _running(self) -> int:
        return len({each.message.id for each in self.waiting})

    @precondition(lambda self: self.waiting)
    @rule(which=st.integers(0, 20))
    def fire(self, which: int) -> None:
        self.fire_one(which)

    # -- what is always so

    @invariant()
    def each_run_is_as_far_as_its_nodes_say(self) -> None:
        waiting = {each.message.id for each in self.waiting}
        unacknowledged = {each.message.id for each in self.waiting if not each.message.metadata["acknowledged"]}
        owed = {each[0] for each, count in self.owed.items() if count}
        for message_id, run in self.runs.items():
            ended, acknowledged = message_id not in waiting, message_id not in unacknowledged
            assert (run.ended, self.ends[message_id]) == (ended, int(ended))
            assert (run.acknowledged, self.acknowledgements[message_id]) == (acknowledged, int(acknowledged))
            assert self.visits[message_id] <= self.max_hops
            stopped = message_id in owed
            expected = +self.faults[message_id]
            if stopped:
                expected[f"The message has passed {self.max_hops:,} nodes, and may no more"] = 1
                assert self.visits[message_id] == self.max_hops
            assert Counter(fault.text for fault in run.faults) == expected
            assert self.told[message_id] == int(stopped)
        assert self.engine.running.get(TENANT, 0) == len(waiting)
        assert bool(self.engine.held) == bool(waiting)
        assert self.engine.passed == len(self.runs) - len(waiting)
        assert self.engine.bugs == self.bugs

    def teardown(self) -> None:
        """Whatever waits may fire in any order: then nothing is left."""
        while getattr(self, "waiting", None):
            self.fire_one(-1)
        if hasattr(self, "runs"):
            self.each_run_is_as_far_as_its_nodes_say()
            assert not self.engine.running
            assert self.engine.faults == sum(len(run.faults) for run in self.runs.values())


def _around() -> RuleSurroundings:
    """Test nodes reach for nothing."""
    nothing: Any = None
    return RuleSurroundings(
        tenant_id=TENANT,
        estate=nothing,
        scripts=nothing,
        web=nothing,
        deadlines=Deadlines(Clock()),
        now_ms=lambda: EPOCH_MS,
        new_uuid=lambda: UUID(int=0),
        settings=RulesSettings,
        log=lambda name, text, usual: None,
    )


EngineMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
test_every_message_is_accounted_for = EngineMachine.TestCase
