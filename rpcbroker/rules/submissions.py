"""Calls of callers that are on their way through the rule chains, until a node gives them to a device.

A message stands for such a call as long as it has its type, its `requestUUID` and an `originServiceId`; the first call
request node that such a message reaches takes the call. A call that no node takes ends at its expiration time.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import msgspec
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from rpcbroker.core import jsontext
from rpcbroker.core.broker import Broker
from rpcbroker.core.calls import Call, CallRequest, CallState, Reply
from rpcbroker.core.deadlines import Deadline
from rpcbroker.core.errors import CallCancelled, CallFailed, CallTimeout, QueueFull, Reason, Unavailable
from rpcbroker.core.events import CallRefused
from rpcbroker.core.pending import Progress
from rpcbroker.core.records import CallRecord, Mark
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.rules import types
from rpcbroker.rules.engine import Engine, Passed, Run
from rpcbroker.rules.message import RuleMessage
from rpcbroker.rules.messages import Messages
from rpcbroker.rules.ports import WantedCall
from rpcbroker.rules.waiting_questions import SERVICE

SHOWN = 50
"""Nodes that a call's time line shows."""


class _Submission:
    """One call that a caller made, and that waits for a node."""

    __slots__ = (
        "call",
        "connect_timeout",
        "deadline",
        "outcome",
        "passed_on",
        "progress",
        "record",
        "session",
        "shown",
        "taken",
    )

    def __init__(
        self,
        session: DeviceSession,
        call: Call,
        record: CallRecord,
        connect_timeout: float | None,
        progress: Progress | None,
        left: Callable[[Deferred[Reply]], object],
    ) -> None:
        self.session = session
        self.call = call
        self.record = record
        self.connect_timeout = connect_timeout
        self.progress = progress
        self.outcome: Deferred[Reply] = Deferred(left)
        self.taken: Deferred[Reply] | None = None
        self.deadline: Deadline | None = None
        self.shown = 0
        self.passed_on = False
        """Its run has ended: no node can take it any more."""

    @property
    def waits(self) -> bool:
        """No device was given it, and it has not ended."""
        return self.taken is None and self.record.ended_time is None


