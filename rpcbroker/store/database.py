"""The threads and the connections behind the store, and what a database's exceptions become."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection, Engine, event, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpcbroker.core import jsontext
from rpcbroker.core.errors import BrokerError, Reason, Unavailable
from rpcbroker.core.ports import StoreError
from rpcbroker.store.failures import cause_of
from rpcbroker.store.location import sqlite_file
from rpcbroker.store.schema import ensure_schema
from rpcbroker.store.soundness import Mark, look_at, needs_a_look, remedy
from rpcbroker.store.writer import Work, Writer

READERS = 2
JSON: dict[str, Any] = {
    "json_serializer": lambda value: jsontext.encode(value).decode(),
    "json_deserializer": msgspec.json.decode,
}
"""How columns of JSON are written and read: many times faster than the default."""

PATIENCE: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
"""How long PostgreSQL may be silent; seconds, the last milliseconds. Without it a server that vanished holds the
writer for a quarter of an hour."""

T = TypeVar("T")
ReadWork = Callable[[Connection], T]


class Database(Protocol):
    """What runs functions of a connection. A failure is a BrokerError."""

    @property
    def max_queue(self) -> int:
        """Writes that may wait for their turn."""

    @property
    def queued(self) -> int:
        """Writes that wait for their turn."""

    @property
    def commits(self) -> int:
        """Transactions written so far."""

    @property
    def failures(self) -> int:
        """Reads and writes that failed so far, other than by a rule of the store such as a name taken."""

    @property
    def damaged(self) -> bool:
        """Whether damage has shown since it was opened. That does not heal."""

    def open(self, load: ReadWork[T]) -> T:
        """Connect, migrate, and do `load` in one transaction. Blocks. Raises StoreError."""

    def close(self) -> Deferred[None]:
        """Write what is queued, then let go of everything."""

    def read(self, work: ReadWork[T]) -> Deferred[T]: ...

    def write(self, work: Work) -> Deferred[Any]:
        """In a transaction; fires after the commit."""


class ThreadedDatabase:
    """SQLite in a file, or PostgreSQL: reads on threads of their own, writes on one."""

    _log = Logger()

    def __init__(
        self, url: str, *, call_from_thread: Callable[..., object], max_queue: int, mark: Path | None = None
    ) -> None:
        """`mark` is a file that remembers how a SQLite store was left; without one its pages are not looked at."""
        self._url = url
        self._mark_path = mark
        self._mark: Mark | None = None
        self._call_from_thread = call_from_thread
        self.max_queue = max_queue
        self._engine: Engine | None = None
        self._writer: Writer | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._counting = threading.Lock()
        self.failures = 0
        self.damaged = False

    def open(self, load: ReadWork[T]) -> T:
        """See Database."""
        try:
            self._look()
            self._engine = engine_of(self._url)
            ensure_schema(self._engine)
            with self._engine.begin() as connection:
                loaded = load(connection)
        except Exception as error:
            if self._engine is not None:
                self._engine.dispose()
            if isinstance(error, (SQLAlchemyError, ArgumentError, ImportError, OSError)):
                raise StoreError(f"store {shown_url(self._url)}: {first_line(error)}{remedy(error)}") from None
            raise
        self._writer = Writer(
            self._engine,
            call_from_thread=self._call_from_thread,
            max_queue=self.max_queue,
            translate=lambda error: self._translate(error, "written"),
        )
        self._writer.start()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        return loaded

    def _look(self) -> None:
        """Refuse a damaged file before anything is written to it. Raises StoreError, OSError."""
        if self._mark_path is None or (file := sqlite_file(self._url)) is None:
            return
        mark = Mark(self._mark_path, file)
        if needs_a_look(file, mark):
            self._log.info("reading all of the store, for it is not as a broker that ended in good order leaves it")
            look_at(file)
        mark.opened()
        self._mark = mark

    def close(self) -> Deferred[None]:
        """See Database."""
        readers, writer, engine = self._readers, self._writer, self._engine
        self._readers = None
        if readers is None or writer is None or engine is None:
            return succeed(None)

        def finish() -> None:
            writer.stop()
            engine.dispose()
            if self._mark is not None:
                with suppress(OSError):  # the next start reads all of the store then
                    self._mark.closed()

        closed: Deferred[None] = self._in_thread(readers, finish)
        readers.shutdown(wait=False)
        return closed

    @property
    def queued(self) -> int:
        """See Database."""
        return self._writer.queued if self._writer else 0

    @property
    def commits(self) -> int:
        """See Database."""
        return self._writer.commits if self._writer else 0

    def write(self, work: Work) -> Deferred[Any]:
        """See Database."""
        if self._writer is None:
            return fail(_not_open())
        return self._writer.write(work)

    def read(self, work: ReadWork[T]) -> Deferred[T]:
        """See Database."""
        engine = self._engine
        if self._readers is None or engine is None:
            return fail(_not_open())

        def read() -> T:
            with engine.connect() as connection:
                return work(connection)

        return self._in_thread(self._readers, read)

    def _in_thread(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> Deferred[T]:
        done: Deferred[T] = Deferred(lambda _: task.cancel())  # what nobody waits for is not begun

        def run() -> None:
            try:
                outcome: Any = work()
            except Exception as error:
                outcome = Failure(self._translate(error, "read"))
            self._call_from_thread(self._finish, done, outcome)

        task: Future[None] = pool.submit(run)
        return done

    @staticmethod
    def _finish(done: Deferred[Any], outcome: Any) -> None:
        if not done.called:  # it may have been cancelled meanwhile
            done.callback(outcome)

    def _translate(self, error: Exception, what: str) -> Exception:
        if isinstance(error, BrokerError):
            return error
        with self._counting:  # readers and the writer come here on their own threads
            self.failures += 1
        cause = cause_of(error)
        self.damaged = self.damaged or cause.lasting
        self._log.error(
            "the store failed, {cause}: {error}. {hint}",
            cause=cause.words,
            error=first_line(error),
            hint=cause.hint,
        )
        return Unavailable(
            f"The store cannot be {what}: {cause.words}", reason=Reason.STORE_UNAVAILABLE, hint=cause.hint
        )


def _not_open() -> Unavailable:
    return Unavailable("The store is not open", reason=Reason.STORE_UNAVAILABLE)


def engine_of(url: str) -> Engine:
    """What connects to the database; the file of SQLite is made, for its owner alone. Raises StoreError."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        known = PATIENCE if parsed.get_backend_name() == "postgresql" else {}
        return sa.create_engine(parsed, pool_size=READERS + 1, pool_pre_ping=True, connect_args=known, **JSON)
    if not parsed.database:
        raise StoreError("store: SQLite needs a file")
    path = Path(parsed.database)
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))  # -wal and -shm get its mode
    # The connection that was used last is used again: its pages are good as long as no other has written.
    engine = sa.create_engine(parsed, pool_size=READERS + 1, pool_use_lifo=True, **JSON)
    prepare_sqlite(engine)
    return engine


def prepare_sqlite(engine: Engine) -> None:
    """How every connection shall be. A thousand KiB of pages in memory are half of SQLite's default, and no slower."""

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "busy_timeout=10000",
            "cache_size=-1000",
        ):
            connection.execute(f"PRAGMA {pragma}")


def shown_url(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "[store] url"


def first_line(error: Exception) -> str:
    """What an exception says, for the operator."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
