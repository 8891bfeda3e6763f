"""Event streams: calls as events, what a slow reader gets, and how a stream that broke is gone on with."""

from __future__ import annotations

import pytest
from fakes import result_of
from http_world import HttpDevice, HttpWorld

from rpcbroker.core.calls import CallState
from rpcbroker.core.ports import CloseReason
from rpcbroker.transports.http.event_log import MAX_EVENTS, MAX_SIZE, EventLog
from rpcbroker.transports.http.streams import KEEP_ALIVE


@pytest.fixture
def world() -> HttpWorld:
    return HttpWorld()


def methods(device: HttpDevice) -> list[str]:
    return [data["method"] for name, _, data in device.events() if name == "rpc"]


def test_the_head_goes_out_at_once_without_chunks_and_tells_where_the_stream_begins(world: HttpWorld) -> None:
    device = world.stream()
    head, _, body = device.wire.value().decode().partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    for line in ("Content-Type: text/event-stream", "Connection: close", "Cache-Control: no-store"):
        assert line in head.split("\r\n")
    assert "chunked" not in head
    assert body == f"id: {world.now_ms()}\n\n"


def test_each_call_is_an_event_and_its_reply_comes_by_a_request(world: HttpWorld) -> None:
    device = world.stream()
    waiting = world.begin("set", params=b'{"on":true}')
    ((name, number, data),) = device.events()
    assert name == "rpc"
    assert data == {"id": data["id"], "method": "set", "params": {"on": True}}
    assert number == world.now_ms() + 1
    assert world.request("POST", f"rpc/{data['id']}", b"7").status == 200
    assert result_of(waiting).payload == b"7"


def test_what_waits_is_sent_at_once_and_a_one_way_call_ends(world: HttpWorld) -> None:
    world.begin("a", timeout=60.0)
    waiting = world.begin("b", oneway=True, timeout=60.0)
    assert methods(world.stream()) == ["a", "b"]
    assert result_of(waiting).payload == b""


def test_attributes_and_cancelled_calls_are_events_too(world: HttpWorld) -> None:
    world.wants_cancel()
    device = world.stream()
    waiting = world.begin("m")
    world.session().attributes_changed(b'{"k":1}')
    waiting.cancel()
    events = device.events()
    assert [(name, data) for name, _, data in events[1:]] == [
        ("attributes", {"k": 1}),
        ("cancel", {"id": events[0][2]["id"], "cancel": True}),
    ]
    assert [number for _, number, _ in events] == sorted(number for _, number, _ in events)


def test_comments_keep_the_connection_alive(world: HttpWorld) -> None:
    device = world.stream()
    device.events()
    world.advance(KEEP_ALIVE)
    world.advance(KEEP_ALIVE)
    assert device.wire.value() == b":\n\n" * 2


def test_a_newer_stream_replaces_an_older_one(world: HttpWorld) -> None:
    first = world.stream()
    second = world.stream()
    assert first.wire.disconnecting
    world.begin("m")
    assert methods(second) == ["m"]
    assert world.devices.open_polls == 1


def test_a_stream_replaces_another_lasting_connection_and_is_replaced_by_one(world: HttpWorld) -> None:
    link = world.link()
    device = world.stream()
    assert link.closed == [CloseReason.TAKEN_OVER]
    world.link()
    assert device.wire.disconnecting
    assert world.devices.open_polls == 0


def test_polls_may_stand_beside_it(world: HttpWorld) -> None:
    device = world.stream()
    poll = world.poll()
    assert not device.wire.disconnecting
    world.begin("m")
    assert methods(device) == ["m"]
    assert poll.answers() == []


@pytest.mark.parametrize("how", ["lose", "half_close"])
def test_a_stream_that_breaks_is_no_connection_any_more(world: HttpWorld, how: str) -> None:
    before = world.deadlines()
    device = world.stream()
    getattr(device, how)()
    assert not world.session().connected
    assert world.devices.open_polls == 0
    world.advance(300)
    assert world.deadlines() == before, "and after the window nothing of it is kept"
    assert not world.devices._streams._logs


def test_a_device_that_does_not_read_is_given_no_calls_until_it_does(world: HttpWorld) -> None:
    device = world.stream()
    device.events()
    device.channel.pauseProducing()
    world.begin("a", timeout=60.0)
    assert device.events() == []
    (pending,) = world.session().calls
    assert pending.state is CallState.QUEUED
    for _ in range(20):
        world.session().attributes_changed(b'{"k":"%b"}' % (b"x" * 8192))
    assert len(device.events()) == 7, "64 KiB of updates; those beyond are dropped"
    device.channel.resumeProducing()
    assert methods(device) == ["a"]
    world.session().attributes_changed(b'{"k":1}')
    assert len(device.events()) == 1


def test_a_device_that_does_not_read_for_long_is_aborted(world: HttpWorld) -> None:
    device = world.stream()
    device.channel.pauseProducing()
    world.advance(world.site.settings.write_timeout)
    assert device.wire.aborted


@pytest.mark.parametrize("reason", [CloseReason.DEVICE_DELETED, CloseReason.CREDENTIALS_CHANGED])
def test_a_device_that_may_not_come_again_has_nothing_to_go_on_with(world: HttpWorld, reason: CloseReason) -> None:
    device = world.stream()
    world.session().close(reason)
    assert device.wire.disconnecting
    assert not world.devices._streams._logs


