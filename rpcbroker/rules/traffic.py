"""What devices and callers send, on its way through the rule chains of their tenant: `core.routes.Rules`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred, maybeDeferred, succeed

from rpcbroker.core import jsontext
from rpcbroker.core.errors import InvalidRequest
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.core.values import Posted, Value, Values
from rpcbroker.rules import types
from rpcbroker.rules.chains import RuleChains
from rpcbroker.rules.engine import Engine, Run
from rpcbroker.rules.message import RuleMessage
from rpcbroker.rules.messages import Messages
from rpcbroker.rules.rest_requests import RestRequests
from rpcbroker.rules.submissions import Submissions
from rpcbroker.rules.waiting_questions import WaitingQuestions


class Traffic:
    """Makes messages of what comes in, and lets them begin at the root chain."""

    def __init__(
        self,
        chains: RuleChains,
        engine: Engine,
        messages: Messages,
        *,
        questions: WaitingQuestions,
        submissions: Submissions,
        rest_requests: RestRequests,
    ) -> None:
        self._engine = engine
        self._messages = messages
        self._stops = (submissions.stop, questions.stop, rest_requests.stop, chains.stop)
        # Who does it all is asked without a step between, for this is asked with each call.
        self.routes = chains.routes
        self.call = submissions.begin
        self.calls = submissions.calls
        self.cancel = submissions.cancel
        self.ask = questions.ask

    def telemetry(self, session: DeviceSession, posted: Posted) -> Deferred[None] | None:
        """One message for each time. Done when all of them are acknowledged."""
        by_time: dict[int, Values] = {}
        for time, values in posted:
            if values:
                by_time.setdefault(time, {}).update(values)
        device = session.device
        messages = [
            self._messages.of_device(device, types.TELEMETRY, jsontext.encode(values), {"ts": str(time)})
            for time, values in by_time.items()
        ]
        return self._begin(device.tenant_id, messages)

    def attributes(self, session: DeviceSession, values: Mapping[str, Value]) -> Deferred[Any]:
        if not values:
            return succeed(None)
        data, tenant_id = jsontext.encode(values), session.device.tenant_id
        message = self._messages.of_device(session.device, types.ATTRIBUTES, data, {"notifyDevice": "false"})
        return maybeDeferred(self._begin, tenant_id, [message])

    def stop(self) -> None:
        for stop in self._stops:
            stop()

    def _begin(self, tenant_id: UUID, messages: Iterable[RuleMessage]) -> Deferred[None] | None:
        """All of them. None: they are acknowledged. Raises, or fails with, what kept the broker from keeping one."""
        runs = [self._engine.begin(tenant_id, message) for message in messages]
        left = sum(not run.acknowledged for run in runs)
        if not left:
            _require_kept(runs)
            return None
        done: Deferred[None] = Deferred()
        done.addCallback(lambda _: _require_kept(runs))

        def acknowledged(_: Run) -> None:
            nonlocal left
            left -= 1
            if not left:
                done.callback(None)

        for run in runs:
            run.when_acknowledged = acknowledged
        return done


def _require_kept(runs: Iterable[Run]) -> None:
    """Raises what the broker refused to keep, if there was anything. Other failures are the chain's business."""
    for run in runs:
        for fault in run.faults:
            if fault.cause is not None:
                if run.message.type == types.TELEMETRY and isinstance(fault.cause, InvalidRequest):
                    raise jsontext.BadJSON(fault.cause.message)  # as Telemetry.keep says it
                raise fault.cause
