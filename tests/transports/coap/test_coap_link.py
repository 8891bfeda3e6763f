"""Calls, and changes of attributes, as notifications: what becomes of them, and of the device's presence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cbor2
import pytest
from coap_world import CBOR, JSON, RPC_ID, TEXT, TOKEN, Coap, FakeObservation, FakePeer
from fakes import World, error_of, result_of, token
from twisted.internet.defer import Deferred

from rpcbroker.core import jsontext
from rpcbroker.core.calls import CallRequest, CallState, SubmitStrategy
from rpcbroker.core.errors import Reason
from rpcbroker.core.links import FLAPS
from rpcbroker.core.model import Scope
from rpcbroker.core.ports import CloseReason
from rpcbroker.transports.coap.device import MAX_CANCELS, MAX_UPDATES
from rpcbroker.transports.coap.exchange import Response, Settled
from rpcbroker.wire.coap.numbers import Code

CALL = CallRequest(method="m", params=b'{"pin":7}', timeout=20, request_id=RPC_ID)
ONE_WAY = replace(CALL, oneway=True)
KEPT = replace(CALL, persistent=True)
TICK = 1 / 32
GIVEN = b'{"id":1,"method":"m","params":{"pin":7}}'
CANCELLED = b'{"id":1,"cancel":true}'


@pytest.fixture
def coap() -> Coap:
    return Coap()


def record(coap: Coap) -> Any:
    return coap.world.broker.recorder.find(coap.session.device.tenant_id, RPC_ID)


def state(coap: Coap) -> CallState:
    known: CallState = record(coap).state
    return known


def change(coap: Coap, **additional_info: Any) -> None:
    """What is known of the device is edited."""
    device = replace(coap.session.device, additional_info=additional_info)
    coap.world.broker.device_changed(device)


def share(coap: Coap, **values: Any) -> None:
    broker = coap.world.broker
    parsed = broker.attributes.parse(jsontext.encode(values))
    result_of(broker.attributes.save(coap.session.device.id, Scope.SHARED, parsed))


def steps(coap: Coap) -> list[str]:
    return [str(mark) for _, mark, _ in record(coap).moments]


class TestConfirmable:
    """A call is delivered when the device acknowledges its notification."""

    def test_a_two_way_call(self, coap: Coap) -> None:
        observation = coap.observe()
        waiting = coap.world.call(CALL)
        (sent,) = observation.sent
        assert (sent.code, sent.payload, sent.content_format) == (Code.CONTENT, GIVEN, JSON)
        assert sent.authenticated
        assert state(coap) is CallState.SENT
        observation.settle()
        assert state(coap) is CallState.DELIVERED
        coap.post("rpc/1", b"true")
        assert result_of(waiting).payload == b"true"
        assert steps(coap)[-3:] == ["sent", "acknowledged", "answered"]

    def test_its_reply_may_come_before_the_acknowledgement(self, coap: Coap) -> None:
        observation = coap.observe()
        waiting = coap.world.call(CALL)
        coap.post("rpc/1", b"true")
        assert result_of(waiting).payload == b"true"
        observation.settle()
        assert state(coap) is CallState.SUCCESSFUL

    def test_a_one_way_call_is_done_when_it_went_out(self, coap: Coap) -> None:
        coap.observe()
        assert result_of(coap.world.call(ONE_WAY)).payload == b""

    def test_a_persistent_one_when_it_was_acknowledged(self, coap: Coap) -> None:
        observation = coap.observe()
        result_of(coap.world.call(replace(ONE_WAY, persistent=True)))
        assert record(coap).ended_time is None
        observation.settle()
        found = result_of(coap.world.store.calls.call(coap.session.device.tenant_id, RPC_ID))
        assert (found.record.state, found.record.ended_time is None) == (CallState.DELIVERED, False)

    def test_an_acknowledgement_is_a_sign_of_life(self, coap: Coap) -> None:
        observation = coap.observe()
        waiting = coap.world.call(CALL)
        coap.world.clock.advance(5)
        observation.settle()
        assert coap.session.presence.seen_time == coap.world.now_ms()
        waiting.cancel()
        error_of(waiting)

    def test_one_at_a_time(self, coap: Coap) -> None:
        observation = coap.observe()
        waiting = [coap.world.call(replace(CALL, request_id=None)) for _ in range(3)]
        for number in range(1, 4):
            assert [jsontext.decode(each)["id"] for each in observation.payloads] == list(range(1, number + 1))
            observation.settle()
        for number, each in enumerate(waiting):
            coap.post(f"rpc/{number + 1}", b"%d" % number)
            assert result_of(each).payload == b"%d" % number

    def test_silence_ends_the_observation_and_the_call(self, coap: Coap) -> None:
        observation = coap.observe()
        waiting = coap.world.call(replace(CALL, retries=0))
        coap.world.clock.advance(3)
        observation.settle(Settled.UNACKNOWLEDGED)
        error = error_of(waiting)
        assert error.reason is Reason.NO_ACK
        assert error.hint == (
            "Whether the call reached the device is not known; it disconnected 0 s ago (did not acknowledge a "
            "notification (NO_ACK))."
        )
        assert not coap.session.connected
        assert "NO_ACK" in coap.session.presence.connected.cause

    @pytest.mark.parametrize("request_", [CALL, KEPT], ids=["lightweight", "persistent"])
    def test_or_the_call_waits_for_the_next_one(self, request_: CallRequest) -> None:
        coap = Coap()
        observation = coap.observe()
        waiting = coap.world.call(replace(request_, retries=1))
        observation.settle(Settled.UNACKNOWLEDGED)
        assert record(coap).state in (CallState.TIMEOUT, CallState.QUEUED)
        again = coap.observe()
        assert again.payloads == [GIVEN]
        again.settle()
        coap.post("rpc/1", b"true")
        assert result_of(waiting).payload == (b"true" if request_ is CALL else b"")
        assert state(coap) is CallState.SUCCESSFUL

    def test_how_often_a_persistent_call_was_missed_is_counted(self, coap: Coap) -> None:
        result_of(coap.world.call(replace(KEPT, retries=1)))
        for _ in range(2):
            observation = coap.observe()
            assert observation.payloads == [GIVEN]
            observation.settle(Settled.UNACKNOWLEDGED)
        found = result_of(coap.world.store.calls.call(coap.session.device.tenant_id, RPC_ID))
        assert found.record.state is CallState.FAILED
        assert found.record.reason is Reason.NO_ACK

    def test_if_the_server_is_to_close_it_for_that_it_has_ended_already(self) -> None:
        coap = Coap(world=World(close_session_on_delivery_timeout=True))
        observation = coap.observe()
        waiting = coap.world.call(replace(CALL, retries=0))
        observation.settle(Settled.UNACKNOWLEDGED)
        assert not coap.session.connected
        again = coap.observe()
        assert again.payloads == [GIVEN]
        coap.post("rpc/1", b"1")
        assert result_of(waiting).payload == b"1"

    def test_a_reset_ends_the_observation_and_the_call_waits(self, coap: Coap) -> None:
        observation = coap.observe()
        waiting = coap.world.call(CALL)
        observation.settle(Settled.REJECTED)
        assert not coap.session.connected
        assert state(coap) is CallState.QUEUED
        assert coap.session.presence.connected.cause == "reset a notification"
        assert coap.observe().payloads == [GIVEN]
        coap.post("rpc/1", b"1")
        result_of(waiting)

    def test_a_call_that_has_ended_may_be_acknowledged_reset_or_missed(self, coap: Coap) -> None:
        for number, became in enumerate((Settled.ACKNOWLEDGED, Settled.REJECTED, Settled.UNACKNOWLEDGED)):
            observation = coap.observe()
            waiting = coap.world.call(replace(CALL, request_id=None))
            coap.post(f"rpc/{number + 1}", b"1")
            assert result_of(waiting).payload == b"1"
            observation.settle(became)


class TestNonConfirmable:
    """A call is delivered when it was sent."""

    def test_a_two_way_call(self, coap: Coap) -> None:
        observation = coap.observe(confirmable=False)
        waiting = coap.world.call(CALL)
        assert observation.payloads == [GIVEN]
        assert state(coap) is CallState.DELIVERED
        assert "acknowledged" not in steps(coap)
        coap.post("rpc/1", b"1")
        assert result_of(waiting).payload == b"1"

    def test_a_one_way_call(self, coap: Coap) -> None:
        coap.observe(confirmable=False)
        assert result_of(coap.world.call(ONE_WAY)).payload == b""

    def test_that_it_was_sent_is_no_sign_of_life(self, coap: Coap) -> None:
        coap.observe(confirmable=False)
        before = coap.session.presence.seen_time
        coap.world.clock.advance(5)
        result_of(coap.world.call(ONE_WAY))
        assert coap.session.presence.seen_time == before

    def test_one_that_has_to_be_confirmed_all_the_same_is_awaited(self, coap: Coap) -> None:
        observation = coap.observe(confirmable=False)
        observation.confirmable = True
        waiting = coap.world.call(CALL)
        assert state(coap) is CallState.SENT
        observation.settle()
        assert state(coap) is CallState.DELIVERED
        coap.post("rpc/1", b"1")
        result_of(waiting)

    def test_many_go_out_at_once(self, coap: Coap) -> None:
        waiting = [coap.world.call(replace(ONE_WAY, request_id=None)) for _ in range(50)]
        observation = coap.observe(confirmable=False)
        assert [jsontext.decode(each)["id"] for each in observation.payloads] == list(range(1, 51))
        for each in waiting:
            result_of(each)


class TestRegistrations:
    @pytest.mark.parametrize("request_", [CALL, KEPT], ids=["lightweight", "persistent"])
    def test_what_waited_goes_out_after_the_answer(self, coap: Coap, request_: CallRequest) -> None:
        waiting = coap.world.call(request_)
        request = coap.request(Code.GET, "rpc", observe=0)
        answer: Any = coap.site.handle(request)
        assert result_of(answer).code == Code.VALID
        (observation,) = coap.observations.values()
        assert coap.session.callable
        assert observation.payloads == []
        observation.answer()
        assert observation.payloads == [GIVEN]
        coap.post("rpc/1", b"1")
        result_of(waiting)

    def test_a_refreshed_one_is_answered_like_the_first_and_gets_nothing_twice(self, coap: Coap) -> None:
        observation = coap.observe()
        waiting = coap.world.call(CALL)
        observation.settle()
        assert coap.observe() is observation
        assert observation.payloads == [GIVEN]
        coap.post("rpc/1", b"1")
        result_of(waiting)
        assert coap.session.near_misses() == ()

    def test_one_from_elsewhere_replaces_it(self, coap: Coap) -> None:
        observation = coap.observe()
        waiting = coap.world.call(CALL)
        newer = coap.observe(peer=FakePeer())
        assert observation.last is not None
        assert (observation.last.code, observation.last.payload) == (Code.DELETED, b"")
        assert newer.payloads == [GIVEN]
        assert coap.session.callable
        newer.settle()
        coap.post("rpc/1", b"1")
        assert result_of(waiting).payload == b"1"

    def test_what_the_older_one_has_acknowledged_does_not_come_again(self, coap: Coap) -> None:
        observation = coap.observe()
        waiting = coap.world.call(CALL)
        observation.settle()
        assert coap.observe(peer=FakePeer()).payloads == []
        coap.post("rpc/1", b"1")
        result_of(waiting)

    def test_two_devices_that_replace_each_other_for_ever_are_noted(self, coap: Coap) -> None:
        for _ in range(FLAPS + 1):
            coap.observe(peer=FakePeer())
        assert "CONNECTION_FLAPPING" in coap.missed()

    def test_an_mqtt_connection_and_an_observation_replace_each_other(self, coap: Coap) -> None:
        mqtt = coap.world.link(protocol="MQTT")
        observation = coap.observe()
        assert mqtt.closed == [CloseReason.TAKEN_OVER]
        coap.world.link(protocol="MQTT")
        assert observation.last is not None
        assert coap.session.connected
        coap.observe()
        assert coap.session.presence.connected.cause == "connected over CoAP"

    def test_the_names_of_both_protocols(self) -> None:
        for protocol, peer in (("CoAP", FakePeer()), ("CoAPs", FakePeer(secure=True))):
            coap = Coap()
            coap.observe(peer=peer)
            assert coap.session.presence.connected.cause == f"connected over {protocol}"
            assert coap.session.presence.seen_cause == protocol

    def test_of_which_a_device_speaks_one_at_a_time(self, coap: Coap) -> None:
        plain, updates = coap.observe(), coap.observe("attributes")
        secured = coap.observe(peer=FakePeer(secure=True))
        assert plain.last is not None
        assert updates.last is not None
        assert coap.session.presence.connected.cause == "connected over CoAPs"
        coap.observe()
        assert secured.last is not None
        assert coap.session.presence.connected.cause == "connected over CoAP"
        assert coap.session.callable
        assert len(coap.site._around.links) == 1

    def test_a_poll_is_beside_it(self, coap: Coap) -> None:
        observation = coap.observe()
        coap.world.link(protocol="HTTP", transient=True)
        assert observation.last is None

    def test_what_the_device_ends_is_gone(self, coap: Coap) -> None:
        observation = coap.observe()
        observation.leave("the device ended it")
        assert coap.session.presence.connected.cause == "the device ended it"
        assert error_of(coap.world.call(replace(CALL, connect_timeout=0))).reason is Reason.DISCONNECTED

    def test_a_late_end_of_an_older_one_changes_nothing(self, coap: Coap) -> None:
        observation = coap.observe()
        coap.observe(peer=FakePeer())
        observation.gone("the device ended it")
        assert coap.session.callable

    def test_one_of_attributes_only_takes_no_calls(self, coap: Coap) -> None:
        coap.observe("attributes")
        error = error_of(coap.world.call(replace(CALL, connect_timeout=0)))
        assert error.reason is Reason.NO_SUBSCRIPTION
        assert error.hint == "The device connected over CoAP 0 s ago, but does not observe /api/v1/{token}/rpc."

    def test_both_are_one_connection(self, coap: Coap) -> None:
        calls, updates = coap.observe(), coap.observe("attributes")
        calls.leave()
        assert coap.session.connected
        assert not coap.session.callable
        updates.leave()
        assert not coap.session.connected

    def test_in_whatever_order_they_end(self, coap: Coap) -> None:
        calls, updates = coap.observe(), coap.observe("attributes")
        updates.leave()
        assert coap.session.callable
        calls.leave()
        assert not coap.session.connected

    def test_or_begin(self, coap: Coap) -> None:
        coap.observe("attributes")
        for _ in range(2):
            calls = coap.observe()
            assert coap.session.callable
            calls.leave()

    def test_when_the_server_stops_it_is_told_so(self, coap: Coap) -> None:
        observations = coap.observe(), coap.observe("attributes")
        result_of(coap.world.broker.drain(1))
        assert all(observation.last is not None for observation in observations)

    def test_nothing_is_kept_of_a_device_that_left(self, coap: Coap) -> None:
        change(coap, psm=True)
        coap.observe().leave()
        assert coap.site._around.links == {}
        coap.observe()
        coap.delete()
        assert coap.site._around.links == {}
        coap.world.clock.advance(60)


class TestStrategies:
    @pytest.mark.parametrize("strategy", [SubmitStrategy.ON_ACK, SubmitStrategy.ON_RESPONSE])
    def test_calls_in_a_row(self, coap: Coap, strategy: SubmitStrategy) -> None:
        observation = coap.observe()
        requests = [replace(CALL, request_id=None, strategy=strategy) for _ in range(2)]
        first, second = map(coap.world.call, requests)
        assert len(observation.sent) == 1
        observation.settle()
        assert len(observation.sent) == (2 if strategy is SubmitStrategy.ON_ACK else 1)
        coap.post("rpc/1", b"1")
        assert len(observation.sent) == 2
        observation.settle()
        coap.post("rpc/2", b"2")
        assert [result_of(each).payload for each in (first, second)] == [b"1", b"2"]

    def test_one_that_was_missed_holds_up_the_next_until_the_device_is_back(self, coap: Coap) -> None:
        observation = coap.observe()
        requests = [replace(CALL, request_id=None, retries=2, strategy=SubmitStrategy.ON_ACK) for _ in range(2)]
        first, second = map(coap.world.call, requests)
        observation.settle(Settled.UNACKNOWLEDGED)
        again = coap.observe()
        assert again.payloads == [GIVEN]
        again.settle()
        assert len(again.sent) == 2
        again.settle()
        for number, each in enumerate((first, second)):
            coap.post(f"rpc/{number + 1}", b"1")
            result_of(each)


class TestFormats:
    @pytest.mark.parametrize(("accept", "written"), [(None, JSON), (JSON, JSON), (TEXT, TEXT), (CBOR, CBOR)])
    def test_notifications_come_as_the_registration_asked_for(
        self, coap: Coap, accept: int | None, written: int
    ) -> None:
        change(coap, rpcCancel=True)
        observation = coap.observe(accept=accept, confirmable=False)
        updates = coap.observe("attributes", accept=accept, confirmable=False)
        waiting = coap.world.call(replace(CALL, request_id=None))
        waiting.cancel()
        error_of(waiting)
        share(coap, a=1)
        decode: Callable[[bytes], Any] = cbor2.loads if written == CBOR else jsontext.decode
        assert [response.content_format for response in (*observation.sent, *updates.sent)] == [written] * 3
        assert [decode(payload) for payload in observation.payloads] == [
            {"id": 1, "method": "m", "params": {"pin": 7}},
            {"id": 1, "cancel": True},
        ]
        assert [decode(payload) for payload in updates.payloads] == [{"a": 1}]


class TestCancel:
    def give_up(self, coap: Coap) -> None:
        waiting = coap.world.call(replace(CALL, request_id=None))
        waiting.cancel()
        error_of(waiting)

    def test_the_device_is_told_that_nobody_waits(self, coap: Coap) -> None:
        change(coap, rpcCancel=True)
        observation = coap.observe(confirmable=False)
        self.give_up(coap)
        assert observation.payloads == [GIVEN, CANCELLED]

    def test_after_what_is_on_its_way(self, coap: Coap) -> None:
        change(coap, rpcCancel=True)
        observation = coap.observe()
        self.give_up(coap)
        assert observation.payloads == [GIVEN]
        other = coap.world.call(replace(CALL, request_id=None))
        observation.settle()
        assert observation.payloads == [GIVEN, CANCELLED]
        observation.settle()
        assert len(observation.payloads) == 3
        coap.post("rpc/2", b"1")
        result_of(other)

    def test_one_that_does_not_want_to_hear_it_does_not(self, coap: Coap) -> None:
        observation = coap.observe(confirmable=False)
        self.give_up(coap)
        assert observation.payloads == [GIVEN]

    def test_not_so_many_wait_that_memory_would_be_used_up(self, coap: Coap) -> None:
        change(coap, rpcCancel=True)
        observation = coap.observe(confirmable=False)
        given = [coap.world.call(replace(CALL, request_id=None)) for _ in range(MAX_CANCELS + 2)]
        observation.confirmable = True
        for each in given:
            each.cancel()
            error_of(each)
        for _ in range(MAX_CANCELS + 1):
            observation.settle()
        assert len(observation.payloads) == MAX_CANCELS + 2 + MAX_CANCELS + 1
        assert not observation.busy

    @pytest.mark.parametrize("became", [Settled.UNACKNOWLEDGED, Settled.REJECTED])
    def test_one_that_does_not_hear_it_is_gone(self, coap: Coap, became: Settled) -> None:
        change(coap, rpcCancel=True)
        observation = coap.observe()
        self.give_up(coap)
        observation.settle()
        observation.settle(became)
        assert not coap.session.connected

    def test_a_sleeping_one_cannot_be_told(self, coap: Coap) -> None:
        change(coap, rpcCancel=True, psm=True)
        observation = coap.observe(confirmable=False)
        waiting = coap.world.call(CALL)
        coap.world.clock.advance(11)
        cancelling = coap.session.cancel(record(coap), "by somebody")
        assert not result_of(cancelling).device_told
        error_of(waiting)
        assert observation.payloads == [GIVEN]


class TestAttributes:
    def test_each_change_is_told(self, coap: Coap) -> None:
        observation = coap.observe("attributes", confirmable=False)
        share(coap, a=1)
        share(coap, b={"c": [1]})
        deleting = coap.world.broker.attributes.delete(coap.session.device.id, Scope.SHARED, ["a"])
        result_of(deleting)
        assert observation.payloads == [b'{"a":1}', b'{"b":{"c":[1]}}', b'{"deleted":["a"]}']

    def test_one_after_the_other(self, coap: Coap) -> None:
        observation = coap.observe("attributes")
        for number in range(3):
            share(coap, a=number)
        for number in range(3):
            assert observation.payloads[-1] == b'{"a":%d}' % number
            observation.settle()
        assert len(observation.payloads) == 3

    def test_what_changes_before_the_answer_is_told_after_it(self, coap: Coap) -> None:
        coap.get("attributes")
        share(coap, a=1)
        reading: Deferred[Any] = Deferred()
        real = coap.world.store.values.attributes
        coap.world.store.values.attributes = lambda *_, **__: reading  # type: ignore[method-assign,assignment]
        answer: Any = coap.site.handle(coap.request(Code.GET, "attributes", observe=0))
        coap.world.store.values.attributes = real  # type: ignore[method-assign]
        snapshot = result_of(real(coap.session.device.id, scopes=(Scope.SHARED,), keys=(), after_writes=True))
        share(coap, a=2)
        reading.callback(snapshot)
        assert result_of(answer).payload == b'{"a":1}'
        (observation,) = coap.observations.values()
        assert observation.payloads == []
        observation.answer()
        assert observation.payloads == [b'{"a":2}']

    def test_not_so_many_wait_that_memory_would_be_used_up(self, coap: Coap) -> None:
        observation = coap.observe("attributes")
        for number in range(MAX_UPDATES + 3):
            share(coap, a=number)
        assert coap.missed() == {"QUEUE_OVERFLOW": "was not told of changed attributes: 32 wait"}
        while observation.waiting is not None:
            observation.settle()
        assert observation.payloads == [b'{"a":0}', *(b'{"a":%d}' % n for n in range(3, MAX_UPDATES + 3))]

    @pytest.mark.parametrize("became", [Settled.UNACKNOWLEDGED, Settled.REJECTED])
    def test_one_that_does_not_hear_it_is_gone(self, coap: Coap, became: Settled) -> None:
        observation = coap.observe("attributes")
        share(coap, a=1)
        observation.settle(became)
        assert not coap.session.connected
        share(coap, a=2)
        assert len(observation.payloads) == 1

    def test_its_calls_are_another_matter(self, coap: Coap) -> None:
        coap.observe()
        updates = coap.observe("attributes")
        share(coap, a=1)
        updates.settle(Settled.UNACKNOWLEDGED)
        assert coap.session.callable

    def test_one_from_elsewhere_replaces_it(self, coap: Coap) -> None:
        observation = coap.observe("attributes")
        newer = coap.observe("attributes", peer=FakePeer())
        assert observation.last is not None
        observation.gone("the device ended it")
        share(coap, a=1)
        assert newer.payloads == [b'{"a":1}']

    def test_who_observes_calls_only_hears_none(self, coap: Coap) -> None:
        observation = coap.observe(confirmable=False)
        share(coap, a=1)
        assert observation.payloads == []


class TestElsewhere:
    """A device behind a NAT has another address after a while."""

    def test_each_message_tells_where_it_is(self, coap: Coap) -> None:
        observation, updates = coap.observe(), coap.observe("attributes")
        elsewhere = FakePeer("192.0.2.2")
        coap.post("telemetry", b'{"t":1}', peer=elsewhere)
        coap.post("telemetry", b"no", peer=elsewhere)
        coap.get("attributes", peer=elsewhere)
        assert observation.reached == updates.reached == [elsewhere] * 3

    def test_where_it_is_already_need_not_be_told(self, coap: Coap) -> None:
        observation = coap.observe()
        coap.post("telemetry", b'{"t":1}')
        assert observation.reached == []

    def test_what_goes_over_dtls_does_not_go_out_in_plain_text(self, coap: Coap) -> None:
        observation = coap.observe(peer=FakePeer(secure=True))
        coap.post("telemetry", b'{"t":1}')
        assert observation.reached == []
        elsewhere = FakePeer(secure=True)
        coap.post("telemetry", b'{"t":1}', peer=elsewhere)
        assert observation.reached == [elsewhere]

    def test_another_device_s_message_says_nothing(self, coap: Coap) -> None:
        observation = coap.observe()
        coap.world.add(replace(coap.world.device, id=RPC_ID, name="other"), "OTHER")
        coap.post("/api/v1/OTHER/telemetry", b'{"t":1}', peer=FakePeer())
        assert observation.reached == []


class TestPowerSaving:
    def test_it_can_be_called_for_a_while_after_each_message(self, coap: Coap) -> None:
        change(coap, psm=True)
        coap.observe()
        for _ in range(3):
            coap.world.clock.advance(9.9)
            assert coap.session.callable
            coap.post("telemetry", b'{"t":1}')
        coap.world.clock.advance(10 + TICK)
        assert not coap.session.callable
        assert coap.session.connected
        assert coap.session.presence.callable.cause == "sleeps"

    def test_who_calls_meanwhile_is_told_so(self, coap: Coap) -> None:
        change(coap, psm=True)
        coap.observe()
        coap.world.clock.advance(11)
        error = error_of(coap.world.call(replace(CALL, connect_timeout=0)))
        assert error.reason is Reason.NO_SUBSCRIPTION
        assert error.hint == (
            "The device connected over CoAP 11 s ago, but sleeps; it takes calls for 10 s after each message of its own."
        )

    @pytest.mark.parametrize("request_", [CALL, KEPT], ids=["lightweight", "persistent"])
    def test_calls_wait_and_go_out_at_once_with_its_next_message(self, coap: Coap, request_: CallRequest) -> None:
        change(coap, psm=True)
        observation = coap.observe()
        coap.world.clock.advance(11)
        waiting = coap.world.call(request_)
        assert observation.payloads == []
        coap.post("telemetry", b'{"t":1}')
        assert observation.payloads == [GIVEN]
        observation.settle()
        coap.post("rpc/1", b"1")
        result_of(waiting)
        assert state(coap) is CallState.SUCCESSFUL

    def test_even_with_one_that_was_refused(self, coap: Coap) -> None:
        change(coap, psm=True)
        observation = coap.observe(confirmable=False)
        coap.world.clock.advance(11)
        waiting = coap.world.call(CALL)
        coap.post("nonsense", b"1")
        assert observation.payloads == [GIVEN]
        coap.post("rpc/1", b"1")
        result_of(waiting)

    def test_a_call_that_it_replies_to_is_not_given_again_by_that(self, coap: Coap) -> None:
        change(coap, psm=True)
        observation = coap.observe()
        result_of(coap.world.call(KEPT))
        observation.settle()
        coap.world.clock.advance(11)
        coap.post("rpc/1", b"1")
        assert observation.payloads == [GIVEN]
        assert state(coap) is CallState.SUCCESSFUL

    def test_updates_wait_too(self, coap: Coap) -> None:
        change(coap, psm=True)
        observation = coap.observe("attributes", confirmable=False)
        coap.world.clock.advance(11)
        share(coap, a=1)
        assert observation.payloads == []
        coap.post("telemetry", b'{"t":1}')
        assert observation.payloads == [b'{"a":1}']

    @pytest.mark.parametrize(("psm", "seconds"), [(True, 10), (2000, 2), (500, 0.5), (1e300, 86_400)])
    def test_how_long_is_its_own_affair_or_a_setting(self, coap: Coap, psm: Any, seconds: float) -> None:
        change(coap, psm=psm)
        coap.observe()
        coap.world.clock.advance(seconds - TICK)
        assert coap.session.callable
        coap.world.clock.advance(2 * TICK)
        assert not coap.session.callable

    @pytest.mark.parametrize("psm", [False, None, 0, -1, "yes", "10000", [], {}])
    def test_what_says_nothing_of_it_means_that_it_never_sleeps(self, coap: Coap, psm: Any) -> None:
        change(coap, psm=psm)
        coap.observe()
        coap.world.clock.advance(100_000)
        assert coap.session.callable

    def test_the_setting_may_change(self) -> None:
        coap = Coap()
        change(coap, psm=True)
        coap.observe()
        coap.settings = replace(coap.settings, psm_activity_window=3.0)
        coap.post("telemetry", b'{"t":1}')
        coap.world.clock.advance(3 + TICK)
        assert not coap.session.callable

    def test_so_may_the_device(self, coap: Coap) -> None:
        coap.observe()
        change(coap, psm=True)
        coap.world.clock.advance(100)
        assert coap.session.callable
        coap.post("telemetry", b'{"t":1}')
        coap.world.clock.advance(11)
        assert not coap.session.callable
        change(coap)
        coap.post("telemetry", b'{"t":1}')
        coap.world.clock.advance(100)
        assert coap.session.callable

    def test_a_new_registration_wakes_it(self, coap: Coap) -> None:
        change(coap, psm=True)
        observation = coap.observe()
        coap.world.clock.advance(11)
        waiting = coap.world.call(CALL)
        assert coap.observe() is observation
        assert observation.payloads == [GIVEN]
        coap.post("rpc/1", b"1")
        result_of(waiting)


class TestEndsOfCalls:
    def test_no_reply(self, coap: Coap) -> None:
        observation = coap.observe()
        waiting = coap.world.call(CALL)
        observation.settle()
        coap.world.clock.advance(21)
        assert error_of(waiting).reason is Reason.NO_REPLY

    def test_offline_then_online(self, coap: Coap) -> None:
        waiting = coap.world.call(CALL)
        coap.world.clock.advance(5)
        observation = coap.observe()
        assert observation.payloads == [GIVEN]
        observation.settle()
        coap.post("rpc/1", b"1")
        assert result_of(waiting).payload == b"1"

    def test_a_device_that_is_deleted(self, coap: Coap) -> None:
        coap.observe()
        waiting = coap.world.call(CALL)
        coap.delete()
        assert error_of(waiting).reason is Reason.DEVICE_DELETED

    def test_a_call_on_its_way_when_the_token_changes_waits_for_the_new_one(self, coap: Coap) -> None:
        coap.observe()
        waiting = coap.world.call(CALL)
        new = replace(token(coap.world.device), credentials_id="NEW", version=2)
        result_of(coap.world.store.update_credentials(new))
        coap.world.broker.credentials_changed(coap.world.device.id)
        assert state(coap) is CallState.QUEUED
        assert coap.get(f"/api/v1/{TOKEN}/rpc", observe=0).code == Code.UNAUTHORIZED
        assert coap.observe("/api/v1/NEW/rpc").payloads == [GIVEN]
        coap.post("/api/v1/NEW/rpc/1", b"1")
        assert result_of(waiting).payload == b"1"


def test_a_notification_may_be_settled_and_the_next_one_sent_while_it_is_sent(coap: Coap) -> None:
    """As where what is sent is acknowledged at once, and that something can be sent is told at once, too."""
    change(coap, rpcCancel=True)
    observation = coap.observe(confirmable=False)
    given = [coap.world.call(replace(CALL, request_id=None)) for _ in range(4)]
    observation.confirmable = True
    for each in given:
        each.cancel()
        error_of(each)
    observation.confirmable = False
    real = FakeObservation.notify

    def eager(response: Response, settled: Callable[[Settled], None]) -> bool:
        taken = real(observation, response, settled)
        observation.ready()
        return taken

    observation.notify = eager  # type: ignore[method-assign]
    observation.settle()
    assert [jsontext.decode(each)["id"] for each in observation.payloads] == [1, 2, 3, 4, 1, 2, 3, 4]
