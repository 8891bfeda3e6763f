"""Calls of callers that are on their way through the rule chains, until a node gives them to a device.

A message stands for such a call as long as it has its type, its `requestUUID` and an `originServiceId`; the first call
request node that such a message reaches takes the call. A call that no node takes ends at its expiration time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import UUID

import msgspec
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from rpcbroker.core import jsontext
from rpcbroker.core.broker import Broker
from rpcbroker.core.calls import Call, CallRequest, CallState, Reply, SubmitStrategy
from rpcbroker.core.deadlines import Deadline
from rpcbroker.core.errors import BrokerError, CallCancelled, CallFailed, CallTimeout, QueueFull, Reason, Unavailable
from rpcbroker.core.events import CallRefused, CallRouted
from rpcbroker.core.pending import Progress
from rpcbroker.core.records import MAX_METHOD, CallRecord, Mark
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.rules import types
from rpcbroker.rules.engine import Engine, Passed, Run
from rpcbroker.rules.message import RuleMessage
from rpcbroker.rules.messages import SERVICE, Messages
from rpcbroker.rules.ports import WantedCall

SHOWN = 50
"""Nodes that a call's time line shows."""
_ASKED = {
    "device_id": "device",
    "method": "method",
    "params": "params",
    "oneway": "direction",
    "persistent": "persistence",
}
"""What makes two calls the same, as a time line calls it."""
SHOWN_TEXT = 255
"""Characters of a label, and of why a node failed, in it: scripts make both."""


class _Submission:
    """One call that a caller made, and that waits for a node."""

    __slots__ = ("call", "connect_timeout", "deadline", "outcome", "passed_on", "progress", "record", "shown", "taken")

    def __init__(
        self,
        call: Call,
        record: CallRecord,
        connect_timeout: float | None,
        progress: Progress | None,
        caller_left: Callable[[_Submission], object],
    ) -> None:
        self.call = call
        self.record = record
        self.connect_timeout = connect_timeout
        self.progress = progress
        self.outcome: Deferred[Reply] = Deferred(lambda _: caller_left(self))
        self.taken: Deferred[Reply] | None = None
        self.deadline: Deadline | None = None
        self.shown = 0
        self.passed_on = False
        """Its run has ended: no node can take it any more."""

    @property
    def key(self) -> tuple[UUID, UUID]:
        return self.call.tenant_id, self.call.rpc_id

    @property
    def waits(self) -> bool:
        """No device was given it, and it has not ended."""
        return self.taken is None and self.record.ended_time is None


