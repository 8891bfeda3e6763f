"""What applications publish to each other, and who gets it."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
import pytest_twisted
from fakes import ADMIN, OTHER_TENANT, result_of, tenant
from hypothesis import given
from hypothesis import strategies as st
from wamp_world import Lists, Peer, WampWorld

from rpcbroker.core.model import Authority
from rpcbroker.feed import uris
from rpcbroker.feed.errors import Refused
from rpcbroker.feed.member import Member
from rpcbroker.feed.messages import Type
from rpcbroker.feed.ports import Payload
from rpcbroker.feed.subscriptions import Publication, Subscriptions

T = Type
TOPIC = "com.example.weather"


@pytest.fixture
def world() -> WampWorld:
    return WampWorld()


@pytest.fixture(scope="module")
def shared() -> WampWorld:
    """For tables: one for all their rows."""
    return WampWorld()


class TestPublishing:
    def test_subscribers_get_an_event(self, world: WampWorld) -> None:
        publisher, first, second, other = (world.join() for _ in range(4))
        subscription = first.subscribe(TOPIC)
        assert second.subscribe(TOPIC) == subscription
        other.subscribe("com.example.other")
        (publication,) = publisher.request(T.PUBLISH, {"acknowledge": True}, TOPIC, [1, "two"], {"three": None})
        event = [T.EVENT, subscription, publication, {}, [1, "two"], {"three": None}]
        assert [peer.told() for peer in (first, second, other)] == [[event], [event], []]

    def test_arguments_that_are_not_there_are_not_sent(self, world: WampWorld) -> None:
        publisher, subscriber = world.join(), world.join()
        subscriber.subscribe(TOPIC)
        for args, sent in (([], 4), ([[1]], 5), ([[], {"a": 1}], 6), ([[], {}], 4)):
            assert publisher.say(T.PUBLISH, 1, {}, TOPIC, *args) == []
            ((*event,),) = subscriber.told()
            assert len(event) == sent

    def test_a_publisher_gets_its_own_event_only_if_it_says_so(self, world: WampWorld) -> None:
        peer = world.join()
        peer.subscribe(TOPIC)
        for option, events in (({}, 0), ({"exclude_me": True}, 0), ({"exclude_me": False}, 1)):
            told = peer.say(T.PUBLISH, 1, option, TOPIC)
            assert [message[0] for message in told] == [T.EVENT] * events

    def test_who_published_is_told_if_it_says_so(self, world: WampWorld) -> None:
        publisher, subscriber = world.join(), world.join()
        subscriber.subscribe(TOPIC)
        publisher.publish(TOPIC, disclose_me=True)
        assert subscriber.told()[0][3] == {
            "publisher": publisher.member.id,
            "publisher_authid": "Admin@example.org",
            "publisher_authrole": "TENANT_ADMIN",
        }

    @pytest.mark.parametrize(
        ("topic", "match", "fits", "others"),
        [
            ("com.example", "prefix", ["com.example", "com.example.a", "com.examples"], ["com.exampl", "org.a"]),
            ("com.example.", "prefix", ["com.example.a.b"], ["com.example"]),
            ("", "prefix", ["a", "a.b.c"], []),
            ("com..x", "wildcard", ["com.a.x", "com.b.x"], ["com.a", "com.a.x.y", "com.a.y", "org.a.x"]),
            ("..", "wildcard", ["a.b.c"], ["a.b", "a.b.c.d"]),
            ("com.example", "wildcard", ["com.example"], ["com.example.a"]),
        ],
    )
    def test_patterns(self, shared: WampWorld, topic: str, match: str, fits: list[str], others: list[str]) -> None:
        publisher, subscriber = shared.join(), shared.join()
        subscription = subscriber.subscribe(topic, match=match)
        for each in others:
            publisher.publish(each)
        assert subscriber.told() == []
        for each in fits:
            publisher.publish(each)
            ((*event,),) = subscriber.told()
            assert (event[1], event[3]) == (subscription, {"topic": each})
        subscriber.session.lost()

    def test_each_of_ones_subscriptions_gets_an_event_of_its_own(self, world: WampWorld) -> None:
        publisher, subscriber = world.join(), world.join()
        ids = [
            subscriber.subscribe(TOPIC),
            subscriber.subscribe("com.", match="prefix"),
            subscriber.subscribe("com..weather", match="wildcard"),
        ]
        publisher.publish(TOPIC)
        assert [event[1] for event in subscriber.told()] == ids

    def test_it_is_encoded_once_for_all_who_speak_the_same(self, world: WampWorld) -> None:
        publisher, packed = world.join(), Lists("msgpack")
        subscribers = [world.join(serializer=each) for each in (world.lists, packed) for _ in range(10)]
        for subscriber in subscribers:
            subscriber.subscribe(TOPIC)
        before = world.lists.encoded, packed.encoded
        publisher.say(T.PUBLISH, 1, {}, TOPIC, ["x"])
        once = 2  # its arguments, and what is before them
        assert (world.lists.encoded, packed.encoded) == (before[0] + once, before[1] + once)
        assert all(len(subscriber.told()) == 1 for subscriber in subscribers)

    def test_arguments_are_encoded_once_for_all_subscriptions_that_it_fits(self, world: WampWorld) -> None:
        publisher, subscriber = world.join(), world.join(serializer=Lists())
        for length in range(1, len("com.example")):
            subscriber.subscribe("com.example"[:length], match="prefix")
        before = subscriber.serializer.encoded
        publisher.say(T.PUBLISH, 1, {}, TOPIC, ["x"])
        told = subscriber.told()
        assert len({event[1] for event in told}) == len(told) > 5
        assert subscriber.serializer.encoded == before + len(told) + 1

    def test_what_one_encoding_cannot_say_goes_to_the_others(self, world: WampWorld) -> None:
        publisher, poor = world.join(), Lists("poor")
        subscribers = [world.join(serializer=poor), world.join()]
        for subscriber in subscribers:
            subscriber.subscribe(TOPIC)
        poor.unsayable.append("x")
        publisher.publish(TOPIC, "x")
        assert [len(subscriber.told()) for subscriber in subscribers] == [0, 1]
        assert world.router.dropped == 1


class TestSubscribing:
    def test_the_same_again_is_the_same_subscription(self, world: WampWorld) -> None:
        publisher, peer = world.join(), world.join()
        assert peer.subscribe(TOPIC) == peer.subscribe(TOPIC) != peer.subscribe(TOPIC, match="prefix")
        publisher.publish(TOPIC)
        assert len(peer.told()) == 2

    def test_unsubscribing_ends_it(self, world: WampWorld) -> None:
        publisher, peer = world.join(), world.join()
        subscription = peer.subscribe(TOPIC)
        assert peer.request(T.UNSUBSCRIBE, subscription) == []
        publisher.publish(TOPIC)
        assert peer.told() == []
        assert peer.request(T.UNSUBSCRIBE, subscription)[0] == "wamp.error.no_such_subscription"

    def test_nobody_ends_a_subscription_of_others(self, world: WampWorld) -> None:
        publisher, peer, stranger = world.join(), world.join(), world.join()
        subscription = peer.subscribe(TOPIC)
        for each in (subscription, subscription + 1, 2**53):
            assert stranger.request(T.UNSUBSCRIBE, each)[0] == "wamp.error.no_such_subscription"
        publisher.publish(TOPIC)
        assert len(peer.told()) == 1

    @pytest.mark.parametrize("end", [lambda peer: peer.session.lost(), lambda peer: peer.say(T.WELCOME, 1, {})])
    def test_nothing_is_left_of_a_session_that_has_ended(self, world: WampWorld, end: Any) -> None:
        publisher, peer = world.join(), world.join()
        for match in ("exact", "prefix", "wildcard"):
            peer.subscribe(TOPIC, match=match)
        end(peer)
        peer.sent.clear()
        publisher.publish(TOPIC)
        assert peer.sent == []


class TestWhoMay:
    @pytest.mark.parametrize(
        "uri", ["", "a..b", ".a", "a.", "a b", "a#b", "a\n", "a.b\n", "\ta", " ", "x" * 501, "x." * 50_000 + "x"]
    )
    def test_uris_that_are_none_are_refused_and_the_session_lives(self, shared: WampWorld, uri: str) -> None:
        peer = shared.join()
        for kind in (T.PUBLISH, T.SUBSCRIBE, T.REGISTER, T.CALL):
            options = {"acknowledge": True} if kind == T.PUBLISH else {}
            assert peer.request(kind, options, uri)[0] == "wamp.error.invalid_uri"
        assert peer.say(T.PUBLISH, 1, {}, uri) == []
        assert peer.result("wamp.session.count") != []
        peer.session.lost()

    @pytest.mark.parametrize(
        ("uri", "match", "good"),
        [
            ("", "prefix", True),
            ("a.", "prefix", True),
            ("a..", "prefix", False),
            (".a", "prefix", False),
            ("a..b", "wildcard", True),
            ("...", "wildcard", True),
            ("a b", "wildcard", False),
            ("." * 9, "wildcard", True),
            ("." * 10, "wildcard", False),
            ("rpcbroker.call.6f1c0d5e-0000-4000-8000-000000000000.sent", "exact", True),
            ("\u00e4.\u4e2d", "exact", True),
        ],
    )
    def test_which_patterns_may_be(self, uri: str, match: str, good: bool) -> None:
        if good:
            uris.check(uri, match)
        else:
            with pytest.raises(Refused):
                uris.check(uri, match)

    @pytest.mark.parametrize(
        "uri", ["rpcbroker", "rpcbroker.call.x.sent", "rpcbroker.method.x", "wamp", "wamp.x", "wamp.session.on_join"]
    )
    def test_nobody_publishes_as_the_broker(self, shared: WampWorld, uri: str) -> None:
        peer, other = shared.join(), shared.join()
        other.subscribe("", match="prefix")
        other.subscribe("rpcbroker.", match="prefix")
        assert peer.publish(uri)[0] == "wamp.error.not_authorized"
        assert peer.say(T.PUBLISH, 1, {}, uri) == []
        assert other.told() == []
        for each in (peer, other):
            each.session.lost()

    def test_of_the_protocols_topics_there_are_two(self, world: WampWorld) -> None:
        peer = world.join()
        assert peer.request(T.SUBSCRIBE, {}, "wamp.subscription.on_create")[0] == "wamp.error.not_authorized"

    @pytest.mark.parametrize(
        "option", ["exclude", "exclude_authid", "exclude_authrole", "eligible", "eligible_authid", "eligible_authrole"]
    )
    def test_lists_of_receivers_are_refused_and_nobody_gets_it(self, shared: WampWorld, option: str) -> None:
        peer, other = shared.join(), shared.join()
        other.subscribe(TOPIC)
        assert peer.publish(TOPIC, **{option: []})[0] == "wamp.error.option_not_allowed"
        assert peer.say(T.PUBLISH, 1, {option: []}, TOPIC) == []
        assert other.told() == []
        for each in (peer, other):
            each.session.lost()

    @pytest_twisted.ensureDeferred
    async def test_nothing_goes_from_one_space_to_another(self, world: WampWorld) -> None:
        result_of(world.store.people.create_tenant(tenant()))
        one, two = world.add_customer("one"), world.add_customer("two")

        def user(name: str, customer: Any) -> str:
            return world.add_user(f"{name}@example.org", Authority.CUSTOMER_USER, customer=customer.id)

        device = [str(world.device.id)]
        spaces = {
            "another tenant": [world.add_user("f@example.org", Authority.TENANT_ADMIN, tenant=OTHER_TENANT)],
            "the tenant": [world.token, await world.api_key(access="CALL"), await world.api_key()],
            "one customer": [user("a", one), user("b", one), await world.key_for_customer(one.id)],
            "another customer": [user("c", two)],
            "one device": [await world.api_key(access="CALL", deviceIds=device) for _ in range(2)],
            "one type": [await world.api_key(access="CALL", deviceTypes=["default"])],
        }
        peers = {name: [world.join(ticket) for ticket in tickets] for name, tickets in spaces.items()}
        for peer in chain.from_iterable(peers.values()):
            for topic, match in ((TOPIC, "exact"), ("", "prefix"), ("..", "wildcard")):
                peer.subscribe(topic, match=match)
        for publishers in peers.values():
            publishers[0].session.receive([16, 1, {"exclude_me": False}, TOPIC])
            for others in peers.values():
                assert [len(peer.told()) for peer in others] == [3 * (others is publishers)] * len(others)

    @pytest_twisted.ensureDeferred
    async def test_keys_that_may_only_look_only_listen(self, world: WampWorld) -> None:
        admin, reader = world.join(), world.join(await world.api_key(access="READ"))
        narrow = world.join(await world.api_key(access="CALL", methods=["get*"]))
        admin.register("com.example.f")
        for peer in (reader, narrow):
            peer.subscribe(TOPIC)
            assert peer.publish(TOPIC)[0] == "wamp.error.not_authorized"
            assert peer.request(T.REGISTER, {}, "com.example.g")[0] == "wamp.error.not_authorized"
            assert peer.result("com.example.f") == ["wamp.error.not_authorized"]
        admin.publish(TOPIC)
        assert [len(peer.told()) for peer in (reader, narrow)] == [1, 1]


class TestLimits:
    def test_one_subscription_too_many_is_refused_and_the_session_lives(self) -> None:
        world = WampWorld(wamp={"max_subscriptions": 100})
        peer, other = world.join(), world.join()
        ids = [peer.subscribe(f"com.example.t{n}") for n in range(99)]
        ids.append(peer.subscribe("rpcbroker.", match="prefix"))
        for topic, match in (("com.example.more", "exact"), ("rpcbroker.call.", "prefix")):
            uri, (sentence,) = peer.request(T.SUBSCRIBE, {"match": match}, topic)
            assert (uri, "100" in sentence) == ("rpcbroker.error.too_many_subscriptions", True)
        assert peer.subscribe("com.example.t0") == ids[0]
        assert other.subscribe("com.example.more")
        peer.request(T.UNSUBSCRIBE, ids[0])
        assert peer.subscribe("com.example.more")

    def test_who_reads_slowly_misses_events_and_is_closed_in_the_end(self) -> None:
        world = WampWorld(feed={"slow_timeout": 30.0})
        publisher, slow, quick = world.join(), world.join(), world.join()
        for peer in (slow, quick):
            peer.subscribe(TOPIC)
        slow.stalled = True
        for _ in range(20):
            publisher.publish(TOPIC)
            world.pass_time(1)
        assert (world.router.dropped, len(quick.told()), slow.closed) == (20, 20, None)
        slow.stalled = False
        publisher.publish(TOPIC)
        slow.stalled = True
        world.pass_time(40)
        assert slow.closed is None
        publisher.publish(TOPIC)
        world.pass_time(29)
        assert slow.closed is None
        world.pass_time(3)
        assert slow.closed == (1013, "rpcbroker.close.slow")
        assert "21 messages were dropped" in slow.told()[-1][1]["message"]
        assert world.router.dropped == 21

    def test_who_has_read_all_that_it_was_sent_is_not_slow_though_nothing_more_comes(self) -> None:
        world = WampWorld(feed={"slow_timeout": 30.0})
        publisher, slow = world.join(), world.join()
        slow.subscribe(TOPIC)
        slow.stalled = True
        publisher.publish(TOPIC)
        world.pass_time(20)
        slow.stalled = False
        world.pass_time(60)
        assert (slow.closed, world.router.dropped) == (None, 1)

    def test_what_is_longer_than_a_peer_takes_is_dropped_and_ends_nothing(self) -> None:
        world = WampWorld(feed={"slow_timeout": 30.0})
        publisher, small = world.join(), world.join()
        small.subscribe(TOPIC)
        small.most = 512
        publisher.publish(TOPIC, "x" * 512)
        world.pass_time(60)
        assert (small.closed, small.told(), world.router.dropped) == (None, [], 1)


COMPONENT = st.sampled_from(["a", "b", "c"])
NAMES = st.lists(COMPONENT, min_size=1, max_size=4).map(".".join)
PATTERNS = st.one_of(
    NAMES.map(lambda topic: (topic, "exact")),
    st.tuples(NAMES, st.integers(0, 7)).map(lambda drawn: (drawn[0][: drawn[1]], "prefix")),
    st.lists(st.one_of(st.just(""), COMPONENT), min_size=1, max_size=4).map(
        lambda parts: (".".join(parts), "wildcard")
    ),
)


def fits(topic: str, pattern: str, match: str) -> bool:
    if match == "prefix":
        return topic.startswith(pattern)
    parts, wanted = topic.split("."), pattern.split(".")
    return len(parts) == len(wanted) and all(
        want in ((each,) if match == "exact" else (each, "")) for each, want in zip(parts, wanted, strict=True)
    )


@given(steps=st.lists(st.tuples(st.booleans(), PATTERNS), max_size=30), topic=NAMES)
def test_subscriptions_are_found_as_looking_at_each_would(
    steps: list[tuple[bool, tuple[str, str]]], topic: str
) -> None:
    subscriptions, present = Subscriptions(), {}
    peer = Peer(Lists())
    member = Member(1, ADMIN, peer, cancels=False, payloads=False, seconds=lambda: 0.0)
    for on, pattern in steps:
        if on:
            present[pattern] = subscriptions.subscribe(member, *pattern, None).id
        elif pattern in present:
            subscriptions.unsubscribe(member, present.pop(pattern))
    subscriptions.publish(Publication(id=1, topic=topic, payload=Payload(), details={}))
    assert sorted(event[1] for event in peer.told()) == sorted(
        each for pattern, each in present.items() if fits(topic, *pattern)
    )
    subscriptions.leave(member)
    assert not subscriptions._places | subscriptions._lengths | subscriptions._shapes | subscriptions._held
