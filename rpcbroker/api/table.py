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
from rpcbroker.api.pages import Pages
from rpcbroker.api.routes import ADMINS, BOTH_ADMINS, EVERYONE, HTML, SYS_ADMINS, TEXT, USERS, Action, Route
from rpcbroker.api.second_names import second_names
from rpcbroker.api.tenants import Tenants
from rpcbroker.api.users import Users
from rpcbroker.core import errors as e
from rpcbroker.core.model import KeyAccess
from rpcbroker.schema.audit import AuditEntryJSON, AuditQuery
from rpcbroker.schema.calls import CallBody
from rpcbroker.schema.common import PageJSON, PageQuery, Text
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
        *_server(to.health, to.pages),
        *second_names(to.devices, to.customers, to.users),
    )


def _calls(calls: Calls) -> tuple[Route, ...]:
    def call(operation: str, path: str, handler: Callable[..., Any], **more: Any) -> Route:
        return Route(
            operation=operation,
            method="POST",
            path=path,
            handler=handler,
            roles=EVERYONE,
            tag="Calls",
            access=CALL,
            body=CallBody,
            raw_body=True,
            errors=CALL_ERRORS,
            action=Action.RPC_CALL,
            entity="DEVICE",
            **more,
        )

    v2: dict[str, Any] = {"statuses": V2_STATUSES}
    return (
        call("handleOneWayDeviceRPCRequestV2", "/api/rpc/oneway/<device_id>", calls.oneway, **v2),
        call("handleTwoWayDeviceRPCRequestV2", "/api/rpc/twoway/<device_id>", calls.twoway, answers=Any, **v2),
        call("handleOneWayDeviceRPCRequestV1", "/api/plugins/rpc/oneway/<device_id>", calls.oneway),
        call("handleTwoWayDeviceRPCRequestV1", "/api/plugins/rpc/twoway/<device_id>", calls.twoway, answers=Any),
    )


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
        get("getDevicePresence", "/api/device/<device_id>/presence", devices.presence, answers=PresenceJSON),
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


def _customers(customers: Customers) -> tuple[Route, ...]:
    def route(operation: str, method: str, path: str, handler: Callable[..., Any], **more: Any) -> Route:
        members: dict[str, Any] = {"roles": ADMINS} | more
        return Route(operation=operation, method=method, path=path, handler=handler, tag="Customers", **members)

    one: dict[str, Any] = {"roles": USERS, "answers": CustomerJSON}
    device: dict[str, Any] = {"answers": DeviceJSON, "entity": "DEVICE", "errors": (e.VersionConflict,)}
    return (
        route(
            "saveCustomer",
            "POST",
            "/api/customer",
            customers.save,
            body=CustomerBody,
            answers=CustomerJSON,
            errors=(*CONFLICTS, e.NotFound),
            action=Action.ADDED,
            entity="CUSTOMER",
        ),
        route("getCustomerById", "GET", "/api/customer/<customer_id>", customers.get, **one),
        route(
            "getShortCustomerInfoById",
            "GET",
            "/api/customer/<customer_id>/shortInfo",
            customers.short_info,
            roles=USERS,
            answers=ShortCustomerJSON,
        ),
        route(
            "getTenantCustomer",
            "GET",
            "/api/tenant/customers",
            customers.by_title,
            query=CustomerTitleQuery,
            answers=CustomerJSON,
            errors=(e.NotFound,),
        ),
        route("getCustomers", "GET", "/api/customers", customers.page, query=PageQuery, answers=PageJSON[CustomerJSON]),
        route(
            "deleteCustomer",
            "DELETE",
            "/api/customer/<customer_id>",
            customers.delete,
            action=Action.DELETED,
            entity="CUSTOMER",
        ),
        route(
            "assignDeviceToCustomer",
            "POST",
            "/api/customer/<customer_id>/device/<device_id>",
            customers.assign,
            action=Action.ASSIGNED_TO_CUSTOMER,
            **device,
        ),
        route(
            "unassignDeviceFromCustomer",
            "DELETE",
            "/api/customer/device/<device_id>",
            customers.unassign,
            action=Action.UNASSIGNED_FROM_CUSTOMER,
            **device,
        ),
        route("assignDeviceToPublicCustomer", "POST", "/api/customer/public/device/<device_id>", customers.make_public),
    )


