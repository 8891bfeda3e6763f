"""Telemetry on its way to the store: taken at once, read at once, written behind, and nothing lost.

Over 400 lines: one path, from what is parsed to what is read, and each of its limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from fakes import EPOCH_MS, World, device, error_of, result_of
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from rpcbroker.core import telemetry
from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.errors import NotFound, Unavailable
from rpcbroker.core.events import EventBus
from rpcbroker.core.jsontext import BadJSON
from rpcbroker.core.model import Point
from rpcbroker.core.setting import Size
from rpcbroker.core.settings import TelemetrySettings
from rpcbroker.core.telemetry import Telemetry, worth_keeping
from rpcbroker.store.memory import MemoryStore

ONE, TWO = UUID(int=100), UUID(int=101)
EVER = 2**62
TICK = 1 / 64


class Gate:
    """Stands before the real values of a MemoryStore, and answers to writes as `answer` says."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.answer: Any = None
        self.batches: list[list[tuple[UUID, str, Sequence[Any]]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def save_points(self, batch: Any, *, window: int) -> Deferred[None]:
        self.batches.append(batch)
        if self.answer is None:
            return self._real.save_points(batch, window=window)  # type: ignore[no-any-return]
        return self.answer(batch)  # type: ignore[no-any-return]


class Made:
    """Telemetry of two devices over a MemoryStore, on a Clock."""

    def __init__(self, *, store: MemoryStore | None = None, **settings: Any) -> None:
        world = World(store=store)
        if store is None:
            world.add(device(101))
        self.store = world.store
        self.gate = Gate(self.store.values)
        self.clock = Clock()
        self.telemetry = Telemetry(
            self.gate,
            settings=TelemetrySettings(**settings),
            deadlines=Deadlines(self.clock),
            now_ms=lambda: EPOCH_MS + round(self.clock.seconds() * 1000),
            events=EventBus(),
        )
        for device_id in (ONE, TWO):
            result_of(self.telemetry.load(device_id))

    def post(self, *values: Any, ts: int = 5, key: str = "k", to: UUID = ONE) -> None:
        """Points of one key, a millisecond apart."""
        for number, each in enumerate(values):
            self.telemetry.keep(to, [(ts + number, {key: each})])

    def keys(self, of: UUID = ONE) -> list[str]:
        return result_of(Deferred.fromCoroutine(self.telemetry.keys(of)))

    def latest(self, *keys: str, of: UUID = ONE) -> dict[str, tuple[int, bytes]]:
        found = result_of(Deferred.fromCoroutine(self.telemetry.latest(of, keys or ("k",))))
        return {key: (point.ts, bytes(point.value)) for key, point in found.items()}

    def history(self, key: str = "k", *, start: int = 0, end: int = EVER, of: UUID = ONE) -> list[tuple[int, bytes]]:
        found = result_of(Deferred.fromCoroutine(self.telemetry.history(of, [key], start=start, end=end)))
        return [(point.ts, bytes(point.value)) for point in found.get(key, ())]

    def delete(self, *keys: str, start: int = 0, end: int = EVER, **more: Any) -> Deferred[list[str]]:
        return Deferred.fromCoroutine(self.telemetry.delete(ONE, keys, start=start, end=end, **more))

    def again(self) -> Made:
        """As after a restart."""
        return Made(store=self.store)


@pytest.fixture
def made() -> Made:
    return Made()


class TestReading:
    def test_what_is_posted_is_read_at_once_and_in_the_store_within_a_second(self, made: Made) -> None:
        assert made.telemetry.keep(ONE, made.telemetry.parse(b'{"k":1.5,"b":true}')) is None
        assert made.latest("k", "b", "none") == {"k": (EPOCH_MS, b"1.5"), "b": (EPOCH_MS, b"true")}
        assert made.keys(ONE) == ["b", "k"]
        assert result_of(made.store.values.series_counts(ONE)) == {}
        made.clock.advance(1)
        assert result_of(made.store.values.series_counts(ONE)) == {"k": 1, "b": 1}
        assert made.telemetry.waiting_size == 0
        assert made.again().latest("k", "b") == {"k": (EPOCH_MS, b"1.5"), "b": (EPOCH_MS, b"true")}

    def test_many_messages_are_one_write_and_nothing_is_written_for_nothing(self, made: Made) -> None:
        for number in range(100):
            made.post(number)
            made.post(number, to=TWO)
        made.clock.advance(1)
        assert [len(batch) for batch in made.gate.batches] == [2]
        made.clock.advance(10)
        assert len(made.gate.batches) == 1

    def test_the_latest_is_that_of_the_latest_time_and_of_one_time_the_last_posted(self, made: Made) -> None:
        made.post("late", ts=50)
        made.post("early", ts=10)
        assert made.latest() == {"k": (50, b'"late"')}
        made.clock.advance(1)
        made.post("early again", ts=20)
        assert made.latest() == {"k": (50, b'"late"')}
        made.clock.advance(1)
        assert made.latest() == {"k": (50, b'"late"')}
        made.post("corrected", ts=50)
        assert made.latest() == {"k": (50, b'"corrected"')}
        made.clock.advance(1)
        assert made.latest() == {"k": (50, b'"corrected"')}
        assert [ts for ts, _ in made.history()] == [10, 20, 50]

    def test_history_is_what_is_stored_and_what_waits_in_the_order_of_time(self, made: Made) -> None:
        made.post(1, 2, ts=10)
        made.clock.advance(1)
        made.post(3, ts=5)
        made.post(4, ts=11)
        assert made.history() == [(5, b"3"), (10, b"1"), (11, b"4")]
        assert made.history(start=5, end=10) == [(5, b"3")]
        assert made.history("none") == []
        made.clock.advance(1)
        assert made.history() == [(5, b"3"), (10, b"1"), (11, b"4")]

    @pytest.mark.parametrize("flushed", [0, 7, 25])
    def test_of_each_key_a_window_is_kept(self, flushed: int) -> None:
        made = Made(window=10)
        for number in range(25):
            made.post(number, ts=number)
            if number == flushed:
                made.clock.advance(1)
        expected = [(number, b"%d" % number) for number in range(15, 25)]
        assert made.history() == expected
        made.clock.advance(1)
        assert made.history() == expected
        stored = result_of(made.store.values.series(ONE, ["k"], window=10))["k"].points
        assert [number for number, _ in stored] == list(range(16, 26))

    def test_a_window_of_nothing_keeps_the_latest(self) -> None:
        made = Made(window=0)
        made.post(*range(50))
        made.post("early", ts=1)
        for _ in range(2):
            assert made.latest() == {"k": (54, b"49")}
            assert made.history() == [(54, b"49")]
            made.clock.advance(1)

    def test_the_latest_is_kept_though_a_whole_window_of_earlier_ones_comes_behind_it(self) -> None:
        made = Made(window=3)
        made.post("now", ts=1000)
        made.post(*range(50))
        for _ in range(2):
            assert made.latest() == {"k": (1000, b'"now"')}
            assert [ts for ts, _ in made.history()] == [52, 53, 54, 1000]
            made.clock.advance(1)

    def test_a_window_may_become_smaller_and_larger(self) -> None:
        made = Made(window=4)
        made.post(*range(10))
        made.clock.advance(1)
        made.telemetry.settings = TelemetrySettings(window=2)
        assert [value for _, value in made.history()] == [b"8", b"9"]
        made.post(10, ts=50)
        made.clock.advance(1)
        assert [value for _, value in made.history()] == [b"9", b"10"]
        made.telemetry.settings = TelemetrySettings(window=4)
        made.post(11, 12, 13, ts=60)
        made.clock.advance(1)
        assert [value for _, value in made.history()] == [b"10", b"11", b"12", b"13"]

    def test_a_read_that_a_write_overtakes_misses_nothing(self, made: Made) -> None:
        made.post(1)
        reads: list[tuple[Deferred[Any], Any]] = []
        real = made.gate.series

        def slowly(*args: Any, **more: Any) -> Deferred[Any]:
            reads.append((Deferred(), result_of(real(*args, **more))))
            return reads[-1][0]

        made.gate.series = slowly  # type: ignore[method-assign]
        waiting = [
            Deferred.fromCoroutine(made.telemetry.latest(ONE, ["k"])),
            Deferred.fromCoroutine(made.telemetry.history(ONE, ["k"], start=0, end=EVER)),
        ]
        made.clock.advance(1)
        assert made.telemetry.waiting_size == 0
        for read, stored in reads:
            assert stored == {}
            read.callback(stored)
        assert [result_of(each) for each in waiting] == [{"k": Point(5, Raw(b"1"))}, {"k": [Point(5, Raw(b"1"))]}]


class TestNothingIsLost:
    def test_what_the_store_refuses_waits_and_is_tried_again(self, made: Made) -> None:
        made.gate.answer = lambda _: fail(Unavailable("no"))
        made.post(1, 2, 3)
        with capturedLogs() as events:
            made.clock.advance(1)
            assert len(made.gate.batches) == 1
            for _ in range(50):
                made.clock.advance(0.1)
            assert 2 <= len(made.gate.batches) <= 4
            made.post(4, ts=8)
            assert [value for _, value in made.history()] == [b"1", b"2", b"3", b"4"]
            made.gate.answer = None
            made.clock.advance(2 + TICK)
        assert result_of(made.store.values.series_counts(ONE)) == {"k": 4}
        assert made.telemetry.waiting_size == 0
        assert made.again().history() == [(5, b"1"), (6, b"2"), (7, b"3"), (8, b"4")]
        assert [formatEvent(event) for event in events] == [
            "the store does not take telemetry, which waits: no",
            "the store takes telemetry again",
        ]

    def test_a_write_that_was_done_though_it_failed_is_harmless_when_done_again(self, made: Made) -> None:
        def done_but_failed(batch: Any) -> Deferred[None]:
            result_of(made.store.values.save_points(batch, window=100))
            return fail(Unavailable("the connection broke behind the commit"))

        made.gate.answer = done_but_failed
        made.post(1, 2, 3)
        made.clock.advance(1)
        made.gate.answer = None
        assert made.history() == [(5, b"1"), (6, b"2"), (7, b"3")]
        made.clock.advance(3)
        assert made.telemetry.waiting_size == 0
        assert made.again().history() == [(5, b"1"), (6, b"2"), (7, b"3")]

    def test_what_comes_during_a_write_stays_for_the_next(self, made: Made) -> None:
        writing: Deferred[None] = Deferred()
        made.gate.answer = lambda _: writing
        made.post(1)
        made.clock.advance(1)
        made.post(2, ts=6)
        made.post(1, key="other")
        made.clock.advance(5)
        assert len(made.gate.batches) == 1, "one write at a time"
        made.gate.answer = None
        result_of(made.store.values.save_points(made.gate.batches[0], window=100))
        writing.callback(None)
        made.clock.advance(1)
        assert [[(key, [n for n, _, _ in points]) for _, key, points in batch] for batch in made.gate.batches] == [
            [("k", [1])],
            [("k", [2]), ("other", [1])],
        ]
        assert made.again().history() == [(5, b"1"), (6, b"2")]

    def test_a_large_flush_is_done_in_parts_and_what_fails_is_not_in_the_way(
        self, made: Made, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(telemetry, "BATCH", 2)
        bad = {"a"}
        made.gate.answer = lambda batch: (
            fail(Unavailable("no"))
            if {key for _, key, _ in batch} & bad
            else made.store.values.save_points(batch, window=100)
        )
        made.post(1, 2, key="a")
        made.post(1, 2, key="b", to=TWO)
        made.clock.advance(1)
        made.post(3, key="b", ts=9, to=TWO)
        made.clock.advance(3)
        assert result_of(made.store.values.series_counts(TWO)) == {"b": 3}
        assert result_of(made.store.values.series_counts(ONE)) == {}
        bad.clear()
        made.clock.advance(3)
        assert result_of(made.store.values.series_counts(ONE)) == {"a": 2}

    def test_too_much_that_waits_is_refused_and_taken_again_later(self) -> None:
        made = Made(max_waiting=Size(10_000))
        made.gate.answer = lambda _: fail(Unavailable("no"))
        while made.telemetry.waiting_size <= 10_000:
            made.post("x" * 50, key=f"k{len(made.keys(ONE))}")
        taken = len(made.keys(ONE))
        assert 30 < taken < 60
        with pytest.raises(Unavailable, match="does not keep up"):
            made.post(1)
        assert sorted(made.latest(*(f"k{n}" for n in range(taken)))) == sorted(made.keys(ONE))
        assert len(made.keys(ONE)) == taken, "what was refused left nothing behind"
        made.clock.advance(1)
        made.gate.answer = None
        made.clock.advance(3)
        made.post(1)
        assert len(result_of(made.store.values.series_counts(ONE))) == taken

    def test_one_key_that_is_posted_all_the_time_takes_no_more_memory_than_its_window(self) -> None:
        made = Made(window=10)
        made.gate.answer = lambda _: fail(Unavailable("no"))
        sizes = []
        for number in range(1000):
            made.post("x" * (number % 50), ts=number)
            sizes.append(made.telemetry.waiting_size)
        assert max(sizes) < 22 * (telemetry.POINT_SIZE + 100)
        made.gate.answer = None
        made.clock.advance(1)
        assert made.telemetry.waiting_size == 0

    def test_at_the_end_all_is_written_and_what_cannot_be_is_told(self, made: Made) -> None:
        made.post(1)
        result_of(Deferred.fromCoroutine(made.telemetry.finish()))
        assert result_of(made.store.values.series_counts(ONE)) == {"k": 1}
        made.gate.answer = lambda _: fail(Unavailable("no"))
        made.post(1, 2)
        with capturedLogs() as events:
            result_of(Deferred.fromCoroutine(made.telemetry.finish()))
        assert [formatEvent(event) for event in events] == ["2 points of telemetry are lost: no"]


class TestRefusing:
    def test_a_device_has_so_many_keys_and_a_message_is_taken_whole_or_not_at_all(self) -> None:
        made = Made(max_keys=2)
        made.post(1)
        for more in ({"k": 2, "a": 1, "b": 1}, {"a": 1, "b": 1}):
            with pytest.raises(BadJSON, match="has 1 keys of telemetry, and may have at most 2"):
                made.telemetry.keep(ONE, [(5, {"k": 9}), (6, more)])
        assert made.keys(ONE) == ["k"]
        assert made.latest() == {"k": (5, b"1")}
        made.telemetry.keep(ONE, [(6, {"k": 2, "a": 1})])
        made.clock.advance(1)
        with pytest.raises(BadJSON):
            made.post(1, key="b")
        restarted = made.again()
        restarted.telemetry.settings = TelemetrySettings(max_keys=2)
        with pytest.raises(BadJSON):
            restarted.post(1, key="b")
        restarted.post(3)

    def test_a_device_that_is_gone_has_no_telemetry(self, made: Made) -> None:
        made.post(1, to=TWO)
        made.post(1)
        made.telemetry.forget(TWO)
        made.telemetry.forget(TWO)
        made.clock.advance(1)
        assert [[device_id for device_id, _, _ in batch] for batch in made.gate.batches] == [[ONE]]
        assert made.telemetry.waiting_size == 0
        assert made.keys(TWO) == []

    def test_one_that_is_deleted_during_a_write_comes_not_back(self, made: Made) -> None:
        writing: Deferred[None] = Deferred()
        made.gate.answer = lambda _: writing
        made.post(1)
        made.clock.advance(1)
        made.telemetry.forget(ONE)
        writing.errback(Unavailable("no"))
        made.gate.answer = None
        made.clock.advance(5)
        assert len(made.gate.batches) == 1
        assert made.telemetry.waiting_size == 0


class TestDeleting:
    def test_what_waits_goes_too_and_what_comes_later_stays(self, made: Made) -> None:
        made.post(1, 2)
        made.post(1, key="other")
        assert result_of(made.delete("k", "none")) == ["k"]
        assert (made.history(), made.keys(ONE)) == ([], ["other"])
        made.post(3, ts=9)
        made.clock.advance(1)
        assert made.history() == [(9, b"3")]
        assert made.again().history() == [(9, b"3")]

    def test_a_time_is_deleted_and_the_latest_of_the_rest_is_the_latest(self, made: Made) -> None:
        made.post(*range(5), ts=0)
        assert result_of(made.delete("k", start=3)) == ["k"]
        assert made.history() == [(0, b"0"), (1, b"1"), (2, b"2")]
        assert made.latest() == {"k": (2, b"2")}
        result_of(made.delete("k", end=2, keep_latest=True))
        assert made.history() == [(2, b"2")]
        result_of(made.delete("k", keep_latest=True))
        assert made.latest() == {"k": (2, b"2")}
        assert made.keys(ONE) == ["k"]
        result_of(made.delete("k"))
        assert made.latest() == {}
        assert made.keys(ONE) == []

    def test_keys_that_are_deleted_make_room_for_others(self) -> None:
        made = Made(max_keys=1)
        made.post(1)
        result_of(made.delete("k"))
        made.post(1, key="other")
        assert made.keys(ONE) == ["other"]

    def test_when_the_store_fails_nothing_is_deleted_and_nothing_lost(self, made: Made) -> None:
        made.gate.answer = lambda _: fail(Unavailable("no"))
        made.post(1)
        assert isinstance(error_of(made.delete("k")), Unavailable)
        assert made.history() == [(5, b"1")]
        made.gate.answer = None
        made.clock.advance(3)
        assert made.again().history() == [(5, b"1")]

    def test_one_that_is_posted_while_it_is_deleted_keeps_its_place(self, made: Made) -> None:
        deleting: Deferred[set[str]] = Deferred()
        made.post(1)
        made.gate.delete_series = lambda *_, **__: deleting  # type: ignore[method-assign]
        done = made.delete("k")
        made.post(2, ts=9)
        deleting.callback({"k"})
        result_of(done)
        assert made.keys(ONE) == ["k"]
        assert made.latest() == {"k": (9, b"2")}


POINTS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 9)), min_size=1, max_size=40)


