"""What requests of devices do over CoAP: the table of paths and methods, one way in, one way out."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple, NoReturn, TypeAlias

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from rpcbroker.core import jsontext
from rpcbroker.core.broker import Broker
from rpcbroker.core.errors import BrokerError, InvalidRequest, NobodyAnswers, PayloadTooLarge, Unavailable
from rpcbroker.core.near_misses import NearMiss
from rpcbroker.core.provisioning import ProvisionStatus
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.core.settings import CoapSettings
from rpcbroker.transports import paths
from rpcbroker.transports.coap import formats
from rpcbroker.transports.coap.device import CoapLink, LinkSurroundings
from rpcbroker.transports.coap.errors import refusal
from rpcbroker.transports.coap.exchange import Answer, Refused, Request, Response
from rpcbroker.transports.coap.who import Senders
from rpcbroker.transports.near import shown
from rpcbroker.transports.paths import Feature, NoSuchPath
from rpcbroker.transports.uplinks import AttributesQuestion, Uplinks
from rpcbroker.wire.coap.numbers import Code, ContentFormat

MAX_PROVISION_SIZE = 4 << 10
"""Bytes of a stranger's request to become a device: enough for a certificate, and anybody may send one."""

_DIRECTORY_PATH = (".well-known", "core")
_DIRECTORY = b'</api/v1>;rt="device";ct="50 60";obs,</api/v1/provision>'
"""What there is (RFC 6690). Short, for strangers get it: with its header it is three times the request that asks."""

_CREATED = Response(code=Code.CREATED, authenticated=True)
_DELETED = Response(code=Code.DELETED, authenticated=True)
_VALID = Response(code=Code.VALID, authenticated=True)


class Place(NamedTuple):
    """What a request is for. Its action is None where no device is needed: whoever sends it is a stranger."""

    token: str | None
    number: int
    action: Action | None


