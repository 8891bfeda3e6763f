"""Questions of devices (client-side RPC) that are in the rule chains, and how they are answered.

A question is known by a session id that is made for it. It waits until its run has ended: a second answer can come
until then, and goes to who asked if they can take it.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.python.failure import Failure

from rpcbroker.core import jsontext
from rpcbroker.core.broker import Broker
from rpcbroker.core.deadlines import Deadline
from rpcbroker.core.errors import BrokerError, QuestionTimedOut, Reason, Unavailable
from rpcbroker.core.questions import Question
from rpcbroker.core.routes import nobody_answers
from rpcbroker.core.rules_settings import RulesSettings
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.rules import types
from rpcbroker.rules.engine import Engine, Run, shown
from rpcbroker.rules.messages import SERVICE, Messages


class _Waiting:
    """One question that is in the chains."""

    __slots__ = ("answered", "asking", "deadline", "outcome", "own_failure", "question", "session")

    def __init__(self, session: DeviceSession, question: Question) -> None:
        self.session = session
        self.question = question
        self.outcome: Deferred[bytes] = Deferred()
        self.answered = False
        self.asking = True
        """Who asked has not got `outcome` yet."""
        self.deadline: Deadline | None = None
        self.own_failure: Failure | None = None
        """Why the broker's own answer did not come: an application that has failed is not asked again."""


class WaitingQuestions:
    """All of them."""

    def __init__(
        self, broker: Broker, engine: Engine, messages: Messages, settings: Callable[[], RulesSettings]
    ) -> None:
        self._broker = broker
        self._engine = engine
        self._messages = messages
        self._settings = settings
        self._waiting: dict[tuple[UUID, str], _Waiting] = {}
        self._stopping = False
        self.dropped = 0
        """Answers that nobody waited for."""

    def __len__(self) -> int:
        return len(self._waiting)

    def ask(self, session: DeviceSession, question: Question) -> bytes | Deferred[bytes]:
        """As Broker.ask."""
        if self._stopping:
            raise _stopping()
        device, session_id = session.device, str(self._messages.new_uuid())
        message = self._messages.of_device(
            device,
            types.QUESTION,
            b'{"method":%b,"params":%b}' % (jsontext.encode(question.method), question.params),
            {"requestId": str(question.number), "serviceId": SERVICE, "sessionId": session_id},
        )
        waiting = _Waiting(session, question)
        key = (device.tenant_id, session_id)
        self._waiting[key] = waiting
        try:
            run = self._engine.begin(device.tenant_id, message)
        except BrokerError as error:
            del self._waiting[key]
            self._broker.answered(session, question, error.reason)
            raise
        waiting.asking = False
        if run.ended:
            self._ended(key, run)
        else:
            run.when_ended = lambda run: self._ended(key, run)
            if not waiting.answered:
                timeout = question.timeout or self._settings().question_timeout
                waiting.deadline = self._broker.deadlines.after(timeout, self._overdue, waiting)
        return waiting.outcome

    def reply(self, tenant_id: UUID, session_id: str, request_id: str, payload: bytes) -> None:
        """A reply node answers. What nobody waits for is dropped, and counted."""
        waiting = self._waiting.get((tenant_id, session_id))
        if waiting is None or request_id != str(waiting.question.number):
            self.dropped += 1
        elif not waiting.answered:
            self._settle(waiting, payload)
        elif waiting.question.late is None:
            self.dropped += 1
        elif waiting.asking:  # behind the first one
            self._broker.deadlines.after(0.0, waiting.question.late, payload)
        else:
            waiting.question.late(payload)

    def own_answer(self, tenant_id: UUID, session_id: str) -> bytes | Deferred[bytes] | None:
        """What the broker itself answers to the question; None if it does not know the method, or the question."""
        waiting = self._waiting.get((tenant_id, session_id))
        return None if waiting is None else self._own(waiting)

    def stop(self) -> None:
        """No more are asked; those that wait fail."""
        self._stopping = True
        for waiting in tuple(self._waiting.values()):
            self._settle(waiting, Failure(_stopping()))

    def _settle(self, waiting: _Waiting, outcome: bytes | Failure) -> None:
        if waiting.answered:
            return
        waiting.answered = True
        if waiting.deadline is not None:
            waiting.deadline.cancel()
        reason = outcome.value.reason if isinstance(outcome, Failure) else None
        self._broker.answered(waiting.session, waiting.question, reason)
        waiting.outcome.callback(outcome)

    def _overdue(self, waiting: _Waiting) -> None:
        waiting.deadline = None
        error = QuestionTimedOut(
            f"The rule chain has not answered the method {jsontext.encode(waiting.question.method).decode()} in time",
            reason=Reason.NO_REPLY,
        )
        self._settle(waiting, Failure(error))

    def _ended(self, key: tuple[UUID, str], run: Run) -> None:
        """Every branch has: if none has answered, the broker does what it can."""
        waiting = self._waiting[key]
        if waiting.answered:
            del self._waiting[key]
            return

        def answered(outcome: bytes | Failure | None) -> None:
            del self._waiting[key]
            if outcome is None:
                outcome = Failure(nobody_answers(waiting.question.method, shown(run.faults)))
            elif isinstance(outcome, Failure) and not outcome.check(BrokerError):
                self._engine.bug(outcome)
                outcome = Failure(BrokerError("The answer cannot be given: the server's log says more"))
            self._settle(waiting, outcome)

        maybeDeferred(self._own, waiting).addBoth(answered)

    def _own(self, waiting: _Waiting) -> bytes | Deferred[bytes] | None:
        if waiting.own_failure is not None:
            return fail(waiting.own_failure)
        answer = self._broker.own_answers.answer(waiting.session.device, waiting.question)
        if not isinstance(answer, Deferred):
            return answer

        def failed(failure: Failure) -> Failure:
            waiting.own_failure = failure
            return failure

        return answer.addErrback(failed)


def _stopping() -> Unavailable:
    return Unavailable("The server is shutting down", reason=Reason.SHUTTING_DOWN)
