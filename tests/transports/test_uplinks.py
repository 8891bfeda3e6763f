"""What devices say over HTTP and CoAP."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import World, result_of
from twisted.internet.defer import Deferred, succeed

from rpcbroker.core import jsontext
from rpcbroker.core.broker import Broker
from rpcbroker.core.calls import CallRequest
from rpcbroker.core.errors import CallFailed, InvalidRequest, Reason, TooManyRequests
from rpcbroker.core.model import Device, Scope
from rpcbroker.core.near_misses import NearMiss
from rpcbroker.core.setting import Rate
from rpcbroker.core.settings import LimitsSettings
from rpcbroker.transports.uplinks import AttributesQuestion, Uplinks


class NoEnrolment:
    """Takes every offer that is JSON."""

    def provision(self, request: bytes) -> Deferred[bytes]:
        return succeed(b'{"status":"SUCCESS"}')

    def claim(self, device: Device, offer: bytes) -> Deferred[None]:
        async def claim() -> None:
            jsontext.decode(offer)

        return Deferred.fromCoroutine(claim())


def uplinks(world: World) -> Uplinks:
    return Uplinks(world.broker, NoEnrolment(), protocol="TEST")


def test_a_reply_ends_the_call_and_is_a_sign_of_life() -> None:
    world = World()
    link = world.link()
    waiting = world.call(CallRequest(method="get"))
    assert uplinks(world).reply(world.session(), link.calls[0].wire_id, b'{"a":1}') is True
    assert result_of(waiting).payload == b'{"a":1}'
    assert world.session().presence.seen_cause == "TEST"


def test_a_reply_that_is_not_json_is_refused_and_the_call_goes_on() -> None:
    world = World()
    link = world.link()
    waiting = world.call(CallRequest(method="get"))
    wire_id = link.calls[0].wire_id
    with pytest.raises(InvalidRequest):
        uplinks(world).reply(world.session(), wire_id, b"on")
    assert not waiting.called
    assert world.session().missed(NearMiss.BAD_PAYLOAD) == 1
    assert uplinks(world).reply(world.session(), wire_id, b"") is True, "an empty reply is one"
    assert result_of(waiting).payload == b""


def test_progress_must_be_json() -> None:
    world = World()
    link = world.link()
    seen: list[bytes] = []
    world.call(CallRequest(method="get"), progress=seen.append).addErrback(lambda _: None)
    says = uplinks(world)
    assert says.progress(world.session(), link.calls[0].wire_id, b"50") is True
    for bad in (b"", b"{"):
        with pytest.raises(InvalidRequest):
            says.progress(world.session(), link.calls[0].wire_id, bad)
    assert seen == [b"50"]


def test_a_question_is_answered_or_its_method_is_named() -> None:
    world = World()
    says = uplinks(world)
    assert says.ask(world.session(), b'{"method":"getCurrentTime","params":{}}', {}) == b"%d" % world.now_ms()
    assert says.ask(world.session(), b'{"method":"mine"}', {"mine": lambda: b"1"}) == b"1"
    with pytest.raises(CallFailed, match="no rule answers the method") as error:
        says.ask(world.session(), b'{"method":"other"}', {})
    assert error.value.reason is Reason.NO_HANDLER


@pytest.mark.parametrize("bad", [b"", b"[]", b"{}", b'{"method":1}', b"{", b"\xff"])
def test_what_is_no_question_is_refused(bad: bytes) -> None:
    world = World()
    with pytest.raises(InvalidRequest):
        uplinks(world).ask(world.session(), bad, {})
    assert world.session().missed(NearMiss.BAD_PAYLOAD) == 1


def test_attributes_are_stored_and_read_by_their_halves() -> None:
    world = World()
    says, session = uplinks(world), world.session()
    result_of(says.attributes(session, b'{"a":1,"b":true}'))
    result_of(world.broker.attributes.save(world.device.id, Scope.SHARED, {"s": 2}))

    def read(**keys: str) -> Any:
        return jsontext.decode(result_of(says.read_attributes(session, AttributesQuestion(**keys))))

    assert read() == {"client": {"a": 1, "b": True}, "shared": {"s": 2}}
    assert read(client_keys="a, x") == {"client": {"a": 1}}
    assert read(shared_keys="s") == {"shared": {"s": 2}}
    assert read(shared_keys="none") == {}
    assert jsontext.decode(result_of(says.shared_attributes(session))) == {"s": 2}


@pytest.mark.parametrize("say", ["telemetry", "attributes"])
def test_values_must_be_json_of_the_right_form(say: str) -> None:
    world = World()
    for bad in (b"", b"1", b"{", b'{"a":1e999}'):
        with pytest.raises(InvalidRequest):
            getattr(uplinks(world), say)(world.session(), bad)


def test_an_offer_to_be_claimed_that_is_not_json_is_refused() -> None:
    world = World()
    failed: list[Any] = []
    uplinks(world).claim(world.session(), b"{").addErrback(failed.append)
    assert failed[0].check(InvalidRequest)


def test_a_device_that_says_too_much_is_told_so() -> None:
    world = World()
    world.broker.quotas.reconfigure(LimitsSettings(device_messages=Rate(((1, 60.0),))))
    says, session = uplinks(world), world.session()
    says.ask(session, b'{"method":"getCurrentTime"}', {})
    for refused in (
        lambda: says.ask(session, b'{"method":"getCurrentTime"}', {}),
        lambda: says.claim(session, b"{}"),
        lambda: says.progress(session, 1, b"1"),
        lambda: says.read_attributes(session, AttributesQuestion()),
    ):
        with pytest.raises(TooManyRequests):
            refused()
    assert session.missed(NearMiss.RATE_LIMITED) == 4
    says.telemetry(session, b'{"a":1}')  # another rate


def test_telemetry_costs_a_message_and_its_points() -> None:
    world = World()
    world.broker.quotas.reconfigure(LimitsSettings(device_telemetry_points=Rate(((3, 60.0),))))
    says, session = uplinks(world), world.session()
    says.telemetry(session, b'{"a":1,"b":2}')
    with pytest.raises(TooManyRequests):
        says.telemetry(session, b'{"a":1,"b":2}')
    assert isinstance(world.broker, Broker)
