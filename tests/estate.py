"""A server with two tenants that have something of everything, and what each route can be asked for about it.

Over 400 lines: each parameter of each route has something that can be put there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid5

import msgspec
from fakes import ADMIN, OTHER_TENANT, TENANT, device, result_of, tenant
from rest import NULL_TENANT, PASSWORD, Rest
from rule_world import SWITCH, graph
from twisted.internet.defer import Deferred

from rpcbroker.api.keys import digest
from rpcbroker.api.passwords import hash_password
from rpcbroker.api.routes import Route
from rpcbroker.core.boards import Board
from rpcbroker.core.bulk import BulkPlan
from rpcbroker.core.bulks import BulkOrder
from rpcbroker.core.calls import CallRequest, CallState
from rpcbroker.core.errors import Reason
from rpcbroker.core.events import (
    BulkChanged,
    CallOpened,
    CallProgressed,
    CallRefused,
    CallSettled,
    NearlyMissed,
    PresenceChanged,
    QuestionAnswered,
)
from rpcbroker.core.model import ApiKey, Authority, Customer, Device, KeyScope, ProvisionKey, Relation, Scope, User
from rpcbroker.core.near_misses import NearMiss
from rpcbroker.core.records import Mark, record_of

ANOTHER_PASSWORD_HASH = hash_password("something else")
"""Of all who attack: what the rightful owner sends must not be right for them by chance."""

CLAIM_SECRET = "its-claim-secret"
NOWHERE = UUID("deadbeef-0000-4000-8000-000000000000")


@dataclass
class Things:
    """Ids and names that requests are made of: somebody's, or nobody's."""

    tenant_id: UUID
    customer_id: UUID
    device_id: UUID
    other_device_id: UUID
    user_id: UUID
    pending_id: UUID
    api_key_id: UUID
    admin_id: UUID
    admin_key_id: UUID
    provision_key_id: UUID
    rpc_id: UUID
    bulk_id: UUID
    board_id: UUID
    rule_chain_id: UUID
    rule_node_id: UUID
    customer_title: str
    device_name: str
    free_device_name: str
    device_type: str
    email: str
    refresh_token: str
    activation_token: str

    @property
    def entity_id(self) -> UUID:
        return self.device_id

    @property
    def owner_id(self) -> UUID:
        return self.customer_id

    def texts(self) -> list[str]:
        """All of them, the longest first."""
        return sorted((str(getattr(self, name)) for name in self.__dataclass_fields__), key=len, reverse=True)


def nobodys() -> Things:
    ids = {name: uuid5(NOWHERE, name) for name in Things.__dataclass_fields__ if name.endswith("_id")}
    return Things(
        **ids,
        customer_title="no-such-title",
        device_name="no-such-device",
        free_device_name="no-such-free-device",
        device_type="no-such-type",
        email="nobody@nowhere.example",
        refresh_token="x.y.z",
        activation_token=ids["pending_id"].hex + "0" * 64,
    )


@dataclass
class Asking:
    """What to ask each route for. `its` are the things that are not one's own, `mine` those that are.

    `knows`: whether who asks knows the passwords and tokens.
    """

    its: Things
    mine: Things
    knows: bool

    def requests(self, route: Route) -> Iterator[tuple[str, Any]]:
        """Path with query, and body, of each request to try."""
        for changed in self._variants(route.operation):
            path = changed._path(route) + changed._query(route)
            for body in changed._bodies(route):
                yield path, body
        if route.operation in ("getCalls", "watchFeed", "getFeedSnapshot"):
            yield route.path, None

    def _variants(self, operation: str) -> list[Asking]:
        """Where a request has two ids, one may be one's own."""
        if operation == "getActivationLink":
            return [replace(self, its=replace(self.its, user_id=self.its.pending_id))]
        if operation in ("saveApiKey", "getUserApiKeys", "enableApiKey", "updateApiKeyDescription", "deleteApiKey"):
            of_admin = replace(self.its, user_id=self.its.admin_id, api_key_id=self.its.admin_key_id)
            return [self, replace(self, its=of_admin)]
        if operation == "claimDevice":
            free = replace(self, its=replace(self.its, device_name=self.its.free_device_name))
            return [free] if self.knows else [self, free]
        if operation in ("saveRelation", "deleteRelation", "getRelation", "findRelations") and not self.knows:
            return [
                self,
                replace(self, its=replace(self.its, device_id=self.mine.device_id)),
                replace(self, its=replace(self.its, other_device_id=self.mine.device_id)),
            ]
        if operation in ("assignDeviceToCustomer", "changeOwner") and not self.knows:
            return [
                self,
                replace(self, its=replace(self.its, device_id=self.mine.device_id)),
                replace(self, its=replace(self.its, customer_id=self.mine.customer_id)),
            ]
        return [self]

    def _path(self, route: Route) -> str:
        fixed = {
            "entity_type": "DEVICE",
            "any_type": "DEVICE",
            "enabled": "false",
            "owner_type": "CUSTOMER",
            "owned_type": "DEVICE",
            "scope": "SERVER_SCOPE",
            "any_scope": "ANY",
            "ttl": "0",
            "event_entity": "RULE_NODE",
            "event_type": "DEBUG_RULE_NODE",
            "timeout": "5000",
            "queue_name": "Main",
        }

        def value(match: re.Match[str]) -> str:
            found = fixed.get(match[1]) or getattr(self.its, match[1], None)
            assert found is not None, f"{route.operation}: say in Asking what {match[0]} is"
            return quote(str(found))

        return re.sub(r"<(\w+)>", value, route.path)

    def _query(self, route: Route) -> str:
        if route.query is None:
            return ""
        known = {
            "pageSize": "1000",
            "deviceName": self.its.device_name,
            "deviceIds": f"{self.its.device_id},{self.mine.device_id}",
            "customerTitle": self.its.customer_title,
            "activateToken": self.its.activation_token,
            "keys": "its-key" if route.method == "DELETE" else None,
            "deleteAllDataForKeys": "true",
            "deviceId": str(self.its.device_id),
            "type": self.its.device_type if route.operation == "getAllDeviceInfos" else None,
            "fromId": str(self.its.device_id),
            "fromType": "DEVICE",
            "relationType": "its-type",
            "toId": str(self.its.other_device_id),
            "toType": "DEVICE",
            "payloads": "true",
        }
        if route.operation in ("getTenantDeviceInfos", "getCustomerDeviceInfos"):
            known["deviceProfileId"] = str(uuid5(self.its.tenant_id, self.its.device_type))
        given: dict[str, str] = {}
        for member in msgspec.structs.fields(route.query):
            value = known.get(member.encode_name)
            assert value or not member.required, f"{route.operation}: say what the query's {member.encode_name} is"
            if value:
                given[member.encode_name] = value
        return "?" + "&".join(f"{name}={quote(value)}" for name, value in given.items())

    def _bodies(self, route: Route) -> list[Any]:
        if route.body is None:
            return [None]
        make = BODIES.get(route.operation)
        assert make is not None, f"{route.operation}: say in BODIES what its body is"
        return make(self)


