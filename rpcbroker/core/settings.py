"""Every limit, time and address that an operator may set: one frozen record a section.

Over 400 lines, for each setting has its reason beside it, which is also what the configuration file and the manual say.

`config.py` reads them from TOML and the environment; everybody else is handed them.
Durations are seconds, sizes are bytes, rates are pairs of a count and seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Literal

from rpcbroker.core.feed_settings import FeedSettings, WampSettings
from rpcbroker.core.rules_settings import RulesSettings
from rpcbroker.core.setting import Duration, Rate, Size, UrlPath, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """`[server]`"""

    drain: Duration = setting(5.0, "how long running calls may go on after SIGTERM", live=True, least=0)
    tls_check: Duration = setting(
        30.0,
        "how often the files of ssl: and dtls: listeners are looked at; new ones are taken, SIGHUP looks at once",
        live=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """`[log]`"""

    level: Literal["debug", "info", "warn", "error"] = setting(
        "info", "the least that is logged: debug, info, warn or error", live=True
    )
    repeats: int = setting(
        10, "events of one kind that are logged in a minute; further ones are counted, not logged", live=True
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """`[http]`"""

    listen: tuple[str, ...] = setting(
        ["tcp:8080"], "Twisted endpoint strings (ssl: for HTTPS, unix: for a socket); empty switches HTTP off"
    )
    max_body_size: Size = setting(1 << 20, "the largest request body; beyond it 413", live=True)
    request_timeout: Duration = setting(
        30.0, "how long a request may take to arrive, from its first byte to its last; then 408", live=True
    )
    idle_timeout: Duration = setting(75.0, "how long a kept-alive connection may stay silent", live=True)
    write_timeout: Duration = setting(
        30.0, "how long a caller may leave an answer unread; then the connection is aborted", live=True
    )
    max_connections: int = setting(10_000, "open HTTP connections; one more is closed at once", live=True)
    max_connections_per_address: int = setting(
        0, "the same for one address; 0 is no limit, for gateways and NATs share addresses", live=True, least=0
    )
    address_rate: Rate = setting(
        (),
        'requests of one address, such as "200:1,6000:60" (in 1 s, in 60 s); beyond it 429; empty is no limit',
        live=True,
    )
    tenant_rate: Rate = setting(
        (), "requests of one tenant's users, those of its customers too, in the same form", live=True
    )
    customer_rate: Rate = setting((), "requests of one customer's users, in the same form", live=True)
    user_rate: Rate = setting((), "requests of one user, API keys included, in the same form", live=True)
    allowed_origins: tuple[str, ...] = setting(
        [],
        "origins such as https://app.example.org whose pages may open WebSockets here, beside the broker's own; empty "
        "is any, for no cookie is read and each connection has to prove who it is",
        live=True,
    )
    console: bool = setting(True, "whether the console, a page for people, is served at /", live=True)
    public_url: str = setting(
        "",
        "how people reach this server, such as https://rpc.example.org; links use the Host header if empty",
        live=True,
    )
    metrics: Literal["open", "sysadmin", "off"] = setting(
        "open", "who may read /metrics: open (anybody), sysadmin (system administrators) or off (nobody)", live=True
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttSettings:
    """`[mqtt]`"""

    listen: tuple[str, ...] = setting(
        ["tcp:1883"], "Twisted endpoint strings (ssl: for MQTT over TLS); empty opens no port for MQTT alone"
    )
    websocket_path: UrlPath = setting(
        "/mqtt", "where on the HTTP ports MQTT is spoken over WebSocket, as browsers need it; empty is nowhere"
    )
    pubsub: Literal["off", "tenant"] = setting(
        "off",
        "whether clients may publish to each other beside the device topics: off, or tenant (within their tenant)",
    )
    allow_anonymous: bool = setting(
        False, "whether clients without credentials may use the free topics of the default tenant; not for the Internet"
    )
    anonymous_deny: tuple[str, ...] = setting([], "topic filters that clients without credentials get nothing of")
    client_ids: Literal["tenant", "device"] = setting(
        "tenant",
        "where a client id is unique: tenant, as MQTT has it, or device, for fleets whose devices all use the same one",
    )
    max_packet_size: Size = setting(
        64 << 10,
        "the largest MQTT packet that a device may send; told to it, and a larger one ends the connection",
        live=True,
        least=20,
        most=268_435_460,
    )
    receive_maximum: int = setting(
        100,
        "QoS 1 and 2 messages of one client that are not answered yet; told to 5.0 clients, and enforced",
        live=True,
        least=1,
        most=65_535,
    )
    max_unfinished: int = setting(
        1_000, "the same for 3.x clients, which cannot be told: one more ends the connection", live=True, most=65_535
    )
    max_inflight: int = setting(
        100, "QoS 1 and 2 messages on their way to one client; further ones wait for their turn", live=True, most=65_535
    )
    topic_alias_maximum: int = setting(
        10, "topic aliases that a 5.0 client may use: each keeps a topic in memory", live=True, least=0, most=65_535
    )
    max_keep_alive: Duration = setting(
        0.0,
        "the longest keep-alive: 5.0 clients that ask for more, or none, are told this one, 3.x clients are refused; "
        "0 is no limit",
        live=True,
        least=0,
        most=65_535,
    )
    max_queued_messages: int = setting(
        1_000, "QoS 1 and 2 messages that wait for one client, connected or away, beyond those on their way", live=True
    )
    max_queued_size: Size = setting(1 << 20, "the same in bytes of topics, payloads and properties", live=True)
    max_subscriptions: int = setting(
        100, "topic filters of one client; one more is refused, for each costs memory", live=True
    )
    max_topic_levels: int = setting(
        256, "levels of a topic or filter; matching takes time for each", live=True, most=32_768
    )
    max_retained: int = setting(10_000, "retained messages of one tenant; one more is refused", live=True)
    max_retained_size: Size = setting(64 << 20, "the same in bytes of topics, payloads and properties", live=True)
    max_session_expiry: Duration = setting(
        7 * 86_400.0, "how long a session is kept for a client that is away; longer wishes are cut to it", live=True
    )
    max_sessions_per_device: int = setting(
        5, "sessions without a connection that are kept for one device; the one that left first goes first", live=True
    )
    max_anonymous_sessions: int = setting(1_000, "the same for all clients without credentials together", live=True)
    connect_timeout: Duration = setting(
        10.0, "how long a connection may take to send its whole CONNECT; then it is closed", live=True
    )
    ack_timeout: Duration = setting(10.0, "how long a QoS 1 delivery waits for its PUBACK", live=True)
    write_timeout: Duration = setting(
        30.0, "how long a connection may leave what was sent to it unread; then it is aborted", live=True
    )
    max_handshakes: int = setting(
        2_000, "connections that have not finished CONNECT; one more is closed at once", live=True
    )
    connect_rate: Rate = setting(
        ((10, 1.0), (120, 60.0)),
        "connections of one device (in 1 s, in 60 s), beyond it refused: two that share its credentials throw each "
        "other out for ever, and twice a second does to take over",
        live=True,
    )
    address_connect_rate: Rate = setting(
        (),
        "connections of one address, in the same form; beyond it closed at once; empty is no limit, for gateways and "
        "NATs share addresses",
        live=True,
    )
    max_connections_per_address: int = setting(
        0, "open connections of one address; one more is closed at once; 0 is no limit", live=True, least=0
    )
    max_wrong_credentials: int = setting(
        0,
        "wrong credentials of one address, each within wrong_credentials_block of the one before, that block it; "
        "0 blocks nobody",
        live=True,
        least=0,
    )
    wrong_credentials_block: Duration = setting(
        60.0, "how long a blocked address is kept out: its new connections are closed at once", live=True
    )
    max_children: int = setting(
        10_000, "devices that speak through one connection of a gateway; one more is refused", live=True
    )
    max_waiting_for_children: Size = setting(
        16 << 20,
        "memory for a gateway's messages that wait until their devices are found or made; one more is refused",
        live=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpDeviceSettings:
    """`[http_devices]`: the device API on the HTTP ports."""

    poll_timeout: Duration = setting(60.0, "how long a poll waits that names no timeout", live=True)
    max_poll_timeout: Duration = setting(
        300.0, "the longest that a poll may wait; longer wishes are cut to it", live=True
    )
    max_polls_per_device: int = setting(
        10, "polls of one device that wait at a time; one more is refused with 429", live=True
    )
    max_polls: int = setting(5_000, "polls and event streams of all devices; one more is refused with 503", live=True)
    poll_grace: Duration = setting(
        10.0,
        "how long a device counts as connected after its last poll has ended, to which it may come back",
        live=True,
    )
    redeliver_after: Duration = setting(
        30.0,
        "how long a persistent call that a poll has taken may stay without reply or progress before the next poll is "
        "given it again",
        live=True,
    )
    resume_window: Duration = setting(
        300.0, "how long an event stream can be gone on with after it broke (Last-Event-ID)", live=True
    )
    max_rpc_size: Size = setting(64 << 10, "the largest reply, report of progress or question of a device", live=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoapSettings:
    """`[coap]`"""

    listen: tuple[str, ...] = setting(
        ["udp:5683"], "where CoAP is spoken, as udp:PORT or udp:PORT:interface=ADDRESS; empty switches it off"
    )
    dtls_listen: tuple[str, ...] = setting(
        [],
        "where CoAP is spoken over DTLS, as dtls:5684:privateKey=KEY.pem:certKey=CERT.pem, perhaps with "
        ":interface=ADDRESS and :extraCertChain=CHAIN.pem",
    )
    question_timeout: Duration = setting(
        10.0, "how long a device's question waits for an answer, if a rule chain takes its time; then 5.04", live=True
    )
    max_body_size: Size = setting(
        64 << 10, "the largest body of a request, over all its blocks; beyond it 4.13", live=True
    )
    block_size: Size = setting(
        1024,
        "the largest block of a body; a power of two, else the next smaller one. A datagram is a little larger",
        live=True,
        least=16,
        most=1024,
    )
    piggyback_timeout: Duration = setting(
        0.5, "how long an answer may take before the request is acknowledged without it", live=True
    )
    ack_timeout: Duration = setting(
        2.0, "how long an acknowledgement is waited for the first time; each further time twice as long", live=True
    )
    max_retransmit: int = setting(4, "how often a message is sent again before its peer counts as gone", live=True)
    confirm_every: int = setting(
        10,
        "of so many notifications to an observer that registered non-confirmably one is confirmable, to see whether "
        "it is there",
        live=True,
    )
    confirm_after: Duration = setting(
        3_600.0, "how long an observer may be silent before it is asked whether it is there (CoAP ping)", live=True
    )
    psm_activity_window: Duration = setting(
        10.0,
        "how long a device that saves power (additionalInfo.psm) can be called after each of its messages, where it "
        "names no time itself",
        live=True,
    )
    address_rate: Rate = setting(
        (),
        'datagrams of one address, such as "200:1,6000:60" (in 1 s, in 60 s); further ones are dropped unread; empty '
        "is no limit",
        live=True,
    )
    require_echo: bool = setting(
        False,
        "whether an address has to prove that it is not forged (RFC 9175) before it gets an answer of more than three "
        "times its request; not all devices can",
        live=True,
    )
    max_peers: int = setting(
        50_000, "addresses that are remembered; the one that was silent for longest is forgotten first", live=True
    )
    max_observations_per_peer: int = setting(
        1_000, "observations of one address; one more is answered as a plain request", live=True, most=10_000
    )
    max_unfinished: Size = setting(
        16 << 20, "memory for bodies of which blocks are missing, and for answers that are fetched by blocks", live=True
    )
    dtls_idle_timeout: Duration = setting(
        7_200.0,
        "how long a DTLS session without a datagram is kept; it takes more memory than any other device does",
        live=True,
    )
    max_dtls_peers: int = setting(
        1_000, "DTLS sessions; for one more the one that was silent for longest ends", live=True
    )
    dtls_mtu: int = setting(
        1_232,
        "bytes of a DTLS datagram: what any IPv6 path takes (1,280) without its headers; for a smaller one make "
        "block_size smaller too, by 200 than it",
        least=256,
        most=65_000,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcSettings:
    """`[rpc]`"""

    default_timeout: Duration = setting(10.0, "the timeout of a call that names none", live=True)
    min_timeout: Duration = setting(
        5.0, "the floor under a call's timeout; devices on slow links need time", live=True, least=0
    )
    max_timeout: Duration = setting(
        86_400.0, "the ceiling over a lightweight call's timeout: it waits in memory", live=True
    )
    max_pending_per_device: int = setting(
        1_000, "calls that wait for one device; one more is refused with QUEUE_FULL", live=True
    )
    max_retries: int = setting(
        5, "deliveries without an acknowledgement before a call is given up with NO_ACK", live=True, least=0
    )
    submit_strategy: Literal["BURST", "SEQUENTIAL_ON_ACK_FROM_DEVICE", "SEQUENTIAL_ON_RESPONSE_FROM_DEVICE"] = setting(
        "BURST",
        "what a call waits for: nothing (BURST), that older ones are acknowledged (SEQUENTIAL_ON_ACK_FROM_DEVICE) or "
        "have ended (SEQUENTIAL_ON_RESPONSE_FROM_DEVICE); a device (additionalInfo.rpcSubmitStrategy) and a call "
        "(submitStrategy) may say otherwise",
        live=True,
    )
    response_timeout: Duration = setting(
        30.0, "how long others wait behind a delivered call for its reply, when they wait until it has ended", live=True
    )
    close_session_on_delivery_timeout: bool = setting(
        False,
        "whether a device that acknowledges nothing is disconnected, and its calls begin anew, instead of being "
        "given up",
        live=True,
    )
    progress_extension: Duration = setting(
        10.0, "how long a call goes on at least after its device reported progress", live=True
    )
    idempotency_window: Duration = setting(
        600.0, "how long the result of a call with a requestUUID is remembered for who asks again", live=True
    )
    idempotency_size: Size = setting(
        64 << 20, "memory for these results; beyond it the oldest are forgotten early", live=True
    )
    record_recent: int = setting(10_000, "calls whose time lines are kept in memory", live=True, least=0)
    max_persistent_per_device: int = setting(
        10_000, "persistent calls of one device that have not ended; one more is refused with QUEUE_FULL", live=True
    )
    max_persistent_size: Size = setting(
        64 << 10,
        "the largest persistent call: its method, params and additionalInfo together; beyond it 413, for many are in "
        "memory at once",
        live=True,
    )
    max_persistent_timeout: Duration = setting(
        365 * 86_400.0, "the ceiling over a persistent call's timeout and its expirationTime", live=True
    )
    ttl: Duration = setting(30 * 86_400.0, "how long a persistent call is kept after it has ended", live=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkSettings:
    """`[bulk]`"""

    max_devices: int = setting(100_000, "devices of one bulk; a larger one is refused", live=True)
    concurrency: int = setting(20, "calls of a bulk at a time, where it names no number", live=True)
    max_concurrency: int = setting(1_000, "the largest number that it may name", live=True)
    max_running: int = setting(10, "bulks of one tenant that go on at a time; one more is refused with 429", live=True)
    max_response_size: Size = setting(
        16 << 10, "the largest response of a device that a bulk keeps; of a larger one only that it came", live=True
    )
    resume_after: Duration = setting(
        10.0, "how long bulks wait after a start: devices have to come back before they are called", live=True, least=0
    )
    ttl: Duration = setting(30 * 86_400.0, "how long a bulk is kept after it has ended", live=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsSettings:
    """`[limits]`: what devices may send. Values are those of telemetry and of attributes."""

    tenant_messages: Rate = setting(
        (),
        'messages without values of one tenant\'s devices, such as "200:1,6000:60" (in 1 s, in 60 s); '
        "empty is no limit",
        live=True,
    )
    tenant_telemetry_messages: Rate = setting(
        (), "messages with values of one tenant's devices, in the same form", live=True
    )
    tenant_telemetry_points: Rate = setting((), "values in these messages", live=True)
    device_messages: Rate = setting(
        (), "messages without values of one device that is connected by itself and is no gateway", live=True
    )
    device_telemetry_messages: Rate = setting((), "messages with values of such a device", live=True)
    device_telemetry_points: Rate = setting((), "values in these messages", live=True)
    gateway_messages: Rate = setting(
        (), "messages without values of all devices behind one gateway together", live=True
    )
    gateway_telemetry_messages: Rate = setting((), "messages with values of these devices", live=True)
    gateway_telemetry_points: Rate = setting((), "values in these messages", live=True)
    gateway_device_messages: Rate = setting((), "messages without values of one gateway for itself", live=True)
    gateway_device_telemetry_messages: Rate = setting((), "messages with values of a gateway for itself", live=True)
    gateway_device_telemetry_points: Rate = setting((), "values in these messages", live=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySettings:
    """`[telemetry]`"""

    window: int = setting(
        100,
        "the points of each key that are kept, the last ones that were posted; 0 is only the latest",
        live=True,
        least=0,
    )
    max_keys: int = setting(500, "keys of one device; what has one more is refused", live=True)
    max_key_length: int = setting(255, "characters of a key; what has a longer one is refused", live=True, most=512)
    max_value_size: Size = setting(
        16 << 10, "the largest text or JSON in one point, for a window of them is kept", live=True
    )
    max_waiting: Size = setting(
        64 << 20, "memory for points that the store has not taken yet; beyond it posts are refused", live=True
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeSettings:
    """`[attributes]`"""

    max_keys: int = setting(500, "attributes of one device in one scope; what has one more is refused", live=True)
    max_key_length: int = setting(255, "characters of a key; what has a longer one is refused", live=True, most=512)
    max_value_size: Size = setting(32 << 10, "the largest text or JSON in one attribute", live=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSettings:
    """`[auth]`"""

    token_lifetime: Duration = setting(9_000.0, "how long an access token is good", live=True)
    refresh_lifetime: Duration = setting(604_800.0, "how long a refresh token is good", live=True)
    free_failures: int = setting(5, "failed logins of one account before it is made to wait", live=True, least=0)
    lockout_first: Duration = setting(
        2.0, "the wait after one failure too many; it doubles with each further one", live=True
    )
    lockout_max: Duration = setting(900.0, "the longest wait between two login attempts", live=True)
    max_waiting_logins: int = setting(
        64, "logins that wait for their turn at the password hash; one more is refused with 503", live=True
    )
    token_cache: int = setting(10_000, "verified tokens that are remembered until they expire")
    activation_lifetime: Duration = setting(86_400.0, "how long a link that activates a user is good", live=True)
    max_api_keys_per_user: int = setting(100, "API keys of one user; one more is refused", live=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentSettings:
    """`[enrolment]`"""

    key_failures: Rate = setting(
        ((20, 60.0),),
        "failed attempts to provision with one key; beyond it the right secret is refused too, for it may be a guess",
        live=True,
    )
    all_failures: Rate = setting(
        ((200, 60.0),), "the same for all keys together, and for keys that are none, in the same form", live=True
    )
    claim_failures: Rate = setting(
        ((10, 60.0),), "wrong secrets for one device that somebody wants to claim; beyond it 429", live=True
    )
    claim_duration: Duration = setting(
        86_400.0, "how long a device that names no time can be claimed, and the longest that it may name", live=True
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """`[audit]`"""

    calls: bool = setting(True, "whether calls to devices are recorded, not only changes and logins", live=True)
    payloads: bool = setting(False, "whether the params of calls are recorded; they may be private", live=True)
    max_age: Duration = setting(90 * 86_400.0, "how long an entry is kept", live=True)
    max_entries: int = setting(100_000, "entries of one tenant that are kept; the oldest go first", live=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """`[store]`"""

    url: str = setting(
        "",
        "SQLAlchemy URL such as postgresql+psycopg://user@host/db; empty is SQLite in the state directory",
    )
    cache_size: int = setting(10_000, "devices, and credentials, that are kept in memory for look-ups")
    max_queue: int = setting(20_000, "writes that wait for the disk; one more is refused with 503")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole configuration, one member a section of the file."""

    server: ServerSettings = field(default_factory=ServerSettings)
    log: LogSettings = field(default_factory=LogSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    http_devices: HttpDeviceSettings = field(default_factory=HttpDeviceSettings)
    mqtt: MqttSettings = field(default_factory=MqttSettings)
    coap: CoapSettings = field(default_factory=CoapSettings)
    rpc: RpcSettings = field(default_factory=RpcSettings)
    bulk: BulkSettings = field(default_factory=BulkSettings)
    rules: RulesSettings = field(default_factory=RulesSettings)
    feed: FeedSettings = field(default_factory=FeedSettings)
    wamp: WampSettings = field(default_factory=WampSettings)
    limits: LimitsSettings = field(default_factory=LimitsSettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    attributes: AttributeSettings = field(default_factory=AttributeSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    enrolment: EnrolmentSettings = field(default_factory=EnrolmentSettings)
    audit: AuditSettings = field(default_factory=AuditSettings)
    store: StoreSettings = field(default_factory=StoreSettings)


def reloaded(running: Settings, read: Settings) -> tuple[Settings, list[str], list[str]]:
    """What a broker with the settings `running` goes on with when it has `read` others.

    Also what changes with that, and what is not taken because it needs a restart, as `[section] key`.
    """
    changed: list[str] = []
    missed: list[str] = []
    sections = {}
    for section in fields(Settings):
        old, new = getattr(running, section.name), getattr(read, section.name)
        taken = {}
        for item in fields(old):
            if getattr(old, item.name) != getattr(new, item.name):
                live = item.metadata["live"]
                (changed if live else missed).append(f"[{section.name}] {item.name}")
                if live:
                    taken[item.name] = getattr(new, item.name)
        sections[section.name] = replace(old, **taken)
    return Settings(**sections), changed, missed
