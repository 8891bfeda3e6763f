"""The table of routes: every operation of the API, a row each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rpcbroker.api.api_keys import ApiKeys
from rpcbroker.api.audit import Audit
from rpcbroker.api.boards import Boards
from rpcbroker.api.boards_table import boards
from rpcbroker.api.bulk import BulkCalls
from rpcbroker.api.bulk_table import bulk_calls
from rpcbroker.api.call_records import CallRecords
from rpcbroker.api.calls import Calls
from rpcbroker.api.calls_table import calls
from rpcbroker.api.customers import Customers
from rpcbroker.api.devices import Devices
from rpcbroker.api.enrolment import Claims, ProvisionKeys
from rpcbroker.api.enrolment_table import enrolment
from rpcbroker.api.feed import FeedStreams
from rpcbroker.api.fleet import Fleet
from rpcbroker.api.health import Health
from rpcbroker.api.login import Login
from rpcbroker.api.metrics import Metrics
from rpcbroker.api.pages import Pages
from rpcbroker.api.people_table import people
from rpcbroker.api.persistent import PersistentCalls
from rpcbroker.api.relations import Relations
from rpcbroker.api.relations_table import relations
from rpcbroker.api.routes import ADMINS, BOTH_ADMINS, EVERYONE, HTML, USERS, Action, Route
from rpcbroker.api.rule_chains import Chains
from rpcbroker.api.rule_engine import RuleEngine
from rpcbroker.api.rule_engine_table import rule_engine
from rpcbroker.api.rule_events import RuleEvents
from rpcbroker.api.rule_scripts import RuleScripts
from rpcbroker.api.rule_trials import RuleTrials
from rpcbroker.api.rules_table import rules
from rpcbroker.api.second_names import second_names
from rpcbroker.api.tenants import Tenants
from rpcbroker.api.users import Users
from rpcbroker.api.values import Values
from rpcbroker.api.values_table import values
from rpcbroker.core import errors as e
from rpcbroker.core.model import KeyAccess
from rpcbroker.schema.audit import AuditEntryJSON, AuditQuery
from rpcbroker.schema.common import PageJSON
from rpcbroker.schema.devices import (
    CredentialsBody,
    CredentialsJSON,
    DeviceBody,
    DeviceIdsQuery,
    DeviceInfoJSON,
    DeviceInfoListQuery,
    DeviceJSON,
    DeviceListQuery,
    DeviceNameQuery,
    DeviceWithCredentialsBody,
    DiagnosticsJSON,
    EntitySubtypeJSON,
    PresenceJSON,
    PresenceQuery,
    PutDeviceBody,
    SaveDeviceQuery,
    TenantDevicesQuery,
)
from rpcbroker.schema.feed import FeedQuery, SnapshotJSON, SnapshotQuery
from rpcbroker.schema.health import EndpointsJSON, HealthJSON, VersionJSON
from rpcbroker.schema.people import (
    ActivateQuery,
)
from rpcbroker.wire.events import EVENT_STREAM

READ = KeyAccess.READ
CONFLICTS = (e.AlreadyExists, e.VersionConflict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handlers:
    """Who handles what."""

    calls: Calls
    persistent: PersistentCalls
    call_records: CallRecords
    bulk_calls: BulkCalls
    feed: FeedStreams
    devices: Devices
    fleet: Fleet
    values: Values
    boards: Boards
    relations: Relations
    rule_engine: RuleEngine
    provision_keys: ProvisionKeys
    claims: Claims
    customers: Customers
    tenants: Tenants
    users: Users
    login: Login
    api_keys: ApiKeys
    chains: Chains
    rule_events: RuleEvents
    rule_scripts: RuleScripts
    rule_trials: RuleTrials
    audit: Audit
    health: Health
    metrics: Metrics
    pages: Pages


def routes(to: Handlers) -> tuple[Route, ...]:
    """All operations, in the order of the document."""
    return (
        *calls(to.calls, to.persistent, to.call_records),
        *bulk_calls(to.bulk_calls),
        *_feed(to.feed),
        *_devices(to.devices, to.fleet),
        *values(to.values),
        *boards(to.boards),
        *relations(to.relations),
        *rule_engine(to.rule_engine),
        *enrolment(to.provision_keys, to.claims),
        *people(to.customers, to.login, to.users, to.api_keys, to.tenants),
        *rules(to.chains, to.rule_events, to.rule_scripts, to.rule_trials),
        *_audit(to.audit),
        *_server(to.health, to.metrics, to.pages),
        *second_names(to.devices, to.customers, to.users),
    )


def _feed(feed: FeedStreams) -> tuple[Route, ...]:
    watch = Route(
        operation="watchFeed",
        method="GET",
        path="/api/feed",
        handler=feed.watch,
        roles=USERS,
        tag="Feed",
        access=READ,
        query=FeedQuery,
        answers=str,
        content_type=EVENT_STREAM,
        stream=True,
        errors=(e.NotFound,),
    )
    snapshot = Route(
        operation="getFeedSnapshot",
        method="GET",
        path="/api/feed/snapshot",
        handler=feed.snapshot,
        roles=USERS,
        tag="Feed",
        access=READ,
        query=SnapshotQuery,
        answers=SnapshotJSON,
        errors=(e.NotFound,),
    )
    return watch, snapshot


def _devices(devices: Devices, fleet: Fleet) -> tuple[Route, ...]:
    def get(operation: str, path: str, handler: Callable[..., Any], **more: Any) -> Route:
        members: dict[str, Any] = {"roles": USERS, "access": READ} | more
        return Route(operation=operation, method="GET", path=path, handler=handler, tag="Devices", **members)

    def change(
        operation: str, method: str, path: str, handler: Callable[..., Any], action: Action, **more: Any
    ) -> Route:
        return Route(
            operation=operation,
            method=method,
            path=path,
            handler=handler,
            roles=ADMINS,
            tag="Devices",
            action=action,
            entity="DEVICE",
            **more,
        )

    saved: dict[str, Any] = {"answers": DeviceJSON, "errors": (*CONFLICTS, e.NotFound)}
    return (
        change(
            "saveDevice",
            "POST",
            "/api/device",
            devices.save,
            Action.ADDED,
            body=DeviceBody,
            query=SaveDeviceQuery,
            **saved,
        ),
        change(
            "saveDeviceWithCredentials",
            "POST",
            "/api/device-with-credentials",
            devices.save_with_credentials,
            Action.ADDED,
            body=DeviceWithCredentialsBody,
            **saved,
        ),
        get("getDeviceById", "/api/device/<device_id>", devices.get, answers=DeviceJSON),
        get("getDeviceInfoById", "/api/device/info/<device_id>", devices.info, answers=DeviceInfoJSON),
        change("deleteDevice", "DELETE", "/api/device/<device_id>", devices.delete, Action.DELETED),
        get(
            "getDevicePresence",
            "/api/device/<device_id>/presence",
            devices.presence,
            query=PresenceQuery,
            answers=PresenceJSON,
        ),
        get(
            "getDeviceDiagnostics",
            "/api/device/<device_id>/diagnostics",
            devices.diagnostics,
            answers=DiagnosticsJSON,
        ),
        Route(
            operation="getDeviceCredentialsByDeviceId",
            method="GET",
            path="/api/device/<device_id>/credentials",
            handler=devices.credentials,
            roles=USERS,
            tag="Devices",
            answers=CredentialsJSON,
            action=Action.CREDENTIALS_READ,
            entity="DEVICE",
        ),
        change(
            "updateDeviceCredentials",
            "POST",
            "/api/device/credentials",
            devices.save_credentials,
            Action.CREDENTIALS_UPDATED,
            body=CredentialsBody,
            answers=CredentialsJSON,
            errors=(*CONFLICTS, e.NotFound),
        ),
        get(
            "getTenantDevices",
            "/api/tenant/devices",
            devices.page,
            roles=ADMINS,
            query=TenantDevicesQuery,
            answers=(PageJSON[DeviceJSON], DeviceJSON),
            errors=(e.NotFound,),
        ),
        get(
            "getTenantDeviceInfos",
            "/api/tenant/deviceInfos",
            devices.infos,
            roles=ADMINS,
            query=DeviceInfoListQuery,
            answers=PageJSON[DeviceInfoJSON],
        ),
        get(
            "getAllDeviceInfos",
            "/api/deviceInfos/all",
            devices.infos,
            query=DeviceInfoListQuery,
            answers=PageJSON[DeviceInfoJSON],
        ),
        get(
            "getTenantDeviceByName",
            "/api/tenant/device",
            devices.by_name,
            roles=ADMINS,
            query=DeviceNameQuery,
            answers=DeviceJSON,
            errors=(e.NotFound,),
        ),
        change(
            "putTenantDeviceByName",
            "PUT",
            "/api/tenant/device",
            fleet.put,
            Action.UPDATED,
            body=PutDeviceBody,
            query=DeviceNameQuery,
            created=True,
            **saved,
        ),
        get("getDevicesByIds", "/api/devices", devices.by_ids, query=DeviceIdsQuery, answers=list[DeviceJSON]),
        get("getDeviceTypes", "/api/device/types", devices.types, answers=list[EntitySubtypeJSON]),
        get(
            "getCustomerDevices",
            "/api/customer/<customer_id>/devices",
            devices.of_customer,
            query=DeviceListQuery,
            answers=PageJSON[DeviceJSON],
        ),
        get(
            "getCustomerDeviceInfos",
            "/api/customer/<customer_id>/deviceInfos",
            devices.infos_of_customer,
            query=DeviceInfoListQuery,
            answers=PageJSON[DeviceInfoJSON],
        ),
    )


def _audit(audit: Audit) -> tuple[Route, ...]:
    def get(operation: str, path: str, handler: Callable[..., Any]) -> Route:
        return Route(
            operation=operation,
            method="GET",
            path=path,
            handler=handler,
            roles=BOTH_ADMINS,
            tag="Audit",
            query=AuditQuery,
            answers=PageJSON[AuditEntryJSON],
        )

    return (
        get("getAuditLogs", "/api/audit/logs", audit.page),
        get("getAuditLogsByCustomerId", "/api/audit/logs/customer/<customer_id>", audit.by_customer),
        get("getAuditLogsByUserId", "/api/audit/logs/user/<user_id>", audit.by_user),
        get("getAuditLogsByEntityId", "/api/audit/logs/entity/<any_type>/<entity_id>", audit.by_entity),
    )


def _server(health: Health, metrics: Metrics, pages: Pages) -> tuple[Route, ...]:
    def get(operation: str, path: str, handler: Callable[..., Any], **more: Any) -> Route:
        return Route(operation=operation, method="GET", path=path, handler=handler, roles=None, tag="Server", **more)

    return (
        get("healthz", "/healthz", health.healthy, answers=HealthJSON),
        get("readyz", "/readyz", health.ready, answers=HealthJSON),
        get("version", "/version", health.version, answers=VersionJSON),
        Route(
            operation="endpoints",
            method="GET",
            path="/api/endpoints",
            handler=health.endpoints,
            roles=EVERYONE,
            tag="Server",
            access=READ,
            answers=EndpointsJSON,
        ),
        get(
            "metrics",
            "/metrics",
            metrics.scrape,
            answers=str,
            content_type="text/plain",
            needs_who=True,
            errors=(e.NotFound, e.NotAuthenticated, e.PermissionDenied),
        ),
        get("openapi", "/openapi.json", pages.openapi, answers=dict[str, Any]),
        get("docs", "/docs", pages.docs, answers=str, content_type=HTML),
        get(
            "checkActivateToken",
            "/api/noauth/activate",
            pages.activate,
            query=ActivateQuery,
            answers=str,
            content_type=HTML,
        ),
        get(
            "activateScript",
            "/api/noauth/activate.js",
            pages.activate_script,
            answers=str,
            content_type="text/javascript",
        ),
        get("style", "/docs.css", pages.style, answers=str, content_type="text/css"),
    )
