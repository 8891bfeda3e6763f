"""Logging in and out."""

from __future__ import annotations

from rpcbroker.api.lockout import Lockout
from rpcbroker.api.passwords import MAX_LENGTH, Passwords
from rpcbroker.api.schema import LoginBody, RefreshBody, TokenPair, UserJSON, user_json
from rpcbroker.api.tokens import Tokens
from rpcbroker.core import jsontext
from rpcbroker.core.errors import NotAuthenticated
from rpcbroker.core.model import Principal
from rpcbroker.core.ports import Store

_MAX_EMAIL = 320


class Login:
    """The handlers under `/api/auth`."""

    def __init__(self, *, store: Store, tokens: Tokens, passwords: Passwords, lockout: Lockout) -> None:
        self._store = store
        self._tokens = tokens
        self._passwords = passwords
        self._lockout = lockout

    async def login(self, *, body: bytes) -> TokenPair:
        """A token pair for an email and a password. Raises NotAuthenticated, TooManyAttempts."""
        try:
            login: LoginBody = jsontext.decode_as(LoginBody, body)
        except jsontext.BadJSON as error:
            raise NotAuthenticated(
                "Authentication failed", hint=f"The body must have a username and a password: {error}."
            ) from None
        email, password = login.username.strip(), login.password
        if not email or not password or len(email) > _MAX_EMAIL or len(password) > MAX_LENGTH:
            raise NotAuthenticated("Authentication failed", hint="username and password must be given.")
        account = email.lower()
        self._lockout.attempt(account)
        user = await self._store.user_by_email(email)
        if not await self._passwords.verify(user.password_hash if user else None, password) or user is None:
            raise NotAuthenticated("Invalid username or password")
        self._lockout.succeeded(account)
        if not user.enabled:
            raise NotAuthenticated("User account is not active")
        return self._tokens.issue(user)

    async def refresh(self, *, body: RefreshBody) -> TokenPair:
        """A new pair, of a new session."""
        user = await self._store.user(self._tokens.verify_refresh(body.refresh_token))
        if user is None or not user.enabled:
            raise NotAuthenticated("User account is not active")
        return self._tokens.issue(user)

    async def logout(self, principal: Principal) -> None:
        """No token of this session is good any more."""
        await self._tokens.revoke(principal.session_id)

    async def user(self, principal: Principal) -> UserJSON:
        """Who is logged in."""
        user = await self._store.user(principal.user_id)
        if user is None:
            raise NotAuthenticated("User account is not active")
        return user_json(user)
