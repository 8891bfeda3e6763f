"""WAMP's ways in with the real broker: where they are, over TLS too, what a reload changes, and the end."""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import certificates
import pytest
from daemon import Daemon, wait_for
from frames import TEXT, frame, handshake
from honest import gauge
from hostile import check_log
from wamp_client import WampClient
from websocket_peer import WampPeer, WebSocketPeer, handshaken

from rpcbroker.feed.codec import BY_SUBPROTOCOL

LOOPBACK = "tcp:0:interface=127.0.0.1"


def all_of(peer: socket.socket) -> bytes:
    """What comes until the broker ends it, in good order or not."""
    said = b""
    with peer, contextlib.suppress(OSError):
        while chunk := peer.recv(65536):
            said += chunk
    return said


@pytest.fixture
def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def test_all_ways_in_are_told_and_all_sessions_hear_that_the_broker_stops(
    tmp_path: Path, trusting: ssl.SSLContext
) -> None:
    listener = certificates.make(tmp_path, serial=1).listener()
    both = f"{LOOPBACK} {listener}"
    daemon = Daemon(tmp_path, RPCBROKER_HTTP_LISTEN=both, RPCBROKER_WAMP_RAWSOCKET_LISTEN=both).login()
    urls = {name: urlsplit(url) for name, url in daemon.endpoints.items()}
    assert {name: url.scheme for name, url in urls.items() if "wamp" in name} == {
        "wamp": "rs",
        "wamps": "rss",
        "wamp-ws": "ws",
        "wamp-wss": "wss",
    }
    assert (urls["wamp-ws"].port, urls["wamp-ws"].path) == (urls["http"].port, "/ws")
    assert (urls["wamp-wss"].port, urls["wamp-wss"].path) == (urls["https"].port, "/ws")

    peers = [WampPeer(daemon, name, tls=tls) for name in BY_SUBPROTOCOL for tls in (None, trusting)]
    new = WebSocketPeer(daemon, "/ws", "wamp.2.json")
    assert daemon.token is not None
    straight = WampClient(daemon.endpoints["wamp"]).join(daemon.token)
    secure = trusting.wrap_socket(socket.create_connection(("127.0.0.1", urls["wamps"].port or 0), 10))
    secure.sendall(b"\x7f\xf1\x00\x00")
    assert secure.recv(4) == b"\x7f\xb1\x00\x00"

    started = time.monotonic()
    stopping = threading.Thread(target=daemon.stop)
    stopping.start()
    for peer in peers:
        goodbye = peer.told()
        assert (goodbye[0], goodbye[2]) == (6, "wamp.close.system_shutdown")
        assert [each.code for each in peer.hear_all()] == [1001]
    abort, end = new.hear_all()
    assert (b"wamp.close.system_shutdown" in abort.payload, end.code) == (True, 1001)
    assert straight.hear()[0::2] == [6, "wamp.close.system_shutdown"]
    assert straight.hear() == []
    assert b"wamp.close.system_shutdown" in secure.recv(1000)
    assert secure.recv(1000) == b""
    stopping.join()
    assert time.monotonic() - started < 5
    straight.close()
    secure.close()
    check_log(daemon)


def test_the_path_is_a_setting_and_none_switches_it_off(tmp_path: Path) -> None:
    for path, statuses in (("/feed", {"/ws": 404, "/feed": 101}), ("", {"/ws": 404, "/mqtt": 400})):
        daemon = Daemon(tmp_path, RPCBROKER_WAMP_WEBSOCKET_PATH=path)
        for target, status in statuses.items():
            answer = handshaken(daemon, handshake(target, Sec_WebSocket_Protocol="wamp.2.json"))
            assert (target, answer.status) == (target, status)
        assert ("wamp-ws" in daemon.endpoints) is bool(path)
        assert "wamp" not in daemon.endpoints
        daemon.stop()


def test_limits_change_while_it_runs(tmp_path: Path) -> None:
    config = tmp_path / "rpcbroker.toml"
    config.write_text("[wamp]\nmax_message_size = '2KiB'\n")
    daemon = Daemon(tmp_path, arguments=["--config", str(config)]).login()
    peer, message = WampPeer(daemon), [32, 1, {}, "com.example." + "x" * 400]
    assert peer.tell(message).told()[0] == 33
    config.write_text("[wamp]\nmax_message_size = '400'\n")
    daemon.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "changed: [wamp] max_message_size" in daemon.log.read_text(), "the reload")
    assert peer.tell(message).hear_all()[-1].code == 1009
    daemon.stop()


def test_a_session_over_tls_that_does_not_read_loses_events_and_nobody_else_does(
    tmp_path: Path, trusting: ssl.SSLContext
) -> None:
    listener = certificates.make(tmp_path, serial=1).listener()
    more = {"RPCBROKER_FEED_MAX_WAITING": "64KiB", "RPCBROKER_FEED_SLOW_TIMEOUT": "1s", "RPCBROKER_FEED_GATHER": "0"}
    daemon = Daemon(tmp_path, RPCBROKER_HTTP_LISTEN=f"{LOOPBACK} {listener}", **more).login()
    peers = [WampPeer(daemon, tls=tls) for tls in (trusting, None)]
    for peer in peers:
        assert peer.tell([32, 1, {}, "com.example.topic"]).told()[0] == 33
    sender, reader = WampPeer(daemon), WampPeer(daemon, tls=trusting)
    reader.tell([32, 1, {}, "com.example.topic"]).told()
    payload = ["x" * 30_000]
    for number in range(400):
        assert sender.tell([16, number + 1, {"acknowledge": True}, "com.example.topic", payload]).told()[0] == 17
        assert reader.told()[4] == payload
    wait_for(lambda: gauge(daemon, "rpcbroker_wamp_sessions") == 2, "the end of those who do not read")
    for peer in peers:
        assert 0 < all_of(peer.socket).count(b"[36,") < 400
    sender.leave()
    reader.leave()
    daemon.stop()
    check_log(daemon)


def test_a_large_answer_comes_whole_whatever_else_is_gathered(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path).login()
    peer, sender = WampPeer(daemon), WampPeer(daemon)
    peer.tell([32, 1, {}, "com.example.topic"]).told()
    sizes = [0, 100, 125, 126, 65_000, 66_000, 500_000]
    for number, size in enumerate(sizes):
        sender.say(frame(TEXT, b'[16,%d,{"acknowledge":true},"com.example.topic",["%b"]]' % (number + 1, b"x" * size)))
        assert sender.told()[0] == 17
    assert [len(peer.told()[4][0]) for _ in sizes] == sizes
    peer.leave()
    sender.leave()
    daemon.stop()
