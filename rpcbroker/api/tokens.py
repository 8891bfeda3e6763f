"""JSON Web Tokens: made, verified, remembered, revoked. HS512 (RFC 7518 3.2) by PyJWT."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from uuid import UUID

import jwt
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpcbroker.core.errors import NotAuthenticated, TokenExpired
from rpcbroker.core.model import NULL_UUID, Authority, Principal, User
from rpcbroker.core.ports import People
from rpcbroker.core.settings import AuthSettings
from rpcbroker.schema.people import TokenPair

ISSUER = "thingsboard.io"
"""What the clients' libraries expect to see; it is not checked."""

_ALGORITHM = "HS512"
_REFRESH_SCOPE = "REFRESH_TOKEN"
_CHANGED = "The user was changed, disabled or deleted, or has a new password: log in again."
_OPTIONS: Any = {
    "require": ["exp", "sub", "userId", "sessionId", "scopes", "issuedMs"],
    "verify_exp": False,  # by our own clock, below
    "verify_iat": False,
    "verify_nbf": False,
    "verify_aud": False,
    "verify_iss": False,
}


class Tokens:
    """The tokens of one server. `key` is the secret, at least 64 bytes."""

    _log = Logger()

    def __init__(
        self,
        key: Callable[[], bytes],
        *,
        people: People,
        settings: AuthSettings,
        now_ms: Callable[[], int],
        new_uuid: Callable[[], UUID],
    ) -> None:
        """`key` is asked for at each use: it is read from its file when the server starts."""
        self._key = key
        self.settings = settings
        self._people = people
        self._now_ms = now_ms
        self._new_uuid = new_uuid
        self._remembered: dict[str, tuple[Principal, int]] = {}
        self._revoked: dict[str, int] = {}
        self._revoked_users: dict[UUID, int] = {}
        self._moment = 0

    def start(self, revoked: Mapping[str, int], revoked_users: Mapping[UUID, int]) -> None:
        """What the store has kept: session id -> until when, user -> up to which moment; epoch ms."""
        now = self._now_ms()
        since = now - self._lifetime()
        self._revoked = {session: until for session, until in revoked.items() if until > now}
        self._revoked_users = {user: time for user, time in revoked_users.items() if time > since}
        self._moment = max(revoked_users.values(), default=0)
        self._people.forget_revoked(now=now, since=since).addErrback(self._not_forgotten)

    def moment(self) -> int:
        """Epoch ms, later than all moments before: to be asked for before a user is read for whom tokens are made.

        So a user who is changed meanwhile gets tokens that are revoked already, whatever the wall clock does.
        """
        self._moment = max(self._now_ms(), self._moment + 1)
        return self._moment

    def issue(self, user: User, moment: int) -> TokenPair:
        """A new session: an access token, and a refresh token that can be made into the next pair.

        `user` is as it was at the `moment` or later. Raises NotAuthenticated if it has changed since.
        """
        if moment <= self._revoked_users.get(user.id, 0):
            raise NotAuthenticated("Token was revoked", hint=_CHANGED)
        session_id = str(self._new_uuid())
        now = self._now_ms() // 1000
        common: dict[str, Any] = {
            "sub": user.email,
            "userId": str(user.id),
            "sessionId": session_id,
            "iss": ISSUER,
            "iat": now,
            "issuedMs": moment,
            "isPublic": False,
        }
        access = common | {
            "scopes": [user.authority.value],
            "exp": now + int(self.settings.token_lifetime),
            "firstName": user.first_name,
            "lastName": user.last_name,
            "enabled": user.enabled,
            "tenantId": str(user.tenant_id),
            "customerId": str(user.customer_id or NULL_UUID),
        }
        refresh = common | {
            "scopes": [_REFRESH_SCOPE],
            "exp": now + int(self.settings.refresh_lifetime),
            "jti": str(self._new_uuid()),
        }
        return TokenPair(self._sign(access), self._sign(refresh))

    def verify(self, token: str) -> Principal:
        """Who the access token speaks for. Raises TokenExpired, NotAuthenticated."""
        remembered = self._remembered.get(token)
        if remembered is not None:
            principal, expires = remembered
            if expires > self._now_ms() // 1000:
                return principal
            del self._remembered[token]
            raise TokenExpired("Token has expired")
        claims = self._claims(token)
        try:
            customer_id = UUID(claims["customerId"])
            principal = Principal(
                user_id=UUID(claims["userId"]),
                tenant_id=UUID(claims["tenantId"]),
                customer_id=None if customer_id == NULL_UUID else customer_id,
                authority=Authority(claims["scopes"][0]),
                email=claims["sub"],
                session_id=claims["sessionId"],
            )
        except (KeyError, IndexError, ValueError, TypeError, AttributeError):
            raise NotAuthenticated("Invalid token", hint="This is no access token.") from None
        if len(self._remembered) >= self.settings.token_cache:
            self._remembered.pop(next(iter(self._remembered)))
        self._remembered[token] = principal, int(claims["exp"])
        return principal

    def verify_refresh(self, token: str) -> UUID:
        """Whose refresh token it is. Raises TokenExpired, NotAuthenticated."""
        claims = self._claims(token)
        if claims["scopes"] != [_REFRESH_SCOPE]:
            raise NotAuthenticated("Authentication failed", hint="This is no refresh token.")
        return UUID(claims["userId"])

    def revoke(self, session_id: str) -> Deferred[None]:
        """From now on no token of this session is good; fires when that is stored."""
        now = self._now_ms()
        until = now + self._lifetime()
        self._revoked = {key: end for key, end in self._revoked.items() if end > now}
        self._revoked[session_id] = until
        self._remembered = {
            token: entry for token, entry in self._remembered.items() if entry[0].session_id != session_id
        }
        return self._people.revoke_session(session_id, until)

    def revoke_users(self, user_ids: Iterable[UUID]) -> None:
        """No token that these users have now is good any more. The store knows that already, by an earlier moment."""
        times = dict.fromkeys(user_ids, self.moment())
        self._revoked_users |= times
        self._remembered = {token: entry for token, entry in self._remembered.items() if entry[0].user_id not in times}

    def _not_forgotten(self, failure: Failure) -> None:
        self._log.warn("revocations whose time is over are still in the store: {error}", error=failure.value)

    def _lifetime(self) -> int:
        """How long any token is good, in ms."""
        return int(max(self.settings.token_lifetime, self.settings.refresh_lifetime) * 1000)

    def _sign(self, claims: dict[str, Any]) -> str:
        return jwt.encode(claims, self._key(), algorithm=_ALGORITHM)

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            claims: dict[str, Any] = jwt.decode(token, self._key(), algorithms=[_ALGORITHM], options=_OPTIONS)
        except jwt.InvalidTokenError:
            raise NotAuthenticated("Invalid token") from None
        if not isinstance(claims["exp"], int) or claims["exp"] <= self._now_ms() // 1000:
            raise TokenExpired("Token has expired")
        if claims["sessionId"] in self._revoked:
            raise NotAuthenticated("Token was revoked", hint="Its session has logged out: log in again.")
        try:
            issued, revoked = int(claims["issuedMs"]), self._revoked_users.get(UUID(claims["userId"]), 0)
        except (ValueError, TypeError, AttributeError):
            raise NotAuthenticated("Invalid token") from None
        if issued <= revoked:
            raise NotAuthenticated("Token was revoked", hint=_CHANGED)
        return claims
