"""Long polls: which one is given a call, which is told that there is none, and what becomes of calls between them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes import result_of
from http_world import TOKEN, HttpDevice, HttpWorld
from twisted.internet.tcp import Server

from rpcbroker.core.calls import CallState
from rpcbroker.core.errors import NoActiveConnection, Reason
from rpcbroker.core.model import Device


@pytest.fixture
def world() -> HttpWorld:
    return HttpWorld()


def test_a_poll_that_waits_is_given_the_call_and_its_reply_ends_it(world: HttpWorld) -> None:
    poll = world.poll()
    assert poll.answers() == []
    waiting = world.begin("set", params=b'{"on":true}')
    (call,) = poll.calls()
    assert call == {"id": call["id"], "method": "set", "params": {"on": True}}
    assert world.request("POST", f"rpc/{call['id']}", b'{"ok":1}')[0] == 200
    assert result_of(waiting).payload == b'{"ok":1}'


def test_a_call_that_waits_is_given_to_the_next_poll(world: HttpWorld) -> None:
    world.begin("a", timeout=60.0)
    world.begin("b", timeout=60.0)
    assert [call["method"] for call in world.poll().calls()] == ["a"], "one call a poll"
    assert [call["method"] for call in world.poll().calls()] == ["b"]
    assert world.poll().answers() == [], "what was handed out is not handed out again"


def test_one_way_calls_end_when_a_poll_has_taken_them(world: HttpWorld) -> None:
    poll = world.poll()
    waiting = world.begin(oneway=True)
    assert result_of(waiting).payload == b""
    assert len(poll.calls()) == 1
    assert world.poll().answers() == []


def test_the_poll_that_waits_longest_is_given_the_call(world: HttpWorld) -> None:
    polls = [world.poll() for _ in range(3)]
    for name in "abc":
        world.begin(name)
    assert [poll.calls()[0]["method"] for poll in polls] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("query", "seconds"),
    [
        ("", 60),
        ("?timeout=0", 60),
        ("?timeout=000", 60),
        ("?timeout=1500", 1.5),
        ("?timeout=300001", 300),
        ("?timeout=1000000000000000000", 300),
        ("?other=1", 60),
    ],
)
def test_a_poll_waits_as_long_as_it_says_and_no_longer_than_is_allowed(
    world: HttpWorld, query: str, seconds: float
) -> None:
    poll = world.poll(query)
    world.clock.advance(seconds - 0.02)
    assert poll.answers() == []
    world.advance(0.04)
    (answer,) = poll.answers()
    assert (answer.status, answer.body) == (408, b"")
    assert answer.headers["content-length"] == ["0"]
    assert "content-type" not in answer.headers


@pytest.mark.parametrize(
    "query",
    [
        "-1",
        "NaN",
        "1e18",
        "1.5",
        "soon",
        "",
        "%00",
        "9" * 20,
        "0x10",
        "1&timeout=2",
        "%EF%BC%91",
        "Infinity",
        "+5",
        "%205",
    ],
)
def test_a_timeout_that_is_no_number_is_refused(world: HttpWorld, query: str) -> None:
    (answer,) = world.poll(f"?timeout={query}").answers()
    assert answer.status == 400
    assert "timeout" in json.loads(answer.body)["message"]


def test_the_device_is_callable_while_a_poll_waits_and_connected_a_little_longer(world: HttpWorld) -> None:
    poll = world.poll("?timeout=1000")
    session = world.session()
    assert (session.connected, session.callable) == (True, True)
    world.advance(1)
    assert (session.connected, session.callable) == (True, False)
    world.advance(9)
    assert session.connected
    world.advance(1)
    assert not session.connected
    assert poll.statuses() == [408]
    assert session.presence.connected.cause == "it has not polled since"


def test_polls_one_after_the_other_keep_the_device_connected(world: HttpWorld) -> None:
    for _ in range(5):
        world.poll("?timeout=8000")
        world.advance(8)
        world.advance(1)
    assert world.session().connected


def test_a_call_between_polls_waits_until_it_expires(world: HttpWorld) -> None:
    world.poll("?timeout=1000")
    world.advance(1)
    waiting = world.begin(timeout=5.0)
    world.advance(5)
    error = result_of(waiting)
    assert isinstance(error, NoActiveConnection)
    assert error.reason is Reason.NO_SUBSCRIPTION
    assert "has no poll waiting" in error.hint
    assert world.poll().answers() == []


def test_a_poll_stands_beside_a_lasting_connection(world: HttpWorld) -> None:
    link = world.link()
    poll = world.poll()
    assert not link.closed
    world.begin()
    assert len(link.calls) == 1, "the way that was there first"
    assert poll.answers() == []


def test_who_gave_up_its_poll_frees_its_place_at_once(world: HttpWorld) -> None:
    world.set(max_polls_per_device=1)
    first = world.poll()
    assert world.poll().statuses() == [429]
    first.lose()
    assert not world.session().callable
    assert world.devices.open_polls == 0
    second = world.poll()
    world.begin("m")
    assert second.calls()[0]["method"] == "m"
    assert first.answers() == []


def test_polls_of_one_device_are_limited_and_so_are_those_of_all(world: HttpWorld) -> None:
    polls = [world.poll() for _ in range(10)]
    (answer,) = world.poll().answers()
    assert answer.status == 429
    assert answer.headers["retry-after"] == ["1"]
    (answer,) = world.poll(path="attributes/updates").answers()
    assert answer.status == 429, "whatever they wait for"
    world.set(max_polls=10)
    other = Device(id=world.new_uuid(), tenant_id=world.device.tenant_id, name="other", created_time=0)
    world.add(other, "OTHER")
    assert world.poll(token="OTHER").statuses() == [503]
    assert world.stream(token="OTHER").statuses() == [503]
    assert all(poll.answers() == [] for poll in polls)
    polls[0].lose()
    assert world.poll(token="OTHER").answers() == []


def test_10_000_polls_are_bounded_and_all_is_free_when_they_have_left(world: HttpWorld) -> None:
    before = world.deadlines()
    world.set(max_polls=1_000, max_polls_per_device=600)
    other = Device(id=world.new_uuid(), tenant_id=world.device.tenant_id, name="other", created_time=0)
    world.add(other, "OTHER")
    polls = [world.poll(token=token) for token in (TOKEN, "OTHER") for _ in range(5_000)]
    assert world.devices.open_polls == 1_000
    statuses = [tuple(poll.statuses()) for poll in polls]
    assert {status: statuses.count(status) for status in set(statuses)} == {(): 1_000, (429,): 4_400, (503,): 4_600}
    for poll in polls:
        poll.lose()
    assert world.devices.open_polls == 0
    world.advance(10)
    assert not world.session().connected
    assert world.deadlines() == before


def test_a_poller_that_sends_no_more_is_answered_at_once_and_no_call_is_lost_to_it(world: HttpWorld) -> None:
    poll = world.poll()
    poll.half_close()
    assert poll.statuses() == [408]
    poll.half_close()  # reading is tried again
    assert poll.wire.disconnecting
    waiting = world.begin("m", timeout=60.0)
    assert not waiting.called
    assert world.poll().calls()[0]["method"] == "m"


def test_polls_in_one_piece_are_answered_in_their_order(world: HttpWorld) -> None:
    device = world.http_device()
    for timeout in (5000, 1000):
        device.ask("GET", f"rpc?timeout={timeout}")
    device.ask("POST", "telemetry", body=b'{"a":1}')
    world.clock.advance(0)
    assert device.answers() == []
    assert world.devices.open_polls == 1, "those behind it wait for it"
    world.begin("m")
    world.clock.advance(0)
    assert [answer.status for answer in device.answers()] == [200]
    world.advance(1)
    world.clock.advance(0)
    assert device.statuses() == [408, 200]


def test_a_poll_over_http_1_0_is_answered_and_the_connection_closed(world: HttpWorld) -> None:
    device = world.http_device()
    device.channel.dataReceived(f"GET /api/v1/{TOKEN}/rpc HTTP/1.0\r\n\r\n".encode())
    world.begin("m")
    (answer,) = device.answers()
    assert json.loads(answer.body)["method"] == "m"
    assert answer.headers["connection"] == ["close"]
    assert device.wire.disconnecting


def test_a_device_that_is_deleted_hears_it_from_its_polls(world: HttpWorld) -> None:
    polls = [world.poll(), world.poll(path="attributes/updates")]
    world.broker.device_deleted(world.device.id)
    for poll in polls:
        (answer,) = poll.answers()
        assert (answer.status, answer.body) == (403, b"Device was deleted!")
        assert answer.headers["content-type"] == ["text/plain; charset=utf-8"]
    result_of(world.store.delete_device(world.device.id))
    assert world.poll().statuses() == [401]
    assert world.devices.open_polls == 0


def test_a_device_whose_credentials_were_changed_hears_it_from_its_polls(world: HttpWorld) -> None:
    poll = world.poll()
    world.broker.credentials_changed(world.device.id)
    assert poll.statuses() == [401]
    assert not world.session().connected
    assert world.poll().answers() == [], "its token is still the same here, so it may come again"
    assert world.session().callable


def test_a_stop_answers_all_polls_at_once(world: HttpWorld) -> None:
    polls = [world.poll(), world.poll(path="attributes/updates")]
    assert world.broker.drain(10).called
    assert [poll.statuses() for poll in polls] == [[503], [503]]


def test_shared_attributes_are_told_to_all_polls_that_wait_for_them(world: HttpWorld) -> None:
    polls = [world.poll(path="attributes/updates") for _ in range(2)]
    assert not world.session().callable, "they take no calls"
    world.session().attributes_changed(b'{"k":1}')
    world.session().attributes_changed(b'{"k":2}')
    assert [poll.calls() for poll in polls] == [[{"k": 1}]] * 2
    assert world.poll(path="attributes/updates").answers() == [], "what came while none waited is not kept"


def test_a_cancelled_call_is_told_to_the_poll_that_waits_or_to_the_next(world: HttpWorld) -> None:
    world.wants_cancel()
    poll = world.poll()
    waiting = world.begin("m", timeout=60.0)
    wire_id = poll.calls()[0]["id"]
    second = world.poll()
    waiting.cancel()
    assert second.calls() == [{"id": wire_id, "cancel": True}]
    third = world.poll()
    waiting = world.begin("m", timeout=60.0)
    wire_id = third.calls()[0]["id"]
    waiting.cancel()
    assert world.poll().calls() == [{"id": wire_id, "cancel": True}]
    assert world.poll().answers() == []


def test_of_many_cancelled_calls_the_device_is_told_of_ten(world: HttpWorld) -> None:
    world.wants_cancel()
    calls = []
    for _ in range(12):
        poll = world.poll()
        calls.append(world.begin("m", timeout=60.0))
        assert poll.calls()
    for waiting in calls:
        waiting.cancel()
    told = [world.poll().answers() for _ in range(11)]
    assert [json.loads(answers[0].body)["cancel"] for answers in told[:10]] == [True] * 10
    assert told[10] == []


def test_states_of_a_call_that_a_poll_has_taken(world: HttpWorld) -> None:
    poll = world.poll()
    world.begin("m")
    (pending,) = world.session().calls
    assert pending.state is CallState.DELIVERED
    assert [moment[1] for moment in pending.record.moments][-1] == "sent"
    assert poll.calls()


def stall(poll: HttpDevice) -> Any:
    """The socket below this poll, which is over TLS, takes nothing any more."""
    below: Any = Server.__new__(Server)
    below.__dict__.update(connected=1, dataBuffer=b"x", _tempDataBuffer=[])
    poll.wire.transport = below  # type: ignore[attr-defined]
    return below


def test_a_call_is_sent_before_it_counts_as_taken_also_while_others_are_served(world: HttpWorld) -> None:
    poll = world.poll()
    world.site.outgoing.gather()
    assert result_of(world.begin("m", oneway=True)).payload == b""
    assert poll.calls(), "it is not kept until the end of the turn: the connection might be lost before"


@pytest.mark.parametrize("oneway", [False, True])
def test_a_call_that_no_socket_has_taken_goes_to_the_next_poll(world: HttpWorld, oneway: bool) -> None:
    poll = world.poll()
    below = stall(poll)
    waiting = world.begin("m", oneway=oneway, timeout=60.0)
    world.advance(1)
    assert not waiting.called
    below.connected = 0
    world.advance(1)
    assert not waiting.called
    assert world.poll().calls() == poll.calls()
    assert waiting.called == oneway


def test_a_one_way_call_ends_when_the_socket_has_taken_it(world: HttpWorld) -> None:
    below = stall(world.poll())
    waiting = world.begin("m", oneway=True, timeout=60.0)
    below.dataBuffer = b""
    world.advance(1 / 64)
    assert waiting.called


def test_a_device_that_is_to_be_told_by_its_next_poll_has_not_been_told_yet(world: HttpWorld) -> None:
    world.wants_cancel()
    poll = world.poll()
    world.begin("m", timeout=60.0)
    assert poll.calls()
    (pending,) = world.session().calls
    assert not result_of(world.session().cancel(pending.record, "by the test")).device_told
    assert world.poll().calls()[0]["cancel"]
