"""How what devices and callers send goes on: straight, or through the rule chains of the tenant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, NoReturn, Protocol
from uuid import UUID

from twisted.internet.defer import Deferred

from rpcbroker.core import jsontext
from rpcbroker.core.calls import Call, Reply
from rpcbroker.core.errors import NobodyAnswers, Reason
from rpcbroker.core.pending import Progress
from rpcbroker.core.questions import OwnAnswers, Question
from rpcbroker.core.records import CallRecord
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.core.values import Posted, Value


class Routes(NamedTuple):
    """How messages of one tenant go: by the broker's own short ways, or through its root chain."""

    calls: bool
    """True: straight to the device."""
    telemetry: bool
    """True: straight into the store."""
    attributes: bool
    """True: straight into the store."""
    heard: frozenset[str]
    """The other types of messages with which the chain does anything."""


STRAIGHT = Routes(True, True, True, frozenset())
"""Of tenants without rules."""


class Rules(Protocol):
    """The rule chains, as the broker sees them. They are asked only for what does not go straight."""

    def routes(self, tenant_id: UUID) -> Routes: ...

    def call(
        self,
        session: DeviceSession,
        call: Call,
        record: CallRecord,
        *,
        connect_timeout: float | None,
        progress: Progress | None,
    ) -> Deferred[Reply]:
        """As Broker.give, if a chain gives it to a device; it ends at its expiration time if none does."""

    def cancel(self, record: CallRecord, why: str) -> bool:
        """End a call that no device was given yet; `why` is half a sentence. False if it is in no chain."""

    def calls(self, tenant_id: UUID) -> Iterable[CallRecord]:
        """Those that no device was given yet."""

    def ask(self, session: DeviceSession, question: Question) -> bytes | Deferred[bytes]:
        """As Broker.ask."""

    def telemetry(self, session: DeviceSession, posted: Posted) -> Deferred[None] | None:
        """As Broker.keep_telemetry."""

    def attributes(self, session: DeviceSession, values: Mapping[str, Value]) -> Deferred[None]:
        """As Broker.keep_attributes."""

    def stop(self) -> None:
        """Nothing more begins. What nodes hold back is let go, and calls that no device was given yet end."""


def nobody_answers(method: str, faults: str = "") -> NobodyAnswers:
    """The error of a question; `faults` says what failed where it might have been answered."""
    text = f"no rule answers the method {jsontext.encode(method).decode()}"
    return NobodyAnswers(f"{text}: {faults}" if faults else text)


class NoRules:
    """A broker without rule chains: questions have its own answers."""

    def __init__(
        self, own_answers: OwnAnswers, answered: Callable[[DeviceSession, Question, Reason | None], None]
    ) -> None:
        """`answered` is told how questions ended; None is with an answer."""
        self._own_answers = own_answers
        self._answered = answered

    def routes(self, tenant_id: UUID) -> Routes:
        return STRAIGHT

    def call(self, *args: object, **named: object) -> NoReturn:
        raise AssertionError("calls go straight")

    def cancel(self, record: CallRecord, why: str) -> bool:
        return False

    def calls(self, tenant_id: UUID) -> Iterable[CallRecord]:
        return ()

    def telemetry(self, *args: object) -> NoReturn:
        raise AssertionError("telemetry goes straight")

    def attributes(self, *args: object) -> NoReturn:
        raise AssertionError("attributes go straight")

    def ask(self, session: DeviceSession, question: Question) -> bytes | Deferred[bytes]:
        answer = self._own_answers.answer(session.device, question)
        self._answered(session, question, Reason.NO_HANDLER if answer is None else None)
        if answer is None:
            raise nobody_answers(question.method)
        return answer

    def stop(self) -> None:
        """There is nothing to stop."""
