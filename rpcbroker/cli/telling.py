"""What became of a call, told as a person would tell it: its time line made into sentences."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, tzinfo
from typing import NamedTuple

from rpcbroker.cli.listing import printable
from rpcbroker.cli.words import counted, lasting, sentence
from rpcbroker.core.calls import CallState
from rpcbroker.core.errors import Reason
from rpcbroker.core.records import Mark
from rpcbroker.schema.calls import CallRecordJSON, StepJSON, TimelineJSON

WORTH_TELLING = 100
"""Milliseconds without a step that are a wait, and not the time that things take."""


class Clause(NamedTuple):
    """What a step is told with. `begins`: it begins a sentence, which has this subject.

    In the text, `{detail}` is the step's own half sentence with what stands before it, `{at}` when it was,
    `{gap}` and `{sent}` the time since the step before it and since the call went out, `{wait}` the time until the
    next one, `{again}` that it is not the first of its kind, `{times}` how many there are in a row.
    """

    text: str
    begins: bool = False
    subject: str = "It"


CLAUSES: dict[Mark, Clause] = {
    Mark.ACCEPTED: Clause("was accepted{detail}"),
    Mark.AUTHORISED: Clause("was allowed"),
    Mark.ROUTED: Clause("was routed{detail}"),
    Mark.PASSED: Clause("passed{detail}"),
    Mark.CHANGED: Clause("was changed there{detail}"),
    Mark.STORED: Clause("was stored after {gap}", begins=True),
    Mark.QUEUED: Clause("waited {wait}{detail}"),
    Mark.SENT: Clause("went out{again}{detail} {at}", begins=True),
    Mark.ACKNOWLEDGED: Clause("was acknowledged after {sent}"),
    Mark.UNACKNOWLEDGED: Clause("was not acknowledged within {sent}{detail}"),
    Mark.PUT_BACK: Clause("was put back{detail}"),
    Mark.PROGRESS: Clause("made progress{times}"),
    Mark.RESUMED: Clause("was read{again}{detail} {at}", begins=True),
    Mark.ANSWERED: Clause("was answered {gap} later{detail}"),
    Mark.HANDED_OVER: Clause("asks for no more", begins=True, subject="A one-way call"),
    Mark.FAILED: Clause("failed {at}{detail}", begins=True),
    Mark.EXPIRED: Clause("expired {at}{detail}", begins=True),
    Mark.CANCELLED: Clause("was cancelled {at}{detail}", begins=True),
    Mark.REFUSED: Clause("was refused{detail}", begins=True),
    Mark.DEVICE_TOLD: Clause("was told so", begins=True, subject="The device"),
}
"""How each step is told."""

DETAILS: dict[Mark, str] = {
    Mark.CHANGED: " ({})",
    Mark.REFUSED: ": {}",
    Mark.UNACKNOWLEDGED: " ({})",
    Mark.ANSWERED: ", {}",
}
"""How a step's half sentence goes on after the step; of others after a space, or a comma where it gives a reason."""

MOVED_BY = frozenset({Mark.SENT, Mark.RESUMED})
"""Steps before which a call may have waited without a step that says so."""


class Cause(NamedTuple):
    """Why a call ended without a reply: what goes on after "for", and what to do about it."""

    why: str
    advice: str