class CoapSite:
    """The Handler of all requests, over UDP and over DTLS."""

    def __init__(
        self,
        uplinks: Uplinks,
        secured: Uplinks,
        broker: Broker,
        *,
        settings: Callable[[], CoapSettings],
        now_ms: Callable[[], int],
    ) -> None:
        """`uplinks` is for what devices say over UDP, `secured` for what they say over DTLS."""
        self._spoken = (uplinks, secured)
        self._broker = broker
        self._settings = settings
        self._senders = Senders(broker, now_ms)
        self._around = LinkSurroundings(deadlines=broker.deadlines, settings=settings)

    def handle(self, request: Request) -> Answer:
        """The answer to a request, at once wherever nothing has to be read or kept for it.

        Raises, and fails with, BrokerErrors and Refused where it is not known who asks; who is known is told by the
        answer.
        """
        if request.path == _DIRECTORY_PATH:
            return _directory(request)
        if request.accept is not None:
            formats.check_accept(request.accept)
        place = _place(request)
        if place.action is None:
            return self._provision(request)
        session = self._senders.known(place.token, request.peer)
        if session is not None:
            return self._act(session, request, place)
        entering = Deferred.fromCoroutine(self._senders.enter(place.token, request.peer))
        return entering.addCallback(self._act, request, place)

    def admit(self, request: Request) -> Refused | bool | Deferred[Refused | bool]:
        """See Admit."""
        try:
            formats.check_accept(request.accept)
            formats.check_content_format(request.content_format)
            place = _place(request)
        except (BrokerError, Refused) as error:
            return _refused(error)
        if place.action is None:
            return False
        if self._senders.known(place.token, request.peer) is not None:
            return True
        entering = Deferred.fromCoroutine(self._senders.enter(place.token, request.peer))

        def failed(failure: Failure) -> Refused:
            failure.trap(BrokerError)
            return _refused(failure.value)

        return entering.addCallbacks(lambda session: True if session else _unknown(place), failed)

    def _act(self, session: DeviceSession | None, request: Request, place: Place) -> Answer:
        if session is None:
            raise _unknown(place)
        assert place.action is not None
        try:
            answer = place.action(self, session, request, place.number)
        except (BrokerError, Refused) as error:
            answer = refusal(error, authenticated=True)
        link = self._around.links.get(session)
        if link is not None:  # what the device said comes first: it may be the reply to what would be sent now
            link.heard(request.peer)
        return answer if isinstance(answer, Response) else answer.addErrback(_refuse)

    # -- calls

    def _calls(self, session: DeviceSession, request: Request, _: int) -> Answer:
        self._uplinks(request).asks_for_more(session)
        if request.observe == 1:
            request.deregister()
            return _DELETED
        if request.observe is None:
            session.note(NearMiss.UNKNOWN_FILTER, "has asked for calls without Observe, and so gets none")
            raise Refused(Code.BAD_REQUEST, "calls come to who observes this: GET with Observe 0")
        observation = request.register()
        if observation is None:
            raise Unavailable("This address observes too much", hint="See coap.max_observations_per_peer.")
        self._link(session, request).observe_calls(observation)
        return _VALID

    def _link(self, session: DeviceSession, request: Request) -> CoapLink:
        """What the device has already; a new one, which will replace it, if that speaks the other protocol."""
        link, protocol = self._around.links.get(session), self._uplinks(request).protocol
        return link if link is not None and link.protocol == protocol else CoapLink(session, protocol, self._around)

    def _uplinks(self, request: Request) -> Uplinks:
        return self._spoken[request.peer.secure]

    def _reply(self, session: DeviceSession, request: Request, number: int) -> Answer:
        self._arrived(session, number)
        return _created(self._uplinks(request).reply(session, number, self._body(session, request)))

    def _progress(self, session: DeviceSession, request: Request, number: int) -> Answer:
        self._arrived(session, number)
        return _created(self._uplinks(request).progress(session, number, self._body(session, request)))

    def _arrived(self, session: DeviceSession, number: int) -> None:
        link = self._around.links.get(session)
        if link is not None:
            link.arrived(number)

    def _ask(self, session: DeviceSession, request: Request, _: int) -> Answer:
        own = {"getSessionLimits": partial(self._session_limits, session)}
        timeout = self._settings().question_timeout

        def nobody(failure: Failure) -> Response:
            failure.trap(NobodyAnswers)
            return _answer(request, jsontext.encode({"error": failure.value.message}), Code.NOT_FOUND)

        said = maybeDeferred(self._uplinks(request).ask, session, self._body(session, request), own, timeout)
        return said.addCallbacks(partial(_answer, request), nobody)

    def _session_limits(self, session: DeviceSession) -> bytes:
        limits = {"maxPayloadSize": self._settings().max_body_size}
        return jsontext.encode(limits | self._broker.quotas.limits_of(session.device))

    # -- values

    def _telemetry(self, session: DeviceSession, request: Request, _: int) -> Answer:
        return _created(self._uplinks(request).telemetry(session, self._body(session, request)))

    def _attributes(self, session: DeviceSession, request: Request, _: int) -> Answer:
        return _created(self._uplinks(request).attributes(session, self._body(session, request)))

    def _read_attributes(self, session: DeviceSession, request: Request, _: int) -> Answer:
        if request.observe == 0:
            return self._observe_attributes(session, request)
        if request.observe == 1:
            request.deregister()
        asked = dict(each.split("=", 1) for each in request.query if "=" in each)
        question = AttributesQuestion(asked.get("clientKeys"), asked.get("sharedKeys"))
        return self._uplinks(request).read_attributes(session, question).addCallback(partial(_answer, request))

    def _observe_attributes(self, session: DeviceSession, request: Request) -> Answer:
        reading = self._uplinks(request).shared_attributes(session)
        observation = request.register()  # before they are read: what changes meanwhile is told after the answer
        if observation is None:
            return reading.addCallback(partial(_answer, request))
        link = self._link(session, request)
        link.observe_attributes(observation)

        def failed(failure: Failure) -> Failure:
            observation.end()
            link.lose(observation, "could not be told of its attributes")
            return failure

        return reading.addCallbacks(partial(_answer, request), failed)

    # -- enrolment

    def _claim(self, session: DeviceSession, request: Request, _: int) -> Answer:
        return _created(self._uplinks(request).claim(session, self._body(session, request)))

    def _provision(self, request: Request) -> Answer:
        if len(request.payload) > MAX_PROVISION_SIZE:
            raise PayloadTooLarge(f"Such a request has at most {MAX_PROVISION_SIZE} bytes")
        payload = formats.read(request.payload, request.content_format)

        def answer(text: bytes) -> Response:
            welcome = jsontext.decode(text)["status"] == ProvisionStatus.SUCCESS
            response = _answer(request, text, Code.CREATED if welcome else Code.BAD_REQUEST)
            response.authenticated = welcome
            return response

        def failed(failure: Failure) -> NoReturn:
            failure.trap(jsontext.BadJSON)
            raise InvalidRequest(f"Invalid payload: {failure.value}")

        return self._uplinks(request).provision(payload).addCallbacks(answer, failed)

    # -- what is not right

    def _firmware(self, session: DeviceSession, request: Request, _: int) -> NoReturn:
        session.seen(self._uplinks(request).protocol)
        raise Refused(Code.NOT_FOUND, "firmware and software updates are not served here")

    def _read_telemetry(self, session: DeviceSession, request: Request, _: int) -> NoReturn:
        session.seen(self._uplinks(request).protocol)
        raise Refused(Code.BAD_REQUEST, "telemetry can be posted, not read")

    def _astray(self, session: DeviceSession, request: Request, _: int, *, code: int, why: str) -> NoReturn:
        session.seen(self._uplinks(request).protocol)
        path = shown("/".join(request.path).removeprefix("/"))
        session.note(NearMiss.UNKNOWN_TOPIC, f"has sent a request to {path!r}: {why}")
        raise Refused(code, why)

    def _body(self, session: DeviceSession, request: Request) -> bytes:
        try:
            return formats.read(request.payload, request.content_format)
        except BrokerError as error:
            session.seen(self._uplinks(request).protocol)
            session.note(NearMiss.BAD_PAYLOAD, f"has sent a body that is not read: {error.message}")
            raise


