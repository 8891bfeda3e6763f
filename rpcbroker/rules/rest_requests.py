"""Requests of applications that came over REST, are in the rule chains, and wait for a rest call reply node.

A request is known by an id that is made for it. Whoever waits hears the first answer, or at once that there is none
when every branch of the request has ended.
"""

from __future__ import annotations

from uuid import UUID

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from rpcbroker.core.deadlines import Deadline, Deadlines
from rpcbroker.core.errors import BrokerError, QuestionTimedOut, Reason, Unavailable
from rpcbroker.rules import types
from rpcbroker.rules.engine import Engine, Run, shown
from rpcbroker.rules.message import Originator
from rpcbroker.rules.messages import SERVICE, Messages


class _Request:
    """One that waits."""

    __slots__ = ("deadline", "outcome")

    def __init__(self, outcome: Deferred[bytes], deadline: Deadline) -> None:
        self.outcome = outcome
        self.deadline = deadline


class RestRequests:
    """All of them."""

    def __init__(self, engine: Engine, messages: Messages, deadlines: Deadlines) -> None:
        self._engine = engine
        self._messages = messages
        self._deadlines = deadlines
        self._waiting: dict[tuple[UUID, str], _Request] = {}
        self._stopping = False
        self.dropped = 0
        """Answers that nobody waited for."""

    def __len__(self) -> int:
        return len(self._waiting)

    def begin(self, tenant_id: UUID, originator: Originator, data: bytes, *, timeout: float) -> Deferred[bytes]:
        """As RuleSystem.rest_request."""
        if self._stopping:
            return fail(_stopping())
        request_id = str(self._messages.new_uuid())
        key = tenant_id, request_id
        expiration = self._messages.now_ms() + int(timeout * 1000)
        metadata = {"serviceId": SERVICE, "requestUUID": request_id, "expirationTime": str(expiration)}
        message = self._messages.about(originator, types.REST_REQUEST, data, metadata)
        outcome: Deferred[bytes] = Deferred(lambda _: self._take(key))
        self._waiting[key] = _Request(outcome, self._deadlines.after(timeout, self._overdue, key))
        try:
            run = self._engine.begin(tenant_id, message)
        except BrokerError as error:
            self._settle(key, Failure(error))
            return outcome
        if run.ended:
            self._ended(key, run)
        else:
            run.when_ended = lambda run: self._ended(key, run)
        return outcome

    def respond(self, tenant_id: UUID, request_id: str, payload: bytes) -> None:
        """A node answers. What nobody waits for is dropped, and counted."""
        if not self._settle((tenant_id, request_id), payload):
            self.dropped += 1

    def stop(self) -> None:
        """No more begin; those that wait fail."""
        self._stopping = True
        for key in tuple(self._waiting):
            self._settle(key, Failure(_stopping()))

    def _overdue(self, key: tuple[UUID, str]) -> None:
        error = QuestionTimedOut("The rule chain has not answered the request in time", reason=Reason.NO_REPLY)
        self._settle(key, Failure(error))

    def _ended(self, key: tuple[UUID, str], run: Run) -> None:
        faults = shown(run.faults)
        text = "No rule answers the request"
        error = QuestionTimedOut(
            f"{text}: {faults}" if faults else text,
            reason=Reason.NO_HANDLER,
            hint="Connect a 'rest call reply' node behind 'REST API request' of the root chain's message type switch.",
        )
        self._settle(key, Failure(error))

    def _settle(self, key: tuple[UUID, str], outcome: bytes | Failure) -> bool:
        request = self._take(key)
        if request is not None:
            request.outcome.callback(outcome)
        return request is not None

    def _take(self, key: tuple[UUID, str]) -> _Request | None:
        request = self._waiting.pop(key, None)
        if request is not None:
            request.deadline.cancel()
        return request


def _stopping() -> Unavailable:
    return Unavailable("The server is shutting down", reason=Reason.SHUTTING_DOWN)