def _login(login: Login) -> tuple[Route, ...]:
    def post(operation: str, path: str, handler: Callable[..., Any], **more: Any) -> Route:
        members: dict[str, Any] = {"roles": None, "access": None, "answers": TokenPair} | more
        return Route(operation=operation, method="POST", path=path, handler=handler, tag="Login", **members)

    user: dict[str, Any] = {"entity": "USER"}
    return (
        post(
            "login",
            "/api/auth/login",
            login.login,
            body=LoginBody,
            raw_body=True,
            action=Action.LOGIN,
            errors=(e.NotAuthenticated, e.TooManyAttempts),
            **user,
        ),
        post(
            "loginPublic",
            "/api/auth/login/public",
            login.login_public,
            body=PublicLoginBody,
            errors=(e.PermissionDenied,),
        ),
        post("refreshToken", "/api/auth/token", login.refresh, body=RefreshBody, errors=(e.NotAuthenticated,)),
        post("logout", "/api/auth/logout", login.logout, roles=EVERYONE, answers=None, action=Action.LOGOUT, **user),
        Route(
            operation="getUser",
            method="GET",
            path="/api/auth/user",
            handler=login.user,
            roles=EVERYONE,
            tag="Login",
            access=READ,
            answers=UserJSON,
        ),
        post(
            "changePassword",
            "/api/auth/changePassword",
            login.change_password,
            roles=EVERYONE,
            body=ChangePasswordBody,
            action=Action.CREDENTIALS_UPDATED,
            errors=(e.VersionConflict, e.TooManyAttempts, e.NotFound),
            **user,
        ),
        post(
            "activateUser",
            "/api/noauth/activate",
            login.activate,
            body=ActivateBody,
            action=Action.ACTIVATED,
            errors=(e.VersionConflict, e.NotFound),
            **user,
        ),
    )


def _users(users: Users) -> tuple[Route, ...]:
    def route(operation: str, method: str, path: str, handler: Callable[..., Any], **more: Any) -> Route:
        members: dict[str, Any] = {"roles": BOTH_ADMINS, "access": None, "tag": "Users"} | more
        return Route(operation=operation, method=method, path=path, handler=handler, **members)

    about: dict[str, Any] = {"entity": "USER"}
    return (
        route(
            "saveUser",
            "POST",
            "/api/user",
            users.save,
            body=UserBody,
            query=SaveUserQuery,
            answers=UserJSON,
            errors=(*CONFLICTS, e.NotFound),
            action=Action.ADDED,
            **about,
        ),
        route("getUserById", "GET", "/api/user/<user_id>", users.get, roles=EVERYONE, answers=UserJSON),
        route("getUsers", "GET", "/api/users", users.page, query=PageQuery, answers=PageJSON[UserJSON]),
        route(
            "getCustomerUsers",
            "GET",
            "/api/customer/<customer_id>/users",
            users.of_customer,
            roles=ADMINS,
            query=PageQuery,
            answers=PageJSON[UserJSON],
        ),
        route("deleteUser", "DELETE", "/api/user/<user_id>", users.delete, action=Action.DELETED, **about),
        route(
            "getActivationLink",
            "GET",
            "/api/user/<user_id>/activationLink",
            users.activation_link,
            answers=str,
            content_type=TEXT,
            needs_url=True,
            action=Action.CREDENTIALS_READ,
            **about,
        ),
        route(
            "resetUserPassword",
            "POST",
            "/api/user/<user_id>/resetPassword",
            users.reset_password,
            answers=UserJSON,
            errors=(e.VersionConflict,),
            action=Action.CREDENTIALS_UPDATED,
            **about,
        ),
        route(
            "setUserCredentialsEnabled",
            "POST",
            "/api/user/<user_id>/userCredentialsEnabled",
            users.set_enabled,
            query=EnabledQuery,
            errors=(e.VersionConflict,),
            action=Action.UPDATED,
            **about,
        ),
    )