def ref(id_: UUID) -> dict[str, str]:
    return {"entityType": "ANY", "id": str(id_)}


def any_json(_: Asking) -> list[Any]:
    return [{"any": "json"}]


def device_ref(id_: UUID) -> dict[str, str]:
    return {"entityType": "DEVICE", "id": str(id_)}


def call(_: Asking) -> list[Any]:
    return [{"method": "get", "timeout": 1000, "connectTimeout": 0}]


def attributes(_: Asking) -> list[Any]:
    return [{"its-key": "taken-over"}]


def graph_of(chain_id: UUID | None) -> dict[str, Any]:
    """One node of a rule chain, which takes over."""
    nodes = [{"type": SWITCH, "name": "taken-over", "configuration": {}}]
    of = None if chain_id is None else ref(chain_id)
    return {"ruleChainId": of, "firstNodeIndex": 0, "nodes": nodes, "connections": []}


def rule_chains(it: Asking) -> list[Any]:
    chain = {"id": ref(it.its.rule_chain_id), "name": "new-chain"}
    return [{"ruleChains": [chain], "metadata": [graph_of(it.its.rule_chain_id)]}]


def boards(it: Asking) -> list[Any]:
    """About its device, of its customer, or both."""
    device, customer = {"deviceId": ref(it.its.device_id)}, {"customerId": ref(it.its.customer_id)}
    content = {"widgets": [{"id": "1", "type": "switch"}]}
    return [{"title": "new-board", "content": content, **named} for named in (device, customer, device | customer)]


