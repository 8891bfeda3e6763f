"""The telemetry of all devices: taken at once, readable at once, written behind, and never lost on the way.

Points wait in memory until the store has them. What the store does not take is tried again; when too
much waits, nothing more is taken, so that a device which wants an acknowledgement keeps its points.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from sys import getsizeof
from typing import Any
from uuid import UUID

from msgspec import Raw
from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpcbroker.core import access, jsontext
from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.errors import BrokerError, NotFound, Reason, Unavailable
from rpcbroker.core.events import EventBus, TelemetryKept
from rpcbroker.core.jsontext import BadJSON
from rpcbroker.core.model import Point, StoredSeries
from rpcbroker.core.ports import KeptValues, NumberedPoint
from rpcbroker.core.settings import TelemetrySettings
from rpcbroker.core.values import Posted, Value, telemetry_of

INTERVAL = 0.5
"""Seconds that points are gathered before they are written."""
RETRY = 2.0
"""Seconds until the store is tried again after it has failed."""
BATCH = 2_000
"""Points in one write: enough to make it cheap, few enough to keep other writes waiting briefly."""
POINT_SIZE = 200
"""Bytes of memory that a point takes, beside its text."""


class _Series:
    """One device's telemetry: how many points each key has had, and those that wait for the store, oldest first."""

    __slots__ = ("counts", "device_id", "waiting")

    def __init__(self, device_id: UUID, counts: dict[str, int]) -> None:
        self.device_id = device_id
        self.counts = counts
        self.waiting: dict[str, list[NumberedPoint]] = {}


_Unwritten = dict[_Series, None]
"""Those with points that wait, in the order in which they are to be written: a set would have none."""
_Batch = list[tuple[_Series, str, list[NumberedPoint]]]


