"""One contract for all stores: how the presence of devices changed lately."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
import pytest_twisted
from fakes import device, token

from rpcbroker.core.model import LastPresence
from rpcbroker.core.presence import MOST_CHANGES, PresenceChange

MINE, OTHERS = device().id, device(101).id


def change(time: int, device_id: UUID = MINE, *, connected: bool = True, callable_: bool = False) -> PresenceChange:
    return PresenceChange(
        device_id=device_id, time=time, connected=connected, callable=callable_, cause=f"because of {time}"
    )


async def fill(store: Any) -> None:
    for each in (device(), device(101)):
        await store.create_device(each, token(each))


async def times(store: Any, device_id: UUID = MINE, since: int = 0) -> list[int]:
    return [each.time for each in await store.presence_changes(device_id, since)]


@pytest_twisted.ensureDeferred
async def test_they_come_back_as_they_were_in_their_order(store: Any) -> None:
    await fill(store)
    mine = [change(5), change(5, callable_=True), change(4, connected=False)]  # a clock may be put back
    await store.save_presence([LastPresence(device_id=MINE)], [*mine, change(6, OTHERS)])
    assert await store.presence_changes(MINE, 0) == mine
    assert await store.presence_changes(OTHERS, 0) == [change(6, OTHERS)]
    assert await store.presence_changes(UUID(int=404), 0) == []
    await store.save_presence([])
    assert await store.presence_changes(MINE, 0) == mine


@pytest_twisted.ensureDeferred
async def test_those_since_a_time_are_led_by_the_last_one_before(store: Any) -> None:
    await fill(store)
    await store.save_presence([], [change(time) for time in (10, 20, 30)])
    assert await times(store, since=0) == await times(store, since=10) == [10, 20, 30]
    assert await times(store, since=25) == await times(store, since=30) == [20, 30]
    assert await times(store, since=31) == [30]


@pytest_twisted.ensureDeferred
async def test_of_a_device_the_newest_stay(store: Any) -> None:
    await fill(store)
    await store.save_presence([], [change(1, OTHERS)] + [change(time) for time in range(MOST_CHANGES)])
    await store.save_presence([], [change(1_000), change(1_001)])
    assert await times(store) == [*range(2, MOST_CHANGES), 1_000, 1_001]
    assert await times(store, OTHERS) == [1]


@pytest_twisted.ensureDeferred
async def test_what_is_old_goes_but_for_each_device_s_newest(store: Any) -> None:
    await fill(store)
    await store.save_presence([], [change(time) for time in (10, 20, 30)] + [change(5, OTHERS), change(6, OTHERS)])
    await store.save_presence([], [change(40)], forget=30)
    assert await times(store) == [20, 30, 40]
    assert await times(store, OTHERS) == [6]
    await store.save_presence([], forget=100)
    assert await times(store) == [40]


@pytest_twisted.ensureDeferred
async def test_those_of_devices_that_are_gone_are_passed_over_and_go_with_them(store: Any) -> None:
    await fill(store)
    await store.save_presence([], [change(1, UUID(int=404)), change(2)])
    assert await store.presence_changes(UUID(int=404), 0) == []
    await store.delete_device(MINE)
    assert await store.presence_changes(MINE, 0) == []


@pytest_twisted.ensureDeferred
async def test_more_than_are_written_at_once_are_all_kept(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rpcbroker.store.presence.IDS_AT_ONCE", 2)
    ids = [device(number).id for number in range(101, 106)]
    for number in range(101, 106):
        await store.create_device(device(number), token(device(number)))
    known = [LastPresence(device_id=each, connected_time=7) for each in ids]
    await store.save_presence(known, [change(time, each) for each in ids for time in (1, 2, 3)])
    assert [await store.presence(each) for each in ids] == known
    assert [await times(store, each) for each in ids] == [[1, 2, 3]] * 5
