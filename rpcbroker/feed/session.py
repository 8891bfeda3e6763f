"""One WAMP session, from HELLO to its end, as a table of states.

Decided where the specification leaves it open: request ids need not count up, but a CALL whose id still waits for its
result is a violation; options that are not known here are ignored; what is answered to an invocation that is no more is
dropped; after GOODBYE the connection is closed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from enum import Enum
from typing import Any

from twisted.logger import Logger

from rpcbroker.core import access
from rpcbroker.core.deadlines import Deadline
from rpcbroker.core.errors import BrokerError, InvalidRequest, NotAuthenticated, PermissionDenied, TokenExpired
from rpcbroker.core.feed import ROOT
from rpcbroker.core.feed_settings import WampSettings
from rpcbroker.feed import errors, messages, rights, uris
from rpcbroker.feed.calls import KILL_NO_WAIT, Caller, Served
from rpcbroker.feed.dealer import ROUND_ROBIN, SINGLE
from rpcbroker.feed.errors import Refused, Told, Violation, refused, told
from rpcbroker.feed.member import Member
from rpcbroker.feed.messages import Received, Type
from rpcbroker.feed.ports import Connection, Invocation, Payload, Procedure
from rpcbroker.feed.realm import Realm
from rpcbroker.feed.subscriptions import Publication
from rpcbroker.feed.surroundings import FEATURES, Surroundings

REALM = "rpcbroker"
METHOD = "ticket"
RENEW = f"{ROOT}session.renew"
LOOK_INTERVAL = 1.0
"""Seconds between two looks at a session: whether its ticket is still good, and whether it reads."""
MAX_TIMEOUT = 3600
"""Seconds; the longest time that a call can be given. Longer ones are taken for it."""
_LISTS = tuple(f"{kind}{whom}" for kind in ("exclude", "eligible") for whom in ("", "_authid", "_authrole"))
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
        self._calls: dict[int, Caller] = {}
        self.member: Member | None = None
        """Once it has joined."""
        self._realm: Realm | None = None
        self._deadline: Deadline = surroundings.deadlines.after(
            surroundings.settings().hello_timeout, self._too_late, None
        )

    def receive(self, message: list[Any]) -> None:
        """One decoded message. Never raises; nothing once the session has ended."""
        if self._state is State.OVER:
            return
        try:
            received = self._around.parse(message)
            step = _STEPS.get((self._state, received.type))
            if step is None:
                raise Violation(f"{received.type.name} cannot come {self._state.value}")
            try:
                step(self, received)
            except (BrokerError, Refused) as error:
                self._refuse(received, error)
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
        self._deadline.cancel()
        self._ticket = ticket
        self._state = State.JOINED
        member = self.member = Member(
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
        self._realm = around.realms.join(member, rights.space_of(principal))
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
        member = self._member
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
        if (
            member.slow_since is not None
            and self._around.seconds() - member.slow_since >= self._around.feed().slow_timeout
        ):
            text = f"You read too slowly: {member.dropped} messages were dropped"
            self._end(messages.goodbye(f"{_CLOSE}slow", text), TRY_LATER)
            return
        self._look_later()

    def _look_later(self) -> None:
        self._deadline = self._around.deadlines.after(LOOK_INTERVAL, self._look, None)

    def _too_late(self, _: None) -> None:
        self._end(messages.abort(errors.TIMEOUT, f"Nothing came in time {self._state.value}"), POLICY)

    # -- topics

    def _subscribe(self, received: Received) -> None:
        member, realm = self._member, self._its_realm
        topic, match = received.uri, received.message.match
        uris.check(topic, match)
        rights.require_subscribed(topic, match)
        watched = uris.fits_feed(topic, match)
        own = (member, _digest(received.options)) if watched else None
        subscription = realm.subscriptions.find(member, topic, match, own)
        if subscription is None:
            self._require_room("subscriptions", realm.subscriptions.held(member), self._settings.max_subscriptions)
            subscription = realm.subscriptions.subscribe(member, topic, match, own)
            if watched:
                try:
                    self._around.watching.subscribe(member, subscription.id, topic, match, received.options)
                except BrokerError:
                    realm.subscriptions.unsubscribe(member, subscription.id)
                    raise
        self._send([Type.SUBSCRIBED, received.message.request, subscription.id])

    def _unsubscribe(self, received: Received) -> None:
        message = received.message
        subscription = self._its_realm.subscriptions.unsubscribe(self._member, message.subscription)
        if uris.fits_feed(subscription.topic, subscription.match):
            self._around.watching.unsubscribe(self._member, subscription.id)
        self._send([Type.UNSUBSCRIBED, message.request])

    def _publish(self, received: Received) -> None:
        member, message = self._member, received.message
        uris.check(received.uri)
        rights.require_published(member.principal, received.uri)
        lists = [name for name in _LISTS if name in received.options]
        if lists:
            raise refused(
                "wamp.error.option_not_allowed",
                f"Nothing was published: there is no {lists[0]} here",
                hint="Publish to a topic that only those know whom you mean.",
            )
        publication = Publication(
            id=self._around.new_id(),
            topic=received.uri,
            payload=_payload(message),
            details=member.disclosed("publisher") if received.options.get("disclose_me") is True else {},
            skip=None if message.exclude_me is False else member,
        )
        self._its_realm.subscriptions.publish(publication)
        if message.acknowledge:
            self._send([Type.PUBLISHED, message.request, publication.id])

    # -- procedures

    def _register(self, received: Received) -> None:
        member, dealer, message = self._member, self._its_realm.dealer, received.message
        uris.check(received.uri, message.match)
        rights.require_registered(member.principal, received.uri)
        if message.match != uris.EXACT:
            raise refused("wamp.error.option_not_allowed", f"Procedures are registered exactly, not by {message.match}")
        if message.invoke not in (SINGLE, ROUND_ROBIN):
            raise refused(
                "wamp.error.option_not_allowed", f"invoke can be {SINGLE} or {ROUND_ROBIN}, not {message.invoke}"
            )
        self._require_room("registrations", dealer.registered(member), self._settings.max_registrations)
        registration = dealer.register(member, received.uri, message.invoke)
        self._send([Type.REGISTERED, message.request, registration.id])

    def _unregister(self, received: Received) -> None:
        message = received.message
        self._its_realm.dealer.unregister(self._member, message.registration)
        self._send([Type.UNREGISTERED, message.request])

    def _call(self, received: Received) -> None:
        member, message, uri = self._member, received.message, received.uri
        if message.request in self._calls:
            raise Violation("CALL: the request of this id still waits for its result")
        uris.check(uri)
        self._require_room("calls", len(self._calls), self._settings.max_calls)
        self._around.rights.count(member.principal)
        caller = Caller(member, message.request, progressive=bool(message.receive_progress), ended=self._forget)
        payload = _payload(message)
        if uris.is_feed(uri) or uris.is_meta(uri):
            procedure = self._find(uri)
            call = Served(caller)
            self._calls[message.request] = caller
            caller.call = call
            progress = call.progress if message.receive_progress else None
            call.run(procedure, Invocation(session=member, procedure=uri, payload=payload, progress=progress))
        else:
            rights.require_called(member.principal)
            details: dict[str, Any] = {"receive_progress": True} if message.receive_progress else {}
            if received.options.get("disclose_me") is True:
                details |= member.disclosed("caller")
            caller.call = self._its_realm.dealer.call(uri, payload, details, caller)
            self._calls[message.request] = caller
        if message.timeout and message.request in self._calls:
            seconds = min(MAX_TIMEOUT, message.timeout / 1000)
            caller.expire(self._around.deadlines, seconds)

    def _find(self, uri: str) -> Procedure:
        if uri == RENEW:
            return self._renew
        procedure = (self._around.meta if uris.is_meta(uri) else self._around.procedures).find(uri)
        if procedure is None:
            raise refused("wamp.error.no_such_procedure", "There is no such procedure")
        return procedure

    def _forget(self, request: int) -> None:
        self._calls.pop(request, None)

    def _cancel(self, received: Received) -> None:
        caller = self._calls.get(received.message.request)
        if caller is not None:
            why = Told(errors.CANCELED, ["The caller has cancelled the call"])
            caller.cancel(received.message.mode or KILL_NO_WAIT, why)

    def _yield(self, received: Received) -> None:
        message, dealer = received.message, self._its_realm.dealer
        take = dealer.progressed if message.progress else dealer.yielded
        take(self._member, message.request, _payload(message))

    def _error(self, received: Received) -> None:
        message = received.message
        if message.request_type != Type.INVOCATION:
            raise Violation("ERROR: clients answer only invocations")
        payload = _payload(message)
        self._its_realm.dealer.failed(self._member, message.request, Told(message.error, payload.args, payload.kwargs))

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
        calls, self._calls = self._calls, {}
        for caller in calls.values():
            caller.abandon()
        if self.member is not None and self._realm is not None:
            self._around.watching.left(self.member)
            self._around.realms.leave(self.member, self._realm)
        if message is not None:
            self._send(message)
        self._connection.close(code, "" if message is None else message[-1])
        self._ended(self)

    # -- inside

    @property
    def _member(self) -> Member:
        assert self.member is not None  # the table of states says so
        return self.member

    @property
    def _its_realm(self) -> Realm:
        assert self._realm is not None
        return self._realm

    @property
    def _settings(self) -> WampSettings:
        return self._around.settings()

    def _send(self, message: list[Any]) -> None:
        self._connection.send(self._connection.serializer.encode(message))

    def _refuse(self, received: Received, error: BrokerError | Refused) -> None:
        """https://wamp-proto.org/spec.html, "Publishing and Events": errors of publishers who want no acknowledgement
        are not told."""
        if received.type is Type.PUBLISH and not received.message.acknowledge:
            return
        self._send(messages.error(received.type, received.message.request, told(error)))

    def _require_room(self, what: str, present: int, most: int) -> None:
        if present >= most:
            raise refused(f"{errors.OWN}too_many_{what}", f"This session has {present} {what}, and may have no more")


def _payload(message: Any) -> Payload:
    return Payload(message.args or [], message.kwargs or {})


def _sentence(error: BrokerError) -> str:
    return f"{error.message}. {error.hint}" if error.hint else error.message


def _digest(options: dict[str, Any]) -> bytes:
    """Tells different options apart, however long they are."""
    return hashlib.blake2b(repr(sorted(options.items())).encode(errors="replace"), digest_size=16).digest()


_STEPS: dict[tuple[State, Type], Callable[[Session, Received], None]] = {
    (State.NEW, Type.HELLO): Session._hello,
    (State.NEW, Type.ABORT): Session._aborted,
    (State.CHALLENGED, Type.AUTHENTICATE): Session._authenticate,
    (State.CHALLENGED, Type.ABORT): Session._aborted,
    (State.JOINED, Type.SUBSCRIBE): Session._subscribe,
    (State.JOINED, Type.UNSUBSCRIBE): Session._unsubscribe,
    (State.JOINED, Type.PUBLISH): Session._publish,
    (State.JOINED, Type.REGISTER): Session._register,
    (State.JOINED, Type.UNREGISTER): Session._unregister,
    (State.JOINED, Type.CALL): Session._call,
    (State.JOINED, Type.CANCEL): Session._cancel,
    (State.JOINED, Type.YIELD): Session._yield,
    (State.JOINED, Type.ERROR): Session._error,
    (State.JOINED, Type.GOODBYE): Session._goodbye,
    (State.JOINED, Type.ABORT): Session._aborted,
}
"""What may come when. Anything else is a violation: https://wamp-proto.org/spec.html, "Session Lifecycle"."""