class Telemetry:
    """Takes points, keeps them within a second, and tells them."""

    _log = Logger()

    def __init__(
        self,
        store: KeptValues,
        *,
        settings: TelemetrySettings,
        deadlines: Deadlines,
        now_ms: Callable[[], int],
        events: EventBus,
    ) -> None:
        self.settings = settings
        self._store = store
        self._deadlines = deadlines
        self._now_ms = now_ms
        self._events = events
        self._series: dict[int, _Series] = {}
        """By the number of the device's id: a UUID is hashed by a call of a function."""
        self._loading: dict[UUID, list[Deferred[_Series]]] = {}
        self._unwritten: _Unwritten = {}
        self._writing = DeferredLock()
        self._scheduled = False
        self._failing = False
        self._size = 0

    # -- devices

    def load(self, device_id: UUID) -> Deferred[_Series]:
        """Ask the store what it has of a device; from then on what the device posts is kept at once.

        Fails with NotFound if the device is deleted meanwhile.
        """
        series = self._series.get(device_id.int)
        if series is not None:
            return succeed(series)
        waiting: Deferred[_Series] = Deferred()
        asked = self._loading.setdefault(device_id, [])
        asked.append(waiting)
        if len(asked) == 1:
            self._store.series_counts(device_id).addBoth(self._loaded, device_id, asked)
        return waiting

    def _loaded(self, counts: dict[str, int] | Failure, device_id: UUID, asked: list[Deferred[_Series]]) -> None:
        found: _Series | Failure
        if self._loading.get(device_id) is not asked:
            found = Failure(NotFound(access.DEVICE_NOT_FOUND))
        else:
            del self._loading[device_id]
            found = counts if isinstance(counts, Failure) else _Series(device_id, counts)
        if isinstance(found, _Series):
            self._series[device_id.int] = found
        for waiting in asked:
            waiting.callback(found)

    def forget(self, device_id: UUID) -> None:
        """The device was deleted."""
        self._loading.pop(device_id, None)
        series = self._series.pop(device_id.int, None)
        if series is not None:
            self._unwritten.pop(series, None)
            self._size -= sum(map(_size_of, series.waiting.values()))
            series.waiting.clear()

    # -- in

    def parse(self, payload: bytes) -> Posted:
        """What is to be kept. Raises BadJSON."""
        return telemetry_of(jsontext.decode(payload), self.settings, now_ms=self._now_ms())

    def parsed(self, message: Any) -> Posted:
        """The same of JSON that is decoded already: `message` is changed and becomes part of it. Raises BadJSON."""
        return telemetry_of(message, self.settings, now_ms=self._now_ms())

    def keep(self, device_id: UUID, posted: Posted) -> Deferred[None] | None:
        """All of it or nothing: at once (None) or, of a device that is new here, when the store has told of it.

        Raises, or fails with, Unavailable when too much waits for the store, BadJSON for more keys than a
        device may have, NotFound when the device is deleted meanwhile.
        """
        series = self._series.get(device_id.int)
        if series is None:
            return self.load(device_id).addCallback(self._keep, posted)
        self._keep(series, posted)
        return None

    def _keep(self, series: _Series, posted: Posted) -> None:
        if self._size > self.settings.max_waiting:
            raise Unavailable(
                "The store does not keep up with telemetry",
                reason=Reason.STORE_UNAVAILABLE,
                hint="Try again in a few seconds: telemetry.max_waiting.",
            )
        counts, waiting = series.counts, series.waiting
        for _, values in posted:
            for key in values:
                if key not in counts:
                    self._add_keys(counts, posted)
        most, size = 2 * self.settings.window + 2, 0
        for ts, values in posted:
            for key, value in values.items():
                counts[key] = number = counts[key] + 1
                size += POINT_SIZE if type(value) in _SMALL else _size(value)
                points = waiting.get(key)
                if points is None:
                    waiting[key] = [(number, ts, value)]
                else:
                    points.append((number, ts, value))
                    if len(points) > most:
                        size -= self._shorten(points)
        self._size += size
        if waiting:
            self._unwritten[series] = None
            if not self._scheduled:
                self._schedule(INTERVAL)
        if TelemetryKept in self._events:
            self._events.emit(TelemetryKept, series.device_id, posted)

    def _add_keys(self, counts: dict[str, int], posted: Posted) -> None:
        """Raises BadJSON if they are too many."""
        new = {key for _, values in posted for key in values if key not in counts}
        most = self.settings.max_keys
        if len(counts) + len(new) > most:
            raise BadJSON(f"the device has {len(counts)} keys of telemetry, and may have at most {most}")
        counts.update(dict.fromkeys(new, 0))

    def _shorten(self, points: list[NumberedPoint]) -> int:
        """Forget what the store would not keep; how much memory that was."""
        window = self.settings.window
        kept = worth_keeping(points, window)
        size = _size_of(points[: len(points) - window])
        if len(kept) > window:  # the latest is older than the last, and stays
            size -= _size_of(kept[:1])
        points[:] = kept
        return size

    # -- to the store

    @property
    def waiting_size(self) -> int:
        """Bytes of memory of what the store has not taken yet, about."""
        return self._size

    def flush(self) -> Deferred[None]:
        """Write what waits now. Fails with what the store fails with; it is tried again then."""
        return self._writing.run(lambda: Deferred.fromCoroutine(self._write()))

    async def finish(self) -> None:
        """Write what waits, for the last time."""
        try:
            await self.flush()
        except BrokerError as error:
            lost = sum(len(points) for series in self._unwritten for points in series.waiting.values())
            self._log.error("{count} points of telemetry are lost: {error}", count=lost, error=error.message)

    async def _write(self) -> None:
        todo, self._unwritten = self._unwritten, {}
        for batch in _batches(todo):
            rows = [(series.device_id, key, points) for series, key, points in batch]
            try:
                await self._store.save_points(rows, window=self.settings.window)
            except BaseException:
                self._put_back(todo, {series for series, _, _ in batch})
                raise
            self._written(batch)
        if self._failing:
            self._failing = False
            self._log.info("the store takes telemetry again")

    def _put_back(self, todo: _Unwritten, tried: set[_Series]) -> None:
        """What is left of `todo` waits again; what was `tried` comes last, so that it is not in the others' way."""
        for series in sorted(todo, key=tried.__contains__):
            if series.waiting:
                self._unwritten[series] = None

    def _written(self, batch: _Batch) -> None:
        for series, key, points in batch:
            left, last = series.waiting.get(key), points[-1][0]
            if left is None:
                continue
            if left[-1][0] == last:  # most often nothing came meanwhile
                self._size -= _size_of(left)
                del series.waiting[key]
            else:
                done = bisect_right(left, last, key=_number)
                self._size -= _size_of(left[:done])
                del left[:done]

    def _schedule(self, seconds: float) -> None:
        self._scheduled = True
        self._deadlines.after(seconds, self._write_behind, None)

    def _write_behind(self, _: object) -> None:
        self._scheduled = False
        if self._writing.locked:
            self._schedule(INTERVAL)
        else:
            self.flush().addErrback(self._not_written)

    def _not_written(self, failure: Failure) -> None:
        if not self._failing:
            self._failing = True
            self._log.error("the store does not take telemetry, which waits: {error}", error=failure.value)
        if not self._scheduled:
            self._schedule(RETRY)

    # -- out

    async def keys(self, device_id: UUID) -> list[str]:
        """All keys that there are, in the order of the alphabet."""
        return sorted((await self.load(device_id)).counts)

    async def latest(self, device_id: UUID, keys: Sequence[str]) -> dict[str, Point]:
        """Of each key, if there is anything of it, the point with the latest time."""
        known, waiting = _snapshot(await self.load(device_id), keys)
        stored = await self._store.series(device_id, known, window=0) if known else {}
        found = {key: one.latest for key, one in stored.items()}
        for key, points in waiting.items():
            _, ts, value = newest(points)
            if key not in found or found[key].ts <= ts:
                found[key] = Point(ts, _raw(value))
        return {key: found[key] for key in known if key in found}

    async def history(self, device_id: UUID, keys: Sequence[str], *, start: int, end: int) -> dict[str, list[Point]]:
        """Of each key the points that are kept from `start` to before `end`, the earliest first.

        Of several points of one time the one posted last counts. Keys without any are left out.
        """
        window = self.settings.window
        known, waiting = _snapshot(await self.load(device_id), keys)
        stored = await self._store.series(device_id, known, window=window) if known else {}
        found = {}
        for key in known:
            points = _merged(stored.get(key), waiting.get(key, ()), window)
            within = [point for point in points if start <= point.ts < end]
            if within:
                found[key] = within
        return found

    async def delete(
        self, device_id: UUID, keys: Sequence[str], *, start: int, end: int, keep_latest: bool = False
    ) -> list[str]:
        """Delete points of these keys from `start` to before `end`; the keys of which there was anything.

        `keep_latest`: the latest point of each stays.
        """
        series = await self.load(device_id)
        await self.flush()
        known = [key for key in keys if key in series.counts]
        if known:
            gone = await self._store.delete_series(
                device_id, known, start=start, end=end, keep_latest=keep_latest, window=self.settings.window
            )
            for key in gone - series.waiting.keys():
                series.counts.pop(key, None)
        return known


