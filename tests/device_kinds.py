"""Devices of all kinds on real sockets, seen alike: what each was called for, how it answers, comes and goes.

They are written on the codecs, and share nothing with the simulator or with the server's side of a protocol.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import socket
import threading
from abc import ABC, abstractmethod
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import certificates
from coap_socket import CoapSocket, Dtls, Udp, option
from daemon import Daemon

from rpcbroker.wire.coap.message import Message
from rpcbroker.wire.coap.numbers import Code, OptionNumber, Type
from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.codec import FrameReader, decode, encode

SECONDS = 10.0
"""How long anything is waited for."""
ME = "v1/devices/me/rpc"
GATEWAY = "v1/gateway"


class Called(NamedTuple):
    """A call that came to the device; `number` is what its reply has to name."""

    number: int
    method: str
    params: Any


class DeviceKind(ABC):
    """A device that the broker knows, and that is away until `connect`. It wants to hear of cancelled calls."""

    protocol: str
    """As time lines name it."""
    acknowledges = True
    """Whether it tells that it has a call before it answers it."""

    def __init__(self, broker: Daemon, name: str) -> None:
        """`name` is its access token, too."""
        self.broker = broker
        self.name = name
        self.calls: queue.Queue[Called] = queue.Queue()
        self.cancelled: queue.Queue[int] = queue.Queue()
        """The numbers of calls that nobody waits for any more."""
        self._readers: list[threading.Thread] = []
        self.device_id = self.add()

    def add(self) -> str:
        """Make it known to the broker; its id."""
        body = {"name": self.name, "additionalInfo": {"rpcCancel": True}}
        status, made = self.broker.ask("POST", f"/api/device?accessToken={self.name}", body)
        assert status == 200, made
        device_id: str = made["id"]["id"]
        return device_id

    @abstractmethod
    def connect(self) -> None:
        """Come, and be callable."""

    @abstractmethod
    def reply(self, number: int, value: Any) -> None: ...

    @abstractmethod
    def leave(self) -> None:
        """Go, as a device does that means to. Harmless if it is away."""

    def close(self) -> None:
        """The end of the test."""
        self.leave()
        for reader in self._readers:
            reader.join(SECONDS)
            assert not reader.is_alive()

    def called(self) -> Called:
        """The next call."""
        return self.calls.get(timeout=SECONDS)

    def heard(self, content: Any) -> None:
        """Something that came from the broker: a call, or that one is cancelled."""
        if content.get("cancel"):
            self.cancelled.put(content["id"])
        else:
            self.calls.put(Called(content["id"], content["method"], content["params"]))

    def start(self, read: Any, *arguments: Any) -> None:
        """Read in a thread of its own; it ends when the device leaves."""
        self._readers.append(threading.Thread(target=read, args=arguments))
        self._readers[-1].start()


# -- MQTT


class MqttKind(DeviceKind):
    """One connection, QoS 1 both ways."""

    protocol = "MQTT"
    level = 4
    filters: tuple[str, ...] = (f"{ME}/request/+", f"{ME}/cancel/+")

    def connect(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self.broker.mqtt_port), SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ready = threading.Event()
        self.start(self._read, self._socket, ready)
        self._send(p.Connect(self.level, self.name, username=self.login))
        self._send(p.Subscribe(1, tuple(p.Subscription(each, 1) for each in self.filters)))
        assert ready.wait(SECONDS), "it could not subscribe"

    @property
    def login(self) -> str:
        """The user name."""
        return self.name

    def reply(self, number: int, value: Any) -> None:
        self._send(p.Publish(f"{ME}/response/{number}", json.dumps(value).encode(), 1, 9))

    def leave(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # it is away
            self._send(p.Disconnect())
            self._socket.shutdown(socket.SHUT_RDWR)

    def _send(self, packet: p.Packet) -> None:
        self._socket.sendall(encode(packet, self.level))

    def _read(self, connection: socket.socket, ready: threading.Event) -> None:
        frames = FrameReader(1 << 20)
        with connection:
            connection.settimeout(None)
            while data := connection.recv(65536):
                frames.feed(data)
                for first, body in frames:
                    self._take(decode(first, body, self.level), ready)

    def _take(self, packet: Any, ready: threading.Event) -> None:
        match packet:
            case p.SubAck():
                assert set(packet.codes) == {1}
                ready.set()
            case p.Publish():
                if packet.packet_id is not None:
                    self._send(p.PubAck(packet.packet_id))
                self.came(packet.topic, json.loads(packet.payload))

    def came(self, topic: str, content: Any) -> None:
        """What was published to it."""
        self.heard({"id": int(topic.rpartition("/")[2])} | content)


class Mqtt5Kind(MqttKind):
    level = 5


class GatewayChildKind(MqttKind):
    """The child of a gateway, which has a connection of its own for each child here."""

    protocol = "MQTT gateway"
    filters = (f"{GATEWAY}/rpc",)

    def add(self) -> str:
        body = {"name": self.login, "additionalInfo": {"gateway": True}}
        status, made = self.broker.ask("POST", f"/api/device?accessToken={self.login}", body)
        assert status == 200, made
        return super().add()

    @property
    def login(self) -> str:
        return f"{self.name}-gateway"

    def connect(self) -> None:
        super().connect()
        self._send(p.Publish(f"{GATEWAY}/connect", json.dumps({"device": self.name}).encode(), 1, 8))

    def reply(self, number: int, value: Any) -> None:
        content = {"device": self.name, "id": number, "data": value}
        self._send(p.Publish(f"{GATEWAY}/rpc", json.dumps(content).encode(), 1, 9))

    def came(self, topic: str, content: Any) -> None:
        if "data" in content:  # else it is a question's answer
            assert content["device"] == self.name
            self.heard(content["data"])


# -- HTTP


class HttpKind(DeviceKind):
    """A request that waits for calls, and others for the replies."""

    acknowledges = False
    _waiting: socket.socket | None = None

    def reply(self, number: int, value: Any) -> None:
        with contextlib.closing(self.connection()) as connection:
            connection.request("POST", f"/api/v1/{self.name}/rpc/{number}", json.dumps(value))
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (200, b"")

    def leave(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            with contextlib.suppress(OSError):
                waiting.shutdown(socket.SHUT_RDWR)

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(urlsplit(self.broker.http).netloc, timeout=SECONDS)

    def wait(self, **headers: str) -> http.client.HTTPConnection:
        """Send the request for calls; its connection."""
        connection = self.connection()
        connection.connect()
        self._waiting = connection.sock
        connection.request("GET", f"/api/v1/{self.name}/rpc?timeout=8000", headers=headers)
        return connection


class PollKind(HttpKind):
    """One poll after the other, on one connection."""

    protocol = "HTTP"

    def connect(self) -> None:
        self.start(self._poll, self.wait())

    def _poll(self, connection: http.client.HTTPConnection) -> None:
        with contextlib.closing(connection):
            while (answer := self._answer(connection)) is not None:
                assert answer.status in (200, 408)
                content = answer.read()
                connection.request("GET", f"/api/v1/{self.name}/rpc?timeout=8000")
                if answer.status == 200:
                    self.heard(json.loads(content))

    def _answer(self, connection: http.client.HTTPConnection) -> http.client.HTTPResponse | None:
        try:
            return connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError):
            assert self._waiting is None, "the broker closed the connection"
            return None


class EventsKind(HttpKind):
    """Server-sent events."""

    protocol = "HTTP events"

    def connect(self) -> None:
        connection = self.wait(Accept="text/event-stream")
        answer = connection.getresponse()
        assert (answer.status, answer.headers.get_content_type()) == (200, "text/event-stream")
        assert self._waiting is not None
        self._waiting.settimeout(None)
        self.start(self._read, connection, answer)

    def _read(self, connection: http.client.HTTPConnection, answer: http.client.HTTPResponse) -> None:
        with contextlib.closing(connection), contextlib.suppress(http.client.IncompleteRead):
            event = ""
            for line in answer:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "event":
                    event = value
                elif name == "data" and event in ("rpc", "cancel"):
                    self.heard(json.loads(value))


# -- CoAP


class CoapKind(DeviceKind):
    """An observation of its calls, and requests for its replies, from one address."""

    protocol = "CoAP"
    kind = Type.CON
    _socket: CoapSocket | None = None

    def connect(self) -> None:
        self._socket = CoapSocket(self.wire(), self._came)
        self._token = self._socket.new_token()
        self._observe(0)

    def reply(self, number: int, value: Any) -> None:
        assert self._socket is not None
        answer = self._socket.ask(Code.POST, f"{self.path}/rpc/{number}", json.dumps(value).encode(), kind=self.kind)
        assert (answer.code, answer.payload) == (Code.CREATED, b"")

    def leave(self) -> None:
        if self._socket is not None:
            self._observe(1)
            self._socket.close()
            self._socket = None

    def wire(self) -> Udp | Dtls:
        """What it speaks over."""
        return Udp(self.broker.endpoints["coap"])

    @property
    def path(self) -> str:
        """Before the feature."""
        return f"api/v1/{self.name}"

    def _observe(self, observe: int) -> None:
        assert self._socket is not None
        answer = self._socket.ask(Code.GET, f"{self.path}/rpc", kind=self.kind, token=self._token, observe=observe)
        assert answer.code == (Code.VALID if observe == 0 else Code.DELETED)
        assert (option(answer, OptionNumber.OBSERVE) is not None) == (observe == 0)

    def _came(self, message: Message) -> None:
        assert (message.code, message.token) == (Code.CONTENT, self._token)
        assert message.type == self.kind
        self.heard(json.loads(message.payload))


class CoapNonKind(CoapKind):
    """Nothing is confirmable."""

    acknowledges = False
    kind = Type.NON


class CoapsKind(CoapKind):
    """DTLS; its certificate says who it is, and so its paths have no token."""

    protocol = "CoAPs"
    path = "api/v1"

    def add(self) -> str:
        device_id = super().add()
        directory = self.broker.directory / self.name
        directory.mkdir()
        self._files = certificates.make(directory, serial=int(device_id[:8], 16))
        status, credentials = self.broker.ask("GET", f"/api/device/{device_id}/credentials")
        assert status == 200
        value = self._files.certificate.read_text()
        credentials |= {"credentialsType": "X509_CERTIFICATE", "credentialsId": None, "credentialsValue": value}
        assert self.broker.ask("POST", "/api/device/credentials", credentials)[0] == 200
        return device_id

    def wire(self) -> Dtls:
        return Dtls(self.broker.endpoints["coaps"], self._files)


KINDS: dict[str, type[DeviceKind]] = {
    "MQTT 3.1.1": MqttKind,
    "MQTT 5": Mqtt5Kind,
    "gateway child": GatewayChildKind,
    "CoAP CON": CoapKind,
    "CoAP NON": CoapNonKind,
    "CoAPs": CoapsKind,
    "HTTP poll": PollKind,
    "SSE": EventsKind,
}
