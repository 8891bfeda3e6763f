"""A node that calls another server over HTTP."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated
from urllib.parse import quote

import msgspec
from hyperlink import URL
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore

from rpcbroker.core import jsontext
from rpcbroker.rules.errors import NodeFailed
from rpcbroker.rules.message import RuleMessage
from rpcbroker.rules.node import NodeType, Out, Outcome, Place
from rpcbroker.rules.nodes.bodies import with_metadata
from rpcbroker.rules.ports import WebCallFailed, WebCallRefused, WebRequest, WebResponse
from rpcbroker.rules.templates import Template
from rpcbroker.rules.types import FAILURE, SUCCESS

BACKOFF = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before a request is made again."""
MAX_BUFFER = 16 << 10
"""KiB of a response that a node may take."""
DEFAULT_BUFFER = 256
MAX_ERROR = 256 << 10
"""Characters of a response that is no success which become metadata."""
MAX_URL = 64 << 10
MAX_HEADERS = 64 << 10
"""Characters of the headers of a request: what is longer no server takes."""

_HEAD = re.compile(r"((?:[^:/?#]*://)?[^/?#]*)([^#]*)", re.DOTALL)
"""Scheme and host of a URL, and what comes behind; a fragment is not sent."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_CHARSET = re.compile(r"charset=\"?([\w.:-]+)", re.ASCII | re.IGNORECASE)
_CHARSETS = {"iso-8859-1": "cp1252", "latin1": "cp1252", "windows-1252": "cp1252", "utf-16": "utf-16"}
"""As browsers read them; all else is UTF-8."""
_OURS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that belong to the connection: what a node says of them is not sent."""


class Method(StrEnum):
    """Of HTTP."""

    GET = "GET"
    HEAD = "HEAD"
    OPTIONS = "OPTIONS"
    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    DELETE = "DELETE"


WITH_BODY = frozenset({Method.POST, Method.PUT, Method.PATCH, Method.DELETE})


class Credentials(msgspec.Struct):
    """Who calls: `anonymous`, or `basic` with a name and a password."""

    type: str = "anonymous"
    username: str | None = None
    password: str | None = None

    def __post_init__(self) -> None:
        if self.type not in ("anonymous", "basic"):
            raise ValueError(f"credentials of type {self.type[:50]!r} are not known here, only anonymous and basic")
        if self.type == "basic" and (not self.username or ":" in self.username or self.password is None):
            raise ValueError("basic credentials are a username without a colon, and a password")


class Parameter(msgspec.Struct):
    """One of the query."""

    key: str
    value: str


class CallConfiguration(msgspec.Struct, rename="camel"):
    """As ThingsBoard has it, and `retries`: how often a request is made again that had no response, 429 or 5xx.

    URL, headers, query and body are templates. `readTimeoutMs` is for the whole response; 0 is the server's time.
    """

    rest_endpoint_url_pattern: str
    request_method: Method = Method.POST
    headers: dict[str, str] | None = None
    query_params: list[Parameter] | None = None
    read_timeout_ms: Annotated[int, msgspec.Meta(ge=0)] = 0
    max_parallel_requests_count: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 0
    parse_to_plain_text: bool = False
    ignore_request_body: bool = False
    request_body_template: str | None = None
    credentials: Credentials | None = None
    enable_proxy: bool = False
    max_in_memory_buffer_size_in_kb: Annotated[int, msgspec.Meta(ge=0, le=MAX_BUFFER)] = DEFAULT_BUFFER
    retries: Annotated[int, msgspec.Meta(ge=0, le=len(BACKOFF))] = 0

    def __post_init__(self) -> None:
        if not self.rest_endpoint_url_pattern.strip():
            raise ValueError("restEndpointUrlPattern is empty")
        if self.enable_proxy:
            raise ValueError("enableProxy: proxies are not used here")
        for name in self.headers or ():
            if "$" not in name and not _TOKEN.fullmatch(name):
                raise ValueError(f"headers: {name[:50]!r} is no name of a header")


