"""MQTT over WebSocket with the real broker: a foreign client, hostile ones, and the end of both."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import certificates
import paho.mqtt.client as mqtt
import pytest
from daemon import Daemon, wait_for
from frames import BINARY, CLOSE, PING, PONG, TEXT, Frame, close, frame, frames, handshake
from hostile import Bystander, answers, attacked, check_error, check_log
from paho_device import REQUESTS, end

from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.codec import encode

CALL = {"method": "get", "timeout": 5_000}
SUBSCRIBE = p.Subscribe(1, (p.Subscription(REQUESTS, 1),))
PING_AND_CLOSE = frame(BINARY, encode(p.PingReq(), 4)) + close(1000)
PONG_AND_CLOSE = [Frame(BINARY, encode(p.PingResp(), 4)), Frame(CLOSE, b"\x03\xe8")]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with attacked(tmp_path_factory.mktemp("broker"), RPCBROKER_MQTT_CONNECT_TIMEOUT="2s") as daemon:
        yield daemon


@pytest.fixture
def token(request: pytest.FixtureRequest) -> str:
    """Of a device of the test's own, and its name."""
    return f"{zlib.crc32(request.node.name.encode()):x}"


def port_of(daemon: Daemon, name: str = "http") -> int:
    return int(daemon.endpoints[name].rsplit(":", 1)[1])


