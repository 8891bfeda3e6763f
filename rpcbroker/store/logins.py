"""What lets devices in, looked up for many of them at once: a whole fleet may come back in one moment."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from rpcbroker.core.model import Credentials, CredentialsType, Device, KnownDevice, LastPresence
from rpcbroker.store import tables as t
from rpcbroker.store.cache import Cache
from rpcbroker.store.database import Database

MAX_BATCH = 200
"""Look-ups in one query: by then a further one saves nothing, and the first must not wait for the last."""

T = TypeVar("T")
Ids = tuple[str, ...]
Known = tuple[KnownDevice, ...]


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
        self._waiting: dict[Deferred[Known], Ids] = {}
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
        self._waiting[waiting] = ids
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
        wanted = {each for ids in batch.values() for each in ids}
        reading = self._database.read(lambda connection: _read(connection, wanted))
        reading.addBoth(self._tell, batch, since)

    def _tell(self, outcome: Any, batch: dict[Deferred[Known], Ids], since: tuple[int, int]) -> None:
        """Give everybody theirs: a failure is everybody's."""
        self._reading = False
        if self._waiting:
            self._read()
        for waiting, ids in batch.items():
            answer: Any = outcome
            if not isinstance(outcome, Failure):
                answer = tuple(outcome[each] for each in ids if each in outcome)
                if answer:
                    self._known.put(_key(ids), answer, since=since[0])
                else:
                    self._unknown.put(_key(ids), answer, since=since[1])
            if not waiting.called:  # it may have been cancelled meanwhile
                waiting.callback(answer)


_C = t.credentials.c
_PARTS = ((_C.type, _C.credentials_id, _C.credentials_value), tuple(t.device.c), tuple(t.presence.c))
_QUERY = (
    sa.select(*(column.label(f"{column.table.name}_{column.name}") for part in _PARTS for column in part))
    .select_from(
        t.credentials.join(t.device, t.device.c.id == t.credentials.c.device_id).outerjoin(
            t.presence, t.presence.c.device_id == t.device.c.id
        )
    )
    .where(_C.credentials_id.in_(sa.bindparam("ids", expanding=True)))
)
"""Made once: to make it takes longer than to run it."""
_DEVICE, _PRESENCE = (tuple(column.name for column in part) for part in _PARTS[1:])
_TO_DEVICE = len(_PARTS[0])
_TO_PRESENCE = _TO_DEVICE + len(_DEVICE)
_HAS_PRESENCE = _TO_PRESENCE + _PRESENCE.index("device_id")
_TYPES = {each.value: each for each in CredentialsType}


def _read(connection: Connection, ids: Iterable[str]) -> dict[str, KnownDevice]:
    """Those with one of these `credentials_id`s, by it."""
    rows = connection.execute(_QUERY, {"ids": tuple(ids)})
    return {known.credentials_id: known for known in map(_known, rows)}


def _known(row: Any) -> KnownDevice:
    """With one object for what stands several times: ten thousands of them are kept."""
    type_, credentials_id, credentials_value = row[:_TO_DEVICE]
    members = dict(zip(_DEVICE, row[_TO_DEVICE:_TO_PRESENCE], strict=True))
    for name in ("tenant_id", "customer_id", "type"):
        members[name] = _one(members[name])
    device, presence = Device(**members), None
    if row[_HAS_PRESENCE] is not None:
        last = dict(zip(_PRESENCE, row[_TO_PRESENCE:], strict=True)) | {"device_id": device.id}
        for name in ("connected_cause", "disconnected_cause", "seen_cause"):
            last[name] = _one(last[name])
        presence = LastPresence(**last)
    return KnownDevice(_TYPES[type_], credentials_id, credentials_value, device, presence)


@lru_cache(1024)
def _one(value: T) -> T:
    """The first one of all that are equal."""
    return value


def _key(ids: Ids) -> bytes:
    """What an answer is remembered by: a fifth of the memory that the ids take."""
    return blake2b("\0".join(ids).encode("utf-8", "surrogatepass"), digest_size=16).digest()
