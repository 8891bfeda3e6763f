"""The store on SQLAlchemy Core: SQLite in the state directory, or PostgreSQL."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, event, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpcbroker.core.errors import AlreadyExists, BrokerError, NotFound, Unavailable, VersionConflict
from rpcbroker.core.model import (
    Credentials,
    Device,
    LastPresence,
    Page,
    PageLink,
    Tenant,
    User,
)
from rpcbroker.core.ports import OpenedStore, StoreError
from rpcbroker.store import tables as t
from rpcbroker.store.cache import Cache
from rpcbroker.store.rows import credentials_and_device, credentials_of, device_of, one, user_of, values
from rpcbroker.store.schema import ensure_schema
from rpcbroker.store.writer import Work, Writer

READERS = 2
WIRE_IDS = "wire_ids"

T = TypeVar("T")


class SqlStore:
    """`core.ports.Store` on a database. Reads run on threads of their own, or come from memory."""

    _log = Logger()

    def __init__(self, url: str, *, call_from_thread: Callable[..., object], cache_size: int, max_queue: int) -> None:
        self._url = url
        self._call_from_thread = call_from_thread
        self._max_queue = max_queue
        self._devices = Cache(cache_size)
        self._credentials = Cache(cache_size)
        self._engine: Engine | None = None
        self._writer: Writer | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._counting = threading.Lock()
        self.failures = 0

    # -- opening and closing

    def open(self, *, first_records: Callable[[], tuple[Tenant, User]]) -> OpenedStore:
        """See the port."""
        try:
            self._engine = _engine(self._url)
            ensure_schema(self._engine)
            with self._engine.begin() as connection:
                opened = _load(connection, first_records)
        except (SQLAlchemyError, ArgumentError, ImportError, OSError) as error:
            raise StoreError(f"store {_shown(self._url)}: {_first_line(error)}") from None
        self._writer = Writer(
            self._engine,
            call_from_thread=self._call_from_thread,
            max_queue=self._max_queue,
            translate=self._translate,
        )
        self._writer.start()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        return opened

    def close(self) -> Deferred[None]:
        """See the port."""
        readers, writer, engine = self._readers, self._writer, self._engine
        self._readers = None
        if readers is None or writer is None or engine is None:
            return succeed(None)

        def finish() -> None:
            writer.stop()
            engine.dispose()

        closed: Deferred[None] = self._in_thread(readers, finish)
        readers.shutdown(wait=False)
        return closed

    @property
    def commits(self) -> int:
        """Transactions written so far."""
        return self._writer.commits if self._writer else 0

    @property
    def queued(self) -> int:
        """Writes that wait for their turn."""
        return self._writer.queued if self._writer else 0

    # -- users and sessions

    def reserve_wire_ids(self, upto: int) -> Deferred[None]:
        def work(connection: Connection) -> None:
            _upsert(connection, t.counter, [{"name": WIRE_IDS, "value": upto}], ("name",))

        return self._write(work)

    def revoke_session(self, session_id: str, until: int) -> Deferred[None]:
        def work(connection: Connection) -> None:
            _upsert(connection, t.revoked_session, [{"session_id": session_id, "until": until}], ("session_id",))

        return self._write(work)

    def user(self, user_id: UUID) -> Deferred[User | None]:
        return self._read(lambda connection: one(connection, sa.select(t.user).where(t.user.c.id == user_id), user_of))

    def user_by_email(self, email: str) -> Deferred[User | None]:
        query = sa.select(t.user).where(t.user.c.email_key == email.lower())
        return self._read(lambda connection: one(connection, query, user_of))

    # -- devices

    def device(self, device_id: UUID) -> Deferred[Device | None]:
        query = sa.select(t.device).where(t.device.c.id == device_id)
        return self._cached(self._devices, device_id, lambda connection: one(connection, query, device_of))

    def device_by_name(self, tenant_id: UUID, name: str) -> Deferred[Device | None]:
        query = sa.select(t.device).where(t.device.c.tenant_id == tenant_id, t.device.c.name == name)
        return self._read(lambda connection: one(connection, query, device_of))

    def devices(self, tenant_id: UUID, customer_id: UUID | None, link: PageLink) -> Deferred[Page[Device]]:
        wanted = [t.device.c.tenant_id == tenant_id]
        if customer_id is not None:
            wanted.append(t.device.c.customer_id == customer_id)
        if link.type is not None:
            wanted.append(t.device.c.type == link.type)
        if link.text_search is not None:
            name = sa.func.lower(t.device.c.name)
            wanted.append(name.contains(link.text_search.lower(), autoescape=True))
        column = t.device.c[link.sort_property]
        order = (column.desc(), t.device.c.id.desc()) if link.descending else (column, t.device.c.id)
        query = sa.select(t.device).where(*wanted).order_by(*order)
        query = query.limit(link.page_size).offset(link.page * link.page_size)
        count = sa.select(sa.func.count()).select_from(t.device).where(*wanted)

        def work(connection: Connection) -> Page[Device]:
            items = tuple(device_of(row) for row in connection.execute(query))
            return Page(items=items, total=connection.execute(count).scalar_one())

        return self._read(work)

    def create_device(self, device: Device, credentials: Credentials) -> Deferred[None]:
        def work(connection: Connection) -> None:
            if _name_taken(connection, device):
                raise AlreadyExists("Device with such name already exists!")
            _check_credentials_free(connection, credentials)
            connection.execute(sa.insert(t.device), values(device))
            connection.execute(sa.insert(t.credentials), values(credentials))

        return self._write(work)

    def update_device(self, device: Device) -> Deferred[None]:
        def work(connection: Connection) -> None:
            if _name_taken(connection, device):
                raise AlreadyExists("Device with such name already exists!")
            _replace_version(connection, t.device, t.device.c.id == device.id, device)

        return self._write(work, changes_device=device.id)

    def delete_device(self, device_id: UUID) -> Deferred[bool]:
        def work(connection: Connection) -> bool:
            for table in (t.credentials, t.presence):
                connection.execute(sa.delete(table).where(table.c.device_id == device_id))
            return connection.execute(sa.delete(t.device).where(t.device.c.id == device_id)).rowcount > 0

        return self._write(work, changes_device=device_id)

    def credentials(self, device_id: UUID) -> Deferred[Credentials | None]:
        query = sa.select(t.credentials).where(t.credentials.c.device_id == device_id)
        return self._read(lambda connection: one(connection, query, credentials_of))

    def update_credentials(self, credentials: Credentials) -> Deferred[None]:
        def work(connection: Connection) -> None:
            _check_credentials_free(connection, credentials)
            mine = t.credentials.c.device_id == credentials.device_id
            _replace_version(connection, t.credentials, mine, credentials)

        return self._write(work, changes_device=credentials.device_id)

    def matching_credentials(self, ids: Sequence[str]) -> Deferred[tuple[tuple[Credentials, Device], ...]]:
        query = matching_query(ids)

        def work(connection: Connection) -> tuple[tuple[Credentials, Device], ...] | None:
            rows = connection.execute(query).all()
            return tuple(credentials_and_device(row) for row in rows) or None

        found = self._cached(self._credentials, tuple(ids), work)
        return found.addCallback(lambda matches: matches or ())

    # -- presence and health

    def presence(self, device_id: UUID) -> Deferred[LastPresence | None]:
        query = sa.select(t.presence).where(t.presence.c.device_id == device_id)
        return self._read(lambda connection: one(connection, query, lambda row: LastPresence(**row._mapping)))

    def save_presence(self, presences: Sequence[LastPresence]) -> Deferred[None]:
        rows = [asdict(presence) for presence in presences]

        def work(connection: Connection) -> None:
            ids = [row["device_id"] for row in rows]
            living: set[UUID] = set()
            for start in range(0, len(ids), 500):
                query = sa.select(t.device.c.id).where(t.device.c.id.in_(ids[start : start + 500]))
                living.update(connection.execute(query).scalars())
            _upsert(connection, t.presence, [row for row in rows if row["device_id"] in living], ("device_id",))

        return self._write(work)

    def ping(self) -> Deferred[None]:
        def work(connection: Connection) -> None:
            connection.execute(sa.text("SELECT 1"))

        return self._read(work)

    def ping_writer(self) -> Deferred[None]:
        return self._write(lambda _: None)

    # -- threads

    def _write(self, work: Work, *, changes_device: UUID | None = None) -> Deferred[Any]:
        if self._writer is None:
            return fail(Unavailable("The store is not open"))
        written = self._writer.write(work)
        if changes_device is None:
            return written

        def forget(result: Any) -> Any:
            self._devices.wrote(changes_device)
            self._credentials.clear()
            return result

        return written.addBoth(forget)

    def _read(self, work: Callable[[Connection], T]) -> Deferred[T]:
        engine = self._engine
        if self._readers is None or engine is None:
            return fail(Unavailable("The store is not open"))

        def read() -> T:
            with engine.connect() as connection:
                return work(connection)

        return self._in_thread(self._readers, read)

    def _cached(self, cache: Cache, key: Any, work: Callable[[Connection], T | None]) -> Deferred[T | None]:
        entry = cache.get(key)
        if entry is not None:
            return succeed(entry)
        since = cache.writes

        def keep(found: T | None) -> T | None:
            if found is not None:
                cache.put(key, found, since=since)
            return found

        return self._read(work).addCallback(keep)

    def _in_thread(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> Deferred[T]:
        done: Deferred[T] = Deferred()

        def run() -> None:
            try:
                outcome: Any = work()
            except Exception as error:
                outcome = Failure(self._translate(error))
            self._call_from_thread(self._finish, done, outcome)

        pool.submit(run)
        return done

    @staticmethod
    def _finish(done: Deferred[Any], outcome: Any) -> None:
        if not done.called:  # it may have been cancelled meanwhile
            done.callback(outcome)

    def _translate(self, error: Exception) -> Exception:
        if isinstance(error, BrokerError):
            return error
        with self._counting:  # readers and the writer come here on their own threads
            self.failures += 1
        self._log.error("the store failed: {error}", error=_first_line(error))
        return Unavailable("The store cannot do this now", hint="The server's log says more.")


# -- the database


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return sa.create_engine(parsed, pool_size=READERS + 1, pool_pre_ping=True)
    if not parsed.database:
        raise StoreError("store: SQLite needs a file")
    path = Path(parsed.database)
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))  # -wal and -shm get its mode
    engine = sa.create_engine(parsed, pool_size=READERS + 1)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _load(connection: Connection, first_records: Callable[[], tuple[Tenant, User]]) -> OpenedStore:
    first = connection.execute(sa.select(t.tenant.c.id).limit(1)).first() is None
    if first:
        tenant, user = first_records()
        connection.execute(sa.insert(t.tenant), asdict(tenant))
        connection.execute(sa.insert(t.user), asdict(user) | {"email_key": user.email.lower()})
    reserved = connection.execute(sa.select(t.counter.c.value).where(t.counter.c.name == WIRE_IDS)).scalar()
    revoked = {row.session_id: row.until for row in connection.execute(sa.select(t.revoked_session))}
    return OpenedStore(first_start=first, wire_ids_reserved=reserved or 0, revoked=revoked)


def matching_query(ids: Sequence[str]) -> sa.Select[Any]:
    """Credentials with one of these ids, with their devices."""
    labelled = [column.label(f"device__{column.name}") for column in t.device.c]
    joined = t.credentials.join(t.device, t.device.c.id == t.credentials.c.device_id)
    return sa.select(t.credentials, *labelled).select_from(joined).where(t.credentials.c.credentials_id.in_(ids))


def _upsert(connection: Connection, table: sa.Table, rows: list[dict[str, Any]], key: tuple[str, ...]) -> None:
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]
    statement = insert(table)
    others = {name: statement.excluded[name] for name in rows[0] if name not in key}
    connection.execute(statement.on_conflict_do_update(index_elements=key, set_=others), rows)


def _name_taken(connection: Connection, device: Device) -> bool:
    query = sa.select(t.device.c.id).where(
        t.device.c.tenant_id == device.tenant_id, t.device.c.name == device.name, t.device.c.id != device.id
    )
    return connection.execute(query).first() is not None


def _check_credentials_free(connection: Connection, credentials: Credentials) -> None:
    query = sa.select(t.credentials.c.id).where(
        t.credentials.c.credentials_id == credentials.credentials_id,
        t.credentials.c.device_id != credentials.device_id,
    )
    if connection.execute(query).first() is not None:
        raise AlreadyExists("Specified credentials are already registered!")


def _replace_version(connection: Connection, table: sa.Table, which: Any, record: Device | Credentials) -> None:
    stored = connection.execute(sa.select(table.c.version).where(which)).scalar()
    if stored is None:
        raise NotFound("It was deleted in the meantime")
    if stored != record.version - 1:
        raise VersionConflict(
            "Somebody else changed this in the meantime", hint=f"Its version is {stored}: read it again."
        )
    connection.execute(sa.update(table).where(which).values(values(record)))


def _shown(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "[store] url"


def _first_line(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
