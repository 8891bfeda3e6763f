"""Rule chains, and relations between devices, in the store."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from twisted.internet.defer import Deferred

from rpcbroker.core.errors import AlreadyExists, InvalidRequest
from rpcbroker.core.model import Relation, StoredChain
from rpcbroker.store import tables as t
from rpcbroker.store.database import Database
from rpcbroker.store.queries import IDS_AT_ONCE, exists, insert, replace_version, require, upsert
from rpcbroker.store.rows import values

_C, _R = t.rule_chain.c, t.relation.c
_KEY = ("source", "target", "type")


class SqlRules:
    """`core.ports.KeptRules` on a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- chains

    def save_chain(self, chain: StoredChain) -> Deferred[None]:
        """See the port."""

        def work(connection: Connection) -> None:
            require(connection, t.tenant, "Tenant", id=chain.tenant_id)
            if chain.version == 1:
                _insert(connection, chain)
                return
            row = values(chain)
            del row["root"]
            replace_version(connection, t.rule_chain, _which(chain.tenant_id, chain.id), row)

        return self._database.write(work)

    def set_root(self, tenant_id: UUID, chain_id: UUID, *, demoted: StoredChain | None) -> Deferred[None]:
        """See the port."""

        def work(connection: Connection) -> None:
            require(connection, t.rule_chain, "Rule chain", tenant_id=tenant_id, id=chain_id)
            if demoted is not None:
                _insert(connection, demoted)
            of_tenant = sa.update(t.rule_chain).where(_C.tenant_id == tenant_id)
            connection.execute(of_tenant.values(root=False))
            connection.execute(of_tenant.where(_C.id == chain_id).values(root=True))

        return self._database.write(work)

    def delete_chain(self, tenant_id: UUID, chain_id: UUID) -> Deferred[bool]:
        def work(connection: Connection) -> bool:
            query = sa.delete(t.rule_chain).where(_which(tenant_id, chain_id), sa.not_(_C.root))
            return bool(connection.execute(query).rowcount)

        return self._database.write(work)

    # -- relations

    def relate(self, relation: Relation, *, most: int) -> Deferred[None]:
        """See the port."""

        def work(connection: Connection) -> None:
            _require_devices(connection, relation)
            if not exists(connection, sa.select(_R.type).where(*_same(relation))):
                _require_room(connection, relation, most)
            upsert(connection, t.relation, [values(relation)], _KEY)

        return self._database.write(work)

    def unrelate(self, relation: Relation) -> Deferred[bool]:
        query = sa.delete(t.relation).where(_R.tenant_id == relation.tenant_id, *_same(relation))
        return self._database.write(lambda connection: bool(connection.execute(query).rowcount))

    def relations(
        self, tenant_id: UUID, *, source: UUID | None = None, target: UUID | None = None, type_: str = ""
    ) -> Deferred[list[Relation]]:
        """See the port."""
        query = sa.select(t.relation).where(_R.tenant_id == tenant_id).order_by(_R.type, _R.source, _R.target)
        wanted = ((_R.source, source), (_R.target, target), (_R.type, type_ or None))
        query = query.where(*(column == value for column, value in wanted if value is not None))
        return self._database.read(lambda connection: [relation_of(row) for row in connection.execute(query)])

    def related(
        self, tenant_id: UUID, device_id: UUID, *, outward: bool, type_: str, levels: int, limit: int
    ) -> Deferred[list[UUID]]:
        """See the port."""
        here, there = (_R.source, _R.target) if outward else (_R.target, _R.source)
        query = sa.select(there).where(_R.tenant_id == tenant_id).order_by(there).distinct()
        if type_:
            query = query.where(_R.type == type_)

        def work(connection: Connection) -> list[UUID]:
            found: dict[UUID, None] = {}
            edge = [device_id]
            for _ in range(levels):
                beyond: dict[UUID, None] = {}
                for start in range(0, len(edge), IDS_AT_ONCE):
                    some = query.where(here.in_(edge[start : start + IDS_AT_ONCE]))
                    some = some.limit(limit + len(found) + 1)  # it may begin with those that are known
                    beyond |= dict.fromkeys(connection.execute(some).scalars())
                edge = [each for each in beyond if each not in found and each != device_id]
                found |= dict.fromkeys(edge)
                if not edge or len(found) >= limit:
                    break
            return list(found)[:limit]

        return self._database.read(work)


def _which(tenant_id: UUID, chain_id: UUID) -> sa.ColumnElement[bool]:
    return sa.and_(_C.tenant_id == tenant_id, _C.id == chain_id)


def _insert(connection: Connection, chain: StoredChain) -> None:
    if exists(connection, sa.select(_C.id).where(_C.id == chain.id)):
        raise AlreadyExists("Such a rule chain already exists!")
    connection.execute(sa.insert(t.rule_chain), values(chain))


def keep_relation(connection: Connection, relation: Relation) -> None:
    """Inside a transaction that may write more; one that is there stays as it is. Raises NotFound."""
    _require_devices(connection, relation)
    connection.execute(insert(connection, t.relation).on_conflict_do_nothing(index_elements=_KEY), values(relation))


def _same(relation: Relation) -> tuple[sa.ColumnElement[bool], ...]:
    return tuple(_R[name] == getattr(relation, name) for name in _KEY)


def _require_devices(connection: Connection, relation: Relation) -> None:
    for device_id in (relation.source, relation.target):
        require(connection, t.device, "Device", id=device_id, tenant_id=relation.tenant_id)


def _require_room(connection: Connection, relation: Relation, most: int) -> None:
    for column, device_id, way in ((_R.source, relation.source, "from"), (_R.target, relation.target, "to")):
        count = sa.select(sa.func.count()).select_from(t.relation).where(column == device_id)
        if connection.execute(count).scalar_one() >= most:
            raise InvalidRequest(
                f"There are {most:,} relations {way} device [{device_id}], and may not be more",
                hint="The limit is rules.max_relations.",
            )


def rule_chains(connection: Connection) -> tuple[StoredChain, ...]:
    """All of all tenants, the oldest first."""
    query = sa.select(t.rule_chain).order_by(_C.created_time, _C.id)
    return tuple(chain_of(row) for row in connection.execute(query))


def chain_of(row: Any) -> StoredChain:
    return StoredChain(**row._mapping)


def relation_of(row: Any) -> Relation:
    return Relation(**row._mapping)
