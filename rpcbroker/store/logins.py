"""What lets devices in, looked up for many of them at once: a whole fleet may come back in one moment."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from sys import intern
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from rpcbroker.core.model import Credentials, CredentialsType, Device, KnownDevice, LastPresence
from rpcbroker.store.cache import Cache
from rpcbroker.store.database import Database
from rpcbroker.store.queries import run

MAX_BATCH = 200
"""Look-ups in one query: by then a further one saves nothing, and the first must not wait for the last."""

Ids = tuple[str, ...]
Known = tuple[KnownDevice, ...]
_Asked = tuple[Ids, bytes]
"""And what the answer is remembered by."""


class Logins:
    """Credentials by their `credentials_id`s.

    While one query runs, what is asked meanwhile waits for the next one, which then asks for all of it.
    What was found is remembered, and so is what was not: one that is refused comes again, and again.
    """

    def __init__(self, database: Database, *, cache_size: int) -> None:
        self._database = database
        self._known = Cache(cache_size)
        self._unknown = Cache(cache_size)
        """Apart from the others, for strangers must not crowd out devices."""
        self._waiting: dict[Deferred[Known], _Asked] = {}
        self._reading = False

    def find(self, ids: Ids) -> Deferred[Known]:
        """Those that there are, in no order. Who cancels is not looked up if the query has not begun."""
        key = _key(ids)
        found = self._known.get(key)
        if found is None:
            found = self._unknown.get(key)
        if found is not None:
            return succeed(found)
        waiting: Deferred[Known] = Deferred(lambda cancelled: self._waiting.pop(cancelled, None))
        self._waiting[waiting] = ids, key
        if not self._reading:
            self._read()
        return waiting

    def added(self, credentials: Credentials) -> None:
        """There are new credentials, and nothing else has changed."""
        self._unknown.clear()
        if credentials.type is CredentialsType.MQTT_BASIC:
            self._known.clear()  # they come before an access token that is like their user name

    def clear(self) -> None:
        """Forget all: something was changed, or is gone."""
        self._known.clear()
        self._unknown.clear()

    def _read(self) -> None:
        self._reading = True
        batch = dict(islice(self._waiting.items(), MAX_BATCH))
        for waiting in batch:
            del self._waiting[waiting]
        since = self._known.writes, self._unknown.writes
        # U+0000 no database keeps in a text: none has it, and PostgreSQL would refuse the whole query.
        wanted = {each for ids, _ in batch.values() for each in ids if "\x00" not in each}
        reading = self._database.read(lambda connection: _read(connection, wanted))
        reading.addBoth(self._tell, batch, since)

    def _tell(self, outcome: Any, batch: dict[Deferred[Known], _Asked], since: tuple[int, int]) -> None:
        """Give everybody theirs: a failure is everybody's."""
        self._reading = False
        if self._waiting:
            self._read()
        for waiting, (ids, key) in batch.items():
            answer: Any = outcome
            if not isinstance(outcome, Failure):
                answer = tuple(outcome[each] for each in ids if each in outcome)
                if answer:
                    self._known.put(key, answer, since=since[0])
                else:
                    self._unknown.put(key, answer, since=since[1])
            if not waiting.called:  # it may have been cancelled meanwhile
                waiting.callback(answer)


_CREDENTIALS = "type", "credentials_id", "credentials_value"
_DEVICE = "id", "tenant_id", "customer_id", "name", "type", "label", "created_time", "version", "additional_info"
_PRESENCE = (
    "connected_time",
    "connected_cause",
    "disconnected_time",
    "disconnected_cause",
    "seen_time",
    "seen_cause",
    "device_id",
)
_Row = tuple[
    tuple[CredentialsType, str, str | None],
    tuple[UUID, str, str | None, str, str, str | None, int, int, Any],
    tuple[int | None, str | None, int | None, str | None, int | None, str | None, UUID | None],
]
"""What one device has in these; ids of which many have the same are left as text."""


def _query(array: str, of_all: str, among: str, info: str) -> str:
    """How a database is asked: for one JSON text of all that it finds, given the ids as another.

    So the interpreter is needed once for a query and not for each row, and the reactor has it meanwhile.
    """
    credentials, device, presence = (
        ", ".join(f"{table}.{name}" for name in names)
        for table, names in (("credentials", _CREDENTIALS), ("device", _DEVICE[:-1]), ("presence", _PRESENCE))
    )
    row = f"{array}({array}({credentials}), {array}({device}, {info}), {array}({presence}))"
    return (
        f"SELECT {of_all.format(row)} FROM credentials JOIN device ON device.id = credentials.device_id"  # noqa: S608 - ours
        f" LEFT JOIN presence ON presence.device_id = device.id WHERE credentials.credentials_id {among}"
    )


QUERIES = {
    "sqlite": _query(
        "json_array",
        "json_group_array({})",
        "IN (SELECT value FROM json_each(?))",
        "json(device.additional_info)",
    ),
    "postgresql": _query(
        "json_build_array",
        "CAST(coalesce(json_agg({}), '[]') AS text)",
        "= ANY(ARRAY(SELECT json_array_elements_text(CAST(? AS json))))",
        "device.additional_info",
    ),
}
"""By the name of the dialect."""
_ROWS = msgspec.json.Decoder(list[_Row])


def _read(connection: Connection, ids: Iterable[str]) -> dict[str, KnownDevice]:
    """Those with one of these `credentials_id`s, by it."""
    wanted = msgspec.json.encode(tuple(ids)).decode()
    (found,) = run(connection, QUERIES[connection.dialect.name], (wanted,)).fetchone()
    return {known.credentials_id: known for known in map(_known, _ROWS.decode(found))}


def _known(row: _Row) -> KnownDevice:
    """With one object for what stands several times: ten thousands of them are kept."""
    credentials, (id_, tenant_id, customer_id, name, type_, label, created_time, version, info), presence = row
    device = Device(
        id=id_,
        tenant_id=_one_id(tenant_id),
        customer_id=None if customer_id is None else _one_id(customer_id),
        name=name,
        type=intern(type_),
        label=label,
        created_time=created_time,
        additional_info=info,
        version=version,
    )
    connected_time, connected_cause, disconnected_time, disconnected_cause, seen_time, seen_cause, was_there = presence
    last = LastPresence(
        device_id=id_,
        connected_time=connected_time,
        connected_cause=_one_text(connected_cause),
        disconnected_time=disconnected_time,
        disconnected_cause=_one_text(disconnected_cause),
        seen_time=seen_time,
        seen_cause=_one_text(seen_cause),
    )
    return KnownDevice(*credentials, device, None if was_there is None else last)


def _one_text(text: str | None) -> str | None:
    return None if text is None else intern(text)


@lru_cache(1024)
def _one_id(text: str) -> UUID:
    """The same object each time."""
    return UUID(text)


def _key(ids: Ids) -> bytes:
    """What an answer is remembered by: a fifth of the memory that the ids take."""
    return blake2b("\0".join(ids).encode("utf-8", "surrogatepass"), digest_size=16).digest()
