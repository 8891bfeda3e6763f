"""One contract for all stores: devices, their credentials, their presence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
import pytest_twisted
from fakes import CUSTOMER, EPOCH_MS, OTHER_TENANT, TENANT, customer, device, first_records, known_device, token

from rpcbroker.core.errors import AlreadyExists, NotFound, VersionConflict
from rpcbroker.core.model import CredentialsType, DeviceFilter, LastPresence, PageLink


@pytest_twisted.ensureDeferred
async def test_the_first_records_are_there(store: Any) -> None:
    user = await store.people.user_by_email("ADMIN@EXAMPLE.ORG")
    assert user == first_records()[1]
    assert await store.people.user(user.id) == user
    assert await store.people.user_by_email("nobody@example.org") is None
    assert await store.people.user(UUID(int=99)) is None


@pytest_twisted.ensureDeferred
async def test_it_answers_probes(store: Any) -> None:
    await store.ping()
    await store.ping_writer()
    assert (store.queued, store.failures) == (0, 0)


@pytest_twisted.ensureDeferred
async def test_a_device_is_found_again_in_every_way(store: Any) -> None:
    made = device(label="l", additional_info={"gateway": True, "n": [1, None]})
    await store.create_device(made, token(made))
    assert await store.device(made.id) == made
    assert await store.device(made.id) == made
    assert await store.device_by_name(TENANT, made.name) == made
    assert await store.device_by_name(OTHER_TENANT, made.name) is None
    assert await store.credentials(made.id) == token(made)
    assert await store.matching_credentials(["x", "TOKEN100"]) == (known_device(token(made), made, None),)
    assert await store.matching_credentials(["x"]) == ()


@pytest_twisted.ensureDeferred
async def test_who_comes_in_is_known_with_all_that_is_kept(store: Any) -> None:
    info = {"gateway": True, "n": [1, 1.5, None, 9_007_199_254_740_993], "\u00e9": '"\\\u2028'}
    made = device(1, label="\\", type="meter", customer_id=CUSTOMER, additional_info=info, version=7)
    full = replace(made, name='d"\u00e9\U0001f600')
    bare = device(2)
    await store.people.create_customer(customer())
    await store.create_device(full, token(full))
    await store.create_device(
        bare, replace(token(bare), type=CredentialsType.MQTT_BASIC, credentials_value='{"userName":"u"}')
    )
    last = LastPresence(
        device_id=full.id,
        connected_time=1,
        connected_cause="a",
        disconnected_time=2,
        disconnected_cause="b",
        seen_time=3,
        seen_cause="c",
    )
    await store.save_presence([last])
    first, second = sorted(
        await store.matching_credentials(["TOKEN1", "TOKEN2"]), key=lambda known: known.device.id.int
    )
    assert first == known_device(token(full), full, last)
    assert (second.type, second.credentials_value) == (CredentialsType.MQTT_BASIC, '{"userName":"u"}')
    assert (second.device, second.presence) == (bare, None)
    assert second.device.tenant_id is first.device.tenant_id, "one object for all devices of a tenant"


@pytest_twisted.ensureDeferred
async def test_who_comes_in_with_what_no_database_can_keep_is_unknown_and_keeps_nobody_else_out(store: Any) -> None:
    huge = device(1, additional_info={"n": 10**30, "x": 1e300})
    await store.create_device(huge, token(huge))
    odd = [store.matching_credentials([each]) for each in ("TOKEN1\x00", "\x00", '"', "\\u0000", "\uffff", "')--")]
    known = store.matching_credentials(["TOKEN1", "TOKEN1\x00x"])
    assert [await each for each in odd] == [()] * len(odd)
    assert await known == (known_device(token(huge), huge, None),)


@pytest_twisted.ensureDeferred
async def test_names_and_tokens_are_unique(store: Any) -> None:
    await store.create_device(device(1), token(device(1)))
    with pytest.raises(AlreadyExists, match="Device with such name already exists!"):
        await store.create_device(replace(device(2), name="device-1"), token(device(2)))
    with pytest.raises(AlreadyExists, match="Specified credentials are already registered!"):
        await store.create_device(device(3), token(device(3), "TOKEN1"))
    assert await store.device(UUID(int=3)) is None, "half a device"
    await store.create_device(device(4), token(device(4)))
    with pytest.raises(AlreadyExists):
        await store.update_device(replace(device(4), name="device-1", version=2))
    with pytest.raises(AlreadyExists):
        await store.update_credentials(replace(token(device(4)), credentials_id="TOKEN1", version=2))


@pytest_twisted.ensureDeferred
async def test_changes_are_seen_at_once_and_versions_are_checked(store: Any) -> None:
    await store.create_device(device(), token(device()))
    assert await store.device(device().id)
    assert await store.matching_credentials(["TOKEN100"])
    changed = replace(device(), label="new", version=2)
    await store.update_device(changed)
    assert await store.device(changed.id) == changed
    assert (await store.matching_credentials(["TOKEN100"]))[0].device == changed
    with pytest.raises(VersionConflict):
        await store.update_device(replace(device(), label="other", version=2))
    with pytest.raises(NotFound):
        await store.update_device(replace(device(5), version=2))
    await store.update_credentials(replace(token(device()), credentials_id="NEW", version=2))
    assert await store.matching_credentials(["TOKEN100"]) == ()
    assert await store.matching_credentials(["NEW"])


@pytest_twisted.ensureDeferred
async def test_a_deleted_device_leaves_nothing(store: Any) -> None:
    await store.create_device(device(), token(device()))
    await store.save_presence([LastPresence(device_id=device().id, connected_time=1)])
    assert await store.delete_device(device().id) is True
    assert await store.delete_device(device().id) is False
    assert await store.device(device().id) is None
    assert await store.credentials(device().id) is None
    assert await store.matching_credentials(["TOKEN100"]) == ()
    assert await store.presence(device().id) is None


@pytest_twisted.ensureDeferred
async def test_presence_is_replaced_and_passes_over_what_is_gone(store: Any) -> None:
    await store.create_device(device(), token(device()))
    mine = LastPresence(device_id=device().id, connected_time=1, connected_cause="c", seen_time=2, seen_cause="s")
    await store.save_presence([mine, LastPresence(device_id=UUID(int=404))])
    assert await store.presence(device().id) == mine
    later = replace(mine, disconnected_time=5, disconnected_cause="gone")
    await store.save_presence([later])
    assert await store.presence(device().id) == later
    assert await store.presence(UUID(int=404)) is None


@pytest_twisted.ensureDeferred
async def test_lists(store: Any) -> None:
    await store.people.create_customer(customer())
    for number in range(5):
        made = replace(
            device(200 + number, type="pump" if number % 2 else "valve"),
            name=f"D_{number}%",
            created_time=EPOCH_MS - number,
            customer_id=CUSTOMER if number < 2 else None,
        )
        await store.create_device(made, token(made))

    async def names(*customers: UUID, types: tuple[str, ...] = (), **link: Any) -> tuple[list[str], int]:
        wanted = DeviceFilter(tenant_id=TENANT, customer_ids=customers, types=types)
        page = await store.devices(wanted, PageLink(**{"page_size": 10} | link))
        return [item.device.name for item in page.items], page.total

    assert await names() == (["D_4%", "D_3%", "D_2%", "D_1%", "D_0%"], 5)
    assert await names(page_size=2, page=1, sort_property="name") == (["D_2%", "D_3%"], 5)
    assert await names(page_size=2, page=9) == ([], 5)
    assert await names(sort_property="name", descending=True, page_size=1) == (["D_4%"], 5)
    assert (await names(types=("pump",)))[1] == 2
    assert (await names(text_search="d_1"))[1] == 1
    assert (await names(text_search="%"))[1] == 5
    assert (await names(text_search="_%_"))[1] == 0, "wildcards are letters"
    assert (await names(CUSTOMER))[1] == 2
    page = await store.devices(DeviceFilter(tenant_id=OTHER_TENANT), PageLink(page_size=10))
    assert page.total == 0


class TestInfos:
    """Lists as people want to see them."""

    async def fill(self, store: Any) -> None:
        await store.people.create_customer(customer())
        for number in range(4):
            one = device(number, customer_id=CUSTOMER if number < 2 else None, type="pump" if number % 2 else "valve")
            await store.create_device(one, token(one))
        await store.save_presence(
            [
                LastPresence(device_id=UUID(int=0), connected_time=1),
                LastPresence(device_id=UUID(int=1), connected_time=1, disconnected_time=2),
                LastPresence(device_id=UUID(int=2)),
            ]
        )

    async def found(self, store: Any, **more: Any) -> list[int]:
        page = await store.devices(DeviceFilter(tenant_id=TENANT, **more), PageLink(page_size=9, sort_property="name"))
        assert page.total == len(page.items)
        return [each.device.id.int for each in page.items]

    @pytest_twisted.ensureDeferred
    async def test_they_tell_the_customers_title_and_whether_it_is_connected(self, store: Any) -> None:
        await self.fill(store)
        page = await store.devices(DeviceFilter(tenant_id=TENANT), PageLink(page_size=9, sort_property="name"))
        told = [(each.device.id.int, each.customer_title, each.connected) for each in page.items]
        assert told == [(0, "customer-3", True), (1, "customer-3", False), (2, None, False), (3, None, False)]
        assert page.items[0].device == device(0, customer_id=CUSTOMER, type="valve")

    @pytest_twisted.ensureDeferred
    async def test_all_that_is_asked_for_must_hold(self, store: Any) -> None:
        await self.fill(store)
        assert await self.found(store, connected=True) == [0]
        assert await self.found(store, connected=False) == [1, 2, 3]
        assert await self.found(store, customer_ids=(CUSTOMER,), connected=False) == [1]
        assert await self.found(store, ids=(UUID(int=1), UUID(int=3), UUID(int=404))) == [1, 3]
        assert await self.found(store, ids=(UUID(int=1), UUID(int=2)), types=("pump",)) == [1]
        assert await self.found(store, types=("pump", "valve"), customer_ids=(CUSTOMER,)) == [0, 1]

    @pytest_twisted.ensureDeferred
    async def test_types(self, store: Any) -> None:
        await self.fill(store)
        assert await store.device_types(DeviceFilter(tenant_id=TENANT)) == ("pump", "valve")
        assert await store.device_types(DeviceFilter(tenant_id=TENANT, ids=(UUID(int=1),))) == ("pump",)
        assert await store.device_types(DeviceFilter(tenant_id=OTHER_TENANT)) == ()

    @pytest_twisted.ensureDeferred
    async def test_after_a_kill_nobody_is_connected(self, store: Any, opened_again: Any) -> None:
        await self.fill(store)
        seen = LastPresence(device_id=UUID(int=3), connected_time=5, connected_cause="c", seen_time=9, seen_cause="s")
        await store.save_presence([seen])
        assert await self.found(store, connected=True) == [0, 3]
        await opened_again()
        assert await self.found(store, connected=True) == []
        first = await store.presence(UUID(int=0))
        assert (first.disconnected_time, first.disconnected_cause) == (1, "the server restarted")
        kept = await store.presence(UUID(int=3))
        assert kept == replace(seen, disconnected_time=9, disconnected_cause="the server restarted")
        assert (await store.presence(UUID(int=1))).disconnected_time == 2


@pytest_twisted.ensureDeferred
async def test_device_and_credentials_change_together_or_not_at_all(store: Any) -> None:
    for number in (1, 2):
        await store.create_device(device(number), token(device(number)))
    with pytest.raises(AlreadyExists):
        await store.update_device(
            replace(device(1), label="l", version=2), replace(token(device(1)), credentials_id="TOKEN2", version=2)
        )
    with pytest.raises(VersionConflict):
        await store.update_device(
            replace(device(1), label="l", version=2), replace(token(device(1)), credentials_id="NEW", version=3)
        )
    assert await store.device(UUID(int=1)) == device(1)
    changed, credentials = (
        replace(device(1), label="l", version=2),
        replace(token(device(1)), credentials_id="NEW", version=2),
    )
    await store.update_device(changed, credentials)
    assert await store.matching_credentials(["NEW", "TOKEN1"]) == (known_device(credentials, changed, None),)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("name", ["Ähre", "İzmir", "ΟΔΟΣ", "50 %_/\\"])
async def test_a_search_for_a_name_finds_it_whatever_its_letters(store: Any, name: str) -> None:
    mine = replace(device(1), name=name)
    await store.create_device(mine, token(mine))
    found = await store.devices(DeviceFilter(tenant_id=TENANT), PageLink(page_size=10, text_search=name))
    assert [info.device.name for info in found.items] == [name]
