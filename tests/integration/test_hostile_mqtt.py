"""What needs real sockets: times, half-closed and unread connections, floods, other protocols, and kill -9."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon import Daemon, wait_for
from hostile import Bystander, attacked

from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.codec import FrameReader, decode, encode
from rpcbroker.wire.mqtt.properties import Property

SETTINGS = {
    "RPCBROKER_MQTT_PUBSUB": "tenant",
    "RPCBROKER_MQTT_ALLOW_ANONYMOUS": "true",
    "RPCBROKER_MQTT_CONNECT_TIMEOUT": "1s",
    "RPCBROKER_MQTT_WRITE_TIMEOUT": "2s",
    "RPCBROKER_MQTT_MAX_HANDSHAKES": "30",
}
GROWTH = 48 << 20
"""Bytes that the daemon may grow by while somebody does not read: far less than what is published meanwhile."""


class Peer:
    """A client on a socket of its own, which says what it is told to and nothing by itself."""

    def __init__(self, daemon: Daemon, level: int = 5, *, receive_buffer: int = 0) -> None:
        self.level = level
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(10)
        try:
            self.socket.connect(("127.0.0.1", daemon.mqtt_port))
        except OSError:
            self.socket.close()
            raise
        self._frames = FrameReader(1 << 20)
        self._came: list[Any] = []

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *packets: p.Packet) -> None:
        self.socket.sendall(b"".join(encode(packet, self.level) for packet in packets))

    def next(self) -> Any:
        """The next packet; None is the end of the connection."""
        while not self._came:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._frames.feed(data)
            self._came += [decode(first, body, self.level) for first, body in self._frames]
        return self._came.pop(0)

    def until_the_end(self) -> list[Any]:
        """All packets until the broker closes the connection."""
        return list(iter(self.next, None))

    def connect(self, client_id: str, **more: Any) -> Peer:
        self.send(p.Connect(self.level, client_id, **more))
        answer = self.next()
        assert isinstance(answer, p.ConnAck)
        assert answer.code == 0
        self.present = answer.session_present
        return self

    def listen(self, *filters: str, qos: int = 0) -> Peer:
        self.send(p.Subscribe(1, tuple(p.Subscription(text, qos) for text in filters)))
        assert self.next() == p.SubAck(1, (qos,) * len(filters))
        return self

    def ping(self) -> None:
        """Whatever comes before the answer is left out."""
        self.send(p.PingReq())
        while (packet := self.next()) != p.PingResp():
            assert packet is not None, "the broker closed the connection"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with attacked(tmp_path_factory.mktemp("hostile"), **SETTINGS) as daemon:
        yield daemon


def memory(daemon: Daemon) -> int:
    """Bytes that are resident."""
    return int(Path(f"/proc/{daemon.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("dribbled", [b"", encode(p.Connect(4, "dribbled"), 4)])
def test_who_does_not_finish_connect_is_closed_in_time(daemon: Daemon, dribbled: bytes) -> None:
    start = time.monotonic()
    with Peer(daemon) as peer:
        peer.socket.settimeout(0.2)
        said: bytes | None = None
        for byte in dribbled or bytes(40):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                if dribbled:
                    peer.socket.sendall(bytes((byte,)))
            try:
                said = peer.socket.recv(100)
                break
            except TimeoutError:
                continue
            except ConnectionResetError:
                said = b""
                break
        assert said == b"", "closed, and without a word"
    assert 0.9 < time.monotonic() - start < 4


def test_idle_connections_are_limited_and_their_places_come_free(daemon: Daemon) -> None:
    with contextlib.ExitStack() as stack, Bystander(daemon.http):
        early = stack.enter_context(Peer(daemon)).connect("early")
        idle = []
        for _ in range(60):
            with contextlib.suppress(ConnectionResetError):  # it was turned away that quickly
                idle.append(stack.enter_context(Peer(daemon)))
        wait_for(lambda: sum(not _is_closed(peer) for peer in idle) <= 30, "the end of those beyond the limit", 5)
        early.ping()

        def gets_in() -> bool:
            with contextlib.suppress(OSError), Peer(daemon) as honest:
                honest.send(p.Connect(5, "honest"))
                return isinstance(honest.next(), p.ConnAck)
            return False

        wait_for(gets_in, "a place for somebody who knows what to say", 10)


def _is_closed(peer: Peer) -> bool:
    peer.socket.setblocking(False)
    try:
        return peer.socket.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("level", [3, 4, 5])
def test_segments_of_one_byte_and_one_segment_are_the_same(daemon: Daemon, level: int) -> None:
    packets = [
        p.Connect(level, "bytes"),
        p.Subscribe(1, (p.Subscription("bytes/#", 1),)),
        p.Publish("bytes/a", b"x", 1, 2),
        p.Publish("bytes/b", b"y" * 300, 2, 3),
        p.PubRel(3),
        p.PingReq(),
    ]
    data = b"".join(encode(packet, level) for packet in packets)
    heard = []
    for step in (1, len(data)):
        with Peer(daemon, level) as peer:
            peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for start in range(0, len(data), step):
                peer.socket.sendall(data[start : start + step])
                if step == 1:
                    time.sleep(0.001)
            peer.send(p.Disconnect())
            heard.append([packet for packet in peer.until_the_end() if not isinstance(packet, p.ConnAck)])
    assert heard[0] == heard[1]
    assert len(heard[0]) == 7


def test_half_a_message_is_none_and_its_sender_s_will_is_published(daemon: Daemon) -> None:
    with Peer(daemon) as listener, Peer(daemon) as peer:
        listener.connect("l17").listen("half/#")
        peer.connect("half", will=p.Will("half/will", b"gone"))
        peer.socket.sendall(encode(p.Publish("half/message", b"x" * 50), 5)[:-1])
        peer.socket.shutdown(socket.SHUT_WR)
        assert listener.next().topic == "half/will"
        assert peer.next() is None
        listener.ping()


def test_a_reset_publishes_the_will_too(daemon: Daemon) -> None:
    with Peer(daemon) as listener, Peer(daemon) as peer:
        listener.connect("l77").listen("reset")
        peer.connect("reset", will=p.Will("reset", b"gone"))
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.socket.close()
        assert listener.next().topic == "reset"


def test_silence_ends_after_one_and_a_half_keep_alives_and_not_before(daemon: Daemon) -> None:
    with Peer(daemon) as listener, Peer(daemon) as peer, Peer(daemon) as patient:
        listener.connect("l18").listen("silent")
        patient.connect("patient", keep_alive=0)
        peer.connect("silent", keep_alive=2, will=p.Will("silent", b"gone"))
        start = time.monotonic()
        (said,) = peer.until_the_end()
        assert said.code == 0x8D
        assert 2.9 < time.monotonic() - start < 5
        assert listener.next().topic == "silent"
        patient.ping()


def test_who_does_not_read_costs_little_and_then_its_connection(daemon: Daemon) -> None:
    with Peer(daemon, receive_buffer=4096) as deaf, Peer(daemon) as other, Peer(daemon) as speaker:
        deaf.connect("deaf").listen("flood")
        other.connect("other").listen("flood")
        speaker.connect("speaker")
        before = memory(daemon)
        payload = b"x" * 10_000
        with Bystander(daemon.http):
            for number in range(60):
                for _ in range(50):
                    speaker.send(p.Publish("flood", payload))
                speaker.ping()
                got = sum(other.next().payload == payload for _ in range(50))
                assert got == 50, "the others get all of it"
                if number % 10 == 0:
                    assert memory(daemon) - before < GROWTH
        assert memory(daemon) - before < GROWTH
        wait_for(lambda: _is_over(deaf), "the end of its connection", 10)


def _is_over(peer: Peer) -> bool:
    """Whether the other side has ended the connection, without reading what it sent."""
    info = peer.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    return info[0] != 1  # TCP_ESTABLISHED


@pytest.mark.parametrize(
    "said",
    [
        bytes.fromhex("16030100a5010000a10303") + bytes(160),
        b"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: " + b"x" * 100 + b"\r\n\r\n",
        b'[1,"realm1",{"roles":{}}]' * 10,
        b"\x00" * 100,
        b"\xff" * 100,
    ],
)
def test_other_protocols_are_closed_without_a_word(daemon: Daemon, said: bytes) -> None:
    with Peer(daemon) as peer:
        peer.socket.sendall(said)
        start = time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            assert peer.socket.recv(100) == b""
        assert time.monotonic() - start < 5


def test_a_flood_keeps_nobody_waiting(daemon: Daemon) -> None:
    before = memory(daemon)
    with Peer(daemon) as speaker, Bystander(daemon.http):
        speaker.connect("flood61")
        data = encode(p.Publish("flood/61", b"x" * 20), 5) * 500
        for _ in range(40):
            speaker.socket.sendall(data)
        speaker.ping()
    assert memory(daemon) - before < GROWTH


@pytest.mark.parametrize("more", [1, 50])
def test_the_reason_reaches_a_client_that_goes_on_sending(daemon: Daemon, more: int) -> None:
    """MQTT-4.13.1-1 would be worth little if what it still sends made its own network drop the answer."""
    with Peer(daemon) as peer:
        peer.connect("more")
        peer.send(*[p.Publish("more", b"x", 2, number) for number in range(1, 102)])
        for _ in range(more):
            time.sleep(0.002)
            peer.send(p.PubRel(1))
        *answers, said = peer.until_the_end()
        assert isinstance(said, p.Disconnect)
        assert said.code == 0x93
        assert len(answers) == 100


def test_kill_9_in_the_middle_of_qos_2_is_told_and_not_covered_up(tmp_path: Path) -> None:
    """Sessions are in memory: after a restart each client is told that its session is gone, and begins anew."""
    with attacked(tmp_path, **SETTINGS) as daemon:
        kept = {"clean_start": False, "properties": {Property.SESSION_EXPIRY_INTERVAL: 600}}
        with Peer(daemon) as listener, Peer(daemon) as peer:
            listener.connect("l82", **kept).listen("a", qos=2)
            peer.connect("p82", **kept).send(p.Publish("a", b"x", 2, 1))
            assert peer.next() == p.PubRec(1)
            assert listener.next().payload == b"x"
            daemon.stop(signal.SIGKILL)
            assert (peer.next(), listener.next()) == (None, None)
        (daemon.state / "endpoints.json").unlink()
        again = Daemon(tmp_path, **SETTINGS)
        try:
            with Peer(again) as listener, Peer(again) as peer:
                listener.connect("l82", **kept)
                assert not listener.present
                listener.listen("a", qos=2)
                peer.connect("p82", **kept)
                assert not peer.present
                peer.send(p.PubRel(1))
                assert peer.next().code == 0x92
                peer.send(p.Publish("a", b"x", 2, 1))
                assert peer.next() == p.PubRec(1)
                assert listener.next().payload == b"x"
        finally:
            again.stop()
