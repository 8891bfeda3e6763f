"""The REST API on Klein: one table of routes, one way in, one way out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import msgspec
from klein import Klein
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource
from twisted.web.server import Request
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed as WrongMethod

from rpcbroker.api.calls import Calls
from rpcbroker.api.devices import ADMINS, USERS, Devices
from rpcbroker.api.errors import V2_STATUSES, Rendered, render
from rpcbroker.api.health import Health
from rpcbroker.api.ids import parse_uuid
from rpcbroker.api.login import Login
from rpcbroker.api.metrics import Metrics
from rpcbroker.api.routes import Answer, Route
from rpcbroker.api.schema import (
    CredentialsBody,
    DeviceBody,
    DeviceListQuery,
    DeviceNameQuery,
    RefreshBody,
    SaveDeviceQuery,
)
from rpcbroker.core import jsontext
from rpcbroker.core.errors import (
    BrokerError,
    InvalidRequest,
    MethodNotAllowed,
    NotAuthenticated,
    NotFound,
    PermissionDenied,
)
from rpcbroker.core.model import Authority, Principal

EVERYONE = frozenset(Authority)
JSON = "application/json"


def routes(*, calls: Calls, devices: Devices, health: Health, login: Login, metrics: Metrics) -> tuple[Route, ...]:
    """All operations."""

    def call_route(path: str, handler: Callable[..., Any], **more: Any) -> Route:
        return Route(method="POST", path=path, handler=handler, roles=EVERYONE, body=bytes, **more)

    return (
        call_route("/api/plugins/rpc/oneway/<device_id>", calls.oneway),
        call_route("/api/plugins/rpc/twoway/<device_id>", calls.twoway),
        call_route("/api/rpc/oneway/<device_id>", calls.oneway, statuses=V2_STATUSES),
        call_route("/api/rpc/twoway/<device_id>", calls.twoway, statuses=V2_STATUSES),
        Route(method="POST", path="/api/auth/login", handler=login.login, roles=None, body=bytes),
        Route(method="POST", path="/api/auth/token", handler=login.refresh, roles=None, body=RefreshBody),
        Route(method="POST", path="/api/auth/logout", handler=login.logout, roles=EVERYONE),
        Route(method="GET", path="/api/auth/user", handler=login.user, roles=EVERYONE),
        Route(
            method="POST",
            path="/api/device",
            handler=devices.save,
            roles=ADMINS,
            body=DeviceBody,
            query=SaveDeviceQuery,
        ),
        Route(method="GET", path="/api/device/<device_id>", handler=devices.get, roles=USERS),
        Route(method="DELETE", path="/api/device/<device_id>", handler=devices.delete, roles=ADMINS),
        Route(
            method="GET",
            path="/api/tenant/device",
            handler=devices.by_name,
            roles=ADMINS,
            query=DeviceNameQuery,
        ),
        Route(
            method="GET",
            path="/api/tenant/devices",
            handler=devices.list,
            roles=ADMINS,
            query=DeviceListQuery,
        ),
        Route(method="GET", path="/api/device/<device_id>/credentials", handler=devices.credentials, roles=USERS),
        Route(
            method="POST",
            path="/api/device/credentials",
            handler=devices.save_credentials,
            roles=ADMINS,
            body=CredentialsBody,
        ),
        Route(method="GET", path="/api/device/<device_id>/presence", handler=devices.presence, roles=USERS),
        Route(method="GET", path="/healthz", handler=health.healthy, roles=None),
        Route(method="GET", path="/readyz", handler=health.ready, roles=None),
        Route(method="GET", path="/version", handler=health.version, roles=None),
        Route(method="GET", path="/metrics", handler=metrics.scrape, roles=None),
    )


class Api:
    """Routes made into a web resource."""

    _log = Logger()

    def __init__(
        self, table: Iterable[Route], *, verify: Callable[[str], Principal], now_ms: Callable[[], int]
    ) -> None:
        """`verify(token)` tells who speaks, or raises NotAuthenticated."""
        self._verify = verify
        self._now_ms = now_ms
        self._app = Klein()
        for route in table:
            self._mount(route)
        self._app.handle_errors(HTTPException)(self._no_route)

    def resource(self) -> IResource:
        """What a twisted.web Site serves."""
        return cast(IResource, self._app.resource())

    def render(self, error: BrokerError) -> Rendered:
        """An error of the front door, in the API's words."""
        return render(error, now_ms=self._now_ms())

    def _mount(self, route: Route) -> None:
        def endpoint(request: Request, **ids: str) -> Deferred[bytes]:
            return Deferred.fromCoroutine(self._serve(route, request, ids))

        name = f"{route.method} {route.path}"
        self._app.route(route.path, methods=[route.method], endpoint=name)(endpoint)

    async def _serve(self, route: Route, request: Request, ids: dict[str, str]) -> bytes:
        try:
            answer: Answer | Rendered = _answer(await self._handle(route, request, ids))
        except CancelledError:
            raise
        except BrokerError as error:
            answer = render(error, now_ms=self._now_ms(), statuses=route.statuses)
        except Exception:
            self._log.failure("{method} {path} failed", method=route.method, path=route.path)
            answer = self.render(BrokerError("Internal error", hint="The server's log says more."))
        return _write(request, answer)

    async def _handle(self, route: Route, request: Request, ids: dict[str, str]) -> Any:
        given: list[Any] = []
        if route.roles is not None:
            principal = self._verify(_token(request))
            if principal.authority not in route.roles:
                raise PermissionDenied("You don't have permission to perform this operation!")
            given.append(principal)
        members: dict[str, Any] = {name: parse_uuid(text) for name, text in ids.items()}
        if route.query is not None:
            members["query"] = _query(request, route.query)
        if route.body is not None:
            members["body"] = _body(request.content.read(), route.body)
        return await route.handler(*given, **members)

    def _no_route(self, request: Request, failure: Failure) -> Deferred[bytes]:
        error: BrokerError = NotFound("There is nothing at this path")
        if isinstance(failure.value, WrongMethod):
            allowed = tuple(sorted(failure.value.valid_methods or ()))
            error = MethodNotAllowed(f"This path takes {', '.join(allowed)}", allowed=allowed)
        elif getattr(failure.value, "code", None) == 400:
            error = InvalidRequest("The request's path cannot be read")
        return succeed(_write(request, self.render(error)))


