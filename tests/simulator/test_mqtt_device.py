"""A device's side of MQTT, against a broker that is spelled out packet by packet.

Over 400 lines: a connection, and the loop that makes the next one, share one stage.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from twisted.internet import error
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from rpcbroker.simulator.carrier import (
    CRASH_PAUSE,
    GOODBYE,
    LONGEST_PAUSE,
    ConnectedDevice,
    LinkLost,
    Refused,
    Schedule,
)
from rpcbroker.simulator.device import SimulatedDevice
from rpcbroker.simulator.gpio import GpioBoard
from rpcbroker.simulator.mqtt import KEEP_ALIVE, DeviceProtocol, MqttCarrier
from rpcbroker.wire.mqtt.codec import FrameReader, decode, encode
from rpcbroker.wire.mqtt.packets import (
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    PubAck,
    Publish,
    SubAck,
    Subscribe,
    Subscription,
)

REQUEST = "v1/devices/me/rpc/request/"
RESPONSE = "v1/devices/me/rpc/response/"
PROGRESS = "v1/devices/me/rpc/progress/"
CANCEL = "v1/devices/me/rpc/cancel/"


class Far(StringTransport):
    """The broker's end: what the device said, as packets. Closing is told at once."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol: Any = None
        self._frames = FrameReader(1 << 20)

    def heard(self) -> list[Packet]:
        self._frames.feed(self.value())
        self.clear()
        return [decode(first, body, 4) for first, body in self._frames]

    def says(self, *packets: Packet) -> None:
        self.protocol.dataReceived(b"".join(encode(packet, 4) for packet in packets))

    def closes(self) -> None:
        if self.connected:
            self.connected = False
            self.protocol.connectionLost(Failure(error.ConnectionDone()))

    def loseConnection(self) -> None:
        super().loseConnection()
        self.closes()

    def abortConnection(self) -> None:
        self.closes()


def device(clock: Clock, **more: Any) -> SimulatedDevice:
    return SimulatedDevice(GpioBoard((7,)), clock=clock, rng=Random(1), **more)


class Link:
    """One connection, up to where the test wants it."""

    def __init__(self, *, latency: float = 0.0, far: Far | None = None) -> None:
        self.clock = Clock()
        self.far = far or Far()
        self.protocol = DeviceProtocol(device(self.clock, latency=latency), "TOKEN", client_id="c1", clock=self.clock)
        self.outcome: list[Any] = []
        self.protocol.ready.addBoth(self.outcome.append)
        self.far.protocol = self.protocol
        self.protocol.makeConnection(self.far)

    def up(self) -> Link:
        self.far.says(ConnAck(False, 0), SubAck(1, (1, 1)))
        self.far.heard()
        assert self.outcome == [None]
        return self

    def failed_with(self, kind: type[Exception]) -> str:
        assert len(self.outcome) == 1
        assert self.outcome[0].check(kind)
        return str(self.outcome[0].value)


def test_it_introduces_itself_with_its_token() -> None:
    link = Link()
    assert link.far.heard() == [Connect(4, "c1", True, KEEP_ALIVE, "TOKEN")]
    assert link.outcome == []


@pytest.mark.parametrize("cancels", [1, 0x80])
def test_accepted_it_subscribes_and_is_ready_when_calls_are_granted(cancels: int) -> None:
    link = Link()
    link.far.heard()
    link.far.says(ConnAck(False, 0))
    assert link.far.heard() == [Subscribe(1, (Subscription(REQUEST + "+", 1), Subscription(CANCEL + "+", 1)))]
    assert link.outcome == []
    link.far.says(SubAck(1, (1, cancels)))
    assert link.outcome == [None]


@pytest.mark.parametrize("code", [1, 2, 4, 5])
def test_refused_it_says_so_and_leaves(code: int) -> None:
    link = Link()
    link.far.says(ConnAck(False, code))
    assert "refused" in link.failed_with(Refused)
    assert not link.far.connected


def test_a_broker_that_is_not_available_is_no_refusal() -> None:
    link = Link()
    link.far.says(ConnAck(False, 3))
    assert "not available" in link.failed_with(LinkLost)


