"""Links by which a new user chooses a password.

The token in a link is made of the user's nonce and the server's key, so a copy of the store alone
opens no account; the nonce goes when the link was used.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from uuid import UUID

from rpcbroker.core.errors import InvalidRequest
from rpcbroker.core.model import User
from rpcbroker.core.ports import People
from rpcbroker.core.settings import AuthSettings


class Activation:
    """Makes links' tokens and reads them."""

    def __init__(
        self,
        key: Callable[[], bytes],
        *,
        people: People,
        settings: AuthSettings,
        now_ms: Callable[[], int],
        new_nonce: Callable[[], str],
    ) -> None:
        """`key` is asked for at each use, as that of the tokens is."""
        self.settings = settings
        self._key = key
        self._people = people
        self._now_ms = now_ms
        self._new_nonce = new_nonce

    def begin(self) -> tuple[str, int]:
        """`activation_nonce` and `activation_until` of a user who is to get a link."""
        return self._new_nonce(), self._now_ms() + int(self.settings.activation_lifetime * 1000)

    def token(self, user: User) -> str:
        """Raises InvalidRequest for a user who needs none."""
        if user.activation_nonce is None:
            raise InvalidRequest("User is already activated!")
        if (user.activation_until or 0) <= self._now_ms():
            raise InvalidRequest(
                "The activation link has expired", hint="Reset the user's password: that makes a new one."
            )
        text = f"{user.id.hex}{user.activation_nonce}".encode()
        return user.id.hex + hmac.new(self._key(), b"activate" + text, hashlib.sha256).hexdigest()

    async def user(self, token: str) -> User:
        """Whose link it is. Raises InvalidRequest, the same for a forged, a used and an old one."""
        wrong = InvalidRequest("The activation link is not good", hint="It was used, has expired, or is cut short.")
        try:
            user_id = UUID(hex=token[:32])
        except ValueError:
            raise wrong from None
        user = await self._people.user(user_id)
        if user is None or not user.enabled or user.activation_nonce is None:
            raise wrong
        try:
            expected = self.token(user)
        except InvalidRequest:
            raise wrong from None
        if not hmac.compare_digest(expected.encode(), token.encode()):
            raise wrong
        return user
