"""The least that a Python program can do for a device that connects, and for a two-way call between HTTP and MQTT.

No broker in Python is below that.

    python bench/bare_loop.py HTTP_PORT MQTT_PORT FILE_OF_IDS

One loop over epoll. Of a device that connects an accept, a read and a write, and a read and a write more when it
subscribes; of a call two reads and two writes. It looks for a device's connection and for who waits, and that is all:
no right is checked, nothing is parsed that the loads of bench/mqtt.py and bench/rpc.py do not vary, no fault is
noticed, no time limited, nothing recorded. It is to tell which part of a broker's time is not the broker's own.
"""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

CONNECT, SUBSCRIBE, PUBLISH = 0x10, 0x82, 0x30
ANSWERS = {CONNECT: b"\x20\x02\x00\x00", SUBSCRIBE: b"\x90\x03\x00\x01\x00"}
ASKED, ANSWERED = b"v1/devices/me/rpc/request/%d", b"v1/devices/me/rpc/response/"


class Connection(NamedTuple):
    """Who is at the other end, and what reads what it sends."""

    socket: socket.socket
    read: Callable[[socket.socket, bytes], None]


class Loop:
    """All connections."""

    def __init__(self, http: int, mqtt: int, ids: list[str]) -> None:
        self._numbers = {device_id.encode(): b"B%d" % number for number, device_id in enumerate(ids)}
        self._devices: dict[bytes, socket.socket] = {}
        self._waiting: dict[bytes, socket.socket] = {}
        self._last = 0
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        listening = {self._listen(http): self._called, self._listen(mqtt): self._told}
        self._accepting = {each.fileno(): (each, read) for each, read in listening.items()}

    def _listen(self, port: int) -> socket.socket:
        listening = socket.create_server(("127.0.0.1", port), backlog=1024)
        self._epoll.register(listening, select.EPOLLIN)
        return listening

    def run(self) -> None:
        """Until it is ended."""
        while True:
            for number, _ in self._epoll.poll():
                connection = self._connections.get(number)
                if connection is None:
                    self._accept(number)
                elif data := connection.socket.recv(65536):
                    connection.read(connection.socket, data)
                else:
                    self._connections.pop(number).socket.close()

    def _accept(self, number: int) -> None:
        listening, read = self._accepting[number]
        taken = listening.accept()[0]
        taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections[taken.fileno()] = Connection(taken, read)
        self._epoll.register(taken, select.EPOLLIN)

    def _called(self, caller: socket.socket, request: bytes) -> None:
        head, _, body = request.partition(b"\r\n\r\n")
        device = self._devices[self._numbers[head[: head.index(b" HTTP")].rpartition(b"/")[2]]]
        self._last += 1
        topic = ASKED % self._last
        self._waiting[topic[len(ASKED) - 2 :]] = caller
        device.send(bytes((PUBLISH, 2 + len(topic) + len(body), 0, len(topic))) + topic + body)

    def _told(self, device: socket.socket, data: bytes) -> None:
        while data:
            packet, data = data[: 2 + data[1]], data[2 + data[1] :]
            if packet[0] == PUBLISH:
                topic, answer = packet[4 : 4 + packet[3]], packet[4 + packet[3] :]
                caller = self._waiting.pop(topic[len(ANSWERED) :])
                caller.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))
                continue
            if packet[0] == CONNECT:
                self._devices[packet[packet.rindex(b"B") :]] = device
            device.send(ANSWERS[packet[0]])


if __name__ == "__main__":
    Loop(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]).read_text().split()).run()