def paho_device(daemon: Daemon, token: str, *, version: Any = mqtt.MQTTv311, secure: bool = False) -> mqtt.Client:
    """Connected, subscribed, and answers each call with its params."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, transport="websockets", protocol=version)
    client.username_pw_set(token)
    if secure:
        client.tls_set(cert_reqs=ssl.CERT_NONE)
        client.tls_insecure_set(True)
    ready = threading.Event()
    client.on_connect = lambda *_: client.subscribe(REQUESTS, qos=1)
    client.on_subscribe = lambda *_: ready.set()

    def on_message(_client: Any, _data: Any, message: Any) -> None:
        answer = json.dumps(json.loads(message.payload)["params"])
        client.publish(message.topic.replace("request", "response"), answer, qos=1)

    client.on_message = on_message
    client.connect("127.0.0.1", port_of(daemon, "https" if secure else "http"))
    client.loop_start()
    assert ready.wait(10), "the device could not subscribe"
    return client


class Peer:
    """A client by hand."""

    def __init__(self, daemon: Daemon, tls: ssl.SSLContext | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port_of(daemon, "https" if tls else "http")), 10)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket)
        self.socket.sendall(handshake())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.socket.recv(1)
        assert head.startswith(b"HTTP/1.1 101 "), head

    def say(self, *parts: bytes) -> Peer:
        for part in parts:
            self.socket.sendall(part)
        return self

    def packets(self, *packets: p.Packet) -> Peer:
        return self.say(*(frame(BINARY, encode(packet, 4)) for packet in packets))

    def hear(self, size: int) -> bytes:
        """So many bytes."""
        said = b""
        while len(said) < size:
            said += self.socket.recv(size - len(said)) or pytest.fail(f"it ended after {said!r}")
        return said

    def hear_all(self) -> list[Frame]:
        """Until the broker closes."""
        said = b""
        with self.socket:
            while chunk := self.socket.recv(65536):
                said += chunk
        return frames(said)

    def connect(self, token: str) -> Peer:
        self.packets(p.Connect(4, "c", username=token))
        assert self.hear(6) == b"\x82\x04\x20\x02\x00\x00"
        return self


@pytest.mark.parametrize("version", [mqtt.MQTTv31, mqtt.MQTTv311, mqtt.MQTTv5])
def test_a_device_on_paho_is_called_over_websocket(broker: Daemon, token: str, version: Any) -> None:
    device_id = broker.add_device(token, token)
    client = paho_device(broker, token, version=version)
    for size in (1, 200, 60_000):
        params = "x" * size
        status, answer = broker.ask("POST", f"/api/rpc/twoway/{device_id}", CALL | {"params": params})
        assert (status, answer) == (200, params)
    end(client)
    assert broker.endpoints["mqtt-ws"] == broker.http.replace("http", "ws") + "/mqtt"


def test_a_device_on_paho_is_called_over_tls(tmp_path: Path) -> None:
    listener = certificates.make(tmp_path, serial=1).listener()
    daemon = Daemon(tmp_path, RPCBROKER_HTTP_LISTEN=f"tcp:0:interface=127.0.0.1 {listener}").login()
    device_id = daemon.add_device("paho", "PAHO")
    client = paho_device(daemon, "PAHO", secure=True)
    lost = threading.Event()
    client.on_disconnect = lambda *_: lost.set()
    for size in (1, 60_000):
        answer = daemon.ask("POST", f"/api/rpc/twoway/{device_id}", CALL | {"params": "x" * size})
        assert answer == (200, "x" * size)
    assert daemon.endpoints["mqtt-wss"] == daemon.endpoints["https"].replace("https", "wss") + "/mqtt"
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    said = Peer(daemon, trusting).say(frame(PING), frame(TEXT, b"x" * 100_000)).hear_all()
    assert (said[0], said[1].code) == (Frame(PONG, b""), 1003)
    daemon.add_device("peer", "PEER")
    assert Peer(daemon, trusting).connect("PEER").say(PING_AND_CLOSE).hear_all() == PONG_AND_CLOSE
    start = time.monotonic()
    daemon.stop()
    assert time.monotonic() - start < 5
    assert lost.wait(5)
    client.loop_stop()
    check_log(daemon)


def test_the_path_is_a_setting_and_none_switches_it_off(tmp_path: Path) -> None:
    for path, statuses in (("/devices/ws", {"/mqtt": 404, "/devices/ws": 101}), ("", {"/mqtt": 404, "/": 200})):
        daemon = Daemon(tmp_path, RPCBROKER_MQTT_WEBSOCKET_PATH=path)
        for target, status in statuses.items():
            with socket.create_connection(("127.0.0.1", port_of(daemon)), 10) as connection:
                connection.sendall(handshake(target))
                assert connection.recv(1000).startswith(b"HTTP/1.1 %d " % status), (path, target)
        assert ("mqtt-ws" in daemon.endpoints) is bool(path)
        daemon.stop()


def test_without_an_upgrade_it_is_426(broker: Daemon) -> None:
    with socket.create_connection(("127.0.0.1", port_of(broker)), 10) as connection:
        connection.sendall(b"GET /mqtt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        said = b""
        while chunk := connection.recv(65536):
            said += chunk
    (answer,) = answers(said)
    assert answer.status == 426
    assert answer.headers["connection"] == ["close", "Upgrade"]
    check_error(answer)


def test_packets_may_be_cut_and_joined_as_one_likes(broker: Daemon, token: str) -> None:
    device_id = broker.add_device(token, token)
    together = encode(p.Connect(4, "c", username=token), 4) + encode(SUBSCRIBE, 4)
    in_ones = Peer(broker).say(b"".join(frame(BINARY, together[i : i + 1]) for i in range(len(together))))
    assert in_ones.hear(13) == b"\x82\x04\x20\x02\x00\x00\x82\x05\x90\x03\x00\x01\x01"
    in_ones.socket.close()
    wire = frame(BINARY, together[:7], fin=False) + frame(PING, b"?") + frame(0, together[7:])
    by_bytes = Peer(broker)
    by_bytes.say(*(wire[i : i + 1] for i in range(len(wire))))
    broker.wait_callable(device_id)
    said = by_bytes.say(close(1000)).hear_all()
    assert Frame(PONG, b"?") in said
    assert b"".join(each.payload for each in said if each.opcode == BINARY) == b"\x20\x02\x00\x00\x90\x03\x00\x01\x01"
    assert said[-1] == Frame(CLOSE, b"\x03\xe8")


def test_who_closes_is_disconnected_at_once_also_by_half(broker: Daemon, token: str) -> None:
    device_id = broker.add_device(token, token)

    def is_callable() -> bool:
        return bool(broker.ask("GET", f"/api/device/{device_id}/presence")[1]["callable"]["value"])

    for leave in (
        lambda peer: peer.say(close(1001)),
        lambda peer: peer.say(frame(TEXT, b"{}")),
        lambda peer: peer.socket.shutdown(socket.SHUT_WR),
        lambda peer: peer.packets(p.Disconnect()),
        lambda peer: peer.socket.close(),
    ):
        peer = Peer(broker).connect(token).packets(SUBSCRIBE)
        wait_for(is_callable, "a callable device")
        leave(peer)
        wait_for(lambda: not is_callable(), "its end")
        peer.socket.close()


def test_who_asks_and_closes_in_one_breath_is_answered_first(broker: Daemon, token: str) -> None:
    broker.add_device(token, token)
    peer = Peer(broker).connect(token)
    assert peer.say(PING_AND_CLOSE).hear_all() == PONG_AND_CLOSE


def test_who_disconnects_hears_a_close(broker: Daemon, token: str) -> None:
    broker.add_device(token, token)
    peer = Peer(broker).connect(token).packets(p.Disconnect())
    assert peer.hear(4) == b"\x88\x02\x03\xe8"
    assert peer.say(close(1000)).hear_all() == []


def test_wrong_credentials_are_refused_and_closed(broker: Daemon) -> None:
    peer = Peer(broker).packets(p.Connect(4, "c", username="WRONG"))
    assert peer.hear(10) == b"\x82\x04\x20\x02\x00\x05" + b"\x88\x02\x03\xe8"
    assert peer.say(close(1000)).hear_all() == []


def test_who_upgrades_and_says_nothing_is_closed(broker: Daemon) -> None:
    start = time.monotonic()
    with contextlib.suppress(ConnectionResetError):
        assert Peer(broker).hear_all() == []
    assert 1.9 < time.monotonic() - start < 9


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT, b"hello"), 1003),
        (frame(TEXT, b"x" * 5_000_000), 1003),
        (frame(BINARY, announced=1 << 62) + b"x" * 100_000, 1009),
        (frame(BINARY, b"\x10\x0c", masked=False), 1002),
        (b"\xff" * 200_000, 1002),
        (b"GET /mqtt HTTP/1.1\r\n\r\n" * 1000, 1002),
    ],
    ids=["text", "long text", "2^62 bytes", "unmasked", "noise", "HTTP"],
)
def test_what_is_wrong_is_told_with_a_code(broker: Daemon, data: bytes, code: int) -> None:
    with Bystander(broker.http):
        peer = Peer(broker)
        peer.say(data)
        assert [each.code for each in peer.hear_all()] == [code]


def test_a_flood_of_frames_delays_nobody_much(broker: Daemon, token: str) -> None:
    broker.add_device(token, token)
    with Bystander(broker.http):
        peer = Peer(broker).connect(token)
        peer.socket.settimeout(2)
        flood = frame(PING) * 10_000 + frame(BINARY) * 10_000
        with contextlib.suppress(TimeoutError):
            for _ in range(20):
                peer.say(flood)  # its pongs are not read, so it is not read either
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.socket.close()


def test_a_device_that_does_not_read_is_aborted_and_its_call_ends(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, RPCBROKER_MQTT_WRITE_TIMEOUT="500ms").login()
    device_id = daemon.add_device("d", "D")
    peer = Peer(daemon).connect("D").packets(p.Subscribe(1, (p.Subscription(REQUESTS, 0),)))
    daemon.wait_callable(device_id)

    def is_callable() -> bool:
        return bool(daemon.ask("GET", f"/api/device/{device_id}/presence")[1]["callable"]["value"])

    statuses = [200]
    while is_callable():
        assert len(statuses) < 50
        statuses.append(daemon.ask("POST", f"/api/rpc/oneway/{device_id}", CALL | {"params": "x" * 500_000})[0])
    assert statuses[-1] != 200
    peer.socket.close()
    daemon.stop()
    check_log(daemon)


def test_a_broker_that_stops_closes_and_does_not_wait(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path).login()
    daemon.add_device("d", "D")
    peer, idle = Peer(daemon).connect("D"), Peer(daemon)
    start = time.monotonic()
    stopped = threading.Thread(target=daemon.stop)
    stopped.start()
    said = peer.hear_all()
    stopped.join()
    assert time.monotonic() - start < 5
    assert said[-1].code == 1000
    assert idle.hear_all() == []
    check_log(daemon)
