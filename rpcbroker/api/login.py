"""Logging in and out, activation, one's own password."""

from __future__ import annotations

from dataclasses import replace
from typing import Never

from rpcbroker.api.activation import Activation
from rpcbroker.api.keys import Keys
from rpcbroker.api.lockout import Lockout
from rpcbroker.api.passwords import MAX_LENGTH, Passwords
from rpcbroker.api.routes import Action, Note
from rpcbroker.api.tokens import Tokens
from rpcbroker.core import jsontext
from rpcbroker.core.errors import InvalidRequest, NotAuthenticated, PermissionDenied
from rpcbroker.core.model import Principal, User
from rpcbroker.core.ports import People
from rpcbroker.schema.people import (
    MAX_EMAIL,
    ActivateBody,
    ChangePasswordBody,
    LoginBody,
    PublicLoginBody,
    RefreshBody,
    TokenPair,
    UserJSON,
    user_json,
)


class Login:
    """The handlers under `/api/auth` and `/api/noauth`."""

    def __init__(
        self,
        *,
        people: People,
        tokens: Tokens,
        keys: Keys,
        passwords: Passwords,
        lockout: Lockout,
        activation: Activation,
    ) -> None:
        self._people = people
        self._tokens = tokens
        self._keys = keys
        self._passwords = passwords
        self._lockout = lockout
        self._activation = activation

    async def login(self, *, body: bytes, note: Note) -> TokenPair:
        """Log in with an email and a password."""
        try:
            login: LoginBody = jsontext.decode_as(LoginBody, body)
        except jsontext.BadJSON as error:
            raise NotAuthenticated(
                "Authentication failed", hint=f"The body must have a username and a password: {error}."
            ) from None
        email, password = login.username.strip(), login.password
        if not email or not password or len(email) > MAX_EMAIL or len(password) > MAX_LENGTH or "\x00" in email:
            raise NotAuthenticated("Authentication failed", hint="username and password must be given.")
        account = email.lower()
        locks = self._lockout.attempt(account)
        moment = self._tokens.moment()
        user = await self._people.user_by_email(email)
        if user is not None:
            _about(note, user)
        note.action = Action.LOCKOUT if locks else Action.LOGIN
        if not await self._passwords.verify(user.password_hash if user else None, password) or user is None:
            raise NotAuthenticated("Invalid username or password")
        self._lockout.succeeded(account)
        note.action = Action.LOGIN
        if not user.enabled:
            raise NotAuthenticated("User account is not active")
        return self._tokens.issue(user, moment)

    async def login_public(self, *, body: PublicLoginBody) -> Never:
        """Public customers are not offered: this says so."""
        raise PermissionDenied(
            "There are no public customers here",
            hint=f"{body.public_id[:40]!r} can log in nowhere: make a customer, a user of it, or an API key.",
        )

    async def refresh(self, *, body: RefreshBody) -> TokenPair:
        """A new pair of tokens, of a new session."""
        moment = self._tokens.moment()
        user = await self._people.user(self._tokens.verify_refresh(body.refresh_token))
        if user is None or not user.enabled:
            raise NotAuthenticated("User account is not active")
        return self._tokens.issue(user, moment)

    async def logout(self, principal: Principal, *, note: Note) -> None:
        """End this session: no token of it is good any more."""
        note.about(principal.user_id, principal.email)
        await self._tokens.revoke(principal.session_id)

    async def user(self, principal: Principal) -> UserJSON:
        """Who asks."""
        return user_json(await self._myself(principal))

    async def change_password(self, principal: Principal, *, body: ChangePasswordBody, note: Note) -> TokenPair:
        """Change one's own password; all other sessions end, and the answer is a new one."""
        user = await self._myself(principal)
        _about(note, user)
        account = user.email.lower()
        self._lockout.attempt(account)
        if not await self._passwords.verify(user.password_hash, body.current_password[: MAX_LENGTH + 1]):
            raise InvalidRequest("Current password doesn't match!")
        self._lockout.succeeded(account)
        return await self._with_password(user, body.new_password)

    async def activate(self, *, body: ActivateBody, note: Note) -> TokenPair:
        """Choose a password by an activation link; the answer is the first login."""
        user = await self._activation.user(body.activate_token)
        _about(note, user)
        return await self._with_password(replace(user, activation_nonce=None, activation_until=None), body.password)

    async def _with_password(self, user: User, password: str) -> TokenPair:
        hashed = await self._passwords.hash(password)
        changed = replace(user, password_hash=hashed, version=user.version + 1)
        await self._people.update_user(changed, revoked=self._tokens.moment())
        self._tokens.revoke_users([changed.id])
        self._keys.user_changed(changed)
        return self._tokens.issue(changed, self._tokens.moment())

    async def _myself(self, principal: Principal) -> User:
        user = await self._people.user(principal.user_id)
        if user is None:
            raise NotAuthenticated("User account is not active")
        return user


def _about(note: Note, user: User) -> None:
    """The note is about `user`, who acts upon itself."""
    note.about(user.id, user.email)
    note.principal = Principal(
        user_id=user.id,
        tenant_id=user.tenant_id,
        customer_id=user.customer_id,
        authority=user.authority,
        email=user.email,
        session_id="",
    )
