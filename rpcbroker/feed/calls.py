"""Calls on their way: who waits, and what the broker itself answers. Each comes to its end exactly once."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpcbroker.core.errors import BrokerError
from rpcbroker.feed.errors import CANCELED, OWN, Refused, Told, told
from rpcbroker.feed.ports import Invocation, Payload, Procedure

SKIP, KILL, KILL_NO_WAIT = "skip", "kill", "killnowait"
"""https://wamp-proto.org/spec.html, "Call Canceling": the callee is not told; is told, and answers; is told, but the
caller has its error at once."""


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


class Served:
    """A call of a procedure of the broker's own."""

    _log = Logger()

    def __init__(self, waiting: Waiting) -> None:
        self._waiting: Waiting | None = waiting
        self._why = Told(CANCELED)
        self._running: Deferred[None] | None = None

    def progress(self, payload: Payload) -> None:
        """For the Invocation. Nothing once the call has ended."""
        if self._waiting is not None:
            self._waiting.progress(payload)

    def run(self, procedure: Procedure, invocation: Invocation) -> None:
        """Once."""
        self._running = Deferred.fromCoroutine(procedure(invocation)).addCallbacks(self._result, self._failed)

    def cancel(self, mode: str, why: Told) -> None:
        self._why = why
        if self._running is not None:
            self._running.cancel()

    def abandon(self) -> None:
        self._waiting = None
        self.cancel(KILL_NO_WAIT, self._why)

    def _result(self, payload: Payload) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.result(payload)

    def _failed(self, failure: Failure) -> None:
        waiting, self._waiting = self._waiting, None
        error = failure.value
        if isinstance(error, (BrokerError, Refused)):
            why = told(error)
        elif isinstance(error, CancelledError):
            why = self._why
        else:
            self._log.failure("a procedure failed", failure=failure)
            why = Told(f"{OWN}internal", ["Internal error"])
        if waiting is not None:
            waiting.error(why)


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