class UrlTemplate:
    """The URL for a message.

    Values behind the host are percent-coded whole: they add no segment to the path and no parameter to the query. In
    the place of scheme and host, or at the beginning, values stay as they are: there a whole URL may stand.
    """

    def __init__(self, text: str, parameters: list[Parameter]) -> None:
        parts = _HEAD.match(text.strip())
        assert parts
        self._head, self._tail = Template(parts[1]), Template(parts[2], _coded)
        self._mark = "&" if "?" in parts[2] else "?"
        self._parameters = [(Template(each.key), Template(each.value)) for each in parameters]

    def fill(self, message: RuleMessage) -> str:
        """ASCII. Raises NodeFailed."""
        text = self._head.fill(message) + self._tail.fill(message)
        shown = text[:200].partition("?")[0]
        parameters, left = [], MAX_URL - len(text)
        for key, value in self._parameters:
            parameters.append(f"{_coded(key.fill(message))}={_coded(value.fill(message))}")
            left -= len(parameters[-1])
            if left < 0:
                break
        if left < 0:
            raise NodeFailed(f"{shown!r} would become longer than {MAX_URL:,} characters")
        query = "&".join(parameters)
        try:
            url = URL.from_text(text + self._mark * bool(query) + query).replace(fragment="")
            # IPv6 has no other spelling, and hyperlink would look for one
            url = url.replace(host="x").to_uri().replace(host=url.host) if ":" in url.host else url.to_uri()
        except ValueError as error:
            raise NodeFailed(f"{shown!r} is no URL: {error}") from None
        if any(segment in (".", "..") for segment in url.path):
            raise NodeFailed(f"{shown!r} has a segment . or .. in its path")
        return str(url.to_text())


def _coded(value: str) -> str:
    return quote(value, safe="")


class CallNode:
    """Makes a request of each message, and goes on with the response.

    It takes time, as all that waits for others: a cycle may ask again and again until the answer fits.
    """

    def __init__(self, configuration: CallConfiguration, place: Place) -> None:
        self._around = place.around
        self._method = configuration.request_method
        self._url = UrlTemplate(configuration.rest_endpoint_url_pattern, configuration.query_params or [])
        headers = {
            "Content-Type": "text/plain; charset=utf-8" if configuration.parse_to_plain_text else "application/json"
        }
        self._headers = [
            (Template(name), Template(value)) for name, value in (configuration.headers or headers).items()
        ]
        self._authorization = _authorization(configuration.credentials or Credentials())
        self._with_body = self._method in WITH_BODY and not configuration.ignore_request_body
        self._body = None if not configuration.request_body_template else Template(configuration.request_body_template)
        self._plain = configuration.parse_to_plain_text
        self._timeout = configuration.read_timeout_ms / 1000
        self._max_size = (configuration.max_in_memory_buffer_size_in_kb or DEFAULT_BUFFER) << 10
        self._retries = configuration.retries
        parallel = configuration.max_parallel_requests_count
        self._places = DeferredSemaphore(parallel) if parallel else None

    def __call__(self, message: RuleMessage) -> Deferred[Outcome]:
        return Deferred.fromCoroutine(self._call(message))

    async def _call(self, message: RuleMessage) -> Outcome:
        request = self._request(message)
        for pause in (*BACKOFF[: self._retries], None):
            try:
                response = await self._once(request)
            except WebCallFailed as error:
                if pause is None or isinstance(error, WebCallRefused):
                    raise NodeFailed(str(error), with_metadata(message, {"error": str(error)})) from None
            else:
                if pause is None or not (response.status == 429 or response.status >= 500):
                    return _outcome(message, request, response)
            assert pause is not None
            paused: Deferred[None] = Deferred()
            self._around.deadlines.after(pause, paused.callback, None)
            await paused
        raise AssertionError

    async def _once(self, request: WebRequest) -> WebResponse:
        if self._places is None:
            return await self._around.web.call(self._around.tenant_id, request)
        turn = self._places.acquire()
        deadline = self._around.deadlines.after(request.timeout, Deferred.cancel, turn)
        try:
            await turn
        except CancelledError:
            raise WebCallFailed("Timeout during waiting for reply!") from None
        finally:
            deadline.cancel()
        try:
            return await self._around.web.call(self._around.tenant_id, request)
        finally:
            self._places.release()

    def _request(self, message: RuleMessage) -> WebRequest:
        most = self._around.settings().web_timeout
        return WebRequest(
            method=self._method,
            url=self._url.fill(message),
            headers=dict(self._filled_headers(message)) | self._authorization,
            body=self._filled_body(message) if self._with_body else None,
            timeout=min(self._timeout or most, most),
            max_size=self._max_size,
        )

    def _filled_headers(self, message: RuleMessage) -> Iterator[tuple[str, str]]:
        left = MAX_HEADERS
        for name_template, value_template in self._headers:
            name, value = name_template.fill(message), value_template.fill(message)
            left -= len(name) + len(value)
            if left < 0:
                raise NodeFailed(f"The headers have more than {MAX_HEADERS:,} characters")
            if not _TOKEN.fullmatch(name):
                raise NodeFailed(f"{name[:50]!r} is no name of a header")
            if _CONTROL.search(value):
                raise NodeFailed(f"The header {name} has a line break, or another control character")
            if name.lower() not in _OURS:
                yield name, value

    def _filled_body(self, message: RuleMessage) -> bytes:
        data = message.data if self._body is None else self._body.fill(message).encode()
        try:
            value = jsontext.decode(data)
        except jsontext.BadJSON as error:
            if self._plain:
                return data
            raise NodeFailed(f"The body of the request is not JSON: {error}") from None
        return value.encode() if self._plain and isinstance(value, str) else data


