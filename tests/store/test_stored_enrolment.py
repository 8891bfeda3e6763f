"""Provision keys, what came by them, and claims: the same on every store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import pytest_twisted
from fakes import CUSTOMER, EPOCH_MS, OTHER_TENANT, TENANT, customer, device, known_device, tenant, token

from rpcbroker.core.errors import AlreadyExists, NotFound, VersionConflict
from rpcbroker.core.model import Claim, PageLink, ProvisionKey, ProvisionStrategy

LINK = PageLink(page_size=10)


def key(number: int = 1, **more: Any) -> ProvisionKey:
    members = {"tenant_id": TENANT, "key": f"key-{number}", "digest": "d"} | more
    return ProvisionKey(id=device(number).id, created_time=EPOCH_MS + number, **members)


@pytest_twisted.ensureDeferred
async def test_keys_are_made_found_listed_disabled_and_deleted(store: Any) -> None:
    one = key(1, strategy=ProvisionStrategy.CHECK_PRE_PROVISIONED_DEVICES, device_type="pump")
    await store.people.create_tenant(tenant())
    await store.enrolment.create_provision_key(one)
    await store.enrolment.create_provision_key(key(2))
    await store.enrolment.create_provision_key(key(3, tenant_id=OTHER_TENANT))
    assert await store.enrolment.provision_key(one.id) == one
    assert await store.enrolment.provision_key_named("key-1") == one
    assert await store.enrolment.provision_key_named("KEY-1") is None
    page = await store.enrolment.provision_keys(TENANT, LINK)
    assert (page.items, page.total) == ((one, key(2)), 2)
    assert (await store.enrolment.provision_keys(TENANT, replace(LINK, text_search="PUMP"))).items == (one,)
    await store.enrolment.enable_provision_key(one.id, False)
    assert await store.enrolment.provision_key(one.id) == replace(one, enabled=False)
    await store.enrolment.delete_provision_key(one.id)
    assert await store.enrolment.provision_key(one.id) is None
    with pytest.raises(NotFound):
        await store.enrolment.enable_provision_key(one.id, True)


@pytest_twisted.ensureDeferred
async def test_a_key_is_nobody_elses_and_of_what_there_is(store: Any) -> None:
    await store.people.create_tenant(tenant())
    await store.people.create_customer(customer(tenant=OTHER_TENANT))
    await store.enrolment.create_provision_key(key(1))
    with pytest.raises(AlreadyExists):
        await store.enrolment.create_provision_key(key(2, key="key-1", tenant_id=OTHER_TENANT))
    with pytest.raises(NotFound):
        await store.enrolment.create_provision_key(key(3, customer_id=CUSTOMER))
    with pytest.raises(NotFound):
        await store.enrolment.create_provision_key(key(3, tenant_id=device(999).id))


@pytest_twisted.ensureDeferred
async def test_keys_go_with_their_tenant_and_outlive_their_customer(store: Any) -> None:
    await store.people.create_tenant(tenant())
    await store.people.create_customer(customer(tenant=OTHER_TENANT))
    one = key(1, tenant_id=OTHER_TENANT, customer_id=CUSTOMER)
    await store.enrolment.create_provision_key(one)
    await store.enrolment.create_provisioned(device(5, tenant=OTHER_TENANT), token(device(5)), one.id)
    await store.people.delete_customer(CUSTOMER, revoked=1)
    assert (await store.enrolment.provision_key(one.id)).customer_id is None
    await store.people.delete_tenant(OTHER_TENANT, revoked=1)
    assert await store.enrolment.provision_key(one.id) is None


@pytest_twisted.ensureDeferred
async def test_a_new_device_comes_with_all_or_nothing(store: Any) -> None:
    await store.enrolment.create_provision_key(key(1))
    new = replace(device(5), created_time=EPOCH_MS + 9)
    await store.enrolment.create_provisioned(new, token(new), key(1).id)
    assert await store.device(new.id) == new
    assert await store.matching_credentials(["TOKEN5"]) == (known_device(token(new), new, None),)
    used = replace(key(1), uses=1, last_used_time=EPOCH_MS + 9)
    assert await store.enrolment.provision_key(key(1).id) == used
    with pytest.raises(AlreadyExists):
        await store.enrolment.create_provisioned(replace(device(6), name=new.name), token(device(6)), key(1).id)
    with pytest.raises(AlreadyExists):
        await store.enrolment.create_provisioned(device(7), token(device(7), "TOKEN5"), key(1).id)
    await store.enrolment.enable_provision_key(key(1).id, False)
    for gone in (key(1).id, key(2).id):
        with pytest.raises(NotFound):
            await store.enrolment.create_provisioned(device(8), token(device(8)), gone)
    assert (await store.enrolment.provision_key(key(1).id)).uses == 1
    assert [await store.device(device(number).id) for number in (6, 7, 8)] == [None] * 3


@pytest_twisted.ensureDeferred
async def test_a_device_that_was_there_comes_once(store: Any) -> None:
    await store.enrolment.create_provision_key(key(1))
    one = device(5)
    await store.create_device(one, token(one))
    assert await store.matching_credentials(["TOKEN5"])
    new = replace(token(one, "NEW"), version=2)
    with pytest.raises(VersionConflict):
        await store.enrolment.provision(one.id, key(1).id, EPOCH_MS, replace(new, version=3))
    await store.enrolment.provision(one.id, key(1).id, EPOCH_MS, new)
    assert await store.matching_credentials(["TOKEN5"]) == ()
    assert await store.credentials(one.id) == new
    with pytest.raises(AlreadyExists):
        await store.enrolment.provision(one.id, key(1).id, EPOCH_MS, None)
    with pytest.raises(NotFound):
        await store.enrolment.provision(device(6).id, key(1).id, EPOCH_MS, None)
    assert (await store.enrolment.provision_key(key(1).id)).uses == 1
    assert await store.delete_device(one.id)
    await store.create_device(one, token(one))
    await store.enrolment.provision(one.id, key(1).id, EPOCH_MS, None)


@pytest_twisted.ensureDeferred
async def test_a_claim_is_taken_as_it_was_offered_and_once(store: Any) -> None:
    one = device(5)
    await store.create_device(one, token(one))
    await store.people.create_customer(customer())
    first, second = (Claim(device_id=one.id, digest=text, until_time=7) for text in ("a", "b"))
    await store.enrolment.offer(first)
    await store.enrolment.offer(second)
    assert await store.enrolment.offered(one.id) == second
    taken = replace(one, customer_id=CUSTOMER, version=2)
    with pytest.raises(NotFound):
        await store.enrolment.take(taken, first)
    with pytest.raises(VersionConflict):
        await store.enrolment.take(replace(taken, version=3), second)
    assert await store.device(one.id) == one
    await store.enrolment.take(taken, second)
    assert await store.device(one.id) == taken
    assert await store.enrolment.offered(one.id) is None
    with pytest.raises(NotFound):
        await store.enrolment.take(replace(taken, version=3), second)


@pytest_twisted.ensureDeferred
async def test_an_offer_goes_with_its_device(store: Any) -> None:
    one = device(5)
    claim = Claim(device_id=one.id, digest="a", until_time=7)
    with pytest.raises(NotFound):
        await store.enrolment.offer(claim)
    await store.create_device(one, token(one))
    await store.enrolment.offer(claim)
    assert await store.delete_device(one.id)
    assert await store.enrolment.offered(one.id) is None