class Submissions:
    """All of them."""

    def __init__(self, broker: Broker, engine: Engine, messages: Messages) -> None:
        self._broker = broker
        self._engine = engine
        self._messages = messages
        self._waiting: dict[tuple[UUID, UUID], _Submission] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    # -- callers

    def begin(
        self,
        session: DeviceSession,
        call: Call,
        record: CallRecord,
        *,
        connect_timeout: float | None,
        progress: Progress | None,
    ) -> Deferred[Reply]:
        """As core.routes.Rules.call."""
        key = (call.tenant_id, call.rpc_id)
        submission = _Submission(
            session, call, record, connect_timeout, progress, lambda _: self._caller_left(key, submission)
        )
        refusal = session.refusal(call, connect_timeout)
        if refusal is not None:
            return fail(session.refuse(call, record, refusal))
        self._waiting[key] = submission
        left = (call.expiration_time - self._messages.now_ms()) / 1000
        submission.deadline = self._broker.deadlines.after(left, self._overdue, key)
        message = self._messages.of_device(session.device, types.CALL, _data(call), _metadata(call))
        try:
            run = self._engine.begin(call.tenant_id, message, watch=lambda passed: self._show(submission, passed))
        except Unavailable as error:
            submission.passed_on = True
            self._end(key, QueueFull(error.message, reason=Reason.QUEUE_FULL, hint=error.hint))
            return submission.outcome
        if run.ended:
            self._run_ended(key, run)
        else:
            run.when_ended = lambda run: self._run_ended(key, run)
        return submission.outcome

    def _show(self, submission: _Submission, passed: Passed) -> None:
        """In the time line, until a device has the call."""
        if submission.waits and submission.shown < SHOWN:
            submission.shown += 1
            label = "" if passed.label is None else f" as {passed.label!r}"
            why = "" if passed.text is None else f": {passed.text}"
            where = f"{passed.node.name!r} of chain {passed.chain.name!r}{label}{why}"
            submission.record.note(self._messages.now_ms(), Mark.PASSED, where)

    def _run_ended(self, key: tuple[UUID, UUID], run: Run) -> None:
        submission = self._waiting[key]
        submission.passed_on = True
        if not submission.waits:
            del self._waiting[key]
        elif run.last is not None:
            chain, node = run.last
            detail = f"no further node: chain {chain!r} ended at {node!r} without giving the call to its device"
            submission.record.note(self._messages.now_ms(), Mark.PASSED, detail)

    def _caller_left(self, key: tuple[UUID, UUID], submission: _Submission) -> None:
        if submission.taken is not None:
            submission.taken.cancel()
        else:
            submission.record.note(self._messages.now_ms(), Mark.CANCELLED, "for its caller has left")
            self._end(key, CallCancelled("The caller left", reason=Reason.CANCELLED))

    def _overdue(self, key: tuple[UUID, UUID]) -> None:
        self._end(
            key,
            CallTimeout(
                "The rule chain did not give the call to the device in time",
                reason=Reason.NOT_FORWARDED,
                hint="The call's time line shows which nodes it passed. Connect an 'rpc call request' node to 'RPC "
                "Request to Device'.",
            ),
        )

    def _end(self, key: tuple[UUID, UUID], error: CallFailed) -> None:
        """Without having been given to a device."""
        submission = self._waiting[key]
        record, call = submission.record, submission.call
        if submission.deadline is not None:
            submission.deadline.cancel()
        error.rpc_id = call.rpc_id
        record.reason = error.reason
        record.ended_time = self._messages.now_ms()
        if isinstance(error, CallTimeout):
            record.state = CallState.EXPIRED
            record.note(record.ended_time, Mark.EXPIRED, error.reason)
        else:
            record.state = CallState.FAILED
            record.note(record.ended_time, Mark.REFUSED, error.message)
        self._broker.events.emit(CallRefused, call, error.reason)
        if submission.passed_on:
            del self._waiting[key]
        submission.outcome.errback(Failure(error))

    # -- nodes

    def take(self, message: RuleMessage, wanted: WantedCall, session: DeviceSession) -> Deferred[Reply]:
        """A node calls the device that `session` is of: a caller's call, or one of its own. Fails with CallFailed."""
        tenant_id = session.device.tenant_id
        submission = None
        rpc_id = _uuid(message.metadata.get("requestUUID"))
        if rpc_id is not None and message.type == types.CALL and "originServiceId" in message.metadata:
            submission = self._waiting.get((tenant_id, rpc_id))
        if submission is None or submission.taken is not None:
            return self._own_call(wanted, session)
        if not submission.waits:
            return fail(CallCancelled("The caller's call had ended", reason=submission.record.reason))
        assert submission.deadline is not None
        submission.deadline.cancel()
        call, record = self._retold(submission, wanted, session)
        submission.taken = self._broker.give(
            session, call, record, connect_timeout=submission.connect_timeout, progress=submission.progress
        )
        again: Deferred[Reply] = Deferred()

        def both(result: Reply | Failure) -> None:
            submission.outcome.callback(result)
            again.callback(result)

        submission.taken.addBoth(both)
        return again

    def _retold(self, submission: _Submission, wanted: WantedCall, session: DeviceSession) -> tuple[Call, CallRecord]:
        """The caller's call as the message has it now."""
        call, record = submission.call, submission.record
        call = msgspec.structs.replace(
            call,
            method=wanted.method,
            params=wanted.params,
            oneway=wanted.oneway,
            persistent=wanted.persistent,
            additional_info=wanted.additional_info,
        )
        if session.device.id != call.device_id:
            call = msgspec.structs.replace(call, device_id=session.device.id, wire_id=session.next_wire_id())
            record.device_id, record.wire_id = call.device_id, call.wire_id
        record.method, record.oneway, record.persistent = call.method[:255], call.oneway, call.persistent
        return call, record

    def _own_call(self, wanted: WantedCall, session: DeviceSession) -> Deferred[Reply]:
        request = CallRequest(
            method=wanted.method,
            params=wanted.params,
            oneway=wanted.oneway,
            persistent=wanted.persistent,
            timeout=wanted.timeout,
            expiration_time=wanted.expiration_time,
            retries=wanted.retries,
            additional_info=wanted.additional_info,
        )
        return self._broker.submit(session, request, by="a rule chain", straight=True)

    # -- the end

    def stop(self) -> None:
        """Those that no device was given yet end."""
        for key in [key for key, submission in self._waiting.items() if submission.waits]:
            self._end(key, CallFailed("The server is shutting down", reason=Reason.SHUTTING_DOWN))


def _data(call: Call) -> bytes:
    """Params are a text of JSON here."""
    info = None if call.additional_info is None else jsontext.encode(call.additional_info).decode()
    return jsontext.encode({"method": call.method, "params": call.params.decode(), "additionalInfo": info})


def _metadata(call: Call) -> dict[str, str]:
    metadata = {
        "requestUUID": str(call.rpc_id),
        "originServiceId": SERVICE,
        "expirationTime": str(call.expiration_time),
        "oneway": "true" if call.oneway else "false",
        "persistent": "true" if call.persistent else "false",
    }
    if call.retries is not None:
        metadata["retries"] = str(call.retries)
    return metadata


def _uuid(text: str | None) -> UUID | None:
    try:
        return None if text is None else UUID(text)
    except ValueError:
        return None
