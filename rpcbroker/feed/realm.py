"""Realms: the sessions that share a space, and what they hold open in it. On the wire each is called `rpcbroker`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from uuid import UUID

from rpcbroker.feed import uris
from rpcbroker.feed.dealer import Dealer
from rpcbroker.feed.member import Member
from rpcbroker.feed.ports import Payload
from rpcbroker.feed.rights import Space
from rpcbroker.feed.subscriptions import Publication, Subscriptions


class Realm:
    """One space, while somebody is in it."""

    def __init__(self, space: Space, dealer: Dealer) -> None:
        self.space = space
        self.members: dict[int, Member] = {}
        self.subscriptions = Subscriptions()
        self.dealer = dealer


class Realms:
    """All of all tenants. `new_id` makes ids of publications, `new_dealer` the dealer of each realm."""

    def __init__(self, *, new_id: Callable[[], int], new_dealer: Callable[[], Dealer]) -> None:
        self._new_id = new_id
        self._new_dealer = new_dealer
        self._tenants: dict[UUID, dict[Space, Realm]] = {}
        self._members: Counter[UUID] = Counter()

    def find(self, space: Space) -> Realm | None:
        """None if nobody is there."""
        return self._tenants.get(space.tenant_id, {}).get(space)

    def count(self, tenant_id: UUID) -> int:
        """Sessions of the tenant, in all of its spaces."""
        return self._members[tenant_id]

    def visible(self, space: Space) -> Iterator[Realm]:
        """Those whose sessions may be known in this one: who may see the whole tenant sees them all."""
        for realm in tuple(self._tenants.get(space.tenant_id, {}).values()):
            if space.is_whole or realm.space == space:
                yield realm

    def join(self, member: Member, space: Space) -> Realm:
        """Others hear of it."""
        realms = self._tenants.setdefault(space.tenant_id, {})
        realm = realms.get(space)
        if realm is None:
            realm = realms[space] = Realm(space, self._new_dealer())
        self._tell(space, uris.ON_JOIN, Payload([member.identity]))
        realm.members[member.id] = member
        self._members[space.tenant_id] += 1
        return realm

    def leave(self, member: Member, realm: Realm) -> None:
        """All that it held open ends, and others hear of it."""
        del realm.members[member.id]
        self._members[realm.space.tenant_id] -= 1
        realm.subscriptions.leave(member)
        realm.dealer.leave(member)
        if not realm.members:
            realms = self._tenants[realm.space.tenant_id]
            del realms[realm.space]
            if not realms:
                del self._tenants[realm.space.tenant_id], self._members[realm.space.tenant_id]
        self._tell(realm.space, uris.ON_LEAVE, Payload([member.id, member.authid, member.principal.authority.value]))

    def _tell(self, space: Space, topic: str, payload: Payload) -> None:
        for place in {space, Space(space.tenant_id)}:
            realm = self.find(place)
            if realm is not None:
                realm.subscriptions.publish(Publication(id=self._new_id(), topic=topic, payload=payload, details={}))
