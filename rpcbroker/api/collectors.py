"""What /metrics is made of: counts kept from events, and numbers read when somebody asks.

A collector has `collect()`, which yields metric families: `Metrics.registry` takes any.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from rpcbroker.core.broker import Broker
from rpcbroker.core.calls import CallState
from rpcbroker.core.errors import Reason
from rpcbroker.core.events import CallRefused, CallSettled, EventBus, NearlyMissed, ProvisioningEnded, QuestionAnswered
from rpcbroker.core.histogram import Histogram
from rpcbroker.core.near_misses import NearMiss
from rpcbroker.core.provisioning import ProvisionStatus

CALL_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
WAITING = (CallState.QUEUED, CallState.SENT, CallState.DELIVERED, CallState.TIMEOUT)
PROTOCOLS = ("MQTT", "MQTT gateway", "CoAP", "CoAPs", "HTTP", "HTTP events")
"""Shown also when no device uses them: an alert can compare with 0, not with nothing."""
REFUSED = "refused"
"""The result of a call that never waited, and so has no state."""


class CallCounts(Collector):
    """Calls, questions and near misses, counted as they come. Each costs an addition in a dict: no locks, no labels."""

    def __init__(self, events: EventBus) -> None:
        self._calls: Counter[tuple[str, Reason | None, str | None, bool]] = Counter()
        self._questions: Counter[tuple[str, Reason | None]] = Counter()
        self._missed: Counter[NearMiss] = Counter()
        self._provisioned: Counter[str] = Counter({status.value: 0 for status in ProvisionStatus})
        self._seconds = {oneway: Histogram(CALL_BOUNDS) for oneway in (True, False)}
        events.listen(CallSettled, self._settled)
        events.listen(CallRefused, self._refused)
        events.listen(QuestionAnswered, self._answered)
        events.listen(NearlyMissed, self._miss)
        events.listen(ProvisioningEnded, self._provision)

    def _settled(self, event: CallSettled) -> None:
        oneway = event.call.oneway
        self._calls[event.state, event.reason, event.transport, oneway] += 1
        if not event.call.persistent:  # those may take days
            self._seconds[oneway].observe(max(0.0, event.seconds))

    def _refused(self, event: CallRefused) -> None:
        self._calls[REFUSED, event.reason, None, event.call.oneway] += 1

    def _answered(self, event: QuestionAnswered) -> None:
        self._questions[event.transport, event.reason] += 1

    def _miss(self, event: NearlyMissed) -> None:
        self._missed[event.miss] += 1

    def _provision(self, event: ProvisioningEnded) -> None:
        self._provisioned[event.status] += 1

    def collect(self) -> Iterator[Metric]:
        calls = CounterMetricFamily(
            "rpcbroker_calls_total",
            "Calls to devices that ended. result: the call's last state (successful: a reply came; sent, delivered: "
            "a one-way call was handed over; expired, failed, deleted: see reason), or refused before it could wait. "
            "transport: of the connection that took the call, none if nothing did.",
            labels=("result", "reason", "transport", "direction"),
        )
        for (result, reason, transport, oneway), count in self._calls.items():
            calls.add_metric((result.lower(), reason or "", _transport(transport), _direction(oneway)), count)
        yield calls
        seconds = HistogramMetricFamily(
            "rpcbroker_call_seconds",
            "Seconds from a lightweight call's creation to its end, however it ended; a one-way call ends when it is "
            "handed over.",
            labels=("direction",),
        )
        for oneway, histogram in self._seconds.items():
            add_histogram(seconds, (_direction(oneway),), histogram)
        yield seconds
        questions = CounterMetricFamily(
            "rpcbroker_questions_total",
            "Questions of devices to the server (client-side RPC). failed: the device was told so, reason says why.",
            labels=("result", "reason", "transport"),
        )
        for (asked_over, reason), count in self._questions.items():
            result = "failed" if reason else "successful"
            questions.add_metric((result, reason or "", _transport(asked_over)), count)
        yield questions
        yield CounterMetricFamily(
            "rpcbroker_replies_dropped_total",
            "Replies of devices that no call waited for: too late, twice, or to a one-way call. Many mean that "
            "timeouts are too short for the devices.",
            self._missed[NearMiss.UNKNOWN_REPLY],
        )
        missed = CounterMetricFamily(
            "rpcbroker_near_misses_total",
            "What devices nearly got right, by kind; GET /api/device/{id}/diagnostics says it of one device.",
            labels=("kind",),
        )
        for miss in NearMiss:
            missed.add_metric((miss.lower(),), self._missed[miss])
        yield missed
        provisioned = CounterMetricFamily(
            "rpcbroker_provisioning_total",
            "Requests of strangers to become devices. not_found: no such provision key, or a wrong secret; many of "
            "these are somebody guessing. failure: see the log.",
            labels=("result",),
        )
        for status, count in self._provisioned.items():
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


@dataclass(frozen=True, slots=True)
class Reading:
    """A number that is read when somebody asks; with a `label`, one number for each of its values.

    A name that ends in `_total` is a counter, any other a gauge.
    """

    name: str
    help: str
    read: Callable[[], float | Mapping[str, float]]
    label: str | None = None


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
