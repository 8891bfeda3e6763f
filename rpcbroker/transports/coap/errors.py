"""The one table from errors to response codes, and the answer that says what went wrong."""

from __future__ import annotations

import math

from rpcbroker.core import errors as e
from rpcbroker.core.near_misses import printable
from rpcbroker.rules.chain import ChainRefused
from rpcbroker.transports.coap.exchange import Refused, Response
from rpcbroker.wire.coap.numbers import Code

TABLE: dict[type[e.BrokerError], Code] = {
    e.BrokerError: Code.INTERNAL_SERVER_ERROR,
    e.InvalidRequest: Code.BAD_REQUEST,
    e.AlreadyExists: Code.BAD_REQUEST,
    ChainRefused: Code.BAD_REQUEST,
    e.NotAuthenticated: Code.UNAUTHORIZED,
    e.TokenExpired: Code.UNAUTHORIZED,
    e.TooManyRequests: Code.TOO_MANY_REQUESTS,
    e.TooManyAttempts: Code.TOO_MANY_REQUESTS,
    e.UnsupportedMediaType: Code.UNSUPPORTED_CONTENT_FORMAT,
    e.ClaimRefused: Code.BAD_REQUEST,
    e.PermissionDenied: Code.FORBIDDEN,
    e.NotFound: Code.NOT_FOUND,
    e.VersionConflict: Code.CONFLICT,
    e.PayloadTooLarge: Code.REQUEST_ENTITY_TOO_LARGE,
    e.RequestTimedOut: Code.REQUEST_ENTITY_INCOMPLETE,
    e.TargetTooLong: Code.BAD_OPTION,
    e.HeadersTooLarge: Code.BAD_OPTION,
    e.UnsupportedExpectation: Code.BAD_OPTION,
    e.MethodNotAllowed: Code.METHOD_NOT_ALLOWED,
    e.UpgradeRequired: Code.BAD_REQUEST,
    e.Unavailable: Code.SERVICE_UNAVAILABLE,
    e.NobodyAnswers: Code.NOT_FOUND,
    e.QuestionTimedOut: Code.GATEWAY_TIMEOUT,
    e.CallFailed: Code.INTERNAL_SERVER_ERROR,
    e.NoActiveConnection: Code.GATEWAY_TIMEOUT,
    e.CallTimeout: Code.GATEWAY_TIMEOUT,
    e.QueueFull: Code.TOO_MANY_REQUESTS,
    e.BadReply: Code.BAD_GATEWAY,
    e.Undeliverable: Code.REQUEST_ENTITY_TOO_LARGE,
    e.CallCancelled: Code.SERVICE_UNAVAILABLE,
}

UNAVAILABLE_FOR = 5
"""Seconds after which a device should try again what cannot be done now."""


def refusal(error: e.BrokerError | Refused, *, authenticated: bool = False) -> Response:
    """The answer for `error`: a code, and for people a text without a content format (RFC 7252 5.5.2).

    The text is what went wrong, and if that is known what to do about it, short enough for a datagram.
    `authenticated` as Response has it.
    """
    code, hint = (TABLE[type(error)], error.hint) if isinstance(error, e.BrokerError) else (error.code, None)
    text = printable(f"{error.message}. {hint}" if hint else error.message)
    return Response(
        code=code,
        payload=text.encode(errors="replace"),
        max_age=_again_in(error, code),
        authenticated=authenticated,
    )


def _again_in(error: e.BrokerError | Refused, code: int) -> int | None:
    """Seconds, for those answers that say so by Max-Age."""
    if isinstance(error, e.TooManyRequests):
        return max(1, math.ceil(error.retry_after))  # RFC 8516 3
    return UNAVAILABLE_FOR if code == Code.SERVICE_UNAVAILABLE else None  # RFC 7252 5.9.3.4