def bulk(it: Asking) -> list[Any]:
    devices = [str(it.its.device_id)] if it.knows else [str(it.mine.device_id), str(it.its.device_id)]
    chosen = ({"devices": devices}, {"type": it.its.device_type}, {"customerId": str(it.its.customer_id)})
    return [{"request": call(it)[0], **each} for each in chosen]


BODIES: dict[str, Callable[[Asking], list[Any]]] = {
    "handleOneWayDeviceRPCRequestV1": call,
    "handleOneWayDeviceRPCRequestV2": call,
    "handleTwoWayDeviceRPCRequestV1": call,
    "handleTwoWayDeviceRPCRequestV2": call,
    "callManyDevices": bulk,
    "handleRuleEngineRequestForUser": any_json,
    "handleRuleEngineRequestForEntity": any_json,
    "handleRuleEngineRequestForEntityWithTimeout": any_json,
    "handleRuleEngineRequestForEntityWithQueueAndTimeout": any_json,
    "saveEntityAttributesV1": attributes,
    "saveEntityAttributesV2": attributes,
    "saveDeviceAttributes": attributes,
    "saveEntityTelemetry": attributes,
    "saveEntityTelemetryWithTTL": attributes,
    "saveDevice": lambda it: [{"id": ref(it.its.device_id), "name": "taken-over"}],
    "saveDeviceWithCredentials": lambda it: [
        {
            "device": {"id": ref(it.its.device_id), "name": "taken-over"},
            "credentials": {"credentialsType": "ACCESS_TOKEN", "credentialsId": "taken-over"},
        }
    ],
    "updateDeviceCredentials": lambda it: [
        {"deviceId": ref(it.its.device_id), "credentialsType": "ACCESS_TOKEN", "credentialsId": "taken-over"}
    ],
    "putTenantDeviceByName": lambda it: [{"customerTitle": it.its.customer_title}],
    "saveCustomer": lambda it: [{"id": ref(it.its.customer_id), "title": "taken-over"}],
    "createBoard": boards,
    "saveBoard": boards,
    "saveRelation": lambda it: [
        {"from": device_ref(it.its.device_id), "to": device_ref(it.its.other_device_id), "type": "its-type"}
    ],
    "saveUser": lambda it: [
        {"id": ref(it.its.user_id), "email": "taken@over.example", "authority": "CUSTOMER_USER"},
        {
            "email": "new@inside.example",
            "authority": "CUSTOMER_USER",
            "customerId": ref(it.its.customer_id),
            "tenantId": ref(it.its.tenant_id),
        },
    ],
    "saveApiKey": lambda it: [
        {"id": ref(it.its.api_key_id), "description": "taken-over"},
        {"userId": ref(it.its.user_id), "description": "new", "scope": {"access": "READ"}},
        {"description": "own", "scope": {"access": "READ", "customerId": ref(it.its.customer_id)}},
    ],
    "createProvisionKey": lambda it: [{"customerId": ref(it.its.customer_id)}],
    "claimDevice": lambda it: [{"secretKey": CLAIM_SECRET if it.knows else "a guess"}],
    "updateApiKeyDescription": lambda _: ["taken-over"],
    "saveRuleChain": lambda it: [{"id": ref(it.its.rule_chain_id), "name": "taken-over"}],
    "saveRuleChainMetaData": lambda it: [graph_of(it.its.rule_chain_id)],
    "saveDefaultRuleChain": lambda _: [{"name": "new-chain"}],
    "importRuleChains": rule_chains,
    "testRuleChain": lambda _: [{"type": "POST_TELEMETRY_REQUEST"}],
    "testScript": lambda _: [{"script": "return msg;", "scriptType": "json"}],
    "saveTenant": lambda it: [{"id": ref(it.its.tenant_id), "title": "taken-over"}],
    "login": lambda it: [{"username": it.its.email, "password": PASSWORD if it.knows else "a guess"}],
    "loginPublic": lambda it: [{"publicId": str(it.its.customer_id)}],
    "refreshToken": lambda it: [{"refreshToken": it.its.refresh_token if it.knows else "x.y.z"}],
    "changePassword": lambda it: [{"currentPassword": PASSWORD, "newPassword": "something new"}],
    "activateUser": lambda it: [
        {
            "activateToken": it.its.activation_token if it.knows else it.its.pending_id.hex + "0" * 64,
            "password": "chosen by me",
        }
    ],
}


