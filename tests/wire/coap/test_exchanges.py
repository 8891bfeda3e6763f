"""Sending again, and knowing what came again: with chance and time pinned."""

from __future__ import annotations

import tracemalloc
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcbroker.wire.coap.exchanges import Recent, Retransmission, Timing
from rpcbroker.wire.coap.observe import following, value_of

CON = Timing().exchange_lifetime
NON = Timing().non_lifetime


def waits(timing: Timing, rng: Random) -> list[float]:
    one = Retransmission(timing)
    found = [one.first(rng)]
    while (wait := one.next()) is not None:
        found.append(wait)
    assert one.next() is None
    return found


class TestTiming:
    def test_what_follows_from_the_defaults_is_what_the_table_says(self) -> None:
        timing = Timing()  # RFC 7252 4.8.2, table 3
        assert timing.max_transmit_span == 45
        assert timing.max_transmit_wait == 93
        assert timing.max_rtt == 202
        assert timing.exchange_lifetime == 247
        assert timing.non_lifetime == 145

    def test_the_waits_are_these(self) -> None:
        assert waits(Timing(), Random(0)) == pytest.approx(
            [2.844421851525048, 5.688843703050096, 11.377687406100193, 22.755374812200385, 45.51074962440077], abs=1e-12
        )

    def test_other_settings(self) -> None:
        assert waits(Timing(ack_timeout=0.5, ack_random_factor=1.0, max_retransmit=2), Random(0)) == [0.5, 1.0, 2.0]
        assert waits(Timing(max_retransmit=0, ack_random_factor=1.0), Random(0)) == [2.0]

    @given(st.randoms(use_true_random=False), st.floats(0.01, 60), st.floats(1, 3), st.integers(0, 8))
    def test_all_waits_together_are_within_max_transmit_wait(
        self, rng: Random, ack_timeout: float, factor: float, times: int
    ) -> None:
        timing = Timing(ack_timeout=ack_timeout, ack_random_factor=factor, max_retransmit=times)
        found = waits(timing, rng)
        assert len(found) == times + 1
        assert ack_timeout <= found[0] <= ack_timeout * factor * 1.000001
        assert sum(found) <= timing.max_transmit_wait * 1.000001
        assert sum(found[:-1]) <= timing.max_transmit_span * 1.000001


class TestRecent:
    def test_a_message_is_new_once(self) -> None:
        recent = Recent()
        assert recent.seen(7, 0.0, CON) is None
        assert recent.seen(7, 1.0, CON) == b""
        recent.answered(7, b"done")
        assert [recent.seen(7, 2.0, CON) for _ in range(1_000)] == [b"done"] * 1_000
        assert recent.seen(8, 2.0, CON) is None
        assert len(recent) == 2

    @pytest.mark.parametrize("lifetime", [CON, NON])
    def test_its_id_means_another_message_after_its_lifetime(self, lifetime: float) -> None:
        recent = Recent()
        recent.seen(7, 0.0, lifetime)
        recent.answered(7, b"done")
        assert recent.seen(7, lifetime - 0.001, lifetime) == b"done"  # which does not make it live longer
        assert recent.seen(7, lifetime, lifetime) is None
        assert recent.seen(7, lifetime, lifetime) == b""
        assert len(recent) == 1

    def test_an_id_that_means_another_message_is_among_the_youngest(self) -> None:
        recent = Recent(limit=3)
        recent.seen(1, 0.0, CON)
        recent.seen(2, 0.0, NON)
        recent.answered(2, b"done")
        recent.seen(3, 0.0, CON)
        assert recent.seen(2, NON, NON) is None
        assert recent._bytes == 0
        assert recent.seen(4, NON, CON) is None
        assert recent.seen(5, NON, CON) is None
        assert recent.seen(2, NON, NON) == b""

    def test_ids_that_wrap_around_are_new(self) -> None:
        recent = Recent()
        for number in range(65_530, 65_540):
            assert recent.seen(number & 0xFFFF, 0.0, CON) is None
        assert recent.seen(3, 1.0, CON) == b""
        assert recent.seen(3, 248.0, CON) is None

    def test_an_answer_that_comes_too_late_is_dropped(self) -> None:
        recent = Recent(limit=1)
        recent.seen(1, 0.0, CON)
        recent.seen(2, 0.0, CON)
        recent.answered(1, b"x")
        assert len(recent) == 1
        assert recent.seen(2, 0.0, CON) == b""

    def test_what_has_expired_takes_no_room(self) -> None:
        recent = Recent()
        for number in range(60):
            recent.seen(number, float(number), NON)
        recent.seen(100, 1_000.0, NON)
        assert len(recent) == 1

    def test_the_oldest_ones_are_forgotten_first(self) -> None:
        recent = Recent(limit=3)
        for number in range(5):
            assert recent.seen(number, 0.0, CON) is None
        assert len(recent) == 3
        assert [recent.seen(number, 0.0, CON) for number in (2, 3, 4)] == [b""] * 3
        assert recent.seen(1, 0.0, CON) is None

    def test_answers_have_a_largest_size_together(self) -> None:
        recent = Recent(limit=100, max_bytes=1_000)
        for number in range(10):
            recent.seen(number, 0.0, CON)
            recent.answered(number, bytes(300))
            recent.answered(number, bytes(300))  # in place of the first one
        assert len(recent) == 3
        assert recent.seen(9, 0.0, CON) == bytes(300)
        assert recent.seen(7, 0.0, CON) == bytes(300)
        assert recent.seen(6, 0.0, CON) is None
        recent.answered(6, bytes(1_001))
        assert len(recent) == 0
        assert recent._bytes == 0

    def test_all_ids_three_times_take_no_more_memory_than_a_few(self) -> None:
        recent = Recent()
        tracemalloc.start()
        try:
            for number in range(200_000):
                recent.seen(number * 7919 & 0xFFFF, number / 10_000, CON)
                if number % 100 == 0:
                    recent.answered(number * 7919 & 0xFFFF, bytes(200))
            assert len(recent) == 64
            assert tracemalloc.get_traced_memory()[0] < 20_000
        finally:
            tracemalloc.stop()

    @given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 100), st.sampled_from([CON, NON]), st.booleans())))
    def test_it_agrees_with_a_plain_record(self, steps: list[tuple[int, float, float, bool]]) -> None:
        recent = Recent()
        known: dict[int, tuple[float, bytes]] = {}
        now = 0.0
        for step, (message_id, pause, lifetime, answers) in enumerate(steps):
            now += pause
            before = known.get(message_id)
            if before is not None and now < before[0]:
                assert recent.seen(message_id, now, lifetime) == before[1]
            else:
                assert recent.seen(message_id, now, lifetime) is None
                known[message_id] = (now + lifetime, b"")
            if answers:
                known[message_id] = (known[message_id][0], b"%d" % step)
                recent.answered(message_id, b"%d" % step)
            assert recent._bytes == sum(len(answer) for _, answer in recent._known.values())


class TestNumbersOfNotifications:
    def test_they_wrap_at_24_bits(self) -> None:
        assert following(0, 0) == 1
        assert value_of(following(0xFFFFFE, 0)) == b"\xff\xff\xff"
        assert value_of(following(0xFFFFFF, 0)) == b""

    def test_they_go_on_over_a_restart_and_not_too_fast(self) -> None:
        now = 1_800_000_000.5
        last = following(0, now)
        assert following(last, now) == last + 1
        assert following(last, now - 3_600) == last + 1  # the clock was put back
        assert last < following(0, now + 1) < following(0, now + 256) < last + (1 << 23)
