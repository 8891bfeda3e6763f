"""A node that holds messages back for a while."""

from __future__ import annotations

from enum import StrEnum

import msgspec
from twisted.internet.defer import Deferred

from rpcbroker.core.deadlines import Deadline
from rpcbroker.rules.errors import NodeFailed
from rpcbroker.rules.message import RuleMessage
from rpcbroker.rules.node import NodeType, Out, Outcome, Place
from rpcbroker.rules.templates import Template
from rpcbroker.rules.types import FAILURE, SUCCESS

STOPPED = "The delay has ended early: the server is shutting down, or the rule chain was changed"


class Unit(StrEnum):
    """In which a delay is given."""

    SECONDS = "SECONDS"
    MINUTES = "MINUTES"
    HOURS = "HOURS"


_SECONDS = {Unit.SECONDS: 1, Unit.MINUTES: 60, Unit.HOURS: 3600}


class DelayConfiguration(msgspec.Struct, rename="camel"):
    """How long: a number, or a template of one, and the unit of it, or a template of it; older exports have seconds."""

    period_value: int | None = None
    period_time_unit: Unit | None = None
    period_value_pattern: str | None = None
    period_time_unit_pattern: str | None = None
    use_period_value_pattern: bool | None = None
    use_period_time_unit_pattern: bool = False
    period_in_seconds: int | None = None
    period_in_seconds_pattern: str | None = None
    use_metadata_period_in_seconds_patterns: bool | None = None
    max_pending_msgs: int = 1_000

    def __post_init__(self) -> None:
        if not 1 <= self.max_pending_msgs <= 100_000:
            raise ValueError("maxPendingMsgs is 1 to 100,000")
        if self.value is None:
            raise ValueError("there is no periodValue, and no periodValuePattern that is used")
        if isinstance(self.value, int) and self.value < 0:
            raise ValueError("periodValue is negative")
        if self.use_period_time_unit_pattern and not self.period_time_unit_pattern:
            raise ValueError("there is no periodTimeUnitPattern")

    @property
    def value(self) -> int | str | None:
        """A text is a template."""
        used = self.use_period_value_pattern
        if used is None:
            used = self.use_metadata_period_in_seconds_patterns
        if used:
            return self.period_value_pattern or self.period_in_seconds_pattern or None
        return self.period_in_seconds if self.period_value is None else self.period_value

    @property
    def unit(self) -> str:
        """A template."""
        if self.use_period_time_unit_pattern and self.period_time_unit_pattern:
            return self.period_time_unit_pattern
        return self.period_time_unit or Unit.SECONDS


class DelayNode:
    """Lets messages go on later, as they came.

    When it is stopped, those that it holds go on at once, under Failure: nothing waits in silence.
    """

    def __init__(self, configuration: DelayConfiguration, place: Place) -> None:
        self._value, self._unit = Template(str(configuration.value)), Template(configuration.unit)
        self._most = configuration.max_pending_msgs
        self._around = place.around
        self._waiting: dict[Deferred[Outcome], Deadline] = {}
        self._stopped = False

    def __call__(self, message: RuleMessage) -> Deferred[Outcome]:
        held, tenant_id = self._around.held, self._around.tenant_id
        if self._stopped:
            raise NodeFailed(STOPPED)
        if len(self._waiting) >= self._most:
            raise NodeFailed(f"The node holds {self._most:,} messages, and may hold no more")
        if held[tenant_id] >= self._around.settings().max_pending_delays:
            raise NodeFailed("The tenant's delay nodes hold as many messages as they may: rules.max_pending_delays")
        seconds = self._seconds(message)
        waiting: Deferred[Outcome] = Deferred()
        self._waiting[waiting] = self._around.deadlines.after(seconds, self._over, (waiting, message))
        held[tenant_id] += 1
        return waiting

    def _seconds(self, message: RuleMessage) -> int:
        value, unit = self._value.fill(message), self._unit.fill(message)
        try:
            seconds = int(value) * _SECONDS[Unit(unit)]
        except ValueError:
            raise NodeFailed(f"No delay is given by {value[:50]!r} {unit[:50]!r}") from None
        if not 0 <= seconds <= self._around.settings().max_delay:
            raise NodeFailed(f"A delay of {value[:50]} {unit} is negative, or longer than rules.max_delay")
        return seconds

    def _over(self, held: tuple[Deferred[Outcome], RuleMessage]) -> None:
        waiting, message = held
        self._let_go(waiting)
        waiting.callback((Out(SUCCESS, message),))

    def stop(self) -> None:
        """No message is held any more."""
        self._stopped = True
        for waiting in list(self._waiting):
            self._let_go(waiting).cancel()
            waiting.errback(NodeFailed(STOPPED))

    def _let_go(self, waiting: Deferred[Outcome]) -> Deadline:
        held, tenant_id = self._around.held, self._around.tenant_id
        held[tenant_id] -= 1
        if not held[tenant_id]:
            del held[tenant_id]
        return self._waiting.pop(waiting)


DELAY = NodeType(
    name="org.thingsboard.rule.engine.delay.TbMsgDelayNode",
    configuration=DelayConfiguration,
    make=DelayNode,
    labels=(SUCCESS, FAILURE),
    takes_time=True,
)
