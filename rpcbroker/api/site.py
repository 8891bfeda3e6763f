"""Routes made into a web resource, on Klein: one way in, one way out."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, cast

import msgspec
from klein import Klein
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource
from twisted.web.server import Request
from werkzeug.datastructures import MIMEAccept
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed as WrongMethod
from werkzeug.http import parse_accept_header
from werkzeug.routing import UnicodeConverter

from rpcbroker.api.audit import Auditor
from rpcbroker.api.errors import Rendered, render
from rpcbroker.api.event_stream import Events, EventStream
from rpcbroker.api.hot_routes import HotRoutes
from rpcbroker.api.routes import JSON, Answer, Note, Route
from rpcbroker.api.who import Who, require
from rpcbroker.core import jsontext
from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.errors import (
    BrokerError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    UnsupportedMediaType,
)
from rpcbroker.core.model import Principal
from rpcbroker.core.settings import HttpSettings
from rpcbroker.core.tasks import Task
from rpcbroker.schema.ids import parse_uuid
from rpcbroker.wire.events import EVENT_STREAM, Event, encode

_JSON_TYPE = re.compile(
    r"application/(?:[\w.+-]+\+)?json\s*(?:;\s*charset=\"?(?:utf-8|us-ascii)\"?\s*)?;?", re.IGNORECASE
)
_HOST = re.compile(r"[A-Za-z0-9.-]{1,255}(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?")
_PARAMETER = re.compile(r"<(\w+)>")

Write = Callable[[Any, Answer | Rendered], bytes]
"""Answers a request; what it returns is still to be written as the body."""


class Api:
    """The whole API of a server."""

    _log = Logger()

    def __init__(
        self,
        table: Iterable[Route],
        *,
        who: Who,
        auditor: Auditor,
        settings: HttpSettings,
        deadlines: Deadlines,
        now_ms: Callable[[], int],
        seconds: Callable[[], float],
    ) -> None:
        self.settings = settings
        self._who = who
        self._auditor = auditor
        self._deadlines = deadlines
        self._now_ms = now_ms
        self._seconds = seconds
        self._app = Klein()
        table = tuple(table)
        self._app.url_map.converters["other_than"] = _OtherThan
        for route in table:
            self._mount(route, _told_apart(route, table))
        self._hot = HotRoutes(route for route in table if route.hot)
        self._app.handle_errors(HTTPException)(self._no_route)

    def resource(self) -> IResource:
        """What a twisted.web Site serves."""
        return cast(IResource, self._app.resource())

    def render(self, error: BrokerError) -> Rendered:
        """An error of the front door, in the API's words."""
        return render(error, now_ms=self._now_ms())

    def _mount(self, route: Route, path: str) -> None:
        def endpoint(request: Request, **parameters: str) -> Deferred[bytes]:
            return self._begin(route, request, parameters)

        self._app.route(path, methods=[route.method], endpoint=route.operation)(endpoint)

    def hot(self, method: bytes, path: bytes) -> Callable[[Any], object] | None:
        """What answers a plain request of this method to this path, if it is one to a hot route, as the resource does.

        The request is to have `serving`, what to cancel when the caller leaves, and `respond`.
        """
        found = self._hot.find(method, path)
        if found is None:
            return None
        route, parameters = found

        def answer(request: Any) -> None:
            serving = Task(self._serve(route, request, parameters, _respond), partial(self._unanswered, request))
            if serving.waits and (route.ends_with_caller or route.method == "GET"):
                request.serving = serving

        return answer

    def _unanswered(self, request: Any, failure: Failure) -> None:
        """The caller has left; or what was to be answered could not be written, and nothing better can be either."""
        if failure.check(CancelledError) is None:
            self._log.failure("an answer failed", failure=failure)
            if request.channel is not None:
                request.channel.loseConnection()

    def _begin(self, route: Route, request: Request, parameters: dict[str, str]) -> Deferred[bytes]:
        """Fires with what is still to be written, and is cancelled if the caller leaves."""
        serving = Deferred.fromCoroutine(self._serve(route, request, parameters, _write))
        return serving if route.ends_with_caller or route.method == "GET" else _to_the_end(serving)

    async def _serve(self, route: Route, request: Any, parameters: dict[str, str], write: Write) -> bytes:
        started = self._seconds()
        note = None if route.action is None else Note(route.action, route.entity)
        last, error, streaming = b"", None, False
        try:
            answer = _answer(await self._handle(route, request, parameters, note))
            if isinstance(answer.body, bytes):
                last = write(request, answer)
            else:
                streaming = True
                await self._stream(request, answer, answer.body)
        except CancelledError:  # the caller has left, and what was begun goes on
            self._record(note, None, started)
            raise
        except BrokerError as failed:
            error = failed
        except Exception:
            self._log.failure("{method} {path} failed", method=route.method, path=route.path)
            error = BrokerError("Internal error", hint="The server's log says more.")
        if error is not None:
            rendered = render(error, now_ms=self._now_ms(), statuses=route.statuses)
            last = encode(Event("error", rendered.body)) if streaming else write(request, rendered)
        self._record(note, error, started)
        return last

    def _record(self, note: Note | None, error: BrokerError | None, started: float) -> None:
        if note is not None:
            self._auditor.record(note, error, self._seconds() - started)

    async def _stream(self, request: Request, answer: Answer, events: Events) -> None:
        """Write events as they come. Raises what they raise."""
        _head(request, answer, EVENT_STREAM)
        request.setHeader("X-Accel-Buffering", "no")  # nginx would keep events back until it has enough of them
        if request.method == b"HEAD":
            await events.aclose()
        else:
            await EventStream(request, self._deadlines, answer.patience).send(events)

    def _handle(self, route: Route, request: Any, parameters: dict[str, str], note: Note | None) -> Awaitable[Any]:
        """What the handler makes of a request that it may have. Raises BrokerError."""
        given: list[Any] = []
        if route.roles is not None:
            principal = self._who.principal(_authorization(request))
            self._who.count(principal)
            require(principal, route.roles, route.access)
            given.append(principal)
        members: dict[str, Any] = {}
        for name, text in parameters.items():
            members[name] = parse_uuid(text) if name.endswith("_id") else text
        if note is not None:
            if given:
                note.principal = given[0]
            note.entity_id = members.get(f"{route.entity.lower()}_id")
            members["note"] = note
        if route.query is not None:
            members["query"] = _query(request, route.query)
        if route.body is not None:
            members["body"] = request.content.read() if route.raw_body else _body(request, route.body)
        if route.needs_url:
            members["url"] = self._url(request)
        if route.needs_who:
            members["who"] = lambda: self._asking(request)
        if route.stream:
            members["last_event_id"] = _header(request, b"last-event-id")
            members["who"] = lambda: self._permitted(route, request)
        if route.may_stream:
            members["events"] = _prefers_events(_header(request, b"accept"))
        return route.handler(*given, **members)

    def _asking(self, request: Request) -> Principal | None:
        header = _authorization(request)
        return self._who.principal(header) if header else None

    def _permitted(self, route: Route, request: Request) -> Principal:
        """Who asks, if that one may use the route now. Raises NotAuthenticated, PermissionDenied."""
        principal = self._who.principal(_authorization(request))
        require(principal, route.roles or frozenset(), route.access)
        return principal

    def _url(self, request: Request) -> str:
        """How the caller reaches this server, for links."""
        if self.settings.public_url:
            return self.settings.public_url.rstrip("/")
        host = _header(request, b"host")
        if not _HOST.fullmatch(host):
            raise InvalidRequest("The Host header cannot be used for a link", hint="Set http.public_url.")
        return f"http{'s' if request.isSecure() else ''}://{host}"

    def _no_route(self, request: Request, failure: Failure) -> Deferred[bytes]:
        error: BrokerError = NotFound("There is nothing at this path")
        if isinstance(failure.value, WrongMethod):
            allowed = tuple(sorted(failure.value.valid_methods or ()))
            error = MethodNotAllowed(f"This path takes {', '.join(allowed)}", allowed=allowed)
        elif getattr(failure.value, "code", None) == 400:
            error = InvalidRequest("The request's path cannot be read")
        return succeed(_write(request, self.render(error)))


