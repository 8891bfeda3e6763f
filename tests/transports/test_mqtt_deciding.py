"""What a client may do while its CONNECT is looked at, which takes a look into the store."""

from __future__ import annotations

from fakes import Slow
from mqtt_client import TOKEN, Mqtt

from rpcbroker.transports.dialect import RPC_REQUEST_FILTER
from rpcbroker.wire.mqtt import packets as p

CONNECT = p.Connect(4, "c", username=TOKEN, keep_alive=10)
SUBSCRIBE = p.Subscribe(1, (p.Subscription(RPC_REQUEST_FILTER, 1),))
ANSWERS = [p.ConnAck(False, 0), p.SubAck(1, (1,))]


def test_who_waits_for_the_answer_is_read_all_the_time() -> None:
    world = Mqtt()
    client = world.client()
    with Slow(world.store, "matching_credentials") as slow:
        assert client.send(CONNECT) == []
        assert client.wire.producerState == "producing"
        slow.arrive()
    assert client.received() == ANSWERS[:1]
    assert client.send(SUBSCRIBE) == ANSWERS[1:]


def test_who_goes_on_in_the_same_read_is_not_read_until_the_answer() -> None:
    world = Mqtt()
    client = world.client()
    with Slow(world.store, "matching_credentials") as slow:
        assert client.send(CONNECT, SUBSCRIBE) == []
        assert client.wire.producerState == "paused"
        slow.arrive()
    assert client.received() == ANSWERS
    assert client.wire.producerState == "producing"


def test_who_goes_on_later_is_read_once_more_and_then_not_until_the_answer() -> None:
    world = Mqtt()
    client = world.client()
    with Slow(world.store, "matching_credentials") as slow:
        assert client.send(CONNECT) == []
        assert client.send(SUBSCRIBE) == []
        assert client.wire.producerState == "paused"
        slow.arrive()
    assert client.received() == ANSWERS
    assert client.wire.producerState == "producing"


def test_one_read_beyond_the_largest_packet_is_no_violation() -> None:
    world = Mqtt(max_packet_size=100)
    client = world.client()
    many = [SUBSCRIBE] * 20
    with Slow(world.store, "matching_credentials") as slow:
        assert client.send(CONNECT) == []
        assert client.send(*many) == []
        slow.arrive()
    assert client.received() == [ANSWERS[0], *[ANSWERS[1]] * len(many)]


def test_the_time_that_the_answer_took_is_not_taken_from_the_keep_alive() -> None:
    world = Mqtt()
    client = world.client()
    with Slow(world.store, "matching_credentials") as slow:
        client.send(CONNECT)
        world.clock.advance(9)
        slow.arrive()
    world.clock.advance(14.9)
    assert not client.closed
    world.clock.advance(0.2)
    assert client.closed


def test_who_leaves_before_the_answer_leaves_nothing() -> None:
    world = Mqtt()
    client = world.client()
    with Slow(world.store, "matching_credentials"):
        client.send(CONNECT)
        client.lose()
    assert (world.admission.handshakes, world.admission.connections, world.admission.kept_sessions) == (0, 0, 0)
    assert world.client().connect().connack == ANSWERS[0]
