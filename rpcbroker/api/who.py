"""Who asks: the Authorization header of a request, as a Principal, within the rates that hold for it."""

from __future__ import annotations

from collections.abc import Callable

from rpcbroker.api.keys import PREFIX
from rpcbroker.core import access
from rpcbroker.core.errors import NotAuthenticated, PermissionDenied, TooManyRequests
from rpcbroker.core.limits import RateLimit
from rpcbroker.core.model import Authority, KeyAccess, Principal
from rpcbroker.core.settings import HttpSettings

Verify = Callable[[str], Principal]


class Who:
    """Knows the two schemes: `Bearer <token>` and `ApiKey <key>`."""

    def __init__(
        self, *, bearer: Verify, api_key: Verify, settings: HttpSettings, seconds: Callable[[], float]
    ) -> None:
        """Both tell who speaks, or raise NotAuthenticated."""
        self._schemes = {"bearer": bearer, "apikey": api_key}
        self._tenants = RateLimit(settings.tenant_rate, seconds)
        self._customers = RateLimit(settings.customer_rate, seconds)
        self._users = RateLimit(settings.user_rate, seconds)

    def reconfigure(self, settings: HttpSettings) -> None:
        """Other rates hold from now on."""
        self._tenants.rate = settings.tenant_rate
        self._customers.rate = settings.customer_rate
        self._users.rate = settings.user_rate

    def principal(self, header: str) -> Principal:
        """Who sent this, without spaces around it. Raises NotAuthenticated."""
        scheme, _, secret = header.partition(" ")
        if not scheme:
            raise NotAuthenticated(
                "Authentication failed", hint="Send X-Authorization: Bearer <token>, or ApiKey <key>."
            )
        verify, secret = self._schemes.get(scheme.lower()), secret.strip()
        if verify is None or not secret:
            raise NotAuthenticated(
                "Authentication failed", hint="The scheme must be Bearer, then a token; or ApiKey, then a key."
            )
        return verify(secret)

    def of_ticket(self, ticket: str) -> Principal:
        """A token or a key without its scheme: keys are known by how they begin. Raises NotAuthenticated."""
        return self._schemes["apikey" if ticket.startswith(PREFIX) else "bearer"](ticket)

    def count(self, principal: Principal) -> None:
        """One more request. Raises TooManyRequests; system administrators are not kept out by others' rates.

        The user comes first: what is refused for asking too much must not use up what others may ask.
        """
        if self._users.rate:
            _take(self._users, principal.user_id, "user")
        if self._customers.rate and principal.customer_id is not None:
            _take(self._customers, principal.customer_id, "customer")
        if self._tenants.rate and principal.authority is not Authority.SYS_ADMIN:
            _take(self._tenants, principal.tenant_id, "tenant")


def require(principal: Principal, roles: frozenset[Authority], key_access: KeyAccess | None) -> None:
    """Whether a route is for this principal. Raises PermissionDenied."""
    if principal.authority not in roles:
        raise PermissionDenied(access.NOT_ALLOWED)
    if principal.scope is None:
        return
    if key_access is None:
        raise PermissionDenied(access.NOT_ALLOWED, hint="No API key may do this: log in.")
    access.require_key_access(principal, key_access)


def _take(limit: RateLimit, key: object, whose: str) -> None:
    wait = limit.take(key)
    if wait:
        raise TooManyRequests(f"Too many requests for current {whose}!", retry_after=wait)
