"""What devices and callers send, on its way through the rule chains of their tenant: `core.routes.Rules`."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from twisted.internet.defer import Deferred

from rpcbroker.core.broker import Broker
from rpcbroker.core.calls import Call, Reply
from rpcbroker.core.pending import Progress
from rpcbroker.core.questions import Question
from rpcbroker.core.records import CallRecord
from rpcbroker.core.routes import Routes
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.core.values import Posted, Value
from rpcbroker.rules.chains import RuleChains
from rpcbroker.rules.engine import Engine
from rpcbroker.rules.submissions import Submissions
from rpcbroker.rules.waiting_questions import WaitingQuestions


class Traffic:
    """Makes messages of what comes in, and lets them begin at the root chain."""

    def __init__(
        self,
        broker: Broker,
        chains: RuleChains,
        engine: Engine,
        *,
        questions: WaitingQuestions,
        submissions: Submissions,
    ) -> None:
        self._broker = broker
        self._chains = chains
        self._engine = engine
        self._questions = questions
        self._submissions = submissions

    # -- core.routes.Rules

    def routes(self, tenant_id: UUID) -> Routes:
        return self._chains.routes(tenant_id)

    def call(
        self,
        session: DeviceSession,
        call: Call,
        record: CallRecord,
        *,
        connect_timeout: float | None,
        progress: Progress | None,
    ) -> Deferred[Reply]:
        return self._submissions.begin(session, call, record, connect_timeout=connect_timeout, progress=progress)

    def ask(self, session: DeviceSession, question: Question) -> bytes | Deferred[bytes]:
        return self._questions.ask(session, question)

    def telemetry(self, session: DeviceSession, posted: Posted) -> Deferred[None] | None:
        raise NotImplementedError

    def attributes(self, session: DeviceSession, values: Mapping[str, Value]) -> Deferred[None]:
        raise NotImplementedError

    def stop(self) -> None:
        self._submissions.stop()
        self._questions.stop()
        self._chains.stop()
