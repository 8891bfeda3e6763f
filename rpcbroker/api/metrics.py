"""/metrics: what the broker does, in the text format of Prometheus.

prometheus_client is loaded when somebody reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from rpcbroker.api.call_counts import CallCounts
from rpcbroker.api.counts import CoapCounts, MqttCounts, Reading, ScriptCounts, WampCounts, WebCounts
from rpcbroker.api.routes import Answer
from rpcbroker.core.broker import Broker
from rpcbroker.core.errors import NotAuthenticated, NotFound, PermissionDenied
from rpcbroker.core.lag import LoopLag
from rpcbroker.core.model import Authority, Principal
from rpcbroker.core.ports import Store
from rpcbroker.rules.system import RuleSystem


class Metrics:
    """The handler of /metrics, and what it reads out."""

    def __init__(
        self,
        *,
        broker: Broker,
        store: Store,
        rules: RuleSystem,
        scripts: ScriptCounts,
        web: WebCounts,
        mqtt: MqttCounts,
        coap: Callable[[], CoapCounts],
        http_connections: Callable[[], int],
        http_polls: Callable[[], int],
        wamp: Callable[[], WampCounts],
        feed_watchers: Callable[[], int],
        lag: LoopLag,
        timers: Callable[[], int],
        started: float,
        access: Callable[[], str],
        certificates: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        """`started` is when the broker was, in epoch seconds; `access` gives the setting `[http] metrics`.

        `timers` counts those of the loop.
        `certificates` gives the file of a listener's certificate -> the end of its validity, in epoch seconds.
        """
        self._access = access
        self._counts = CallCounts(broker.events)
        self._broker = broker
        self._lag = lag
        self._readings = (
            *_of_connections(mqtt, http_connections, http_polls),
            *_of_coap(coap),
            *_of_wamp(wamp),
            Reading(
                "rpcbroker_feed_watchers",
                "Sessions and streams that watch the traffic; [feed] max_watchers is the limit of each tenant.",
                feed_watchers,
            ),
            *_of_store(store),
            *_of_calls(broker),
            *_of_rules(rules),
            *_of_scripts(scripts),
            *_of_web(web),
            Reading(
                "rpcbroker_limits_refusals_total",
                "Messages of devices that a rate in [limits] has kept out, by the rate's name.",
                lambda: broker.quotas.refusals,
                label="limit",
            ),
            Reading(
                "rpcbroker_telemetry_waiting_bytes",
                "Memory of points that the store has not taken yet; [telemetry] max_waiting is the limit.",
                lambda: broker.telemetry.waiting_size,
            ),
            Reading(
                "rpcbroker_certificate_not_after_seconds",
                "When a TLS listener's certificate ends, in seconds since 1970: renew it before.",
                certificates,
                label="certificate",
            ),
            Reading(
                "rpcbroker_deadlines",
                "What ends or begins at a time unless something comes before: calls, idle connections and the like.",
                lambda: broker.deadlines.waiting,
            ),
            Reading("rpcbroker_timers", "Timers of the loop; all deadlines share one.", timers),
            Reading("rpcbroker_start_time_seconds", "When the broker started, in seconds since 1970.", lambda: started),
        )

    @cached_property
    def registry(self) -> Any:
        """A CollectorRegistry of prometheus_client. More collectors may be registered there."""
        from rpcbroker.api.collectors import registry_of

        return registry_of(self._counts, self._broker, self._lag, self._readings)

    async def scrape(self, *, who: Callable[[], Principal | None]) -> Answer:
        """What the broker does, in the text format of Prometheus."""
        from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

        require_allowed(self._access(), who)
        return Answer(generate_latest(self.registry), content_type=CONTENT_TYPE_PLAIN_0_0_4)


def require_allowed(access: str, who: Callable[[], Principal | None]) -> None:
    """Whether `who()` may read metrics under the setting `[http] metrics`; None has not logged in.

    Raises NotFound when nobody may, NotAuthenticated, PermissionDenied.
    """
    if access == "open":
        return
    if access == "off":
        raise NotFound("There is nothing at this path")
    principal = who()
    if principal is None:
        raise NotAuthenticated("Authentication failed", hint="[http] metrics lets system administrators in only.")
    if principal.authority is not Authority.SYS_ADMIN:
        raise PermissionDenied("You don't have permission to perform this operation!")


def _of_connections(
    mqtt: MqttCounts, http_connections: Callable[[], int], http_polls: Callable[[], int]
) -> tuple[Reading, ...]:
    return (
        Reading(
            "rpcbroker_http_connections",
            "Open HTTP connections; [http] max_connections is the limit.",
            http_connections,
        ),
        Reading(
            "rpcbroker_http_polls",
            "Polls and event streams of devices that are open; [http_devices] max_polls is the limit.",
            http_polls,
        ),
        Reading("rpcbroker_mqtt_connections", "MQTT connections that have been accepted.", lambda: mqtt.connections),
        Reading(
            "rpcbroker_mqtt_handshakes",
            "MQTT connections that have not finished CONNECT; [mqtt] max_handshakes is the limit.",
            lambda: mqtt.handshakes,
        ),
        Reading(
            "rpcbroker_mqtt_refusals_total",
            "MQTT connections refused for their credentials. A steady rate is a device with a wrong token that "
            "tries again and again.",
            lambda: mqtt.refusals,
        ),
        Reading(
            "rpcbroker_mqtt_violations_total",
            "MQTT connections closed because what came over them is not MQTT, or not allowed; the log names some.",
            lambda: mqtt.violations,
        ),
        Reading(
            "rpcbroker_mqtt_sessions",
            "MQTT sessions, with and without a connection; those without are kept until they expire.",
            lambda: mqtt.kept_sessions,
        ),
        Reading(
            "rpcbroker_mqtt_messages_dropped_total",
            "Messages that did not go out: the client was slow (QoS 0), away with a full queue, or takes none so big.",
            lambda: mqtt.dropped,
            label="why",
        ),
    )


def _of_wamp(wamp: Callable[[], WampCounts]) -> tuple[Reading, ...]:
    return (
        Reading(
            "rpcbroker_wamp_sessions",
            "Connections of WAMP, over WebSocket and RawSocket, those that have not joined yet included.",
            lambda: wamp().open_sessions,
        ),
        Reading(
            "rpcbroker_wamp_messages_dropped_total",
            "Events that were not sent to sessions that read too slowly; [feed] max_waiting is the limit.",
            lambda: wamp().dropped,
        ),
    )


def _of_coap(coap: Callable[[], CoapCounts]) -> tuple[Reading, ...]:
    return (
        Reading(
            "rpcbroker_coap_datagrams_total",
            "Datagrams at the ports of CoAP and DTLS, received and sent; skipped: of those received, not served, for "
            "more came than could be and others have a share too.",
            lambda: coap().datagrams,
            label="direction",
        ),
        Reading(
            "rpcbroker_coap_messages_total",
            "CoAP messages by what was the matter: limited (dropped unread: [coap] address_rate), malformed "
            "(no CoAP), repeated (a request that had come before), sent_again (not acknowledged in time), given_up "
            "(never acknowledged).",
            lambda: _numbers(coap().counters, "limited", "malformed", "repeated", "sent_again", "given_up"),
            label="what",
        ),
        Reading("rpcbroker_coap_observations", "Observations of devices over CoAP.", lambda: coap().observations),
        Reading(
            "rpcbroker_coap_peers",
            "UDP addresses that are remembered; [coap] max_peers is the limit.",
            lambda: coap().peers,
        ),
        Reading(
            "rpcbroker_dtls_sessions",
            "DTLS sessions; [coap] max_dtls_peers is the limit.",
            lambda: coap().dtls_sessions,
        ),
        Reading(
            "rpcbroker_dtls_total",
            "What came to DTLS ports: handshakes that were completed, failed_handshakes, dropped (datagrams of no "
            "session, or none that can be read).",
            lambda: _numbers(coap().dtls_counters, "handshakes", "failed_handshakes", "dropped"),
            label="what",
        ),
    )


def _numbers(counters: object, *names: str) -> dict[str, float]:
    return {name: getattr(counters, name) for name in names}


def _of_store(store: Store) -> tuple[Reading, ...]:
    return (
        Reading(
            "rpcbroker_store_queue",
            "Writes that wait for the disk; [store] max_queue is the limit, beyond it requests get 503.",
            lambda: store.queued,
        ),
        Reading(
            "rpcbroker_store_commits_total",
            "Transactions committed; one serves all writes that were waiting.",
            lambda: store.commits,
        ),
        Reading(
            "rpcbroker_store_failures_total",
            "Reads and writes that the database failed at; any is a reason to read the log.",
            lambda: store.failures,
        ),
    )


def _of_calls(broker: Broker) -> tuple[Reading, ...]:
    return (
        Reading(
            "rpcbroker_persistent_calls_waiting",
            "Persistent calls that have not ended, in memory or not.",
            lambda: broker.persistent.waiting_count,
        ),
        Reading(
            "rpcbroker_call_results_remembered",
            "Calls with a requestUUID whose result is remembered, or waited for.",
            lambda: len(broker.once),
        ),
        Reading(
            "rpcbroker_call_results_forgotten_total",
            "Results that were forgotten before their time: [rpc] idempotency_size is too small for their window.",
            lambda: broker.once.forgotten,
        ),
    )


def _of_rules(rules: RuleSystem) -> tuple[Reading, ...]:
    return (
        Reading(
            "rpcbroker_rules_messages_total",
            "Messages that rule chains have done with. What goes straight, by default calls and values, is none.",
            lambda: rules.engine.passed,
        ),
        Reading(
            "rpcbroker_rules_faults_total",
            "Branches of these that ended with a failure; the debug events of nodes say which.",
            lambda: rules.engine.faults,
        ),
        Reading(
            "rpcbroker_rules_running",
            "Messages that are in rule chains now; [rules] max_messages is the limit of one tenant.",
            rules.engine.running.total,
        ),
        Reading(
            "rpcbroker_rules_answers_dropped_total",
            "Answers to questions of devices that nobody waited for: too late, the second one, or to nobody.",
            lambda: rules.questions.dropped,
        ),
    )


def _of_scripts(scripts: ScriptCounts) -> tuple[Reading, ...]:
    return (
        Reading(
            "rpcbroker_scripts_total",
            "Scripts of rule nodes by what became of them: runs (all that were run), failures (that failed, or were "
            "not run), runaways (stopped, for they took too long or too much memory), suspended (not run, for they had "
            "run away again and again), kills (processes that were killed, or died).",
            lambda: _numbers(scripts.counts, "runs", "failures", "runaways", "suspended", "kills"),
            label="what",
        ),
        Reading("rpcbroker_script_workers", "Processes that run scripts.", lambda: scripts.workers),
    )


def _of_web(web: WebCounts) -> tuple[Reading, ...]:
    return (
        Reading(
            "rpcbroker_web_calls_total",
            "Requests of REST API call nodes to other servers, by what became of them; any response is an answer.",
            lambda: web.outcomes,
            label="outcome",
        ),
        Reading("rpcbroker_web_calls_running", "Such requests that are on their way now.", lambda: web.running),
        Reading(
            "rpcbroker_web_calls_waiting",
            "Such requests that wait for their turn: [rules] max_web_calls is the limit of one tenant.",
            lambda: web.waiting,
        ),
    )
