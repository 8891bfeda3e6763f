"""One contract for all stores: tenants, customers, users, API keys, revocations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
import pytest_twisted
from fakes import CUSTOMER, EPOCH_MS, OTHER_TENANT, TENANT, customer, device, first_records, tenant, token
from twisted.internet.defer import DeferredList

from rpcbroker.core.errors import AlreadyExists, NotFound, VersionConflict
from rpcbroker.core.model import (
    NULL_UUID,
    ApiKey,
    AuditEntry,
    AuditFilter,
    Authority,
    DeviceFilter,
    KeyAccess,
    KeyScope,
    LastPresence,
    PageLink,
    User,
)

ALL = PageLink(page_size=100)
ADMIN = first_records()[1]


def user(number: int, **more: Any) -> User:
    members: dict[str, Any] = {
        "tenant_id": TENANT,
        "email": f"User{number}@example.org",
        "authority": Authority.TENANT_ADMIN,
        "password_hash": None,
        "created_time": EPOCH_MS + number,
    }
    return User(id=UUID(int=number), **members | more)


def key(number: int, owner: User = ADMIN, **more: Any) -> ApiKey:
    members: dict[str, Any] = {
        "tenant_id": owner.tenant_id,
        "user_id": owner.id,
        "description": f"key {number}",
        "digest": f"digest-{number}",
        "hint": "rpcb_",
        "scope": KeyScope(),
        "created_time": EPOCH_MS + number,
    }
    return ApiKey(id=UUID(int=number), **members | more)


def entry(tenant_id: UUID) -> AuditEntry:
    return AuditEntry(
        created_time=EPOCH_MS,
        tenant_id=tenant_id,
        customer_id=None,
        entity_type="DEVICE",
        entity_id=device().id,
        entity_name="n",
        user_id=ADMIN.id,
        user_name="u",
        action="RPC_CALL",
        data=None,
        failure="",
    )


class TestTenants:
    @pytest_twisted.ensureDeferred
    async def test_made_found_changed(self, store: Any) -> None:
        people = store.people
        made = tenant(contact={"city": "Linz"}, additional_info=[1, {"a": None}])
        await people.create_tenant(made)
        assert await people.tenant(made.id) == made
        changed = replace(made, title="new", contact={}, version=2)
        await people.update_tenant(changed)
        assert await people.tenant(made.id) == changed
        with pytest.raises(VersionConflict):
            await people.update_tenant(changed)
        with pytest.raises(NotFound):
            await people.update_tenant(tenant(99, version=2))

    @pytest_twisted.ensureDeferred
    async def test_titles_are_unique(self, store: Any) -> None:
        await store.people.create_tenant(tenant())
        with pytest.raises(AlreadyExists):
            await store.people.create_tenant(tenant(99, title="Default"))
        with pytest.raises(AlreadyExists):
            await store.people.update_tenant(tenant(title="Default", version=2))

    @pytest_twisted.ensureDeferred
    async def test_that_of_system_administrators_is_no_organisation(self, store: Any) -> None:
        assert await store.people.tenant(NULL_UUID) is None
        page = await store.people.tenants(ALL)
        assert (page.total, [each.title for each in page.items]) == (1, ["Default"])
        await store.people.create_user(user(50, tenant_id=NULL_UUID, authority=Authority.SYS_ADMIN))

    @pytest_twisted.ensureDeferred
    async def test_lists(self, store: Any) -> None:
        for number in range(20, 25):
            await store.people.create_tenant(tenant(number, created_time=EPOCH_MS - number))
        page = await store.people.tenants(PageLink(page_size=2, page=1, sort_property="title", descending=True))
        assert (page.total, [each.title for each in page.items]) == (6, ["tenant-22", "tenant-21"])
        page = await store.people.tenants(PageLink(page_size=9, text_search="NANT-2"))
        assert [each.title[-2:] for each in page.items] == ["24", "23", "22", "21", "20"]

    @pytest_twisted.ensureDeferred
    async def test_a_deleted_one_takes_all_that_is_its_along_and_nothing_else(self, store: Any) -> None:
        people = store.people
        await people.create_tenant(tenant())
        for id_, number in ((TENANT, 1000), (OTHER_TENANT, 2000)):
            made, owner = customer(number, tenant=id_), user(number + 2, tenant_id=id_)
            await people.create_customer(made)
            await people.create_user(owner)
            await people.create_user(
                user(number + 3, tenant_id=id_, customer_id=made.id, authority=Authority.CUSTOMER_USER)
            )
            await people.create_api_key(key(number + 4, owner), most=9)
            one = device(number + 1, tenant=id_, customer_id=made.id)
            await store.create_device(one, token(one))
            await store.save_presence([LastPresence(device_id=one.id, connected_time=1)])
            await store.audit.append([entry(id_)], since=0, max_entries=10)
            assert await store.device(one.id)
            assert await store.matching_credentials([f"TOKEN{number + 1}"])
        gone = await people.delete_tenant(OTHER_TENANT, revoked=7)
        assert (gone.devices, set(gone.users)) == ((UUID(int=2001),), {UUID(int=2002), UUID(int=2003)})
        with pytest.raises(NotFound):
            await people.delete_tenant(OTHER_TENANT, revoked=8)
        for id_, number, left in ((TENANT, 1000, True), (OTHER_TENANT, 2000, False)):
            one = UUID(int=number + 1)
            there = (
                await people.tenant(id_),
                await people.customer(UUID(int=number)),
                await people.user(UUID(int=number + 2)),
                (await people.api_keys(UUID(int=number + 2), ALL)).items,
                await store.device(one),
                await store.credentials(one),
                await store.matching_credentials([f"TOKEN{number + 1}"]),
                await store.presence(one),
                (await store.devices(DeviceFilter(tenant_id=id_), ALL)).items,
                (await store.audit.entries(AuditFilter(tenant_id=id_), ALL)).items,
            )
            assert [bool(each) for each in there] == [left] * len(there)


class TestCustomers:
    @pytest_twisted.ensureDeferred
    async def test_made_found_changed(self, store: Any) -> None:
        people = store.people
        made = customer(contact={"zip": "1"}, additional_info={"a": 1})
        await people.create_customer(made)
        assert await people.customer(made.id) == made
        assert await people.customer_by_title(TENANT, made.title) == made
        assert await people.customer_by_title(OTHER_TENANT, made.title) is None
        changed = replace(made, title="new", version=2)
        await people.update_customer(changed)
        assert await people.customer(made.id) == changed
        with pytest.raises(VersionConflict):
            await people.update_customer(changed)

    @pytest_twisted.ensureDeferred
    async def test_titles_are_unique_in_a_tenant(self, store: Any) -> None:
        people = store.people
        await people.create_tenant(tenant())
        await people.create_customer(customer(7))
        await people.create_customer(customer(8, tenant=OTHER_TENANT, title="customer-7"))
        with pytest.raises(AlreadyExists):
            await people.create_customer(customer(9, title="customer-7"))
        assert (await people.customers(TENANT, ALL)).total == 1

    @pytest_twisted.ensureDeferred
    async def test_a_deleted_one_takes_its_users_along_and_lets_its_devices_go(self, store: Any) -> None:
        people = store.people
        await people.create_customer(customer())
        mine = user(50, customer_id=CUSTOMER, authority=Authority.CUSTOMER_USER)
        await people.create_user(mine)
        await people.create_api_key(key(60, mine), most=9)
        one = device(customer_id=CUSTOMER)
        await store.create_device(one, token(one))
        assert await store.device(one.id) == one
        gone = await people.delete_customer(CUSTOMER, revoked=7)
        assert (gone.devices, gone.users) == ((one.id,), (mine.id,))
        with pytest.raises(NotFound):
            await people.delete_customer(CUSTOMER, revoked=8)
        assert await store.device(one.id) == replace(one, customer_id=None, version=2)
        assert await people.user(mine.id) is None
        assert (await people.api_keys(mine.id, ALL)).total == 0
        assert await people.user(ADMIN.id) == ADMIN


class TestUsers:
    @pytest_twisted.ensureDeferred
    async def test_made_found_changed_deleted(self, store: Any) -> None:
        people = store.people
        made = user(50, activation_nonce="n", activation_until=5, first_name="F", additional_info={"lang": "de"})
        await people.create_user(made)
        assert await people.user(made.id) == made
        assert await people.user_by_email("uSER50@EXAMPLE.org") == made
        changed = replace(made, password_hash="h", activation_nonce=None, enabled=False, version=2)
        await people.update_user(changed)
        assert await people.user(made.id) == changed
        with pytest.raises(VersionConflict):
            await people.update_user(changed)
        await people.delete_user(made.id, revoked=7)
        with pytest.raises(NotFound):
            await people.delete_user(made.id, revoked=8)
        with pytest.raises(NotFound):
            await people.update_user(replace(made, version=3))

    @pytest_twisted.ensureDeferred
    async def test_emails_are_unique_everywhere_whatever_their_case(self, store: Any) -> None:
        await store.people.create_tenant(tenant())
        with pytest.raises(AlreadyExists):
            await store.people.create_user(user(50, tenant_id=OTHER_TENANT, email="ADMIN@example.ORG"))
        await store.people.create_user(user(51))
        with pytest.raises(AlreadyExists):
            await store.people.update_user(user(51, email="ADMIN@example.org", version=2))
        await store.people.update_user(user(51, email="user51@EXAMPLE.org", version=2))

    @pytest_twisted.ensureDeferred
    async def test_lists(self, store: Any) -> None:
        people = store.people
        await people.create_tenant(tenant())
        await people.create_customer(customer())
        await people.create_user(user(50, first_name="Zoe"))
        await people.create_user(user(51, customer_id=CUSTOMER, authority=Authority.CUSTOMER_USER, last_name="Zoega"))
        await people.create_user(user(52, tenant_id=OTHER_TENANT, first_name="Zoe"))

        async def numbers(**more: Any) -> list[int]:
            link = {name: more.pop(name) for name in ("sort_property", "descending", "text_search") if name in more}
            page = await people.users(TENANT, PageLink(page_size=9, **link), **more)
            assert page.total == len(page.items)
            return [each.id.int for each in page.items]

        assert await numbers() == [10, 50, 51]
        assert await numbers(customer_id=CUSTOMER) == [51]
        assert await numbers(authority=Authority.TENANT_ADMIN) == [10, 50]
        assert await numbers(text_search="zOE") == [50, 51]
        assert await numbers(sort_property="email", descending=True) == [51, 50, 10]
        assert await numbers(sort_property="last_name") == [10, 50, 51], "null comes first"
        assert await numbers(sort_property="last_name", descending=True) == [51, 50, 10]


class TestWhatIsGone:
    """Somebody deletes a thing while another one is given to it."""

    @pytest_twisted.ensureDeferred
    async def test_nothing_can_be_put_there(self, store: Any) -> None:
        people, nowhere = store.people, UUID(int=404)
        await people.create_tenant(tenant())
        await people.create_customer(customer(8, tenant=OTHER_TENANT))
        await people.create_user(user(50))
        await store.create_device(device(), token(device()))
        foreign = UUID(int=8)
        for attempt in (
            lambda: people.create_customer(customer(tenant=nowhere)),
            lambda: people.create_user(user(51, tenant_id=nowhere)),
            lambda: people.create_user(user(51, customer_id=nowhere)),
            lambda: people.create_user(user(51, customer_id=foreign)),
            lambda: people.update_user(user(50, customer_id=nowhere, version=2)),
            lambda: people.create_api_key(key(60, user(404)), most=9),
            lambda: people.update_api_key(key(61)),
            lambda: store.create_device(device(7, tenant=nowhere), token(device(7))),
            lambda: store.create_device(device(7, customer_id=foreign), token(device(7))),
            lambda: store.update_device(device(customer_id=foreign, version=2)),
        ):
            with pytest.raises(NotFound):
                await attempt()
        assert store.failures == 0


class TestApiKeys:
    @pytest_twisted.ensureDeferred
    async def test_made_listed_changed_used_deleted(self, store: Any) -> None:
        people = store.people
        scope = KeyScope(
            access=KeyAccess.CALL,
            methods=("get*", "\x00"),
            oneway=False,
            device_ids=(UUID(int=1), UUID(int=2)),
            device_types=("pump",),
            customer_id=CUSTOMER,
        )
        made = key(60, scope=scope, expiration_time=5)
        assert await people.create_api_key(made, most=9) == ADMIN
        await people.create_api_key(key(61), most=9)
        page = await people.api_keys(ADMIN.id, ALL)
        assert page.items == (made, key(61))
        await people.used_api_keys({made.id: 7, UUID(int=404): 8})
        changed = replace(made, description="other", enabled=False, scope=KeyScope())
        assert await people.update_api_key(changed) == ADMIN
        page = await people.api_keys(ADMIN.id, PageLink(page_size=1, text_search="OTHER"))
        assert page.items == (replace(changed, last_used_time=7),)
        page = await people.api_keys(ADMIN.id, PageLink(page_size=9, sort_property="last_used_time"))
        assert [each.id.int for each in page.items] == [61, 60]
        await people.delete_api_key(made.id)
        assert (await people.api_keys(ADMIN.id, ALL)).items == (key(61),)
        await people.delete_user(ADMIN.id, revoked=7)
        assert (await people.api_keys(ADMIN.id, ALL)).items == ()

    @pytest_twisted.ensureDeferred
    async def test_nobody_has_more_than_the_most(self, store: Any) -> None:
        made = [store.people.create_api_key(key(60 + number), most=3) for number in range(5)]
        outcomes = [result for _, result in await DeferredList(made, consumeErrors=True)]
        assert outcomes[:3] == [ADMIN] * 3
        for failure in outcomes[3:]:
            assert "has 3 API keys already" in failure.value.message
        assert (await store.people.api_keys(ADMIN.id, ALL)).total == 3

    @pytest_twisted.ensureDeferred
    async def test_writing_one_tells_how_its_user_is_by_then(self, store: Any) -> None:
        disabled = replace(ADMIN, enabled=False, version=2)
        disabling, making = store.people.update_user(disabled), store.people.create_api_key(key(60), most=9)
        changing = store.people.update_api_key(key(60))
        await disabling
        assert await making == disabled
        assert await changing == disabled


class TestRevocations:
    @pytest_twisted.ensureDeferred
    async def test_they_come_with_what_they_are_about_or_not_at_all(self, store: Any, opened_again: Any) -> None:
        people = store.people
        for number in range(50, 54):
            await people.create_user(user(number))
        await people.update_user(user(50, version=2), revoked=70)
        await people.update_user(user(51, version=2))
        with pytest.raises(VersionConflict):
            await people.update_user(user(52, version=5), revoked=71)
        await people.delete_user(UUID(int=53), revoked=72)
        assert (await opened_again()).revoked_users == {UUID(int=50): 70, UUID(int=53): 72}

    @pytest_twisted.ensureDeferred
    async def test_whoever_was_deleted_with_others_is_among_them(self, store: Any, opened_again: Any) -> None:
        people = store.people
        await people.create_customer(customer())
        await people.create_user(user(50, customer_id=CUSTOMER, authority=Authority.CUSTOMER_USER))
        await people.create_tenant(tenant())
        await people.create_user(user(51, tenant_id=OTHER_TENANT))
        await people.delete_customer(CUSTOMER, revoked=70)
        await people.delete_tenant(OTHER_TENANT, revoked=71)
        assert (await opened_again()).revoked_users == {UUID(int=50): 70, UUID(int=51): 71}

    @pytest_twisted.ensureDeferred
    async def test_they_are_forgotten_when_their_time_is_over(self, store: Any, opened_again: Any) -> None:
        people = store.people
        for number in (10, 11):
            await people.revoke_session(f"until {number}", number)
        for number in (20, 21):
            await people.create_user(user(number))
            await people.delete_user(UUID(int=number), revoked=number)
        await people.forget_revoked(now=10, since=20)
        opened = await opened_again()
        assert opened.revoked == {"until 11": 11}
        assert opened.revoked_users == {UUID(int=21): 21}


@pytest_twisted.ensureDeferred
async def test_after_a_restart_all_keys_are_known_with_their_users(store: Any, opened_again: Any) -> None:
    await store.people.create_api_key(key(60), most=9)
    await store.people.used_api_keys({UUID(int=60): 7})
    opened = await opened_again()
    assert opened.api_keys == ((key(60, last_used_time=7), ADMIN),)
