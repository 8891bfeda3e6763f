"""What became of a call, in sentences."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from rpcbroker.cli.telling import CAUSES, CLAUSES, STILL, advice_for, tell
from rpcbroker.cli.words import lasting
from rpcbroker.core.calls import FINAL_STATES, CallState
from rpcbroker.core.errors import Reason
from rpcbroker.core.records import CallRecord, Mark
from rpcbroker.schema.calls import TimelineJSON, timeline_json

T = 1_700_000_000_000  # 22:13:20 UTC
START = [
    (T, Mark.ACCEPTED, "from me@example.org"),
    (T, Mark.AUTHORISED, None),
    (T + 1, Mark.ROUTED, "straight to the device"),
]
FIRST = "It was allowed, and was routed straight to the device."
WHERE = "the device has never connected; its credentials have not been used yet"


def record(*moments: tuple[int, Mark, str | None], **more: Any) -> CallRecord:
    """Of a call that was accepted at T; the times of `moments` are counted from there."""
    members: dict[str, Any] = {
        "rpc_id": UUID(int=1),
        "wire_id": 7,
        "tenant_id": UUID(int=2),
        "device_id": UUID(int=3),
        "method": "getValue",
        "oneway": False,
        "persistent": False,
        "created_time": T,
        "expiration_time": T + 10_000,
        "moments": START + [(T + after, mark, detail) for after, mark, detail in moments],
    }
    return CallRecord(**members | more)


def ended(a_record: CallRecord, state: CallState, after: int, reason: Reason | None = None, reply: bytes = b"") -> Any:
    a_record.state = state
    a_record.end(T + after, reason, reply)
    return timeline_json(a_record, "boiler-7")


def text(timeline: TimelineJSON, *, now: int = T + 20_000, zone: Any = UTC) -> str:
    return tell(timeline, now=now, zone=zone).text


def test_a_call_that_waited_and_was_answered_with_an_error() -> None:
    kept = record(
        (4, Mark.STORED, None),
        (4, Mark.QUEUED, f"for {WHERE}"),
        (4204, Mark.SENT, "over MQTT"),
        (4216, Mark.ACKNOWLEDGED, None),
        persistent=True,
    )
    story = tell(ended(kept, CallState.SUCCESSFUL, 4247, reply=b'{"error":"hot"}'), now=T + 5000, zone=UTC)
    assert story.text == (
        "getValue was asked of boiler-7 at 22:13:20.000 UTC by me@example.org (two-way, persistent, until 22:13:30.000)."
        f" {FIRST} It was stored after 3 ms, and waited 4.2 s, for {WHERE}."
        " It went out over MQTT at 22:13:24.204, was acknowledged after 12 ms, and was answered 31 ms later,"
        " with an error. It took 4.25 s in all."
    )
    assert story.reason is None
    assert story.hint is not None
    assert "Look at the reply" in story.hint


def test_a_call_that_went_well_needs_no_hint() -> None:
    story = tell(ended(record((2, Mark.SENT, "over MQTT")), CallState.SUCCESSFUL, 9, reply=b"7"), now=T, zone=UTC)
    assert story.text.endswith(
        "It went out over MQTT at 22:13:20.002, and was answered 7 ms later. It took 9 ms in all."
    )
    assert (story.reason, story.hint) == (None, None)


@pytest.mark.parametrize(
    ("moments", "told"),
    [
        ([(500, Mark.QUEUED, "behind 3 others")], "and waited 19.5 s so far behind 3 others."),
        (
            [(3, Mark.STORED, None), (4204, Mark.SENT, "over MQTT")],
            "It was stored after 2 ms, and waited 4.2 s. It went",
        ),
        ([(3, Mark.STORED, None), (9, Mark.SENT, "over MQTT")], "It was stored after 2 ms. It went out over MQTT at "),
        (
            [(1, Mark.SENT, "over MQTT"), (10_001, Mark.UNACKNOWLEDGED, "1 of 6 times")],
            "and was not acknowledged within 10 s (1 of 6 times).",
        ),
        (
            [(1, Mark.SENT, "over MQTT"), (9, Mark.PUT_BACK, "and the device's connection closed")],
            "and was put back, and the device's connection closed.",
        ),
        ([(1, Mark.SENT, "over MQTT"), (2, Mark.SENT, "over MQTT")], "It went out again over MQTT at 22:13:20.002."),
        ([(1, Mark.PROGRESS, None)], "and made progress."),
        ([(n, Mark.PROGRESS, None) for n in range(1200)], "and made progress 1,200 times."),
        ([(50, Mark.RESUMED, "from the store")], "It was read from the store at 22:13:20.050."),
        (
            [(5, Mark.CANCELLED, "by me@example.org"), (6, Mark.DEVICE_TOLD, None)],
            "It was cancelled at 22:13:20.005 by me@example.org. The device was told so.",
        ),
        ([(5, Mark.CANCELLED, "for its caller has left")], "at 22:13:20.005, for its caller has left."),
        ([(5, Mark.REFUSED, "Too many calls wait")], "It was refused: Too many calls wait."),
        ([(5, Mark.HANDED_OVER, None)], "A one-way call asks for no more."),
        ([(5, Mark.FAILED, "NO_ACK")], "It failed at 22:13:20.005, for the device did not acknowledge it"),
        ([(5, Mark.EXPIRED, "NO_REPLY")], "It expired at 22:13:20.005, for the device got it and did not reply"),
        ([(5, Mark.EXPIRED, None)], "It expired at 22:13:20.005."),
    ],
)
def test_how_steps_are_told(moments: list[Any], told: str) -> None:
    assert told in text(timeline_json(record(*moments), "boiler-7"))


@pytest.mark.parametrize("detail", [None, "by something"])
@pytest.mark.parametrize("mark", Mark)
def test_every_step_has_its_words_wherever_it_stands(mark: Mark, detail: str | None) -> None:
    assert mark in CLAUSES
    for steps in ([(5, mark, detail)], [(5, mark, detail)] * 3, [(5, Mark.SENT, "over MQTT"), (900, mark, detail)]):
        told = text(timeline_json(record(*steps), "boiler-7"))
        words = CLAUSES[mark].text.partition("{")[0].strip()
        assert words in told
        assert "{" not in told
        assert "  " not in told


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_cause_and_says_what_to_do(reason: Reason) -> None:
    timeline = ended(record(), CallState.FAILED, 10, reason)
    story = tell(timeline, now=T, zone=UTC)
    assert f"It failed at 22:13:20.010, for {CAUSES[reason].why}." in story.text
    assert story.reason == reason
    assert story.hint
    assert "{" not in story.hint


def test_hints_are_commands_that_a_shell_takes() -> None:
    timeline = timeline_json(record(reason=Reason.NO_REPLY, state=CallState.EXPIRED, ended_time=T), "it's a; lamp")
    hint = advice_for(timeline)
    assert hint is not None
    assert "on v1/devices/me/rpc/response/7." in hint
    assert "rpcbroker device show 'it'\"'\"'s a; lamp'" in hint


@pytest.mark.parametrize("state", [state for state in CallState if state not in FINAL_STATES])
def test_a_call_that_goes_on_says_where_it_is(state: CallState) -> None:
    told = text(timeline_json(record(state=state), "boiler-7"))
    assert told.endswith(STILL[state].format(until="22:13:30.000"))
    waits = "Why it waits: rpcbroker device show boiler-7"
    assert advice_for(timeline_json(record(state=state), "boiler-7")) == (waits if state is CallState.QUEUED else None)


def test_a_deleted_call_that_has_ended_says_how_long_it_took() -> None:
    cancelled = record((5, Mark.CANCELLED, "by me@example.org"))
    assert text(ended(cancelled, CallState.DELETED, 5, Reason.CANCELLED)).endswith("It took 5 ms in all.")


def test_a_record_without_steps_and_without_its_device_is_told() -> None:
    told = text(timeline_json(record(moments=[], oneway=True), None))
    assert told.startswith(
        "getValue was asked of the device 00000000-0000-0000-0000-000000000003, which is gone, at 22:13:20.000 UTC (one-way,"
    )


def test_steps_that_were_too_many_are_counted() -> None:
    told = text(ended(record((1, Mark.SENT, "over MQTT"), omitted=1250), CallState.SUCCESSFUL, 90_000))
    assert "It went through 1,250 more steps that are not kept, and was answered 1 min 29 s later." in told


def test_the_day_is_told_when_it_is_another_one_and_the_zone_once() -> None:
    zone = timezone(timedelta(hours=2), "EET")
    timeline = timeline_json(record((1, Mark.SENT, "over MQTT")), "boiler-7")
    assert datetime.fromtimestamp(T / 1000, zone).day == 15
    told = text(timeline, now=T + 86_400_000, zone=zone)
    assert "at 2023-11-15 00:13:20.000 EET by me@example.org (two-way, until 00:13:30.000)." in told
    assert "It went out over MQTT at 00:13:20.001." in told
    assert "2023" not in text(timeline, zone=zone)


def test_what_would_move_the_cursor_is_not_told() -> None:
    told = text(timeline_json(record((1, Mark.REFUSED, "\x1b[2J\n"), method="get\x07Value\n"), "a\x1b[1mlamp"))
    assert told.isprintable()
    assert told.startswith("get?Value? was asked of a?[1mlamp at ")


def test_a_clock_that_was_set_back_makes_no_negative_times() -> None:
    told = text(timeline_json(record((5, Mark.SENT, "over MQTT"), (2, Mark.ACKNOWLEDGED, None)), "lamp"))
    assert "was acknowledged after less than 1 ms." in told


@pytest.mark.parametrize(
    ("milliseconds", "told"),
    [
        (-5, "less than 1 ms"),
        (0, "less than 1 ms"),
        (999, "999 ms"),
        (1000, "1 s"),
        (4250, "4.25 s"),
        (59_000, "59 s"),
        (60_000, "1 min"),
        (123_000, "2 min 3 s"),
        (3_600_000, "1 h"),
        (11_040_000, "3 h 4 min"),
        (86_400_000, "1 d"),
        (183_600_000, "2 d 3 h"),
    ],
)
def test_how_long_things_last(milliseconds: int, told: str) -> None:
    assert lasting(milliseconds) == told