def _token(request: Request) -> str:
    header = request.getHeader("x-authorization") or request.getHeader("authorization") or ""
    scheme, _, token = header.strip().partition(" ")
    if not scheme:
        raise NotAuthenticated("Authentication failed", hint="Send X-Authorization: Bearer <token>.")
    if scheme.lower() != "bearer" or not token:
        raise NotAuthenticated("Authentication failed", hint="The scheme must be Bearer, then a token.")
    return token.strip()


def _query(request: Request, type_: Any) -> Any:
    """Query parameters as `type_`; of a parameter given twice the last counts."""
    try:
        pairs = {name.decode(): values[-1].decode() for name, values in request.args.items()}
        return msgspec.convert(pairs, type_, strict=False)
    except UnicodeDecodeError:
        raise InvalidRequest("Query parameters must be UTF-8") from None
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"Bad query parameter: {error}") from None


def _body(data: bytes, type_: Any) -> Any:
    if type_ is bytes:
        return data
    try:
        return jsontext.decode_as(type_, data)
    except jsontext.BadJSON as error:
        raise InvalidRequest(f"Invalid request body: {error}") from None


def _answer(result: Any) -> Answer:
    if isinstance(result, Answer):
        return result
    return Answer() if result is None else Answer(jsontext.encode(result))


def _write(request: Request, answer: Answer | Rendered) -> bytes:
    request.setResponseCode(answer.status)
    headers = request.responseHeaders
    if answer.body:
        headers.setRawHeaders("Content-Type", [JSON])
    else:
        headers.removeHeader("Content-Type")
    headers.setRawHeaders("Content-Length", [str(len(answer.body))])
    for name, value in answer.headers.items():
        headers.setRawHeaders(name, [value])
    return answer.body