@settings(deadline=None, max_examples=50)
@given(POINTS, st.integers(0, 5), st.sets(st.integers(0, 40)))
def test_wherever_it_is_written_the_same_is_read(points: list[tuple[int, int]], window: int, flushes: set[int]) -> None:
    made = Made(window=window)
    for number, (ts, value) in enumerate(points):
        made.post(value, ts=ts)
        if number in flushes:
            made.clock.advance(1)
    numbered = [(number, ts, value) for number, (ts, value) in enumerate(points)]
    expected = {ts: value for _, ts, value in worth_keeping(numbered, window)}
    assert made.history() == [(ts, b"%d" % expected[ts]) for ts in sorted(expected)]
    assert made.latest() == {"k": (max(expected), b"%d" % expected[max(expected)])}


class TestFirstPosts:
    """Of a device that is new here the store is asked first."""

    def ask_slowly(self, made: Made) -> list[Deferred[dict[str, int]]]:
        """What the store is asked of devices; its answers are the test's."""
        asked: list[Deferred[dict[str, int]]] = []

        def series_counts(_: UUID) -> Deferred[dict[str, int]]:
            asked.append(Deferred())
            return asked[-1]

        made.telemetry.forget(ONE)
        made.gate.series_counts = series_counts  # type: ignore[attr-defined]
        return asked

    def test_the_store_is_asked_once_and_the_points_keep_their_order(self, made: Made) -> None:
        asked = self.ask_slowly(made)
        kept = [made.telemetry.keep(ONE, [(5 + number, {"k": number})]) for number in range(3)]
        assert [each is not None and each.called for each in kept] == [False] * 3
        (answer,) = asked
        answer.callback({"k": 7})
        for each in kept:
            assert each is not None
            result_of(each)
        assert made.telemetry.keep(ONE, [(8, {"k": 3})]) is None, "from now on at once"
        made.clock.advance(1)
        ((_, _, points),) = made.gate.batches[0]
        assert points == [(8, 5, 0), (9, 6, 1), (10, 7, 2), (11, 8, 3)]

    def test_one_that_is_deleted_meanwhile_is_refused(self, made: Made) -> None:
        (asked, kept) = self.ask_slowly(made), made.telemetry.keep(ONE, [(5, {"k": 1})])
        made.telemetry.forget(ONE)
        asked[0].callback({})
        assert kept is not None
        assert isinstance(error_of(kept), NotFound)
        assert made.telemetry.waiting_size == 0

    def test_a_store_that_does_not_answer_is_told_and_asked_again(self, made: Made) -> None:
        asked, refused = self.ask_slowly(made), made.telemetry.keep(ONE, [(5, {"k": 1})])
        asked[0].errback(Unavailable("no"))
        assert refused is not None
        assert isinstance(error_of(refused), Unavailable)
        kept = made.telemetry.keep(ONE, [(5, {"k": 1})])
        asked[1].callback({})
        assert kept is not None
        result_of(kept)
        assert made.keys() == ["k"]

    def test_too_many_keys_are_refused_then_too(self) -> None:
        made = Made(max_keys=1)
        asked, refused = self.ask_slowly(made), made.telemetry.keep(ONE, [(5, {"k": 1})])
        asked[0].callback({"other": 1})
        assert refused is not None
        assert isinstance(error_of(refused), BadJSON)


def test_nothing_is_left_of_a_device_of_the_broker_that_was_deleted() -> None:
    world, values = World(), {"k": 1}
    telemetry, of = world.broker.telemetry, world.device.id
    result_of(telemetry.keep(of, [(5, dict(values))]))
    world.clock.advance(1)
    assert result_of(world.store.values.series_counts(of)) == {"k": 1}
    assert result_of(Deferred.fromCoroutine(World(store=world.store).broker.telemetry.keys(of))) == ["k"]
    telemetry.keep(of, [(6, dict(values))])
    result_of(world.store.delete_device(of))
    world.broker.device_deleted(of)
    world.clock.advance(1)
    assert result_of(world.store.values.series_counts(of)) == {}
    assert telemetry.waiting_size == 0