def test_a_refused_subscription_is_a_refusal() -> None:
    link = Link()
    link.far.says(ConnAck(False, 0), SubAck(1, (0x80, 0x80)))
    assert REQUEST in link.failed_with(Refused)


def test_a_connection_that_ends_early_is_a_lost_link() -> None:
    link = Link()
    gone: list[Any] = []
    link.protocol.gone.addCallback(gone.append)
    link.far.closes()
    assert "closed the connection" in link.failed_with(LinkLost)
    assert gone == [None]
    assert link.clock.getDelayedCalls() == []


@pytest.mark.parametrize("data", [b"HTTP/1.1 400 Bad Request\r\n\r\n" * 4, b"\x00\x00", b"\x30\xff\xff\xff\xff\x01"])
def test_what_is_not_mqtt_ends_the_connection(data: bytes) -> None:
    link = Link()
    link.protocol.dataReceived(data)
    assert "not MQTT" in link.failed_with(LinkLost)
    assert not link.far.connected


def test_a_packet_that_only_devices_send_ends_the_connection() -> None:
    link = Link().up()
    link.far.says(PingReq())
    assert not link.far.connected


@pytest.mark.parametrize("qos", [0, 1])
def test_a_call_is_acknowledged_and_answered_under_its_id(qos: int) -> None:
    link = Link().up()
    payload = b'{"method":"setGpioStatus","params":{"pin":7,"enabled":true}}'
    link.far.says(Publish(REQUEST + "42", payload, qos, 9 if qos else None))
    heard = link.far.heard()
    assert heard[:-1] == ([PubAck(9)] if qos else [])
    assert heard[-1] == Publish(RESPONSE + "42", b'{"7":true}')


def test_calls_byte_by_byte_are_answered_in_order() -> None:
    link = Link().up()
    for number in (1, 2):
        data = encode(Publish(REQUEST + str(number), json.dumps({"method": "echo", "params": number}).encode()), 4)
        for at in range(len(data)):
            link.protocol.dataReceived(data[at : at + 1])
    assert link.far.heard() == [Publish(RESPONSE + "1", b"1"), Publish(RESPONSE + "2", b"2")]


def test_progress_is_reported_under_the_id_of_the_call() -> None:
    link = Link().up()
    link.far.says(Publish(REQUEST + "5", b'{"method":"countDown","params":{"seconds":2}}', 1, 9))
    link.clock.pump([1.0, 1.0])
    assert link.far.heard() == [
        PubAck(9),
        Publish(PROGRESS + "5", b'{"left":1}'),
        Publish(RESPONSE + "5", b'{"left":0}'),
    ]


def test_a_cancelled_call_is_acknowledged_and_not_answered() -> None:
    link = Link().up()
    link.far.says(Publish(REQUEST + "5", b'{"method":"countDown","params":{"seconds":2}}'))
    link.far.says(Publish(CANCEL + "5", b'{"id":5,"cancel":true}', 1, 3))
    link.clock.pump([1.0, 1.0])
    assert link.far.heard() == [PubAck(3)]


def test_an_answer_that_comes_after_the_end_goes_nowhere() -> None:
    link = Link(latency=1.0).up()
    link.far.says(Publish(REQUEST + "1", b'{"method":"echo","params":1}'))
    link.far.closes()
    link.clock.advance(2.0)
    assert link.far.heard() == []


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("v1/devices/me/attributes", b'{"method":"echo"}'),
        (REQUEST + "1", b"not json"),
        (REQUEST + "1", b"[" * 100_000),
        (REQUEST + "1", b"[]"),
        (REQUEST + "1", b'{"method":7}'),
    ],
)
def test_what_is_no_call_is_acknowledged_and_not_answered(topic: str, payload: bytes) -> None:
    link = Link().up()
    link.far.says(Publish(topic, payload, 1, 3))
    assert link.far.heard() == [PubAck(3)]
    assert link.far.connected


def test_it_asks_for_signs_of_life_and_leaves_when_none_come() -> None:
    link = Link().up()
    link.clock.advance(KEEP_ALIVE / 2)
    assert link.far.heard() == [PingReq()]
    link.far.says(PingResp())
    link.clock.advance(KEEP_ALIVE / 2)
    assert link.far.heard() == [PingReq()]
    link.clock.advance(KEEP_ALIVE / 2)
    assert link.far.heard() == []
    assert not link.far.connected
    assert link.clock.getDelayedCalls() == []


