"""What /metrics says after which events, read as Prometheus reads it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from fakes import (
    ADMIN,
    EPOCH_MS,
    TENANT,
    FakeCoap,
    FakeLink,
    FakeMqtt,
    FakeWamp,
    device,
    error_of,
    metrics_of,
    result_of,
)
from msgspec import structs
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from rule_world import REPLY, SWITCH, RuleWorld, graph
from twisted.internet.defer import Deferred

from rpcbroker import __version__
from rpcbroker.api.metrics import Metrics, require_allowed
from rpcbroker.core.calls import CallRequest, Step
from rpcbroker.core.errors import CallFailed, NotAuthenticated, NotFound, PermissionDenied, Reason
from rpcbroker.core.lag import LoopLag
from rpcbroker.core.model import Authority
from rpcbroker.core.near_misses import NearMiss
from rpcbroker.core.questions import Question
from rpcbroker.transports.coap.counters import CoapCounters, DtlsCounters

TICK = 1 / 32
TWO_WAY = CallRequest(method="get", timeout=10)
ONE_WAY = CallRequest(method="set", oneway=True, timeout=10)
SYS_ADMIN = replace(ADMIN, authority=Authority.SYS_ADMIN)


def scraped(metrics: Metrics) -> str:
    text: bytes = result_of(Deferred.fromCoroutine(metrics.scrape(who=lambda: None))).body
    return text.decode()


def numbers(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """Label values in the order of their names -> value, of the samples with this name."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(scraped(metrics))
        for sample in family.samples
        if sample.name == name
    }


def number(metrics: Metrics, name: str) -> float:
    (value,) = numbers(metrics, name).values()
    return value


