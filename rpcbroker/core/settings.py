"""Every limit, time and address that an operator may set: one frozen record a section.

`config.py` reads them from TOML and the environment; everybody else is handed them.
Durations are seconds, sizes are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NewType

Duration = NewType("Duration", float)
Size = NewType("Size", int)


def setting(default: Any, why: str) -> Any:
    """A field with the reason that `conf/rpcbroker.toml` gives for it."""
    if isinstance(default, (list, tuple)):
        return field(default=tuple(default), metadata={"why": why})
    return field(default=default, metadata={"why": why})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """`[server]`"""

    drain: Duration = setting(5.0, "how long running calls may go on after SIGTERM")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """`[http]`"""

    listen: tuple[str, ...] = setting(
        ["tcp:8080"], "Twisted endpoint strings (ssl: for HTTPS, unix: for a socket); empty switches HTTP off"
    )
    max_body_size: Size = setting(1 << 20, "the largest request body; beyond it 413")
    request_timeout: Duration = setting(
        30.0, "how long a request may take to arrive, from its first byte to its last; then 408"
    )
    idle_timeout: Duration = setting(75.0, "how long a kept-alive connection may stay silent")
    max_connections: int = setting(10_000, "open HTTP connections; one more is closed at once")


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttSettings:
    """`[mqtt]`"""

    listen: tuple[str, ...] = setting(
        ["tcp:1883"], "Twisted endpoint strings (ssl: for MQTT over TLS); empty switches MQTT off"
    )
    max_packet_size: Size = setting(64 << 10, "the largest MQTT packet that a device may send")
    connect_timeout: Duration = setting(
        10.0, "how long a connection may take to send its whole CONNECT; then it is closed"
    )
    ack_timeout: Duration = setting(10.0, "how long a QoS 1 delivery waits for its PUBACK")
    write_timeout: Duration = setting(
        30.0, "how long a connection may leave what was sent to it unread; then it is aborted"
    )
    max_handshakes: int = setting(2_000, "connections that have not finished CONNECT; one more is closed at once")


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcSettings:
    """`[rpc]`"""

    default_timeout: Duration = setting(10.0, "the timeout of a call that names none")
    min_timeout: Duration = setting(5.0, "the floor under a call's timeout; devices on slow links need time")
    max_timeout: Duration = setting(86_400.0, "the ceiling over a lightweight call's timeout: it waits in memory")
    max_pending_per_device: int = setting(1_000, "calls that wait for one device; one more is refused with QUEUE_FULL")
    max_retries: int = setting(5, "deliveries without an acknowledgement before a call is given up with NO_ACK")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSettings:
    """`[auth]`"""

    token_lifetime: Duration = setting(9_000.0, "how long an access token is good")
    refresh_lifetime: Duration = setting(604_800.0, "how long a refresh token is good")
    free_failures: int = setting(5, "failed logins of one account before it is made to wait")
    lockout_first: Duration = setting(2.0, "the wait after one failure too many; it doubles with each further one")
    lockout_max: Duration = setting(900.0, "the longest wait between two login attempts")
    max_waiting_logins: int = setting(
        64, "logins that wait for their turn at the password hash; one more is refused with 503"
    )
    token_cache: int = setting(10_000, "verified tokens that are remembered until they expire")


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
    http: HttpSettings = field(default_factory=HttpSettings)
    mqtt: MqttSettings = field(default_factory=MqttSettings)
    rpc: RpcSettings = field(default_factory=RpcSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
