"""Users over REST: made, activated, changed, disabled, deleted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

from rpcbroker.api import checks
from rpcbroker.api.activation import Activation
from rpcbroker.api.keys import Keys
from rpcbroker.api.routes import TEXT, Action, Answer, Note
from rpcbroker.api.tokens import Tokens
from rpcbroker.api.visible import Visible
from rpcbroker.core.access import NOT_ALLOWED
from rpcbroker.core.errors import InvalidRequest, NotFound, PermissionDenied
from rpcbroker.core.model import NULL_UUID, Authority, Page, Principal, User
from rpcbroker.core.ports import People
from rpcbroker.schema.common import PageJSON, PageQuery, page_json
from rpcbroker.schema.people import EnabledQuery, SaveUserQuery, UserBody, UserJSON, user_json

SORTS = {
    "createdTime": "created_time",
    "email": "email",
    "firstName": "first_name",
    "lastName": "last_name",
    "authority": "authority",
}


class Users:
    """The handlers of `/api/user` and of the lists of users."""

    def __init__(
        self,
        *,
        people: People,
        visible: Visible,
        tokens: Tokens,
        keys: Keys,
        activation: Activation,
        now_ms: Callable[[], int],
        new_uuid: Callable[[], UUID],
    ) -> None:
        self._people = people
        self._visible = visible
        self._tokens = tokens
        self._keys = keys
        self._activation = activation
        self._now_ms = now_ms
        self._new_uuid = new_uuid

    async def save(self, principal: Principal, *, query: SaveUserQuery, body: UserBody, note: Note) -> UserJSON:
        """Create a user, or change the one whose id is given.

        A new one cannot log in before it has chosen a password by its activation link.
        """
        if query.send_activation_mail:
            raise InvalidRequest(
                "Mails are not sent from here",
                hint="Say sendActivationMail=false, then GET /api/user/{userId}/activationLink.",
            )
        if body.id is not None:
            return await self._update(principal, body.id.id, body, note)
        tenant_id, customer_id = await self._place(principal, body)
        members = self._members(body)
        nonce, until = self._activation.begin()
        user = User(
            id=self._new_uuid(),
            tenant_id=tenant_id,
            customer_id=customer_id,
            authority=body.authority,
            password_hash=None,
            activation_nonce=nonce,
            activation_until=until,
            created_time=self._now_ms(),
            **members,
        )
        note.about(user.id, user.email)
        await self._people.create_user(user)
        return user_json(user)

    async def get(self, principal: Principal, *, user_id: UUID) -> UserJSON:
        """One user."""
        return user_json(await self._visible.user(principal, user_id))

    async def page(self, principal: Principal, *, query: PageQuery) -> PageJSON[UserJSON]:
        """All users that one's own role handles: of the tenant, or the system administrators."""
        link = checks.page_link(query, SORTS)
        return _page(await self._people.users(principal.tenant_id, link), query)

    async def of_customer(self, principal: Principal, *, customer_id: UUID, query: PageQuery) -> PageJSON[UserJSON]:
        """The users of a customer."""
        link = checks.page_link(query, SORTS)
        await self._visible.customer(principal, customer_id)
        return _page(await self._people.users(principal.tenant_id, link, customer_id=customer_id), query)

    async def of_tenant(self, principal: Principal, *, tenant_id: UUID, query: PageQuery) -> PageJSON[UserJSON]:
        """The administrators of a tenant."""
        link = checks.page_link(query, SORTS)
        if await self._people.tenant(tenant_id) is None:
            raise NotFound(f"Tenant with id [{tenant_id}] is not found")
        found = await self._people.users(tenant_id, link, authority=Authority.TENANT_ADMIN)
        return _page(found, query)

    async def delete(self, principal: Principal, *, user_id: UUID, note: Note) -> None:
        """With the user's API keys; the user's sessions end."""
        user = await self._other(principal, user_id, note)
        await self._people.delete_user(user.id, revoked=self._tokens.moment())
        self._tokens.revoke_users([user.id])
        self._keys.users_gone([user.id])

    async def activation_link(self, principal: Principal, *, user_id: UUID, url: str, note: Note) -> Answer:
        """The link by which a new user chooses a password; give it to nobody else."""
        user = await self._visible.user(principal, user_id)
        note.about(user.id, user.email)
        link = f"{url}/api/noauth/activate?activateToken={self._activation.token(user)}"
        return Answer(link.encode(), content_type=TEXT)

    async def reset_password(self, principal: Principal, *, user_id: UUID, note: Note) -> UserJSON:
        """Take a user's password away: the sessions end, and a new activation link can be had."""
        user = await self._other(principal, user_id, note)
        nonce, until = self._activation.begin()
        changed = replace(
            user, password_hash=None, activation_nonce=nonce, activation_until=until, version=user.version + 1
        )
        await self._keep(changed)
        return user_json(changed)

    async def set_enabled(self, principal: Principal, *, user_id: UUID, query: EnabledQuery, note: Note) -> None:
        """Let a user in, or keep the user out, keys included: a disabled user's sessions end."""
        note.action = Action.UPDATED if query.user_credentials_enabled else Action.SUSPENDED
        user = await self._other(principal, user_id, note)
        if user.enabled != query.user_credentials_enabled:
            await self._keep(replace(user, enabled=query.user_credentials_enabled, version=user.version + 1))

    async def _other(self, principal: Principal, user_id: UUID, note: Note) -> User:
        user = await self._visible.user(principal, user_id)
        note.about(user.id, user.email)
        if user.id == principal.user_id:
            raise InvalidRequest("Nobody can do this to oneself", hint="Another administrator can.")
        return user

    async def _update(self, principal: Principal, user_id: UUID, body: UserBody, note: Note) -> UserJSON:
        user = await self._visible.user(principal, user_id)
        note.about(user.id, user.email, Action.UPDATED)
        if body.authority is not user.authority:
            raise InvalidRequest(f"authority: it is {user.authority.value} and cannot be changed")
        customer_id = user.customer_id
        if user.authority is Authority.CUSTOMER_USER and body.customer_id is not None:
            customer_id = (await self._visible.customer(principal, body.customer_id.id)).id
        changed = replace(
            user,
            customer_id=customer_id,
            version=checks.version(user.version, body.version),
            **self._members(body),
        )
        if (changed.email, changed.customer_id) == (user.email, user.customer_id):
            await self._people.update_user(changed)
        else:
            await self._keep(changed)
        return user_json(changed)

    @staticmethod
    def _members(body: UserBody) -> dict[str, Any]:
        return {
            "email": checks.email(body.email),
            "first_name": checks.plain("firstName", body.first_name),
            "last_name": checks.plain("lastName", body.last_name),
            "phone": checks.plain("phone", body.phone),
            "additional_info": checks.info(body.additional_info),
        }

    async def _keep(self, changed: User) -> None:
        """A user whose rights, or whose name in tokens, are others now."""
        await self._people.update_user(changed, revoked=self._tokens.moment())
        self._tokens.revoke_users([changed.id])
        self._keys.user_changed(changed)

    async def _place(self, principal: Principal, body: UserBody) -> tuple[UUID, UUID | None]:
        """Tenant and customer of a new user. Raises PermissionDenied, NotFound, InvalidRequest."""
        if principal.authority is Authority.SYS_ADMIN:
            if body.authority is Authority.SYS_ADMIN:
                return NULL_UUID, None
            if body.authority is Authority.TENANT_ADMIN:
                if body.tenant_id is None:
                    raise InvalidRequest("tenantId: say whose administrator it is")
                if await self._people.tenant(body.tenant_id.id) is None:
                    raise NotFound(f"Tenant with id [{body.tenant_id.id}] is not found")
                return body.tenant_id.id, None
            raise PermissionDenied(NOT_ALLOWED, hint="Customers' users are made by the tenant's administrators.")
        if body.authority is Authority.SYS_ADMIN:
            raise PermissionDenied(NOT_ALLOWED, hint="System administrators are made by system administrators.")
        if body.authority is Authority.TENANT_ADMIN:
            return principal.tenant_id, None
        if body.customer_id is None:
            raise InvalidRequest("customerId: say of which customer it is")
        return principal.tenant_id, (await self._visible.customer(principal, body.customer_id.id)).id


def _page(page: Page[User], query: PageQuery) -> PageJSON[UserJSON]:
    return page_json(page, [user_json(user) for user in page.items], query)
