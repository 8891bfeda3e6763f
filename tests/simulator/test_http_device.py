"""A device's side of HTTP: polls, replies, and how it ends."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from device_site import FakeAgent
from twisted.internet.task import Clock

from rpcbroker.simulator.carrier import CRASH_PAUSE, GOODBYE, ConnectedDevice, Refused, Schedule
from rpcbroker.simulator.device import SimulatedDevice
from rpcbroker.simulator.gpio import GpioBoard
from rpcbroker.simulator.http import ANSWER, MAX_BODY, POLL, DeviceSite, HttpCarrier, Polling
from rpcbroker.simulator.widgets import WidgetBoard

PATH = "/api/v1/T%2FK"
FIRST, NEXT = f"{PATH}/rpc?timeout=1", f"{PATH}/rpc?timeout={POLL * 1000:.0f}"
ECHO = b'{"id":7,"method":"echo","params":5}'
COUNT = b'{"id":8,"method":"countDown","params":{"seconds":2}}'


class Staying:
    """A device that polls."""

    def __init__(self, *, schedule: Schedule | None = None, board: Any = None, **more: Any) -> None:
        self.clock = Clock()
        self.agent = FakeAgent()
        self.told: list[str | None] = []
        self.outcome: list[Any] = []
        device = SimulatedDevice(board or GpioBoard((7,)), clock=self.clock, rng=Random(1), **more)
        site = DeviceSite(self.agent, "http://broker:8080/", "T/K")
        carrier = HttpCarrier(lambda: Polling(site, device, clock=self.clock), self.agent.close)
        self.connected = ConnectedDevice(
            carrier, device, clock=self.clock, rng=Random(3), schedule=schedule, on_link=self.told.append
        )
        self.connected.run().addBoth(self.outcome.append)

    def up(self) -> Staying:
        self.agent.answer(408)
        assert self.told[-1] is None
        return self

    def ended(self) -> bool:
        self.agent.flush()
        return self.outcome == [None] and self.clock.getDelayedCalls() == [] and self.agent.closed == 1

    @property
    def posted(self) -> list[tuple[str, bytes]]:
        self.agent.flush()
        return [(path.removeprefix(PATH), body) for path, body in self.agent.site.posted]


def test_a_short_poll_finds_out_whether_the_broker_knows_it_and_long_ones_follow() -> None:
    staying = Staying()
    assert (staying.agent.polls, staying.told) == ([FIRST], [])
    staying.agent.answer(408)
    assert (staying.agent.polls, staying.told) == ([FIRST, NEXT], [None])
    staying.agent.answer(408)
    assert (staying.agent.polls, staying.told) == ([FIRST, NEXT, NEXT], [None])


@pytest.mark.parametrize("polls", [0, 1])
def test_a_call_is_answered_and_the_next_one_is_asked_for(polls: int) -> None:
    staying = Staying()
    if polls:
        staying.up()
    staying.agent.answer(200, ECHO)
    assert staying.posted == [("/rpc/7", b"5")]
    assert len(staying.agent.polls) == polls + 2


def test_progress_is_posted_and_a_cancelled_call_is_not_answered() -> None:
    staying = Staying().up()
    staying.agent.answer(200, COUNT)
    staying.clock.advance(1.0)
    assert staying.posted == [("/rpc/8/progress", b'{"left":1}')]
    staying.agent.answer(200, b'{"id":8,"cancel":true}')
    staying.clock.advance(5.0)
    assert len(staying.posted) == 1


@pytest.mark.parametrize("body", [b"", b"nothing", b"[]", b"{}", b'{"method":"echo"}', b'{"id":true,"method":"echo"}'])
def test_what_is_no_call_is_not_answered(body: bytes) -> None:
    staying = Staying().up()
    staying.agent.answer(200, body)
    assert (staying.posted, staying.told, len(staying.agent.polls)) == ([], [None], 3)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_refused_it_ends_and_does_not_tell_the_token(status: int) -> None:
    staying = Staying()
    staying.agent.answer(status)
    assert staying.outcome[0].check(Refused)
    assert str(status) in str(staying.outcome[0].value)
    assert "T/K" not in str(staying.outcome[0].value)
    assert staying.agent.closed == 1


@pytest.mark.parametrize(("status", "says"), [(429, "429"), (503, "503"), (500, "500"), (302, "302")])
def test_a_broker_that_cannot_now_is_asked_again_later(status: int, says: str) -> None:
    staying = Staying().up()
    staying.agent.answer(status)
    assert says in str(staying.told[-1])
    assert len(staying.agent.polls) == 2
    staying.clock.advance(1.0)
    assert staying.agent.polls[2:] == [FIRST]


def test_a_broker_that_is_away_is_tried_again() -> None:
    staying = Staying().up()
    staying.agent.refusing = True
    staying.agent.answer(408)
    assert staying.told[-1] == "The broker cannot be reached: Connection was refused by other side."
    staying.agent.refusing = False
    staying.clock.advance(1.0)
    staying.up()


def test_a_broker_that_answers_no_poll_has_fallen_silent() -> None:
    staying = Staying().up()
    staying.clock.advance(POLL + ANSWER - 0.1)
    assert staying.told == [None]
    staying.clock.advance(0.1)
    assert staying.told == [None, "The broker has fallen silent."]
    staying.agent.flush()
    assert staying.agent.site.hung_up == [staying.agent.site.asked[1]]


def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    staying = Staying().up()
    staying.agent.stream(b" " * (MAX_BODY + 1), "application/json")
    assert staying.told[-1] == "The broker sent more than a device can take."
    assert len(staying.agent.site.hung_up) == 1


@pytest.mark.parametrize("status", [400, 429, 500])
def test_a_reply_that_is_not_taken_is_no_reason_to_leave(status: int) -> None:
    staying = Staying().up()
    staying.agent.site.status = status
    staying.agent.answer(200, ECHO)
    assert (len(staying.posted), staying.told, len(staying.agent.polls)) == (1, [None], 3)


def test_stopped_it_hangs_up() -> None:
    staying = Staying().up()
    staying.connected.stop()
    assert staying.ended()
    assert len(staying.agent.site.hung_up) == 1


def test_stopped_before_it_was_accepted_it_ends() -> None:
    staying = Staying()
    staying.connected.stop()
    assert staying.ended()


def test_stopped_it_waits_a_moment_until_its_last_reply_has_arrived() -> None:
    staying = Staying().up()
    staying.agent.site.status = 0
    staying.agent.answer(200, ECHO)
    staying.connected.stop()
    staying.clock.advance(GOODBYE - 0.1)
    assert staying.outcome == []
    staying.clock.advance(0.1)
    assert staying.ended()


def test_a_crash_is_a_hang_up_without_an_answer() -> None:
    staying = Staying(crash_after=1).up()
    staying.agent.answer(200, ECHO)
    assert staying.posted == []
    assert "crashed" in str(staying.told[-1])
    assert len(staying.agent.polls) == 2
    staying.clock.advance(CRASH_PAUSE)
    assert staying.agent.polls[2:] == [FIRST]
    staying.connected.stop()
    assert staying.ended()


def test_asleep_it_does_not_poll() -> None:
    staying = Staying(schedule=Schedule(5.0, 55.0)).up()
    staying.clock.advance(5.0)
    staying.agent.flush()
    assert staying.told == [None, "Asleep for 55 s."]
    assert len(staying.agent.site.hung_up) == 1
    staying.clock.advance(55.0)
    assert staying.agent.polls[2:] == [FIRST]
    staying.up()


def test_what_it_reports_is_telemetry() -> None:
    staying = Staying(board=WidgetBoard((7,), seconds=Clock().seconds)).up()
    assert staying.posted == [("/telemetry", b'{"value":0,"state":0,"7":false}')]
