"""The feed in a terminal: how its events look there, and how watching goes on when the broker was away."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import click.testing
import pytest
from fakes import EPOCH_MS, error_of
from rich.cells import cell_len
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rpcbroker.cli.answers import Answer
from rpcbroker.cli.feed_lines import Line, drawn, line_of
from rpcbroker.cli.stop import ExitCode, Stop
from rpcbroker.cli.watch import Watching
from rpcbroker.core.records import Mark
from rpcbroker.wire.events import Event, encode, encode_number

ID = "0b6a44ae-40ff-4a4a-9a2e-3f34c1d1a5c7"
CALL: dict[str, Any] = {
    "n": 1,
    "topic": f"rpcbroker.call.{ID}.successful",
    "seq": 5,
    "ts": EPOCH_MS,
    "deviceId": ID,
    "deviceName": "lamp",
    "rpcId": ID,
    "method": "setValue",
    "oneway": False,
    "persistent": False,
    "state": "SUCCESSFUL",
    "step": "answered",
    "ms": 31,
    "ended": True,
}
DEVICE = {"ts": EPOCH_MS, "deviceId": ID, "deviceName": "lamp"}


def text(name: str, data: dict[str, Any], width: int = 120) -> str:
    """Behind the time."""
    whole = drawn(line_of(name, data), width).plain
    assert cell_len(whole) <= width
    time = datetime.fromtimestamp(data.get("ts", 0) / 1000).strftime("%H:%M:%S.%f")[:12]
    assert whole.startswith(f"{time}  ")
    return whole.removeprefix(f"{time}  ")


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("call", CALL, "lamp                      setValue                  answered             31 ms"),
        (
            "call",
            CALL | {"state": "EXPIRED", "step": "expired", "reason": "NO_REPLY", "ms": 10_020},
            "lamp                      setValue                  expired          10,020 ms  NO_REPLY",
        ),
        (
            "call",
            CALL | {"state": "QUEUED", "step": "accepted", "ms": 0, "ended": False, "params": {"on": True}},
            'lamp                      setValue                  accepted              0 ms  {"on":true}',
        ),
        (
            "device",
            DEVICE | {"topic": f"rpcbroker.device.{ID}.not_callable", "cause": "it has gone"},
            "lamp                                                not callable                it has gone",
        ),
        (
            "device",
            DEVICE | {"topic": f"rpcbroker.device.{ID}.near_miss", "miss": "LATE_REPLY", "detail": "came late"},
            "lamp                                                near miss                   LATE_REPLY came late",
        ),
        (
            "device",
            DEVICE | {"topic": f"rpcbroker.device.{ID}.asked", "method": "getTime", "transport": "MQTT"},
            "lamp                      getTime                   asked",
        ),
        (
            "bulk",
            {
                "ts": EPOCH_MS,
                "topic": f"rpcbroker.bulk.{ID}",
                "method": "reboot",
                "state": "RUNNING",
                "counts": {"waiting": 1_200, "failed": 0, "total": 1_200},
            },
            "bulk 0b6a44ae-40ff-4a4a…  reboot                    running                     1,200 waiting, 1,200 total",
        ),
        (
            "rule",
            {
                "ts": EPOCH_MS,
                "topic": f"rpcbroker.rule.{ID}",
                "chainName": "Root",
                "nodeName": "switch",
                "direction": "OUT",
                "messageType": "POST_TELEMETRY",
                "label": "True",
                "error": None,
            },
            "Root                      switch                    out                         POST_TELEMETRY True",
        ),
    ],
)
def test_how_an_event_looks(name: str, data: dict[str, Any], expected: str) -> None:
    assert text(name, data) == expected


def test_a_family_that_is_not_known_yet_is_shown_all_the_same() -> None:
    assert '"x":1' in text("new", {"x": 1})


@pytest.mark.parametrize("mark", list(Mark))
def test_each_step_fits_into_its_column(mark: Mark) -> None:
    assert f"  {mark}  " in text("call", CALL | {"step": mark.value})


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
@pytest.mark.parametrize(
    "name", ["lamp", "a long name of a device, longer than any column", "电灯" * 20, "e\u0301" * 30]
)
def test_columns_stand_below_each_other_at_any_width_whatever_the_names(width: int, name: str) -> None:
    plain = drawn(line_of("call", CALL), width).plain
    place = plain.find("setValue")
    other = drawn(line_of("call", CALL | {"deviceName": name}), width).plain
    assert cell_len(other) <= width
    if place >= 0:
        assert cell_len(other[: other.index("setValue")]) == place


def test_nothing_in_a_name_or_a_payload_moves_the_cursor() -> None:
    line = text("call", CALL | {"deviceName": "a\x1b[2Jb\nc", "method": "[red]\x07", "params": "\x1b]0;x\x07\u202e"})
    assert line.isprintable()
    assert "[red]" in line, "and is not read as a style"


def test_an_event_may_lack_anything() -> None:
    for name in ("call", "device", "bulk", "rule", "x"):
        assert isinstance(line_of(name, {}), Line)


@pytest.mark.parametrize(
    ("data", "style"),
    [
        ({}, "green"),
        ({"state": "EXPIRED"}, "red"),
        ({"state": "FAILED"}, "red"),
        ({"state": "DELETED"}, "yellow"),
        ({"state": "FAILED", "ended": False}, ""),
        ({"state": "NEW_STATE"}, ""),
    ],
)
def test_the_colour_says_how_a_call_ended(data: dict[str, Any], style: str) -> None:
    assert line_of("call", CALL | data).style == style


class Broker:
    """What each request is answered with, as the test decides."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.shown: list[tuple[str, Any]] = []
        self.asked: list[str | None] = []
        self.waiting: Deferred[Answer] = Deferred()
        self.watching = Watching(lambda name, data: self.shown.append((name, data)))
        self.ending: Deferred[None] = Deferred.fromCoroutine(self.watching.go_on(self.ask, self.clock))

    def ask(self, last_id: str | None) -> Any:
        async def answered() -> Answer:
            return await self.waiting

        self.asked.append(last_id)
        self.waiting = Deferred()
        return answered()

    def says(self, *events: Event | bytes) -> None:
        for event in events:
            self.watching.feed(event if isinstance(event, bytes) else encode(event))

    def ends(self, status: int = 200, body: bytes = b"") -> None:
        self.waiting.callback(Answer(status, {}, body))

    def breaks(self, code: ExitCode = ExitCode.ERROR) -> None:
        self.waiting.errback(Stop("It is gone.", code))


