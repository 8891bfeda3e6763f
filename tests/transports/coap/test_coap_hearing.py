"""What else a device hears, where, and when: cancelled calls, changed attributes, after a move, between two sleeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cbor2
import pytest
from coap_world import (
    CALL,
    CBOR,
    GIVEN,
    JSON,
    RPC_ID,
    TEXT,
    Coap,
    FakeObservation,
    FakePeer,
    change,
    record,
    share,
    state,
)
from fakes import error_of, result_of
from msgspec import structs
from twisted.internet.defer import Deferred

from rpcbroker.core import jsontext
from rpcbroker.core.calls import CallRequest, CallState
from rpcbroker.core.errors import Reason
from rpcbroker.core.model import Scope
from rpcbroker.transports.coap.device import MAX_CANCELS, MAX_UPDATES
from rpcbroker.transports.coap.exchange import Response, Settled
from rpcbroker.wire.coap.numbers import Code

KEPT = structs.replace(CALL, persistent=True)
TICK = 1 / 32
CANCELLED = b'{"id":1,"cancel":true}'


@pytest.fixture
def coap() -> Coap:
    return Coap()


class TestFormats:
    @pytest.mark.parametrize(("accept", "written"), [(None, JSON), (JSON, JSON), (TEXT, TEXT), (CBOR, CBOR)])
    def test_notifications_come_as_the_registration_asked_for(
        self, coap: Coap, accept: int | None, written: int
    ) -> None:
        change(coap, rpcCancel=True)
        observation = coap.observe(accept=accept, confirmable=False)
        updates = coap.observe("attributes", accept=accept, confirmable=False)
        waiting = coap.world.call(structs.replace(CALL, request_id=None))
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
        waiting = coap.world.call(structs.replace(CALL, request_id=None))
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
        other = coap.world.call(structs.replace(CALL, request_id=None))
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
        given = [coap.world.call(structs.replace(CALL, request_id=None)) for _ in range(MAX_CANCELS + 2)]
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
        error = error_of(coap.world.call(structs.replace(CALL, connect_timeout=0)))
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


def test_a_notification_may_be_settled_and_the_next_one_sent_while_it_is_sent(coap: Coap) -> None:
    """As where what is sent is acknowledged at once, and that something can be sent is told at once, too."""
    change(coap, rpcCancel=True)
    observation = coap.observe(confirmable=False)
    given = [coap.world.call(structs.replace(CALL, request_id=None)) for _ in range(4)]
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
