"""Nothing of a tenant, or of a customer, can be read, changed or even guessed at by those who have no business there.

Every route is walked, by everybody who might try, with the ids and the names of another tenant's things, and once
more with ids and names that nobody has: the answers must not differ. Whoever adds a route has to tell `Asking` what
to ask it for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
import pytest_twisted
from estate import Asking, Estate, Things, nobodys
from fakes import OTHER_TENANT, TENANT, result_of
from rest import NULL_TENANT, Rest
from streams import Stream

from rpcbroker.api.routes import Route
from rpcbroker.core.model import Authority, KeyAccess, KeyScope


@dataclass
class Attacker:
    """Somebody. `header` gives what is sent as X-Authorization, None for nothing."""

    header: Callable[[Estate], str | None]
    has: Callable[[Estate], Things]
    sees: Callable[[Estate], set[str]] = lambda _: set()
    always: int | None = None
    passed_over: set[str] = field(default_factory=set)


def of_customer(world: Estate) -> Things:
    return world.mine(world.mine_customer, world.mine_device)


def of_others(world: Estate) -> Things:
    return world.mine(world.their_customer, world.their_device)


def bearer(authority: Authority, customer: str = "", of: UUID = TENANT) -> Callable[[Estate], str | None]:
    def header(world: Estate) -> str:
        email = f"{authority.value}-attacker@example.org".lower()
        user = result_of(world.people.user_by_email(email))
        if user is None:
            user = world._user(email, authority, getattr(world, customer) if customer else None, of=of)
        return world.pair(user).token

    return header


def disabled(world: Estate) -> str:
    user = result_of(world.people.user_by_email("gone@example.org"))
    if user is None:
        user = world._user("gone@example.org", Authority.TENANT_ADMIN, None)
        world.gone_token = world.pair(user).token  # type: ignore[attr-defined]
        path = f"/api/user/{user.id}/userCredentialsEnabled?userCredentialsEnabled=false"
        assert_ok(world, "POST", path)
    return world.gone_token  # type: ignore[attr-defined,no-any-return]


def deleted(kind: str) -> Callable[[Estate], str | None]:
    def header(world: Estate) -> str:
        if not hasattr(world, "gone"):
            user = world._user("gone@example.org", Authority.TENANT_ADMIN, None)
            world._key(user, "gone", "gone-key")
            world.gone = {"token": world.pair(user).token, "key": "ApiKey gone-key"}  # type: ignore[attr-defined]
            assert_ok(world, "DELETE", f"/api/user/{user.id}")
        return world.gone[kind]  # type: ignore[attr-defined,no-any-return]

    return header


def key(**scope: Any) -> Callable[[Estate], str | None]:
    """An API key of the first tenant's administrator."""

    def header(world: Estate) -> str:
        if not hasattr(world, "has_key"):
            world.has_key = True  # type: ignore[attr-defined]
            given = {name: value(world) if callable(value) else value for name, value in scope.items()}
            world._key(world.user, "mine", "mine-key", KeyScope(**given))
        return "ApiKey mine-key"

    return header


def assert_ok(world: Estate, method: str, path: str) -> None:
    from twisted.internet.defer import Deferred

    assert result_of(Deferred.fromCoroutine(world.ask(method, path)))[0] == 200


def without_secrets(world: Estate) -> set[str]:
    """What somebody may see who may see everything but secrets."""
    return world.hidden() - {"token-of-501", "token-of-502", "nonce-of-", "value-of", world.its_key.digest}


ATTACKERS = {
    "an administrator of another tenant": Attacker(bearer(Authority.TENANT_ADMIN, of=OTHER_TENANT), of_others),
    "a user of another tenant's customer": Attacker(
        bearer(Authority.CUSTOMER_USER, "their_customer", OTHER_TENANT), of_others
    ),
    "a user of another customer": Attacker(bearer(Authority.CUSTOMER_USER, "mine_customer"), of_customer),
    "a user of no customer": Attacker(bearer(Authority.CUSTOMER_USER), of_customer),
    "a system administrator": Attacker(
        bearer(Authority.SYS_ADMIN, of=NULL_TENANT),
        of_others,
        lambda world: world.admins() | {"its-pending@example.org", str(world.pending.id), "its-"},
        passed_over={
            "saveTenant",
            "getTenantById",
            "getTenants",
            "deleteTenant",
            "getTenantAdmins",
            "getActivationLink",
        },
    ),
    "somebody who was disabled": Attacker(disabled, of_customer, always=401),
    "somebody who was deleted": Attacker(deleted("token"), of_customer, always=401),
    "the API key of somebody who was deleted": Attacker(deleted("key"), of_customer, always=401),
    "nobody": Attacker(lambda _: None, of_customer, always=401),
    "a made-up token": Attacker(lambda _: "a.b.c", of_customer, always=401),
    "a made-up API key": Attacker(lambda _: "ApiKey rpcb_x", of_customer, always=401),
    "a key to read one device": Attacker(
        key(access=KeyAccess.READ, device_ids=lambda world: (world.mine_device.id,)), of_customer, Estate.admins
    ),
    "a key to call devices of a type": Attacker(
        key(access=KeyAccess.CALL, device_types=("mine-type",)), of_customer, Estate.admins
    ),
    "a key to call devices of a customer": Attacker(
        key(access=KeyAccess.CALL, customer_id=lambda world: world.mine_customer.id), of_customer, Estate.admins
    ),
}