def calls(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """(direction, reason, result, transport) -> how many."""
    return numbers(metrics, "rpcbroker_calls_total")


class TestCalls:
    def test_a_reply(self) -> None:
        world = RuleWorld()
        metrics = metrics_of(world)
        link = world.link(protocol="MQTT")
        waiting = world.call(TWO_WAY)
        world.clock.advance(0.02)
        world.session().receive(link.calls[0].wire_id, b"1")
        result_of(waiting)
        assert calls(metrics) == {("twoway", "", "successful", "mqtt"): 1}
        assert numbers(metrics, "rpcbroker_call_seconds_count") == {("oneway",): 0, ("twoway",): 1}
        assert numbers(metrics, "rpcbroker_call_seconds_sum")["twoway",] == pytest.approx(0.02)
        buckets = numbers(metrics, "rpcbroker_call_seconds_bucket")
        counts = [buckets["twoway", bound] for bound in ("0.001", "0.01", "0.025", "60.0", "+Inf")]
        assert counts == [0, 0, 1, 1, 1]

    def test_silence_and_then_a_late_reply(self) -> None:
        world = RuleWorld()
        metrics = metrics_of(world)
        link = world.link()
        waiting = world.call(TWO_WAY)
        world.clock.advance(10 + TICK)
        error_of(waiting)
        assert number(metrics, "rpcbroker_replies_dropped_total") == 0
        world.session().receive(link.calls[0].wire_id, b"1")
        assert calls(metrics) == {("twoway", "NO_REPLY", "expired", "fake"): 1}
        assert number(metrics, "rpcbroker_replies_dropped_total") == 1
        assert numbers(metrics, "rpcbroker_near_misses_total")["unknown_reply",] == 1

    def test_nothing_took_it(self) -> None:
        world = RuleWorld()
        metrics = metrics_of(world)
        waiting = world.call(TWO_WAY)
        world.clock.advance(10 + TICK)
        error_of(waiting)
        assert calls(metrics) == {("twoway", "NEVER_CONNECTED", "expired", "none"): 1}

    def test_the_caller_left(self) -> None:
        world = RuleWorld()
        metrics = metrics_of(world)
        world.link()
        waiting = world.call(TWO_WAY)
        waiting.cancel()
        error_of(waiting)
        assert calls(metrics) == {("twoway", "CANCELLED", "deleted", "fake"): 1}

    @pytest.mark.parametrize(("step", "result"), [(Step.WRITTEN, "sent"), (Step.ACKNOWLEDGED, "delivered")])
    def test_a_oneway_call_was_handed_over(self, step: Step, result: str) -> None:
        world = RuleWorld()
        metrics = metrics_of(world)
        world.link(step=step)
        result_of(world.call(ONE_WAY))
        assert calls(metrics) == {("oneway", "", result, "fake"): 1}
        assert numbers(metrics, "rpcbroker_call_seconds_count") == {("oneway",): 1, ("twoway",): 0}

    def test_a_reply_that_is_not_json(self) -> None:
        world = RuleWorld()
        metrics = metrics_of(world)
        link = world.link()
        waiting = world.call(TWO_WAY)
        world.session().receive_bad(link.calls[0].wire_id, "no", b"no")
        error_of(waiting)
        assert calls(metrics) == {("twoway", "BAD_REPLY", "failed", "fake"): 1}

    def test_refused_before_it_could_wait(self) -> None:
        world = RuleWorld(max_pending_per_device=1)
        metrics = metrics_of(world)
        error_of(world.call(structs.replace(TWO_WAY, connect_timeout=0)))
        error_of(world.call(structs.replace(TWO_WAY, expiration_time=EPOCH_MS - 1)))
        waiting = world.call(TWO_WAY)
        error_of(world.call(TWO_WAY))
        assert calls(metrics) == {
            ("twoway", "NEVER_CONNECTED", "refused", "none"): 1,
            ("twoway", "EXPIRED", "refused", "none"): 1,
            ("twoway", "QUEUE_FULL", "refused", "none"): 1,
        }
        assert numbers(metrics, "rpcbroker_call_seconds_count")["twoway",] == 0, "they did not wait"
        waiting.cancel()
        error_of(waiting)

    def test_persistent_calls_are_counted_and_not_timed(self) -> None:
        world = RuleWorld()
        metrics = metrics_of(world)
        result_of(world.call(structs.replace(TWO_WAY, persistent=True)))
        assert number(metrics, "rpcbroker_persistent_calls_waiting") == 1
        link = world.link()
        result_of(world.session().receive(link.calls[0].wire_id, b"1"))
        assert number(metrics, "rpcbroker_persistent_calls_waiting") == 0
        assert calls(metrics) == {("twoway", "", "successful", "fake"): 1}
        assert numbers(metrics, "rpcbroker_call_seconds_count")["twoway",] == 0

    def test_results_that_are_remembered_and_forgotten(self) -> None:
        world = RuleWorld(idempotency_size=1)
        metrics = metrics_of(world)
        link = world.link()
        waiting = world.call(structs.replace(TWO_WAY, request_id=UUID(int=7), once=True))
        assert number(metrics, "rpcbroker_call_results_remembered") == 1
        world.session().receive(link.calls[0].wire_id, b"1")
        result_of(waiting)
        assert number(metrics, "rpcbroker_call_results_remembered") == 0
        assert number(metrics, "rpcbroker_call_results_forgotten_total") == 1

    def test_a_clock_that_was_set_back_does_not_make_the_sum_fall(self) -> None:
        world = RuleWorld()
        metrics = metrics_of(world)
        link = world.link()
        waiting = world.call(TWO_WAY)
        world.clock.rightNow -= 5
        world.session().receive(link.calls[0].wire_id, b"1")
        result_of(waiting)
        assert numbers(metrics, "rpcbroker_call_seconds_sum")["twoway",] == 0


def test_near_misses_by_kind_and_those_that_there_were_not() -> None:
    world = RuleWorld()
    metrics = metrics_of(world)
    for _ in range(3):
        world.session().note(NearMiss.LEADING_SLASH, "slash")
    missed = numbers(metrics, "rpcbroker_near_misses_total")
    assert set(missed) == {(miss.lower(),) for miss in NearMiss}
    assert {kind: count for (kind,), count in missed.items() if count} == {"leading_slash": 3}


def question(method: str) -> Question:
    return Question(method=method, transport="MQTT", own={"getSessionLimits": lambda: b"{}"})


def test_questions_by_how_they_were_answered() -> None:
    world = RuleWorld()
    metrics = metrics_of(world)
    for method in ("getCurrentTime", "getSessionLimits"):
        result_of(world.broker.ask(world.session(), question(method)))
    assert isinstance(error_of(world.broker.ask(world.session(), question("x"))), CallFailed)
    assert numbers(metrics, "rpcbroker_questions_total") == {
        ("", "successful", "mqtt"): 2,
        ("NO_HANDLER", "failed", "mqtt"): 1,
    }


def test_what_passes_rule_chains_is_counted() -> None:
    world = RuleWorld()
    metrics = metrics_of(world)
    world.put(graph([(SWITCH, "Switch", {}), (REPLY, "Reply", {})], (0, 1, "Other"), (0, 1, "RPC Request from Device")))
    result_of(world.broker.ask(world.session(), question("m")))
    world.rules.questions.reply(TENANT, "nobody", "1", b"{}")
    message = world.rules.messages.of_device(world.device, "ANY", b"{}", {})
    world.rules.engine.begin(TENANT, message)
    expected = {"messages_total": 2, "faults_total": 1, "running": 0, "answers_dropped_total": 1}
    assert {name: number(metrics, f"rpcbroker_rules_{name}") for name in expected} == expected


def test_what_became_of_scripts_is_counted() -> None:
    metrics = metrics_of(RuleWorld())
    counts = {"runs": 5, "failures": 4, "runaways": 3, "suspended": 2, "kills": 1}
    assert numbers(metrics, "rpcbroker_scripts_total") == {(what,): count for what, count in counts.items()}
    assert number(metrics, "rpcbroker_script_workers") == 2


NOBODY = dict.fromkeys([("mqtt",), ("mqtt gateway",), ("coap",), ("coaps",), ("http",), ("http events",)], 0)


def test_what_waits_and_who_is_there_is_counted_when_it_is_asked() -> None:
    world = RuleWorld()
    metrics = metrics_of(world)
    states = dict.fromkeys([("queued",), ("sent",), ("delivered",), ("timeout",)], 0)
    assert numbers(metrics, "rpcbroker_calls_waiting") == states
    nobody = NOBODY
    waiting = [world.call(TWO_WAY)]
    assert numbers(metrics, "rpcbroker_calls_waiting") == states | {("queued",): 1}
    assert numbers(metrics, "rpcbroker_devices_connected") == nobody | {("mqtt",): 0}
    link = world.link(subscribed=False, protocol="MQTT")
    assert numbers(metrics, "rpcbroker_devices_connected") == nobody | {("mqtt",): 1}
    assert numbers(metrics, "rpcbroker_devices_callable") == nobody | {("mqtt",): 0}
    link.step = Step.WRITTEN
    world.session().subscribe(link)
    assert numbers(metrics, "rpcbroker_devices_callable") == nobody | {("mqtt",): 1}
    link.step = Step.ACKNOWLEDGED
    waiting += [world.call(TWO_WAY), world.call(TWO_WAY)]
    assert numbers(metrics, "rpcbroker_calls_waiting") == states | {("sent",): 1, ("delivered",): 2}
    world.session().report(link.calls[0].wire_id, Step.UNACKNOWLEDGED)
    assert numbers(metrics, "rpcbroker_calls_waiting") == states | {("timeout",): 1, ("delivered",): 2}
    assert number(metrics, "rpcbroker_calls_pending") == 3
    world.session().detach(link, "gone")
    assert numbers(metrics, "rpcbroker_devices_connected") == nobody | {("mqtt",): 0}
    world.session().end("over", Reason.DEVICE_DELETED)
    assert number(metrics, "rpcbroker_calls_pending") == 0
    for call in waiting:
        error_of(call)


def test_devices_of_all_kinds_of_links_are_told_apart() -> None:
    world = RuleWorld()
    metrics = metrics_of(world)
    for n in range(3):
        other = device(200 + n)
        world.add(other)
        session = world.session(other)
        session.attach(FakeLink(session, protocol="MQTT" if n else "CoAP"))
    assert numbers(metrics, "rpcbroker_devices_connected") == NOBODY | {("coap",): 1, ("mqtt",): 2}


def test_what_the_listeners_and_the_store_count() -> None:
    world = RuleWorld()
    mqtt = FakeMqtt(connections=3, handshakes=2, refusals=5, violations=7, kept_sessions=23, dropped={"slow": 29})
    wamp = FakeWamp(open_sessions=37, dropped=41)
    metrics = metrics_of(
        world,
        mqtt=mqtt,
        http_connections=lambda: 11,
        http_polls=lambda: 31,
        wamp=lambda: wamp,
        feed_watchers=lambda: 43,
        timers=lambda: 47,
    )
    world.store.database.queued, world.store.database.commits, world.store.database.failures = 13, 17, 19
    expected = {
        "http_connections": 11,
        "http_polls": 31,
        "feed_watchers": 43,
        "timers": 47,
        "wamp_sessions": 37,
        "wamp_messages_dropped_total": 41,
        "mqtt_connections": 3,
        "mqtt_handshakes": 2,
        "mqtt_refusals_total": 5,
        "mqtt_violations_total": 7,
        "mqtt_sessions": 23,
        "telemetry_waiting_bytes": 0,
        "store_queue": 13,
        "store_commits_total": 17,
        "store_failures_total": 19,
        "start_time_seconds": EPOCH_MS / 1000,
    }
    assert {name: number(metrics, f"rpcbroker_{name}") for name in expected} == expected
    assert numbers(metrics, "rpcbroker_mqtt_messages_dropped_total") == {("slow",): 29}
    assert numbers(metrics, "rpcbroker_build_info") == {(__version__,): 1}


def test_what_coap_counts() -> None:
    coap = FakeCoap()
    metrics = metrics_of(RuleWorld(), coap=lambda: coap)
    messages = ("limited", "malformed", "repeated", "sent_again", "given_up")
    assert numbers(metrics, "rpcbroker_coap_messages_total") == {(what,): 0 for what in messages}
    coap.counters = CoapCounters(*range(1, 6))
    coap.dtls_counters = DtlsCounters(6, 7, 8)
    assert numbers(metrics, "rpcbroker_coap_messages_total") == {(what,): n for n, what in enumerate(messages, 1)}
    assert numbers(metrics, "rpcbroker_dtls_total") == {("handshakes",): 6, ("failed_handshakes",): 7, ("dropped",): 8}
    assert numbers(metrics, "rpcbroker_coap_datagrams_total") == {("received",): 9, ("sent",): 10}
    expected = {"coap_observations": 11, "coap_peers": 12, "dtls_sessions": 13}
    assert {name: number(metrics, f"rpcbroker_{name}") for name in expected} == expected


def test_what_ends_at_a_time_is_counted_until_it_has_ended() -> None:
    world = RuleWorld()
    metrics = metrics_of(world)
    before = number(metrics, "rpcbroker_deadlines")
    link = world.link()
    waiting = world.call(TWO_WAY)
    assert number(metrics, "rpcbroker_deadlines") == before + 1
    world.session().receive(link.calls[0].wire_id, b"1")
    result_of(waiting)
    assert number(metrics, "rpcbroker_deadlines") == before


def test_certificates_are_named_by_their_listener() -> None:
    ends = {"https": 1_800_000_000.0}
    metrics = metrics_of(RuleWorld(), certificates=lambda: ends)
    assert numbers(metrics, "rpcbroker_certificate_not_after_seconds") == {("https",): 1_800_000_000}
    ends["mqtts"] = 1.0
    assert numbers(metrics, "rpcbroker_certificate_not_after_seconds")["mqtts",] == 1


def test_lag_of_the_loop() -> None:
    world = RuleWorld()
    lag = LoopLag(world.clock, world.clock.seconds)
    metrics = metrics_of(world, lag=lag)
    lag.start()
    world.clock.advance(1)
    world.clock.advance(1.3)
    assert number(metrics, "rpcbroker_loop_lag_seconds_count") == 2
    assert number(metrics, "rpcbroker_loop_lag_seconds_sum") == pytest.approx(0.3)
    buckets = numbers(metrics, "rpcbroker_loop_lag_seconds_bucket")
    assert [buckets[bound,] for bound in ("0.001", "0.25", "0.5", "+Inf")] == [1, 1, 2, 2]
    lag.stop()


def test_a_collector_of_somebody_else_is_read_too() -> None:
    class Feed(Collector):
        def collect(self) -> Any:
            yield GaugeMetricFamily("rpcbroker_listeners", "Who listens.", 4)

    metrics = metrics_of(RuleWorld())
    metrics.registry.register(Feed())
    assert number(metrics, "rpcbroker_listeners") == 4


def test_the_text_is_what_prometheus_wants() -> None:
    """Every sample belongs to a family with a help and a type; names follow the conventions; no sample comes twice."""
    world = RuleWorld()
    metrics = metrics_of(world, certificates=lambda: {'a"\\\n': 1.0})
    world.link()
    result_of(world.call(ONE_WAY))
    text = scraped(metrics)
    assert text.endswith("\n")
    seen = set()
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        assert family.type in ("counter", "gauge", "histogram"), family.name
        assert family.name.startswith(("rpcbroker_", "process_", "python_gc_"))
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in seen
            seen.add(key)
            assert (family.type == "counter") == sample.name.endswith("_total"), sample.name
            assert not any(name in sample.labels for name in ("job", "instance"))
    names = {name for name, _ in seen}
    assert {"process_open_fds", "process_resident_memory_bytes", "python_gc_collections_total"} <= names
    assert ("rpcbroker_certificate_not_after_seconds", (("certificate", 'a"\\\n'),)) in seen


class TestWhoMayRead:
    @pytest.mark.parametrize("who", [None, ADMIN, SYS_ADMIN])
    def test_open(self, who: Any) -> None:
        require_allowed("open", lambda: who)

    @pytest.mark.parametrize("who", [None, ADMIN, SYS_ADMIN])
    def test_off(self, who: Any) -> None:
        with pytest.raises(NotFound):
            require_allowed("off", lambda: who)

    def test_sysadmin(self) -> None:
        require_allowed("sysadmin", lambda: SYS_ADMIN)
        with pytest.raises(PermissionDenied):
            require_allowed("sysadmin", lambda: ADMIN)
        with pytest.raises(NotAuthenticated):
            require_allowed("sysadmin", lambda: None)

    def test_the_setting_is_read_at_the_time_of_use(self) -> None:
        access = ["open"]
        metrics = metrics_of(RuleWorld(), access=lambda: access[-1])
        assert scraped(metrics)
        access.append("sysadmin")
        assert isinstance(error_of(Deferred.fromCoroutine(metrics.scrape(who=lambda: None))), NotAuthenticated)
        assert result_of(Deferred.fromCoroutine(metrics.scrape(who=lambda: SYS_ADMIN))).body
