"""The dealer of one realm: who registered which procedure, and the calls that are with callees."""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import count
from typing import Any

from rpcbroker.core.errors import TooManyRequests
from rpcbroker.feed import messages
from rpcbroker.feed.calls import KILL, SKIP, Waiting
from rpcbroker.feed.errors import CANCELED, INVALID_ARGUMENT, Told, refused
from rpcbroker.feed.member import Member
from rpcbroker.feed.ports import Payload

SINGLE, ROUND_ROBIN = "single", "roundrobin"
CALLEE_LEFT = Told(CANCELED, ["The application that answers this procedure has left"])


class Registration:
    """A procedure, and who answers it: one, or several in turn."""

    __slots__ = ("callees", "id", "invoke", "procedure")

    def __init__(self, registration_id: int, procedure: str, invoke: str) -> None:
        self.id = registration_id
        self.procedure = procedure
        self.invoke = invoke
        self.callees: list[Member] = []
        """The next one is the first."""


class Invoked:
    """One call that is with a callee."""

    __slots__ = ("_dealer", "_interrupted", "callee", "request", "waiting")

    def __init__(self, dealer: Dealer, callee: Member, request: int, waiting: Waiting) -> None:
        self._dealer = dealer
        self.callee = callee
        self.request = request
        """The id of the invocation."""
        self.waiting = waiting
        self._interrupted = False

    def cancel(self, mode: str, why: Told) -> None:
        if not self._dealer.is_open(self):
            return
        if mode != SKIP and self.callee.cancels:
            if not self._interrupted:
                self._interrupted = True
                self.callee.send(messages.interrupt(self.request, mode, why.uri))
            if mode == KILL:
                return
        self._dealer.close(self)
        self.waiting.error(why)

    def abandon(self) -> None:
        if self._dealer.close(self) and self.callee.cancels:
            self.callee.send(messages.interrupt(self.request, "killnowait", CANCELED))


class Dealer:
    """All of a realm. `max_calls` is how many one callee may have to answer at a time, `max_waiting` how many bytes may
    wait for one that is asked."""

    def __init__(self, *, max_calls: Callable[[], int], max_waiting: Callable[[], int]) -> None:
        self._max_calls = max_calls
        self._max_waiting = max_waiting
        self._ids = count(1)
        self._procedures: dict[str, Registration] = {}
        self._registered: dict[Member, dict[int, Registration]] = {}
        self._invoked: dict[Member, dict[int, Invoked]] = {}

    # -- registrations

    def registered(self, member: Member) -> int:
        """How many this member has."""
        return len(self._registered.get(member, ()))

    @property
    def procedures(self) -> Collection[str]:
        """All that somebody answers."""
        return self._procedures.keys()

    def register(self, member: Member, procedure: str, invoke: str) -> Registration:
        """Raises Refused if it is taken, or is answered in another way."""
        registration = self._procedures.get(procedure)
        if registration is None:
            registration = self._procedures[procedure] = Registration(next(self._ids), procedure, invoke)
        elif registration.invoke != invoke:
            raise refused(
                "wamp.error.procedure_exists_invocation_policy_conflict",
                f"This procedure is registered with invoke={registration.invoke}",
            )
        elif invoke == SINGLE or member in registration.callees:
            raise refused("wamp.error.procedure_already_exists", "This procedure is registered already")
        registration.callees.append(member)
        self._registered.setdefault(member, {})[registration.id] = registration
        return registration

    def unregister(self, member: Member, registration_id: int) -> None:
        """Raises Refused if it has no such registration. What it has to answer it may still answer."""
        registration = self._registered.get(member, {}).pop(registration_id, None)
        if registration is None:
            raise refused("wamp.error.no_such_registration", "This session has no registration of this id")
        self._end(registration, member)

    def leave(self, member: Member) -> None:
        """Its registrations end, and each of the calls that it had to answer, with an error."""
        for registration in self._registered.pop(member, {}).values():
            self._end(registration, member)
        for invoked in self._invoked.pop(member, {}).values():
            invoked.waiting.error(CALLEE_LEFT)

    # -- calls

    def call(self, procedure: str, payload: Payload, details: dict[str, Any], waiting: Waiting) -> Invoked:
        """Give it to a callee. Raises Refused, TooManyRequests."""
        registration = self._procedures.get(procedure)
        if registration is None:
            raise refused("wamp.error.no_such_procedure", "No application has registered this procedure")
        callee = next((each for each in registration.callees if self._is_free(each)), None)
        if callee is None:
            raise TooManyRequests("Those who answer this procedure have too much to answer", retry_after=1)
        invoked = Invoked(self, callee, callee.next_request(), waiting)
        self._invoked.setdefault(callee, {})[invoked.request] = invoked
        try:
            callee.send(messages.invocation(invoked.request, registration.id, details, payload))
        except ValueError as error:
            self.close(invoked)
            raise refused(INVALID_ARGUMENT, f"The arguments cannot be told to who answers: {error}") from None
        registration.callees.remove(callee)
        registration.callees.append(callee)
        return invoked

    def progressed(self, callee: Member, request: int, payload: Payload) -> None:
        """Nothing if there is no such invocation (any more)."""
        invoked = self._invoked.get(callee, {}).get(request)
        if invoked is not None:
            invoked.waiting.progress(payload)

    def yielded(self, callee: Member, request: int, payload: Payload) -> None:
        """Nothing if there is no such invocation (any more)."""
        invoked = self._invoked.get(callee, {}).pop(request, None)
        if invoked is not None:
            invoked.waiting.result(payload)

    def failed(self, callee: Member, request: int, told: Told) -> None:
        """Nothing if there is no such invocation (any more)."""
        invoked = self._invoked.get(callee, {}).pop(request, None)
        if invoked is not None:
            invoked.waiting.error(told)

    def is_open(self, invoked: Invoked) -> bool:
        """Whether its callee has still to answer it."""
        return invoked.request in self._invoked.get(invoked.callee, ())

    def close(self, invoked: Invoked) -> bool:
        """Whatever its callee answers, nobody waits for it. Whether it was open."""
        return self._invoked.get(invoked.callee, {}).pop(invoked.request, None) is not None

    def _is_free(self, callee: Member) -> bool:
        """One that reads slowly is asked no more: or its connection would end in the end, by what others want of it."""
        return (
            len(self._invoked.get(callee, ())) < self._max_calls() and callee.connection.waiting <= self._max_waiting()
        )

    def _end(self, registration: Registration, member: Member) -> None:
        registration.callees.remove(member)
        if not registration.callees:
            del self._procedures[registration.procedure]
