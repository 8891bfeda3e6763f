"""A device on a plain socket, that says nothing by itself."""

from __future__ import annotations

import socket

from daemon import Daemon

from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.codec import FrameReader, decode, encode


class Device:
    """A device of version 5 that has subscribed to calls."""

    def __init__(self, daemon: Daemon, token: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", daemon.mqtt_port), 10)
        self._frames = FrameReader(1 << 20)
        self._ready: list[p.Packet] = []
        self.send(p.Connect(5, "", username=token))
        assert isinstance(self.read(), p.ConnAck)
        self.send(p.Subscribe(1, (p.Subscription("v1/devices/me/rpc/request/+", 1),)))
        assert isinstance(self.read(), p.SubAck)

    def send(self, packet: p.Packet) -> None:
        self.socket.sendall(encode(packet, 5))

    def read(self) -> p.Packet | None:
        while not self._ready:
            data = self.socket.recv(65536)
            if not data:
                return None
            self._frames.feed(data)
            self._ready += [decode(first, body, 5) for first, body in self._frames]
        return self._ready.pop(0)
