"""A device that answers every call, and remembers what it was asked."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress

from daemon import Daemon
from plain_device import Device

from rpcbroker.wire.mqtt import packets as p


class AnsweringDevice:
    """Answers a call with its own params, on a thread, until it is closed."""

    def __init__(self, daemon: Daemon, token: str) -> None:
        self.calls: list[tuple[int, str]] = []
        """Wire id and method, in the order in which they came."""
        self._device = Device(daemon, token)
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with suppress(OSError):  # the broker may be gone
            self._device.socket.shutdown(socket.SHUT_RDWR)  # the thread reads it, and closing alone would not wake it
        self._device.socket.close()
        self._thread.join(10)

    def _answer(self) -> None:
        try:
            while (packet := self._device.read()) is not None:
                if not isinstance(packet, p.Publish):
                    continue
                request = json.loads(packet.payload)
                wire_id = packet.topic.rpartition("/")[2]
                self.calls.append((int(wire_id), request["method"]))
                if packet.packet_id is not None:
                    self._device.send(p.PubAck(packet.packet_id))
                answer = json.dumps(request["params"]).encode()
                self._device.send(p.Publish(f"v1/devices/me/rpc/response/{wire_id}", answer))
        except OSError:
            return  # it was closed
