"""New users: made, and given a link by which they choose their password."""

from __future__ import annotations

from uuid import UUID

from rpcbroker.cli.rest import Rest
from rpcbroker.cli.stop import Stop
from rpcbroker.schema.people import UserBody, UserJSON


async def invite(rest: Rest, body: UserBody) -> str:
    """Make a user; the link that activates it. Raises Stop, which says so if the user is there all the same."""
    user = await rest.ask(UserJSON, "POST", "/api/user", body, sendActivationMail="false")
    try:
        return await link_of(rest, user.id.id)
    except Stop as stop:
        raise Stop(
            f"The user {user.email} is there, but its activation link could not be had: {stop.message}",
            reason=stop.reason,
            hint=f"Try again: rpcbroker user link {user.email}",
        ) from None


async def link_of(rest: Rest, user_id: UUID) -> str:
    """The link by which a user who has no password chooses one. Raises Stop."""
    return (await rest.request("GET", f"/api/user/{user_id}/activationLink")).text()
