"""A device's side of server-sent events."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from device_site import FakeAgent
from twisted.internet.task import Clock

from rpcbroker.simulator.carrier import CRASH_PAUSE, ConnectedDevice, Refused, Schedule
from rpcbroker.simulator.device import SimulatedDevice
from rpcbroker.simulator.gpio import GpioBoard
from rpcbroker.simulator.http import ANSWER, DeviceSite, HttpCarrier
from rpcbroker.simulator.sse import SILENCE, Bookmark, Streaming

ECHO = b'event: rpc\nid: 41\ndata: {"id":7,"method":"echo","params":5}\n\n'
COUNT = b'event: rpc\nid: 42\ndata: {"id":8,"method":"countDown","params":{"seconds":2}}\n\n'
CANCEL = b'event: cancel\ndata: {"id":8,"cancel":true}\n\n'


class Staying:
    """A device with a stream."""

    def __init__(self, *, schedule: Schedule | None = None, **more: Any) -> None:
        self.clock = Clock()
        self.agent = FakeAgent()
        self.told: list[str | None] = []
        self.outcome: list[Any] = []
        device = SimulatedDevice(GpioBoard((7,)), clock=self.clock, rng=Random(1), **more)
        site = DeviceSite(self.agent, "http://broker:8080", "TOKEN")
        bookmark = Bookmark()
        carrier = HttpCarrier(lambda: Streaming(site, device, bookmark, clock=self.clock), self.agent.close)
        self.connected = ConnectedDevice(
            carrier, device, clock=self.clock, rng=Random(3), schedule=schedule, on_link=self.told.append
        )
        self.connected.run().addBoth(self.outcome.append)

    def up(self) -> Staying:
        self.agent.stream(b":\n\n")
        assert self.told[-1] is None
        return self

    def header(self, name: str) -> str | None:
        value: str | None = self.agent.site.asked[-1].getHeader(name)
        return value

    @property
    def posted(self) -> list[tuple[str, bytes]]:
        self.agent.flush()
        return [(path.removeprefix("/api/v1/TOKEN"), body) for path, body in self.agent.site.posted]


def test_it_asks_for_a_stream_and_is_up_when_it_begins() -> None:
    staying = Staying()
    assert staying.agent.polls == ["/api/v1/TOKEN/rpc"]
    assert (staying.header("accept"), staying.header("last-event-id")) == ("text/event-stream", None)
    assert staying.told == []
    staying.up()


def test_calls_come_as_events_and_replies_go_as_posts() -> None:
    staying = Staying().up()
    for at in range(len(ECHO)):
        staying.agent.stream(ECHO[at : at + 1])
    staying.agent.stream(COUNT)
    staying.clock.advance(1.0)
    staying.agent.stream(CANCEL)
    staying.clock.advance(2.0)
    assert staying.posted == [("/rpc/7", b"5"), ("/rpc/8/progress", b'{"left":1}')]


def test_a_stream_that_ends_is_gone_on_with_where_it_broke_off() -> None:
    staying = Staying().up()
    staying.agent.stream(ECHO)
    staying.agent.site.asked[-1].finish()
    staying.agent.flush()
    assert staying.told[-1] == "The broker closed the connection."
    staying.clock.advance(1.0)
    assert staying.header("last-event-id") == "41"


def test_a_crash_forgets_where_it_was() -> None:
    staying = Staying(crash_after=1).up()
    staying.agent.stream(ECHO + COUNT)
    assert staying.posted == []
    assert len(staying.agent.site.hung_up) == 1
    staying.clock.advance(CRASH_PAUSE)
    assert staying.header("last-event-id") is None
    staying.up()


def test_a_stream_without_signs_of_life_is_left() -> None:
    staying = Staying().up()
    staying.clock.advance(SILENCE - 1.0)
    staying.agent.stream(b":\n\n")
    staying.clock.advance(SILENCE - 1.0)
    assert staying.told == [None]
    staying.clock.advance(1.0)
    assert staying.told == [None, "The broker has fallen silent."]
    staying.agent.flush()
    assert len(staying.agent.site.hung_up) == 1


def test_a_broker_that_does_not_answer_is_left() -> None:
    staying = Staying()
    staying.clock.advance(ANSWER)
    assert staying.told == ["The broker has fallen silent."]


@pytest.mark.parametrize("status", [401, 404])
def test_refused_it_ends(status: int) -> None:
    staying = Staying()
    staying.agent.answer(status)
    assert staying.outcome[0].check(Refused)


def test_a_broker_without_events_is_a_refusal() -> None:
    staying = Staying()
    staying.agent.stream(b"{}", "application/json")
    assert staying.outcome[0].check(Refused)
    assert len(staying.agent.site.hung_up) == 1


@pytest.mark.parametrize("status", [408, 429, 503])
def test_a_broker_that_cannot_now_is_asked_again(status: int) -> None:
    staying = Staying()
    staying.agent.answer(status)
    assert str(status) in str(staying.told[-1])
    staying.clock.advance(1.0)
    staying.up()


def test_asleep_it_has_no_stream_and_remembers_where_it_was() -> None:
    staying = Staying(schedule=Schedule(5.0, 55.0)).up()
    staying.agent.stream(ECHO)
    staying.clock.advance(5.0)
    staying.agent.flush()
    assert staying.told[-1] == "Asleep for 55 s."
    assert len(staying.agent.site.hung_up) == 1
    staying.clock.advance(55.0)
    assert staying.header("last-event-id") == "41"


def test_stopped_it_hangs_up() -> None:
    staying = Staying().up()
    staying.connected.stop()
    staying.agent.flush()
    assert staying.outcome == [None]
    assert len(staying.agent.site.hung_up) == 1
    assert staying.clock.getDelayedCalls() == []
