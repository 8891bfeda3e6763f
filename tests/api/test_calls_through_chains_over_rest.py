"""Calls over REST that pass a rule chain: their ids, their events, who leaves, and what becomes messages."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
import pytest_twisted
from rest import Rest
from rule_world import CALL, DELAY, SWITCH, TYPE_FILTER, graph
from test_call_events import Reader

from rpcbroker.core.calls import CallState
from rpcbroker.core.events import AttributesChanged

ID = UUID(int=7)
TO_DEVICE = (0, 1, "RPC Request to Device")
WAITING = graph(
    [(SWITCH, "Switch", {}), (DELAY, "Wait", {"periodInSeconds": 3}), (CALL, "Call", {})], TO_DEVICE, (1, 2, "Success")
)
DROPPING = graph([(SWITCH, "Switch", {}), (TYPE_FILTER, "Drop", {})], TO_DEVICE)


@pytest.fixture
def rest() -> Rest:
    made = Rest()
    made.put(WAITING)
    return made


def test_events_come_through_a_chain(rest: Rest) -> None:
    link = rest.link()
    reader = Reader(rest, requestUUID=str(ID), timeout=10_000)
    assert reader.events() == []
    rest.clock.advance(3.1)
    link.session.progress(link.calls[0].wire_id, b"50")
    assert reader.events() == [("progress", 50)]
    link.session.receive(link.calls[0].wire_id, b'{"on":true}')
    assert reader.events() == [("result", {"on": True})]
    assert reader.over
    assert reader.response.headers.getRawHeaders("X-RPC-Id") == [str(ID)]


def test_who_leaves_before_the_device_has_it_cancels_the_call(rest: Rest) -> None:
    link = rest.link()
    reader = Reader(rest, timeout=10_000)
    (record,) = rest.broker.recorder.newest_first()
    reader.leave()
    assert record.state is CallState.DELETED
    rest.clock.advance(4)
    assert link.calls == []
    assert len(rest.rules.submissions) == 0


@pytest_twisted.ensureDeferred
async def test_a_named_call_goes_on_when_its_caller_leaves(rest: Rest) -> None:
    link = rest.link(reply=b"5")
    reader = Reader(rest, requestUUID=str(ID), timeout=10_000)
    reader.leave()
    rest.clock.advance(3.1)
    assert [call.rpc_id for call in link.calls] == [ID]
    assert await rest.ok("POST", rest.rpc(), {"method": "get", "requestUUID": str(ID)}) == 5


@pytest_twisted.ensureDeferred
async def test_a_kept_call_that_no_node_takes_is_refused_at_once() -> None:
    rest = Rest()
    rest.put(DROPPING)
    body = {"method": "get", "persistent": True, "requestUUID": str(ID), "timeout": 3_600_000}
    status, answer, headers = await rest.ask("POST", rest.rpc(), body)
    assert (status, answer["reason"]) == (504, "NOT_FORWARDED")
    assert headers.getRawHeaders("X-RPC-Id") == [str(ID)]
    assert (await rest.refused("GET", f"/api/rpc/persistent/{ID}"))[0] == 404


@pytest_twisted.ensureDeferred
async def test_attributes_that_are_written_and_deleted_are_told(rest: Rest) -> None:
    told: list[Any] = []
    rest.broker.events.listen(AttributesChanged, told.append)
    path = f"/api/plugins/telemetry/DEVICE/{rest.device.id}"
    await rest.ok("POST", f"{path}/attributes/SHARED_SCOPE", {"a": 1})
    await rest.ok("DELETE", f"{path}/SHARED_SCOPE?keys=a,none")
    await rest.ok("DELETE", f"{path}/SHARED_SCOPE?keys=none")
    assert [(event.device.id, event.scope, dict(event.values), list(event.deleted)) for event in told] == [
        (rest.device.id, "SHARED_SCOPE", {"a": 1}, []),
        (rest.device.id, "SHARED_SCOPE", {}, ["a"]),
    ]
