"""What goes wrong, as WAMP has it: the one table from errors to URIs, and the ERROR that says what went wrong."""

from __future__ import annotations

from typing import Any, NamedTuple

from rpcbroker.core import errors as e
from rpcbroker.core.feed import ROOT
from rpcbroker.rules.chain import ChainRefused

OWN = f"{ROOT}error."
NOT_AUTHORIZED = "wamp.error.not_authorized"
INVALID_ARGUMENT = "wamp.error.invalid_argument"
VIOLATION = "wamp.error.protocol_violation"
CANCELED = "wamp.error.canceled"
TIMEOUT = "wamp.error.timeout"

TABLE: dict[type[e.BrokerError], str] = {
    e.BrokerError: f"{OWN}internal",
    e.InvalidRequest: INVALID_ARGUMENT,
    e.AlreadyExists: f"{OWN}already_exists",
    ChainRefused: f"{OWN}chain_refused",
    e.NotAuthenticated: "wamp.error.authentication_failed",
    e.TokenExpired: "wamp.error.authentication_failed",
    e.TooManyRequests: f"{OWN}too_many_requests",
    e.TooManyAttempts: f"{OWN}too_many_requests",
    e.UnsupportedMediaType: INVALID_ARGUMENT,
    e.ClaimRefused: f"{OWN}claim_refused",
    e.PermissionDenied: NOT_AUTHORIZED,
    e.NotFound: f"{OWN}not_found",
    e.VersionConflict: f"{OWN}version_conflict",
    e.PayloadTooLarge: "wamp.error.payload_size_exceeded",
    e.RequestTimedOut: TIMEOUT,
    e.TargetTooLong: INVALID_ARGUMENT,
    e.HeadersTooLarge: INVALID_ARGUMENT,
    e.UnsupportedExpectation: INVALID_ARGUMENT,
    e.MethodNotAllowed: f"{OWN}method_not_allowed",
    e.UpgradeRequired: INVALID_ARGUMENT,
    e.Unavailable: "wamp.error.unavailable",
    e.NobodyAnswers: f"{OWN}no_handler",
    e.QuestionTimedOut: TIMEOUT,
    e.CallFailed: f"{OWN}call_failed",
    e.NoActiveConnection: f"{OWN}no_active_connection",
    e.CallTimeout: f"{OWN}call_timeout",
    e.QueueFull: f"{OWN}queue_full",
    e.BadReply: f"{OWN}bad_reply",
    e.Undeliverable: f"{OWN}undeliverable",
    e.CallCancelled: f"{OWN}cancelled",
}
"""Of an error that has a reason, the reason is the last component instead."""


class Told(NamedTuple):
    """An error as WAMP has it: a URI, and arguments for people and for programs."""

    uri: str
    args: list[Any] = []  # noqa: RUF012 - nobody changes what was told
    kwargs: dict[str, Any] = {}  # noqa: RUF012


class Refused(Exception):
    """Something went wrong that only WAMP knows, or that an application said in its own words."""

    def __init__(self, told: Told) -> None:
        super().__init__(told)
        self.told = told


class Violation(Exception):
    """The session ends. https://wamp-proto.org/spec.html, "Protocol Errors". The text is for people."""


def refused(uri: str, sentence: str, *, hint: str | None = None) -> Refused:
    """With a sentence for people, and perhaps another one on what to do about it."""
    return Refused(Told(uri, [sentence], {"hint": hint} if hint else {}))


def told(error: e.BrokerError | Refused) -> Told:
    """`args` is a sentence for people; `kwargs` what else is known: reason, hint, rpcId, retryAfter in seconds."""
    if isinstance(error, Refused):
        return error.told
    uri = f"{OWN}{error.reason.lower()}" if error.reason else TABLE[type(error)]
    more = {
        "reason": error.reason and error.reason.value,
        "hint": error.hint,
        "rpcId": error.rpc_id and str(error.rpc_id),
        "retryAfter": error.retry_after if isinstance(error, e.TooManyRequests) else None,
    }
    return Told(uri, [error.message], {name: value for name, value in more.items() if value is not None})