CAUSES: dict[Reason, Cause] = {
    Reason.NO_SUBSCRIPTION: Cause(
        "the device was connected, but had not subscribed to calls",
        "The device must subscribe to v1/devices/me/rpc/request/+. What it nearly got right: {show}",
    ),
    Reason.NEVER_CONNECTED: Cause(
        "the device has never connected",
        "Check the device's access token, and the host and port to which it connects: {show}",
    ),
    Reason.DISCONNECTED: Cause(
        "the device was not connected",
        "When and why its connection ended: {show}. A device that sleeps is called with --persistent, "
        "and a long --timeout.",
    ),
    Reason.NO_ACK: Cause(
        "the device did not acknowledge it, however often it went out",
        "The connection is bad, or the device does not read: {show}",
    ),
    Reason.NO_REPLY: Cause(
        "the device got it and did not reply in time",
        "The device must reply, over MQTT on v1/devices/me/rpc/response/{wire_id}. "
        "What it nearly got right: {show}. If it is only slow, give the call a longer --timeout.",
    ),
    Reason.EXPIRED: Cause(
        "its time was over before anything could be done",
        "Compare the caller's clock with the broker's, or leave expirationTime out.",
    ),
    Reason.NO_HANDLER: Cause(
        "nothing in the broker was there to handle it",
        "Look at the method's name, letter by letter.",
    ),
    Reason.NOT_FORWARDED: Cause(
        "no rule chain gave it to the device",
        "A chain gives calls to devices by an 'rpc call request' node, behind 'RPC Request to Device' of its message "
        "type switch. Which chain is the root: rpcbroker rules list. Where a call ends in it: rpcbroker rules test "
        "CHAIN --call METHOD PARAMS",
    ),
    Reason.CANCELLED: Cause(
        "it was cancelled",
        "A call with a --request-id, or a persistent one, goes on when its caller leaves.",
    ),
    Reason.QUEUE_FULL: Cause(
        "too many calls were waiting for the device",
        "See what waits: rpcbroker calls --device {device}, and why: {show}",
    ),
    Reason.BAD_REPLY: Cause(
        "the device replied with what is not JSON",
        "The device's reply must be JSON, or empty: {show}",
    ),
    Reason.REFUSED: Cause(
        "the device's side refused it",
        "The device, or what connects it, would not take it: {show}",
    ),
    Reason.TOO_LARGE: Cause(
        "it is larger than the device takes at once",
        "Send less, or let the device announce a larger Maximum Packet Size.",
    ),
    Reason.DEVICE_DELETED: Cause(
        "the device was deleted",
        "Calls end with their device; rpcbroker audit says who deleted it.",
    ),
    Reason.SHUTTING_DOWN: Cause(
        "the broker was stopped",
        "Ask again. A call that is made with --persistent outlives the broker's stop.",
    ),
    Reason.STORE_UNAVAILABLE: Cause(
        "the broker's store could not keep it",
        "Is the disk full, or the database away? The broker's log says it, and GET /readyz. "
        "Calls that are not persistent need no store.",
    ),
}
"""What each reason means to people."""

STILL: dict[CallState, str] = {
    CallState.QUEUED: "It has not gone to the device yet; it waits until {until}.",
    CallState.SENT: "The device has not acknowledged it yet; it is waited for until {until}.",
    CallState.DELIVERED: "The device has it, and has not replied yet; it is waited for until {until}.",
    CallState.TIMEOUT: "It will go out again when the device subscribes anew, until {until}.",
}
"""Where a call is that goes on."""

DEVICE_ERROR = (
    "The call itself went well: the device did it, or refused to, and says so in its reply. "
    "Look at the reply, and at the device's own log."
)


class Story(NamedTuple):
    """`text` is one line; `reason` and `hint` are for a call that did not go well, `hint` also for one that waits."""

    text: str
    reason: str | None
    hint: str | None


class _Times:
    """Points in time as people read them: the day only when it is another one, the zone only once."""

    def __init__(self, now: int, zone: tzinfo | None) -> None:
        self._zone = zone
        self._day = self._local(now).date()
        self._zone_told = False

    def clock(self, epoch_ms: int) -> str:
        """`14:03:21.042`, with the day before it, and after the first one the zone."""
        local = self._local(epoch_ms)
        day = "" if local.date() == self._day else f"{local:%Y-%m-%d} "
        zone = "" if self._zone_told else f" {local:%Z}"
        self._day, self._zone_told = local.date(), True
        return f"{day}{local:%H:%M:%S}.{local.microsecond // 1000:03}{zone}"

    def at(self, epoch_ms: int) -> str:
        return f"at {self.clock(epoch_ms)}"

    def _local(self, epoch_ms: int) -> datetime:
        return datetime.fromtimestamp(epoch_ms / 1000, UTC).astimezone(self._zone)


def tell(timeline: TimelineJSON, *, now: int, zone: tzinfo | None = None) -> Story:
    """All of it. `now` (epoch ms) is the reader's; times are told in `zone`, None is the local one."""
    times = _Times(now, zone)
    sentences = [_opening(timeline, times), *_sentences(timeline, now, times), _closing(timeline, times)]
    return Story(printable(" ".join(filter(None, sentences))), timeline.reason, advice_for(timeline))


