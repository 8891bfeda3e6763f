"""The rows of customers, users, their logins, their API keys, and tenants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Never

from rpcbroker.api.api_keys import ApiKeys
from rpcbroker.api.customers import Customers
from rpcbroker.api.login import Login
from rpcbroker.api.routes import ADMINS, BOTH_ADMINS, EVERYONE, SYS_ADMINS, TEXT, USERS, Action, Route
from rpcbroker.api.tenants import Tenants
from rpcbroker.api.users import Users
from rpcbroker.core import errors as e
from rpcbroker.core.model import KeyAccess
from rpcbroker.schema.common import PageJSON, PageQuery, Text
from rpcbroker.schema.devices import DeviceJSON
from rpcbroker.schema.keys import ApiKeyBody, ApiKeyJSON
from rpcbroker.schema.people import (
    ActivateBody,
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

READ = KeyAccess.READ
CONFLICTS = (e.AlreadyExists, e.VersionConflict)


def people(customers: Customers, login: Login, users: Users, api_keys: ApiKeys, tenants: Tenants) -> tuple[Route, ...]:
    """All of them, in the order of the document."""
    return (
        *_customers(customers),
        *_login(login),
        *_users(users),
        *_api_keys(api_keys),
        *_tenants(tenants, users),
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
            access=None,
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
        route(
            "assignDeviceToPublicCustomer",
            "POST",
            "/api/customer/public/device/<device_id>",
            customers.make_public,
            answers=Never,
        ),
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
            answers=Never,
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
        route("enableApiKey", "PUT", "/api/apiKey/<api_key_id>/enabled/<enabled>", api_keys.set_enabled, **changed),
        route(
            "updateApiKeyDescription",
            "PUT",
            "/api/apiKey/<api_key_id>/description",
            api_keys.set_description,
            body=Text,
            **changed,
        ),
        route("deleteApiKey", "DELETE", "/api/apiKey/<api_key_id>", api_keys.delete, action=Action.DELETED, **about),
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
