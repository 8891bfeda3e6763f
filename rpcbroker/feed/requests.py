"""What a session asks of the router once it has joined: topics, and procedures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rpcbroker.core.errors import BrokerError
from rpcbroker.core.feed import ROOT
from rpcbroker.feed import errors, messages, rights, uris
from rpcbroker.feed.calls import KILL_NO_WAIT, Caller, Served
from rpcbroker.feed.dealer import ROUND_ROBIN, SINGLE
from rpcbroker.feed.errors import Refused, Told, Violation, refused, told
from rpcbroker.feed.member import Member
from rpcbroker.feed.messages import Received, Type
from rpcbroker.feed.ports import Invocation, Joined, Payload, Procedure
from rpcbroker.feed.realm import Realm
from rpcbroker.feed.subscriptions import Publication
from rpcbroker.feed.surroundings import Surroundings

RENEW = f"{ROOT}session.renew"
MAX_TIMEOUT = 3600
"""Seconds; the longest time that a call can be given. Longer ones are taken for it."""
_LISTS = tuple(f"{kind}{whom}" for kind in ("exclude", "eligible") for whom in ("", "_authid", "_authrole"))


class Requests:
    """Those of one session. Each of its messages has a method, which raises Violation where it cannot be.

    `renew` is the procedure that gives the session another ticket.
    """

    def __init__(self, member: Member, realm: Realm, surroundings: Surroundings, renew: Procedure) -> None:
        self.member = member
        self._realm = realm
        self._around = surroundings
        self._renew = renew
        self._calls: dict[int, Caller] = {}

    def end(self) -> None:
        """The session is over: its calls are given up, and what it holds open ends."""
        calls, self._calls = self._calls, {}
        for caller in calls.values():
            caller.abandon()
        self._around.watching.left(self.member)
        self._around.realms.leave(self.member, self._realm)

    # -- topics

    def subscribe(self, received: Received) -> None:
        member, realm = self.member, self._realm
        topic, match = received.uri, received.message.match
        uris.check(topic, match)
        rights.require_subscribed(topic, match)
        watched = uris.fits_feed(topic, match)
        payloads = wants_payloads(member, received.options)
        own = (member, payloads) if watched else None
        subscription = realm.subscriptions.find(member, topic, match, own)
        if subscription is None:
            self._require_room(
                "subscriptions", realm.subscriptions.held(member), self._around.settings().max_subscriptions
            )
            subscription = realm.subscriptions.subscribe(member, topic, match, own)
            if watched:
                try:
                    self._around.watching.subscribe(member, subscription.id, topic, match, payloads=payloads)
                except BrokerError:
                    realm.subscriptions.unsubscribe(member, subscription.id)
                    raise
        self.member.send([Type.SUBSCRIBED, received.message.request, subscription.id])

    def unsubscribe(self, received: Received) -> None:
        message = received.message
        subscription = self._realm.subscriptions.unsubscribe(self.member, message.subscription)
        if uris.fits_feed(subscription.topic, subscription.match):
            self._around.watching.unsubscribe(self.member, subscription.id)
        self.member.send([Type.UNSUBSCRIBED, message.request])

    def publish(self, received: Received) -> None:
        member, message = self.member, received.message
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
        self._realm.subscriptions.publish(publication)
        if message.acknowledge:
            self.member.send([Type.PUBLISHED, message.request, publication.id])

    # -- procedures

    def register(self, received: Received) -> None:
        member, dealer, message = self.member, self._realm.dealer, received.message
        uris.check(received.uri, message.match)
        rights.require_registered(member.principal, received.uri)
        if message.match != uris.EXACT:
            raise refused("wamp.error.option_not_allowed", f"Procedures are registered exactly, not by {message.match}")
        if message.invoke not in (SINGLE, ROUND_ROBIN):
            raise refused(
                "wamp.error.option_not_allowed", f"invoke can be {SINGLE} or {ROUND_ROBIN}, not {message.invoke}"
            )
        self._require_room("registrations", dealer.registered(member), self._around.settings().max_registrations)
        registration = dealer.register(member, received.uri, message.invoke)
        self.member.send([Type.REGISTERED, message.request, registration.id])

    def unregister(self, received: Received) -> None:
        message = received.message
        self._realm.dealer.unregister(self.member, message.registration)
        self.member.send([Type.UNREGISTERED, message.request])

    def call(self, received: Received) -> None:
        member, message, uri = self.member, received.message, received.uri
        if message.request in self._calls:
            raise Violation("CALL: the request of this id still waits for its result")
        uris.check(uri)
        self._require_room("calls", len(self._calls), self._around.settings().max_calls)
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
            caller.call = self._realm.dealer.call(uri, payload, details, caller)
            self._calls[message.request] = caller
        if message.timeout and message.request in self._calls:
            milliseconds = min(MAX_TIMEOUT * 1000, message.timeout)  # as JSON has it, it may be beyond what is divided
            caller.expire(self._around.deadlines, milliseconds / 1000)

    def _find(self, uri: str) -> Procedure:
        if uri == RENEW:
            return self._renew
        procedure = (self._around.meta if uris.is_meta(uri) else self._around.procedures).find(uri)
        if procedure is None:
            raise refused("wamp.error.no_such_procedure", "There is no such procedure")
        return procedure

    def _forget(self, request: int) -> None:
        self._calls.pop(request, None)

    def cancel(self, received: Received) -> None:
        caller = self._calls.get(received.message.request)
        if caller is not None:
            why = Told(errors.CANCELED, ["The caller has cancelled the call"])
            caller.cancel(received.message.mode or KILL_NO_WAIT, why)

    def yielded(self, received: Received) -> None:
        message, dealer = received.message, self._realm.dealer
        take = dealer.progressed if message.progress else dealer.yielded
        take(self.member, message.request, _payload(message))

    def failed(self, received: Received) -> None:
        message = received.message
        if message.request_type != Type.INVOCATION:
            raise Violation("ERROR: clients answer only invocations")
        payload = _payload(message)
        self._realm.dealer.failed(self.member, message.request, Told(message.error, payload.args, payload.kwargs))

    # -- inside

    def _require_room(self, what: str, present: int, most: int) -> None:
        if present >= most:
            raise refused(f"{errors.OWN}too_many_{what}", f"This session has {present} {what}, and may have no more")


def _payload(message: Any) -> Payload:
    return Payload(message.args or [], message.kwargs or {})


def wants_payloads(session: Joined, options: dict[str, Any]) -> bool:
    """SUBSCRIBE says it in its options; a client that cannot send options of its own says it once for all, in HELLO."""
    return session.payloads or True in (options.get("payloads"), options.get("_payloads"))


def _answered(request: Callable[[Requests, Received], None]) -> Callable[[Requests, Received], None]:
    """What is refused is answered with an ERROR, but to publishers who want no acknowledgement.

    https://wamp-proto.org/spec.html, "Publishing and Events".
    """

    def answer(requests: Requests, received: Received) -> None:
        try:
            request(requests, received)
        except (BrokerError, Refused) as error:
            if received.type is not Type.PUBLISH or received.message.acknowledge:
                requests.member.send(messages.error(received.type, received.message.request, told(error)))

    return answer


REQUESTS: dict[Type, Callable[[Requests, Received], None]] = {
    Type.SUBSCRIBE: _answered(Requests.subscribe),
    Type.UNSUBSCRIBE: _answered(Requests.unsubscribe),
    Type.PUBLISH: _answered(Requests.publish),
    Type.REGISTER: _answered(Requests.register),
    Type.UNREGISTER: _answered(Requests.unregister),
    Type.CALL: _answered(Requests.call),
    Type.CANCEL: Requests.cancel,
    Type.YIELD: Requests.yielded,
    Type.ERROR: Requests.failed,
}
