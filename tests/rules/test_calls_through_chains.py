"""Calls of callers on their way through a chain.

Over 400 lines: what may become of a call is told once for each way that it may take.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from fakes import ADMIN, EPOCH_MS, device, error_of, result_of
from rule_world import CALL, DELAY, RULES, SWITCH, TRANSFORM, TYPE_FILTER, RuleWorld, graph
from twisted.internet.defer import CancelledError, Deferred

from rpcbroker.cli.telling import tell
from rpcbroker.core.calls import CallRequest, CallState
from rpcbroker.core.errors import (
    BrokerError,
    CallCancelled,
    CallTimeout,
    NoActiveConnection,
    PayloadTooLarge,
    QueueFull,
    Reason,
    Unavailable,
    VersionConflict,
)
from rpcbroker.core.events import CallOpened, CallRefused, CallSettled
from rpcbroker.core.ledger import Ledger
from rpcbroker.core.records import CallRecord, Mark
from rpcbroker.core.settings import RpcSettings
from rpcbroker.schema.calls import timeline_json

FORWARDING = graph([(SWITCH, "Switch", {}), (CALL, "Call", {})], (0, 1, "RPC Request to Device"))
DROPPING = graph([(SWITCH, "Switch", {}), (TYPE_FILTER, "Filter", {})], (0, 1, "RPC Request to Device"))


@pytest.mark.parametrize("direct", [True, False])
def test_the_device_gets_the_call_and_the_caller_its_reply(direct: bool) -> None:
    world = RuleWorld(direct=direct)
    world.put(FORWARDING)
    assert world.broker.rules.routes(world.device.tenant_id).calls is direct
    link = world.link(reply=b'{"on":true}')
    reply = result_of(world.call(CallRequest(method="set", params=b'{"a":[1]}')))
    assert reply.payload == b'{"on":true}'
    assert [(call.method, call.params) for call in link.calls] == [("set", b'{"a":[1]}')]
    assert len(world.rules.submissions) == 0


def test_a_call_that_no_node_takes_ends_at_its_expiration_time() -> None:
    world = RuleWorld()
    world.put(DROPPING)
    link = world.link(reply=b"1")
    waiting = world.call(CallRequest(method="m", timeout=10))
    world.clock.advance(9.9)
    assert not waiting.called
    world.clock.advance(0.2)
    error = waiting.result.value  # type: ignore[union-attr]
    waiting.addErrback(lambda _: None)
    assert isinstance(error, CallTimeout)
    assert error.reason is Reason.NOT_FORWARDED
    assert link.calls == []
    assert len(world.rules.submissions) == 0


def test_what_became_of_a_call_that_a_chain_dropped_reads_well() -> None:
    world = RuleWorld()
    world.put(DROPPING, name="Floor")
    waiting = world.call(CallRequest(method="m", timeout=10))
    world.clock.advance(10)
    rpc_id = waiting.result.value.rpc_id  # type: ignore[union-attr]
    waiting.addErrback(lambda _: None)
    record = world.broker.recorder.find(world.device.tenant_id, rpc_id)
    assert record is not None
    story = tell(timeline_json(record, "lamp"), now=world.now_ms())
    assert (
        "It was allowed, was routed through the rule chain, "
        "passed 'Switch' of chain 'Floor' as 'RPC Request to Device', passed 'Filter' of chain 'Floor' as 'False', "
        "and passed no further node: chain 'Floor' ended at 'Filter' without giving the call to its device. "
        "It expired at "
    ) in story.text
    assert story.text.endswith("for no rule chain gave it to the device. It took 10 s in all.")
    assert story.hint is not None
    assert "rpcbroker rules test" in story.hint


def test_a_message_of_a_call_that_has_ended_never_stands_for_another_one() -> None:
    """The result of the first was forgotten, and its message still waits in a node."""
    delay = {"periodInSeconds": 100}
    behind = [(0, 1, "RPC Request to Device"), (1, 2, "Success")]
    world = RuleWorld(idempotency_window=1.0)
    world.put(graph([(SWITCH, "Switch", {}), (DELAY, "Wait", delay), (CALL, "Call", {})], *behind))
    link = world.link(reply=b"1")
    named = {"method": "m", "request_id": UUID(int=7), "once": True}
    first = world.call(CallRequest(timeout=10, **named))
    world.clock.advance(12)
    assert error_of(first).reason is Reason.NOT_FORWARDED
    world.clock.advance(2)
    assert isinstance(error_of(world.call(CallRequest(timeout=3_000, **named))), QueueFull)
    world.clock.advance(100)
    again = world.call(CallRequest(timeout=3_000, **named))
    world.clock.advance(101)
    assert result_of(again).payload == b"1"
    assert len(link.calls) == 1
    assert len(world.rules.submissions) == 0


# -- what a chain may do to a call on its way

RPC_ID = UUID(int=0xCA11)
OTHER = device(101)
SCRIPT = {"jsScript": "change"}
ENTITY = {"originatorSource": "ENTITY", "entityType": "DEVICE", "entityNamePattern": OTHER.name}


def in_a_row(*nodes: tuple[str, dict[str, Any]]) -> Any:
    """Calls pass these nodes, each behind the Success of the one before."""
    rows: list[Any] = [(TYPE_FILTER, "Calls", {"messageTypes": ["RPC_CALL_FROM_SERVER_TO_DEVICE"]})]
    rows += [(type_, f"N{number}", configuration) for number, (type_, configuration) in enumerate(nodes)]
    behind = [(number, number + 1, "Success" if number else "True") for number in range(len(nodes))]
    return graph(rows, *behind)


WAITING = in_a_row((DELAY, {"periodInSeconds": 3}), (CALL, {}))
CHANGING = in_a_row((TRANSFORM, SCRIPT), (CALL, {}))


class Chain(RuleWorld):
    """A chain that calls go through; `change` is what its script returns."""

    def __init__(self, chain: Any, change: Callable[..., Any] = lambda *_: {}, **more: Any) -> None:
        super().__init__(**more)
        self.put(chain)
        self.scripts.known["change"] = change
        self.told: list[Any] = []
        for kind in (CallOpened, CallRefused, CallSettled):
            self.broker.events.listen(kind, lambda event: self.told.append(type(event)))

    def begin(self, **more: Any) -> Deferred[Any]:
        request = {"method": "m", "params": b"[1]", "timeout": 10, "request_id": RPC_ID}
        return self.call(CallRequest(**request | more))

    @property
    def record(self) -> CallRecord:
        record = self.broker.recorder.find(self.device.tenant_id, RPC_ID)
        assert record is not None
        return record

    def over(self) -> None:
        """All runs end, and then nothing is left."""
        self.clock.advance(100)
        assert len(self.rules.submissions) == 0
        assert self.rules.engine.running.total() == 0
        assert self.broker.pending_count == 0


def meta(**changes: str | None) -> Callable[..., Any]:
    """A script that changes the metadata; None is to leave them out."""

    def change(_: Any, metadata: dict[str, str], __: str) -> Any:
        merged = {**metadata, **changes}
        return {"metadata": {key: value for key, value in merged.items() if value is not None}}

    return change


@pytest.mark.parametrize(
    ("change", "stands_for_it"),
    [
        (lambda *_: {}, True),
        (lambda *_: {"msgType": "POST_TELEMETRY_REQUEST"}, False),
        (meta(originServiceId=None), False),
        (meta(originServiceId=""), True),
        (meta(requestUUID=None), False),
        (meta(requestUUID=str(UUID(int=7))), False),
        (meta(requestUUID="no id"), False),
    ],
)
def test_when_a_message_stands_for_the_call_of_a_caller(change: Callable[..., Any], stands_for_it: bool) -> None:
    world = Chain(CHANGING, change)
    link = world.link(reply=b"5")
    waiting = world.begin()
    assert [call.method for call in link.calls] == ["m"]
    if stands_for_it:
        assert result_of(waiting).payload == b"5"
        assert link.calls[0].rpc_id == RPC_ID
    else:
        assert not waiting.called
        assert link.calls[0].rpc_id != RPC_ID
        world.clock.advance(10.1)
        assert error_of(waiting).reason is Reason.NOT_FORWARDED
    world.over()


@pytest.mark.parametrize(
    ("change", "names", "values"),
    [
        (lambda *_: {"msg": {"method": "x", "params": {"a": 1}}}, ("method", "params"), ("x", b'{"a":1}')),
        (meta(oneway="true"), ("oneway",), (True,)),
        (meta(retries="1"), ("retries", "max_retries"), (1, 1)),
        (meta(expirationTime=str(EPOCH_MS + 4_000)), ("expiration_time", "latest_time"), (EPOCH_MS + 4_000,) * 2),
        (meta(expirationTime=str(EPOCH_MS + 90_000)), ("expiration_time",), (EPOCH_MS + 10_000,)),
        (meta(expirationTime=None), ("expiration_time",), (EPOCH_MS + 10_000,)),
        (lambda *_: {}, ("expiration_time", "latest_time"), (EPOCH_MS + 10_000, EPOCH_MS + 300_000)),
    ],
)
def test_the_call_is_what_the_message_says_in_the_end(change: Any, names: Any, values: Any) -> None:
    world = Chain(CHANGING, change, max_timeout=300)
    link = world.link(step=None)
    world.begin().addErrback(lambda _: None)
    (call,) = link.calls
    assert tuple(getattr(call, name) for name in names) == values
    assert world.record.method == call.method
    assert (world.record.oneway, world.record.expiration_time) == (call.oneway, call.expiration_time)
    world.over()


def test_a_chain_may_keep_a_call_that_its_caller_did_not_want_kept() -> None:
    world = Chain(CHANGING, meta(persistent="true", expirationTime=str(EPOCH_MS + 3_600_000)))
    reply = result_of(world.begin())
    assert (reply.rpc_id, reply.kept) == (RPC_ID, True)
    kept = result_of(world.store.calls.call(world.device.tenant_id, RPC_ID))
    assert kept.call.expiration_time == EPOCH_MS + 3_600_000
    world.over()


def test_a_chain_may_make_a_kept_call_a_lightweight_one() -> None:
    world = Chain(CHANGING, meta(persistent="false"))
    world.link(reply=b"5")
    reply = result_of(world.begin(persistent=True))
    assert (reply.payload, reply.kept) == (b"5", False)
    assert result_of(world.store.calls.call(world.device.tenant_id, RPC_ID)) is None
    world.over()


def test_a_call_that_becomes_too_large_to_be_kept_is_refused() -> None:
    world = Chain(CHANGING, meta(persistent="true"), max_persistent_size=2)
    assert isinstance(error_of(world.begin()), PayloadTooLarge)
    assert world.record.state is CallState.FAILED
    world.over()


def test_a_call_for_which_there_is_no_wire_id_ends_at_once() -> None:
    world = Chain(in_a_row((f"{RULES}.transform.TbChangeOriginatorNode", ENTITY), (CALL, {})))
    world.add(OTHER)
    world.session()

    real, asked = world.broker.wire_ids.after, []

    def none_left(last: int) -> int:
        asked.append(last)
        if len(asked) > 1:
            raise Unavailable("The store lags far behind")
        return real(last)

    world.broker.wire_ids.after = none_left  # type: ignore[method-assign]
    assert error_of(world.begin()).message == "The store lags far behind"
    assert world.record.state is CallState.FAILED
    world.over()


@pytest.mark.parametrize("persistent", [False, True])
def test_a_call_may_go_to_another_device(persistent: bool) -> None:
    world = Chain(in_a_row((f"{RULES}.transform.TbChangeOriginatorNode", ENTITY), (CALL, {})))
    world.add(OTHER)
    mine, others = world.link(reply=b"1"), world.link(OTHER, reply=b"2")
    waiting = world.begin(persistent=persistent)
    assert mine.calls == []
    (call,) = others.calls
    assert (call.device_id, world.record.device_id, world.record.wire_id) == (OTHER.id, OTHER.id, call.wire_id)
    reply = result_of(waiting)
    assert reply.kept is persistent
    assert persistent or reply.payload == b"2"
    assert world.record.state is CallState.SUCCESSFUL
    if persistent:
        kept = result_of(world.store.calls.call(world.device.tenant_id, RPC_ID))
        assert (kept.call.device_id, kept.response) == (OTHER.id, b"2")
    world.over()


def test_the_second_call_node_calls_once_more() -> None:
    world = Chain(
        in_a_row((CALL, {}), (TRANSFORM, SCRIPT), (CALL, {})), lambda *_: {"msg": {"method": "x", "params": 1}}
    )
    link = world.link(reply=b"5")
    assert result_of(world.begin()).payload == b"5"
    assert [(call.method, call.rpc_id == RPC_ID) for call in link.calls] == [("m", True), ("x", False)]
    world.over()


def test_two_branches_give_the_call_once() -> None:
    nodes = [(SWITCH, "Switch", {}), (CALL, "One", {}), (CALL, "Two", {})]
    world = Chain(graph(nodes, (0, 1, "RPC Request to Device"), (0, 2, "RPC Request to Device")))
    link = world.link(reply=b"5")
    result_of(world.begin())
    assert [call.rpc_id == RPC_ID for call in link.calls] == [True, False]
    world.over()


# -- while it is in a chain


def test_a_caller_who_leaves_takes_the_call_along() -> None:
    world = Chain(WAITING)
    link = world.link(reply=b"5")
    waiting = world.begin()
    waiting.cancel()
    assert isinstance(error_of(waiting), (CallCancelled, CancelledError))
    assert (world.record.state, world.record.reason) == (CallState.DELETED, Reason.CANCELLED)
    world.over()
    assert link.calls == []
    assert world.told == [CallRefused]


def test_a_caller_who_leaves_while_the_end_is_told_takes_nothing_along() -> None:
    world = Chain(WAITING)
    waiting = world.begin()
    waiting.addErrback(lambda failure: failure.trap(CancelledError))
    world.broker.events.listen(CallRefused, lambda _: waiting.cancel())
    assert world.broker.rules.cancel(world.record, "by somebody")
    assert (world.record.state, world.record.reason) == (CallState.DELETED, Reason.CANCELLED)
    assert [detail for _, mark, detail in world.record.moments if mark == Mark.CANCELLED.value] == ["by somebody"]
    world.over()
    assert world.told == [CallRefused]


def test_a_caller_who_leaves_when_the_device_has_it_cancels_it() -> None:
    world = Chain(FORWARDING, direct=False)
    world.link()
    waiting = world.begin()
    waiting.cancel()
    waiting.addErrback(lambda _: None)
    assert (world.record.state, world.record.reason) == (CallState.DELETED, Reason.CANCELLED)
    assert world.told == [CallOpened, CallSettled]
    world.over()


def test_a_kept_call_stays_when_its_caller_leaves_while_it_is_written() -> None:
    world = Chain(FORWARDING, direct=False)
    writing: list[Any] = []
    insert = world.store.calls.insert

    def later(kept: Any) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        writing.append(lambda: insert(kept).chainDeferred(done))
        return done

    world.store.calls.insert = later  # type: ignore[method-assign]
    waiting = world.begin(persistent=True)
    waiting.cancel()
    assert isinstance(error_of(waiting), CancelledError)
    writing[0]()
    assert result_of(world.store.calls.call(world.device.tenant_id, RPC_ID)) is not None
    assert len(world.rules.submissions) == 0


def test_a_call_in_a_chain_can_be_cancelled() -> None:
    world = Chain(WAITING)
    link = world.link(reply=b"5")
    waiting = world.begin()
    ledger = Ledger(broker=world.broker, store=world.store)
    _, cancellation = result_of(Deferred.fromCoroutine(ledger.cancel(ADMIN, RPC_ID)))
    assert (cancellation.cancelled, cancellation.delivered_before) == (True, False)
    error = error_of(waiting)
    assert (type(error), error.reason, error.rpc_id) == (CallCancelled, Reason.CANCELLED, RPC_ID)
    _, again = result_of(Deferred.fromCoroutine(ledger.cancel(ADMIN, RPC_ID)))
    assert not again.cancelled
    world.over()
    assert link.calls == []


def test_a_call_that_expires_in_a_chain_reaches_no_device_any_more() -> None:
    world = Chain(in_a_row((DELAY, {"periodInSeconds": 30}), (CALL, {})))
    link = world.link(reply=b"5")
    waiting = world.begin(expiration_time=EPOCH_MS + 5_000)
    world.clock.advance(5.1)
    error = error_of(waiting)
    assert (type(error), error.reason, error.rpc_id) == (CallTimeout, Reason.NOT_FORWARDED, RPC_ID)
    assert world.record.state is CallState.EXPIRED
    world.over()
    assert link.calls == []
    assert world.rules.engine.faults == 1


def test_a_kept_call_that_no_node_takes_ends_when_the_chain_does() -> None:
    world = Chain(DROPPING)
    assert error_of(world.begin(persistent=True, timeout=3600)).reason is Reason.NOT_FORWARDED
    assert result_of(world.store.calls.call(world.device.tenant_id, RPC_ID)) is None
    world.over()


@pytest.mark.parametrize(
    ("patience", "leaves", "error", "seconds"),
    [
        (0.0, False, NoActiveConnection, 0.1),
        (2.0, False, NoActiveConnection, 3.1),
        (5.0, False, NoActiveConnection, 5.1),
        (0.0, True, NoActiveConnection, 3.1),
    ],
)
def test_how_long_a_call_waits_for_a_link_counts_from_its_beginning(
    patience: float, leaves: bool, error: type[BrokerError], seconds: float
) -> None:
    world = Chain(WAITING)
    link = world.link() if leaves else None
    waiting = world.begin(connect_timeout=patience)
    if link is not None:
        link.session.detach(link, "gone")
    world.clock.advance(min(seconds, 3.05))
    world.clock.advance(max(0.0, seconds - 3.05))
    assert type(error_of(waiting)) is error
    world.over()


def test_progress_is_told_through_a_chain() -> None:
    world = Chain(FORWARDING, direct=False)
    link = world.link()
    told: list[bytes] = []
    waiting = world.call(CallRequest(method="m", timeout=10), progress=told.append)
    link.session.progress(link.calls[0].wire_id, b"50")
    link.session.receive(link.calls[0].wire_id, b"1")
    assert told == [b"50"]
    assert result_of(waiting).payload == b"1"


def test_who_asks_again_under_the_same_id_joins_the_call_in_the_chain() -> None:
    world = Chain(in_a_row((TRANSFORM, SCRIPT), (DELAY, {"periodInSeconds": 1}), (CALL, {})), meta(x="y"))
    link = world.link(reply=b"5")
    both = [world.begin(once=True), world.begin(once=True)]
    assert isinstance(error_of(world.begin(once=True, method="other")), VersionConflict)
    world.clock.advance(1.1)
    assert [result_of(each).payload for each in both] == [b"5", b"5"]
    assert result_of(world.begin(once=True)).payload == b"5"
    assert len(link.calls) == 1
    world.over()


def test_who_asks_again_for_a_kept_call_that_the_chain_changed_joins_it_however_much_later() -> None:
    world = Chain(CHANGING, lambda *_: {"msg": {"method": "set", "params": "[7]"}})
    link = world.link()
    kept = {"once": True, "persistent": True, "timeout": 10_000_000}
    assert result_of(world.begin(**kept)).rpc_id == RPC_ID
    story = tell(timeline_json(world.record, "lamp"), now=world.now_ms()).text
    assert "as 'Success', and was changed there (method, params). It was stored" in story
    world.clock.advance(RpcSettings().idempotency_window + 1)
    assert len(world.broker.once) == 0
    assert result_of(world.begin(**kept)).rpc_id == RPC_ID
    assert isinstance(error_of(world.begin(**kept | {"persistent": False})), VersionConflict)
    assert len(link.calls) == 1


def test_what_was_refused_may_be_asked_for_again_while_its_message_is_still_on_its_way() -> None:
    nodes = [(SWITCH, "Switch", {}), (CALL, "Call", {}), (DELAY, "Wait", {"periodInSeconds": 30})]
    chain = graph(nodes, (0, 1, "RPC Request to Device"), (1, 2, "Failure"))
    world = Chain(chain, max_pending_per_device=1)
    link = world.link()
    first = world.call(CallRequest(method="first", timeout=60))
    refused = [world.begin(once=True, timeout=60) for _ in range(2)]
    assert [type(error_of(each)) for each in refused] == [QueueFull, QueueFull]
    link.session.receive(link.calls[0].wire_id, b"1")
    result_of(first)
    accepted = world.begin(once=True, timeout=60)
    link.session.receive(link.calls[1].wire_id, b"2")
    assert result_of(accepted).payload == b"2"
    world.over()


def test_a_tenant_with_too_many_messages_has_its_calls_refused() -> None:
    world = Chain(WAITING, rules={"max_messages": 1})
    world.link(reply=b"5")
    first = world.begin()
    error = error_of(world.call(CallRequest(method="m")))
    assert (type(error), error.reason, error.refused) == (QueueFull, Reason.QUEUE_FULL, True)
    world.clock.advance(3.1)
    assert result_of(first).payload == b"5"
    world.over()


# -- when the broker stops


def test_calls_in_delays_end_when_the_broker_stops_and_nothing_hangs() -> None:
    world = Chain(WAITING)
    link = world.link()
    waiting = world.begin()
    drained = world.broker.drain(10)
    error = error_of(waiting)
    assert (type(error), error.reason) == (CallCancelled, Reason.SHUTTING_DOWN)
    assert drained.called
    world.clock.advance(4)
    assert link.calls == []
    assert len(world.rules.submissions) == 0
    assert world.rules.engine.running.total() == 0


def test_calls_that_devices_have_are_waited_for_and_counted_once() -> None:
    world = Chain(FORWARDING, direct=False)
    link = world.link()
    waiting = [world.call(CallRequest(method="m", timeout=10)) for _ in range(2)]
    drained = world.broker.drain(10)
    link.session.receive(link.calls[0].wire_id, b"1")
    assert not drained.called
    link.session.receive(link.calls[1].wire_id, b"2")
    assert drained.called
    assert [result_of(each).payload for each in waiting] == [b"1", b"2"]
    assert len(world.rules.submissions) == 0