def test_a_broker_that_never_answers_is_left_without_a_ping() -> None:
    link = Link()
    link.far.heard()
    link.clock.pump([KEEP_ALIVE / 2] * 2)
    assert link.far.heard() == []
    assert "silent" in link.failed_with(LinkLost)
    assert not link.far.connected


def test_goodbye_is_said() -> None:
    link = Link().up()
    link.protocol.goodbye()
    assert link.far.heard() == [Disconnect()]
    assert not link.far.connected
    link.protocol.goodbye()
    assert link.far.heard() == []


def test_a_broker_that_does_not_take_the_goodbye_is_left_all_the_same() -> None:
    class Stuck(Far):
        def loseConnection(self) -> None:
            """Waits for ever to write what is left."""

    link = Link(far=Stuck()).up()
    link.protocol.goodbye()
    assert link.far.connected
    link.clock.advance(GOODBYE)
    assert not link.far.connected


# -- staying connected


class Endpoint:
    """Connects to a Far, or fails, as the test says."""

    def __init__(self) -> None:
        self.refusing = False
        self.attempts = 0
        self.far: Far
        self.hanging: Deferred[Any] | None = None

    def connect(self, factory: Any) -> Deferred[Any]:
        self.attempts += 1
        if self.hanging is not None:
            return self.hanging
        if self.refusing:
            return fail(error.ConnectionRefusedError())
        protocol = factory.buildProtocol(None)
        self.far = Far()
        self.far.protocol = protocol
        protocol.makeConnection(self.far)
        result: Deferred[Any] = Deferred()
        result.callback(protocol)
        return result


class Staying:
    """A ConnectedDevice that runs on a Clock."""

    def __init__(self, endpoint: Endpoint | None = None, *, schedule: Schedule | None = None, **more: Any) -> None:
        self.clock = Clock()
        self.endpoint = endpoint or Endpoint()
        self.told: list[str | None] = []
        simulated = device(self.clock, **more)
        self.connected = ConnectedDevice(
            MqttCarrier(self.endpoint, simulated, "TOKEN", client_id="c1", clock=self.clock),
            simulated,
            clock=self.clock,
            rng=Random(3),
            schedule=schedule,
            on_link=self.told.append,
        )
        self.outcome: list[Any] = []
        self.connected.run().addBoth(self.outcome.append)

    def accept(self) -> None:
        self.endpoint.far.says(ConnAck(False, 0), SubAck(1, (1, 1)))


def test_it_tells_when_it_can_be_called_and_when_not() -> None:
    staying = Staying()
    assert staying.told == []
    staying.accept()
    assert staying.told == [None]
    staying.endpoint.far.closes()
    assert staying.told == [None, "The broker closed the connection."]


def test_a_lost_connection_is_replaced() -> None:
    staying = Staying()
    staying.accept()
    staying.endpoint.far.closes()
    staying.clock.advance(1.0)
    assert staying.endpoint.attempts == 2
    staying.accept()
    assert staying.told[-1] is None
    staying.endpoint.far.says(Publish(REQUEST + "5", b'{"method":"echo","params":5}'))
    assert Publish(RESPONSE + "5", b"5") in staying.endpoint.far.heard()


def test_it_tries_again_ever_more_slowly() -> None:
    endpoint = Endpoint()
    endpoint.refusing = True
    staying = Staying(endpoint)
    staying.clock.pump([0.1] * 100)
    early = endpoint.attempts
    assert 4 <= early <= 7
    staying.clock.pump([LONGEST_PAUSE] * 100)
    assert 50 <= endpoint.attempts - early <= 130
    assert staying.told[0] == "The broker cannot be reached: Connection was refused by other side."
    assert staying.outcome == []


def test_success_makes_it_eager_again() -> None:
    endpoint = Endpoint()
    endpoint.refusing = True
    staying = Staying(endpoint)
    staying.clock.pump([10.0] * 20)
    endpoint.refusing = False
    staying.clock.advance(LONGEST_PAUSE * 1.2)
    staying.accept()
    attempts = endpoint.attempts
    endpoint.far.closes()
    staying.clock.advance(0.7)
    assert endpoint.attempts == attempts + 1