def _authorization(credentials: Credentials) -> dict[str, str]:
    if credentials.type == "anonymous":
        return {}
    given = f"{credentials.username}:{credentials.password}".encode()
    return {"Authorization": f"Basic {base64.b64encode(given).decode()}"}


def _outcome(message: RuleMessage, request: WebRequest, response: WebResponse) -> Outcome:
    """Raises NodeFailed for what is no success."""
    # Names of headers come as `Content-Type`, so none takes the place of `deviceName` or `sessionId`.
    told = {name: values[0] if len(values) == 1 else _list(values) for name, values in response.headers.items()}
    told |= {
        "status": _status(response),
        "statusCode": str(response.status),
        "statusReason": response.reason,
    }
    body = _text(response)
    if 200 <= response.status < 300:
        return (Out(SUCCESS, replace(with_metadata(message, told), data=_as_data(body))),)
    site = request.url.split("?", 1)[0]
    text = f"{response.status} {response.reason} from {request.method} {site}"
    raise NodeFailed(text, with_metadata(message, told | {"error": text, "error_body": body[:MAX_ERROR]}))


def _list(values: tuple[str, ...]) -> str:
    return jsontext.encode(values).decode()


def _status(response: WebResponse) -> str:
    """`NOT_FOUND`, as ThingsBoard calls it."""
    try:
        return HTTPStatus(response.status).name
    except ValueError:
        return str(response.status)


def _text(response: WebResponse) -> str:
    """The body, without a byte order mark."""
    charset = _CHARSET.search(response.headers.get("Content-Type", ("",))[-1])
    encoding = _CHARSETS.get(charset[1].lower(), "utf-8-sig") if charset else "utf-8-sig"
    return response.body.decode(encoding, "replace")


def _as_data(body: str) -> bytes:
    """JSON as it is; what is not JSON becomes a text, so that all nodes can take it; nothing is an empty object."""
    data = body.encode()
    try:
        jsontext.decode(data)
    except jsontext.BadJSON:
        return jsontext.encode(body) if body else b"{}"
    return data


CALL = NodeType(
    name="org.thingsboard.rule.engine.rest.TbRestApiCallNode",
    configuration=CallConfiguration,
    make=CallNode,
    labels=(SUCCESS, FAILURE),
    takes_time=True,
)
