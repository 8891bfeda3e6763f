"""What /metrics says, as metric families of prometheus_client; loaded when somebody reads it.

A collector has `collect()`, which yields metric families: `Metrics.registry` takes any.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import GCCollector, ProcessCollector
from prometheus_client.core import (
    CollectorRegistry,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from rpcbroker import __version__
from rpcbroker.api.call_counts import CallCounts
from rpcbroker.api.counts import Reading
from rpcbroker.core.broker import Broker
from rpcbroker.core.calls import CallState
from rpcbroker.core.histogram import Histogram
from rpcbroker.core.lag import LoopLag
from rpcbroker.core.near_misses import NearMiss

WAITING = (CallState.QUEUED, CallState.SENT, CallState.DELIVERED, CallState.TIMEOUT)
PROTOCOLS = ("MQTT", "MQTT gateway", "CoAP", "CoAPs", "HTTP", "HTTP events")
"""Shown also when no device uses them: an alert can compare with 0, not with nothing."""


def registry_of(counts: CallCounts, broker: Broker, lag: LoopLag, readings: Iterable[Reading]) -> CollectorRegistry:
    """All of it, and what prometheus_client says of the process itself."""
    registry = CollectorRegistry()
    for collector in (Calls(counts), Present(broker), Process(lag), Readings(readings)):
        registry.register(collector)
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class Calls(Collector):
    """What became of calls, questions and near misses."""

    def __init__(self, counts: CallCounts) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        calls = CounterMetricFamily(
            "rpcbroker_calls_total",
            "Calls to devices that ended. result: the call's last state (successful: a reply came; sent, delivered: "
            "a one-way call was handed over; expired, failed, deleted: see reason), or refused before it could wait. "
            "transport: of the connection that took the call, none if nothing did.",
            labels=("result", "reason", "transport", "direction"),
        )
        for (result, reason, transport, oneway), count in self._counts.calls.items():
            calls.add_metric((result.lower(), reason or "", _transport(transport), _direction(oneway)), count)
        yield calls
        seconds = HistogramMetricFamily(
            "rpcbroker_call_seconds",
            "Seconds from a lightweight call's creation to its end, however it ended; a one-way call ends when it is "
            "handed over.",
            labels=("direction",),
        )
        for oneway, histogram in self._counts.seconds.items():
            add_histogram(seconds, (_direction(oneway),), histogram)
        yield seconds
        questions = CounterMetricFamily(
            "rpcbroker_questions_total",
            "Questions of devices to the server (client-side RPC). failed: the device was told so, reason says why.",
            labels=("result", "reason", "transport"),
        )
        for (asked_over, reason), count in self._counts.questions.items():
            result = "failed" if reason else "successful"
            questions.add_metric((result, reason or "", _transport(asked_over)), count)
        yield questions
        yield CounterMetricFamily(
            "rpcbroker_replies_dropped_total",
            "Replies of devices that no call waited for: too late, twice, or to a one-way call. Many mean that "
            "timeouts are too short for the devices.",
            self._counts.missed[NearMiss.UNKNOWN_REPLY],
        )
        missed = CounterMetricFamily(
            "rpcbroker_near_misses_total",
            "What devices nearly got right, by kind; GET /api/device/{id}/diagnostics says it of one device.",
            labels=("kind",),
        )
        for miss in NearMiss:
            missed.add_metric((miss.lower(),), self._counts.missed[miss])
        yield missed
        provisioned = CounterMetricFamily(
            "rpcbroker_provisioning_total",
            "Requests of strangers to become devices. not_found: no such provision key, or a wrong secret; many of "
            "these are somebody guessing. failure: see the log.",
            labels=("result",),
        )
        for status, count in self._counts.provisioned.items():
            provisioned.add_metric((status.lower(),), count)
        yield provisioned


class Present(Collector):
    """What there is now: one walk over the devices for each reading."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def collect(self) -> Iterator[Metric]:
        census = self._broker.census()
        yield GaugeMetricFamily(
            "rpcbroker_calls_pending", "Calls that wait for a device, in any state.", census.waiting.total()
        )
        waiting = GaugeMetricFamily(
            "rpcbroker_calls_waiting",
            "The same by state: queued (nothing took it yet), sent (not acknowledged yet), delivered (the device has "
            "it and has not replied), timeout (the device did not acknowledge it in time).",
            labels=("state",),
        )
        for state in WAITING:
            waiting.add_metric((state.lower(),), census.waiting[state])
        yield waiting
        yield _devices("rpcbroker_devices_connected", "Devices that have a connection.", census.connected)
        yield _devices("rpcbroker_devices_callable", "Devices that can take a call now.", census.callable)


class Process(Collector):
    """The process itself: which version, and how late its loop is."""

    def __init__(self, lag: LoopLag) -> None:
        self._lag = lag

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("rpcbroker_build", "Which rpcbroker this is.", {"version": __version__})
        late = HistogramMetricFamily(
            "rpcbroker_loop_lag_seconds",
            "How late a timer of one second came: everything waits as long. Above 0.1 s the process is overloaded, "
            "or something blocks it.",
            labels=(),
        )
        add_histogram(late, (), self._lag.late)
        yield late


class Readings(Collector):
    """Numbers that others keep."""

    def __init__(self, readings: Iterable[Reading]) -> None:
        self._readings = tuple(readings)

    def collect(self) -> Iterator[Metric]:
        for reading in self._readings:
            kind = CounterMetricFamily if reading.name.endswith("_total") else GaugeMetricFamily
            read = reading.read()
            labels = () if reading.label is None else (reading.label,)
            family = kind(reading.name, reading.help, labels=labels)
            if isinstance(read, Mapping):
                for value, number in read.items():
                    family.add_metric((value,), number)
            else:
                family.add_metric((), read)
            yield family


def add_histogram(family: HistogramMetricFamily, labels: tuple[str, ...], histogram: Histogram) -> None:
    """Add what was observed, in the cumulative buckets that the format wants."""
    buckets: list[tuple[str, float]] = []
    below = 0
    for bound, count in zip((*map(str, histogram.bounds), "+Inf"), histogram.counts, strict=True):
        below += count
        buckets.append((bound, below))
    family.add_metric(labels, buckets, histogram.total)


def _devices(name: str, says: str, by_protocol: Counter[str]) -> Metric:
    family = GaugeMetricFamily(name, says, labels=("transport",))
    for protocol in dict.fromkeys((*PROTOCOLS, *by_protocol)):
        family.add_metric((_transport(protocol),), by_protocol[protocol])
    return family


def _transport(protocol: str | None) -> str:
    return "none" if protocol is None else protocol.lower()


def _direction(oneway: bool) -> str:
    return "oneway" if oneway else "twoway"
