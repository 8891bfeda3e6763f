"""HTTP requests of rule nodes to other servers.

What it costs to be able to make them is loaded when the first one is made: `web_exchange`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred, gatherResults
from twisted.python.failure import Failure

from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.rules_settings import RulesSettings
from rpcbroker.outside.web_hosts import WebHosts
from rpcbroker.rules.ports import WebCallFailed, WebCallRefused, WebRequest, WebResponse

WAITING = 10
"""Times as many calls may wait as may be on their way."""


class _Tenant:
    """How far the calls of one tenant are."""

    __slots__ = ("exchange", "running", "waiting")

    def __init__(self, exchange: Any) -> None:
        self.exchange = exchange
        self.running = 0
        self.waiting: deque[Deferred[None]] = deque()


class HttpCalls:
    """rules.ports.WebCalls over HTTP and HTTPS.

    Each tenant has connections of its own, which are used again, and its turns. Which hosts may be called WebHosts
    says, of the address that is connected to. Redirects are not followed, cookies not kept, proxies not used,
    certificates always verified.
    """

    def __init__(
        self,
        *,
        reactor: Any,
        deadlines: Deadlines,
        settings: Callable[[], RulesSettings],
        trust_root: Any = None,
        look_up: Callable[[str], Deferred[list[str]]] | None = None,
    ) -> None:
        """`trust_root` None is the one of the system, and so is `look_up`, which has the addresses of a host."""
        self._reactor = reactor
        self._deadlines = deadlines
        self._settings = settings
        self._trust_root = trust_root
        self._look_up = look_up
        self._names: Any = None
        self._tenants: dict[UUID, _Tenant] = {}
        self._listed: tuple[str, ...] = ()
        self._hosts = WebHosts(())
        self._calls: set[Deferred[WebResponse]] = set()
        self._stopped = False
        self.outcomes = {"answered": 0, "failed": 0, "refused": 0}
        """Calls that have ended, by how."""

    @property
    def running(self) -> int:
        """Calls that are on their way."""
        return sum(tenant.running for tenant in self._tenants.values())

    @property
    def waiting(self) -> int:
        """Calls that wait for their turn."""
        return sum(len(tenant.waiting) for tenant in self._tenants.values())

    def call(self, tenant_id: UUID, request: WebRequest) -> Deferred[WebResponse]:
        """As WebCalls has it."""
        made = Deferred.fromCoroutine(self._call(tenant_id, request))
        self._calls.add(made)
        late: list[bool] = []
        deadline = self._deadlines.after(request.timeout, _give_up, (made, late))

        def ended(result: Any) -> Any:
            deadline.cancel()
            self._calls.discard(made)
            if not isinstance(result, Failure):
                self.outcomes["answered"] += 1
                return result
            self.outcomes["refused" if result.check(WebCallRefused) else "failed"] += 1
            if self._stopped:
                raise WebCallRefused("The broker stops")
            if late:
                raise WebCallFailed(f"There was no response within {request.timeout:g} s")
            return result

        return made.addBoth(ended)

    def stop(self) -> Deferred[None]:
        """End all calls, and close what is open; fires when it is closed."""
        self._stopped = True
        for made in list(self._calls):
            made.cancel()
        if self._names is not None:
            self._names.stop()
        closing = [tenant.exchange.close() for tenant in self._tenants.values()]
        self._tenants.clear()
        return gatherResults(closing).addCallback(lambda _: None)

    async def _call(self, tenant_id: UUID, request: WebRequest) -> WebResponse:
        if self._stopped:
            raise WebCallRefused("The broker stops")
        tenant = self._tenant(tenant_id)
        await self._turn(tenant)
        try:
            response: WebResponse = await tenant.exchange.request(request, self._allowed())
            return response
        finally:
            self._end(tenant)

    def _tenant(self, tenant_id: UUID) -> _Tenant:
        from rpcbroker.outside.web_exchange import Names, TenantExchange

        tenant = self._tenants.get(tenant_id)
        if tenant is None:
            if self._look_up is None:
                self._names = Names(self._reactor)
                self._look_up = self._names.look_up
            exchange = TenantExchange(
                self._reactor, deadlines=self._deadlines, look_up=self._look_up, trust_root=self._trust_root
            )
            tenant = self._tenants[tenant_id] = _Tenant(exchange)
        return tenant

    def _allowed(self) -> WebHosts:
        """The hosts that are allowed now. Connections to those that were before are not used again."""
        listed = self._settings().web_hosts
        if listed != self._listed:
            self._listed, self._hosts = listed, WebHosts(listed)
            for tenant in self._tenants.values():
                tenant.exchange.renew()
        return self._hosts

    # -- turns

    async def _turn(self, tenant: _Tenant) -> None:
        most = self._settings().max_web_calls
        if tenant.running < most:
            tenant.running += 1
            return
        if len(tenant.waiting) >= WAITING * most:
            raise WebCallFailed(f"{len(tenant.waiting):,} calls of the tenant to other servers wait already")
        turn: Deferred[None] = Deferred(tenant.waiting.remove)
        tenant.waiting.append(turn)
        await turn

    def _end(self, tenant: _Tenant) -> None:
        tenant.running -= 1
        while tenant.waiting and tenant.running < self._settings().max_web_calls:
            tenant.running += 1
            tenant.waiting.popleft().callback(None)


def _give_up(given: tuple[Deferred[WebResponse], list[bool]]) -> None:
    made, late = given
    late.append(True)
    made.cancel()
