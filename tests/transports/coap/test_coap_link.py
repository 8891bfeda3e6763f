"""Calls as notifications: what becomes of them, and of the device's presence.

Over 400 lines: one link, from a call to its end; updates and cancels are in test_coap_hearing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from coap_world import CALL, GIVEN, JSON, RPC_ID, TOKEN, Coap, FakePeer, change, record, state
from fakes import World, error_of, result_of, token
from msgspec import structs

from rpcbroker.core import jsontext
from rpcbroker.core.calls import CallRequest, CallState, SubmitStrategy
from rpcbroker.core.errors import Reason
from rpcbroker.core.events import CallAdvanced
from rpcbroker.core.links import FLAPS
from rpcbroker.core.ports import CloseReason
from rpcbroker.transports.coap.exchange import Settled
from rpcbroker.wire.coap.numbers import Code

ONE_WAY = structs.replace(CALL, oneway=True)
KEPT = structs.replace(CALL, persistent=True)


@pytest.fixture
def coap() -> Coap:
    return Coap()


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
        assert not observation.busy
        assert state(coap) is CallState.SUCCESSFUL
        assert steps(coap)[-3:] == ["sent", "acknowledged", "answered"]

    def test_a_one_way_call_is_done_when_it_went_out(self, coap: Coap) -> None:
        coap.observe()
        assert result_of(coap.world.call(ONE_WAY)).payload == b""

    def test_a_persistent_one_when_it_was_acknowledged(self, coap: Coap) -> None:
        observation = coap.observe()
        result_of(coap.world.call(structs.replace(ONE_WAY, persistent=True)))
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
        waiting = [coap.world.call(structs.replace(CALL, request_id=None)) for _ in range(3)]
        for number in range(1, 4):
            assert [jsontext.decode(each)["id"] for each in observation.payloads] == list(range(1, number + 1))
            observation.settle()
        for number, each in enumerate(waiting):
            coap.post(f"rpc/{number + 1}", b"%d" % number)
            assert result_of(each).payload == b"%d" % number

    def test_silence_ends_the_observation_and_the_call(self, coap: Coap) -> None:
        observation = coap.observe()
        waiting = coap.world.call(structs.replace(CALL, retries=0))
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
        waiting = coap.world.call(structs.replace(request_, retries=1))
        observation.settle(Settled.UNACKNOWLEDGED)
        assert record(coap).state in (CallState.TIMEOUT, CallState.QUEUED)
        again = coap.observe()
        assert again.payloads == [GIVEN]
        again.settle()
        coap.post("rpc/1", b"true")
        assert result_of(waiting).payload == (b"true" if request_ is CALL else b"")
        assert state(coap) is CallState.SUCCESSFUL

    def test_how_often_a_persistent_call_was_missed_is_counted(self, coap: Coap) -> None:
        result_of(coap.world.call(structs.replace(KEPT, retries=1)))
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
        waiting = coap.world.call(structs.replace(CALL, retries=0))
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
        for became in (Settled.ACKNOWLEDGED, Settled.REJECTED, Settled.UNACKNOWLEDGED):
            observation = coap.observe()
            waiting = coap.world.call(structs.replace(CALL, request_id=None))
            waiting.cancel()
            assert error_of(waiting).reason is Reason.CANCELLED
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

    def test_it_is_told_to_listeners_once(self, coap: Coap) -> None:
        advanced: list[CallAdvanced] = []
        coap.world.broker.events.listen(CallAdvanced, advanced.append)
        coap.observe(confirmable=False)
        waiting = coap.world.call(CALL)
        assert [event.state for event in advanced] == [CallState.DELIVERED]
        coap.post("rpc/1", b"1")
        result_of(waiting)

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
        waiting = [coap.world.call(structs.replace(ONE_WAY, request_id=None)) for _ in range(50)]
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

    def test_a_persistent_call_comes_again_with_each_new_registration_until_it_is_answered(self, coap: Coap) -> None:
        observation = coap.observe()
        result_of(coap.world.call(KEPT))
        observation.settle()
        newer = coap.observe(peer=FakePeer())
        assert newer.payloads == [GIVEN]
        newer.settle()
        coap.post("rpc/1", b"1")
        assert coap.observe(peer=FakePeer()).payloads == []

    def test_a_refresh_brings_it_again_only_after_a_while_without_a_word(self, coap: Coap) -> None:
        observation = coap.observe()
        result_of(coap.world.call(structs.replace(KEPT, timeout=600)))
        observation.settle()
        coap.world.clock.advance(29)
        coap.observe()
        assert observation.payloads == [GIVEN]
        coap.post("rpc/1/progress", b"50")
        coap.world.clock.advance(29)
        coap.observe()
        assert observation.payloads == [GIVEN]
        coap.world.clock.advance(1)
        coap.observe()
        assert observation.payloads == [GIVEN, GIVEN]

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
        assert error_of(coap.world.call(structs.replace(CALL, connect_timeout=0))).reason is Reason.DISCONNECTED

    def test_a_late_end_of_an_older_one_changes_nothing(self, coap: Coap) -> None:
        observation = coap.observe()
        coap.observe(peer=FakePeer())
        observation.gone("the device ended it")
        assert coap.session.callable

    def test_one_of_attributes_only_takes_no_calls(self, coap: Coap) -> None:
        coap.observe("attributes")
        error = error_of(coap.world.call(structs.replace(CALL, connect_timeout=0)))
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
        requests = [structs.replace(CALL, request_id=None, strategy=strategy) for _ in range(2)]
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
        requests = [structs.replace(CALL, request_id=None, retries=2, strategy=SubmitStrategy.ON_ACK) for _ in range(2)]
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