TABLE = Rest().table
BESIDES = {b"Date", b"Content-Length"}
"""Headers that may differ."""


def without_what_was_sent(asking: Asking, text: str) -> str:
    """`text` without what the request had in it, and without ids and times, which may differ."""
    for word in (*asking.its.texts(), *asking.mine.texts()):
        text = text.replace(word, "SENT").replace(quote(word), "SENT")
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", text)
    return re.sub(r'"(timestamp|createdTime)":\s*\d+', "TIME", text)


async def watched(world: Estate, method: str, path: str, body: Any, *, token: str | None) -> tuple[int, Any, Any]:
    """As Rest.ask, of a stream, while everything happens that may be told there; without its numbers."""
    stream = Stream(world, method, path, body, token=token)
    world.everything_happens()
    events = [(name, data | {"seq": 0, "ts": 0}) for name, data in stream.events()]
    stream.leave()
    return stream.response.code, events, stream.response.headers


async def answers(world: Estate, attacker: Attacker, route: Route, its: Things) -> list[tuple[int, str]]:
    """Status, and all of the answer that matters, of each request that can be made of this."""
    asking = Asking(its, attacker.has(world), knows=False)
    told = []
    for path, body in asking.requests(route):
        ask = partial(watched, world) if route.stream else world.ask
        status, answer, headers = await ask(route.method, path, body, token=attacker.header(world))
        if path.startswith("/metrics") or route.tag == "Server":
            answer = answer if status != 200 else None  # numbers, and pages that are the same for all
        told_in = sorted((name, value) for name, value in headers.getAllRawHeaders() if name not in BESIDES)
        text = json.dumps(answer) + str(told_in)
        told.append((status, without_what_was_sent(asking, text)))
    return told


@pytest.mark.parametrize("who", ATTACKERS)
@pytest_twisted.ensureDeferred
async def test_nobody_else_reads_changes_or_guesses_anything(who: str) -> None:
    world, attacker = Estate(), ATTACKERS[who]
    attacker.header(world)
    await world.ask("POST", f"/api/rpc/oneway/{world.its_device.id}", {"method": "recorded-method"})
    result_of(world.rest.flush())
    link_calls, before = len(world.its_link.calls), world.kept()
    hidden = world.hidden() | world.admins() - attacker.sees(world)
    hidden -= attacker.sees(world)
    for route in TABLE:
        if route.operation in attacker.passed_over:
            continue
        foreign = await answers(world, attacker, route, world.its)
        unknown = await answers(world, attacker, route, nobodys())
        assert foreign == unknown, f"{who} can tell by {route.operation} that something exists"
        for status, text in foreign:
            found = {word for word in hidden if word in text}
            assert not found, f"{route.operation} tells {who} about {found}"
            assert status < 500 or route.tag == "Calls", route.operation
            if attacker.always and route.roles is not None:
                assert status == attacker.always, route.operation
        assert world.kept() == before, f"{route.operation} let {who} change something"
    assert len(world.its_link.calls) == link_calls
    assert world.its_link.closed == []


@pytest.mark.parametrize("access", [KeyAccess.READ, KeyAccess.CALL])
@pytest_twisted.ensureDeferred
async def test_a_key_that_may_read_everything_changes_nothing_and_sees_no_secret(access: KeyAccess) -> None:
    world = Estate()
    attacker = Attacker(key(access=access), of_customer)
    attacker.header(world)
    before, secrets = world.kept(), world.hidden() - without_secrets(world)
    assert secrets
    for route in TABLE:
        if route.operation in {"cancelCall", "callManyDevices", "abortBulk"} and access is KeyAccess.CALL:
            continue  # who may call devices may cancel their calls
        for status, text in await answers(world, attacker, route, world.its):
            assert not {word for word in secrets if word in text}, route.operation
            assert route.method == "GET" or route.tag == "Calls" or status >= 400, route.operation
        assert world.kept() == before, route.operation


@pytest.mark.parametrize("route", TABLE, ids=lambda route: route.operation)
@pytest_twisted.ensureDeferred
async def test_the_rightful_owner_gets_an_answer_to_the_same_requests(route: Route) -> None:
    """Without this, nonsense would pass the other tests."""
    world = Estate()
    token = world.token if world.role_fits(route) else world.sys_token
    if route.roles == {Authority.CUSTOMER_USER}:
        token = world.pair(world.its_user).token
    its = world.its
    if route.operation == "unassignDeviceFromCustomer":
        assert world.its_device.customer_id
    asking = Asking(its, of_customer(world), knows=True)
    refused = {"loginPublic": 403, "assignDeviceToPublicCustomer": 400}
    if route.tag == "Rule engine":
        refused[route.operation] = 408  # no rule of theirs answers
    for path, body in asking.requests(route):
        if route.stream:
            status, answer, _ = await watched(world, route.method, path, body, token=token)
            assert answer, "it is told what happens"
        else:
            status, answer, _ = await world.ask(route.method, path, body, token=token)
        assert status == refused.get(route.operation, status if status in (200, 201) else 200), answer
