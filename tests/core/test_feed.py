"""The feed: numbers that increase, what is kept for who comes back, how many may watch, and who sees what."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from bulk_fleet import Fleet
from fakes import ADMIN, CUSTOMER, EPOCH_MS, OTHER_TENANT, TENANT, FakeLink, World, device, result_of
from feeding import feed_of, topics, watch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from rule_world import TYPE_FILTER, RuleWorld, graph

from rpcbroker.core.bulk import BulkState
from rpcbroker.core.bulk_run import TELL_EVERY
from rpcbroker.core.calls import CallRequest
from rpcbroker.core.errors import TooManyRequests
from rpcbroker.core.events import (
    AttributesKept,
    MessageRecorded,
    NearlyMissed,
    QuestionAnswered,
    TelemetryKept,
)
from rpcbroker.core.feed import FeedEvent, Watch
from rpcbroker.core.feed_sources import TOPICS
from rpcbroker.core.model import Authority, Device, KeyAccess, KeyScope, Principal, Scope
from rpcbroker.core.near_misses import NearMiss

GET = CallRequest(method="get", params=b"[1]", timeout=10)
CHAIN, NODE = (UUID(int=0xC4), "Root"), (UUID(int=0x40DE), "Call")


def call(world: World, *, of: Device | None = None, method: str = "get") -> None:
    link = world.link(of, reply=b'{"v":1}') if of else world.link(reply=b'{"v":1}')
    assert isinstance(link, FakeLink)
    result_of(
        world.call(
            structs.replace(GET, method=method),
            replace(ADMIN, tenant_id=link.session.device.tenant_id),
            link.session.device.id,
        )
    )


# -- numbers


def test_numbers_increase_one_by_one_for_all_of_a_tenant() -> None:
    world = World()
    feed = feed_of(world)
    one, other = watch(feed), watch(feed)
    call(world)
    call(world)
    numbers = [event.seq for event in one]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert [event.seq for event in other] == numbers
    assert feed.seq(TENANT) == numbers[-1]


def test_numbers_go_on_increasing_after_a_restart_and_when_nobody_watched_for_a_while() -> None:
    world = World()
    feed = feed_of(world)
    end = feed.watch(Watch(ADMIN, lambda event: None))
    call(world)
    before = feed.seq(TENANT)
    end()
    world.clock.advance(100)
    assert feed.seq(TENANT) > before
    assert feed_of(world).seq(TENANT) > before, "another process"


def test_a_tenant_does_not_see_how_much_goes_on_elsewhere() -> None:
    world = World()
    foreign = device(300, tenant=OTHER_TENANT)
    world.add(foreign)
    feed = feed_of(world)
    watch(feed, replace(ADMIN, tenant_id=OTHER_TENANT))
    mine = watch(feed)
    before = feed.seq(TENANT)
    call(world, of=foreign)
    assert mine == []
    assert feed.seq(TENANT) == before


# -- nobody watches


def test_nothing_is_listened_for_while_nobody_watches() -> None:
    world = World()
    feed = feed_of(world)
    listeners = world.broker.events._listeners
    before = {kind: len(each) for kind, each in listeners.items()}
    end = feed.watch(Watch(ADMIN, lambda event: None))
    assert sum(map(len, listeners.values())) > sum(before.values())
    end()
    end()
    world.clock.advance(61)
    assert {kind: len(each) for kind, each in listeners.items() if each} == before


# -- who comes back


def test_who_comes_back_misses_nothing() -> None:
    world = World()
    feed = feed_of(world)
    told: list[FeedEvent] = []
    end = feed.watch(Watch(ADMIN, told.append))
    call(world)
    end()
    call(world)
    assert feed.since(ADMIN, told[-1].seq)
    missed = feed.since(ADMIN, told[0].seq)
    assert missed is not None
    assert [event.seq for event in missed] == list(range(told[0].seq + 1, feed.seq(TENANT) + 1))
    assert feed.since(ADMIN, feed.seq(TENANT)) == []


@pytest.mark.parametrize("seq", [0, -1, EPOCH_MS * 1_000 + 1_000])
def test_who_comes_back_with_a_number_that_never_was_is_told_so(seq: int) -> None:
    world = World()
    feed = feed_of(world)
    watch(feed)
    call(world)
    assert feed.since(ADMIN, seq) is None


def test_who_comes_back_too_late_is_told_so() -> None:
    world = World()
    feed = feed_of(world)
    told = watch(feed)
    call(world)
    world.clock.advance(61)
    call(world)
    assert feed.since(ADMIN, told[0].seq) is None


def test_values_which_nobody_hears_of_again_are_not_missed() -> None:
    world = World()
    feed = feed_of(world)
    told = watch(feed)
    watch(feed, values=True)
    call(world)
    world.broker.events.emit(TelemetryKept, told[0].device.id, [(1, {"k": 1})])  # type: ignore[union-attr]
    last = feed.seq(TENANT)
    world.clock.advance(61)
    call(world)
    assert last not in {event.seq for event in told}
    assert [event.seq for event in feed.since(ADMIN, last) or ()] == list(range(last + 1, feed.seq(TENANT) + 1))
    assert feed.since(ADMIN, told[0].seq) is None


def test_what_is_kept_for_who_comes_back_is_bounded_in_bytes() -> None:
    world = World()
    feed = feed_of(world, max_replay_size=100_000)
    watch(feed)
    link = world.link(reply=b'"%b"' % (b"x" * 20_000))
    for _ in range(50):
        result_of(world.call(GET))
    assert link.calls
    kept = feed._tenants[TENANT].kept
    assert 0 < sum(event.size for event in kept) <= 100_000


def test_what_is_kept_is_not_kept_encoded_too() -> None:
    world = World()
    feed = feed_of(world)
    feed.watch(Watch(ADMIN, lambda event: event.encoded("json", True, lambda members: b"{}")))
    call(world)
    kept = feed._tenants[TENANT].kept
    assert kept
    assert not any(event._encoded for event in kept)


def test_one_event_that_is_larger_than_all_that_may_be_kept_is_told_and_not_kept() -> None:
    world = World()
    feed = feed_of(world, max_replay_size=10_000)
    told = watch(feed)
    world.link(reply=b'"%b"' % (b"x" * 20_000))
    result_of(world.call(GET))
    assert topics(told)[-1] == "call.successful"
    assert feed.since(ADMIN, told[-2].seq) is None


# -- how many watch


def test_a_tenant_has_so_many_watchers_and_no_more() -> None:
    feed = feed_of(World(), max_watchers=2)
    ends = [feed.watch(Watch(ADMIN, lambda event: None)) for _ in range(2)]
    with pytest.raises(TooManyRequests):
        watch(feed)
    watch(feed, replace(ADMIN, tenant_id=OTHER_TENANT))
    ends[0]()
    ends[0]()
    watch(feed)
    with pytest.raises(TooManyRequests):
        watch(feed)


def test_one_session_is_one_watcher_however_much_it_subscribes_to() -> None:
    feed = feed_of(World(), max_watchers=2)
    ends = [feed.watch(Watch(ADMIN, print, device_id=UUID(int=number), owner="one")) for number in range(10)]
    watch(feed)
    assert feed.watchers == 2
    for end in ends[1:]:
        end()
    assert feed.watchers == 2
    with pytest.raises(TooManyRequests):
        watch(feed)
    ends[0]()
    assert feed.watchers == 1
    watch(feed)


@pytest.mark.parametrize("device_id", [None, UUID(int=6)])
def test_one_session_cannot_have_each_event_looked_at_as_often_as_it_likes(device_id: UUID | None) -> None:
    feed = feed_of(World(), max_watchers=3)
    ends = [feed.watch(Watch(ADMIN, print, device_id=device_id, owner="one")) for _ in range(3)]
    for owner in ("one", "two"):
        with pytest.raises(TooManyRequests):
            feed.watch(Watch(ADMIN, print, device_id=device_id, owner=owner))
    feed.watch(Watch(ADMIN, print, device_id=UUID(int=7), owner="two"))
    ends[1]()
    feed.watch(Watch(ADMIN, print, device_id=device_id, owner="two"))


def test_many_watches_end_soon() -> None:
    feed = feed_of(World(), max_watchers=100_000)
    ends = [feed.watch(Watch(ADMIN, print, owner="one")) for _ in range(20_000)]
    start = time.monotonic()
    for end in reversed(ends):
        end()
    assert time.monotonic() - start < 0.5


def test_who_comes_and_goes_all_the_time_leaves_nothing_behind() -> None:
    world = World()
    feed = feed_of(world, replay=60.0)
    for _ in range(1_000):
        feed.watch(Watch(ADMIN, print))()
        feed.seq(TENANT)
        world.clock.advance(0.1)
    assert sum(map(len, world.broker.deadlines._slots.values())) < 10
    world.clock.advance(59)
    assert feed.is_watched(TENANT)
    world.clock.advance(61)
    assert not feed.is_watched(TENANT)


def test_for_a_while_after_the_number_was_told_nothing_is_missed() -> None:
    world = World()
    feed = feed_of(world, replay=60.0)
    feed.seq(TENANT)
    world.clock.advance(50)
    seq = feed.seq(TENANT)
    world.clock.advance(50)
    call(world)
    assert feed.since(ADMIN, seq)


def test_a_watcher_that_fails_disturbs_no_other(no_dropped_failures: list[str]) -> None:
    world = World()
    feed = feed_of(world)

    def fail(event: FeedEvent) -> None:
        raise ValueError("a bug")

    feed.watch(Watch(ADMIN, fail))
    told = watch(feed)
    call(world)
    assert topics(told)[-1] == "call.successful"
    assert no_dropped_failures
    no_dropped_failures.clear()


def test_those_of_one_device_cost_nothing_for_others() -> None:
    """1,000 watchers, each of its own device: an event looks at one."""
    world = World()
    feed = feed_of(world)
    asked: list[int] = []
    others = [device(1_000 + number) for number in range(1_000)]
    for one in others:
        feed.watch(
            Watch(ADMIN, lambda event: None, device_id=one.id, wants=lambda event: bool(asked.append(1)) or True)
        )
    told = watch(feed, device_id=world.device.id)
    call(world)
    assert told
    assert asked == []


# -- who sees what


class Town(World):
    """One device of the tenant, one of its customer, one of another customer; one of another tenant."""

    def __init__(self) -> None:
        super().__init__()
        self.free = self.device
        self.lamp = device(101, customer_id=CUSTOMER, type="lamp")
        self.other = device(102, customer_id=UUID(int=4))
        self.foreign = device(103, tenant=OTHER_TENANT)
        for one in (self.lamp, self.other, self.foreign):
            self.add(one)
        self.devices = (self.free, self.lamp, self.other, self.foreign)
        for one in self.devices:
            self.session(one)
        self.feed = feed_of(self)

    def happen(self) -> None:
        """One thing of each family, with each device."""
        emit = self.broker.events.emit
        for one in self.devices:
            self.link(one, reply=b'{"v":1}')
            admin = replace(ADMIN, tenant_id=one.tenant_id)
            result_of(self.call(GET, admin, one.id))
            emit(NearlyMissed, one, NearMiss.UNKNOWN_REPLY, "replied")
            emit(QuestionAnswered, one, "getX", "MQTT", None)
            emit(TelemetryKept, one.id, ((EPOCH_MS, {"t": 1}),))
            emit(AttributesKept, one.id, Scope.SHARED, {"a": 1}, ())
        emit(
            MessageRecorded,
            TENANT,
            CHAIN,
            NODE,
            "IN",
            UUID(int=1),
            "X",
            ("DEVICE", self.free.id),
            None,
            None,
            "{}",
            "{}",
        )


def key(**scope: Any) -> Principal:
    return replace(ADMIN, scope=KeyScope(**{"access": KeyAccess.CALL} | scope), key_name="k")


USER = replace(ADMIN, authority=Authority.CUSTOMER_USER, customer_id=CUSTOMER, user_id=UUID(int=11))
FREE, LAMP, OTHER, FOREIGN = "free", "lamp", "other", "foreign"
WHO: list[tuple[str, Principal, set[str], bool]] = [
    ("tenant", ADMIN, {FREE, LAMP, OTHER}, True),
    ("other tenant", replace(ADMIN, tenant_id=OTHER_TENANT), {FOREIGN}, False),
    ("customer", USER, {LAMP}, False),
    ("user of no customer", replace(USER, customer_id=None), set(), False),
    ("key to read", key(access=KeyAccess.READ), {FREE, LAMP, OTHER}, True),
    ("key for one device", key(device_ids=(UUID(int=102),)), {OTHER}, False),
    ("key for a type", key(device_types=("lamp",)), {LAMP}, False),
    ("key for a customer", key(customer_id=CUSTOMER), {LAMP}, False),
    ("key for methods", key(methods=("set*",)), {FREE, LAMP, OTHER}, True),
    ("customer's key for another device", replace(USER, scope=KeyScope(device_ids=(UUID(int=100),))), set(), False),
    ("system administrator", replace(ADMIN, authority=Authority.SYS_ADMIN, tenant_id=UUID(int=0)), set(), False),
]


@pytest.mark.parametrize(("principal", "seen", "rules"), [row[1:] for row in WHO], ids=[row[0] for row in WHO])
def test_each_sees_what_it_may_see_of_each_family(principal: Principal, seen: set[str], rules: bool) -> None:
    town = Town()
    names = {str(one.id): name for one, name in zip(town.devices, (FREE, LAMP, OTHER, FOREIGN), strict=True)}
    told, values = watch(town.feed, principal), watch(town.feed, principal, values=True)
    before = town.feed.seq(principal.tenant_id)
    town.happen()
    by_family: dict[str, set[str]] = {"call": set(), "device": set(), "values": set(), "rule": set()}
    for event in (*told, *values):
        family, entity = event.topic.split(".")[1:3]
        by_family[family].add(names.get(entity, entity))
    assert by_family == {
        "call": seen,
        "device": seen,
        "values": seen,
        "rule": {str(CHAIN[0])} if rules else set(),
    }
    assert {event.topic.split(".")[1] for event in values} <= {"values"}
    kept = town.feed.since(principal, before)
    assert kept is not None
    assert [event.seq for event in kept] == [event.seq for event in told]


@pytest.mark.parametrize(
    ("principal", "method", "may"),
    [
        (ADMIN, "get", True),
        (USER, "get", True),
        (key(access=KeyAccess.READ), "get", False),
        (key(), "get", True),
        (key(methods=("get*",)), "get", True),
        (key(methods=("get*",)), "set", False),
        (key(access=KeyAccess.MANAGE), "get", True),
    ],
)
def test_payloads_are_for_those_who_could_make_such_a_call(principal: Principal, method: str, may: bool) -> None:
    world = World()
    told = watch(feed_of(world))
    call(world, method=method)
    assert {event.payloads_may_be_seen(principal) for event in told if event.method} == {may}


def test_the_setting_switches_payloads_off() -> None:
    world = World()
    feed = feed_of(world, payloads=False)
    told, values = watch(feed), watch(feed, values=True)
    call(world)
    world.broker.events.emit(TelemetryKept, world.device.id, [(1, {"k": 1})])
    assert told
    assert not any(event.payloads for event in told)
    assert values == []


def test_a_device_that_changes_hands_is_seen_by_those_who_have_it_now() -> None:
    town = Town()
    told = watch(town.feed, USER)
    town.broker.device_changed(replace(town.lamp, customer_id=UUID(int=4), version=2))
    call(town, of=town.lamp)
    assert told == []


# -- devices


def test_presence_is_told_with_its_three_facts_and_its_cause() -> None:
    world = World()
    told = watch(feed_of(world))
    link = world.link()
    link.session.unsubscribe(link, "unsubscribed")
    link.session.detach(link, "lost")
    assert topics(told) == ["device.connected", "device.callable", "device.not_callable", "device.disconnected"]
    assert [(event.fields["connected"], event.fields["callable"], event.fields["cause"]) for event in told] == [
        (True, False, "connected over FAKE"),
        (True, True, "subscribed over FAKE"),
        (True, False, "unsubscribed"),
        (False, False, "lost"),
    ]


def test_each_topic_is_one_that_is_known() -> None:
    town = Town()
    told, values = watch(town.feed), watch(town.feed, values=True)
    town.happen()
    for event in (*told, *values):
        _, family, _, *word = event.topic.split(".")
        assert (word == [] and TOPICS[family] == ()) or word[0] in TOPICS[family]


# -- bulks


def test_a_bulk_is_told_when_it_begins_while_it_goes_on_and_when_it_ends() -> None:
    fleet = Fleet(60, reply=b"1")
    told = watch(feed_of(fleet))
    fleet.begin(plan={"rate": ((10, 1),)})
    for _ in range(300):
        fleet.clock.advance(0.05)
    bulks = [event.fields for event in told if event.topic.startswith("rpcbroker.bulk.")]
    assert bulks[0]["counts"]["waiting"] == 60
    assert bulks[-1]["state"] == BulkState.DONE
    assert bulks[-1]["counts"] == {
        "waiting": 0,
        "running": 0,
        "successful": 60,
        "failed": 0,
        "aborted": 0,
        "unknown": 0,
        "total": 60,
    }
    assert [each["endedTime"] for each in bulks[:-1]] == [None] * (len(bulks) - 1)
    assert bulks[-1]["endedTime"] == fleet.bulk().ended_time
    took = (bulks[-1]["ts"] - bulks[0]["ts"]) / 1000
    assert 5 <= len(bulks) <= took / TELL_EVERY + 2
    done = [each["counts"]["successful"] for each in bulks]
    assert done == sorted(done)


def test_what_a_bulk_waits_for_is_told_though_nothing_is_written_any_more() -> None:
    fleet = Fleet(3)
    told = watch(feed_of(fleet))
    fleet.begin()
    fleet.clock.advance(1)
    assert told[-1].fields["counts"]["running"] == 3


def test_a_bulk_is_for_those_who_may_see_it() -> None:
    fleet = Fleet(1, reply=b"1")
    feed = feed_of(fleet)
    who = {name: watch(feed, principal) for name, principal, _, _ in WHO}
    fleet.begin()
    seen = {name for name, told in who.items() if any("bulk" in event.topic for event in told)}
    assert seen == {"tenant", "key to read", "key for methods"}


# -- rules


def test_what_a_node_records_is_told_with_its_message_as_payloads() -> None:
    world = RuleWorld()
    given_graph = graph([(TYPE_FILTER, "Calls", {"messageTypes": ["X"]})])
    given_graph["nodes"][0]["debugSettings"] = {"allEnabled": True}
    chain_id = world.put(given_graph, name="Floor")
    told = watch(feed_of(world))
    message = world.rules.messages.of_device(world.device, "X", b'{"t":1}', {"k": "v"})
    world.rules.engine.begin(TENANT, message)
    events = [event for event in told if event.topic == f"rpcbroker.rule.{chain_id}"]
    assert [(event.fields["direction"], event.fields["label"]) for event in events] == [("IN", None), ("OUT", "True")]
    assert {event.fields["chainName"] for event in events} == {"Floor"}
    assert {event.fields["nodeName"] for event in events} == {"Calls"}
    assert "data" not in events[0].fields
    assert events[0].members(True)["data"] == '{"t":1}'
    assert '"k":"v"' in events[0].members(True)["metadata"]


@settings(deadline=None)
@given(st.lists(st.sampled_from(["call", "watch", "leave", "wait"]), max_size=30))
def test_whoever_watches_gets_every_number_from_then_on(steps: list[str]) -> None:
    world = World()
    world.link(reply=b"1")
    feed = feed_of(world)
    watching: list[tuple[int, list[int], Any]] = []
    for step in steps:
        if step == "call":
            result_of(world.call(GET))
        elif step == "watch":
            told: list[int] = []
            since = feed.seq(TENANT)
            watching.append((since, told, feed.watch(Watch(ADMIN, lambda event, told=told: told.append(event.seq)))))
        elif step == "leave" and watching:
            watching.pop(0)[2]()
        else:
            world.clock.advance(40)
    for since, told, _ in watching:
        assert told == list(range(since + 1, feed.seq(TENANT) + 1))
