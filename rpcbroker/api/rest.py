"""The REST API of one server, put together."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred, gatherResults

from rpcbroker.api.activation import Activation
from rpcbroker.api.api_keys import ApiKeys
from rpcbroker.api.audit import Audit, Auditor
from rpcbroker.api.boards import Boards
from rpcbroker.api.bulk import BulkCalls
from rpcbroker.api.call_records import CallRecords
from rpcbroker.api.calls import Calls
from rpcbroker.api.customers import Customers
from rpcbroker.api.devices import Devices
from rpcbroker.api.enrolment import Claims, ProvisionKeys
from rpcbroker.api.feed import FeedStreams
from rpcbroker.api.fleet import Fleet
from rpcbroker.api.health import Health
from rpcbroker.api.keys import Keys
from rpcbroker.api.lockout import Lockout
from rpcbroker.api.login import Login
from rpcbroker.api.metrics import Metrics
from rpcbroker.api.pages import Pages
from rpcbroker.api.passwords import Passwords
from rpcbroker.api.persistent import PersistentCalls
from rpcbroker.api.relations import Relations
from rpcbroker.api.rule_chains import Chains
from rpcbroker.api.rule_engine import RuleEngine
from rpcbroker.api.rule_events import RuleEvents
from rpcbroker.api.rule_scripts import RuleScripts
from rpcbroker.api.rule_trials import RuleTrials
from rpcbroker.api.site import Api
from rpcbroker.api.table import Handlers, routes
from rpcbroker.api.tenants import Tenants
from rpcbroker.api.tokens import Tokens
from rpcbroker.api.users import Users
from rpcbroker.api.values import Values
from rpcbroker.api.visible import Visible
from rpcbroker.api.who import Who
from rpcbroker.core.audit import AuditTrail
from rpcbroker.core.broker import Broker
from rpcbroker.core.bulks import Bulks
from rpcbroker.core.claiming import Claiming
from rpcbroker.core.feed import Feed
from rpcbroker.core.ledger import Ledger
from rpcbroker.core.model import Device
from rpcbroker.core.ports import OpenedStore, Store
from rpcbroker.core.provisioning import Provisioning
from rpcbroker.core.settings import Settings
from rpcbroker.rules.system import RuleSystem


class RestApi:
    """Everything that answers HTTP requests, over one store and one broker."""

    def __init__(
        self,
        *,
        settings: Settings,
        store: Store,
        broker: Broker,
        bulks: Bulks,
        rules: RuleSystem,
        feed: Feed,
        health: Health,
        metrics: Metrics,
        key: Callable[[], bytes],
        run_hash: Callable[..., Deferred[Any]],
        now_ms: Callable[[], int],
        seconds: Callable[[], float],
        new_uuid: Callable[[], UUID],
        new_token: Callable[[], str],
        new_secret: Callable[[], str] = lambda: secrets.token_urlsafe(32),
    ) -> None:
        """`key` gives the signing key, `run_hash(f, *args)` calls in the thread for passwords."""
        people, deadlines = store.people, broker.deadlines
        made: dict[str, Any] = {"now_ms": now_ms, "new_uuid": new_uuid}
        auth = settings.auth
        self.tokens = Tokens(key, people=people, settings=auth, **made)
        self.keys = Keys(people=people, deadlines=deadlines, now_ms=now_ms, new_secret=new_secret)
        self.trail = AuditTrail(store.audit, settings=settings.audit, deadlines=deadlines, now_ms=now_ms)
        inside: dict[str, Any] = {"store": store, "broker": broker, "settings": settings.enrolment, "seconds": seconds}
        self.provisioning = Provisioning(trail=self.trail, new_token=new_token, **inside, **made)
        self.claiming = Claiming(now_ms=now_ms, **inside)
        self.health = health
        self.streams = FeedStreams(feed=feed, broker=broker, now_ms=now_ms)
        self._passwords = Passwords(run_hash, auth)
        self._lockout = Lockout(auth, seconds)
        self._activation = Activation(key, people=people, settings=auth, now_ms=now_ms, new_nonce=new_secret)
        self.who = Who(bearer=self.tokens.verify, api_key=self.keys.verify, settings=settings.http, seconds=seconds)
        rights: dict[str, Any] = {"tokens": self.tokens, "keys": self.keys}
        visible = Visible(store)
        users = Users(people=people, visible=visible, activation=self._activation, **rights, **made)
        devices = Devices(store=store, broker=broker, visible=visible, new_token=new_token, **made)
        pages = Pages()
        ledger = Ledger(broker=broker, store=store)
        self._relations = Relations(store=store, visible=visible, settings=settings.rules)
        self._rule_engine = RuleEngine(rules, visible=visible, audit=self.trail, max_timeout=settings.rpc.max_timeout)
        self._api_keys = ApiKeys(people=people, keys=self.keys, visible=visible, settings=auth, **made)
        self.table = routes(
            Handlers(
                calls=Calls(broker=broker, audit=self.trail, new_uuid=new_uuid),
                persistent=PersistentCalls(ledger),
                call_records=CallRecords(ledger),
                bulk_calls=BulkCalls(bulks, audit=self.trail, new_uuid=new_uuid),
                feed=self.streams,
                devices=devices,
                fleet=Fleet(store=store, devices=devices, **made),
                values=Values(broker=broker, now_ms=now_ms),
                boards=Boards(store=store, visible=visible, **made),
                relations=self._relations,
                rule_engine=self._rule_engine,
                provision_keys=ProvisionKeys(
                    store=store, visible=visible, new_token=new_token, new_secret=new_secret, **made
                ),
                claims=Claims(store=store, claiming=self.claiming, devices=devices),
                customers=Customers(people=people, broker=broker, visible=visible, devices=devices, **rights, **made),
                tenants=Tenants(people=people, broker=broker, rules=rules, **rights, **made),
                users=users,
                login=Login(
                    people=people,
                    passwords=self._passwords,
                    lockout=self._lockout,
                    activation=self._activation,
                    **rights,
                ),
                api_keys=self._api_keys,
                chains=Chains(rules, **made),
                rule_events=RuleEvents(rules),
                rule_scripts=RuleScripts(rules),
                rule_trials=RuleTrials(rules),
                audit=Audit(store.audit),
                health=health,
                metrics=metrics,
                pages=pages,
            )
        )
        pages.show(self.table)
        self.site = Api(
            self.table,
            who=self.who,
            auditor=Auditor(self.trail),
            settings=settings.http,
            deadlines=deadlines,
            now_ms=now_ms,
            seconds=seconds,
        )

    def start(self, opened: OpenedStore) -> None:
        """Go on where the store says that things were."""
        self.tokens.start(opened.revoked, opened.revoked_users)
        self.keys.start(opened.api_keys)

    def provision(self, request: bytes) -> Deferred[bytes]:
        """See core.provisioning."""
        return self.provisioning.provision(request)

    def claim(self, device: Device, offer: bytes) -> Deferred[None]:
        """A device offers itself: see core.claiming."""
        return self.claiming.offer(device, offer)

    def reconfigure(self, settings: Settings) -> None:
        """Other settings hold from now on."""
        for part in (self.tokens, self._passwords, self._lockout, self._activation, self._api_keys):
            part.settings = settings.auth
        for door in (self.provisioning, self.claiming):
            door.reconfigure(settings.enrolment)
        self.trail.settings = settings.audit
        self._relations.settings = settings.rules
        self._rule_engine.max_timeout = settings.rpc.max_timeout
        self.site.settings = settings.http
        self.who.reconfigure(settings.http)

    def flush(self) -> Deferred[Any]:
        """Write what waits to be written; fires when it is, or could not be."""
        return gatherResults([self.trail.flush(), self.keys.flush()])