@pytest.fixture
def broker() -> Broker:
    return Broker()


def event(number: int) -> Event:
    return Event("call", b'{"x":%d}' % number, number)


def test_it_goes_on_behind_the_last_event(broker: Broker, capsys: pytest.CaptureFixture[str]) -> None:
    broker.says(encode_number(4), event(5))
    assert capsys.readouterr().err == "Watching; Ctrl-C ends it.\n"
    broker.says(b"id: 6\nevent: call\ndata: {")
    broker.breaks()
    assert capsys.readouterr().err == "The broker is away: It is gone. Waiting for it.\n"
    broker.clock.advance(0.2)
    broker.breaks()
    broker.clock.advance(0.3)
    assert capsys.readouterr().err == ""
    assert broker.asked == [None, "5", "5"]
    broker.says(encode_number(5))
    assert capsys.readouterr().err == "The broker is back; nothing was missed.\n"
    broker.says(event(6))
    assert broker.shown == [("call", {"x": 5}), ("call", {"x": 6})]
    assert not broker.ending.called


def test_that_something_was_missed_is_said(broker: Broker, capsys: pytest.CaptureFixture[str]) -> None:
    broker.says(encode_number(4))
    broker.says(Event("error", json.dumps({"status": 503, "message": "The broker is stopping"} | ERROR).encode()))
    broker.ends()
    assert "The broker is away: The broker is stopping. Waiting" in capsys.readouterr().err
    broker.clock.advance(0.2)
    broker.says(Event("gap", b"{}", 900), event(901))
    assert capsys.readouterr().err == "The broker is back; what happened meanwhile is not known.\n"
    assert broker.shown == [("call", {"x": 901})]


ERROR = {"errorCode": 2, "timestamp": 1}


def test_a_token_that_has_expired_is_renewed_without_a_word(broker: Broker, capsys: pytest.CaptureFixture[str]) -> None:
    broker.says(encode_number(4))
    capsys.readouterr()
    broker.says(Event("error", json.dumps({"status": 401, "message": "Token has expired"} | ERROR).encode()))
    broker.ends()
    broker.says(encode_number(4), event(5))
    assert broker.asked == [None, "4"]
    assert capsys.readouterr().err == ""


def test_waiting_grows_longer_and_begins_anew_after_success(broker: Broker) -> None:
    broker.says(encode_number(4))
    for _ in range(12):
        broker.breaks()
        asked = len(broker.asked)
        broker.clock.advance(5)
        assert len(broker.asked) == asked + 1
    broker.says(event(5))
    broker.breaks()
    broker.clock.advance(0.2)
    assert len(broker.asked) == 14


@pytest.mark.parametrize(("status", "code"), [(403, ExitCode.NOT_LOGGED_IN), (404, 1), (429, 1), (503, 1)])
def test_it_does_not_begin_where_it_may_not_or_cannot(broker: Broker, status: int, code: int) -> None:
    broker.ends(status, b"{}")
    stop = error_of(broker.ending)
    assert isinstance(stop, Stop)
    assert stop.exit_code == code


def test_without_a_broker_it_does_not_begin(broker: Broker) -> None:
    broker.breaks()
    assert isinstance(error_of(broker.ending), Stop)


@pytest.mark.parametrize("status", [429, 502, 503])
def test_a_broker_that_is_busy_when_it_comes_back_is_asked_again(broker: Broker, status: int) -> None:
    broker.says(encode_number(4))
    broker.ends()
    broker.clock.advance(0.2)
    broker.ends(status, b"{}")
    broker.clock.advance(0.3)
    assert len(broker.asked) == 3
    assert not broker.ending.called


@pytest.mark.parametrize("status", [401, 403, 404])
def test_who_may_not_watch_any_more_is_told_so(broker: Broker, status: int) -> None:
    broker.says(encode_number(4))
    broker.ends()
    broker.clock.advance(0.2)
    broker.ends(status, b'{"message":"no"}')
    assert isinstance(error_of(broker.ending), Stop)


def test_a_login_that_has_ended_ends_it(broker: Broker) -> None:
    broker.says(encode_number(4))
    broker.breaks(ExitCode.NOT_LOGGED_IN)
    assert isinstance(error_of(broker.ending), Stop)


def test_what_cannot_be_shown_ends_it(broker: Broker) -> None:
    def closed(name: str, data: Any) -> None:
        raise BrokenPipeError

    broker.watching._show = closed
    broker.says(encode_number(4), event(5))
    assert isinstance(error_of(broker.ending), BrokenPipeError)


def test_the_options_are_checked_before_anything_is_asked(run: Any) -> None:
    results: list[click.testing.Result] = [
        run("watch", "--state", "GONE"),
        run("watch", "--method", "x" * 256),
    ]
    assert [result.exit_code for result in results] == [ExitCode.USAGE] * 2