def _snapshot(series: _Series, keys: Sequence[str]) -> tuple[list[str], dict[str, list[NumberedPoint]]]:
    """Which of these keys there are, and what waits: taken before the store is read, so nothing falls between."""
    known = [key for key in keys if key in series.counts]
    return known, {key: series.waiting[key][:] for key in known if key in series.waiting}


def worth_keeping(points: Sequence[NumberedPoint], window: int) -> Sequence[NumberedPoint]:
    """The last `window` of them, and the one with the latest time; in their order."""
    kept = points[-window:] if window else points[:0]
    latest = newest(points)
    return kept if kept and latest[0] >= kept[0][0] else [latest, *kept]


def newest(points: Sequence[NumberedPoint]) -> NumberedPoint:
    """The one with the latest time, and of several the last; they are in the order in which they were posted."""
    return max(reversed(points), key=_time)


def _batches(todo: _Unwritten) -> Iterator[_Batch]:
    """What waits, as the store is given it: copies, for more may come while it writes."""
    batch: _Batch = []
    count = 0
    for series in todo:
        for key, points in list(series.waiting.items()):
            batch.append((series, key, points[:]))
            count += len(points)
            if count >= BATCH:
                yield batch
                batch, count = [], 0
    if batch:
        yield batch


def _merged(stored: StoredSeries | None, waiting: Sequence[NumberedPoint], window: int) -> list[Point]:
    """One point for each time, in the order of time: the last `window` that were posted, and the latest."""
    numbered = dict(stored.points) if stored else {}
    numbered |= {number: Point(ts, _raw(value)) for number, ts, value in waiting}
    first = max(numbered, default=0) - window
    last = [number for number in sorted(numbered) if number > first]
    candidates = [stored.latest] if stored else []
    if waiting:
        _, ts, value = newest(waiting)
        candidates.append(Point(ts, _raw(value)))
    by_time = {point.ts: point for point in candidates[:1]}
    for point in candidates[1:]:
        if point.ts >= max(by_time, default=0):
            by_time = {point.ts: point}
    by_time |= {numbered[number].ts: numbered[number] for number in last}
    return [by_time[ts] for ts in sorted(by_time)]


_number = itemgetter(0)
_time = itemgetter(1)
_SMALL = frozenset({int, float, bool})


def _size(value: Value) -> int:
    """Bytes of memory of a point with this value."""
    if type(value) is str:
        return POINT_SIZE + getsizeof(value)
    return POINT_SIZE + len(value) if type(value) is Raw else POINT_SIZE


def _size_of(points: Sequence[NumberedPoint]) -> int:
    large = [_size(value) - POINT_SIZE for _, _, value in points if type(value) not in _SMALL]
    return POINT_SIZE * len(points) + sum(large)


def _raw(value: Value) -> Raw:
    return value if type(value) is Raw else Raw(jsontext.encode(value))
