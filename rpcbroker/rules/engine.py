"""Takes messages through chains: one Run is all that comes of one message, in all branches.

Nodes that answer at once are passed in a loop, so a chain of such nodes has ended when `Engine.begin` returns. What
takes time is a Deferred, and the branch goes on when it fires. A run has ended when every branch has, and it is
acknowledged when every branch has ended, or come to a node that takes time or is there to acknowledge it.

A little over 400 lines: how a message goes on, and when it has ended, is read at one place.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar
from uuid import UUID

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpcbroker.core.errors import BrokerError, Reason, Unavailable
from rpcbroker.rules.active import ActiveChain, ActiveNode
from rpcbroker.rules.errors import NodeFailed
from rpcbroker.rules.message import RuleMessage
from rpcbroker.rules.node import Enter, Out, Outcome
from rpcbroker.rules.types import FAILURE

T = TypeVar("T")

MAX_NESTED = 100
"""Chains that a message may have entered and not left."""
SHOWN_FAULTS = 3
"""Failures that are told to who waited for an answer."""
MAX_FAULT = 1_000
"""Characters of a failure that are told; a message may have got into it, as large as it is."""

OVERHEAD = 1_000
"""Bytes that a message takes that waits, beside its data and metadata."""
ROOT = "the root rule chain"
TOO_LARGE = "The messages that wait in the tenant's rule chains take all the memory that they may"


class Passed(NamedTuple):
    """A message passed a node. `label` is None where it ended in it, `text` says why a node failed."""

    chain: ActiveChain
    node: ActiveNode
    came: RuleMessage
    label: str | None
    went: RuleMessage
    text: str | None
    last: bool
    """Nothing is connected there: this branch has ended."""


class Arrived(NamedTuple):
    """A message is about to pass a node, to which it came under `label`; None is the first node of a chain."""

    chain: ActiveChain
    node: ActiveNode
    message: RuleMessage
    label: str | None


Watch = Callable[[Passed], None]


class Fault(NamedTuple):
    """A branch that ended with a failure; `cause` as NodeFailed has it."""

    chain: str
    node: str
    text: str
    cause: BrokerError | None


def shown(faults: Sequence[Fault]) -> str:
    """The first ones, for who waited for an answer."""
    return "; ".join(f"{each.node}: {each.text}" for each in faults[:SHOWN_FAULTS])


class _Entered(NamedTuple):
    """Where a chain was entered: there a message goes on that leaves it."""

    chain: ActiveChain
    node: ActiveNode
    before: _Entered | None
    depth: int


class _Step(NamedTuple):
    """A message that is to pass a node."""

    chain: ActiveChain
    node: ActiveNode
    message: RuleMessage
    entered: _Entered | None
    acknowledged: bool
    label: str | None = None
    """Under which it came."""


class Run:
    """One message on its way. `ended` and `acknowledged` tell how far it is; who is told of it later is given
    by `when_ended` and `when_acknowledged`, which are called at most once, and not if it is so already."""

    __slots__ = (
        "_branches",
        "_engine",
        "_hops",
        "_steps",
        "_stopped",
        "_unacknowledged",
        "_working",
        "faults",
        "last",
        "message",
        "tenant_id",
        "watch",
        "when_acknowledged",
        "when_ended",
    )

    def __init__(self, engine: Engine, tenant_id: UUID, message: RuleMessage, watch: Watch | None) -> None:
        self._engine = engine
        self._steps: deque[_Step] = deque()
        self._branches = 0
        self._unacknowledged = 0
        self._hops = 0
        self._stopped = False
        self._working = False
        self.tenant_id = tenant_id
        self.message = message
        self.watch = watch
        self.faults: list[Fault] = []
        self.last: tuple[str, str] | None = None
        """Chain and node where a branch ended last."""
        self.when_ended: Callable[[Run], None] | None = None
        self.when_acknowledged: Callable[[Run], None] | None = None

    @property
    def ended(self) -> bool:
        return not self._branches

    @property
    def acknowledged(self) -> bool:
        return not self._unacknowledged

    def enter(self, chain: ActiveChain) -> None:
        """Begin at its first node."""
        if chain.first is not None:
            self._add(_Step(chain, chain.nodes[chain.first], self.message, None, False))
            self._work()

    def enter_behind(self, chain: ActiveChain, node: ActiveNode, out: Out) -> None:
        """Begin behind a node that made the message."""
        self._branches += 1  # until all are there
        self._go(_Step(chain, node, out.message, None, True), (out,))
        self._branch_ended(acknowledged=True)
        self._work()

    # -- what waits for its turn

    def _add(self, step: _Step) -> None:
        """Unless the message has passed as many nodes as it may: then this branch has ended. That is said once."""
        most = self._engine.max_hops()
        if self._hops >= most:
            if not self._stopped:
                self._stopped = True
                text = f"The message has passed {most:,} nodes, and may no more"
                self.faults.append(Fault(step.chain.name, step.node.name, text, None))
                self._tell(step, FAILURE, step.message, text, last=True)
            return
        self._hops += 1
        self._branches += 1
        if not step.acknowledged:
            self._unacknowledged += 1
        self._steps.append(step)

    def _work(self) -> None:
        if self._working:
            return
        self._working = True
        steps = self._steps
        try:
            while steps:
                self._pass(steps.popleft())
        finally:
            self._working = False

    def _pass(self, step: _Step) -> None:
        if self._engine.watches(step.node):
            self._engine.hear(self._engine.arrived, Arrived(step.chain, step.node, step.message, step.label))
        if step.node.acknowledges and not step.acknowledged:
            step = step._replace(acknowledged=True)
            self._one_acknowledged()
        try:
            if step.node.takes_time and self._engine.is_full(self.tenant_id):
                raise NodeFailed(f"{TOO_LARGE}: rules.max_messages_size")
            outcome = step.node.act(step.message)
        except Exception:
            self._broke(Failure(), step)
            return
        if isinstance(outcome, Deferred):
            if not outcome.called:
                self._engine.hold(self, step.message, outcome)
            outcome.addCallbacks(self._came_back, self._broke, (step,), None, (step,))
            outcome.addErrback(self._engine.bug)
        else:
            self._leave(step, outcome)

    def _came_back(self, outcome: Outcome, step: _Step) -> None:
        self._leave(step, outcome)
        self._work()

    def _broke(self, failure: Failure, step: _Step) -> None:
        error = failure.value
        if isinstance(error, BrokerError):
            error = NodeFailed(error.message)
        elif not isinstance(error, NodeFailed):
            self._engine.bug(failure)
            error = NodeFailed("The node is broken: the server's log says more")
        self._fail(step, error)
        self._branch_ended(acknowledged=step.acknowledged)
        self._work()

    def _fail(self, step: _Step, error: NodeFailed) -> None:
        """The message goes on under Failure; where nothing is connected there, the branch ends with a fault."""
        text = error.text[:MAX_FAULT]
        if not step.node.targets.get(FAILURE):
            self.faults.append(Fault(step.chain.name, step.node.name, text, error.cause))
        self._follow(step, FAILURE, error.message or step.message, text)

    # -- what goes on

    def _leave(self, step: _Step, outcome: Outcome) -> None:
        try:
            self._go(step, outcome)
        except Exception:  # it is no outcome, whatever the node may have meant
            self._broke(Failure(), step)
            return
        self._branch_ended(acknowledged=step.acknowledged)

    def _go(self, step: _Step, outcome: Outcome) -> None:
        if not outcome:
            self._tell(step, None, step.message, None, last=True)
        for each in outcome:
            if isinstance(each, Out):
                self._follow(step, each.label, each.message)
            elif isinstance(each, Enter):
                self._descend(step, each)
            else:
                self._ascend(step, each.label, each.message)

    def _follow(self, step: _Step, label: str, message: RuleMessage, text: str | None = None) -> None:
        chain, targets = step.chain, step.node.targets.get(label, ())
        self._tell(step, label, message, text, last=not targets)
        for index in targets:
            self._add(_Step(chain, chain.nodes[index], message, step.entered, step.acknowledged, label))

    def _descend(self, step: _Step, enter: Enter) -> None:
        chain = self._engine.chain(self.tenant_id, enter.chain_id)
        depth = 1 if step.entered is None else step.entered.depth + 1
        if chain is None:
            self._fail(step, NodeFailed(f"There is no rule chain {enter.chain_id}", enter.message))
            return
        if depth > MAX_NESTED:
            self._fail(step, NodeFailed(f"The message is in more than {MAX_NESTED} chains at a time", enter.message))
            return
        self._tell(step, None, enter.message, None, last=chain.first is None)
        if chain.first is not None:
            entered = _Entered(step.chain, step.node, step.entered, depth)
            self._add(_Step(chain, chain.nodes[chain.first], enter.message, entered, step.acknowledged))

    def _ascend(self, step: _Step, label: str, message: RuleMessage) -> None:
        entered = step.entered
        self._tell(step, label, message, None, last=entered is None)
        if entered is not None:
            back = _Step(entered.chain, entered.node, message, entered.before, step.acknowledged)
            self._follow(back, label, message)

    def _tell(self, step: _Step, label: str | None, message: RuleMessage, text: str | None, *, last: bool) -> None:
        if last:
            self.last = (step.chain.name, step.node.name)
        if self.watch is not None or self._engine.watches(step.node):
            passed = Passed(step.chain, step.node, step.message, label, message, text, last)
            if self.watch is not None:
                self._engine.hear(self.watch, passed)
            self._engine.hear(self._engine.tell, passed)

    # -- the end

    def _one_acknowledged(self) -> None:
        self._unacknowledged -= 1
        if not self._unacknowledged and self.when_acknowledged is not None:
            told, self.when_acknowledged = self.when_acknowledged, None
            self._engine.hear(told, self)

    def _branch_ended(self, *, acknowledged: bool) -> None:
        self._branches -= 1
        if not acknowledged:
            self._one_acknowledged()
        if not self._branches:
            self._engine.run_ended(self)
            if self.when_ended is not None:
                told, self.when_ended = self.when_ended, None
                self._engine.hear(told, self)


def _size(message: RuleMessage) -> int:
    return OVERHEAD + len(message.data) + sum(map(len, message.metadata.values()))


def _no_root() -> Fault:
    """What nobody has looked at must not be taken for kept."""
    text = "it cannot be run: the server's log says why"
    return Fault(ROOT, ROOT, text, Unavailable(f"{ROOT}: {text}", reason=Reason.NOT_FORWARDED))


def _full(text: str, limit: str) -> Unavailable:
    hint = f"Nodes that wait hold them back: delays, calls to devices and to other servers. The limit is {limit}."
    return Unavailable(text, reason=Reason.QUEUE_FULL, hint=hint)


class Engine:
    """All runs of one process."""

    _log = Logger()

    def __init__(
        self,
        chain: Callable[[UUID, UUID | None], ActiveChain | None],
        *,
        max_hops: Callable[[], int],
        max_messages: Callable[[], int],
        max_size: Callable[[], int],
        watches: Callable[[ActiveNode], bool],
        tell: Callable[[Passed], None],
        arrived: Callable[[Arrived], None] = lambda _: None,
    ) -> None:
        """`chain` finds a tenant's, the root one by None. Of nodes that `watches` wants, `arrived` is told what comes
        to them, and `tell` what has passed them."""
        self.chain = chain
        self.max_hops = max_hops
        self.watches = watches
        self.tell = tell
        self.arrived = arrived
        self._max_messages = max_messages
        self._max_size = max_size
        self.running: Counter[UUID] = Counter()
        """Tenant -> messages that are on their way."""
        self.held: Counter[UUID] = Counter()
        """Tenant -> bytes of those that wait in nodes."""
        self.passed = 0
        """Messages that have ended."""
        self.faults = 0
        """Branches of these that ended with a failure."""

    def begin(
        self,
        tenant_id: UUID,
        message: RuleMessage,
        *,
        watch: Watch | None = None,
        chain: ActiveChain | None = None,
        behind: tuple[ActiveNode, str] | None = None,
    ) -> Run:
        """A message begins at the first node of `chain`, or `behind` the node that made it, under this label.

        None is the tenant's root chain; if that cannot be made, the message has ended with a fault. Raises Unavailable
        when too many of the tenant's are on their way.
        """
        if self.running[tenant_id] >= self._max_messages():
            raise _full("Too many messages are in the tenant's rule chains", "rules.max_messages")
        if self.is_full(tenant_id):
            raise _full(TOO_LARGE, "rules.max_messages_size")
        run = Run(self, tenant_id, message, watch)
        chain = chain or self.chain(tenant_id, None)
        self.running[tenant_id] += 1
        if chain is None:
            run.faults.append(_no_root())
        if chain is None or (behind is None and chain.first is None):
            self.run_ended(run)
        elif behind is None:
            run.enter(chain)
        else:
            run.enter_behind(chain, behind[0], Out(behind[1], message))
        return run

    def is_full(self, tenant_id: UUID) -> bool:
        """Whether the tenant's messages that wait take all the memory that they may."""
        return bool(self.held) and self.held[tenant_id] >= self._max_size()

    def hold(self, run: Run, message: RuleMessage, until: Deferred[Outcome]) -> None:
        """A message of the run waits until this fires."""
        size, tenant_id = _size(message) + _size(run.message), run.tenant_id
        self.held[tenant_id] += size

        def release(result: T) -> T:
            self.held[tenant_id] -= size
            if not self.held[tenant_id]:
                del self.held[tenant_id]
            return result

        until.addBoth(release)

    def run_ended(self, run: Run) -> None:
        """Called by each run, once."""
        self.passed += 1
        self.faults += len(run.faults)
        self.running[run.tenant_id] -= 1
        if not self.running[run.tenant_id]:
            del self.running[run.tenant_id]

    def hear(self, listener: Callable[[T], object], what: T) -> None:
        """Tell it. What it raises is its own trouble: the message goes on."""
        try:
            listener(what)
        except Exception:
            self.bug(Failure())

    def bug(self, failure: Failure) -> None:
        """A node, or who listens, raised what it must not."""
        self._log.failure("a message in a rule chain met a bug", failure=failure)
