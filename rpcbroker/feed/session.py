"""One WAMP session, from HELLO to its end, as a table of states.

Decided where the specification leaves it open: request ids need not count up, but a CALL whose id still waits for its
result is a violation; options that are not known here are ignored; what is answered to an invocation that is no more is
dropped; after GOODBYE the connection is closed.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from twisted.logger import Logger

from rpcbroker.core import access
from rpcbroker.core.deadlines import Deadline
from rpcbroker.core.errors import BrokerError, InvalidRequest, NotAuthenticated, PermissionDenied, TokenExpired
from rpcbroker.core.feed import ROOT
from rpcbroker.feed import errors, messages, rights
from rpcbroker.feed.errors import Violation
from rpcbroker.feed.member import Member
from rpcbroker.feed.messages import Received, Type
from rpcbroker.feed.ports import Connection, Invocation, Payload
from rpcbroker.feed.requests import REQUESTS, Requests
from rpcbroker.feed.surroundings import FEATURES, Surroundings

REALM = "rpcbroker"
METHOD = "ticket"
LOOK_INTERVAL = 1.0
"""Seconds between two looks at a session: whether its ticket is still good, and whether it reads."""
_CLOSE = f"{ROOT}close."
NORMAL, GOING_AWAY, PROTOCOL_ERROR, POLICY, INTERNAL_ERROR, TRY_LATER = 1000, 1001, 1002, 1008, 1011, 1013
"""RFC 6455 7.4.1"""


class State(Enum):
    """Where a session is."""

    NEW = "before HELLO"
    CHALLENGED = "before AUTHENTICATE"
    JOINED = "after WELCOME"
    OVER = "after its end"


class Session:
    """As ports.Peer. `ended` is called once, when the session is over."""

    _log = Logger()

    def __init__(self, connection: Connection, surroundings: Surroundings, ended: Callable[[Session], object]) -> None:
        self._connection = connection
        self._around = surroundings
        self._ended = ended
        self._state = State.NEW
        self._cancels = False
        self._payloads = False
        self._ticket = ""
        self.requests: Requests | None = None
        """Once it has joined."""
        self._deadline: Deadline = surroundings.deadlines.after(
            surroundings.settings().hello_timeout, self._too_late, None
        )

    @property
    def dropped(self) -> int:
        """Messages that were not sent to it, for it reads slowly."""
        return 0 if self.requests is None else self.requests.member.dropped

    def receive(self, message: list[Any]) -> None:
        """One decoded message. Never raises; nothing once the session has ended."""
        if self._state is State.OVER:
            return
        try:
            received = self._around.parse(message)
            step = _STEPS.get((self._state, received.type))
            if step is None:
                raise Violation(f"{received.type.name} cannot come {self._state.value}")
            step(self, received)
        except Violation as violation:
            self.violate(str(violation))
        except Exception:
            self._log.failure("a session failed")
            self._end(messages.abort(f"{errors.OWN}internal", "Internal error"), INTERNAL_ERROR)

    def violate(self, text: str) -> None:
        """What came is no message, or cannot come now: ABORT, and the connection is closed."""
        self._end(messages.abort(errors.VIOLATION, text), PROTOCOL_ERROR)

    def lost(self) -> None:
        """The connection is gone. Harmless when it was told before."""
        self._end(None, NORMAL)

    def stop(self) -> None:
        """The broker stops."""
        uri, text = "wamp.close.system_shutdown", "The broker stops"
        leaving = self._state is State.JOINED
        self._end(messages.goodbye(uri, text) if leaving else messages.abort(uri, text), GOING_AWAY)

    # -- who it is

    def _hello(self, received: Received) -> None:
        hello = received.message
        if hello.realm != REALM:
            self._end(messages.abort("wamp.error.no_such_realm", f"There is one realm here, {REALM}"), NORMAL)
        elif METHOD not in (hello.authmethods or ()):
            self._end(
                messages.abort(
                    "wamp.error.no_matching_auth_method", f"The only method is {METHOD}: a token, or an API key"
                ),
                NORMAL,
            )
        else:
            self._cancels = bool(hello.roles.get("callee") and hello.roles["callee"].call_canceling)
            self._payloads = (hello.authextra or {}).get("payloads") is True
            self._state = State.CHALLENGED
            self._send([Type.CHALLENGE, METHOD, {}])

    def _authenticate(self, received: Received) -> None:
        around, ticket = self._around, received.message.signature
        try:
            principal = around.rights.of_ticket(ticket)
            access.require_not_sys_admin(principal)
        except NotAuthenticated as error:
            self._end(messages.abort("wamp.error.authentication_failed", _sentence(error)), POLICY)
            return
        except PermissionDenied as error:
            self._end(messages.abort("wamp.error.authentication_denied", _sentence(error)), POLICY)
            return
        present = around.realms.count(principal.tenant_id)
        if present >= around.settings().max_sessions:
            text = f"Your tenant has {present} sessions, and may have no more"
            self._end(messages.abort(f"{errors.OWN}too_many_sessions", text), TRY_LATER)
            return
        self._deadline.cancel()
        self._ticket = ticket
        self._state = State.JOINED
        member = Member(
            around.new_id(),
            principal,
            self._connection,
            cancels=self._cancels,
            payloads=self._payloads,
            seconds=around.seconds,
        )
        identity = member.identity
        details = {"realm": REALM, "roles": {role: {"features": each} for role, each in FEATURES.items()}, **identity}
        self._send([Type.WELCOME, details.pop("session"), details])
        realm = around.realms.join(member, rights.space_of(principal))
        self.requests = Requests(member, realm, around, self._renew)
        self._look_later()

    async def _renew(self, call: Invocation) -> Payload:
        """Another ticket of the same user, before the one that it has now has expired."""
        given = [*call.payload.args, call.payload.kwargs.get("ticket")][0]
        if not isinstance(given, str):
            raise InvalidRequest("ticket must be a text", hint="It is the one argument: a token, or an API key.")
        principal = self._around.rights.of_ticket(given)
        if not rights.may_same(principal, call.session.principal):
            raise PermissionDenied("The ticket is of another user, or has other rights", hint="Connect with it anew.")
        self._ticket = given
        call.session.principal = principal
        return Payload()

    def _look(self, _: None) -> None:
        """Whether it is still who it was, and reads."""
        assert self.requests is not None
        member = self.requests.member
        try:
            principal = self._around.rights.of_ticket(self._ticket)
        except NotAuthenticated as error:
            word = "ticket_expired" if isinstance(error, TokenExpired) else "ticket_revoked"
            self._end(messages.goodbye(f"{_CLOSE}{word}", _sentence(error)), POLICY)
            return
        if principal is not member.principal:
            if not rights.may_same(principal, member.principal):
                text = "Your rights have changed: connect again"
                self._end(messages.goodbye(f"{_CLOSE}rights_changed", text), POLICY)
                return
            member.principal = principal
        if member.is_slow(self._around.feed().slow_timeout):
            text = f"You read too slowly: {member.dropped} messages were dropped"
            self._end(messages.goodbye(f"{_CLOSE}slow", text), TRY_LATER)
            return
        self._look_later()

    def _look_later(self) -> None:
        self._deadline = self._around.deadlines.after(LOOK_INTERVAL, self._look, None)

    def _too_late(self, _: None) -> None:
        self._end(messages.abort(errors.TIMEOUT, f"Nothing came in time {self._state.value}"), POLICY)

    # -- the end

    def _goodbye(self, received: Received) -> None:
        self._end(messages.goodbye("wamp.close.goodbye_and_out"), NORMAL)

    def _aborted(self, received: Received) -> None:
        self._end(None, NORMAL)

    def _end(self, message: list[Any] | None, code: int) -> None:
        if self._state is State.OVER:
            return
        self._state = State.OVER
        self._deadline.cancel()
        if self.requests is not None:
            self.requests.end()
        if message is not None:
            self._send(message)
        self._connection.close(code, "" if message is None else message[-1])
        self._ended(self)

    # -- inside

    def _send(self, message: list[Any]) -> None:
        self._connection.send(self._connection.serializer.encode(message))


def _sentence(error: BrokerError) -> str:
    return f"{error.message}. {error.hint}" if error.hint else error.message


_Step = Callable[[Session, Received], None]


def _asks(request: Callable[[Requests, Received], None]) -> _Step:
    def step(session: Session, received: Received) -> None:
        if session.requests is not None:
            request(session.requests, received)

    return step


_STEPS: dict[tuple[State, Type], _Step] = {
    (State.NEW, Type.HELLO): Session._hello,
    (State.NEW, Type.ABORT): Session._aborted,
    (State.CHALLENGED, Type.AUTHENTICATE): Session._authenticate,
    (State.CHALLENGED, Type.ABORT): Session._aborted,
    **{(State.JOINED, kind): _asks(request) for kind, request in REQUESTS.items()},
    (State.JOINED, Type.GOODBYE): Session._goodbye,
    (State.JOINED, Type.ABORT): Session._aborted,
}
"""What may come when. Anything else is a violation: https://wamp-proto.org/spec.html, "Session Lifecycle"."""