def _api_keys(api_keys: ApiKeys) -> tuple[Route, ...]:
    def route(operation: str, method: str, path: str, handler: Callable[..., Any], **more: Any) -> Route:
        return Route(
            operation=operation,
            method=method,
            path=path,
            handler=handler,
            roles=EVERYONE,
            access=None,
            tag="API keys",
            **more,
        )

    about: dict[str, Any] = {"entity": "API_KEY"}
    changed: dict[str, Any] = {"answers": ApiKeyJSON, "action": Action.UPDATED, **about}
    return (
        route(
            "saveApiKey",
            "POST",
            "/api/apiKey",
            api_keys.save,
            body=ApiKeyBody,
            answers=ApiKeyJSON,
            errors=(e.NotFound,),
            action=Action.ADDED,
            **about,
        ),
        route(
            "getUserApiKeys",
            "GET",
            "/api/apiKeys/<user_id>",
            api_keys.page,
            query=PageQuery,
            answers=PageJSON[ApiKeyJSON],
        ),
        route("enableApiKey", "PUT", "/api/apiKey/<key_id>/enabled/<enabled>", api_keys.set_enabled, **changed),
        route(
            "updateApiKeyDescription",
            "PUT",
            "/api/apiKey/<key_id>/description",
            api_keys.set_description,
            body=Text,
            **changed,
        ),
        route("deleteApiKey", "DELETE", "/api/apiKey/<key_id>", api_keys.delete, action=Action.DELETED, **about),
    )


def _tenants(tenants: Tenants, users: Users) -> tuple[Route, ...]:
    def route(operation: str, method: str, path: str, handler: Callable[..., Any], **more: Any) -> Route:
        members: dict[str, Any] = {"roles": SYS_ADMINS, "access": None} | more
        return Route(operation=operation, method=method, path=path, handler=handler, tag="Tenants", **members)

    return (
        route(
            "saveTenant",
            "POST",
            "/api/tenant",
            tenants.save,
            body=TenantBody,
            answers=TenantJSON,
            errors=(*CONFLICTS, e.NotFound),
            action=Action.ADDED,
            entity="TENANT",
        ),
        route("getTenantById", "GET", "/api/tenant/<tenant_id>", tenants.get, roles=BOTH_ADMINS, answers=TenantJSON),
        route("getTenants", "GET", "/api/tenants", tenants.page, query=PageQuery, answers=PageJSON[TenantJSON]),
        route(
            "deleteTenant",
            "DELETE",
            "/api/tenant/<tenant_id>",
            tenants.delete,
            action=Action.DELETED,
            entity="TENANT",
        ),
        route(
            "getTenantAdmins",
            "GET",
            "/api/tenant/<tenant_id>/users",
            users.of_tenant,
            query=PageQuery,
            answers=PageJSON[UserJSON],
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
        get("getAuditLogsByEntityId", "/api/audit/logs/entity/<entity_type>/<entity_id>", audit.by_entity),
    )


def _server(health: Health, pages: Pages) -> tuple[Route, ...]:
    def get(operation: str, path: str, handler: Callable[..., Any], **more: Any) -> Route:
        return Route(operation=operation, method="GET", path=path, handler=handler, roles=None, tag="Server", **more)

    return (
        get("healthz", "/healthz", health.healthy, answers=HealthJSON),
        get("readyz", "/readyz", health.ready, answers=HealthJSON),
        get("version", "/version", health.version, answers=VersionJSON),
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