class _OtherThan(UnicodeConverter):
    """A parameter that is none of these words."""

    def __init__(self, url_map: Any, *words: str) -> None:
        super().__init__(url_map)
        alternatives = "|".join(map(re.escape, words))
        self.regex = rf"(?!(?:{alternatives})(?:/|$))[^/]+"


def _told_apart(route: Route, table: Iterable[Route]) -> str:
    """The route's path, whose parameters are none of the words that other paths have in their place: a device is not
    called `types` where there is `/api/device/types`."""
    mine = route.path.split("/")
    others = [other.path.split("/") for other in table]
    for index, name in enumerate(mine):
        if _PARAMETER.fullmatch(name):
            words = {other[index] for other in others if len(other) > index and _alike(mine[:index], other[:index])}
            words = {word for word in words if word and not _PARAMETER.fullmatch(word)}
            if words:
                quoted = ",".join(f"'{word}'" for word in sorted(words))
                mine[index] = f"<other_than({quoted}):{name[1:]}"
    return "/".join(mine)


def _alike(path: list[str], other: list[str]) -> bool:
    """Whether one request's path can begin with both."""
    pairs = zip(path, other, strict=True)
    return all(one == two or "<" in one or "<" in two for one, two in pairs)


def _to_the_end(serving: Deferred[bytes]) -> Deferred[bytes]:
    """Fires as `serving` does. Klein cancels it when the caller leaves: what was begun is not left half done."""
    answered: Deferred[bytes] = Deferred()
    serving.addBoth(answered.callback)
    return answered


