"""How sessions begin and end: tickets, and what may be said when."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
import pytest_twisted
from fakes import OTHER_TENANT, result_of, tenant
from wamp_world import HELLO, Peer, WampWorld

from rpcbroker.core.model import Authority
from rpcbroker.feed.messages import Type
from rpcbroker.feed.surroundings import FEATURES

T = Type
KEYS = "/api/apiKeys/{}?pageSize=10&page=0"
BIG = 2**53


@pytest.fixture
def world() -> WampWorld:
    return WampWorld()


@pytest.fixture(scope="module")
def shared() -> WampWorld:
    """For tables: one for all their rows, which leave nothing behind."""
    return WampWorld()


def challenged(world: WampWorld) -> Peer:
    peer = world.connect()
    peer.say(T.HELLO, "rpcbroker", HELLO)
    return peer


def aborted(peer: Peer, told: list[list[Any]]) -> str:
    """With which reason; the connection is closed."""
    ((kind, details, uri),) = told
    assert kind == T.ABORT
    assert details["message"]
    assert peer.closed is not None
    assert peer.closed[1] == uri
    return str(uri)


class TestJoining:
    def test_a_token_joins_as_its_user(self, world: WampWorld) -> None:
        (welcome,) = challenged(world).say(T.AUTHENTICATE, world.token, {})
        kind, session, details = welcome
        assert kind == T.WELCOME
        assert 1 <= session <= BIG
        assert details.pop("roles") == {role: {"features": each} for role, each in FEATURES.items()}
        assert details == {
            "realm": "rpcbroker",
            "authid": "Admin@example.org",
            "authrole": "TENANT_ADMIN",
            "authmethod": "ticket",
            "authprovider": "rpcbroker",
        }

    @pytest_twisted.ensureDeferred
    async def test_an_api_key_joins_by_its_name(self, world: WampWorld) -> None:
        key = await world.api_key("a dashboard", access="READ")
        (welcome,) = challenged(world).say(T.AUTHENTICATE, key, {})
        assert (welcome[0], welcome[2]["authid"]) == (T.WELCOME, "a dashboard")

    @pytest.mark.parametrize(
        ("realm", "details", "uri"),
        [
            ("realm1", HELLO, "wamp.error.no_such_realm"),
            (None, HELLO, "wamp.error.no_such_realm"),
            ("rpcbroker", HELLO | {"authmethods": ["wampcra", "anonymous"]}, "wamp.error.no_matching_auth_method"),
            ("rpcbroker", HELLO | {"authmethods": []}, "wamp.error.no_matching_auth_method"),
            ("rpcbroker", {"roles": HELLO["roles"]}, "wamp.error.no_matching_auth_method"),
            ("rpcbroker", {"authmethods": ["ticket"]}, "wamp.error.protocol_violation"),
            ("rpcbroker", HELLO | {"roles": {}}, "wamp.error.protocol_violation"),
            ("rpcbroker", HELLO | {"roles": {"king": {}}}, "wamp.error.protocol_violation"),
            ("rpcbroker", HELLO | {"roles": {"caller": {"features": {"self": 1}}}}, "wamp.error.protocol_violation"),
            ("a b", HELLO, "wamp.error.protocol_violation"),
            (7, HELLO, "wamp.error.protocol_violation"),
        ],
    )
    def test_hello_is_refused(self, shared: WampWorld, realm: Any, details: dict[str, Any], uri: str) -> None:
        peer = shared.connect()
        assert aborted(peer, peer.say(T.HELLO, realm, details)) == uri

    @pytest.mark.parametrize("ticket", ["", "nonsense", "rpcb_nobody", "a.b.c", "x" * 100_000, "\u00fc"])
    def test_a_wrong_ticket_is_refused(self, shared: WampWorld, ticket: str) -> None:
        peer = challenged(shared)
        assert aborted(peer, peer.say(T.AUTHENTICATE, ticket, {})) == "wamp.error.authentication_failed"

    def test_system_administrators_are_refused(self, world: WampWorld) -> None:
        peer = challenged(world)
        told = peer.say(T.AUTHENTICATE, world.sys_token, {})
        assert aborted(peer, told) == "wamp.error.authentication_denied"

    @pytest.mark.parametrize("begin", [WampWorld.connect, challenged])
    def test_who_does_not_say_who_it_is_in_time_is_let_go(self, world: WampWorld, begin: Any) -> None:
        peer = begin(world)
        peer.told()
        world.pass_time(9.75)
        assert peer.told() == []
        world.pass_time(0.5)
        assert aborted(peer, peer.told()) == "wamp.error.timeout"

    def test_one_session_of_a_tenant_too_many_is_not_welcome(self) -> None:
        world = WampWorld(wamp={"max_sessions": 2})
        result_of(world.store.people.create_tenant(tenant()))
        first, _ = world.join(), world.join()
        peer = challenged(world)
        told = peer.say(T.AUTHENTICATE, world.token, {})
        assert aborted(peer, told) == "rpcbroker.error.too_many_sessions"
        assert world.join(world.add_user("f@example.org", Authority.TENANT_ADMIN, tenant=OTHER_TENANT))
        first.say(T.GOODBYE, {}, "wamp.close.normal")
        assert world.join()

    def test_who_joined_is_let_stay(self, world: WampWorld) -> None:
        peer = world.join()
        world.pass_time(60)
        assert peer.closed is None


CALL_WITHOUT_END = (T.CALL, 1, {}, "wamp.session.count")


class TestViolations:
    """Messages that cannot be, or cannot come now: the session ends, and others do not."""

    @pytest.mark.parametrize(
        "message",
        [
            (T.SUBSCRIBE, 1, {}, "com.example.topic"),
            CALL_WITHOUT_END,
            (T.AUTHENTICATE, "x", {}),
            (T.GOODBYE, {}, "wamp.close.normal"),
            (T.WELCOME, 1, {}),
            (T.CHALLENGE, "ticket", {}),
        ],
    )
    def test_before_hello(self, shared: WampWorld, message: tuple[Any, ...]) -> None:
        peer = shared.connect()
        assert aborted(peer, peer.say(*message)) == "wamp.error.protocol_violation"

    @pytest.mark.parametrize("message", [(T.HELLO, "rpcbroker", HELLO), CALL_WITHOUT_END, (T.GOODBYE, {}, "a.b")])
    def test_before_authenticate(self, shared: WampWorld, message: tuple[Any, ...]) -> None:
        peer = challenged(shared)
        assert aborted(peer, peer.say(*message)) == "wamp.error.protocol_violation"

    @pytest.mark.parametrize(
        "message",
        [
            (T.HELLO, "rpcbroker", HELLO),
            (T.AUTHENTICATE, "x", {}),
            (T.WELCOME, 1, {}),
            (T.CHALLENGE, "ticket", {}),
            (T.EVENT, 1, 1, {}),
            (T.RESULT, 1, {}),
            (T.SUBSCRIBED, 1, 1),
            (T.PUBLISHED, 1, 1),
            (T.REGISTERED, 1, 1),
            (T.UNSUBSCRIBED, 1),
            (T.INVOCATION, 1, 1, {}),
            (T.INTERRUPT, 1, {}),
            (7, 1, {}),
            (0,),
            (-1,),
            (337, 1),
            (10**30,),
            (True, "rpcbroker", HELLO),
            (48.0, 1, {}, "a"),
            ("48", 1, {}, "a"),
            (None,),
            ([],),
            ({},),
            (),
        ],
        ids=repr,
    )
    def test_what_no_client_says_once_it_has_joined(self, shared: WampWorld, message: tuple[Any, ...]) -> None:
        other, peer = shared.join(), shared.join()
        assert aborted(peer, peer.say(*message)) == "wamp.error.protocol_violation"
        assert other.result("com.example.procedure") == ["wamp.error.no_such_procedure"]

    @pytest.mark.parametrize(
        "message",
        [
            (T.SUBSCRIBE,),
            (T.SUBSCRIBE, 1),
            (T.SUBSCRIBE, 1, {}),
            (T.SUBSCRIBE, 1, {}, "a", []),
            (T.SUBSCRIBE, 1, [], "a"),
            (T.SUBSCRIBE, 1, None, "a"),
            (T.SUBSCRIBE, 1, {}, 7),
            (T.SUBSCRIBE, 1, {}, None),
            (T.SUBSCRIBE, 1, {"match": "regex"}, "a"),
            (T.SUBSCRIBE, 1, {"match": 1}, "a"),
            (T.UNSUBSCRIBE, 1),
            (T.UNSUBSCRIBE, 1, "x"),
            (T.PUBLISH, 1, {}),
            (T.PUBLISH, 1, {}, "a", "text"),
            (T.PUBLISH, 1, {}, "a", b"bytes"),
            (T.PUBLISH, 1, {}, "a", {}),
            (T.PUBLISH, 1, {}, "a", [], []),
            (T.PUBLISH, 1, {}, "a", [], {1: 2}),
            (T.PUBLISH, 1, {}, "a", [], {}, 1),
            (T.PUBLISH, 1, {"acknowledge": 1}, "a"),
            (T.PUBLISH, 1, {"exclude": "me"}, "a"),
            (T.PUBLISH, 1, {"forward_for": [{}]}, "a"),
            (T.REGISTER, 1, {"invoke": "all"}, "a"),
            (T.REGISTER, 1, {}, ["a"]),
            (T.UNREGISTER, 1, 1, 1, 1),
            (T.CALL, 1, {}, "a", [], {}, {}),
            (T.CALL, 1, {"timeout": "1"}, "a"),
            (T.CALL, 1, {"timeout": -1}, "a"),
            (T.CALL, 1, {"receive_progress": "yes"}, "a"),
            (T.CANCEL, 1),
            (T.CANCEL, 1, {"mode": "gently"}),
            (T.YIELD, 1, {}, "text"),
            (T.ERROR, T.CALL, 1, {}, "a.b"),
            (T.ERROR, T.INVOCATION, 1, {}, "a b"),
            (T.ERROR, 1, 1, {}, "a.b"),
            (T.GOODBYE, {}),
            (T.GOODBYE, "x", {}),
        ],
        ids=repr,
    )
    def test_wrong_lengths_and_types(self, shared: WampWorld, message: tuple[Any, ...]) -> None:
        peer = shared.join()
        assert aborted(peer, peer.say(*message)) == "wamp.error.protocol_violation"

    @pytest.mark.parametrize("bad", [0, -1, 1.5, 1.0, "1", True, None, BIG + 1, 10**40, [], {}], ids=repr)
    @pytest.mark.parametrize(
        "message",
        [
            (T.SUBSCRIBE, ..., {}, "a"),
            (T.UNSUBSCRIBE, ..., 1),
            (T.UNSUBSCRIBE, 1, ...),
            (T.PUBLISH, ..., {}, "a"),
            (T.REGISTER, ..., {}, "a"),
            (T.UNREGISTER, ..., 1),
            (T.UNREGISTER, 1, ...),
            (T.CALL, ..., {}, "a"),
            (T.CANCEL, ..., {}),
            (T.YIELD, ..., {}),
            (T.ERROR, T.INVOCATION, ..., {}, "a.b"),
        ],
        ids=repr,
    )
    def test_ids_are_whole_numbers_from_1_to_2_to_the_53(
        self, shared: WampWorld, message: tuple[Any, ...], bad: Any
    ) -> None:
        peer = shared.join()
        told = peer.say(*(bad if part is ... else part for part in message))
        assert aborted(peer, told) == "wamp.error.protocol_violation"

    def test_request_ids_need_not_count_up(self, world: WampWorld) -> None:
        peer = world.join()
        for request in (BIG, 7, 7, 1):
            assert peer.say(T.CALL, request, {}, "wamp.session.count")[0][:2] == [T.RESULT, request]

    def test_the_id_of_a_call_that_still_waits_is_no_other_calls(self, world: WampWorld) -> None:
        callee, peer = world.join(), world.join()
        callee.register("com.example.slow")
        peer.say(T.CALL, 5, {}, "com.example.slow")
        assert aborted(peer, peer.say(T.CALL, 5, {}, "com.example.slow")) == "wamp.error.protocol_violation"

    def test_options_that_nobody_knows_are_ignored(self, world: WampWorld) -> None:
        peer = world.join(agent="x", resumable=True, x_mine={"a": []})
        assert isinstance(peer.subscribe("com.example.a", x_mine=[{}], get_retained=True), int)
        assert len(peer.publish("com.example.a", 1, retain=True, ppt_scheme="x")) == 1

    def test_nothing_is_heard_after_the_end(self, world: WampWorld) -> None:
        peer = world.join()
        peer.say(T.WELCOME, 1, {})
        assert peer.say(*CALL_WITHOUT_END) == []
        peer.session.lost()
        assert world.router.open_sessions == 0


class TestEnding:
    def test_goodbye_is_answered_and_the_connection_closed(self, world: WampWorld) -> None:
        peer = world.join()
        assert peer.say(T.GOODBYE, {}, "wamp.close.close_realm") == [[T.GOODBYE, {}, "wamp.close.goodbye_and_out"]]
        assert peer.closed == (1000, "wamp.close.goodbye_and_out")

    @pytest.mark.parametrize("begin", [WampWorld.connect, challenged, WampWorld.join])
    def test_abort_ends_it_in_any_state(self, world: WampWorld, begin: Any) -> None:
        peer = begin(world)
        assert peer.say(T.ABORT, {}, "wamp.error.whatever") == []
        assert peer.closed is not None
        assert world.router.open_sessions == 0

    def test_when_the_broker_stops_all_are_told(self, world: WampWorld) -> None:
        joined, new = world.join(), world.connect()
        world.wamp.stop()
        (goodbye,), (abort,) = joined.told(), new.told()
        assert [goodbye[0], goodbye[2]] == [T.GOODBYE, "wamp.close.system_shutdown"]
        assert [abort[0], abort[2]] == [T.ABORT, "wamp.close.system_shutdown"]
        assert joined.closed == new.closed == (1001, "wamp.close.system_shutdown")

    def test_bytes_that_are_no_message_end_it(self, world: WampWorld) -> None:
        peer = world.join()
        peer.session.violate("This is no JSON")
        assert aborted(peer, peer.told()) == "wamp.error.protocol_violation"


class TestTickets:
    """They are looked at again while the session lasts."""

    def goodbye(self, peer: Peer) -> str:
        ((kind, details, uri),) = peer.told()
        assert kind == T.GOODBYE
        assert details["message"]
        assert peer.closed == (1008, uri)
        return str(uri)

    def test_an_expired_one_ends_the_session_within_a_second(self) -> None:
        world = WampWorld(token_lifetime=100.0)
        peer = world.join()
        world.pass_time(99)
        assert peer.closed is None
        world.pass_time(2)
        assert self.goodbye(peer) == "rpcbroker.close.ticket_expired"

    def test_a_renewed_one_goes_on(self) -> None:
        world = WampWorld(token_lifetime=100.0)
        peer = world.join()
        world.pass_time(90)
        assert peer.result("rpcbroker.session.renew", world.pair().token) == []
        world.pass_time(90)
        assert peer.closed is None
        world.pass_time(12)
        assert self.goodbye(peer) == "rpcbroker.close.ticket_expired"

    def test_one_of_another_user_or_with_other_rights_renews_nothing(self, world: WampWorld) -> None:
        peer = world.join()
        other = world.add_user("other@example.org", Authority.TENANT_ADMIN)
        for ticket, uri in (
            (other, "wamp.error.not_authorized"),
            (world.sys_token, "wamp.error.not_authorized"),
            (world.customer_token, "wamp.error.not_authorized"),
            ("nonsense", "wamp.error.authentication_failed"),
            (7, "wamp.error.invalid_argument"),
        ):
            assert peer.result("rpcbroker.session.renew", ticket) == [uri]
        assert peer.result("rpcbroker.session.renew") == ["wamp.error.invalid_argument"]
        world.pass_time(2)
        assert peer.closed is None

    def test_a_session_that_logs_out_is_closed(self, world: WampWorld) -> None:
        pair = world.pair()
        peer, other = world.join(pair.token), world.join()
        world.tokens.revoke(world.tokens.verify(pair.token).session_id)
        world.pass_time(1.25)
        assert self.goodbye(peer) == "rpcbroker.close.ticket_revoked"
        assert other.closed is None

    @pytest_twisted.ensureDeferred
    async def test_an_api_key_that_may_do_something_else_is_closed(self, world: WampWorld) -> None:
        peer = world.join(await world.api_key(access="MANAGE"))
        (key,) = (await world.ok("GET", KEYS.format(world.user.id)))["data"]
        await world.ok("POST", "/api/apiKey", {"id": key["id"], "description": "k", "scope": {"access": "READ"}})
        world.pass_time(1.25)
        assert self.goodbye(peer) == "rpcbroker.close.rights_changed"

    @pytest_twisted.ensureDeferred
    async def test_an_api_key_that_is_deleted_is_closed(self, world: WampWorld) -> None:
        peer = world.join(await world.api_key())
        (key,) = (await world.ok("GET", KEYS.format(world.user.id)))["data"]
        await world.ok("DELETE", f"/api/apiKey/{key['id']['id']}")
        world.pass_time(1.25)
        assert self.goodbye(peer) == "rpcbroker.close.ticket_revoked"


class TestWhoElseIsThere:
    def test_sessions_are_counted_listed_and_told_of(self, world: WampWorld) -> None:
        first, second = world.join(), world.join()
        ids = [first.member.id, second.member.id]
        assert first.result("wamp.session.count") == [2]
        assert first.result("wamp.session.count", ["CUSTOMER_USER"]) == [0]
        assert first.result("wamp.session.count", "x") == ["wamp.error.invalid_argument"]
        assert first.result("wamp.session.count", [["TENANT_ADMIN"]]) == ["wamp.error.invalid_argument"]
        assert first.result("wamp.session.list") == [ids]
        assert first.result("wamp.session.list", ["TENANT_ADMIN"]) == [ids]
        assert first.result("wamp.session.get", ids[1])[0]["authid"] == "Admin@example.org"
        for unknown in (5, "x", None, [1]):
            assert first.result("wamp.session.get", unknown) == ["wamp.error.no_such_session"]
        assert first.result("wamp.session.get") == ["wamp.error.no_such_session"]
        assert first.result("wamp.session.kill", ids[1]) == ["wamp.error.no_such_procedure"]

    def test_many_roles_and_many_sessions_are_counted_soon(self) -> None:
        world = WampWorld()
        first, *_ = [world.join() for _ in range(100)]
        roles = [str(number) for number in range(90_000)]
        start = time.monotonic()
        assert first.result("wamp.session.count", [*roles, "TENANT_ADMIN"]) == [100]
        assert time.monotonic() - start < 0.1

    def test_others_are_told_who_comes_and_goes(self, world: WampWorld) -> None:
        first = world.join()
        joins, leaves = first.subscribe("wamp.session.on_join"), first.subscribe("wamp.session.on_leave")
        second = world.join()
        (event,) = first.told()
        assert event[:2] == [T.EVENT, joins]
        session_id = second.member.id
        assert event[4] == [second.member.identity]
        second.session.lost()
        (event,) = first.told()
        assert event[1] == leaves
        assert event[4] == [session_id, "Admin@example.org", "TENANT_ADMIN"]

    @pytest_twisted.ensureDeferred
    async def test_nobody_sees_those_of_other_tenants_and_customers(self, world: WampWorld) -> None:
        result_of(world.store.people.create_tenant(tenant()))
        foreign = world.join(world.add_user("f@example.org", Authority.TENANT_ADMIN, tenant=OTHER_TENANT))
        admin = world.join()
        customers = [
            world.join(world.add_user(f"{n}@example.org", Authority.CUSTOMER_USER, customer=world.add_customer(n).id))
            for n in ("one", "two")
        ]
        key_of_one = world.join(await world.key_for_customer(customers[0].member.principal.customer_id))
        peers = (foreign, admin, *customers)
        for peer in peers:
            peer.subscribe("wamp.session.", match="prefix")
        assert [peer.result("wamp.session.count") for peer in peers] == [[1], [4], [2], [1]]
        assert customers[1].result("wamp.session.get", key_of_one.member.id) == ["wamp.error.no_such_session"]
        key_of_one.session.lost()
        assert [len(peer.told()) for peer in peers] == [0, 1, 1, 0]


def test_a_customers_user_without_a_customer_shares_no_space(world: WampWorld) -> None:
    nobody = replace(world.user, id=world.new_uuid(), email="n@example.org", authority=Authority.CUSTOMER_USER)
    result_of(world.store.people.create_user(nobody))
    admin, peer = world.join(), world.join(world.pair(nobody).token)
    subscription = admin.subscribe("", match="prefix")
    peer.publish("com.example.secret", 1)
    assert subscription
    assert admin.told() == []
