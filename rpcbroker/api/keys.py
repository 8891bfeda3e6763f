"""API keys: made, verified, remembered. All of them are in memory, so that revoking one works at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from uuid import UUID

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.errors import NotAuthenticated
from rpcbroker.core.model import ApiKey, Authority, Principal, User
from rpcbroker.core.ports import People

PREFIX = "rpcb_"
"""Every key begins so: it can be found where it should not be."""
HINT_LENGTH = 10
USE_INTERVAL = 5.0
"""Seconds that uses of keys are gathered before they are written."""


def digest(value: str) -> str:
    """What is kept of a key. It has 256 random bits, so a plain hash is enough, and as quick as it must be."""
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()


class Keys:
    """The API keys of one server."""

    _log = Logger()

    def __init__(
        self,
        *,
        people: People,
        deadlines: Deadlines,
        now_ms: Callable[[], int],
        new_secret: Callable[[], str],
    ) -> None:
        """`new_secret` gives 256 random bits as text."""
        self._people = people
        self._deadlines = deadlines
        self._now_ms = now_ms
        self._new_secret = new_secret
        self._keys: dict[UUID, tuple[ApiKey, User]] = {}
        self._by_digest: dict[str, tuple[ApiKey, Principal, User]] = {}
        self._used: dict[UUID, int] = {}
        self._last_used: dict[UUID, int] = {}

    def start(self, keys: Iterable[tuple[ApiKey, User]]) -> None:
        """All that the store has, each with its user."""
        for key, user in keys:
            self.put(key, user)

    def new_value(self) -> str:
        """A new key, for its user's eyes only."""
        return PREFIX + self._new_secret()

    def verify(self, value: str) -> Principal:
        """Whom the key speaks for. Raises NotAuthenticated."""
        entry = self._by_digest.get(digest(value))
        if entry is None:
            raise NotAuthenticated("Invalid API key")
        key, principal, user = entry
        now = self._now_ms()
        if not key.enabled:
            raise NotAuthenticated("The API key is disabled")
        if 0 < key.expiration_time <= now:
            raise NotAuthenticated("The API key has expired")
        if not user.enabled:
            raise NotAuthenticated("User account is not active")
        if not self._used:
            self._deadlines.after(USE_INTERVAL, lambda _: self.flush(), None)
        self._used[key.id] = now
        return principal

    def get(self, key_id: UUID) -> ApiKey | None:
        """The key of this id."""
        entry = self._keys.get(key_id)
        return entry and entry[0]

    def last_used(self, key: ApiKey) -> int | None:
        """Epoch ms; also what is not written yet."""
        return self._used.get(key.id) or self._last_used.get(key.id) or key.last_used_time

    def put(self, key: ApiKey, user: User) -> None:
        """A key is new, or changed, and stored."""
        self._keys[key.id] = key, user
        self._by_digest[key.digest] = key, _principal(key, user), user

    def drop(self, key_id: UUID) -> None:
        """A key is gone."""
        entry = self._keys.pop(key_id, None)
        if entry is not None:
            del self._by_digest[entry[0].digest]
        self._used.pop(key_id, None)
        self._last_used.pop(key_id, None)

    def user_changed(self, user: User) -> None:
        """What the user may do, or whether at all, is another thing now."""
        for key, _ in tuple(self._keys.values()):
            if key.user_id == user.id:
                self.put(key, user)

    def users_gone(self, user_ids: Iterable[UUID]) -> None:
        """The users were deleted, and their keys with them."""
        gone = set(user_ids)
        for key, _ in tuple(self._keys.values()):
            if key.user_id in gone:
                self.drop(key.id)

    def flush(self) -> Deferred[None]:
        """Write down when keys were last used; fires when it is kept, and also when it could not be."""
        used, self._used = self._used, {}
        if not used:
            return succeed(None)
        self._last_used |= used
        return self._people.used_api_keys(used).addErrback(self._not_written)

    def _not_written(self, failure: Failure) -> None:
        self._log.warn("when API keys were last used could not be kept: {error}", error=failure.value)


def _principal(key: ApiKey, user: User) -> Principal:
    return Principal(
        user_id=user.id,
        tenant_id=user.tenant_id,
        customer_id=user.customer_id if user.authority is Authority.CUSTOMER_USER else None,
        authority=user.authority,
        email=user.email,
        session_id="",
        scope=key.scope,
        key_name=key.description,
    )
