"""The REST API in memory, and a caller: no sockets."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cached_property
from typing import Any

from fakes import TENANT, first_records, metrics_of, result_of
from rule_world import RuleWorld
from treq.testing import StubTreq
from twisted.internet.defer import maybeDeferred

from rpcbroker.api.health import Health
from rpcbroker.api.passwords import hash_password
from rpcbroker.api.rest import RestApi
from rpcbroker.api.routes import Route
from rpcbroker.core.feed import Feed
from rpcbroker.core.feed_settings import FeedSettings
from rpcbroker.core.feed_sources import FeedSources
from rpcbroker.core.model import NULL_UUID as NULL_TENANT
from rpcbroker.core.model import AuditEntry, AuditFilter, Authority, Customer, Page, PageLink, User
from rpcbroker.core.settings import AuditSettings, AuthSettings, HttpSettings, Settings
from rpcbroker.schema.people import TokenPair
from rpcbroker.store.tables import metadata

PASSWORD = "correct horse"
HASH = hash_password(PASSWORD)
KEY = b"k" * 64
BASE = "http://broker.test"
NULL_UUID = "13814000-1dd2-11b2-8080-808080808080"


class Rest(RuleWorld):
    """The API around a World with rule chains. `self.token` is a tenant administrator's."""

    def __init__(
        self,
        *,
        store: Any = None,
        http: Any = None,
        audit: Any = None,
        rules: Any = None,
        feed: Any = None,
        now: float = 0.0,
        **auth: Any,
    ) -> None:
        """`now`: seconds that have passed when it starts."""
        super().__init__(store=store, rules=rules)
        self.clock.advance(now)
        self.user = result_of(self.store.people.user(first_records()[1].id))
        if self.user.password_hash != HASH:
            self.user = replace(self.user, password_hash=HASH, version=self.user.version + 1)
            result_of(self.store.people.update_user(self.user))
        self.secrets = iter(range(1, 10**6))
        self.metrics_access = "open"
        self.health = Health({"store": self.store.ping}, self.clock)
        self.feed = Feed(
            self.broker, now_ms=self.now_ms, seconds=self.clock.seconds, settings=FeedSettings(**feed or {})
        )
        FeedSources(self.broker, self.feed, now_ms=self.now_ms)
        self.rest = RestApi(
            settings=Settings(
                auth=AuthSettings(**auth), http=HttpSettings(**http or {}), audit=AuditSettings(**audit or {})
            ),
            store=self.store,
            broker=self.broker,
            bulks=self.bulks,
            rules=self.rules,
            feed=self.feed,
            health=self.health,
            metrics=metrics_of(self, access=lambda: self.metrics_access),
            key=lambda: KEY,
            run_hash=maybeDeferred,
            now_ms=self.now_ms,
            seconds=self.clock.seconds,
            new_uuid=self.new_uuid,
            new_token=lambda: f"T{next(self.secrets):019}",
            new_secret=lambda: f"secret-{next(self.secrets):036}",
        )
        self.rest.start(self.opened)
        self.tokens = self.rest.tokens
        self.table = self.rest.table
        self.treq = StubTreq(self.rest.site.resource())
        self.token = self.pair().token

    def pair(self, user: User | None = None) -> TokenPair:
        """A new session of a user, the tenant administrator if none is named."""
        return self.tokens.issue(user or self.user, self.tokens.moment())

    def add_user(self, email: str, authority: Authority, *, tenant: Any = TENANT, customer: Any = None) -> str:
        """A new user, activated; its access token."""
        user = User(
            id=self.new_uuid(),
            tenant_id=tenant,
            customer_id=customer,
            email=email,
            authority=authority,
            password_hash=HASH,
            created_time=self.now_ms(),
        )
        result_of(self.store.people.create_user(user))
        return self.pair(user).token

    def add_customer(self, title: str, *, tenant: Any = TENANT) -> Customer:
        customer = Customer(id=self.new_uuid(), tenant_id=tenant, title=title, created_time=self.now_ms())
        result_of(self.store.people.create_customer(customer))
        return customer

    async def ask(
        self, method: str, path: str, body: Any = None, *, token: str | None = "", headers: Any = None
    ) -> tuple[int, Any, Any]:
        """Status, body (decoded if it is JSON, None if empty), headers. A token of None sends no header."""
        sent = dict(headers or {})
        if token is not None:
            token = token or self.token
            sent["X-Authorization"] = token if token.startswith("ApiKey ") else f"Bearer {token}"
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        waiting = self.treq.request(method, BASE + path, data=data, headers=sent)
        self.treq.flush()
        response = await waiting
        content = await self.treq.content(response)
        kind = (response.headers.getRawHeaders("content-type") or [""])[0]
        answer = (json.loads(content) if kind == "application/json" else content.decode()) if content else None
        return response.code, answer, response.headers

    async def ok(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """The body of an answer that is 200."""
        status, answer, _ = await self.ask(method, path, body, **more)
        assert status == 200, answer
        return answer

    async def refused(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, str]:
        """Status and message of an error, which must be one that is the caller's."""
        status, answer, _ = await self.ask(method, path, body, **more)
        assert 400 <= status < 500, answer
        return status, answer["message"]

    def rpc(self, path: str = "/api/rpc/twoway", device_id: Any = None) -> str:
        return f"{path}/{device_id or self.device.id}"

    @cached_property
    def sys_token(self) -> str:
        """A system administrator's."""
        return self.add_user("root@example.org", Authority.SYS_ADMIN, tenant=NULL_TENANT)

    @cached_property
    def customer_token(self) -> str:
        """A customer's user's."""
        customer = self.add_customer("a customer with a user")
        return self.add_user("customer@example.org", Authority.CUSTOMER_USER, customer=customer.id)

    def token_for(self, route: Route) -> str:
        """Of somebody who may use it: a tenant administrator if that is one."""
        if self.role_fits(route):
            return self.token
        return self.sys_token if Authority.SYS_ADMIN in route.roles else self.customer_token

    def role_fits(self, route: Route) -> bool:
        """Whether a tenant administrator may use it."""
        return route.roles is None or Authority.TENANT_ADMIN in route.roles

    def audit(self, tenant: Any = TENANT, **wanted: Any) -> tuple[AuditEntry, ...]:
        """What the audit log says, oldest first."""
        result_of(self.rest.flush())
        link = PageLink(page_size=1000)
        page: Page[AuditEntry] = result_of(self.store.audit.entries(AuditFilter(tenant_id=tenant, **wanted), link))
        return page.items

    def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """All rows of all tables."""

        def read(connection: Any) -> dict[str, list[tuple[Any, ...]]]:
            return {
                table.name: sorted(map(repr, connection.execute(table.select()))) for table in metadata.sorted_tables
            }

        return result_of(self.store.database.read(read))


def leave(rest: Rest, method: str, path: str, body: Any = None, *, headers: Any = None) -> None:
    """A caller that sends a request and does not wait for the answer."""
    headers = {"X-Authorization": f"Bearer {rest.token}"} | (headers or {})
    data = None if body is None else json.dumps(body).encode()
    waiting = rest.treq.request(method, BASE + path, data=data, headers=headers)
    waiting.addErrback(lambda _: None)
    rest.treq.flush()
    waiting.cancel()
    rest.treq.flush()
