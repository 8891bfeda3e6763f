"""The sender's half of QoS 1 and 2: the table, and everything together against a plain model."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rpcbroker.wire.errors import WireError
from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.message import Message
from rpcbroker.wire.mqtt.outbox import Delivery, Outbox, Stage
from rpcbroker.wire.mqtt.properties import Property

S = Stage
UNKNOWN = None
REFUSED = 0x87


def delivery(qos: int = 1, payload: bytes = b"", *, expires_in: int | None = None, now: float = 0.0) -> Delivery:
    properties = {} if expires_in is None else {Property.MESSAGE_EXPIRY_INTERVAL: expires_in}
    return Delivery(Message("t", payload, qos, properties=properties, now=now), qos)


def at(stage: Stage | None) -> tuple[Outbox, Delivery | None]:
    """An outbox whose message 1 is at this stage; without one there is no such message."""
    outbox = Outbox()
    if stage is None:
        return outbox, None
    sent = delivery(1 if stage is S.AWAITING_PUBACK else 2)
    assert outbox.sent(sent) == 1
    if stage is S.AWAITING_PUBCOMP:
        outbox.acknowledge(p.PubRec(1))
    assert sent.stage is stage
    return outbox, sent


RELEASE = p.PubRel(1)
TABLE = [
    # stage, packet, is it over, what is answered, stage afterwards
    (S.AWAITING_PUBACK, p.PubAck(1), True, None, UNKNOWN),
    (S.AWAITING_PUBACK, p.PubAck(1, 0x10), True, None, UNKNOWN),
    (S.AWAITING_PUBACK, p.PubAck(1, REFUSED), True, None, UNKNOWN),
    (S.AWAITING_PUBREC, p.PubRec(1), False, RELEASE, S.AWAITING_PUBCOMP),
    (S.AWAITING_PUBREC, p.PubRec(1, 0x10), False, RELEASE, S.AWAITING_PUBCOMP),
    (S.AWAITING_PUBREC, p.PubRec(1, REFUSED), True, None, UNKNOWN),
    (S.AWAITING_PUBCOMP, p.PubRec(1), False, RELEASE, S.AWAITING_PUBCOMP),
    (S.AWAITING_PUBCOMP, p.PubRec(1, REFUSED), True, None, UNKNOWN),
    (S.AWAITING_PUBCOMP, p.PubComp(1), True, None, UNKNOWN),
    (S.AWAITING_PUBCOMP, p.PubComp(1, 0x92), True, None, UNKNOWN),
    (UNKNOWN, p.PubAck(1), False, None, UNKNOWN),
    (UNKNOWN, p.PubRec(1), False, RELEASE, UNKNOWN),
    (UNKNOWN, p.PubRec(1, REFUSED), False, None, UNKNOWN),
    (UNKNOWN, p.PubComp(1), False, None, UNKNOWN),
]
"""MQTT 4.3.2, 4.3.3"""

WRONG = [
    (S.AWAITING_PUBACK, p.PubRec(1)),
    (S.AWAITING_PUBACK, p.PubRec(1, REFUSED)),
    (S.AWAITING_PUBACK, p.PubComp(1)),
    (S.AWAITING_PUBREC, p.PubAck(1)),
    (S.AWAITING_PUBREC, p.PubComp(1)),
    (S.AWAITING_PUBCOMP, p.PubAck(1)),
]
"""What does not belong to the handshake."""


@pytest.mark.parametrize(("stage", "packet", "over", "answer", "afterwards"), TABLE)
def test_every_stage_and_packet(stage: Any, packet: Any, over: bool, answer: Any, afterwards: Any) -> None:
    outbox, sent = at(stage)
    assert outbox.acknowledge(packet) == (sent if over else None, answer)
    left = outbox.unfinished()
    assert [(number, one.stage) for number, one in left] == ([] if afterwards is None else [(1, afterwards)])


@pytest.mark.parametrize(("stage", "packet"), WRONG)
def test_what_does_not_belong_to_the_handshake_is_a_protocol_error(stage: Stage, packet: Any) -> None:
    outbox, sent = at(stage)
    with pytest.raises(WireError) as caught:
        outbox.acknowledge(packet)
    assert caught.value.code == 0x82
    assert outbox.unfinished() == ((1, sent),), "and changes nothing"
    assert sent is not None
    assert sent.stage is stage


def test_the_tables_have_every_pair() -> None:
    pairs = {(stage, type(packet)) for stage, packet, *_ in [*TABLE, *WRONG]}
    assert pairs == {(stage, kind) for stage in [*Stage, None] for kind in (p.PubAck, p.PubRec, p.PubComp)}


def test_a_packet_identifier_in_use_is_passed_over() -> None:
    outbox = Outbox()
    first = outbox.sent(delivery())
    for _ in range(0xFFFF - 1):
        number = outbox.sent(delivery())
        outbox.withdraw(number)
    assert (first, number) == (1, 0xFFFF)
    assert outbox.sent(delivery()) == 2


def test_what_cannot_be_sent_is_not_in_flight() -> None:
    outbox = Outbox()
    outbox.window = 1
    number = outbox.sent(delivery())
    assert not outbox.has_room
    outbox.withdraw(number)
    outbox.withdraw(number)
    assert outbox.has_room
    assert outbox.acknowledge(p.PubAck(number)) == (None, None)


def test_nothing_overtakes_what_waits() -> None:
    """MQTT-4.6.0-5"""
    outbox = Outbox()
    outbox.put(delivery())
    assert not outbox.has_room, "although nothing is in flight"


def test_clearing_gives_back_all_in_order() -> None:
    outbox = Outbox()
    given = [delivery(payload=bytes((number,))) for number in range(4)]
    for one in given[:2]:
        outbox.sent(one)
    for one in given[2:]:
        outbox.put(one)
    assert outbox.clear() == given
    assert (outbox.in_flight, outbox.queued, outbox.queued_bytes, outbox.clear()) == (0, 0, 0, [])


class OutboxMachine(RuleBasedStateMachine):
    """An outbox beside two lists: what is in flight, as (packet id, delivery), and what waits."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox()
        self.outbox.window = 3
        self.now = 0.0
        self.flying: list[tuple[int, Delivery]] = []
        self.waiting: list[Delivery] = []
        self.number = 0

    def _made(self, qos: int, expires_in: int | None) -> Delivery:
        self.number += 1
        return delivery(qos, b"%d" % self.number, expires_in=expires_in, now=self.now)

    def _dead(self, one: Delivery) -> bool:
        return one.message.expires is not None and one.message.expires <= self.now

    @rule(qos=st.integers(1, 2), expires_in=st.none() | st.integers(0, 9))
    def give(self, qos: int, expires_in: int | None) -> None:
        """A message comes: it is sent if there is room, else it waits."""
        one = self._made(qos, expires_in)
        room = not self.waiting and len(self.flying) < self.outbox.window
        assert self.outbox.has_room == room
        if room:
            self.flying.append((self._sent(one), one))
        else:
            self.outbox.put(one)
            self.waiting.append(one)

    def _sent(self, one: Delivery) -> int:
        number = self.outbox.sent(one)
        assert 0 < number <= 0xFFFF
        assert number not in dict(self.flying)
        return number

    @rule()
    def go_on(self) -> None:
        """What waits is sent, as far as there is room, without what has expired."""
        while (one := self.outbox.next(self.now)) is not None:
            while self._dead(self.waiting[0]):
                self.waiting.pop(0)
            assert one is self.waiting.pop(0)
            self.flying.append((self._sent(one), one))
        if len(self.flying) < self.outbox.window:
            assert all(self._dead(one) for one in self.waiting)
            self.waiting = []

    @rule(which=st.integers(0, 9), kind=st.sampled_from([p.PubAck, p.PubRec, p.PubComp]), refused=st.booleans())
    def acknowledge(self, which: int, kind: Any, refused: bool) -> None:
        number, one = self.flying[which % len(self.flying)] if self.flying else (777, None)
        code = 0x80 if refused and kind is not p.PubComp else 0
        before = None if one is None else one.stage
        fits = {
            (S.AWAITING_PUBACK, p.PubAck),
            (S.AWAITING_PUBREC, p.PubRec),
            (S.AWAITING_PUBCOMP, p.PubRec),
            (S.AWAITING_PUBCOMP, p.PubComp),
        }
        if one is not None and (before, kind) not in fits:
            with pytest.raises(WireError):
                self.outbox.acknowledge(kind(number, code))
            assert one.stage is before
            return
        finished, answer = self.outbox.acknowledge(kind(number, code))
        if one is None:
            assert finished is None
        elif kind is p.PubRec and not code:
            assert (finished, answer, one.awaits_release) == (None, p.PubRel(number), True)
        else:
            assert (finished, answer) == (one, None)
            self.flying.remove((number, one))

    @precondition(lambda self: self.flying)
    @rule(which=st.integers(0, 9))
    def withdraw(self, which: int) -> None:
        number, _ = self.flying.pop(which % len(self.flying))
        self.outbox.withdraw(number)

    @rule(window=st.integers(1, 5))
    def come_back(self, window: int) -> None:
        """A new connection, which may take more or less than the one before."""
        self.outbox.window = window

    @rule(seconds=st.integers(1, 5))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def end(self) -> None:
        assert self.outbox.clear() == [one for _, one in self.flying] + self.waiting
        self.flying, self.waiting = [], []

    @invariant()
    def they_agree(self) -> None:
        outbox = self.outbox
        assert list(outbox.unfinished()) == self.flying
        assert (outbox.in_flight, outbox.queued) == (len(self.flying), len(self.waiting))
        assert outbox.queued_bytes == sum(one.message.size for one in self.waiting)


OutboxMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestOutboxMachine = OutboxMachine.TestCase
