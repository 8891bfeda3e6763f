"""Calls on their way: who waits, and what the broker itself answers. Each comes to its end exactly once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpcbroker.core.deadlines import Deadline, Deadlines
from rpcbroker.core.errors import BrokerError
from rpcbroker.feed import messages
from rpcbroker.feed.errors import CANCELED, INVALID_ARGUMENT, OWN, TIMEOUT, Refused, Told, told
from rpcbroker.feed.member import Member
from rpcbroker.feed.ports import Invocation, Payload, Procedure

SKIP, KILL, KILL_NO_WAIT = "skip", "kill", "killnowait"
"""https://wamp-proto.org/spec.html, "Call Canceling": the callee is not told; is told, and answers; is told, but the
caller has its error at once."""
_NOT_TOLD = "What was said of the error cannot be told to you"


class Waiting(Protocol):
    """Who waits for what a call results in. Told of progress any number of times, then once of a result or an error."""

    def progress(self, payload: Payload) -> None: ...

    def result(self, payload: Payload) -> None: ...

    def error(self, told: Told) -> None: ...


class Call(Protocol):
    """A call on its way."""

    def cancel(self, mode: str, why: Told) -> None:
        """Its caller wants no result any more, and is told `why`. Harmless when it has ended."""
        ...

    def abandon(self) -> None:
        """Its caller has left, and is told nothing."""
        ...


class Caller:
    """A session that waits for the RESULT of its CALL. `ended` is called with the request's id, once."""

    __slots__ = ("_deadline", "_ended", "_member", "_progressive", "_request", "call")

    def __init__(self, member: Member, request: int, *, progressive: bool, ended: Callable[[int], None]) -> None:
        self._member = member
        self._request = request
        self._progressive = progressive
        self._ended = ended
        self._deadline: Deadline | None = None
        self.call: Call | None = None
        """None until it is on its way."""

    def expire(self, deadlines: Deadlines, seconds: float) -> None:
        """It waits no longer than that."""
        self._deadline = deadlines.after(seconds, self._expired, None)

    def cancel(self, mode: str, why: Told) -> None:
        """As Call has it."""
        if self.call is not None:
            self.call.cancel(mode, why)

    def abandon(self) -> None:
        """The session has ended."""
        self._stop_clock()
        if self.call is not None:
            self.call.abandon()

    def progress(self, payload: Payload) -> None:
        if not self._progressive:
            return
        try:
            self._member.send(messages.result(self._request, payload, progress=True))
        except ValueError:
            return  # the last result may still be one that this session can be told

    def result(self, payload: Payload) -> None:
        self._end()
        try:
            self._member.send(messages.result(self._request, payload))
        except ValueError as error:
            self._send_error(Told(INVALID_ARGUMENT, [f"The result cannot be told to you: {error}"]))

    def error(self, told: Told) -> None:
        self._end()
        for each in (told, Told(told.uri, [_NOT_TOLD]), Told(INVALID_ARGUMENT, [_NOT_TOLD])):
            try:
                self._send_error(each)
                break
            except ValueError:
                continue

    def _expired(self, _: None) -> None:
        self.cancel(KILL_NO_WAIT, Told(TIMEOUT, ["The call has had no result in its time"]))

    def _end(self) -> None:
        self._stop_clock()
        self._ended(self._request)

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()

    def _send_error(self, told: Told) -> None:
        self._member.send(messages.error(messages.Type.CALL, self._request, told))


class Served:
    """A call of a procedure of the broker's own."""

    _log = Logger()

    def __init__(self, waiting: Waiting) -> None:
        self._waiting: Waiting | None = waiting
        self._why: Told | None = None
        """Once it was cancelled; what the procedure makes of that is of no interest."""
        self._running: Deferred[None] | None = None

    def progress(self, payload: Payload) -> None:
        """For the Invocation. Nothing once the call has ended."""
        if self._waiting is not None:
            self._waiting.progress(payload)

    def run(self, procedure: Procedure, invocation: Invocation) -> None:
        """Once."""
        self._running = Deferred.fromCoroutine(procedure(invocation)).addCallbacks(self._result, self._failed)

    def cancel(self, mode: str, why: Told) -> None:
        self._why = self._why or why
        if self._running is not None:
            self._running.cancel()

    def abandon(self) -> None:
        self._waiting = None
        self.cancel(KILL_NO_WAIT, Told(CANCELED))

    def _result(self, payload: Payload) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.result(payload)

    def _failed(self, failure: Failure) -> None:
        waiting, self._waiting = self._waiting, None
        error = failure.value
        if isinstance(error, (BrokerError, Refused)):
            why = told(error)
        else:
            if self._why is None or not isinstance(error, CancelledError):
                self._log.failure("a procedure failed", failure=failure)
            why = Told(f"{OWN}internal", ["Internal error"])
        if waiting is not None:
            waiting.error(self._why or why)


class Asked:
    """The broker itself waits for an application: `answer` fires with its Payload, or fails with Refused."""

    def __init__(self) -> None:
        self.call: Call | None = None
        self.answer: Deferred[Payload] = Deferred(lambda _: self.call and self.call.abandon())

    def progress(self, payload: Payload) -> None:
        """Nobody here wants it."""

    def result(self, payload: Payload) -> None:
        self.answer.callback(payload)

    def error(self, told: Told) -> None:
        self.answer.errback(Refused(told))
