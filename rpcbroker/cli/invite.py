"""New users: made, and given a link by which they choose their password."""

from __future__ import annotations

from uuid import UUID

from rpcbroker.cli.rest import Rest
from rpcbroker.cli.stop import Stop
from rpcbroker.schema.people import UserBody, UserJSON


async def new_user(rest: Rest, body: UserBody) -> UserJSON:
    """A user who cannot log in yet. Raises Stop."""
    return await rest.ask(UserJSON, "POST", "/api/user", body, sendActivationMail="false")


async def first_link(rest: Rest, user: UserJSON, *, of_tenant: str | None) -> str:
    """The link of a user who was just made. Raises Stop, which says that the user is there all the same."""
    try:
        return await link_of(rest, user.id.id)
    except Stop as stop:
        more = f" --tenant '{of_tenant}'" if of_tenant is not None else ""
        raise Stop(
            f"The user {user.email} is there, but its activation link could not be had: {stop.message}",
            reason=stop.reason,
            hint=f"Try again: rpcbroker user link {user.email}{more}",
        ) from None


async def link_of(rest: Rest, user_id: UUID) -> str:
    """The link by which a user who has no password chooses one. Raises Stop."""
    return (await rest.request("GET", f"/api/user/{user_id}/activationLink")).text()