def _header(request: Request, name: bytes) -> str:
    """A header's value, empty if there is none; whatever bytes it may have. The name is in small letters."""
    value: bytes | None = request.getHeader(name)
    return value.decode("latin-1").strip() if value else ""


def _prefers_events(accept: str) -> bool:
    """Whether that is what an Accept header says; who likes JSON as much gets JSON."""
    if EVENT_STREAM not in accept.lower():
        return False  # every call asks, and parsing costs more than all the rest that is done with headers
    return parse_accept_header(accept, MIMEAccept).best_match((JSON, EVENT_STREAM)) == EVENT_STREAM


def _authorization(request: Request) -> str:
    return _header(request, b"x-authorization") or _header(request, b"authorization")


def _query(request: Request, type_: Any) -> Any:
    """Query parameters as `type_`; one that is given twice has both values, with a comma between them."""
    try:
        pairs = {name.decode(): b",".join(values).decode() for name, values in request.args.items()}
        query = msgspec.convert(pairs, type_, strict=False)
    except UnicodeDecodeError:
        raise InvalidRequest("Query parameters must be UTF-8") from None
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"Bad query parameter: {error}") from None
    for each in msgspec.structs.fields(type_):
        if each.encode_name in pairs and getattr(query, each.name) is None:
            raise InvalidRequest(f"Bad query parameter: {each.encode_name} is null: leave it out")
    return query


def _body(request: Request, type_: Any) -> Any:
    content_type = _header(request, b"content-type")
    if content_type and not _JSON_TYPE.fullmatch(content_type):
        raise UnsupportedMediaType(
            "The body must be JSON", hint="Say Content-Type: application/json; curl does with -H or --json."
        )
    try:
        return jsontext.decode_as(type_, request.content.read())
    except jsontext.BadJSON as error:
        raise InvalidRequest(f"Invalid request body: {error}") from None


def _answer(result: Any) -> Answer:
    if isinstance(result, Answer):
        return result
    return Answer() if result is None else Answer(jsontext.encode(result))


def _head(request: Request, answer: Answer | Rendered, content_type: str | None) -> None:
    """Status and headers; without a body there is no type."""
    request.setResponseCode(answer.status)
    headers = request.responseHeaders
    headers.setRawHeaders("Cache-Control", ["no-store"])  # caches do not know that X-Authorization means somebody
    if content_type is None:
        headers.removeHeader("Content-Type")
    else:
        headers.setRawHeaders("Content-Type", [content_type])
    for name, value in answer.headers.items():
        headers.setRawHeaders(name, [value])


def _write(request: Request, answer: Answer | Rendered) -> bytes:
    body = answer.body
    assert isinstance(body, bytes), "events are streamed"
    _head(request, answer, answer.content_type if body else None)
    request.responseHeaders.setRawHeaders("Content-Length", [str(len(body))])
    return body


def _respond(request: Any, answer: Answer | Rendered) -> bytes:
    """Write the answer to a plain request; nothing is left to be written."""
    request.respond(answer.status, answer.body, answer.content_type, answer.headers)
    return b""