def test_a_stop_ends_streams_at_once(world: HttpWorld) -> None:
    device = world.stream()
    assert world.broker.drain(10).called
    assert device.wire.disconnecting


# -- Last-Event-ID


def test_calls_that_were_missed_are_sent_again_and_others_are_not(world: HttpWorld) -> None:
    device = world.stream()
    for name in "abcd":
        world.begin(name, timeout=60.0)
    events = device.events()
    ids = {data["method"]: data["id"] for _, _, data in events}
    world.request("POST", f"rpc/{ids['c']}", b"1")
    device.lose()
    again = world.stream(events[0][1])
    assert again.events() == [events[1], events[3]], "b and d, under their old numbers; a was heard, c is answered"
    (*_, moment) = (moment for call in world.session().calls for moment in call.record.moments)
    assert moment[1:] == ("sent", "over HTTP events, once more")


def test_a_stream_that_broke_before_its_first_event_is_gone_on_with_too(world: HttpWorld) -> None:
    beginning = world.now_ms()
    device = world.stream()
    world.begin("a", timeout=60.0)
    device.lose()
    assert methods(world.stream(beginning)) == ["a"]


@pytest.mark.parametrize("persistent", [False, True])
def test_one_way_calls_are_sent_again_until_they_expire(world: HttpWorld, persistent: bool) -> None:
    """They ended when they went out, and so nobody else would send them again."""
    beginning = world.now_ms()
    device = world.stream()
    world.begin("short", oneway=True, timeout=5.0, persistent=persistent)
    world.begin("long", oneway=True, timeout=60.0, persistent=persistent)
    number = device.events()[-1][1]
    device.lose()
    world.advance(10)
    again = world.stream(beginning)
    assert methods(again) == ["long"]
    again.lose()
    assert methods(world.stream(number)) == []
    assert methods(world.stream()) == []


def test_updates_and_cancels_that_were_missed_are_sent_again(world: HttpWorld) -> None:
    world.wants_cancel()
    device = world.stream()
    waiting = world.begin("m")
    number = device.events()[0][1]
    waiting.cancel()
    world.session().attributes_changed(b'{"k":1}')
    device.lose()
    assert [name for name, _, _ in world.stream(number).events()] == ["cancel", "attributes"]


def test_persistent_calls_that_it_has_are_not_sent_again_and_those_it_missed_are(world: HttpWorld) -> None:
    device = world.stream()
    for name in "ab":
        world.begin(name, persistent=True, timeout=600.0)
    events = device.events()
    device.lose()
    world.begin("c", persistent=True, timeout=600.0)
    again = world.stream(events[0][1])
    found = again.events()
    assert [data["method"] for _, _, data in found] == ["b", "c"]
    assert found[0][2]["id"] == events[1][2]["id"]
    assert found[0][1] > events[1][1], "it is an event of its own"
    again.lose()
    assert methods(world.stream()) == ["a", "b", "c"], "who says nothing is given all that it has not answered"


@pytest.mark.parametrize("last", [1, 10**18, "x", "-5", "9" * 30])
def test_a_number_that_is_not_known_begins_a_new_stream(world: HttpWorld, last: object) -> None:
    device = world.stream()
    world.begin("a", timeout=60.0)
    numbers = [number for _, number, _ in device.events()]
    device.lose()
    again = HttpDevice(world)
    again.ask("GET", "rpc", "Accept: text/event-stream", f"Last-Event-ID: {last}")
    assert again.wire.value().endswith(b"id: %d\n\n" % (numbers[-1] + 1)), "numbers grow"
    assert again.events() == []


def test_after_the_window_a_stream_is_a_new_one(world: HttpWorld) -> None:
    beginning = world.now_ms()
    device = world.stream()
    world.begin("a", timeout=3600.0)
    device.lose()
    world.advance(300)
    assert world.stream(beginning).events() == []


def test_numbers_grow_over_a_restart(world: HttpWorld) -> None:
    device = world.stream()
    world.begin("a")
    numbers = [number for _, number, _ in device.events()]
    after = HttpWorld(store=world.store, now=1.0)
    again = after.stream(numbers[-1])
    assert again.wire.value().endswith(b"id: %d\n\n" % (world.now_ms() + 1000))


def test_a_log_keeps_the_last_events_and_not_more_than_so_many_bytes() -> None:
    log = EventLog(1000)
    for _ in range(MAX_EVENTS + 5):
        log.add("attributes", b"{}")
    assert [sent.number for sent in log] == list(range(1006, 1006 + MAX_EVENTS))
    assert 1004 not in log
    assert 1005 in log
    assert log.last in log
    assert log.last + 1 not in log
    for _ in range(3):
        log.add("attributes", b"x" * (MAX_SIZE // 2 - 100))
    assert len(list(log)) == 2
    log.add("attributes", b"x" * MAX_SIZE)
    assert list(log) == []
    assert log.last in log


def test_numbers_do_not_go_back_when_the_clock_does() -> None:
    assert EventLog(5, after=10).last == 11
