"""Counts kept from events, for /metrics."""

from __future__ import annotations

from collections import Counter

from rpcbroker.core.errors import Reason
from rpcbroker.core.events import CallRefused, CallSettled, EventBus, NearlyMissed, ProvisioningEnded, QuestionAnswered
from rpcbroker.core.histogram import Histogram
from rpcbroker.core.near_misses import NearMiss
from rpcbroker.core.provisioning import ProvisionStatus

CALL_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
REFUSED = "refused"
"""The result of a call that never waited, and so has no state."""


class CallCounts:
    """Calls, questions and near misses, counted as they come. Each costs an addition in a dict: no locks, no labels."""

    def __init__(self, events: EventBus) -> None:
        self.calls: Counter[tuple[str, Reason | None, str | None, bool]] = Counter()
        self.questions: Counter[tuple[str, Reason | None]] = Counter()
        self.missed: Counter[NearMiss] = Counter()
        self.provisioned: Counter[str] = Counter({status.value: 0 for status in ProvisionStatus})
        self.seconds = {oneway: Histogram(CALL_BOUNDS) for oneway in (True, False)}
        events.listen(CallSettled, self._settled)
        events.listen(CallRefused, self._refused)
        events.listen(QuestionAnswered, self._answered)
        events.listen(NearlyMissed, self._miss)
        events.listen(ProvisioningEnded, self._provision)

    def _settled(self, event: CallSettled) -> None:
        oneway = event.call.oneway
        self.calls[event.state, event.reason, event.transport, oneway] += 1
        if not event.call.persistent:  # those may take days
            self.seconds[oneway].observe(max(0.0, event.seconds))

    def _refused(self, event: CallRefused) -> None:
        self.calls[REFUSED, event.reason, None, event.call.oneway] += 1

    def _answered(self, event: QuestionAnswered) -> None:
        self.questions[event.transport, event.reason] += 1

    def _miss(self, event: NearlyMissed) -> None:
        self.missed[event.miss] += 1

    def _provision(self, event: ProvisioningEnded) -> None:
        self.provisioned[event.status] += 1
