"""Watchers who read slowly, or not at all: what waits for them is bounded, and they learn that something is missing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from door import Caller, Door
from rest import Rest

from rpcbroker.core.calls import CallRequest
from rpcbroker.wire.events import EventReader

MOST = 20_000


@pytest.fixture
def rest() -> Rest:
    rest = Rest(feed={"max_waiting": MOST, "slow_timeout": 5.0})
    rest.link(reply=b"1")
    return rest


@pytest.fixture
def caller(rest: Rest) -> Caller:
    """Somebody who watches over one HTTP connection, and has read all until now."""
    door = Door(write_timeout=60)
    door.site.resource = rest.rest.site.resource()
    caller = door.caller()
    head = f"GET /api/feed HTTP/1.0\r\nHost: x\r\nX-Authorization: Bearer {rest.token}\r\n\r\n"
    caller.channel.dataReceived(head.encode())
    rest.clock.advance(0.2)
    caller.wire.clear()
    return caller


def call(rest: Rest, times: int) -> None:
    for _ in range(times):
        rest.call(CallRequest(method="get"))
    rest.clock.advance(0.2)


def events(caller: Caller) -> list[Any]:
    read = EventReader().feed(caller.wire.value())
    caller.wire.clear()
    return [json.loads(event.data) for event in read]


def test_more_than_may_wait_is_dropped_and_n_shows_it(rest: Rest, caller: Caller) -> None:
    caller.channel.pauseProducing()
    call(rest, 1)
    assert len(events(caller)) == 3, "written before it was known that nobody reads"
    call(rest, 500)
    assert caller.wire.value() == b""
    caller.channel.resumeProducing()
    assert len(caller.wire.value()) < MOST + 1_000
    waited = [each["n"] for each in events(caller)]
    assert waited == list(range(4, 4 + len(waited)))
    call(rest, 1)
    (after, *_) = events(caller)
    assert after["n"] == 3 + 1500 + 1
    assert not caller.wire.aborted


def test_what_was_dropped_is_told_to_who_comes_back(rest: Rest, caller: Caller) -> None:
    caller.channel.pauseProducing()
    call(rest, 1)
    call(rest, 100)
    caller.channel.resumeProducing()
    last = events(caller)[-1]["seq"]
    missed = rest.feed.since(_admin(rest), last)
    assert missed is not None
    assert len(missed) > 100


def test_who_reads_nothing_is_cut_off(rest: Rest, caller: Caller) -> None:
    caller.channel.pauseProducing()
    call(rest, 1)
    rest.clock.advance(4.5)
    assert not caller.wire.aborted
    rest.clock.advance(1)
    assert caller.wire.aborted
    caller.lose()
    assert not rest.feed._tenants[rest.device.tenant_id].owners


def test_who_reads_at_last_is_not(rest: Rest, caller: Caller) -> None:
    for _ in range(4):
        caller.channel.pauseProducing()
        call(rest, 1)
        rest.clock.advance(4)
        caller.channel.resumeProducing()
    assert not caller.wire.aborted


def test_who_logs_out_and_does_not_read_gets_nothing_that_waited(rest: Rest, caller: Caller) -> None:
    caller.channel.pauseProducing()
    call(rest, 1)
    caller.wire.clear()
    call(rest, 10)
    rest.tokens.revoke_users([rest.user.id])
    rest.clock.advance(1.1)
    caller.channel.resumeProducing()
    ((name, status),) = [
        (event.name, json.loads(event.data).get("status")) for event in EventReader().feed(caller.wire.value())
    ]
    assert (name, status) == ("error", 401)


def _admin(rest: Rest) -> Any:
    return rest.tokens.verify(rest.token)