class Estate(Rest):
    """Two tenants. The first one, whose `its` all is, has something of everything, and two customers."""

    def __init__(self) -> None:
        super().__init__()
        self.people = self.store.people
        self.mine_customer = self.add_customer("mine-customer")
        self.its_customer = self.add_customer("its-customer-title")
        self.its_device = self._device(501, "its-device-name", "its-device-type", self.its_customer)
        self.free_device = self._device(502, "its-free-device", "its-free-type", None)
        self.mine_device = self._device(503, "mine-device", "mine-type", self.mine_customer)
        self.its_user = self._user("its-user@example.org", Authority.CUSTOMER_USER, self.its_customer)
        self.pending = self._user("its-pending@example.org", Authority.TENANT_ADMIN, None, waits=True)
        self.its_key = self._key(self.its_user, "its-key-description")
        self.admin_key = self._key(self.user, "its-admin-key")
        for one in (self.its_device, self.free_device):
            offer = {"secretKey": CLAIM_SECRET}
            result_of(self.rest.claiming.offer(one, json.dumps(offer).encode()))
        self.its_provision_key = ProvisionKey(
            id=self.new_uuid(),
            tenant_id=TENANT,
            key="its-provision-key",
            digest="its-digest",
            created_time=self.now_ms(),
        )
        result_of(self.store.enrolment.create_provision_key(self.its_provision_key))
        result_of(self.people.create_tenant(tenant(OTHER_TENANT.int, title="the-others")))
        self.their_customer = self.add_customer("their-customer", tenant=OTHER_TENANT)
        self.their_device = self._device(601, "their-device", "their-type", self.their_customer)
        for target in (self.free_device, self.mine_device):
            relation = Relation(tenant_id=TENANT, source=self.its_device.id, target=target.id, type="its-type")
            result_of(self.store.rules.relate(relation, most=9))
        self.its_board = Board(
            id=self.new_uuid(),
            tenant_id=TENANT,
            title="its-board-title",
            content=b'{"widgets":[{"id":"1","type":"its-widget"}]}',
            created_time=self.now_ms(),
            updated_time=self.now_ms(),
            customer_id=self.its_customer.id,
            device_id=self.its_device.id,
        )
        result_of(self.store.boards.create_board(self.its_board))
        self.its_link = self.link(self.its_device, reply=b"{}")
        telemetry = self.broker.telemetry
        result_of(telemetry.keep(self.its_device.id, telemetry.parse(b'{"its-key":"its-point"}')))
        result_of(telemetry.flush())
        for scope in Scope:
            result_of(self.broker.attributes.save(self.its_device.id, scope, {"its-key": "its-value"}))
        its_call = CallRequest(method="its-method", params=b'"its-params"', persistent=True, timeout=10**6)
        self.its_rpc_id = result_of(self.call(its_call, device_id=self.free_device.id)).rpc_id
        """Of a call that waits."""
        order = BulkOrder(
            bulk_id=self.new_uuid(),
            content="its-content",
            request=its_call,
            plan=BulkPlan(concurrency=1),
            devices=(self.free_device.id,),
        )
        self.its_bulk = result_of(Deferred.fromCoroutine(self.bulks.create(ADMIN, order)))
        self.its_chain_id = self.put(graph([(SWITCH, "its-node", {})]), name="its-chain-name", root=False)
        self.its_node_id = self.rules.chains.active(TENANT, self.its_chain_id).nodes[0].id
        self.session(self.its_device).note(NearMiss.UNKNOWN_TOPIC, "has published to its-secret-topic")

    def everything_happens(self) -> None:
        """All that the feed tells of, about the first tenant's things, as it is told inside: nothing changes by it."""
        session, emit = self.session(self.its_device), self.broker.events.emit
        request = CallRequest(method="its-heard-method", params=b'"its-params"')
        call = self.broker.make(session, request, self.now_ms(), wire_id=1)
        record = record_of(call, ((self.now_ms(), Mark.ACCEPTED.value, None),))
        emit(CallOpened, call, record)
        emit(CallProgressed, call, record, b'"its-progress"')
        emit(CallSettled, call, record, CallState.SUCCESSFUL, None, b'"its-reply"', "MQTT", 0.1)
        emit(CallRefused, call, record, Reason.QUEUE_FULL)
        emit(PresenceChanged, self.its_device, session.presence, True)
        emit(NearlyMissed, self.its_device, NearMiss.UNKNOWN_TOPIC, "has published to its-secret-topic")
        emit(QuestionAnswered, self.its_device, "its-question", "MQTT", None)
        emit(BulkChanged, self.its_bulk)
        self.clock.advance(0.2)

    def _device(self, number: int, name: str, type_: str, customer: Customer | None) -> Device:
        tenant_id = customer.tenant_id if customer else TENANT
        one = replace(
            device(number, tenant=tenant_id),
            name=name,
            type=type_,
            label=f"label-of-{name}",
            customer_id=customer.id if customer else None,
            additional_info={"note": f"info-of-{name}"},
        )
        self.add(one, f"token-of-{number}")
        return one

    def _user(
        self, email: str, authority: Authority, customer: Customer | None, *, of: UUID = TENANT, waits: bool = False
    ) -> User:
        user = User(
            id=self.new_uuid(),
            tenant_id=of,
            customer_id=customer.id if customer else None,
            email=email,
            authority=authority,
            password_hash=None if waits else ANOTHER_PASSWORD_HASH,
            activation_nonce=f"nonce-of-{email}" if waits else None,
            activation_until=self.now_ms() + 10**6 if waits else None,
            created_time=self.now_ms(),
        )
        result_of(self.people.create_user(user))
        return user

    def _key(self, user: User, description: str, value: str = "", scope: KeyScope | None = None) -> ApiKey:
        key = ApiKey(
            id=self.new_uuid(),
            tenant_id=user.tenant_id,
            user_id=user.id,
            description=description,
            digest=digest(value or f"value-of-{description}"),
            hint="hint-its",
            scope=scope or KeyScope(),
            created_time=self.now_ms(),
        )
        self.rest.keys.put(key, result_of(self.people.create_api_key(key, most=100)))
        return key

    @property
    def its(self) -> Things:
        return Things(
            tenant_id=TENANT,
            customer_id=self.its_customer.id,
            device_id=self.its_device.id,
            other_device_id=self.free_device.id,
            user_id=self.its_user.id,
            pending_id=self.pending.id,
            api_key_id=self.its_key.id,
            admin_id=self.user.id,
            admin_key_id=self.admin_key.id,
            provision_key_id=self.its_provision_key.id,
            rpc_id=self.its_rpc_id,
            bulk_id=self.its_bulk.id,
            board_id=self.its_board.id,
            rule_chain_id=self.its_chain_id,
            rule_node_id=self.its_node_id,
            customer_title=self.its_customer.title,
            device_name=self.its_device.name,
            free_device_name=self.free_device.name,
            device_type=self.its_device.type,
            email=self.user.email,
            refresh_token=self.pair().refresh_token,
            activation_token=self.rest._activation.token(self.pending),
        )

    def mine(self, customer: Customer, one: Device) -> Things:
        """What an attacker has."""
        return replace(self.its, customer_id=customer.id, device_id=one.id, tenant_id=one.tenant_id)

    def hidden(self) -> set[str]:
        """What must not be in any answer to an attacker."""
        words = {
            "info-of-its",
            "label-of-its",
            "token-of-501",
            "token-of-502",
            "nonce-of-",
            "hint-its",
            "its-",
            "value-of",
        }
        ids = (
            self.its_customer,
            self.its_device,
            self.free_device,
            self.its_user,
            self.pending,
            self.its_key,
            self.admin_key,
            self.its_provision_key,
            self.its_board,
        )
        digests = {row for row in self.dump()["api_key"] if self.its_key.digest in row}
        assert digests
        return (
            words
            | {str(each.id) for each in ids}
            | {
                str(self.its_rpc_id),
                str(self.its_bulk.id),
                str(self.its_chain_id),
                str(self.its_node_id),
                self.its_key.digest,
                "recorded-method",
            }
        )

    def admins(self) -> set[str]:
        """The same, of what administrators of the tenant and their API keys may see of themselves."""
        return {str(self.user.id), self.user.email, "Default"}

    def kept(self) -> dict[str, list[str]]:
        """All rows that are about the first tenant, but for what any request may write."""
        passed_over = {"audit", "revoked_session", "revoked_user", "counter", "alembic_version"}
        others = re.compile(
            "|".join(re.escape(repr(each)) for each in (OTHER_TENANT, self.their_device.id, NULL_TENANT))
        )
        return {
            name: [row for row in rows if not others.search(row)]
            for name, rows in self.dump().items()
            if name not in passed_over
        }
