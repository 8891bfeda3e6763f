"""The protocol's own procedures: who else is there. https://wamp-proto.org/spec.html, "Session Metaprocedures"."""

from __future__ import annotations

from collections.abc import Iterator

from rpcbroker.core.errors import InvalidRequest
from rpcbroker.feed.errors import refused
from rpcbroker.feed.member import Member
from rpcbroker.feed.ports import Invocation, Payload, Procedure
from rpcbroker.feed.realm import Realms
from rpcbroker.feed.rights import space_of


class Meta:
    """Tells each session of those that it may know."""

    def __init__(self, realms: Realms) -> None:
        self._realms = realms
        self._procedures: dict[str, Procedure] = {
            "wamp.session.count": self._count,
            "wamp.session.list": self._list,
            "wamp.session.get": self._get,
        }

    def find(self, uri: str) -> Procedure | None:
        """None if there is no such procedure."""
        return self._procedures.get(uri)

    async def _count(self, call: Invocation) -> Payload:
        return Payload([sum(1 for _ in self._members(call))])

    async def _list(self, call: Invocation) -> Payload:
        return Payload([[member.id for member in self._members(call)]])

    async def _get(self, call: Invocation) -> Payload:
        wanted = call.payload.args[:1]
        for realm in self._realms.visible(space_of(call.session.principal)):
            for session_id in wanted:
                if type(session_id) is int and session_id in realm.members:
                    return Payload([realm.members[session_id].identity])
        raise refused("wamp.error.no_such_session", "There is no session of this id")

    def _members(self, call: Invocation) -> Iterator[Member]:
        """The argument, if there is one, says of which roles."""
        roles = call.payload.args[0] if call.payload.args else None
        if roles is not None:
            if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
                raise InvalidRequest("The argument must be a list of roles")
            roles = frozenset(roles)  # there may be many, and many sessions
        for realm in self._realms.visible(space_of(call.session.principal)):
            for member in realm.members.values():
                if roles is None or member.principal.authority.value in roles:
                    yield member