Action: TypeAlias = "Callable[[CoapSite, DeviceSession, Request, int], Answer]"

_ACTIONS: dict[tuple[Feature, int], Action] = {
    (Feature.RPC, Code.GET): CoapSite._calls,
    (Feature.RPC, Code.POST): CoapSite._ask,
    (Feature.REPLY, Code.POST): CoapSite._reply,
    (Feature.PROGRESS, Code.POST): CoapSite._progress,
    (Feature.TELEMETRY, Code.GET): CoapSite._read_telemetry,
    (Feature.TELEMETRY, Code.POST): CoapSite._telemetry,
    (Feature.ATTRIBUTES, Code.GET): CoapSite._read_attributes,
    (Feature.ATTRIBUTES, Code.POST): CoapSite._attributes,
    (Feature.CLAIM, Code.POST): CoapSite._claim,
    (Feature.FIRMWARE, Code.GET): CoapSite._firmware,
    (Feature.SOFTWARE, Code.GET): CoapSite._firmware,
}

_METHODS = (Code.GET, Code.POST)


@lru_cache(256)
def _usual(word: str, code: int) -> Action | None:
    """What a path does that has this one word behind the token; None for those that need a closer look."""
    try:
        return _ACTIONS.get((paths.target(("", word)).feature, code))
    except NoSuchPath:
        return None


def _place(request: Request) -> Place:
    """What the request is for. Raises Refused for what is for nobody."""
    path = request.path
    if len(path) == 4 and path[:2] == paths.PREFIX and request.peer.certificate is None:
        action = _usual(path[3], request.code)
        if action is not None:
            return Place(path[2], 0, action)
    if request.code not in _METHODS:
        raise Refused(Code.METHOD_NOT_ALLOWED, "only GET and POST are served")
    if len(path) == 1 and "/" in path[0]:  # some clients put the whole path into one option
        path = tuple(path[0].removeprefix("/").split("/"))
    if path[:2] != paths.PREFIX:
        raise Refused(Code.NOT_FOUND, "paths begin with /api/v1")
    rest = path[2:]
    try:
        feature, token, number = _target(rest, request)
    except NoSuchPath as error:
        token = rest[0] if rest else None
        return Place(token, 0, partial(CoapSite._astray, code=Code.BAD_REQUEST, why=_why(rest, error)))
    action = _ACTIONS.get((feature, request.code))
    if action is not None:
        return Place(token, number, action)
    if feature is Feature.PROVISION:
        if request.code == Code.POST:
            return Place(None, 0, None)
        raise Refused(Code.METHOD_NOT_ALLOWED, "only POST is served here")
    if feature is Feature.UPDATES:
        why = "changes of attributes come to who observes .../attributes"
        return Place(token, 0, partial(CoapSite._astray, code=Code.BAD_REQUEST, why=why))
    why = f"{'GET' if request.code == Code.GET else 'POST'} is not served here"
    return Place(token, 0, partial(CoapSite._astray, code=Code.METHOD_NOT_ALLOWED, why=why))


def _target(rest: tuple[str, ...], request: Request) -> paths.Target:
    if request.peer.certificate is not None:
        try:
            return paths.target(rest, has_token=False)
        except NoSuchPath:
            pass  # a device may have a certificate, and show a token all the same
    return paths.target(rest)


def _why(rest: tuple[str, ...], error: NoSuchPath) -> str:
    if any(word.lower() in ("v1", "v2") for word in rest[:2]):
        return "topics of MQTT are not spoken here: replies go to /api/v1/{token}/rpc/{id}"
    return str(error)


def _unknown(place: Place) -> Refused:
    """The same for all who are not known, whatever they ask for."""
    return Refused(Code.UNAUTHORIZED, "no access token" if place.token is None else "unknown access token")


def _directory(request: Request) -> Response:
    if request.code != Code.GET:
        raise Refused(Code.METHOD_NOT_ALLOWED, "only GET is served here")
    if request.accept not in (None, ContentFormat.LINK):
        raise Refused(Code.NOT_ACCEPTABLE, "this is a list of links (40)")
    return Response(code=Code.CONTENT, payload=_DIRECTORY, content_format=ContentFormat.LINK)


def _answer(request: Request, text: bytes, code: int = Code.CONTENT) -> Response:
    """JSON text, in the format that the request asks for."""
    content_format = formats.chosen(request.accept, request.content_format)
    payload = formats.write(text, content_format)
    return Response(code=code, payload=payload, content_format=content_format, authenticated=True)


def _created(done: object) -> Answer:
    """2.01, when that is done."""
    if done is None:  # most often; whether something is a Deferred takes longer to find out
        return _CREATED
    return done.addCallback(_as_created) if isinstance(done, Deferred) else _CREATED


def _as_created(_: object) -> Response:
    return _CREATED


def _refuse(failure: Failure) -> Response:
    failure.trap(BrokerError, Refused)
    return refusal(failure.value, authenticated=True)


def _refused(error: BrokerError | Refused) -> Refused:
    response = refusal(error)
    return Refused(response.code, response.payload.decode())
