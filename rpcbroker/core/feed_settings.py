"""The settings of the feed: who may watch, how much waits for watchers, and what applications may hold open."""

from __future__ import annotations

from dataclasses import dataclass

from rpcbroker.core.setting import Duration, Size, UrlPath, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedSettings:
    """`[feed]`"""

    max_watchers: int = setting(
        5_000,
        "sessions and streams of one tenant that watch at a time, and their subscriptions to one device, or to no one "
        "in particular; one more is refused",
        live=True,
    )
    max_waiting: Size = setting(
        1 << 20, "what waits for a watcher that reads slowly; beyond it events are dropped, and counted", live=True
    )
    slow_timeout: Duration = setting(
        30.0, "how long events may be dropped for a watcher that reads nothing; then it is closed", live=True
    )
    gather: Duration = setting(
        0.1, "how long an event may wait to be sent together with others; 0 is not at all", live=True, least=0, most=1
    )
    replay: Duration = setting(
        60.0, "how long events are kept for a watcher that comes back with Last-Event-ID", live=True
    )
    max_replay_size: Size = setting(1 << 20, "memory for those of one tenant; the oldest go first", live=True)
    payloads: bool = setting(
        True, "whether params, replies and values may be watched, by those who ask for them and may see them", live=True
    )
    presence_history: Duration = setting(
        86_400.0,
        "how long it is kept when devices connected, disconnected, began and ceased to be callable, 200 changes of a "
        "device at most; 0 is not at all",
        live=True,
        least=0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WampSettings:
    """`[wamp]`"""

    websocket_path: UrlPath = setting(
        "/ws", "where WAMP is spoken over WebSocket, on the listeners of [http]; empty switches it off"
    )
    rawsocket_listen: tuple[str, ...] = setting(
        [], "Twisted endpoint strings (ssl: for TLS, unix: for a socket) for WAMP over RawSocket; empty switches it off"
    )
    hello_timeout: Duration = setting(
        10.0, "how long a connection may take to say who it is; then it is closed", live=True
    )
    max_sessions: int = setting(5_000, "sessions of one tenant at a time; one more is refused", live=True)
    max_message_size: Size = setting(1 << 20, "the largest message, as it comes in", live=True)
    max_depth: int = setting(64, "how deep lists and dictionaries of a message may lie in each other", live=True)
    max_subscriptions: int = setting(1_000, "subscriptions of one session; one more is refused", live=True)
    max_registrations: int = setting(1_000, "procedures that one session registers; one more is refused", live=True)
    max_calls: int = setting(
        1_000, "calls of one session that wait for their results, and invocations that wait for it", live=True
    )