def test_a_refusal_ends_it() -> None:
    staying = Staying()
    staying.endpoint.far.says(ConnAck(False, 5))
    assert staying.outcome[0].check(Refused)
    assert staying.clock.getDelayedCalls() == []
    assert staying.endpoint.attempts == 1


def test_stopped_while_connected_it_says_goodbye_and_ends() -> None:
    staying = Staying()
    staying.accept()
    staying.endpoint.far.heard()
    staying.connected.stop()
    assert staying.endpoint.far.heard() == [Disconnect()]
    assert staying.outcome == [None]
    assert staying.clock.getDelayedCalls() == []
    assert staying.told == [None]


def test_stopped_before_it_was_accepted_it_ends() -> None:
    staying = Staying()
    staying.connected.stop()
    assert staying.outcome == [None]
    assert staying.clock.getDelayedCalls() == []


def test_stopped_while_it_waits_it_ends() -> None:
    endpoint = Endpoint()
    endpoint.refusing = True
    staying = Staying(endpoint)
    staying.connected.stop()
    assert staying.outcome == [None]
    assert staying.clock.getDelayedCalls() == []


def test_stopped_while_it_connects_it_ends() -> None:
    endpoint = Endpoint()
    endpoint.hanging = Deferred()
    staying = Staying(endpoint)
    staying.connected.stop()
    assert staying.outcome == [None]


# -- crashing, and sleeping


CALL = b'{"method":"echo","params":5}'


def test_a_device_that_crashes_is_gone_without_a_word_and_comes_back() -> None:
    staying = Staying(crash_after=2)
    for _ in range(2):
        staying.accept()
        first = staying.endpoint.far
        first.says(Publish(REQUEST + "1", CALL))
        first.heard()
        first.says(Publish(REQUEST + "2", CALL))
        assert first.heard() == []
        assert not first.connected
        assert staying.told[-2:] == [None, "The device crashed, and comes back in 5 s."]
        staying.clock.advance(CRASH_PAUSE - 0.1)
        assert staying.endpoint.far is first
        staying.clock.advance(0.1)
        assert staying.endpoint.far is not first
    staying.connected.stop()


def test_by_its_schedule_it_says_goodbye_and_comes_back() -> None:
    staying = Staying(schedule=Schedule(5.0, 55.0))
    for number in range(1, 4):
        staying.accept()
        staying.clock.advance(4.9)
        assert staying.endpoint.far.connected
        staying.endpoint.far.heard()
        staying.clock.advance(0.1)
        assert staying.endpoint.far.heard() == [Disconnect()]
        assert staying.told[-2:] == [None, "Asleep for 55 s."]
        staying.clock.advance(54.9)
        assert staying.endpoint.attempts == number
        staying.clock.advance(0.1)
        assert staying.endpoint.attempts == number + 1
    staying.connected.stop()
    assert staying.outcome == [None]


@pytest.mark.parametrize("hanging", [True, False])
def test_it_falls_asleep_also_when_it_has_no_connection(hanging: bool) -> None:
    endpoint = Endpoint()
    endpoint.refusing = True
    endpoint.hanging = Deferred() if hanging else None
    staying = Staying(endpoint, schedule=Schedule(0.1, 60.0))
    staying.clock.advance(0.2)
    assert staying.told[-1] == "Asleep for 60 s."
    endpoint.hanging = None
    staying.clock.advance(59.0)
    assert endpoint.attempts == 1
    staying.clock.advance(1.0)
    assert endpoint.attempts == 2
    staying.clock.advance(0.1)
    staying.connected.stop()
    assert staying.outcome == [None]
    assert staying.clock.getDelayedCalls() == []


def test_what_it_reports_is_telemetry() -> None:
    link = Link().up()
    link.protocol.report({"value": 5})
    assert link.far.heard() == [Publish("v1/devices/me/telemetry", b'{"value":5}')]
    link.far.closes()
    link.protocol.report({"value": 6})
    assert link.far.heard() == []
