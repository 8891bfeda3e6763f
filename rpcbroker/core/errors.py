"""What can go wrong, in the broker's own terms. No face's codes: each face has one table for that.

Every error carries a sentence for people (`message`); where a program may want to act on the
cause, a stable upper-case word (`reason`); and where a person may want to know what to do about
it, a second sentence (`hint`).
"""

from __future__ import annotations

from enum import StrEnum
from uuid import UUID


class Reason(StrEnum):
    """Why a call ended without a reply, or was not taken. Stable words of the interface: never rename one."""

    NO_SUBSCRIPTION = "NO_SUBSCRIPTION"
    NEVER_CONNECTED = "NEVER_CONNECTED"
    DISCONNECTED = "DISCONNECTED"
    NO_ACK = "NO_ACK"
    NO_REPLY = "NO_REPLY"
    EXPIRED = "EXPIRED"
    NO_HANDLER = "NO_HANDLER"
    NOT_FORWARDED = "NOT_FORWARDED"
    CANCELLED = "CANCELLED"
    QUEUE_FULL = "QUEUE_FULL"
    BAD_REPLY = "BAD_REPLY"
    REFUSED = "REFUSED"
    TOO_LARGE = "TOO_LARGE"
    DEVICE_DELETED = "DEVICE_DELETED"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"


class BrokerError(Exception):
    """The root of all errors that may reach a user."""

    def __init__(
        self,
        message: str,
        *,
        reason: Reason | None = None,
        hint: str | None = None,
        rpc_id: UUID | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.hint = hint
        self.rpc_id = rpc_id


class InvalidRequest(BrokerError):
    """The request cannot be understood; the message names the field."""


class AlreadyExists(InvalidRequest):
    """A name or a token that must be unique is taken."""


class NotAuthenticated(BrokerError):
    """Nobody knows who asks."""


class TokenExpired(NotAuthenticated):
    """The token was good once; its time is over."""


class TooManyRequests(BrokerError):
    """More than somebody's share. `retry_after` is in seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooManyAttempts(TooManyRequests):
    """Too many failed logins."""


class UnsupportedMediaType(BrokerError):
    """The body is of a kind, or coded in a way, that is not read here."""


class ClaimRefused(BrokerError):
    """A device cannot be claimed so; `response` is the word of the wire for why."""

    def __init__(self, message: str, *, response: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.response = response


class PermissionDenied(BrokerError):
    """It is known who asks, and that role may not do this."""


class NotFound(BrokerError):
    """There is no such thing, or it belongs to somebody else: the two look alike."""


class VersionConflict(BrokerError):
    """Somebody else changed the record in between."""


class PayloadTooLarge(BrokerError):
    """The body is larger than the limit."""


class RequestTimedOut(BrokerError):
    """The request did not arrive whole in time."""


class TargetTooLong(BrokerError):
    """The path and query are longer than any that means something."""


class HeadersTooLarge(BrokerError):
    """More, or longer, header fields than are taken."""


class UnsupportedExpectation(BrokerError):
    """The caller wants something before it goes on that is not known here."""


class MethodNotAllowed(BrokerError):
    """The thing exists, and this cannot be done with it; `allowed` can."""

    def __init__(self, message: str, *, allowed: tuple[str, ...]) -> None:
        super().__init__(message)
        self.allowed = allowed


class UpgradeRequired(BrokerError):
    """Another protocol is spoken here, and the caller did not ask for it."""


class Unavailable(BrokerError):
    """The broker cannot do this now: it is starting, stopping, or overloaded."""


class CallFailed(BrokerError):
    """A call ended without a reply; `reason` says why. `refused`: it was never taken."""

    refused = False


class NobodyAnswers(CallFailed):
    """A device asked the server, and neither a rule chain nor the broker itself knows the method."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason=Reason.NO_HANDLER)


class QuestionTimedOut(BrokerError):
    """A device, or an application, asked the rules; and nothing had answered when its time was over, or will."""


class NoActiveConnection(CallFailed):
    """Nothing could take the call while it lived."""


class CallTimeout(CallFailed):
    """The device got the call, or may have got it, and did not answer in time."""


class QueueFull(CallFailed):
    """Too many calls wait for this device already."""


class BadReply(CallFailed):
    """The device answered with something that is not JSON."""


class Undeliverable(CallFailed):
    """The device is there, but this call cannot be given to it."""


class CallCancelled(CallFailed):
    """Its caller left, or the device was deleted, while the call was waiting."""