class Submissions:
    """All of them, until their runs have ended and they have, too."""

    def __init__(self, broker: Broker, engine: Engine, messages: Messages) -> None:
        self._broker = broker
        self._engine = engine
        self._messages = messages
        self._submissions: dict[tuple[UUID, UUID], _Submission] = {}

    def __len__(self) -> int:
        return len(self._submissions)

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
        refusal = session.refusal(call, connect_timeout)
        if (call.tenant_id, call.rpc_id) in self._submissions:  # its message would stand for this call, too
            refusal = QueueFull(
                "An earlier call with this requestUUID has ended, but is in the rule chain still",
                reason=Reason.QUEUE_FULL,
                hint="Take another requestUUID, or wait until it has left the chain.",
            )
        if refusal is not None:
            return fail(session.refuse(call, record, refusal))
        submission = _Submission(call, record, connect_timeout, progress, self._caller_left)
        self._submissions[submission.key] = submission
        left = (call.expiration_time - self._messages.now_ms()) / 1000
        submission.deadline = self._broker.deadlines.after(left, self._not_forwarded, submission)
        self._broker.events.emit(CallRouted, call, record)
        message = self._messages.of_device(session.device, types.CALL, _data(call), _metadata(call))
        try:
            run = self._engine.begin(call.tenant_id, message, watch=lambda passed: self._show(submission, passed))
        except Unavailable as error:
            refusal = QueueFull(error.message, reason=error.reason, hint=error.hint)
            refusal.refused = submission.passed_on = True
            self._end(submission, refusal, Mark.REFUSED, error.message)
            return submission.outcome
        if run.ended:
            self._run_ended(submission, run)
        else:
            run.when_ended = lambda run: self._run_ended(submission, run)
        return submission.outcome

    def cancel(self, record: CallRecord, why: str) -> bool:
        """As core.routes.Rules.cancel."""
        submission = self._submissions.get((record.tenant_id, record.rpc_id))
        if submission is None or submission.record is not record or not submission.waits:
            return False
        error = CallCancelled(f"The call was cancelled {why}", reason=Reason.CANCELLED)
        self._end(submission, error, Mark.CANCELLED, why)
        return True

    def calls(self, tenant_id: UUID) -> Iterator[CallRecord]:
        """As core.routes.Rules.calls."""
        return (each.record for each in self._submissions.values() if each.waits and each.call.tenant_id == tenant_id)

    def _show(self, submission: _Submission, passed: Passed) -> None:
        """In the time line, until a device has the call."""
        if submission.waits and submission.shown < SHOWN:
            submission.shown += 1
            label = "" if passed.label is None else f" as {passed.label[:SHOWN_TEXT]!r}"
            why = "" if passed.text is None else f": {passed.text[:SHOWN_TEXT]}"
            where = f"{passed.node.name!r} of chain {passed.chain.name!r}{label}{why}"
            submission.record.note(self._messages.now_ms(), Mark.PASSED, where)

    def _run_ended(self, submission: _Submission, run: Run) -> None:
        submission.passed_on = True
        if not submission.waits:
            del self._submissions[submission.key]
            return
        if run.last is not None:
            chain, node = run.last
            detail = f"no further node: chain {chain!r} ended at {node!r} without giving the call to its device"
            submission.record.note(self._messages.now_ms(), Mark.PASSED, detail)
        if submission.call.persistent:  # its caller waits to hear that it is kept, and not for a device
            self._not_forwarded(submission)

    def _caller_left(self, submission: _Submission) -> None:
        if submission.waits:
            error = CallCancelled("The caller left", reason=Reason.CANCELLED)
            self._end(submission, error, Mark.CANCELLED, "for its caller has left")
        elif submission.taken is not None and not submission.call.persistent:
            submission.taken.cancel()

    def _not_forwarded(self, submission: _Submission) -> None:
        error = CallTimeout(
            "The rule chain did not give the call to the device in time",
            reason=Reason.NOT_FORWARDED,
            hint="The call's time line shows which nodes it passed. Connect an 'rpc call request' node to 'RPC "
            "Request to Device'.",
        )
        self._end(submission, error, Mark.EXPIRED, Reason.NOT_FORWARDED.value)

    def _end(self, submission: _Submission, error: BrokerError, mark: Mark, detail: str) -> None:
        """Without having been given to a device."""
        record, call = submission.record, submission.call
        if submission.deadline is not None:
            submission.deadline.cancel()
        error.rpc_id = call.rpc_id
        record.state = _STATES.get(type(error), CallState.FAILED)
        record.reason = error.reason
        record.ended_time = self._messages.now_ms()
        record.note(record.ended_time, mark, detail)
        self._broker.events.emit(CallRefused, call, record, error.reason)
        if submission.passed_on:
            del self._submissions[submission.key]
        if not submission.outcome.called:  # whoever heard of its end may have cancelled it
            submission.outcome.errback(Failure(error))

    # -- nodes

    def take(self, message: RuleMessage, wanted: WantedCall, session: DeviceSession) -> Deferred[Reply]:
        """A node calls the device that `session` is of: a caller's call, or one of its own. Fails with BrokerErrors."""
        tenant_id, rpc_id = session.device.tenant_id, _uuid(message.metadata.get("requestUUID"))
        submission = None if rpc_id is None else self._submissions.get((tenant_id, rpc_id))
        stands_for = message.type == types.CALL and "originServiceId" in message.metadata
        if submission is None or submission.taken is not None or not stands_for:
            new = submission is None and rpc_id and self._broker.recorder.find(tenant_id, rpc_id) is None
            request = _request(wanted, request_id=rpc_id if new else None)
            return self._broker.submit(session, request, by="a rule chain", straight=True)
        if not submission.waits:
            return fail(_ended(submission.record))
        record, given = submission.record, submission.call
        try:
            call = self._retold(submission, wanted, session)
        except BrokerError as error:
            self._end(submission, error, Mark.REFUSED, error.message)
            return fail(error)
        if submission.deadline is not None:
            submission.deadline.cancel()
        record.device_id, record.wire_id, record.expiration_time = call.device_id, call.wire_id, call.expiration_time
        record.method, record.oneway, record.persistent = call.method[:MAX_METHOD], call.oneway, call.persistent
        patience = submission.connect_timeout
        if patience is not None and not call.persistent:
            patience = max(0.0, patience - (self._messages.now_ms() - given.created_time) / 1000)
        again: Deferred[Reply] = Deferred()
        changed = [word for name, word in _ASKED.items() if getattr(call, name) != getattr(given, name)]
        if changed:
            record.note(self._messages.now_ms(), Mark.CHANGED, ", ".join(changed))
        submission.call = call
        submission.taken = self._broker.give(
            session, call, record, connect_timeout=patience, progress=submission.progress
        )

        def both(result: Reply | Failure) -> None:
            if not submission.outcome.called:  # its caller may have left a call that is kept
                submission.outcome.callback(result)
            again.callback(result)

        submission.taken.addBoth(both)
        return again

    def _retold(self, submission: _Submission, wanted: WantedCall, session: DeviceSession) -> Call:
        """The caller's call as the message has it now. Raises Unavailable, PayloadTooLarge."""
        given = submission.call
        request = _request(wanted, request_id=given.rpc_id, strategy=given.strategy)
        wire_id = given.wire_id if given.device_id == session.device.id else None
        call = self._broker.make(session, request, self._messages.now_ms(), wire_id=wire_id)
        expiration, latest = call.expiration_time, call.latest_time
        if wanted.expiration_time == given.expiration_time:
            expiration, latest = given.expiration_time, given.latest_time
        elif not call.persistent:  # nobody waits longer for it than its caller
            expiration, latest = min(expiration, given.expiration_time), min(latest, given.latest_time)
        return msgspec.structs.replace(
            call, created_time=given.created_time, expiration_time=expiration, latest_time=latest
        )

    # -- the end

    def stop(self) -> None:
        """Those that no device was given yet end."""
        for submission in tuple(self._submissions.values()):
            if submission.waits:
                error = CallCancelled("The server is shutting down", reason=Reason.SHUTTING_DOWN)
                self._end(submission, error, Mark.CANCELLED, "for the server is shutting down")


_STATES: dict[type[BrokerError], CallState] = {CallTimeout: CallState.EXPIRED, CallCancelled: CallState.DELETED}
"""In which a call has ended that no device was given; FAILED for all other errors."""


def _ended(record: CallRecord) -> CallFailed:
    """Of a call that a node comes too late for."""
    error = CallTimeout if record.state is CallState.EXPIRED else CallCancelled
    return error("The caller's call had ended", reason=record.reason)


def _request(wanted: WantedCall, *, request_id: UUID | None, strategy: SubmitStrategy | None = None) -> CallRequest:
    return CallRequest(
        method=wanted.method,
        params=wanted.params,
        oneway=wanted.oneway,
        persistent=wanted.persistent,
        timeout=wanted.timeout,
        expiration_time=wanted.expiration_time,
        retries=wanted.retries,
        strategy=strategy,
        request_id=request_id,
        additional_info=wanted.additional_info,
    )


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
