"""Subscriptions to the feed: what they fit, whom they tell what, and that a gap in `n` is a drop and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from fakes import ADMIN, CUSTOMER, EPOCH_MS, OTHER_TENANT, TENANT, World, device, result_of
from feeding import feed_of
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sessions import FakeConnection, FakeSession

from rpcbroker.core.calls import CallRequest
from rpcbroker.core.errors import InvalidRequest, PermissionDenied, TooManyRequests
from rpcbroker.core.events import TelemetryKept
from rpcbroker.core.feed import FeedEvent
from rpcbroker.core.model import Authority, Device, KeyAccess, KeyScope, Principal
from rpcbroker.feed.codec import CBOR, JSON, MESSAGEPACK
from rpcbroker.feed.ports import Serializer
from rpcbroker.feed.requests import wants_payloads
from rpcbroker.feed.uris import EXACT, PREFIX, WILDCARD
from rpcbroker.feed.watching import Watching, device_of, fitting, names_values

GET = CallRequest(method="get", params=b'{"pin":1}', timeout=10)
USER = replace(ADMIN, authority=Authority.CUSTOMER_USER, customer_id=CUSTOMER, user_id=UUID(int=11))
ID = str(device().id)
OTHER_ID = str(UUID(int=101))


class Watched(World):
    """A device, one of a customer, and one of another tenant; all are online and answer."""

    def __init__(self, **feed: Any) -> None:
        super().__init__()
        self.lamp = device(101, customer_id=CUSTOMER)
        self.foreign = device(102, tenant=OTHER_TENANT)
        for one in (self.lamp, self.foreign):
            self.add(one)
        for one in (self.device, self.lamp, self.foreign):
            self.link(one, reply=b'{"v":1}')
        self.feed = feed_of(self, **feed)
        self.watching = Watching(self.feed)

    def subscribe(
        self, session: FakeSession, topic: str, match: str = EXACT, *, number: int = 1, **options: Any
    ) -> None:
        self.watching.subscribe(session, number, topic, match, payloads=wants_payloads(session, options))

    def happen(self, of: Device | None = None) -> None:
        of = of or self.device
        result_of(self.call(GET, replace(ADMIN, tenant_id=of.tenant_id), of.id))


# -- which topics


@pytest.mark.parametrize(
    ("topic", "match", "states"),
    [
        (f"rpcbroker.call.{ID}.successful", EXACT, ["SUCCESSFUL"]),
        (f"rpcbroker.call.{ID}.failed", EXACT, []),
        (f"rpcbroker.call.{OTHER_ID}.successful", EXACT, []),
        (f"rpcbroker.call.{ID}.", PREFIX, ["QUEUED", "DELIVERED", "SUCCESSFUL"]),
        (f"rpcbroker.call.{ID}", PREFIX, ["QUEUED", "DELIVERED", "SUCCESSFUL"]),
        (f"rpcbroker.call.{ID}.s", PREFIX, ["SUCCESSFUL"]),
        (f"rpcbroker.call.{ID[:30]}", PREFIX, ["QUEUED", "DELIVERED", "SUCCESSFUL"]),
        ("rpcbroker.call", PREFIX, ["QUEUED", "DELIVERED", "SUCCESSFUL"]),
        ("rpcbroker.", PREFIX, ["QUEUED", "DELIVERED", "SUCCESSFUL"]),
        ("", PREFIX, ["QUEUED", "DELIVERED", "SUCCESSFUL"]),
        ("rpcbroker.device.", PREFIX, []),
        ("rpcbroker.values.", PREFIX, []),
        ("rpcbroker.call..", WILDCARD, ["QUEUED", "DELIVERED", "SUCCESSFUL"]),
        ("rpcbroker.call..successful", WILDCARD, ["SUCCESSFUL"]),
        (f"rpcbroker..{ID}.", WILDCARD, ["QUEUED", "DELIVERED", "SUCCESSFUL"]),
        (f"..{ID}.delivered", WILDCARD, ["DELIVERED"]),
        (f"rpcbroker..{OTHER_ID}.", WILDCARD, []),
        ("...", WILDCARD, ["QUEUED", "DELIVERED", "SUCCESSFUL"]),
        ("rpcbroker.call.", WILDCARD, []),
        ("rpcbroker.call...", WILDCARD, []),
        ("rpcbroker.bulk.", WILDCARD, []),
    ],
)
def test_a_subscription_gets_what_it_fits(topic: str, match: str, states: list[str]) -> None:
    world, session = Watched(), FakeSession()
    world.subscribe(session, topic, match)
    world.happen()
    assert [event["state"] for event in session.events()] == states
    assert [event["n"] for event in session.events()] == [number + 1 for number in range(len(states))]


@pytest.mark.parametrize(
    "topic",
    [
        "rpcbroker",
        "rpcbroker.call",
        "rpcbroker.call.x.sent",
        f"rpcbroker.call.{ID}",
        f"rpcbroker.call.{ID}.sended",
        f"rpcbroker.call.{ID}.SENT",
        f"rpcbroker.call.{ID}.sent.more",
        f"rpcbroker.calls.{ID}.sent",
        f"rpcbroker.call.{UUID(int=0xABC)}.sent".upper().replace("RPCBROKER.CALL", "rpcbroker.call"),
        "rpcbroker.bulk",
        f"rpcbroker.bulk.{ID}.done",
        f"rpcbroker.device.{ID}.sent",
        f"rpcbroker.values.{ID}.connected",
        "rpcbroker.rule.root",
    ],
)
def test_a_topic_that_is_never_published_is_refused_for_who_misspells_it_would_wait_for_ever(topic: str) -> None:
    world, session = Watched(), FakeSession()
    with pytest.raises(InvalidRequest, match="There is no topic"):
        world.subscribe(session, topic)
    assert world.feed._tenants == {}


@pytest.mark.parametrize("topic", [f"rpcbroker.call.{UUID(int=999)}.sent", f"rpcbroker.call.{UUID(int=102)}.sent"])
def test_a_device_that_is_foreign_is_as_silent_as_one_that_does_not_exist(topic: str) -> None:
    world, session = Watched(), FakeSession()
    world.subscribe(session, topic)
    world.happen(world.foreign)
    assert session.connection.sent == []


def test_patterns_say_which_topic_it_was() -> None:
    world, session = Watched(), FakeSession()
    world.subscribe(session, "rpcbroker.call..", WILDCARD)
    world.subscribe(session, f"rpcbroker.call.{ID}.successful", number=2)
    world.happen()
    assert session.topics()[-1] == f"rpcbroker.call.{ID}.successful"
    assert session.connection.sent[-1][3] == {}


def test_values_are_for_those_who_name_them() -> None:
    world, session = Watched(), FakeSession()
    for number, (topic, match) in enumerate(
        [
            ("rpcbroker.", PREFIX),
            (f"rpcbroker..{ID}.", WILDCARD),
            ("rpcbroker.values.", PREFIX),
            (f"rpcbroker.values.{ID}.", PREFIX),
            (f"rpcbroker.values.{ID}.telemetry", EXACT),
            ("rpcbroker.values..telemetry", WILDCARD),
            (f"rpcbroker.values.{OTHER_ID}.", PREFIX),
        ]
    ):
        world.subscribe(session, topic, match, number=number)
    world.broker.events.emit(TelemetryKept, world.device.id, ((EPOCH_MS, {"t": 1}),))
    assert [message[1] for message in session.connection.sent] == [2, 5, 3, 4]
    assert session.events(4)[0]["values"] == [{"ts": EPOCH_MS, "values": {"t": 1}}]


def test_the_index_finds_the_device_that_a_topic_names() -> None:
    """1,000 watchers, each of its own device: an event is compared with the topics of one."""
    world = Watched()
    for number in range(1_000):
        other = UUID(int=10_000 + number)
        for place, (topic, match) in enumerate(
            [
                (f"rpcbroker.call.{other}.sent", EXACT),
                (f"rpcbroker.call.{other}", PREFIX),
                (f"rpcbroker..{other}.", WILDCARD),
            ]
        ):
            world.subscribe(FakeSession(id=number), topic, match, number=place)
    watched = world.feed._tenants[TENANT]
    assert watched.told(False, world.device.id) == ()
    assert len(watched.told(False, UUID(int=10_000))) == 3


_parts = st.sampled_from(
    ["rpcbroker", "call", "device", "values", "bulk", "rule", ID, OTHER_ID, "sent", "", "x", ID[:9]]
)


EVENTS = [
    FeedEvent(1, EPOCH_MS, topic, {})
    for topic in (
        f"rpcbroker.call.{ID}.sent",
        f"rpcbroker.call.{OTHER_ID}.sent",
        f"rpcbroker.device.{ID}.connected",
        f"rpcbroker.values.{ID}.telemetry",
        f"rpcbroker.bulk.{ID}",
        f"rpcbroker.rule.{OTHER_ID}",
    )
]


@given(st.lists(_parts, max_size=5).map(".".join), st.sampled_from([EXACT, PREFIX, WILDCARD]))
def test_the_index_leaves_nothing_out(topic: str, match: str) -> None:
    """What a subscription fits is about the device under which it is found."""
    found = device_of(topic, match)
    for event in EVENTS:
        if fitting(topic, match)(event):
            family, about = event.topic.split(".")[1:3]
            assert found is None or (str(found) == about and family in ("call", "device", "values"))
            assert names_values(topic, match) <= (family == "values")


# -- who


def key(**scope: Any) -> Principal:
    return replace(ADMIN, scope=KeyScope(**{"access": KeyAccess.CALL} | scope), key_name="k")


@pytest.mark.parametrize("match", [(EXACT, "call.{}.queued"), (PREFIX, ""), (PREFIX, "call.{}"), (WILDCARD, "call..")])
@pytest.mark.parametrize(
    ("principal", "seen"),
    [
        (ADMIN, {"device", "lamp"}),
        (USER, {"lamp"}),
        (replace(ADMIN, tenant_id=OTHER_TENANT), {"foreign"}),
        (key(device_ids=(UUID(int=100),)), {"device"}),
        (key(customer_id=CUSTOMER), {"lamp"}),
        (key(access=KeyAccess.READ), {"device", "lamp"}),
        (replace(USER, customer_id=UUID(int=4)), set()),
    ],
)
def test_no_pattern_tells_more_than_may_be_seen(match: tuple[str, str], principal: Principal, seen: set[str]) -> None:
    world = Watched()
    for name in ("device", "lamp", "foreign"):
        one, session = getattr(world, name), FakeSession(principal)
        world.subscribe(session, "rpcbroker." + match[1].format(one.id), match[0])
        for each in (world.device, world.lamp, world.foreign):
            world.happen(each)
        told = {event["deviceId"] for event in session.events()}
        wide = str(one.id) not in match[1].format(one.id)
        allowed = {str(getattr(world, each).id) for each in seen}
        assert told == (allowed if wide else allowed & {str(one.id)})
        assert [event["n"] for event in session.events()] == list(range(1, len(session.events()) + 1))


def test_system_administrators_watch_no_devices() -> None:
    world = Watched()
    with pytest.raises(PermissionDenied):
        world.subscribe(FakeSession(replace(ADMIN, authority=Authority.SYS_ADMIN)), "rpcbroker.", PREFIX)


# -- payloads


@pytest.mark.parametrize(
    ("session", "options", "wanted"),
    [
        (FakeSession(), {}, False),
        (FakeSession(), {"payloads": True}, True),
        (FakeSession(), {"_payloads": True}, True),
        (FakeSession(), {"payloads": "yes"}, False),
        (FakeSession(payloads=True), {}, True),
        (FakeSession(key(access=KeyAccess.READ), payloads=True), {"payloads": True}, False),
        (FakeSession(key(methods=("set*",))), {"payloads": True}, False),
        (FakeSession(key(methods=("get*",))), {"payloads": True}, True),
    ],
)
def test_payloads_are_for_those_who_want_them_and_may(session: FakeSession, options: Any, wanted: bool) -> None:
    world = Watched()
    world.subscribe(session, "rpcbroker.call.", PREFIX, **options)
    session.connection.sent.clear()
    world.happen()
    first, *_, last = session.events()
    assert ("params" in first, "reply" in last) == (wanted, wanted)
    if wanted:
        assert (first["params"], last["reply"]) == ({"pin": 1}, {"v": 1})


def test_an_event_is_encoded_once_for_all_who_want_it_so() -> None:
    class Counting(type(JSON)):  # type: ignore[misc]
        encoded = 0

        def encode_members(self, members: dict[str, Any]) -> bytes:
            Counting.encoded += 1
            return JSON.encode_members(members)

    world = Watched()
    for number in range(50):
        session = FakeSession(payloads=number % 2 == 0, connection=FakeConnection(Counting()))
        world.subscribe(session, f"rpcbroker.call.{ID}.successful")
    world.happen()
    assert Counting.encoded == 2


@pytest.mark.parametrize("serializer", [JSON, MESSAGEPACK, CBOR], ids=lambda each: each.name)
def test_each_encoding_says_the_same(serializer: Serializer) -> None:
    world, session = Watched(), FakeSession(payloads=True, connection=FakeConnection(serializer))
    world.link(world.device, reply=b'{"large":18446744073709551615,"text":"\xc3\xbc\\u0000"}')
    world.subscribe(session, f"rpcbroker.call.{ID}.successful")
    world.happen()
    (event,) = session.events()
    large = "18446744073709551615"
    reply = event["reply"]
    assert (str(reply["large"]), reply["text"]) == (large, "ü\0")
    assert event["n"] == 1


# -- the end


def test_a_session_that_left_is_forgotten_with_all_that_it_held() -> None:
    world, session, stays = Watched(), FakeSession(), FakeSession()
    for number in range(20):
        world.subscribe(session, "rpcbroker.", PREFIX, number=number)
    world.subscribe(stays, "rpcbroker.", PREFIX)
    world.watching.unsubscribe(session, 3)
    world.watching.unsubscribe(session, 3)
    world.watching.left(session)
    world.watching.left(session)
    world.happen()
    assert session.connection.sent == []
    assert len(stays.events()) == 3
    assert len(world.watching._ends) == len(world.watching._held) == 1


def test_sessions_count_as_watchers_not_their_subscriptions() -> None:
    world, sessions = Watched(max_watchers=2), [FakeSession(), FakeSession()]
    for session in sessions:
        for number in range(10):
            world.subscribe(session, f"rpcbroker.call.{UUID(int=number)}.", PREFIX, number=number)
    with pytest.raises(TooManyRequests):
        world.subscribe(FakeSession(), "rpcbroker.", PREFIX)


# -- drops


class Drops(RuleBasedStateMachine):
    """A session that reads when it likes: `n` has a gap where something was dropped, and nowhere else."""

    def __init__(self) -> None:
        super().__init__()
        self.world = Watched()
        self.session = FakeSession(USER)
        self.session.connection.room = 5
        self.matched: dict[int, int] = {}
        self.number = 0

    @rule(topic=st.sampled_from([("rpcbroker.", PREFIX), (f"rpcbroker.call.{OTHER_ID}.queued", EXACT)]))
    def subscribe(self, topic: tuple[str, str]) -> None:
        self.number += 1
        self.world.subscribe(self.session, *topic, number=self.number)
        self.matched[self.number] = 0
        self.topics = {**getattr(self, "topics", {}), self.number: topic[1]}

    @rule()
    def unsubscribe(self) -> None:
        if self.matched:
            gone = min(self.matched)
            self.world.watching.unsubscribe(self.session, gone)
            del self.matched[gone]

    @rule(mine=st.booleans())
    def happen(self, mine: bool) -> None:
        self.world.happen(self.world.lamp if mine else self.world.device)
        if mine:
            for number in self.matched:
                self.matched[number] += 3 if self.topics[number] == PREFIX else 1

    @rule(room=st.integers(0, 4))
    def read(self, room: int) -> None:
        self.session.connection.room = room

    @invariant()
    def every_gap_is_a_drop(self) -> None:
        told = [(message[1], message[5]["n"]) for message in self.session.connection.sent]
        assert len(set(told)) == len(told)
        total = sum(self.matched.values())
        here = [(number, n) for number, n in told if number in self.matched]
        for number, most in self.matched.items():
            own = [n for each, n in here if each == number]
            assert own == sorted(own)
            assert all(1 <= n <= most for n in own)
        assert total - len(here) <= self.session.dropped


Drops.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestDrops = Drops.TestCase
