"""Look-ups of credentials: shared queries, what is remembered, and who is told what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fakes import device, error_of, first_records, result_of, token
from twisted.internet.defer import CancelledError, Deferred

from rpcbroker.core.errors import Unavailable
from rpcbroker.core.model import Credentials, CredentialsType, LastPresence
from rpcbroker.store.logins import MAX_BATCH, Logins
from rpcbroker.store.memory import MemoryStore


class Waiting:
    """A database whose reads come when they are told to."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.reads: list[tuple[Callable[[Any], Any], Deferred[Any]]] = []

    def read(self, work: Callable[[Any], Any]) -> Deferred[Any]:
        self.reads.append((work, Deferred()))
        return self.reads[-1][1]

    def arrive(self) -> None:
        """The oldest one is done."""
        work, done = self.reads.pop(0)
        self._store.database.read(work).chainDeferred(done)

    def fail(self) -> None:
        self.reads.pop(0)[1].errback(Unavailable("broken"))


@pytest.fixture
def store() -> MemoryStore:
    made = MemoryStore()
    made.open(first_records=first_records)
    for number in (1, 2, 3):
        result_of(made.create_device(device(number), token(device(number))))
    return made


@pytest.fixture
def database(store: MemoryStore) -> Waiting:
    return Waiting(store)


@pytest.fixture
def logins(database: Waiting) -> Logins:
    return Logins(database, cache_size=10)


def names(found: Deferred[Any]) -> list[str]:
    return [known.device.name for known in result_of(found)]


def test_what_comes_while_a_query_runs_shares_the_next_one(database: Waiting, logins: Logins) -> None:
    first, second, third, nobody = (logins.find((f"TOKEN{number}",)) for number in (1, 2, 3, 4))
    assert len(database.reads) == 1
    database.arrive()
    assert names(first) == ["device-1"]
    assert not second.called
    assert len(database.reads) == 1
    database.arrive()
    assert (names(second), names(third), names(nobody)) == (["device-2"], ["device-3"], [])
    assert database.reads == []


def test_a_query_is_for_so_many_and_no_more(database: Waiting, logins: Logins) -> None:
    all_of_them = [logins.find((f"x{number}",)) for number in range(MAX_BATCH + 2)]
    for done in (1, MAX_BATCH + 1, MAX_BATCH + 2):
        database.arrive()
        assert sum(each.called for each in all_of_them) == done
    assert database.reads == []


def test_one_that_has_several_ids_is_found_by_any_and_is_told_of_all(database: Waiting, logins: Logins) -> None:
    found = logins.find(("x", "TOKEN1", "TOKEN2"))
    database.arrive()
    assert names(found) == ["device-1", "device-2"]


def test_what_was_found_and_what_was_not_is_remembered(database: Waiting, logins: Logins) -> None:
    for token_, expected in (("TOKEN1", ["device-1"]), ("TOKEN4", [])):
        logins.find((token_,))
        database.arrive()
        assert names(logins.find((token_,))) == expected
        assert database.reads == []


def test_causes_of_presence_that_many_devices_have_are_kept_once(
    store: MemoryStore, database: Waiting, logins: Logins
) -> None:
    causes = {f"{fact}_cause": f"{fact} over MQTT" for fact in ("connected", "disconnected", "seen")}
    result_of(store.save_presence([LastPresence(device_id=device(number).id, **causes) for number in (1, 2)], []))
    found = [logins.find((f"TOKEN{number}",)) for number in (1, 2)]
    database.arrive()
    database.arrive()
    first, second = (result_of(each)[0].presence for each in found)
    for name, cause in causes.items():
        assert getattr(first, name) == cause
        assert getattr(first, name) is getattr(second, name)


def test_strangers_do_not_crowd_out_devices(database: Waiting, logins: Logins) -> None:
    for token_ in ("TOKEN1", *map(str, range(20))):
        logins.find((token_,))
        database.arrive()
    assert names(logins.find(("TOKEN1",))) == ["device-1"]
    assert len(logins._unknown._entries) == 10


@pytest.mark.parametrize("kind", [CredentialsType.ACCESS_TOKEN, CredentialsType.MQTT_BASIC])
def test_new_credentials_end_what_is_remembered_of_strangers(
    store: MemoryStore, database: Waiting, logins: Logins, kind: CredentialsType
) -> None:
    for token_ in ("TOKEN1", "TOKEN4"):
        logins.find((token_,))
        database.arrive()
    made = token(device(4))
    logins.added(Credentials(id=made.id, device_id=made.device_id, type=kind, credentials_id="TOKEN4", created_time=0))
    result_of(store.create_device(device(4), made))
    assert not (found := logins.find(("TOKEN4",))).called
    database.arrive()
    assert names(found) == ["device-4"]
    logins.find(("TOKEN1",))
    assert len(database.reads) == (kind is CredentialsType.MQTT_BASIC), "these come before tokens"


def test_what_was_read_while_something_changed_is_not_remembered(database: Waiting, logins: Logins) -> None:
    found, stranger = logins.find(("TOKEN1",)), logins.find(("TOKEN4",))
    logins.clear()
    database.arrive()
    logins.added(token(device(4)))
    database.arrive()
    assert (names(found), names(stranger)) == (["device-1"], [])
    logins.find(("TOKEN1",)), logins.find(("TOKEN4",))
    database.arrive()
    assert len(database.reads) == 1, "both are asked for again"


def test_a_failure_is_everybodys_and_the_next_one_is_another_try(database: Waiting, logins: Logins) -> None:
    first, second, third = (logins.find((f"TOKEN{number}",)) for number in (1, 2, 3))
    database.arrive()
    database.fail()
    assert names(first) == ["device-1"]
    assert isinstance(error_of(second), Unavailable)
    assert isinstance(error_of(third), Unavailable)
    again = logins.find(("TOKEN2",))
    database.arrive()
    assert names(again) == ["device-2"]


def test_who_leaves_is_not_looked_up_and_keeps_nobody_from_it(database: Waiting, logins: Logins) -> None:
    running, waiting, other = (logins.find((f"TOKEN{number}",)) for number in (1, 2, 3))
    for left in (running, waiting):
        left.cancel()
        assert isinstance(error_of(left), CancelledError)
    database.arrive()
    database.arrive()
    assert names(other) == ["device-3"]
    assert database.reads == []
    logins.find(("TOKEN2",))
    assert len(database.reads) == 1, "it was not asked for"
