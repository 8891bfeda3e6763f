"""docs/feed.md: its tables are what is told, and its snapshot is one. Its programs are run in tests/integration."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from bulk_fleet import Fleet
from fakes import ADMIN, EPOCH_MS, TENANT, result_of
from feeding import feed_of, watch
from rule_world import TYPE_FILTER, RuleWorld, graph
from twisted.internet.defer import Deferred

from rpcbroker.core.calls import CallRequest, CallState, Step
from rpcbroker.core.errors import Reason
from rpcbroker.core.events import AttributesKept, QuestionAnswered, TelemetryKept
from rpcbroker.core.feed import FeedEvent
from rpcbroker.core.feed_sources import TOPICS
from rpcbroker.core.ledger import Ledger
from rpcbroker.core.model import Scope
from rpcbroker.core.near_misses import NearMiss
from rpcbroker.core.records import Mark
from rpcbroker.core.snapshot import Snapshot
from rpcbroker.feed.procedures import Procedures
from rpcbroker.feed.requests import RENEW

PAGE = (Path(__file__).parent.parent / "docs" / "feed.md").read_text()
OF_ALL = {"n", "seq", "ts"}


def first_cells(table: str) -> list[str]:
    return [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]


def names(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


def documented(family: str) -> set[str]:
    """The members of a family's events."""
    table = PAGE.partition(f"<!-- members: {family} -->\n")[2].partition("\n\n")[0]
    assert table
    return set().union(*map(names, first_cells(table)))


def told_of_rules_and_calls() -> list[FeedEvent]:
    world = RuleWorld()
    feed = feed_of(world)
    told, values = watch(feed), watch(feed, values=True)
    link = world.link(step=Step.WRITTEN)
    for request in (CallRequest(method="get"), CallRequest(method="set", persistent=True, request_id=UUID(int=7))):
        world.call(request)
        wire_id = link.calls[-1].wire_id
        link.session.progress(wire_id, b"1")
        link.session.receive(wire_id, b"2")
    world.clock.advance(1)
    ledger = Ledger(broker=world.broker, store=world.store)
    result_of(Deferred.fromCoroutine(ledger.delete(ADMIN, UUID(int=7))))
    world.call(CallRequest(method="get", expiration_time=1)).addErrback(lambda _: None)
    link.session.note(NearMiss.UNKNOWN_REPLY, "replied")
    emit, device = world.broker.events.emit, world.device
    emit(QuestionAnswered, device, "get", "MQTT", Reason.NO_HANDLER)
    emit(TelemetryKept, device.id, ((EPOCH_MS, {"t": 1}),))
    emit(AttributesKept, device.id, Scope.SHARED, {"a": 1}, ())
    recording = graph([(TYPE_FILTER, "Calls", {"messageTypes": ["X"]})])
    recording["nodes"][0]["debugSettings"] = {"allEnabled": True}
    world.put(recording)
    world.rules.engine.begin(TENANT, world.rules.messages.of_device(device, "X", b"{}", {}))
    return [*told, *values]


def told_of_bulks() -> list[FeedEvent]:
    fleet = Fleet(1, reply=b"1")
    told = watch(feed_of(fleet))
    fleet.begin()
    return told


@pytest.mark.parametrize("family", TOPICS)
def test_the_members_of_events_are_those_of_the_tables(family: str) -> None:
    events = [event for event in (*told_of_rules_and_calls(), *told_of_bulks()) if event.topic.split(".")[1] == family]
    assert set().union(*(event.members(True) for event in events)) - OF_ALL == documented(family)


def test_the_topics_are_those_of_the_table() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `rpcbroker.") and ".<" in line]
    assert {row.split(".")[1] for row in rows} == set(TOPICS)
    for row in rows:
        topic, _, when = row.removeprefix("| ").partition("|")
        words = TOPICS[topic.split(".")[1]]
        assert topic.count(".") == (3 if words else 2)
        assert set(words) <= names(when)
    assert {state.lower() for state in CallState} == set(TOPICS["call"])


def test_the_steps_are_those_that_are_told() -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith("| `step`"))
    listed = names(row.rpartition(": ")[2])
    assert listed <= set(map(str, Mark))
    assert set(map(str, Mark)) - listed == {"authorised", "routed", "queued", "resumed", "device told"}


def test_the_procedures_are_those_of_the_table() -> None:
    table = PAGE.partition("| procedure |")[2].partition("\n\n")[0]
    made = Procedures(broker=None, store=None, trail=None, snapshot=None, new_uuid=None, seconds=None)  # type: ignore[arg-type]
    assert {cell.strip(" `") for cell in first_cells(table)} == {*made._procedures, RENEW}


def test_the_snapshot_is_one() -> None:
    world = RuleWorld()
    feed = feed_of(world)
    watch(feed)
    link = world.link(step=None)
    world.call(CallRequest(method="getStatus", request_id=UUID(int=0xCA11))).addErrback(lambda _: None)
    link.session.report(link.calls[0].wire_id, Step.WRITTEN)
    (text,) = re.findall(r"<!-- snapshot -->\n```json\n(.*?)```", PAGE, re.DOTALL)
    shown: dict[str, Any] = json.loads(text)
    told = Snapshot(world.broker, feed, now_ms=world.now_ms).of_all(ADMIN)
    assert {**told, "seq": 0} == {**shown, "seq": 0}
    world.clock.advance(100)
