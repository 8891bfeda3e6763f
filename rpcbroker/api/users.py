"""Users over REST: made, activated, changed, disabled, deleted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from rpcbroker.api import checks
from rpcbroker.api.activation import Activation
from rpcbroker.api.keys import Keys
from rpcbroker.api.routes import TEXT, Action, Answer, Note
from rpcbroker.api.tokens import Tokens
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


def may_see(principal: Principal, user: User) -> bool:
    """Whether the user exists, as far as this principal can tell."""
    if user.id == principal.user_id:
        return True
    if principal.authority is Authority.SYS_ADMIN:
        return user.authority in {Authority.SYS_ADMIN, Authority.TENANT_ADMIN}
    return principal.authority is Authority.TENANT_ADMIN and user.tenant_id == principal.tenant_id


class Users:
    """The handlers of `/api/user` and of the lists of users."""

    def __init__(
        self,
        *,
        people: People,
        tokens: Tokens,
        keys: Keys,
        activation: Activation,
        now_ms: Callable[[], int],
        new_uuid: Callable[[], UUID],
    ) -> None:
        self._people = people
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
        nonce, until = self._activation.begin()
        user = User(
            id=self._new_uuid(),
            tenant_id=tenant_id,
            customer_id=customer_id,
            email=checks.email(body.email),
            authority=body.authority,
            password_hash=None,
            activation_nonce=nonce,
            activation_until=until,
            first_name=checks.plain("firstName", body.first_name),
            last_name=checks.plain("lastName", body.last_name),
            phone=checks.plain("phone", body.phone),
            created_time=self._now_ms(),
            additional_info=body.additional_info,
        )
        _about(note, user)
        await self._people.create_user(user)
        return user_json(user)

    async def get(self, principal: Principal, *, user_id: UUID) -> UserJSON:
        """One user."""
        return user_json(await self.visible(principal, user_id))

    async def page(self, principal: Principal, *, query: PageQuery) -> PageJSON[UserJSON]:
        """All users that one's own role handles: of the tenant, or the system administrators."""
        link = checks.page_link(query, SORTS)
        return _page(await self._people.users(principal.tenant_id, link), query)

    async def of_customer(self, principal: Principal, *, customer_id: UUID, query: PageQuery) -> PageJSON[UserJSON]:
        """The users of a customer."""
        link = checks.page_link(query, SORTS)
        await self._customer(principal, customer_id)
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
        await self._people.delete_user(user.id)
        self._keys.users_gone([user.id])
        await self._tokens.revoke_users([user.id])

    async def activation_link(self, principal: Principal, *, user_id: UUID, url: str, note: Note) -> Answer:
        """The link by which a new user chooses a password; give it to nobody else."""
        user = await self.handled(principal, user_id)
        _about(note, user)
        link = f"{url}/api/noauth/activate?activateToken={self._activation.token(user)}"
        return Answer(link.encode(), content_type=TEXT)

    async def reset_password(self, principal: Principal, *, user_id: UUID, note: Note) -> UserJSON:
        """Take a user's password away: the sessions end, and a new activation link can be had."""
        user = await self._other(principal, user_id, note)
        nonce, until = self._activation.begin()
        changed = replace(user, password_hash=None, activation_nonce=nonce, activation_until=until)
        return user_json(await self._changed(changed))

    async def set_enabled(self, principal: Principal, *, user_id: UUID, query: EnabledQuery, note: Note) -> None:
        """Let a user in, or keep the user out, keys included: a disabled user's sessions end."""
        note.action = Action.UPDATED if query.user_credentials_enabled else Action.SUSPENDED
        user = await self._other(principal, user_id, note)
        if user.enabled != query.user_credentials_enabled:
            await self._changed(replace(user, enabled=query.user_credentials_enabled))

    async def visible(self, principal: Principal, user_id: UUID) -> User:
        """Raises NotFound, for unknown and foreign users alike."""
        user = await self._people.user(user_id)
        if user is None or not may_see(principal, user):
            raise NotFound(f"User with id [{user_id}] is not found")
        return user

    async def handled(self, principal: Principal, user_id: UUID) -> User:
        """A user whom this principal may change. Raises NotFound, PermissionDenied."""
        user = await self.visible(principal, user_id)
        if principal.authority is Authority.CUSTOMER_USER:
            raise PermissionDenied(NOT_ALLOWED)
        return user

    async def _other(self, principal: Principal, user_id: UUID, note: Note) -> User:
        user = await self.handled(principal, user_id)
        _about(note, user)
        if user.id == principal.user_id:
            raise InvalidRequest("Nobody can do this to oneself", hint="Another administrator can.")
        return user

    async def _update(self, principal: Principal, user_id: UUID, body: UserBody, note: Note) -> UserJSON:
        user = await self.handled(principal, user_id)
        _about(note, user)
        note.action = Action.UPDATED
        if body.authority is not user.authority:
            raise InvalidRequest(f"authority: it is {user.authority.value} and cannot be changed")
        customer_id = user.customer_id
        if user.authority is Authority.CUSTOMER_USER and body.customer_id is not None:
            customer_id = await self._customer(principal, body.customer_id.id)
        changed = replace(
            user,
            customer_id=customer_id,
            email=checks.email(body.email),
            first_name=checks.plain("firstName", body.first_name),
            last_name=checks.plain("lastName", body.last_name),
            phone=checks.plain("phone", body.phone),
            additional_info=body.additional_info,
            version=user.version if body.version is None else body.version,
        )
        if (changed.email, changed.customer_id) == (user.email, user.customer_id):
            changed = replace(changed, version=changed.version + 1)
            await self._people.update_user(changed)
            return user_json(changed)
        return user_json(await self._changed(changed))

    async def _changed(self, user: User) -> User:
        """Keep a user whose rights, or whose name in tokens, are others now; returns the new version."""
        changed = replace(user, version=user.version + 1)
        await self._people.update_user(changed)
        self._keys.user_changed(changed)
        await self._tokens.revoke_users([changed.id])
        return changed

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
        return principal.tenant_id, await self._customer(principal, body.customer_id.id)

    async def _customer(self, principal: Principal, customer_id: UUID) -> UUID:
        customer = await self._people.customer(customer_id)
        if customer is None or customer.tenant_id != principal.tenant_id:
            raise NotFound(f"Customer with id [{customer_id}] is not found")
        if principal.authority is Authority.CUSTOMER_USER and customer.id != principal.customer_id:
            raise NotFound(f"Customer with id [{customer_id}] is not found")
        return customer.id


def _about(note: Note, user: User) -> None:
    note.entity_id, note.name = user.id, user.email


def _page(page: Page[User], query: PageQuery) -> PageJSON[UserJSON]:
    return page_json(page, [user_json(user) for user in page.items], query)
