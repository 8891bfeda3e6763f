"""The feed as server-sent events: what a watcher is told, from where on, and how its stream ends."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import msgspec
import pytest
import pytest_twisted
from fakes import CUSTOMER, EPOCH_MS, device, result_of
from rest import Rest
from streams import Stream
from twisted.internet.defer import Deferred

from rpcbroker.api.feed import Filter
from rpcbroker.core.calls import CallRequest, CallState
from rpcbroker.core.model import Authority
from rpcbroker.core.near_misses import NearMiss
from rpcbroker.schema.feed import SnapshotJSON

GATHER = 0.2
"""Seconds, more than events are gathered."""
STATES = ["QUEUED", "DELIVERED", "SUCCESSFUL"]
"""Of a call whose link acknowledges and answers it at once."""
OTHER = device(101, customer_id=CUSTOMER)


@pytest.fixture
def rest() -> Rest:
    rest = Rest()
    rest.add(OTHER)
    return rest


def watch(rest: Rest, query: str = "", *, token: str = "", **headers: str) -> Stream:
    """A stream that has begun."""
    stream = Stream(rest, "GET", f"/api/feed?{query}", token=token, headers=headers)
    assert stream.response.code == 200
    return stream


def told(stream: Stream) -> list[tuple[str, Any]]:
    stream.rest.clock.advance(GATHER)
    return stream.events()


def states(stream: Stream) -> list[str]:
    return [data.get("state", name) for name, data in told(stream)]


def call(rest: Rest, method: str = "get", device_id: UUID | None = None, **more: Any) -> Deferred[Any]:
    return rest.call(CallRequest(method=method, params=b'{"pin":7}', **more), device_id=device_id)


def key(rest: Rest, **scope: Any) -> str:
    body = {"description": "a key", "scope": scope}
    made = result_of(Deferred.fromCoroutine(rest.ok("POST", "/api/apiKey", body)))
    return f"ApiKey {made['value']}"


def test_each_step_of_a_call_is_an_event_with_its_number_and_its_count(rest: Rest) -> None:
    rest.link(reply=b'{"on":true}')
    stream = watch(rest)
    assert stream.header("content-type") == ["text/event-stream"]
    call(rest)
    rest.clock.advance(GATHER)
    events = stream.numbered()
    assert [event.name for event in events] == ["call"] * len(STATES)
    data = [json.loads(event.data) for event in events]
    assert [each["state"] for each in data] == STATES
    assert [each["n"] for each in data] == [1, 2, 3]
    last = data[-1]
    assert stream.reader.last_id == str(last["seq"])
    assert last["seq"] == data[0]["seq"] + 2
    assert last == {
        "n": 3,
        "topic": f"rpcbroker.call.{rest.device.id}.successful",
        "seq": last["seq"],
        "ts": EPOCH_MS,
        "deviceId": str(rest.device.id),
        "deviceName": rest.device.name,
        "rpcId": last["rpcId"],
        "method": "get",
        "oneway": False,
        "persistent": False,
        "state": "SUCCESSFUL",
        "step": "answered",
        "ms": 0,
        "transport": "FAKE",
        "ended": True,
    }


def test_what_happens_at_once_comes_in_one_piece_a_moment_later(rest: Rest) -> None:
    rest.link(reply=b"1")
    stream = watch(rest)
    stream.events()
    call(rest)
    assert stream.events() == []
    rest.clock.advance(0.05)
    call(rest)
    rest.clock.advance(0.07)
    assert len(stream.events()) == 2 * len(STATES)


def test_a_stream_begins_with_a_number_to_go_on_from(rest: Rest) -> None:
    stream = watch(rest)
    stream.events()
    rest.link(reply=b"1")
    stream.leave()
    call(rest)
    again = watch(rest, **{"Last-Event-ID": stream.reader.last_id})
    names = [data.get("state", name) for name, data in again.events()]
    assert names == ["device", "device", *STATES]


@pytest.mark.parametrize("how", ["header", "query"])
def test_who_comes_back_misses_nothing_and_hears_nothing_twice(rest: Rest, how: str) -> None:
    rest.link(reply=b"1")
    stream = watch(rest)
    call(rest)
    (*_, before) = told(stream)
    stream.leave()
    call(rest, "set")
    last_id = stream.reader.last_id
    if how == "header":
        again = watch(rest, "lastEventId=7", **{"Last-Event-ID": last_id})
    else:
        again = watch(rest, f"lastEventId={last_id}")
    call(rest, "third")
    found = told(again)
    assert [data["method"] for _, data in found] == ["set"] * len(STATES) + ["third"] * len(STATES)
    assert [data["seq"] for _, data in found] == [before[1]["seq"] + 1 + number for number in range(len(found))]
    assert [data["n"] for _, data in found] == list(range(1, 1 + len(found)))


def test_what_is_gone_on_with_is_filtered_too(rest: Rest) -> None:
    rest.link(reply=b"1")
    rest.link(OTHER, reply=b"1")
    stream = watch(rest)
    stream.events()
    call(rest, "get")
    call(rest, "set", OTHER.id)
    last = {"Last-Event-ID": stream.reader.last_id}
    assert {data["method"] for _, data in watch(rest, f"deviceId={OTHER.id}", **last).events()} == {"set"}
    assert {data["method"] for _, data in watch(rest, "method=g*", **last).events()} == {"get"}


@pytest.mark.parametrize("last", ["1", "0", "-1", "x", "9" * 19, "9" * 200, "\u00b2"])
def test_what_is_not_kept_any_more_is_a_gap(rest: Rest, last: str) -> None:
    rest.link(reply=b"1")
    stream = watch(rest, **{"Last-Event-ID": last})
    ((name, data),) = stream.events()
    assert name == "gap"
    assert data["hint"]
    assert stream.reader.last_id == str(data["seq"])
    call(rest)
    assert told(stream)[0][1]["seq"] == data["seq"] + 1, "and it goes on from there"


def test_after_a_while_without_watchers_there_is_a_gap(rest: Rest) -> None:
    stream = watch(rest)
    stream.events()
    stream.leave()
    rest.clock.pump([1.0] * 62)
    assert not rest.feed.is_watched(rest.device.tenant_id), "and nothing is kept"
    assert [name for name, _ in watch(rest, **{"Last-Event-ID": stream.reader.last_id}).events()] == ["gap"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("method=get", {"get"}),
        ("method=g*", {"get", "getState"}),
        ("method=*State", {"getState"}),
        ("method=g", set()),
        ("deviceId=", {"get", "getState", "set"}),
    ],
)
def test_only_calls_of_a_method(rest: Rest, query: str, expected: set[str]) -> None:
    rest.link(reply=b"1")
    stream = watch(rest, query + str(rest.device.id) if query == "deviceId=" else query)
    rest.session().note(NearMiss.UNKNOWN_TOPIC, "x")
    for method in ("get", "getState", "set"):
        call(rest, method)
    assert {data["method"] for name, data in told(stream) if name == "call"} == expected


def test_only_calls_in_a_state(rest: Rest) -> None:
    rest.link(reply=b"1")
    stream = watch(rest, "state=SUCCESSFUL")
    rest.session().note(NearMiss.UNKNOWN_TOPIC, "x")
    call(rest)
    assert states(stream) == ["SUCCESSFUL"]


def test_a_filter_without_members_lets_all_through() -> None:
    anything: Any = None
    assert Filter(None, None)(anything)


def test_only_one_device(rest: Rest) -> None:
    rest.link(reply=b"1")
    stream = watch(rest, f"deviceId={OTHER.id}")
    call(rest)
    link = rest.link(OTHER, reply=b"1")
    call(rest, device_id=OTHER.id)
    link.session.note(NearMiss.UNKNOWN_TOPIC, "has published to a/b")
    found = told(stream)
    assert {data["deviceId"] for _, data in found} == {str(OTHER.id)}
    assert found[-1][1]["detail"] == "has published to a/b"


@pytest.mark.parametrize(
    ("scope", "query", "seen"),
    [
        (None, "payloads=true", True),
        (None, "", False),
        ({"access": "READ"}, "payloads=true", False),
        ({"access": "CALL"}, "payloads=true", True),
        ({"access": "CALL", "methods": ["set*"]}, "payloads=true", False),
    ],
)
def test_payloads_are_for_those_who_ask_and_could_make_the_call(rest: Rest, scope: Any, query: str, seen: bool) -> None:
    rest.link(reply=b'{"on":true}')
    stream = watch(rest, query, token=key(rest, **scope) if scope else "")
    call(rest)
    first, *_, last = [data for _, data in told(stream)]
    assert (first.get("params"), last.get("reply")) == (({"pin": 7}, {"on": True}) if seen else (None, None))


@pytest_twisted.ensureDeferred
async def test_who_may_not_watch_and_what_cannot_be_asked_for_is_a_status(rest: Rest) -> None:
    customer = rest.add_user("c@example.org", Authority.CUSTOMER_USER, customer=CUSTOMER)
    assert (await rest.refused("GET", "/api/feed", token=None))[0] == 401
    assert (await rest.refused("GET", "/api/feed", token=rest.sys_token))[0] == 403
    foreign = await rest.refused("GET", f"/api/feed?deviceId={rest.device.id}", token=customer)
    assert foreign == await rest.refused("GET", f"/api/feed?deviceId={UUID(int=9)}", token=customer)
    assert foreign[0] == 404
    for query in ("deviceId=x", "state=x", "payloads=x", "method=%00", "method=" + "x" * 256):
        assert (await rest.refused("GET", f"/api/feed?{query}"))[0] == 400, query
    assert rest.feed._tenants == {}, "none of them watches"


def test_a_customer_hears_of_its_own_devices_only(rest: Rest) -> None:
    customer = rest.add_user("c@example.org", Authority.CUSTOMER_USER, customer=CUSTOMER)
    stream = watch(rest, token=customer)
    rest.link(reply=b"1")
    rest.link(OTHER, reply=b"1")
    call(rest)
    call(rest, device_id=OTHER.id)
    found = told(stream)
    assert {data["deviceId"] for _, data in found} == {str(OTHER.id)}
    assert [data["n"] for _, data in found] == list(range(1, len(found) + 1)), "n tells nothing of the others"


def test_one_watcher_more_than_may_is_refused(rest: Rest) -> None:
    rest = Rest(feed={"max_watchers": 2})
    streams = [watch(rest), watch(rest)]
    refused = Stream(rest, "GET", "/api/feed")
    assert refused.response.code == 429
    streams[0].leave()
    watch(rest)


def test_head_watches_nothing(rest: Rest) -> None:
    rest = Rest(feed={"max_watchers": 1})
    for _ in range(3):
        assert Stream(rest, "HEAD", "/api/feed").response.code == 200
    stream = watch(rest)
    assert not stream.over


def test_nothing_is_left_of_a_watcher_who_left(rest: Rest) -> None:
    stream = watch(rest)
    rest.link(reply=b"1")
    call(rest)
    stream.leave()
    rest.clock.advance(5)
    call(rest)
    assert not rest.feed._tenants[rest.device.tenant_id].owners
    assert rest.rest.streams._watchers == set()


def test_a_stream_ends_when_its_token_expires(rest: Rest) -> None:
    rest = Rest(token_lifetime=60)
    rest.link(reply=b"1")
    stream = watch(rest)
    rest.clock.advance(58)
    call(rest)
    assert states(stream) == STATES
    rest.clock.advance(1.9)
    ((name, error),) = stream.events()
    assert (name, error["status"], error["errorCode"]) == ("error", 401, 11)
    assert stream.over


@pytest_twisted.ensureDeferred
async def test_a_stream_ends_within_a_second_when_who_watches_logs_out(rest: Rest) -> None:
    stream = watch(rest)
    stream.events()
    await rest.ask("POST", "/api/auth/logout")
    rest.clock.advance(1.02)
    ((name, error),) = stream.events()
    assert (name, error["status"]) == ("error", 401)
    assert stream.over


@pytest_twisted.ensureDeferred
async def test_a_stream_ends_within_a_second_when_its_key_is_revoked(rest: Rest) -> None:
    made = await rest.ok("POST", "/api/apiKey", {"description": "k", "scope": {"access": "READ"}})
    rest.link(reply=b"1")
    stream = watch(rest, token=f"ApiKey {made['value']}")
    stream.events()
    await rest.ok("DELETE", f"/api/apiKey/{made['id']['id']}")
    rest.clock.advance(0.95)
    call(rest)
    rest.clock.advance(0.07)
    ((name, error),) = stream.events()
    assert (name, error["status"]) == ("error", 401), "what had waited is not for it any more"
    assert stream.over


def test_what_may_be_seen_is_what_may_be_seen_now(rest: Rest) -> None:
    customer = rest.add_user("c@example.org", Authority.CUSTOMER_USER, customer=CUSTOMER)
    stream = watch(rest, token=customer)
    rest.link(OTHER, reply=b"1")
    call(rest, device_id=OTHER.id)
    assert told(stream)
    moved = result_of(Deferred.fromCoroutine(rest.ask("DELETE", f"/api/customer/device/{OTHER.id}")))
    assert moved[0] == 200
    call(rest, device_id=OTHER.id)
    assert told(stream) == []


def test_when_the_broker_stops_what_waits_is_told_and_then_why_it_ends(rest: Rest) -> None:
    rest.link(reply=b"1")
    stream = watch(rest)
    call(rest)
    rest.rest.streams.stop()
    *events, (name, error) = stream.events()
    assert [data["state"] for _, data in events] == STATES
    assert (name, error["status"]) == ("error", 503)
    assert stream.over


@pytest.mark.parametrize("state", list(CallState))
def test_each_state_can_be_asked_for(rest: Rest, state: CallState) -> None:
    watch(rest, f"state={state}")


@pytest_twisted.ensureDeferred
async def test_a_snapshot_is_as_it_is_documented_and_events_go_on_from_it(rest: Rest) -> None:
    rest.link()
    stream = watch(rest)
    call(rest)
    told(stream)
    for path in ("/api/feed/snapshot", f"/api/feed/snapshot?deviceId={rest.device.id}"):
        found = await rest.ok("GET", path)
        assert json.loads(msgspec.json.encode(msgspec.convert(found, SnapshotJSON))) == found
        assert found["counts"] == {"devices": 1, "connected": 1, "callable": 1, "calls": 1}
        assert [each["state"] for each in found["calls"]] == ["DELIVERED"]
        assert found["seq"] == int(stream.reader.last_id)
    call(rest)
    assert told(stream)[0][1]["seq"] == found["seq"] + 1


@pytest_twisted.ensureDeferred
async def test_a_snapshot_knows_nothing_of_others(rest: Rest) -> None:
    rest.link()
    rest.link(OTHER)
    customer = rest.add_user("c@example.org", Authority.CUSTOMER_USER, customer=CUSTOMER)
    found = await rest.ok("GET", "/api/feed/snapshot", token=customer)
    assert [each["deviceId"] for each in found["devices"]] == [str(OTHER.id)]
    assert found["counts"]["devices"] == 1
    foreign = await rest.refused("GET", f"/api/feed/snapshot?deviceId={rest.device.id}", token=customer)
    assert foreign[0] == 404