def advice_for(call: CallRecordJSON) -> str | None:
    """What to do about a call that did not go well, or does not go at all; None for others."""
    device = shlex.quote(printable(call.device_name or str(call.device_id)))
    show = f"rpcbroker device show {device}"
    if call.ended_time is None:
        return f"Why it waits: {show}" if call.state is CallState.QUEUED else None
    if call.reason is None:
        return DEVICE_ERROR if call.device_error else None
    return CAUSES[call.reason].advice.format(device=device, show=show, wire_id=call.wire_id)


def _opening(timeline: TimelineJSON, times: _Times) -> str:
    """`getValue was asked of lamp at 14:03:21.042 CET by me@example.org (two-way, until 14:03:31.042).`"""
    device = timeline.device_name or f"the device {timeline.device_id}, which is gone,"
    first = timeline.steps[0] if timeline.steps else None
    by = ""
    if first is not None and first.step is Mark.ACCEPTED and first.detail:
        by = f" by {first.detail.removeprefix('from ')}"
    at = times.at(first.ts if first else timeline.created_time)
    kind = ", ".join(
        [
            "one-way" if timeline.one_way else "two-way",
            *(["persistent"] if timeline.persistent else []),
            f"until {times.clock(timeline.expiration_time)}",
        ]
    )
    return f"{timeline.method} was asked of {device} {at}{by} ({kind})."


def _sentences(timeline: TimelineJSON, now: int, times: _Times) -> Iterator[str]:
    subject, texts = "", list[str]()
    for clause in _clauses(timeline, now, times):
        if texts and clause.begins:
            yield _joined(subject, texts)
            texts = []
        if not texts:
            subject = clause.subject
        texts.append(clause.text)
    if texts:
        yield _joined(subject, texts)


def _clauses(timeline: TimelineJSON, now: int, times: _Times) -> Iterator[Clause]:
    """What the opening does not tell: a clause for each step, for steps in a row, for waits between steps."""
    steps = timeline.steps
    seen: Counter[Mark] = Counter()
    before = sent = steps[0].ts if steps else 0
    last: Mark | None = None
    for number, step in enumerate(steps):
        mark, clause, following = step.step, CLAUSES[step.step], steps[number + 1 : number + 2]
        seen[mark] += 1
        if number == 0 and mark is Mark.ACCEPTED:
            continue
        if "{times}" in clause.text and following and following[0].step is mark:
            continue
        if timeline.omitted and not following:
            yield Clause(f"went through {counted(timeline.omitted, 'more step')} that are not kept", begins=True)
        if mark in MOVED_BY and last is not Mark.QUEUED and step.ts - before >= WORTH_TELLING:
            yield Clause(f"waited {lasting(step.ts - before)}")
        if mark is Mark.SENT:
            sent = step.ts
        told = clause.text.format(
            detail=_detail(step),
            at=times.at(step.ts) if "{at}" in clause.text else "",
            gap=lasting(step.ts - before),
            sent=lasting(step.ts - sent),
            wait=lasting((following[0].ts if following else now) - step.ts) + ("" if following else " so far"),
            again=" again" if seen[mark] > 1 else "",
            times=f" {seen[mark]:,} times" if seen[mark] > 1 else "",
        )
        yield clause._replace(text=told)
        before, last = step.ts, mark


def _detail(step: StepJSON) -> str:
    """What the step says of itself, as it goes on after the clause."""
    if step.detail is None:
        return ""
    if step.detail in CAUSES:
        return f", for {CAUSES[Reason(step.detail)].why}"
    gives_reason = step.detail.startswith(("for ", "and "))
    return DETAILS.get(step.step, ", {}" if gives_reason else " {}").format(step.detail)


def _joined(subject: str, texts: Sequence[str]) -> str:
    """`It a.`, `It a, and b.`, `It a, b, and c.`"""
    *first, last = texts
    return sentence(f"{subject} {', '.join(first)}, and {last}" if first else f"{subject} {last}")


def _closing(timeline: TimelineJSON, times: _Times) -> str:
    """How long it took, or where it is."""
    if timeline.ended_time is None:
        return STILL[timeline.state].format(until=times.clock(timeline.expiration_time))
    began = timeline.steps[0].ts if timeline.steps else timeline.created_time
    return f"It took {lasting(timeline.ended_time - began)} in all."
