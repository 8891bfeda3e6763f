"""One request for many devices: in which order, how many at a time, and what is known after a crash.

Over 400 lines: one fleet, and each thing that may happen to a bulk of calls to it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid5

import pytest
from bulk_fleet import BULK, Fleet
from fakes import ADMIN, CUSTOMER, EPOCH_MS, OTHER_TENANT, Slow, customer, device, error_of, result_of
from twisted.internet.defer import CancelledError, Deferred, fail

from rpcbroker.core.bulk import (
    ENDED,
    TRANSITIONS,
    Bulk,
    BulkEntry,
    BulkState,
    EntryState,
    EntryStep,
    visible_bulks,
)
from rpcbroker.core.calls import CallRequest
from rpcbroker.core.errors import (
    InvalidRequest,
    NotFound,
    PermissionDenied,
    TooManyRequests,
    Unavailable,
    VersionConflict,
)
from rpcbroker.core.model import Authority, Device, KeyAccess, KeyScope, PageLink
from rpcbroker.core.setting import Rate
from rpcbroker.core.settings import BulkSettings

S = EntryState
USER = replace(ADMIN, user_id=UUID(int=11), authority=Authority.CUSTOMER_USER, customer_id=CUSTOMER, email="cu@x.org")


def test_every_state_has_a_way_out_unless_it_has_ended() -> None:
    assert {state for state, _ in TRANSITIONS} == set(EntryState) - ENDED
    assert {step for _, step in TRANSITIONS} == set(EntryStep)


# -- how they are called


def test_all_devices_are_called_and_their_answers_kept() -> None:
    fleet = Fleet(3, reply=b'{"ok":1}')
    bulk = fleet.begin(params=b'{"in":5}')
    assert [link.calls[0].params for link in fleet.links] == [b'{"in":5}'] * 3
    assert [link.calls[0].rpc_id for link in fleet.links] == [bulk.rpc_id(one.id) for one in fleet.devices]
    now = fleet.bulk()
    assert (now.state, now.counts[S.SUCCESSFUL], now.total, now.ended_time) == (BulkState.DONE, 3, 3, EPOCH_MS)
    assert [(e.device_name, e.response, e.ended) for e in fleet.entries()] == [
        (f"device-{200 + number}", b'{"ok":1}', number + 1) for number in range(3)
    ]


def test_one_way_calls_succeed_when_they_are_handed_over() -> None:
    fleet = Fleet(2)
    fleet.begin(oneway=True)
    assert fleet.states() == [S.SUCCESSFUL] * 2


def test_what_fails_says_why() -> None:
    fleet = Fleet(3, reply=b'{"error":"no"}', offline=(1,))
    gone = fleet.devices[2]
    with Slow(fleet.store.bulks, "save") as slow:
        fleet.create(connect_timeout=0)
        result_of(fleet.store.delete_device(gone.id))
        fleet.broker.device_deleted(gone.id)
    slow.arrive()
    fleet.clock.advance(30)
    assert fleet.states() == [S.FAILED] * 3
    assert fleet.reasons() == ["DEVICE_ERROR", "NO_SUBSCRIPTION", "DEVICE_DELETED"]
    assert fleet.entries()[0].response == b'{"error":"no"}'


def test_of_a_large_response_only_that_it_came_is_kept() -> None:
    fleet = Fleet(1, reply=b'"12345678"')
    fleet.bulks.settings = BulkSettings(max_response_size=9)
    fleet.begin()
    entry = fleet.entries()[0]
    assert (entry.state, entry.reason, entry.response) == (S.SUCCESSFUL, "RESPONSE_TOO_LARGE", None)


def test_at_most_so_many_are_called_at_a_time() -> None:
    fleet = Fleet(5)
    fleet.begin(plan={"concurrency": 2})
    assert fleet.called() == [1, 1, 0, 0, 0]
    fleet.reply(1)
    assert fleet.called() == [1, 1, 1, 0, 0]
    assert fleet.states() == [S.RUNNING, S.SUCCESSFUL, S.RUNNING, S.WAITING, S.WAITING]
    for number in (0, 2, 3, 4):
        fleet.reply(number)
    assert fleet.bulk().state is BulkState.DONE


def test_no_more_are_called_than_the_rate_allows() -> None:
    fleet = Fleet(7, reply=b"1")
    fleet.begin(plan={"rate": Rate(((2, 1.0),))})
    calls = [sum(fleet.called())]
    for _ in range(5):
        fleet.clock.pump([1 / 64] * 33)
        calls.append(sum(fleet.called()))
    assert calls == [2, 3, 4, 5, 6, 7]
    assert fleet.bulk().state is BulkState.DONE


def test_the_rest_waits_until_all_canaries_have_succeeded() -> None:
    fleet = Fleet(5)
    fleet.begin(plan={"canary": 2})
    assert fleet.called() == [1, 1, 0, 0, 0]
    fleet.reply(0)
    assert fleet.called() == [1, 1, 0, 0, 0]
    fleet.reply(1)
    assert fleet.called() == [1, 1, 1, 1, 1]


def test_a_canary_that_does_not_succeed_aborts_the_bulk() -> None:
    fleet = Fleet(4)
    fleet.begin(plan={"canary": 2})
    fleet.reply(0, b'{"error":1}')
    bulk = fleet.bulk()
    assert (bulk.state, bulk.ended_time) == (BulkState.ABORTED, None), "the other canary goes on"
    assert bulk.reason == "the canary device-200 did not succeed: DEVICE_ERROR"
    fleet.reply(1)
    assert fleet.states() == [S.FAILED, S.SUCCESSFUL, S.ABORTED, S.ABORTED]
    assert fleet.called() == [1, 1, 0, 0]
    assert fleet.bulk().ended_time == EPOCH_MS


def test_more_canaries_than_devices_are_all_of_them() -> None:
    fleet = Fleet(2, reply=b"1")
    fleet.begin(plan={"canary": 9})
    assert fleet.bulk().state is BulkState.DONE


def test_after_so_many_failures_no_more_are_begun() -> None:
    fleet = Fleet(6)
    fleet.begin(plan={"concurrency": 2, "abort_after": 2})
    fleet.reply(0, b'{"error":1}')
    assert fleet.called() == [1, 1, 1, 0, 0, 0]
    fleet.reply(1, b'{"error":1}')
    assert fleet.called() == [1, 1, 1, 0, 0, 0]
    fleet.reply(2)
    assert fleet.states() == [S.FAILED, S.FAILED, S.SUCCESSFUL, S.ABORTED, S.ABORTED, S.ABORTED]
    assert fleet.bulk().reason == "2 calls did not succeed"


def test_what_was_about_to_be_called_when_too_many_failed_is_not_called() -> None:
    fleet = Fleet(3)
    fleet.begin(plan={"concurrency": 1, "abort_after": 1})
    with Slow(fleet.store.bulks, "save") as slow:
        fleet.reply(0, b"1")  # the next one is being written
        aborted = Deferred.fromCoroutine(fleet.bulks.abort(ADMIN, BULK))
    slow.arrive()
    assert result_of(aborted).state is BulkState.ABORTED
    assert fleet.called() == [1, 0, 0]
    assert fleet.states() == [S.SUCCESSFUL, S.ABORTED, S.ABORTED]


@pytest.mark.parametrize("rules", [{"methods": ("get*",)}, {"twoway": False}])
def test_an_api_key_aborts_only_what_it_could_have_asked_for(rules: dict[str, Any]) -> None:
    fleet = Fleet(2)
    fleet.begin()
    key = replace(ADMIN, scope=KeyScope(access=KeyAccess.CALL, **rules))
    assert isinstance(error_of(Deferred.fromCoroutine(fleet.bulks.abort(key, BULK))), PermissionDenied)
    assert fleet.bulk().state is BulkState.RUNNING


def test_aborting_lets_running_calls_end() -> None:
    fleet = Fleet(4)
    fleet.begin(plan={"concurrency": 1})
    bulk = fleet.abort()
    assert (bulk.state, bulk.reason, bulk.ended_time) == (BulkState.ABORTED, "by admin@example.org", None)
    assert fleet.states() == [S.RUNNING, S.ABORTED, S.ABORTED, S.ABORTED]
    fleet.reply(0)
    assert fleet.called() == [1, 0, 0, 0]
    assert fleet.bulk().counts == {S.SUCCESSFUL: 1, S.ABORTED: 3} | dict.fromkeys((S.RUNNING,), 0)
    assert sorted(e.ended or 0 for e in fleet.entries())[0] > 0
    assert len({e.ended for e in fleet.entries()}) == 4
    assert fleet.abort() == fleet.bulk(), "aborting what has ended changes nothing"


def test_a_device_that_changed_hands_is_not_called() -> None:
    fleet = Fleet(0)
    mine = [device(300 + number, customer_id=CUSTOMER) for number in range(2)]
    for one in mine:
        fleet.add(one)
    links = [fleet.link(one, reply=b"1") for one in mine]
    with Slow(fleet.store.bulks, "save") as slow:
        fleet.create(USER, customer_id=CUSTOMER)
        fleet.broker.device_changed(replace(mine[1], customer_id=None))
    slow.arrive()
    assert [len(link.calls) for link in links] == [1, 0]
    assert fleet.reasons() == [None, "NOT_ALLOWED"]


# -- persistent calls


def test_a_persistent_call_takes_no_place_once_it_is_kept_and_ends_when_it_is_answered() -> None:
    fleet = Fleet(4)
    fleet.begin(persistent=True, plan={"concurrency": 1})
    assert fleet.called() == [1, 1, 1, 1]
    assert fleet.states() == [S.RUNNING] * 4
    fleet.reply(0, b"7")
    fleet.reply(1, b'{"error":"x"}')
    fleet.clock.advance(11)
    fleet.clock.advance(1)
    assert fleet.states() == [S.SUCCESSFUL, S.FAILED, S.FAILED, S.FAILED]
    assert fleet.reasons() == [None, "DEVICE_ERROR", "NO_REPLY", "NO_REPLY"]
    assert fleet.bulk().state is BulkState.DONE


def test_canaries_wait_for_the_end_of_persistent_calls() -> None:
    fleet = Fleet(3, offline=(0,))
    fleet.begin(persistent=True, oneway=True, plan={"canary": 1})
    assert fleet.called() == [0, 0, 0]
    fleet.links[0].session.subscribe(fleet.links[0])
    assert fleet.called() == [1, 1, 1]
    assert fleet.states() == [S.SUCCESSFUL] * 3


def test_a_call_of_the_same_id_that_has_ended_is_not_waited_for() -> None:
    fleet = Fleet(1, reply=b"1")
    one = fleet.devices[0]
    request = CallRequest(method="reboot", persistent=True, request_id=rpc_id_of(one), once=True)
    result_of(fleet.call(request, device_id=one.id))
    fleet.begin(persistent=True)
    assert fleet.called() == [1]
    assert fleet.states() == [S.SUCCESSFUL]


def test_another_call_of_the_same_id_is_a_failure() -> None:
    fleet = Fleet(1, reply=b"1")
    one = fleet.devices[0]
    result_of(fleet.call(CallRequest(method="other", request_id=rpc_id_of(one), once=True), device_id=one.id))
    fleet.begin()
    assert fleet.reasons() == ["CONFLICT"]


def rpc_id_of(one: Device) -> UUID:
    return uuid5(BULK, str(one.id))


# -- when something cannot be done now


def test_a_store_that_fails_is_asked_again_and_no_device_is_called_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(2, reply=b"1")
    with monkeypatch.context() as patch:
        patch.setattr(fleet.store.bulks, "save", lambda *_args, **_more: fail(Unavailable("full")))
        fleet.begin()
        fleet.clock.advance(3)
        assert fleet.called() == [0, 0]
        assert isinstance(error_of(Deferred.fromCoroutine(fleet.bulks.abort(USER, BULK))), NotFound)
    fleet.clock.advance(1.1)
    assert fleet.called() == [1, 1]
    assert fleet.bulk().state is BulkState.DONE


def test_a_broker_that_takes_no_calls_now_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(3, reply=b"1")
    with monkeypatch.context() as patch:
        patch.setattr(fleet.broker, "submit", lambda *_args, **_more: fail(Unavailable("no ids")))
        fleet.begin()
        assert fleet.states() == [S.WAITING] * 3
    fleet.clock.advance(1.1)
    assert fleet.called() == [1, 1, 1]
    assert fleet.states() == [S.SUCCESSFUL] * 3


def test_a_bulk_whose_tenant_is_deleted_ends() -> None:
    fleet = Fleet(3)
    fleet.begin(plan={"concurrency": 1})
    result_of(fleet.store.bulks.forget_ended(EPOCH_MS, limit=9))
    assert fleet.bulk(), "one that goes on is not forgotten"
    for one in fleet.devices:
        fleet.broker.device_deleted(one.id)
    result_of(fleet.store.people.delete_tenant(ADMIN.tenant_id, revoked=1))
    fleet.clock.advance(1)
    assert not fleet.bulks._runs


# -- who may ask for what


def test_the_same_again_is_the_same_bulk_and_another_content_is_a_conflict() -> None:
    fleet = Fleet(2, reply=b"1")
    assert fleet.begin().id == fleet.begin().id
    assert fleet.called() == [1, 1]
    assert isinstance(error_of(fleet.create(content="other")), VersionConflict)


def test_the_same_at_the_same_time_is_one_bulk() -> None:
    fleet = Fleet(2, reply=b"1")
    with Slow(fleet.store.bulks, "targets") as slow:
        both = [fleet.create(), fleet.create()]
    slow.arrive()
    assert [result_of(each).id for each in both] == [BULK, BULK]
    assert fleet.called() == [1, 1]


@pytest.mark.parametrize("foreign", [UUID(int=999), UUID(int=400)], ids=["unknown", "foreign"])
def test_devices_that_are_not_there_are_named_and_none_is_called(foreign: UUID) -> None:
    fleet = Fleet(2, reply=b"1")
    fleet.add(device(400, tenant=OTHER_TENANT))
    devices = (fleet.devices[0].id, foreign)
    error = error_of(fleet.create(devices=devices))
    assert isinstance(error, InvalidRequest)
    assert str(foreign) in error.message
    assert str(devices[0]) not in error.message
    assert fleet.called() == [0, 0]
    fleet.begin(devices=(*devices, *devices), ignore_unknown=True)
    assert fleet.called() == [1, 0]


def test_a_bulk_of_nothing_has_ended_or_is_refused() -> None:
    fleet = Fleet(1)
    fleet.begin(devices=(UUID(int=999),), ignore_unknown=True)
    assert (fleet.bulk().state, fleet.bulk().total) == (BulkState.DONE, 0)
    assert isinstance(error_of(fleet.create(bulk_id=UUID(int=1), type_="none")), InvalidRequest)


def test_devices_of_a_type_and_of_a_customer() -> None:
    fleet = Fleet(2, reply=b"1")
    fleet.add(device(300, customer_id=CUSTOMER))
    link = fleet.link(device(300), reply=b"1")
    fleet.begin(type_="lamp")
    assert (fleet.called(), len(link.calls)) == ([1, 1], 0)
    fleet.begin(bulk_id=UUID(int=2), customer_id=CUSTOMER)
    assert (fleet.called(), len(link.calls)) == ([1, 1], 1)


@pytest.mark.parametrize(
    ("scope", "error"),
    [
        (KeyScope(methods=("get*",)), PermissionDenied),
        (KeyScope(twoway=False), PermissionDenied),
        (KeyScope(device_ids=(UUID(int=200),)), InvalidRequest),
        (KeyScope(device_types=("pump",)), InvalidRequest),
        (KeyScope(customer_id=CUSTOMER), InvalidRequest),
    ],
)
def test_an_api_key_calls_no_more_than_it_may(scope: KeyScope, error: type[Exception]) -> None:
    fleet = Fleet(2, reply=b"1")
    assert isinstance(error_of(fleet.create(replace(ADMIN, scope=scope))), error)
    assert fleet.called() == [0, 0]


def test_who_sees_which_bulk() -> None:
    fleet = Fleet(2, reply=b"1")
    scope = KeyScope(device_ids=tuple(one.id for one in fleet.devices))
    key = replace(ADMIN, scope=scope)
    bulk = fleet.begin(key)
    sees = {
        "admin": ADMIN,
        "key": key,
        "key for calls": replace(ADMIN, scope=KeyScope(methods=("x",))),
        "other key": replace(ADMIN, scope=replace(scope, device_types=("lamp",))),
        "customer": USER,
        "other tenant": replace(ADMIN, tenant_id=OTHER_TENANT),
    }
    assert [name for name, who in sees.items() if visible_bulks(who).fits(bulk)] == ["admin", "key", "key for calls"]
    link = PageLink(page_size=10)
    found = {name for name, who in sees.items() if result_of(fleet.bulks.page(who, link)).total}
    assert found == {"admin", "key", "key for calls"}


def test_limits() -> None:
    fleet = Fleet(3)
    result_of(fleet.store.people.create_customer(customer()))
    fleet.bulks.settings = BulkSettings(max_devices=2, max_running=1)
    for chosen in ({}, {"type_": "lamp"}):
        assert "more than 2 devices" in error_of(fleet.create(**chosen)).message
    two = tuple(one.id for one in fleet.devices[:2])
    fleet.begin(devices=two)
    assert isinstance(error_of(fleet.create(bulk_id=UUID(int=1), devices=two)), TooManyRequests)
    assert fleet.begin(devices=two).id == BULK, "the same again is not one more"
    fleet.reply(0)
    fleet.reply(1)
    fleet.begin(bulk_id=UUID(int=1), devices=two)


# -- following


def test_who_follows_a_bulk_is_told_of_each_device_once_and_of_the_end() -> None:
    fleet = Fleet(3)
    bulk = fleet.begin(plan={"concurrency": 2})
    fleet.reply(1)
    told: list[BulkEntry | Bulk] = []

    async def follow() -> None:
        async for each in fleet.bulks.follow(bulk):
            told.append(each)

    following = Deferred.fromCoroutine(follow())
    assert [each.number for each in told if isinstance(each, BulkEntry)] == [1]
    fleet.reply(0)
    fleet.reply(2)
    result_of(following)
    assert [each.number for each in told if isinstance(each, BulkEntry)] == [1, 0, 2]
    assert isinstance(told[-1], Bulk)
    assert told[-1].state is BulkState.DONE


def test_who_follows_no_longer_leaves_the_bulk_alone() -> None:
    fleet = Fleet(1)
    bulk = fleet.begin()

    async def follow() -> None:
        async for _ in fleet.bulks.follow(bulk):
            pass

    following = Deferred.fromCoroutine(follow())
    following.cancel()
    assert isinstance(error_of(following), CancelledError)
    fleet.reply(0)
    assert fleet.bulk().state is BulkState.DONE


def test_an_old_bulk_is_forgotten() -> None:
    fleet = Fleet(1, reply=b"1")
    fleet.bulks.settings = BulkSettings(ttl=3600.0)  # type: ignore[arg-type]
    fleet.begin()
    fleet.clock.advance(3600)
    assert fleet.bulk()
    fleet.clock.advance(3601)
    assert isinstance(error_of(Deferred.fromCoroutine(fleet.bulks.bulk(ADMIN, BULK))), NotFound)
