"""The table of routes: every operation of the API, a row each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rpcbroker.api.api_keys import ApiKeys
from rpcbroker.api.audit import Audit
from rpcbroker.api.calls import Calls
from rpcbroker.api.customers import Customers
from rpcbroker.api.devices import Devices
from rpcbroker.api.errors import V2_STATUSES
from rpcbroker.api.fleet import Fleet
from rpcbroker.api.health import Health
from rpcbroker.api.login import Login
from rpcbroker.api.metrics import Metrics
from rpcbroker.api.pages import Pages
from rpcbroker.api.routes import ADMINS, BOTH_ADMINS, EVERYONE, HTML, SYS_ADMINS, TEXT, USERS, Action, Route
from rpcbroker.api.tenants import Tenants
from rpcbroker.api.users import Users
from rpcbroker.core import errors as e
from rpcbroker.core.model import KeyAccess
from rpcbroker.schema.audit import AuditEntryJSON, AuditQuery
from rpcbroker.schema.calls import CallBody
from rpcbroker.schema.common import PageJSON, PageQuery
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
    EntitySubtypeJSON,
    PresenceJSON,
    PutDeviceBody,
    SaveDeviceQuery,
    TenantDevicesQuery,
)
from rpcbroker.schema.health import HealthJSON, VersionJSON
from rpcbroker.schema.keys import ApiKeyBody, ApiKeyJSON
from rpcbroker.schema.people import (
    ActivateBody,
    ActivateQuery,
    ChangePasswordBody,
    CustomerBody,
    CustomerJSON,
    CustomerTitleQuery,
    EnabledQuery,
    LoginBody,
    PublicLoginBody,
    RefreshBody,
    SaveUserQuery,
    ShortCustomerJSON,
    TenantBody,
    TenantJSON,
    TokenPair,
    UserBody,
    UserJSON,
)

READ, CALL = KeyAccess.READ, KeyAccess.CALL
CONFLICTS = (e.AlreadyExists, e.VersionConflict)
CALL_ERRORS = (
    e.CallFailed,
    e.NoActiveConnection,
    e.CallTimeout,
    e.QueueFull,
    e.BadReply,
    e.Undeliverable,
    e.CallCancelled,
    e.NotFound,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handlers:
    """Who handles what."""

    calls: Calls
    devices: Devices
    fleet: Fleet
    customers: Customers
    tenants: Tenants
    users: Users
    login: Login
    api_keys: ApiKeys
    audit: Audit
    health: Health
    metrics: Metrics
    pages: Pages


def routes(to: Handlers) -> tuple[Route, ...]:
    """All operations, in the order of the document."""
    return (
        *_calls(to.calls),
        *_devices(to.devices, to.fleet),
        *_customers(to.customers),
        *_login(to.login),
        *_users(to.users),
        *_api_keys(to.api_keys),
        *_tenants(to.tenants, to.users),
        *_audit(to.audit),
        *_server(to.health, to.metrics, to.pages),
    )


def _rows(**common: Any) -> Callable[..., Route]:
    """Makes rows of an operation, its method and path, and its handler. `common` holds unless a row says otherwise."""

    def row(operation: str, where: str, handler: Callable[..., Any], **more: Any) -> Route:
        method, path = where.split(" ")
        return Route(operation=operation, method=method, path=path, handler=handler, **common | more)

    return row


def _calls(calls: Calls) -> tuple[Route, ...]:
    call = _rows(
        roles=EVERYONE,
        tag="Calls",
        access=CALL,
        body=CallBody,
        raw_body=True,
        errors=CALL_ERRORS,
        action=Action.RPC_CALL,
        entity="DEVICE",
        ends_with_caller=True,
    )
    v2: dict[str, Any] = {"statuses": V2_STATUSES}
    return (
        call("handleOneWayDeviceRPCRequestV2", "POST /api/rpc/oneway/<device_id>", calls.oneway, **v2),
        call("handleTwoWayDeviceRPCRequestV2", "POST /api/rpc/twoway/<device_id>", calls.twoway, answers=Any, **v2),
        call("handleOneWayDeviceRPCRequestV1", "POST /api/plugins/rpc/oneway/<device_id>", calls.oneway),
        call("handleTwoWayDeviceRPCRequestV1", "POST /api/plugins/rpc/twoway/<device_id>", calls.twoway, answers=Any),
    )


def _devices(devices: Devices, fleet: Fleet) -> tuple[Route, ...]:
    get = _rows(roles=USERS, access=READ, tag="Devices")
    audited = _rows(roles=ADMINS, tag="Devices", entity="DEVICE")
    saved: dict[str, Any] = {"answers": DeviceJSON, "errors": (*CONFLICTS, e.NotFound)}
    return (
        audited(
            "saveDevice",
            "POST /api/device",
            devices.save,
            action=Action.ADDED,
            body=DeviceBody,
            query=SaveDeviceQuery,
            **saved,
        ),
        audited(
            "saveDeviceWithCredentials",
            "POST /api/device-with-credentials",
            devices.save_with_credentials,
            action=Action.ADDED,
            body=DeviceWithCredentialsBody,
            **saved,
        ),
        get("getDeviceById", "GET /api/device/<device_id>", devices.get, answers=DeviceJSON),
        get("getDeviceInfoById", "GET /api/device/info/<device_id>", devices.info, answers=DeviceInfoJSON),
        audited("deleteDevice", "DELETE /api/device/<device_id>", devices.delete, action=Action.DELETED),
        get("getDevicePresence", "GET /api/device/<device_id>/presence", devices.presence, answers=PresenceJSON),
        audited(
            "getDeviceCredentialsByDeviceId",
            "GET /api/device/<device_id>/credentials",
            devices.credentials,
            roles=USERS,
            answers=CredentialsJSON,
            action=Action.CREDENTIALS_READ,
        ),
        audited(
            "updateDeviceCredentials",
            "POST /api/device/credentials",
            devices.save_credentials,
            action=Action.CREDENTIALS_UPDATED,
            body=CredentialsBody,
            answers=CredentialsJSON,
            errors=(*CONFLICTS, e.NotFound),
        ),
        get(
            "getTenantDevices",
            "GET /api/tenant/devices",
            devices.page,
            roles=ADMINS,
            query=TenantDevicesQuery,
            answers=(PageJSON[DeviceJSON], DeviceJSON),
            errors=(e.NotFound,),
        ),
        get(
            "getTenantDeviceInfos",
            "GET /api/tenant/deviceInfos",
            devices.infos,
            roles=ADMINS,
            query=DeviceInfoListQuery,
            answers=PageJSON[DeviceInfoJSON],
        ),
        get(
            "getAllDeviceInfos",
            "GET /api/deviceInfos/all",
            devices.infos,
            query=DeviceInfoListQuery,
            answers=PageJSON[DeviceInfoJSON],
        ),
        get(
            "getTenantDeviceByName",
            "GET /api/tenant/device",
            devices.by_name,
            roles=ADMINS,
            query=DeviceNameQuery,
            answers=DeviceJSON,
            errors=(e.NotFound,),
        ),
        audited(
            "putTenantDeviceByName",
            "PUT /api/tenant/device",
            fleet.put,
            action=Action.UPDATED,
            body=PutDeviceBody,
            query=DeviceNameQuery,
            created=True,
            **saved,
        ),
        get("getDevicesByIds", "GET /api/devices", devices.by_ids, query=DeviceIdsQuery, answers=list[DeviceJSON]),
        get("getDeviceTypes", "GET /api/device/types", devices.types, answers=list[EntitySubtypeJSON]),
        get(
            "getCustomerDevices",
            "GET /api/customer/<customer_id>/devices",
            devices.of_customer,
            query=DeviceListQuery,
            answers=PageJSON[DeviceJSON],
        ),
        get(
            "getCustomerDeviceInfos",
            "GET /api/customer/<customer_id>/deviceInfos",
            devices.infos_of_customer,
            query=DeviceInfoListQuery,
            answers=PageJSON[DeviceInfoJSON],
        ),
    )


def _customers(customers: Customers) -> tuple[Route, ...]:
    route = _rows(roles=ADMINS, tag="Customers")
    one: dict[str, Any] = {"roles": USERS, "answers": CustomerJSON}
    device: dict[str, Any] = {"answers": DeviceJSON, "entity": "DEVICE", "errors": (e.VersionConflict,)}
    return (
        route(
            "saveCustomer",
            "POST /api/customer",
            customers.save,
            body=CustomerBody,
            answers=CustomerJSON,
            errors=(*CONFLICTS, e.NotFound),
            action=Action.ADDED,
            entity="CUSTOMER",
        ),
        route("getCustomerById", "GET /api/customer/<customer_id>", customers.get, **one),
        route(
            "getShortCustomerInfoById",
            "GET /api/customer/<customer_id>/shortInfo",
            customers.short_info,
            roles=USERS,
            answers=ShortCustomerJSON,
        ),
        route(
            "getTenantCustomer",
            "GET /api/tenant/customers",
            customers.by_title,
            query=CustomerTitleQuery,
            answers=CustomerJSON,
            errors=(e.NotFound,),
        ),
        route("getCustomers", "GET /api/customers", customers.page, query=PageQuery, answers=PageJSON[CustomerJSON]),
        route(
            "deleteCustomer",
            "DELETE /api/customer/<customer_id>",
            customers.delete,
            access=None,
            action=Action.DELETED,
            entity="CUSTOMER",
        ),
        route(
            "assignDeviceToCustomer",
            "POST /api/customer/<customer_id>/device/<device_id>",
            customers.assign,
            action=Action.ASSIGNED_TO_CUSTOMER,
            **device,
        ),
        route(
            "unassignDeviceFromCustomer",
            "DELETE /api/customer/device/<device_id>",
            customers.unassign,
            action=Action.UNASSIGNED_FROM_CUSTOMER,
            **device,
        ),
        route("assignDeviceToPublicCustomer", "POST /api/customer/public/device/<device_id>", customers.make_public),
    )


def _login(login: Login) -> tuple[Route, ...]:
    route = _rows(roles=None, access=None, answers=TokenPair, tag="Login")
    user: dict[str, Any] = {"entity": "USER"}
    return (
        route(
            "login",
            "POST /api/auth/login",
            login.login,
            body=LoginBody,
            raw_body=True,
            action=Action.LOGIN,
            errors=(e.NotAuthenticated, e.TooManyAttempts),
            **user,
        ),
        route(
            "loginPublic",
            "POST /api/auth/login/public",
            login.login_public,
            body=PublicLoginBody,
            errors=(e.PermissionDenied,),
        ),
        route("refreshToken", "POST /api/auth/token", login.refresh, body=RefreshBody, errors=(e.NotAuthenticated,)),
        route(
            "logout", "POST /api/auth/logout", login.logout, roles=EVERYONE, answers=None, action=Action.LOGOUT, **user
        ),
        route("getUser", "GET /api/auth/user", login.user, roles=EVERYONE, access=READ, answers=UserJSON),
        route(
            "changePassword",
            "POST /api/auth/changePassword",
            login.change_password,
            roles=EVERYONE,
            body=ChangePasswordBody,
            action=Action.CREDENTIALS_UPDATED,
            errors=(e.VersionConflict, e.TooManyAttempts, e.NotFound),
            **user,
        ),
        route(
            "activateUser",
            "POST /api/noauth/activate",
            login.activate,
            body=ActivateBody,
            action=Action.ACTIVATED,
            errors=(e.VersionConflict, e.NotFound),
            **user,
        ),
    )


def _users(users: Users) -> tuple[Route, ...]:
    route = _rows(roles=BOTH_ADMINS, access=None, tag="Users")
    about: dict[str, Any] = {"entity": "USER"}
    return (
        route(
            "saveUser",
            "POST /api/user",
            users.save,
            body=UserBody,
            query=SaveUserQuery,
            answers=UserJSON,
            errors=(*CONFLICTS, e.NotFound),
            action=Action.ADDED,
            **about,
        ),
        route("getUserById", "GET /api/user/<user_id>", users.get, roles=EVERYONE, answers=UserJSON),
        route("getUsers", "GET /api/users", users.page, query=PageQuery, answers=PageJSON[UserJSON]),
        route(
            "getCustomerUsers",
            "GET /api/customer/<customer_id>/users",
            users.of_customer,
            roles=ADMINS,
            query=PageQuery,
            answers=PageJSON[UserJSON],
        ),
        route("deleteUser", "DELETE /api/user/<user_id>", users.delete, action=Action.DELETED, **about),
        route(
            "getActivationLink",
            "GET /api/user/<user_id>/activationLink",
            users.activation_link,
            answers=str,
            content_type=TEXT,
            needs_url=True,
            action=Action.CREDENTIALS_READ,
            **about,
        ),
        route(
            "resetUserPassword",
            "POST /api/user/<user_id>/resetPassword",
            users.reset_password,
            answers=UserJSON,
            errors=(e.VersionConflict,),
            action=Action.CREDENTIALS_UPDATED,
            **about,
        ),
        route(
            "setUserCredentialsEnabled",
            "POST /api/user/<user_id>/userCredentialsEnabled",
            users.set_enabled,
            query=EnabledQuery,
            errors=(e.VersionConflict,),
            action=Action.UPDATED,
            **about,
        ),
    )


def _api_keys(api_keys: ApiKeys) -> tuple[Route, ...]:
    route = _rows(roles=EVERYONE, access=None, tag="API keys")
    about: dict[str, Any] = {"entity": "API_KEY"}
    return (
        route(
            "saveApiKey",
            "POST /api/apiKey",
            api_keys.save,
            body=ApiKeyBody,
            answers=ApiKeyJSON,
            errors=(e.NotFound,),
            action=Action.ADDED,
            **about,
        ),
        route(
            "getUserApiKeys", "GET /api/apiKeys/<user_id>", api_keys.page, query=PageQuery, answers=PageJSON[ApiKeyJSON]
        ),
        route(
            "enableApiKey",
            "PUT /api/apiKey/<api_key_id>/enabled/<enabled>",
            api_keys.set_enabled,
            answers=ApiKeyJSON,
            action=Action.UPDATED,
            **about,
        ),
        route("deleteApiKey", "DELETE /api/apiKey/<api_key_id>", api_keys.delete, action=Action.DELETED, **about),
    )


def _tenants(tenants: Tenants, users: Users) -> tuple[Route, ...]:
    route = _rows(roles=SYS_ADMINS, access=None, tag="Tenants")
    return (
        route(
            "saveTenant",
            "POST /api/tenant",
            tenants.save,
            body=TenantBody,
            answers=TenantJSON,
            errors=(*CONFLICTS, e.NotFound),
            action=Action.ADDED,
            entity="TENANT",
        ),
        route("getTenantById", "GET /api/tenant/<tenant_id>", tenants.get, roles=BOTH_ADMINS, answers=TenantJSON),
        route("getTenants", "GET /api/tenants", tenants.page, query=PageQuery, answers=PageJSON[TenantJSON]),
        route("deleteTenant", "DELETE /api/tenant/<tenant_id>", tenants.delete, action=Action.DELETED, entity="TENANT"),
        route(
            "getTenantAdmins",
            "GET /api/tenant/<tenant_id>/users",
            users.of_tenant,
            query=PageQuery,
            answers=PageJSON[UserJSON],
        ),
    )


def _audit(audit: Audit) -> tuple[Route, ...]:
    get = _rows(roles=BOTH_ADMINS, tag="Audit", query=AuditQuery, answers=PageJSON[AuditEntryJSON])
    return (
        get("getAuditLogs", "GET /api/audit/logs", audit.page),
        get("getAuditLogsByCustomerId", "GET /api/audit/logs/customer/<customer_id>", audit.by_customer),
        get("getAuditLogsByUserId", "GET /api/audit/logs/user/<user_id>", audit.by_user),
        get("getAuditLogsByEntityId", "GET /api/audit/logs/entity/<entity_type>/<entity_id>", audit.by_entity),
    )


def _server(health: Health, metrics: Metrics, pages: Pages) -> tuple[Route, ...]:
    get = _rows(roles=None, tag="Server")
    return (
        get("healthz", "GET /healthz", health.healthy, answers=HealthJSON),
        get("readyz", "GET /readyz", health.ready, answers=HealthJSON),
        get("version", "GET /version", health.version, answers=VersionJSON),
        get(
            "metrics",
            "GET /metrics",
            metrics.scrape,
            answers=str,
            content_type="text/plain",
            needs_who=True,
            errors=(e.NotFound, e.NotAuthenticated, e.PermissionDenied),
        ),
        get("openapi", "GET /openapi.json", pages.openapi, answers=dict[str, Any]),
        get("docs", "GET /docs", pages.docs, answers=str, content_type=HTML),
        get(
            "checkActivateToken",
            "GET /api/noauth/activate",
            pages.activate,
            query=ActivateQuery,
            answers=str,
            content_type=HTML,
        ),
        get(
            "activateScript",
            "GET /api/noauth/activate.js",
            pages.activate_script,
            answers=str,
            content_type="text/javascript",
        ),
        get("style", "GET /docs.css", pages.style, answers=str, content_type="text/css"),
    )
