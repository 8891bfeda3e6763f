"""The device API over HTTP: what each path does, and how errors are answered."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpcbroker.core import jsontext
from rpcbroker.core.broker import Broker
from rpcbroker.core.errors import (
    BrokerError,
    InvalidRequest,
    MethodNotAllowed,
    NobodyAnswers,
    NotAuthenticated,
    NotFound,
    PayloadTooLarge,
)
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.core.settings import HttpDeviceSettings
from rpcbroker.transports import paths
from rpcbroker.transports.http.answers import Render, answer, refuse
from rpcbroker.transports.http.polls import PollSurroundings, Wanted
from rpcbroker.transports.http.streams import Streams
from rpcbroker.transports.paths import Feature, Target
from rpcbroker.transports.uplinks import AttributesQuestion, Enrolment, Uplinks
from rpcbroker.wire.events import EVENT_STREAM

PREFIX = f"/{'/'.join(paths.PREFIX)}/".encode()
"""What the paths begin with that are answered here."""
MAX_ID = 19
"""Digits of a number that a request may name."""

_NUMBER = re.compile(rb"[0-9]{1,19}", re.ASCII)
_LIMITED = frozenset({Feature.RPC, Feature.REPLY, Feature.PROGRESS})
"""What max_rpc_size holds for."""


class HttpDevices:
    """All devices that speak HTTP."""

    _log = Logger()

    def __init__(
        self,
        *,
        broker: Broker,
        enrolment: Enrolment,
        settings: HttpDeviceSettings,
        render: Render,
        now_ms: Callable[[], int],
        seconds: Callable[[], float],
        write_timeout: Callable[[], float],
    ) -> None:
        """`render` makes an error an answer, as REST does; `write_timeout` is how long a device may not read."""
        self.settings = settings
        """Read whenever a limit is needed: put others here, and they hold from then on."""
        self._broker = broker
        self._uplinks = Uplinks(broker, enrolment, protocol="HTTP")
        self._render = render
        self._polls = PollSurroundings(
            settings=lambda: self.settings, deadlines=broker.deadlines, seconds=seconds, render=render
        )
        self._streams = Streams(self._polls, now_ms=now_ms, write_timeout=write_timeout)

    @property
    def open_polls(self) -> int:
        """Polls and event streams that are open."""
        return self._polls.open

    def largest(self, path: bytes) -> int | None:
        """How large the body of a request to this path may be, as far as can be told from it; None if that is no matter
        of this API. It is asked before the body comes."""
        behind = path[len(PREFIX) :].split(b"/", 2)
        return self.settings.max_rpc_size if len(behind) > 1 and behind[1].lower() == b"rpc" else None

    def serve(self, request: Any) -> None:
        """Answer a request whose path begins with PREFIX, at once or later. Never raises."""
        request.waiter = _PATIENT
        try:
            self._serve(request)
        except Exception:
            self._failed(Failure(), request)

    def _serve(self, request: Any) -> None:
        where = _target(request.path)
        actions = _ACTIONS[where.feature]
        action = actions.get(b"GET" if request.method == b"HEAD" and where.feature not in _WAITING else request.method)
        if action is None:
            raise _not_allowed(where.feature)
        if where.feature in _LIMITED and request.content.getbuffer().nbytes > self.settings.max_rpc_size:
            raise PayloadTooLarge(f"Payload size exceeds the limit of {self.settings.max_rpc_size} bytes")
        if where.token is None:
            self._provision(request)
            return
        session = self._broker.entrance.known(where.token)
        if session is not None:
            action(self, request, session, where)
        else:
            entering = Deferred.fromCoroutine(self._broker.entrance.enter(where.token))
            self._later(request, entering, lambda found: self._entered(request, found, where, action))

    def _entered(self, request: Any, session: DeviceSession | None, where: Target, action: Action) -> None:
        if session is None:
            raise NotAuthenticated("No device has this access token")
        if request.channel is not None:
            action(self, request, session, where)

    # -- calls

    def _wait_for_calls(self, request: Any, session: DeviceSession, _: Target) -> None:
        accept = request.requestHeaders.getRawHeaders(b"accept", ())
        events = any(EVENT_STREAM.encode() in value.lower() for value in accept)
        seconds = self._timeout(request)
        self._uplinks.asks_for_more(session)
        if events:
            self._streams.open(session, request, _last_event(request))
        else:
            self._polls.wait(session, request, Wanted.CALLS, seconds)

    def _reply(self, request: Any, session: DeviceSession, where: Target) -> None:
        outcome = self._uplinks.reply(session, where.number, request.content.getvalue())
        link = self._polls.links.get(session)
        if link is not None:
            if isinstance(outcome, Deferred):  # until the reply is in the store, the call may come back from there
                outcome.addCallback(_after, link.answered, where.number)
            else:
                link.answered(where.number)
        self._done(request, outcome)

    def _progress(self, request: Any, session: DeviceSession, where: Target) -> None:
        outcome = self._uplinks.progress(session, where.number, _body(request))
        link = self._polls.links.get(session)
        if link is not None:
            link.heard(where.number)
        self._done(request, outcome)

    def _ask(self, request: Any, session: DeviceSession, _: Target) -> None:
        own = {"getSessionLimits": lambda: self._limits_of(session)}

        def nobody(failure: Failure) -> None:
            failure.trap(NobodyAnswers)
            answer(request, 404, jsontext.encode({"error": failure.value.message}))

        said = maybeDeferred(self._uplinks.ask, session, _body(request), own)
        said.addCallbacks(lambda text: answer(request, 200, text), nobody).addErrback(self._failed, request)

    def _limits_of(self, session: DeviceSession) -> bytes:
        limits = self._broker.quotas.limits_of(session.device)
        return jsontext.encode({"maxPayloadSize": self.settings.max_rpc_size} | limits)

    # -- values

    def _telemetry(self, request: Any, session: DeviceSession, _: Target) -> None:
        self._done(request, self._uplinks.telemetry(session, _body(request)))

    def _attributes(self, request: Any, session: DeviceSession, _: Target) -> None:
        self._done(request, self._uplinks.attributes(session, _body(request)))

    def _read_attributes(self, request: Any, session: DeviceSession, _: Target) -> None:
        question = AttributesQuestion(_text(request, b"clientKeys"), _text(request, b"sharedKeys"))
        found = self._uplinks.read_attributes(session, question)
        self._later(request, found, lambda body: answer(request, 200, body))

    def _wait_for_updates(self, request: Any, session: DeviceSession, _: Target) -> None:
        seconds = self._timeout(request)
        self._uplinks.asks_for_more(session)
        self._polls.wait(session, request, Wanted.UPDATES, seconds)

    # -- enrolment, and what there is not

    def _claim(self, request: Any, session: DeviceSession, _: Target) -> None:
        self._done(request, self._uplinks.claim(session, request.content.getvalue()))

    def _provision(self, request: Any) -> None:
        self._later(request, self._uplinks.provision(_body(request)), lambda body: answer(request, 200, body))

    def _no_firmware(self, request: Any, session: DeviceSession, _: Target) -> None:
        self._uplinks.asks_for_more(session)
        raise NotFound("Firmware and software updates are not served here")

    # -- what all have in common

    def _timeout(self, request: Any) -> float:
        """How long a poll may wait. A number that is too large is cut."""
        settings = self.settings
        given = request.args.get(b"timeout")
        if given is None:
            return settings.poll_timeout
        if len(given) > 1 or not _NUMBER.fullmatch(given[0]):
            raise InvalidRequest(f"timeout must be a number of milliseconds, of up to {MAX_ID} digits")
        return min(int(given[0]) / 1000, settings.max_poll_timeout) or settings.poll_timeout

    def _done(self, request: Any, outcome: Deferred[Any] | bool | None) -> None:
        """Answer with nothing, when it is done."""
        if isinstance(outcome, Deferred):
            self._later(request, outcome, lambda _: answer(request, 200))
        else:
            answer(request, 200)

    def _later(self, request: Any, outcome: Deferred[Any], then: Callable[[Any], None]) -> None:
        outcome.addCallback(then).addErrback(self._failed, request)

    def _failed(self, failure: Failure, request: Any) -> None:
        error = failure.value
        if isinstance(error, jsontext.BadJSON):
            error = InvalidRequest(f"Invalid payload: {error}")
        elif not isinstance(error, BrokerError):
            self._log.failure("a {method} of a device failed", failure=failure, method=request.method)  # no token
            error = BrokerError("Internal error", hint="The server's log says more.")
        refuse(request, self._render(error))


class _Patient:
    """The `waiter` of a request whose answer is on its way: what was begun is done, whoever has left."""

    def lost(self) -> None:
        """There is nobody to answer."""

    def half_closed(self) -> bool:
        return True


_PATIENT = _Patient()

T = TypeVar("T")
Action = Callable[[HttpDevices, Any, DeviceSession, Target], None]

_REFUSED: Mapping[bytes, Action] = {b"GET": HttpDevices._no_firmware}
_ACTIONS: dict[Feature, Mapping[bytes, Action]] = {
    Feature.RPC: {b"GET": HttpDevices._wait_for_calls, b"POST": HttpDevices._ask},
    Feature.REPLY: {b"POST": HttpDevices._reply},
    Feature.PROGRESS: {b"POST": HttpDevices._progress},
    Feature.TELEMETRY: {b"POST": HttpDevices._telemetry},
    Feature.ATTRIBUTES: {b"GET": HttpDevices._read_attributes, b"POST": HttpDevices._attributes},
    Feature.UPDATES: {b"GET": HttpDevices._wait_for_updates},
    Feature.CLAIM: {b"POST": HttpDevices._claim},
    Feature.FIRMWARE: _REFUSED,
    Feature.SOFTWARE: _REFUSED,
    Feature.PROVISION: {b"POST": lambda api, request, session, where: api._provision(request)},
}
_WAITING = frozenset({Feature.RPC, Feature.UPDATES})
"""Where a GET waits, and takes what it is given: there is no HEAD."""


def _after(result: T, act: Callable[[int], None], number: int) -> T:
    act(number)
    return result


def _target(path: bytes) -> Target:
    text = path[len(PREFIX) :].decode()  # the front door has seen to it that it is UTF-8, also once it is unquoted
    segments = text.split("/")
    if "%" in text:
        segments = [unquote(segment) for segment in segments]
    try:
        return paths.target(segments)
    except paths.BadNumber as error:
        raise InvalidRequest(f"The path cannot be read: {error}") from None
    except paths.NoSuchPath as error:
        raise NotFound(f"There is nothing at this path: {error}") from None


def _not_allowed(feature: Feature) -> MethodNotAllowed:
    allowed = tuple(method.decode() for method in _ACTIONS[feature])
    if "GET" in allowed and feature not in _WAITING:
        allowed = (*allowed, "HEAD")
    return MethodNotAllowed(f"This path takes {', '.join(allowed)}", allowed=allowed)


def _body(request: Any) -> bytes:
    body: bytes = request.content.getvalue()
    if not body:
        raise InvalidRequest("The body is missing")
    return body


def _text(request: Any, name: bytes) -> str | None:
    """A query parameter; one that is given twice has both values, with a comma between them."""
    values = request.args.get(name)
    try:
        return None if values is None else b",".join(values).decode()
    except UnicodeDecodeError:
        raise InvalidRequest("Query parameters must be UTF-8") from None


def _last_event(request: Any) -> int | None:
    given = request.requestHeaders.getRawHeaders(b"last-event-id", ())
    return int(given[0]) if len(given) == 1 and _NUMBER.fullmatch(given[0]) else None
