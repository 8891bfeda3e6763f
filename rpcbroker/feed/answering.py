"""Questions of devices that applications answer: those who registered `rpcbroker.method.<name>`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from uuid import UUID

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from rpcbroker.core import jsontext
from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.errors import CallFailed, QuestionTimedOut, Reason
from rpcbroker.core.model import Device
from rpcbroker.core.questions import Question
from rpcbroker.core.routes import nobody_answers
from rpcbroker.feed.errors import CANCELED, Refused, Told
from rpcbroker.feed.ports import Methods, Payload

MAX_TEXT = 1_000
"""Characters of an application's words that a device is told."""


class Answering:
    """As core.questions.Applications; `timeout` is how long (seconds) a question waits that does not say it itself."""

    def __init__(self, methods: Methods, deadlines: Deadlines, timeout: Callable[[], float]) -> None:
        self._methods = methods
        self._deadlines = deadlines
        self._timeout = timeout

    def methods(self, tenant_id: UUID) -> Iterable[str]:
        """All that applications of this tenant answer."""
        return self._methods.methods(tenant_id)

    def answer(self, device: Device, question: Question) -> Deferred[bytes] | None:
        """JSON text; None if no application of the tenant has registered the method."""
        asked = Payload(
            [str(device.id), jsontext.decode(question.params)],
            {"deviceName": device.name, "transport": question.transport},
        )
        asking = self._methods.ask(device.tenant_id, question.method, asked)
        if asking is None:
            return None
        too_late = False

        def give_up(_: None) -> None:
            nonlocal too_late
            too_late = True
            asking.cancel()

        overdue = self._deadlines.after(question.timeout or self._timeout(), give_up, None)

        def failed(failure: Failure) -> None:
            failure.trap(Refused, CancelledError)
            if too_late:
                text = f"The application has not answered the method {_shown(question.method)} in time"
                raise QuestionTimedOut(text, reason=Reason.NO_REPLY)
            told = failure.value.told if failure.check(Refused) else Told(CANCELED)
            if told.uri == CANCELED:
                raise nobody_answers(question.method, "the application that was asked has left")
            raise CallFailed(_words(told), reason=Reason.REFUSED)

        def ended(result: bytes | Failure) -> bytes | Failure:
            overdue.cancel()
            return result

        return asking.addCallback(_answer).addErrback(failed).addBoth(ended)


def _answer(payload: Payload) -> bytes:
    """One positional result is the answer, keyword results are an object; several are an array."""
    if payload.kwargs and not payload.args:
        return _encoded(payload.kwargs)
    return _encoded(payload.args if len(payload.args) > 1 else next(iter(payload.args), None))


def _encoded(value: object) -> bytes:
    try:
        return jsontext.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Refused(Told("", [f"the application answered with what cannot be said in JSON: {error}"])) from None


def _words(told: Told) -> str:
    """What the application says, for the device: its sentence, or the URI of its error."""
    sentence = next((each for each in told.args if isinstance(each, str)), "")
    return (sentence or told.uri)[:MAX_TEXT]


def _shown(method: str) -> str:
    return jsontext.encode(method).decode()
