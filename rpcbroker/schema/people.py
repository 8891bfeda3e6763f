"""Logging in, users, tenants, customers."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from rpcbroker.core.model import Authority, Customer, Tenant, User
from rpcbroker.schema.common import Contact, EntityId, EpochMs, Info, Line, Plain, Text, Version, customer_ref

MAX_EMAIL = 320
EMAIL_PATTERN = r"^[^@\s\u0000-\u001f\u007f]+@[^@\s\u0000-\u001f\u007f]+$"

Email = Annotated[str, Meta(extra_json_schema={"maxLength": MAX_EMAIL, "pattern": EMAIL_PATTERN})]
Password = Annotated[str, Meta(extra_json_schema={"minLength": 8, "maxLength": 1024})]

# -- logging in


class LoginBody(msgspec.Struct):
    """Who logs in."""

    username: Annotated[str, Meta(description="the user's email")]
    password: str


class RefreshBody(msgspec.Struct, rename="camel"):
    """The token of a login that is to go on."""

    refresh_token: str


class ChangePasswordBody(msgspec.Struct, rename="camel"):
    """The password as it is, and as it shall be."""

    current_password: str
    new_password: Password


class ActivateBody(msgspec.Struct, rename="camel"):
    """The token of an activation link, and the password that its user has chosen."""

    activate_token: str
    password: Password


class PublicLoginBody(msgspec.Struct, rename="camel"):
    """A login without a password, which is not offered here."""

    public_id: str


class TokenPair(msgspec.Struct, rename="camel"):
    """A login: an access token for requests, and a refresh token for the next pair."""

    token: str
    refresh_token: str


# -- users


class UserBody(msgspec.Struct, rename="camel", kw_only=True):
    """What may be said of a user; other members of the wire's User are taken and passed over."""

    id: EntityId | None = None
    email: Email
    authority: Authority
    tenant_id: Annotated[EntityId | None, Meta(description="system administrators say whose administrator it is")] = (
        None
    )
    customer_id: Annotated[EntityId | None, Meta(description="of a CUSTOMER_USER")] = None
    first_name: Line | None = None
    last_name: Line | None = None
    phone: Line | None = None
    additional_info: Info = None
    version: Version = None


class SaveUserQuery(msgspec.Struct, rename="camel"):
    """Mails are not sent from here: ask for the activation link."""

    send_activation_mail: bool = False


class EnabledQuery(msgspec.Struct, rename="camel"):
    """Whether the user may log in."""

    user_credentials_enabled: bool = True


class ActivateQuery(msgspec.Struct, rename="camel"):
    """The token of an activation link."""

    activate_token: str = ""


class UserJSON(msgspec.Struct, rename="camel"):
    """Somebody who logs in."""

    id: EntityId
    created_time: EpochMs
    tenant_id: EntityId
    customer_id: EntityId
    email: str
    name: str
    authority: Authority
    first_name: str | None
    last_name: str | None
    phone: str | None
    version: int
    additional_info: Any


def user_json(user: User) -> UserJSON:
    return UserJSON(
        id=EntityId("USER", user.id),
        created_time=user.created_time,
        tenant_id=EntityId("TENANT", user.tenant_id),
        customer_id=customer_ref(user.customer_id),
        email=user.email,
        name=user.email,
        authority=user.authority,
        first_name=user.first_name,
        last_name=user.last_name,
        phone=user.phone,
        version=user.version,
        additional_info=_with_credentials(user),
    )


def _with_credentials(user: User) -> Any:
    """The wire tells in here whether the user may log in, and has done so."""
    info = user.additional_info if isinstance(user.additional_info, dict) else {}
    return info | {"userCredentialsEnabled": user.enabled, "userActivated": user.password_hash is not None}


# -- tenants and customers


class TenantBody(Contact, kw_only=True):
    """What may be said of a tenant; other members are taken and passed over."""

    id: EntityId | None = None
    title: Text
    additional_info: Info = None
    version: Version = None


class TenantJSON(Contact, kw_only=True):
    """An organisation; nothing of it is visible to another."""

    id: EntityId
    created_time: EpochMs
    title: str
    name: str
    region: str | None
    tenant_profile_id: EntityId
    version: int
    additional_info: Any


def tenant_json(tenant: Tenant) -> TenantJSON:
    return TenantJSON(
        id=EntityId("TENANT", tenant.id),
        created_time=tenant.created_time,
        title=tenant.title,
        name=tenant.title,
        region="Global",
        tenant_profile_id=EntityId("TENANT_PROFILE", tenant.id),
        version=tenant.version,
        additional_info=tenant.additional_info,
        **tenant.contact,
    )


class CustomerBody(Contact, kw_only=True):
    """What may be said of a customer; other members are taken and passed over."""

    id: EntityId | None = None
    title: Text
    additional_info: Info = None
    version: Version = None


class CustomerTitleQuery(msgspec.Struct, rename="camel"):
    """Which customer."""

    customer_title: Plain


class CustomerJSON(Contact, kw_only=True):
    """Somebody whom a tenant lets use some of its devices."""

    id: EntityId
    created_time: EpochMs
    tenant_id: EntityId
    title: str
    name: str
    version: int
    additional_info: Any


def customer_json(customer: Customer) -> CustomerJSON:
    return CustomerJSON(
        id=EntityId("CUSTOMER", customer.id),
        created_time=customer.created_time,
        tenant_id=EntityId("TENANT", customer.tenant_id),
        title=customer.title,
        name=customer.title,
        version=customer.version,
        additional_info=customer.additional_info,
        **customer.contact,
    )


class ShortCustomerJSON(msgspec.Struct, rename="camel"):
    """A customer's id and title."""

    customer_id: EntityId
    title: str
    public: bool = False
